-- range
SELECT
  "tailnum",
  event_timestamp,
  "hours_between_7d",
  "hours_between_30d",
  "longest_rest_30d",
  "steadiness"
FROM (
SELECT
  *,
  CAST(("hours_between_7d" / NULLIF("hours_between_30d", 0)) AS DOUBLE) AS "steadiness"
FROM (
SELECT
  k0 AS "tailnum",
  interval_end AS event_timestamp,
  CAST("raw hours_between_7d" AS DOUBLE) AS "hours_between_7d",
  CAST("raw hours_between_30d" AS DOUBLE) AS "hours_between_30d",
  CAST("raw longest_rest_30d" AS DOUBLE) AS "longest_rest_30d"
FROM (
WITH own AS (
SELECT
  "tailnum" AS k0,
  tile_start,
  event_timestamp,
  t_count_8adebbcf410f62f7,
  t_sum_9024fcd4f65e3dfe,
  t_count_ebbb01c02c14eca2,
  t_max_6507b7e48634627d
FROM tiles0
)
SELECT
  k0,
  interval_end,
  CAST(s0 AS DOUBLE) / nullif(s1, 0) AS "raw hours_between_7d",
  CAST(s2 AS DOUBLE) / nullif(s3, 0) AS "raw hours_between_30d",
  s4 AS "raw longest_rest_30d"
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
    position,
    reach,
    sum(t_count_8adebbcf410f62f7) AS t_count_8adebbcf410f62f7,
    sum(t_count_ebbb01c02c14eca2) AS t_count_ebbb01c02c14eca2,
    sum(t_sum_9024fcd4f65e3dfe) AS t_sum_9024fcd4f65e3dfe,
    max(t_max_6507b7e48634627d) AS t_max_6507b7e48634627d
  FROM (
    SELECT *, (instant - (SELECT origin FROM step)) // (SELECT length FROM step) AS at_step
    FROM (SELECT *, epoch_us(tile_start) AS instant FROM own)
  )
  LEFT JOIN lookup ON step_number = at_step AND instant >= from_instant AND instant < to_instant
  GROUP BY k0, position, reach
),
key AS MATERIALIZED (
  SELECT k0, CAST(row_number() OVER () AS UINTEGER) AS k, first, last, last - first < 4 * tiles AS dense
  FROM (
    SELECT k0, CAST(min(position) AS INTEGER) AS first, CAST(max(reach) AS INTEGER) AS last, count(position) AS tiles
    FROM tile
    GROUP BY k0
  )
),
followed AS (
  SELECT
    k, position, reach,
    (CAST(coalesce(t_count_8adebbcf410f62f7, 0) AS HUGEINT) << 0) + (CAST(coalesce(t_count_ebbb01c02c14eca2, 0) AS HUGEINT) << 42) AS packed_t_count_8adebbcf410f62f7,
    t_sum_9024fcd4f65e3dfe,
    t_max_6507b7e48634627d,
    lead(position) OVER neighbours AS next_position,
    lag(reach) OVER neighbours AS reached
  FROM tile
  JOIN (FROM key WHERE NOT dense) USING (k0)
  WINDOW neighbours AS (PARTITION BY k ORDER BY position)
),
stretch AS (
  SELECT
    k,
    position,
    packed_t_count_8adebbcf410f62f7,
    t_sum_9024fcd4f65e3dfe,
    t_max_6507b7e48634627d,
    least(next_position, reach + 1) - position AS segments,
    max(CASE WHEN reached >= position THEN NULL ELSE position END) OVER (PARTITION BY k ORDER BY position) AS run
  FROM followed
),
cell AS (
  SELECT
    k,
    CAST(0 AS INTEGER) AS run,
    position,
    CASE WHEN reach IS NOT NULL THEN (CAST(coalesce(t_count_8adebbcf410f62f7, 0) AS HUGEINT) << 0) + (CAST(coalesce(t_count_ebbb01c02c14eca2, 0) AS HUGEINT) << 42) END AS packed_t_count_8adebbcf410f62f7,
    t_sum_9024fcd4f65e3dfe,
    t_max_6507b7e48634627d
  FROM (
    SELECT k0, k, unnest(range(first, last + 1)) AS position FROM key WHERE dense
  )
  LEFT JOIN tile USING (k0, position)
  UNION ALL
  SELECT
    k,
    run,
    CAST(position + after_tile AS INTEGER) AS position,
    CASE WHEN after_tile = 0 THEN packed_t_count_8adebbcf410f62f7 END AS packed_t_count_8adebbcf410f62f7,
    CASE WHEN after_tile = 0 THEN t_sum_9024fcd4f65e3dfe END AS t_sum_9024fcd4f65e3dfe,
    CASE WHEN after_tile = 0 THEN t_max_6507b7e48634627d END AS t_max_6507b7e48634627d
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
    sum(packed_t_count_8adebbcf410f62f7) OVER w0 AS packed_t_count_8adebbcf410f62f7_w0,
    sum(t_sum_9024fcd4f65e3dfe) OVER w1 AS t_sum_9024fcd4f65e3dfe_w1,
    sum(packed_t_count_8adebbcf410f62f7) OVER w1 AS packed_t_count_8adebbcf410f62f7_w1,
    sum(t_sum_9024fcd4f65e3dfe) OVER w0 AS t_sum_9024fcd4f65e3dfe_w0,
    max(t_max_6507b7e48634627d) OVER w0 AS t_max_6507b7e48634627d_w0
  FROM cell
  LEFT JOIN bound USING (position)
  WINDOW
    w0 AS (PARTITION BY k, run ORDER BY position ROWS BETWEEN first0 PRECEDING AND 1 PRECEDING),
    w1 AS (PARTITION BY k, run ORDER BY position ROWS BETWEEN first1 PRECEDING AND 1 PRECEDING)
)
SELECT
  k0,
  interval_end,
  t_sum_9024fcd4f65e3dfe_w1 AS s0,
  (packed_t_count_8adebbcf410f62f7_w1 >> 42) & 4398046511103 AS s1,
  t_sum_9024fcd4f65e3dfe_w0 AS s2,
  (packed_t_count_8adebbcf410f62f7_w0 >> 42) & 4398046511103 AS s3,
  t_max_6507b7e48634627d_w0 AS s4
FROM windowed
JOIN frame USING (position)
LEFT JOIN (FROM key WHERE (k >= 0) IN (SELECT unnest([true]))) AS key USING (k)
WHERE packed_t_count_8adebbcf410f62f7_w0 IS NOT NULL
)
)
)
);

