-- range
SELECT
  "tailnum",
  event_timestamp,
  "flights_1d",
  "flights_7d",
  "flights_30d",
  "air_minutes_7d",
  "air_minutes_30d",
  "miles_30d",
  "arr_delay_avg_7d",
  "arr_delay_avg_30d",
  "last_dest_30d"
FROM (
SELECT
  k0 AS "tailnum",
  interval_end AS event_timestamp,
  coalesce(CAST("raw flights_1d" AS BIGINT), CAST(0 AS BIGINT)) AS "flights_1d",
  coalesce(CAST("raw flights_7d" AS BIGINT), CAST(0 AS BIGINT)) AS "flights_7d",
  coalesce(CAST("raw flights_30d" AS BIGINT), CAST(0 AS BIGINT)) AS "flights_30d",
  coalesce(CAST("raw air_minutes_7d" AS DOUBLE), CAST(0.0 AS DOUBLE)) AS "air_minutes_7d",
  coalesce(CAST("raw air_minutes_30d" AS DOUBLE), CAST(0.0 AS DOUBLE)) AS "air_minutes_30d",
  CAST("raw miles_30d" AS BIGINT) AS "miles_30d",
  CAST("raw arr_delay_avg_7d" AS DOUBLE) AS "arr_delay_avg_7d",
  CAST("raw arr_delay_avg_30d" AS DOUBLE) AS "arr_delay_avg_30d",
  CAST("raw last_dest_30d" AS VARCHAR) AS "last_dest_30d"
FROM (
WITH own AS (
SELECT
  "tailnum" AS k0,
  tile_start,
  event_timestamp,
  t_count_2005a4f663747d70,
  t_sum_7264e405a4f234a9,
  t_sum_2abb5345512f2654,
  t_sum_945198260466d26b,
  t_count_eafc6171ecae5b9b,
  t_last_30944939aea0a8b4
FROM tiles0
)
SELECT
  k0,
  interval_end,
  CAST(s0 AS BIGINT) AS "raw flights_1d",
  CAST(s1 AS BIGINT) AS "raw flights_7d",
  CAST(s2 AS BIGINT) AS "raw flights_30d",
  s3 AS "raw air_minutes_7d",
  s4 AS "raw air_minutes_30d",
  s5 AS "raw miles_30d",
  CAST(s6 AS DOUBLE) / nullif(s7, 0) AS "raw arr_delay_avg_7d",
  CAST(s8 AS DOUBLE) / nullif(s9, 0) AS "raw arr_delay_avg_30d",
  s10 AS "raw last_dest_30d"
FROM (
WITH
-- Every interval's end and every edge of a window, in order.
boundary AS (
  SELECT
    instant,
    CAST(row_number() OVER (ORDER BY instant) - 1 AS INTEGER) AS position,
    lead(instant) OVER (ORDER BY instant) AS next_instant
  FROM (
    SELECT DISTINCT instant FROM (SELECT epoch_us(interval_end) - unnest([0, 86400000000, 604800000000, 2592000000000]) AS instant FROM intervals)
  )
),
-- How many segments before its end the edges of an interval's windows lie.
frame AS (
  SELECT
    stop.position,
    interval_end,
    CAST(stop.position - edge1.position AS INTEGER) AS before1,
    CAST(stop.position - edge2.position AS INTEGER) AS before2,
    CAST(stop.position - edge3.position AS INTEGER) AS before3
  FROM intervals
  JOIN boundary stop ON stop.instant = epoch_us(interval_end)
  JOIN boundary edge1 ON edge1.instant = stop.instant - 86400000000
  JOIN boundary edge2 ON edge2.instant = stop.instant - 604800000000
  JOIN boundary edge3 ON edge3.instant = stop.instant - 2592000000000
),
-- The time from one boundary to the next, if it lies in some window; reach is the last end whose window holds it.
segment AS (
  SELECT position, instant, next_instant, reach
  FROM (
    SELECT boundary.position, instant, next_instant, max(frame.position) OVER (ORDER BY boundary.position) AS reach
    FROM boundary
    LEFT JOIN frame ON frame.position - frame.before3 = boundary.position
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
    sum(t_count_2005a4f663747d70) AS t_count_2005a4f663747d70,
    sum(t_count_eafc6171ecae5b9b) AS t_count_eafc6171ecae5b9b,
    sum(t_sum_7264e405a4f234a9) AS t_sum_7264e405a4f234a9,
    sum(t_sum_2abb5345512f2654) AS t_sum_2abb5345512f2654,
    sum(t_sum_945198260466d26b) AS t_sum_945198260466d26b,
    arg_max(t_last_30944939aea0a8b4, tile_start) AS t_last_30944939aea0a8b4
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
    (CAST(coalesce(t_count_2005a4f663747d70, 0) AS HUGEINT) << 0) + (CAST(coalesce(t_count_eafc6171ecae5b9b, 0) AS HUGEINT) << 42) AS packed_t_count_2005a4f663747d70,
    t_sum_7264e405a4f234a9,
    t_sum_2abb5345512f2654,
    t_sum_945198260466d26b,
    t_last_30944939aea0a8b4,
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
    packed_t_count_2005a4f663747d70,
    t_sum_7264e405a4f234a9,
    t_sum_2abb5345512f2654,
    t_sum_945198260466d26b,
    t_last_30944939aea0a8b4,
    least(next_position, reach + 1) - position AS segments,
    max(CASE WHEN reached >= position THEN NULL ELSE position END) OVER (PARTITION BY k ORDER BY position) AS run
  FROM followed
),
cell AS (
  SELECT
    k,
    CAST(0 AS INTEGER) AS run,
    position,
    CASE WHEN reach IS NOT NULL THEN (CAST(coalesce(t_count_2005a4f663747d70, 0) AS HUGEINT) << 0) + (CAST(coalesce(t_count_eafc6171ecae5b9b, 0) AS HUGEINT) << 42) END AS packed_t_count_2005a4f663747d70,
    t_sum_7264e405a4f234a9,
    t_sum_2abb5345512f2654,
    t_sum_945198260466d26b,
    t_last_30944939aea0a8b4
  FROM (
    SELECT k0, k, unnest(range(first, last + 1)) AS position FROM key WHERE dense
  )
  LEFT JOIN tile USING (k0, position)
  UNION ALL
  SELECT
    k,
    run,
    CAST(position + after_tile AS INTEGER) AS position,
    CASE WHEN after_tile = 0 THEN packed_t_count_2005a4f663747d70 END AS packed_t_count_2005a4f663747d70,
    CASE WHEN after_tile = 0 THEN t_sum_7264e405a4f234a9 END AS t_sum_7264e405a4f234a9,
    CASE WHEN after_tile = 0 THEN t_sum_2abb5345512f2654 END AS t_sum_2abb5345512f2654,
    CASE WHEN after_tile = 0 THEN t_sum_945198260466d26b END AS t_sum_945198260466d26b,
    CASE WHEN after_tile = 0 THEN t_last_30944939aea0a8b4 END AS t_last_30944939aea0a8b4
  FROM (SELECT *, unnest(range(segments)) AS after_tile FROM stretch)
),
bound AS (
  SELECT
    position,
    coalesce(CAST(before3 AS BIGINT), 0) AS first0,
    coalesce(CAST(before1 AS BIGINT), 0) AS first1,
    coalesce(CAST(before2 AS BIGINT), 0) AS first2
  FROM boundary
  LEFT JOIN frame USING (position)
),
windowed AS (
  SELECT
    k,
    position,
    sum(packed_t_count_2005a4f663747d70) OVER w0 AS packed_t_count_2005a4f663747d70_w0,
    sum(packed_t_count_2005a4f663747d70) OVER w1 AS packed_t_count_2005a4f663747d70_w1,
    sum(packed_t_count_2005a4f663747d70) OVER w2 AS packed_t_count_2005a4f663747d70_w2,
    sum(t_sum_7264e405a4f234a9) OVER w2 AS t_sum_7264e405a4f234a9_w2,
    sum(t_sum_7264e405a4f234a9) OVER w0 AS t_sum_7264e405a4f234a9_w0,
    sum(t_sum_2abb5345512f2654) OVER w0 AS t_sum_2abb5345512f2654_w0,
    sum(t_sum_945198260466d26b) OVER w2 AS t_sum_945198260466d26b_w2,
    sum(t_sum_945198260466d26b) OVER w0 AS t_sum_945198260466d26b_w0,
    last_value(t_last_30944939aea0a8b4 IGNORE NULLS) OVER w0 AS t_last_30944939aea0a8b4_w0
  FROM cell
  LEFT JOIN bound USING (position)
  WINDOW
    w0 AS (PARTITION BY k, run ORDER BY position ROWS BETWEEN first0 PRECEDING AND 1 PRECEDING),
    w1 AS (PARTITION BY k, run ORDER BY position ROWS BETWEEN first1 PRECEDING AND 1 PRECEDING),
    w2 AS (PARTITION BY k, run ORDER BY position ROWS BETWEEN first2 PRECEDING AND 1 PRECEDING)
)
SELECT
  k0,
  interval_end,
  (packed_t_count_2005a4f663747d70_w1 >> 0) & 4398046511103 AS s0,
  (packed_t_count_2005a4f663747d70_w2 >> 0) & 4398046511103 AS s1,
  (packed_t_count_2005a4f663747d70_w0 >> 0) & 4398046511103 AS s2,
  t_sum_7264e405a4f234a9_w2 AS s3,
  t_sum_7264e405a4f234a9_w0 AS s4,
  t_sum_2abb5345512f2654_w0 AS s5,
  t_sum_945198260466d26b_w2 AS s6,
  (packed_t_count_2005a4f663747d70_w2 >> 42) & 4398046511103 AS s7,
  t_sum_945198260466d26b_w0 AS s8,
  (packed_t_count_2005a4f663747d70_w0 >> 42) & 4398046511103 AS s9,
  t_last_30944939aea0a8b4_w0 AS s10
FROM windowed
JOIN frame USING (position)
LEFT JOIN (FROM key WHERE (k >= 0) IN (SELECT unnest([true]))) AS key USING (k)
WHERE packed_t_count_2005a4f663747d70_w0 IS NOT NULL
)
)
);

-- single interval
SELECT
  "tailnum",
  event_timestamp,
  "flights_1d",
  "flights_7d",
  "flights_30d",
  "air_minutes_7d",
  "air_minutes_30d",
  "miles_30d",
  "arr_delay_avg_7d",
  "arr_delay_avg_30d",
  "last_dest_30d"
FROM (
SELECT
  k0 AS "tailnum",
  interval_end AS event_timestamp,
  coalesce(CAST("raw flights_1d" AS BIGINT), CAST(0 AS BIGINT)) AS "flights_1d",
  coalesce(CAST("raw flights_7d" AS BIGINT), CAST(0 AS BIGINT)) AS "flights_7d",
  coalesce(CAST("raw flights_30d" AS BIGINT), CAST(0 AS BIGINT)) AS "flights_30d",
  coalesce(CAST("raw air_minutes_7d" AS DOUBLE), CAST(0.0 AS DOUBLE)) AS "air_minutes_7d",
  coalesce(CAST("raw air_minutes_30d" AS DOUBLE), CAST(0.0 AS DOUBLE)) AS "air_minutes_30d",
  CAST("raw miles_30d" AS BIGINT) AS "miles_30d",
  CAST("raw arr_delay_avg_7d" AS DOUBLE) AS "arr_delay_avg_7d",
  CAST("raw arr_delay_avg_30d" AS DOUBLE) AS "arr_delay_avg_30d",
  CAST("raw last_dest_30d" AS VARCHAR) AS "last_dest_30d"
FROM (
WITH own AS (
SELECT
  "tailnum" AS k0,
  tile_start,
  event_timestamp,
  t_count_2005a4f663747d70,
  t_sum_7264e405a4f234a9,
  t_sum_2abb5345512f2654,
  t_sum_945198260466d26b,
  t_count_eafc6171ecae5b9b,
  t_last_30944939aea0a8b4
FROM tiles0
)
SELECT
  k0,
  interval_end,
  CAST(s0 AS BIGINT) AS "raw flights_1d",
  CAST(s1 AS BIGINT) AS "raw flights_7d",
  CAST(s2 AS BIGINT) AS "raw flights_30d",
  s3 AS "raw air_minutes_7d",
  s4 AS "raw air_minutes_30d",
  s5 AS "raw miles_30d",
  CAST(s6 AS DOUBLE) / nullif(s7, 0) AS "raw arr_delay_avg_7d",
  CAST(s8 AS DOUBLE) / nullif(s9, 0) AS "raw arr_delay_avg_30d",
  s10 AS "raw last_dest_30d"
FROM (
SELECT
  k0,
  interval_end,
  s0,
  s1,
  s2,
  s3,
  s4,
  s5,
  s6,
  s7,
  s8,
  s9,
  s10
FROM (
SELECT
  k0,
  sum(t_count_2005a4f663747d70) FILTER (instant >= before_86400000000) AS s0,
  sum(t_count_2005a4f663747d70) FILTER (instant >= before_604800000000) AS s1,
  sum(t_count_2005a4f663747d70) AS s2,
  sum(t_sum_7264e405a4f234a9) FILTER (instant >= before_604800000000) AS s3,
  sum(t_sum_7264e405a4f234a9) AS s4,
  sum(t_sum_2abb5345512f2654) AS s5,
  sum(t_sum_945198260466d26b) FILTER (instant >= before_604800000000) AS s6,
  sum(t_count_eafc6171ecae5b9b) FILTER (instant >= before_604800000000) AS s7,
  sum(t_sum_945198260466d26b) AS s8,
  sum(t_count_eafc6171ecae5b9b) AS s9,
  arg_max(t_last_30944939aea0a8b4, tile_start) AS s10
FROM (
  SELECT *, epoch_us(tile_start) AS instant
  FROM own
)
CROSS JOIN (SELECT epoch_us(interval_end) - 2592000000000 AS before_2592000000000, epoch_us(interval_end) - 604800000000 AS before_604800000000, epoch_us(interval_end) - 86400000000 AS before_86400000000, epoch_us(interval_end) - 0 AS before_0 FROM intervals)
WHERE instant >= before_2592000000000 AND instant < before_0
GROUP BY k0
)
CROSS JOIN (SELECT interval_end FROM intervals)
)
)
);

-- empty row
SELECT "flights_1d", "flights_7d", "flights_30d", "air_minutes_7d", "air_minutes_30d", "miles_30d", "arr_delay_avg_7d", "arr_delay_avg_30d", "last_dest_30d"
FROM (SELECT CAST(0 AS BIGINT) AS "flights_1d", CAST(0 AS BIGINT) AS "flights_7d", CAST(0 AS BIGINT) AS "flights_30d", CAST(0.0 AS DOUBLE) AS "air_minutes_7d", CAST(0.0 AS DOUBLE) AS "air_minutes_30d", CAST(NULL AS BIGINT) AS "miles_30d", CAST(NULL AS DOUBLE) AS "arr_delay_avg_7d", CAST(NULL AS DOUBLE) AS "arr_delay_avg_30d", CAST(NULL AS VARCHAR) AS "last_dest_30d");

-- making tiles0
SELECT
  __k0 AS "tailnum",
  make_timestamptz(__tile * 86400000000) AS tile_start,
  make_timestamptz((__tile + 1) * 86400000000) AS event_timestamp,
  "t_count_2005a4f663747d70",
  "t_sum_7264e405a4f234a9",
  "t_sum_2abb5345512f2654",
  "t_sum_945198260466d26b",
  "t_count_eafc6171ecae5b9b",
  "t_last_30944939aea0a8b4"
FROM (
SELECT
  "tailnum" AS __k0,
  __tile,
  CAST(count(*) AS BIGINT) AS "t_count_2005a4f663747d70",
  CAST(sum("air_time") AS DOUBLE) AS "t_sum_7264e405a4f234a9",
  CAST(sum("distance") AS DECIMAL(38,0)) AS "t_sum_2abb5345512f2654",
  CAST(sum("arr_delay") AS DOUBLE) AS "t_sum_945198260466d26b",
  CAST(count("arr_delay") AS BIGINT) AS "t_count_eafc6171ecae5b9b",
  CAST(struct_extract(max(struct_pack("at" := epoch_us("recorded_at"), v := ("dest"))) FILTER (("dest") IS NOT NULL), 'v') AS VARCHAR) AS "t_last_30944939aea0a8b4"
FROM (SELECT *, (epoch_us("recorded_at") + 4611685968000000000) // 86400000000 - 53375995 AS __tile, ((epoch_us("recorded_at") + 4611685968000000000) // 86400000000 - 53375995 + 1) * 86400000000 AS __tile_to FROM events)
GROUP BY 1, 2
);

-- audit counts
SELECT "__interval" AS interval_end, count(*) AS "rows",
       count(*) FILTER (WHERE a0) AS violations_0,
       count(*) FILTER (WHERE a1) AS violations_1
FROM (
    SELECT "__interval", "tailnum", "event_timestamp",
           "flights_30d" IS NULL AS a0,
           coalesce("air_minutes_7d" < 0 OR "air_minutes_7d" > 10080, false) AS a1
    FROM "rows"
)
GROUP BY 1
ORDER BY 1;

-- audit samples
WITH checked AS (
    SELECT "__interval", "tailnum", "event_timestamp",
           "flights_30d" IS NULL AS a0,
           coalesce("air_minutes_7d" < 0 OR "air_minutes_7d" > 10080, false) AS a1
    FROM "rows"
)
(SELECT 0 AS audit, "__interval" AS interval_end, "tailnum", "event_timestamp" FROM checked WHERE a0
 QUALIFY row_number() OVER (PARTITION BY "__interval" ORDER BY "tailnum", "event_timestamp") <= 5)
UNION ALL
(SELECT 1 AS audit, "__interval" AS interval_end, "tailnum", "event_timestamp" FROM checked WHERE a1
 QUALIFY row_number() OVER (PARTITION BY "__interval" ORDER BY "tailnum", "event_timestamp") <= 5);
