SELECT
  "user",
  "shop",
  event_timestamp,
  "count_all_7d",
  "count_all_30d",
  "avg_f_30d",
  "last_s_7d",
  "trend"
FROM (
SELECT
  *,
  CAST(("count_all_7d" / nullif("count_all_30d", 0)) AS DOUBLE) AS "trend"
FROM (
SELECT
  k0 AS "user",
  k1 AS "shop",
  interval_end AS event_timestamp,
  coalesce(CAST("raw count_all_7d" AS BIGINT), CAST(0 AS BIGINT)) AS "count_all_7d",
  coalesce(CAST("raw count_all_30d" AS BIGINT), CAST(0 AS BIGINT)) AS "count_all_30d",
  coalesce(CAST("raw avg_f_30d" AS DOUBLE), CAST(0.0 AS DOUBLE)) AS "avg_f_30d",
  CAST("raw last_s_7d" AS VARCHAR) AS "last_s_7d"
FROM (
WITH own AS (
SELECT
  "user" AS k0,
  "shop" AS k1,
  tile_start,
  event_timestamp,
  t_count_a903ec888cab441b,
  t_sum_ac83e8e97e566953,
  t_count_2a715963a5451d86,
  t_last_886f6937d34d57e8
FROM tiles0
)
SELECT
  k0,
  k1,
  interval_end,
  CAST(s0 AS BIGINT) AS "raw count_all_7d",
  CAST(s1 AS BIGINT) AS "raw count_all_30d",
  CAST(s2 AS DOUBLE) / nullif(s3, 0) AS "raw avg_f_30d",
  s4 AS "raw last_s_7d"
FROM (
WITH
-- Every interval's end and every edge of a window, in order.
boundary AS (
  SELECT
    instant,
    CAST(row_number() OVER (ORDER BY instant) - 1 AS INTEGER) AS position,
    lead(instant) OVER (ORDER BY instant) AS next_instant
  FROM (
    SELECT DISTINCT instant FROM (SELECT epoch_us(interval_end) - unnest([0, 604800000000, 2592000000000]) AS instant FROM intervals)
  )
),
-- How many segments before its end the edges of an interval's windows lie.
frame AS (
  SELECT
    stop.position,
    interval_end,
    CAST(stop.position - edge1.position AS INTEGER) AS before1,
    CAST(stop.position - edge2.position AS INTEGER) AS before2
  FROM intervals
  JOIN boundary stop ON stop.instant = epoch_us(interval_end)
  JOIN boundary edge1 ON edge1.instant = stop.instant - 604800000000
  JOIN boundary edge2 ON edge2.instant = stop.instant - 2592000000000
),
-- The time from one boundary to the next, if it lies in some window; reach is the last end whose window holds it.
segment AS (
  SELECT position, instant, next_instant, reach
  FROM (
    SELECT boundary.position, instant, next_instant, max(frame.position) OVER (ORDER BY boundary.position) AS reach
    FROM boundary
    LEFT JOIN frame ON frame.position - frame.before2 = boundary.position
  )
  WHERE reach > position
),
-- Finds the segment of an instant by hashing: even steps of time, each with the segments that it touches.
step AS (
  SELECT
    min(instant) AS origin,
    greatest(min(next_instant - instant), (max(next_instant) - min(instant)) // (16 * count(*)), 1) AS length
  FROM segment
),
lookup AS (
  SELECT
    position,
    reach,
    instant AS from_instant,
    next_instant AS to_instant,
    unnest(range((instant - origin) // length, (next_instant - 1 - origin) // length + 1)) AS step_number
  FROM segment
  CROSS JOIN step
),
tile AS MATERIALIZED (
  SELECT
    k0,
    k1,
    position,
    reach,
    sum(t_count_a903ec888cab441b) AS t_count_a903ec888cab441b,
    sum(t_count_2a715963a5451d86) AS t_count_2a715963a5451d86,
    sum(t_sum_ac83e8e97e566953) AS t_sum_ac83e8e97e566953,
    arg_max(t_last_886f6937d34d57e8, tile_start) AS t_last_886f6937d34d57e8
  FROM (
    SELECT *, (instant - (SELECT origin FROM step)) // (SELECT length FROM step) AS at_step
    FROM (SELECT *, epoch_us(tile_start) AS instant FROM own)
  )
  LEFT JOIN lookup ON step_number = at_step AND instant >= from_instant AND instant < to_instant
  GROUP BY k0, k1, position, reach
),
key AS MATERIALIZED (
  SELECT k0, k1, CAST(row_number() OVER () AS UINTEGER) AS k, first, last, last - first < 4 * tiles AS dense
  FROM (
    SELECT k0, k1, CAST(min(position) AS INTEGER) AS first, CAST(max(reach) AS INTEGER) AS last, count(position) AS tiles
    FROM tile
    GROUP BY k0, k1
  )
),
followed AS (
  SELECT
    k, position, reach,
    (CAST(coalesce(t_count_a903ec888cab441b, 0) AS HUGEINT) << 0) + (CAST(coalesce(t_count_2a715963a5451d86, 0) AS HUGEINT) << 42) AS packed_t_count_a903ec888cab441b,
    t_sum_ac83e8e97e566953,
    t_last_886f6937d34d57e8,
    lead(position) OVER neighbours AS next_position,
    lag(reach) OVER neighbours AS reached
  FROM tile
  JOIN (FROM key WHERE NOT dense) USING (k0, k1)
  WINDOW neighbours AS (PARTITION BY k ORDER BY position)
),
stretch AS (
  SELECT
    k,
    position,
    packed_t_count_a903ec888cab441b,
    t_sum_ac83e8e97e566953,
    t_last_886f6937d34d57e8,
    least(next_position, reach + 1) - position AS segments,
    max(CASE WHEN reached >= position THEN NULL ELSE position END) OVER (PARTITION BY k ORDER BY position) AS run
  FROM followed
),
cell AS (
  SELECT
    k,
    CAST(0 AS INTEGER) AS run,
    position,
    CASE WHEN reach IS NOT NULL THEN (CAST(coalesce(t_count_a903ec888cab441b, 0) AS HUGEINT) << 0) + (CAST(coalesce(t_count_2a715963a5451d86, 0) AS HUGEINT) << 42) END AS packed_t_count_a903ec888cab441b,
    t_sum_ac83e8e97e566953,
    t_last_886f6937d34d57e8
  FROM (
    SELECT k0, k1, k, unnest(range(first, last + 1)) AS position FROM key WHERE dense
  )
  LEFT JOIN tile USING (k0, k1, position)
  UNION ALL
  SELECT
    k,
    run,
    CAST(position + after_tile AS INTEGER) AS position,
    CASE WHEN after_tile = 0 THEN packed_t_count_a903ec888cab441b END AS packed_t_count_a903ec888cab441b,
    CASE WHEN after_tile = 0 THEN t_sum_ac83e8e97e566953 END AS t_sum_ac83e8e97e566953,
    CASE WHEN after_tile = 0 THEN t_last_886f6937d34d57e8 END AS t_last_886f6937d34d57e8
  FROM (SELECT *, unnest(range(segments)) AS after_tile FROM stretch)
),
bound AS (
  SELECT
    position,
    coalesce(CAST(before2 AS BIGINT), 0) AS first0,
    coalesce(CAST(before1 AS BIGINT), 0) AS first1
  FROM boundary
  LEFT JOIN frame USING (position)
),
windowed AS (
  SELECT
    k,
    position,
    sum(packed_t_count_a903ec888cab441b) OVER w0 AS packed_t_count_a903ec888cab441b_w0,
    sum(packed_t_count_a903ec888cab441b) OVER w1 AS packed_t_count_a903ec888cab441b_w1,
    sum(t_sum_ac83e8e97e566953) OVER w0 AS t_sum_ac83e8e97e566953_w0,
    last_value(t_last_886f6937d34d57e8 IGNORE NULLS) OVER w1 AS t_last_886f6937d34d57e8_w1
  FROM cell
  LEFT JOIN bound USING (position)
  WINDOW
    w0 AS (PARTITION BY k, run ORDER BY position ROWS BETWEEN first0 PRECEDING AND 1 PRECEDING),
    w1 AS (PARTITION BY k, run ORDER BY position ROWS BETWEEN first1 PRECEDING AND 1 PRECEDING)
)
SELECT
  k0,
  k1,
  interval_end,
  (packed_t_count_a903ec888cab441b_w1 >> 0) & 4398046511103 AS s0,
  (packed_t_count_a903ec888cab441b_w0 >> 0) & 4398046511103 AS s1,
  t_sum_ac83e8e97e566953_w0 AS s2,
  (packed_t_count_a903ec888cab441b_w0 >> 42) & 4398046511103 AS s3,
  t_last_886f6937d34d57e8_w1 AS s4
FROM windowed
JOIN frame USING (position)
LEFT JOIN (FROM key WHERE (k >= 0) IN (SELECT unnest([true]))) AS key USING (k)
WHERE packed_t_count_a903ec888cab441b_w0 IS NOT NULL
)
)
)
)