-- single interval
SELECT
  "tailnum",
  event_timestamp,
  "hours_between_7d",
  "hours_between_30d",
  "longest_rest_30d",
  "steadiness"
FROM (
SELECT
  *,
  CAST(("hours_between_7d" / NULLIF("hours_between_30d", 0)) AS DOUBLE) AS "steadiness"
FROM (
SELECT
  k0 AS "tailnum",
  interval_end AS event_timestamp,
  CAST("raw hours_between_7d" AS DOUBLE) AS "hours_between_7d",
  CAST("raw hours_between_30d" AS DOUBLE) AS "hours_between_30d",
  CAST("raw longest_rest_30d" AS DOUBLE) AS "longest_rest_30d"
FROM (
WITH own AS (
SELECT
  "tailnum" AS k0,
  tile_start,
  event_timestamp,
  t_count_8adebbcf410f62f7,
  t_sum_9024fcd4f65e3dfe,
  t_count_ebbb01c02c14eca2,
  t_max_6507b7e48634627d
FROM tiles0
)
SELECT
  k0,
  interval_end,
  CAST(s0 AS DOUBLE) / nullif(s1, 0) AS "raw hours_between_7d",
  CAST(s2 AS DOUBLE) / nullif(s3, 0) AS "raw hours_between_30d",
  s4 AS "raw longest_rest_30d"
FROM (
SELECT
  k0,
  interval_end,
  s0,
  s1,
  s2,
  s3,
  s4
FROM (
SELECT
  k0,
  sum(t_sum_9024fcd4f65e3dfe) FILTER (instant >= before_604800000000) AS s0,
  sum(t_count_ebbb01c02c14eca2) FILTER (instant >= before_604800000000) AS s1,
  sum(t_sum_9024fcd4f65e3dfe) AS s2,
  sum(t_count_ebbb01c02c14eca2) AS s3,
  max(t_max_6507b7e48634627d) AS s4
FROM (
  SELECT *, epoch_us(tile_start) AS instant
  FROM own
)
CROSS JOIN (SELECT epoch_us(interval_end) - 2592000000000 AS before_2592000000000, epoch_us(interval_end) - 604800000000 AS before_604800000000, epoch_us(interval_end) - 0 AS before_0 FROM intervals)
WHERE instant >= before_2592000000000 AND instant < before_0
GROUP BY k0
)
CROSS JOIN (SELECT interval_end FROM intervals)
)
)
)
);

-- empty row
SELECT "hours_between_7d", "hours_between_30d", "longest_rest_30d", "steadiness"
FROM (SELECT *, CAST(("hours_between_7d" / NULLIF("hours_between_30d", 0)) AS DOUBLE) AS "steadiness"
FROM (SELECT CAST(NULL AS DOUBLE) AS "hours_between_7d", CAST(NULL AS DOUBLE) AS "hours_between_30d", CAST(NULL AS DOUBLE) AS "longest_rest_30d"));

-- making tiles0
SELECT
  __k0 AS "tailnum",
  make_timestamptz(__tile * 86400000000) AS tile_start,
  make_timestamptz((__tile + 1) * 86400000000) AS event_timestamp,
  "t_count_8adebbcf410f62f7",
  "t_sum_9024fcd4f65e3dfe",
  "t_count_ebbb01c02c14eca2",
  "t_max_6507b7e48634627d"
FROM (
SELECT
  "tailnum" AS __k0,
  __tile,
  CAST(count(*) AS BIGINT) AS "t_count_8adebbcf410f62f7",
  CAST(sum("hours") AS DOUBLE) AS "t_sum_9024fcd4f65e3dfe",
  CAST(count("hours") AS BIGINT) AS "t_count_ebbb01c02c14eca2",
  CAST(max("hours") AS DOUBLE) AS "t_max_6507b7e48634627d"
FROM (SELECT *, (epoch_us("recorded_at") + 4611685968000000000) // 86400000000 - 53375995 AS __tile, ((epoch_us("recorded_at") + 4611685968000000000) // 86400000000 - 53375995 + 1) * 86400000000 AS __tile_to FROM events)
GROUP BY 1, 2
);

-- audit counts
SELECT "__interval" AS interval_end, count(*) AS "rows",
       count(*) FILTER (WHERE a0) AS violations_0
FROM (
    SELECT "__interval", "tailnum", "event_timestamp",
           coalesce("longest_rest_30d" < 0 OR isnan(TRY_CAST("longest_rest_30d" AS DOUBLE)), false) AS a0
    FROM "rows"
)
GROUP BY 1
ORDER BY 1;

-- audit samples
WITH checked AS (
    SELECT "__interval", "tailnum", "event_timestamp",
           coalesce("longest_rest_30d" < 0 OR isnan(TRY_CAST("longest_rest_30d" AS DOUBLE)), false) AS a0
    FROM "rows"
)
(SELECT 0 AS audit, "__interval" AS interval_end, "tailnum", "event_timestamp" FROM checked WHERE a0
 QUALIFY row_number() OVER (PARTITION BY "__interval" ORDER BY "tailnum", "event_timestamp") <= 5);
