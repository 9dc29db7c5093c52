-- range
SELECT
  "carrier",
  event_timestamp,
  "flights_1d",
  "flights_7d",
  "flights_30d",
  "departed_1d",
  "departed_7d",
  "departed_30d",
  "arr_delay_avg_1d",
  "arr_delay_avg_7d",
  "arr_delay_avg_30d",
  "arr_delay_max_7d",
  "cancelled_share",
  "delay_trend"
FROM (
SELECT
  *,
  CAST((1 - "departed_7d" / NULLIF("flights_7d", 0)) AS DOUBLE) AS "cancelled_share",
  CAST(("arr_delay_avg_7d" - "arr_delay_avg_30d") AS DOUBLE) AS "delay_trend"
FROM (
SELECT
  k0 AS "carrier",
  interval_end AS event_timestamp,
  coalesce(CAST("raw flights_1d" AS BIGINT), CAST(0 AS BIGINT)) AS "flights_1d",
  coalesce(CAST("raw flights_7d" AS BIGINT), CAST(0 AS BIGINT)) AS "flights_7d",
  coalesce(CAST("raw flights_30d" AS BIGINT), CAST(0 AS BIGINT)) AS "flights_30d",
  coalesce(CAST("raw departed_1d" AS BIGINT), CAST(0 AS BIGINT)) AS "departed_1d",
  coalesce(CAST("raw departed_7d" AS BIGINT), CAST(0 AS BIGINT)) AS "departed_7d",
  coalesce(CAST("raw departed_30d" AS BIGINT), CAST(0 AS BIGINT)) AS "departed_30d",
  CAST("raw arr_delay_avg_1d" AS DOUBLE) AS "arr_delay_avg_1d",
  CAST("raw arr_delay_avg_7d" AS DOUBLE) AS "arr_delay_avg_7d",
  CAST("raw arr_delay_avg_30d" AS DOUBLE) AS "arr_delay_avg_30d",
  CAST("raw arr_delay_max_7d" AS DOUBLE) AS "arr_delay_max_7d"
FROM (
WITH own AS (
SELECT
  "carrier" AS k0,
  tile_start,
  event_timestamp,
  t_count_6f02b1ccd4729a0c,
  t_count_6a7e16e63463299e,
  t_sum_167660ffa93bb84b,
  t_count_999923f4c41d9dda,
  t_max_082261a9fbb1d198
FROM tiles0
)
SELECT
  k0,
  interval_end,
  CAST(s0 AS BIGINT) AS "raw flights_1d",
  CAST(s1 AS BIGINT) AS "raw flights_7d",
  CAST(s2 AS BIGINT) AS "raw flights_30d",
  CAST(s3 AS BIGINT) AS "raw departed_1d",
  CAST(s4 AS BIGINT) AS "raw departed_7d",
  CAST(s5 AS BIGINT) AS "raw departed_30d",
  CAST(s6 AS DOUBLE) / nullif(s7, 0) AS "raw arr_delay_avg_1d",
  CAST(s8 AS DOUBLE) / nullif(s9, 0) AS "raw arr_delay_avg_7d",
  CAST(s10 AS DOUBLE) / nullif(s11, 0) AS "raw arr_delay_avg_30d",
  s12 AS "raw arr_delay_max_7d"
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
    sum(t_count_6f02b1ccd4729a0c) AS t_count_6f02b1ccd4729a0c,
    sum(t_count_6a7e16e63463299e) AS t_count_6a7e16e63463299e,
    sum(t_count_999923f4c41d9dda) AS t_count_999923f4c41d9dda,
    sum(t_sum_167660ffa93bb84b) AS t_sum_167660ffa93bb84b,
    max(t_max_082261a9fbb1d198) AS t_max_082261a9fbb1d198
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
    (CAST(coalesce(t_count_6f02b1ccd4729a0c, 0) AS HUGEINT) << 0) + (CAST(coalesce(t_count_6a7e16e63463299e, 0) AS HUGEINT) << 42) + (CAST(coalesce(t_count_999923f4c41d9dda, 0) AS HUGEINT) << 84) AS packed_t_count_6f02b1ccd4729a0c,
    t_sum_167660ffa93bb84b,
    t_max_082261a9fbb1d198,
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
    packed_t_count_6f02b1ccd4729a0c,
    t_sum_167660ffa93bb84b,
    t_max_082261a9fbb1d198,
    least(next_position, reach + 1) - position AS segments,
    max(CASE WHEN reached >= position THEN NULL ELSE position END) OVER (PARTITION BY k ORDER BY position) AS run
  FROM followed
),
cell AS (
  SELECT
    k,
    CAST(0 AS INTEGER) AS run,
    position,
    CASE WHEN reach IS NOT NULL THEN (CAST(coalesce(t_count_6f02b1ccd4729a0c, 0) AS HUGEINT) << 0) + (CAST(coalesce(t_count_6a7e16e63463299e, 0) AS HUGEINT) << 42) + (CAST(coalesce(t_count_999923f4c41d9dda, 0) AS HUGEINT) << 84) END AS packed_t_count_6f02b1ccd4729a0c,
    t_sum_167660ffa93bb84b,
    t_max_082261a9fbb1d198
  FROM (
    SELECT k0, k, unnest(range(first, last + 1)) AS position FROM key WHERE dense
  )
  LEFT JOIN tile USING (k0, position)
  UNION ALL
  SELECT
    k,
    run,
    CAST(position + after_tile AS INTEGER) AS position,
    CASE WHEN after_tile = 0 THEN packed_t_count_6f02b1ccd4729a0c END AS packed_t_count_6f02b1ccd4729a0c,
    CASE WHEN after_tile = 0 THEN t_sum_167660ffa93bb84b END AS t_sum_167660ffa93bb84b,
    CASE WHEN after_tile = 0 THEN t_max_082261a9fbb1d198 END AS t_max_082261a9fbb1d198
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
    sum(packed_t_count_6f02b1ccd4729a0c) OVER w0 AS packed_t_count_6f02b1ccd4729a0c_w0,
    sum(packed_t_count_6f02b1ccd4729a0c) OVER w1 AS packed_t_count_6f02b1ccd4729a0c_w1,
    sum(packed_t_count_6f02b1ccd4729a0c) OVER w2 AS packed_t_count_6f02b1ccd4729a0c_w2,
    sum(t_sum_167660ffa93bb84b) OVER w1 AS t_sum_167660ffa93bb84b_w1,
    sum(t_sum_167660ffa93bb84b) OVER w2 AS t_sum_167660ffa93bb84b_w2,
    sum(t_sum_167660ffa93bb84b) OVER w0 AS t_sum_167660ffa93bb84b_w0,
    max(t_max_082261a9fbb1d198) OVER w2 AS t_max_082261a9fbb1d198_w2
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
  (packed_t_count_6f02b1ccd4729a0c_w1 >> 0) & 4398046511103 AS s0,
  (packed_t_count_6f02b1ccd4729a0c_w2 >> 0) & 4398046511103 AS s1,
  (packed_t_count_6f02b1ccd4729a0c_w0 >> 0) & 4398046511103 AS s2,
  (packed_t_count_6f02b1ccd4729a0c_w1 >> 42) & 4398046511103 AS s3,
  (packed_t_count_6f02b1ccd4729a0c_w2 >> 42) & 4398046511103 AS s4,
  (packed_t_count_6f02b1ccd4729a0c_w0 >> 42) & 4398046511103 AS s5,
  t_sum_167660ffa93bb84b_w1 AS s6,
  (packed_t_count_6f02b1ccd4729a0c_w1 >> 84) & 4398046511103 AS s7,
  t_sum_167660ffa93bb84b_w2 AS s8,
  (packed_t_count_6f02b1ccd4729a0c_w2 >> 84) & 4398046511103 AS s9,
  t_sum_167660ffa93bb84b_w0 AS s10,
  (packed_t_count_6f02b1ccd4729a0c_w0 >> 84) & 4398046511103 AS s11,
  t_max_082261a9fbb1d198_w2 AS s12
FROM windowed
JOIN frame USING (position)
LEFT JOIN (FROM key WHERE (k >= 0) IN (SELECT unnest([true]))) AS key USING (k)
WHERE packed_t_count_6f02b1ccd4729a0c_w0 IS NOT NULL
)
)
)
);

-- single interval
SELECT
  "carrier",
  event_timestamp,
  "flights_1d",
  "flights_7d",
  "flights_30d",
  "departed_1d",
  "departed_7d",
  "departed_30d",
  "arr_delay_avg_1d",
  "arr_delay_avg_7d",
  "arr_delay_avg_30d",
  "arr_delay_max_7d",
  "cancelled_share",
  "delay_trend"
FROM (
SELECT
  *,
  CAST((1 - "departed_7d" / NULLIF("flights_7d", 0)) AS DOUBLE) AS "cancelled_share",
  CAST(("arr_delay_avg_7d" - "arr_delay_avg_30d") AS DOUBLE) AS "delay_trend"
FROM (
SELECT
  k0 AS "carrier",
  interval_end AS event_timestamp,
  coalesce(CAST("raw flights_1d" AS BIGINT), CAST(0 AS BIGINT)) AS "flights_1d",
  coalesce(CAST("raw flights_7d" AS BIGINT), CAST(0 AS BIGINT)) AS "flights_7d",
  coalesce(CAST("raw flights_30d" AS BIGINT), CAST(0 AS BIGINT)) AS "flights_30d",
  coalesce(CAST("raw departed_1d" AS BIGINT), CAST(0 AS BIGINT)) AS "departed_1d",
  coalesce(CAST("raw departed_7d" AS BIGINT), CAST(0 AS BIGINT)) AS "departed_7d",
  coalesce(CAST("raw departed_30d" AS BIGINT), CAST(0 AS BIGINT)) AS "departed_30d",
  CAST("raw arr_delay_avg_1d" AS DOUBLE) AS "arr_delay_avg_1d",
  CAST("raw arr_delay_avg_7d" AS DOUBLE) AS "arr_delay_avg_7d",
  CAST("raw arr_delay_avg_30d" AS DOUBLE) AS "arr_delay_avg_30d",
  CAST("raw arr_delay_max_7d" AS DOUBLE) AS "arr_delay_max_7d"
FROM (
WITH own AS (
SELECT
  "carrier" AS k0,
  tile_start,
  event_timestamp,
  t_count_6f02b1ccd4729a0c,
  t_count_6a7e16e63463299e,
  t_sum_167660ffa93bb84b,
  t_count_999923f4c41d9dda,
  t_max_082261a9fbb1d198
FROM tiles0
)
SELECT
  k0,
  interval_end,
  CAST(s0 AS BIGINT) AS "raw flights_1d",
  CAST(s1 AS BIGINT) AS "raw flights_7d",
  CAST(s2 AS BIGINT) AS "raw flights_30d",
  CAST(s3 AS BIGINT) AS "raw departed_1d",
  CAST(s4 AS BIGINT) AS "raw departed_7d",
  CAST(s5 AS BIGINT) AS "raw departed_30d",
  CAST(s6 AS DOUBLE) / nullif(s7, 0) AS "raw arr_delay_avg_1d",
  CAST(s8 AS DOUBLE) / nullif(s9, 0) AS "raw arr_delay_avg_7d",
  CAST(s10 AS DOUBLE) / nullif(s11, 0) AS "raw arr_delay_avg_30d",
  s12 AS "raw arr_delay_max_7d"
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
  s10,
  s11,
  s12
FROM (
SELECT
  k0,
  sum(t_count_6f02b1ccd4729a0c) FILTER (instant >= before_86400000000) AS s0,
  sum(t_count_6f02b1ccd4729a0c) FILTER (instant >= before_604800000000) AS s1,
  sum(t_count_6f02b1ccd4729a0c) AS s2,
  sum(t_count_6a7e16e63463299e) FILTER (instant >= before_86400000000) AS s3,
  sum(t_count_6a7e16e63463299e) FILTER (instant >= before_604800000000) AS s4,
  sum(t_count_6a7e16e63463299e) AS s5,
  sum(t_sum_167660ffa93bb84b) FILTER (instant >= before_86400000000) AS s6,
  sum(t_count_999923f4c41d9dda) FILTER (instant >= before_86400000000) AS s7,
  sum(t_sum_167660ffa93bb84b) FILTER (instant >= before_604800000000) AS s8,
  sum(t_count_999923f4c41d9dda) FILTER (instant >= before_604800000000) AS s9,
  sum(t_sum_167660ffa93bb84b) AS s10,
  sum(t_count_999923f4c41d9dda) AS s11,
  max(t_max_082261a9fbb1d198) FILTER (instant >= before_604800000000) AS s12
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
)
);

-- empty row
SELECT "flights_1d", "flights_7d", "flights_30d", "departed_1d", "departed_7d", "departed_30d", "arr_delay_avg_1d", "arr_delay_avg_7d", "arr_delay_avg_30d", "arr_delay_max_7d", "cancelled_share", "delay_trend"
FROM (SELECT *, CAST(("arr_delay_avg_7d" - "arr_delay_avg_30d") AS DOUBLE) AS "delay_trend"
FROM (SELECT *, CAST((1 - "departed_7d" / NULLIF("flights_7d", 0)) AS DOUBLE) AS "cancelled_share"
FROM (SELECT CAST(0 AS BIGINT) AS "flights_1d", CAST(0 AS BIGINT) AS "flights_7d", CAST(0 AS BIGINT) AS "flights_30d", CAST(0 AS BIGINT) AS "departed_1d", CAST(0 AS BIGINT) AS "departed_7d", CAST(0 AS BIGINT) AS "departed_30d", CAST(NULL AS DOUBLE) AS "arr_delay_avg_1d", CAST(NULL AS DOUBLE) AS "arr_delay_avg_7d", CAST(NULL AS DOUBLE) AS "arr_delay_avg_30d", CAST(NULL AS DOUBLE) AS "arr_delay_max_7d")));

-- making tiles0
SELECT
  __k0 AS "carrier",
  make_timestamptz(__tile * 86400000000) AS tile_start,
  make_timestamptz((__tile + 1) * 86400000000) AS event_timestamp,
  "t_count_6f02b1ccd4729a0c",
  "t_count_6a7e16e63463299e",
  "t_sum_167660ffa93bb84b",
  "t_count_999923f4c41d9dda",
  "t_max_082261a9fbb1d198"
FROM (
SELECT
  "carrier" AS __k0,
  __tile,
  CAST(count(*) AS BIGINT) AS "t_count_6f02b1ccd4729a0c",
  CAST(count("dep_delay") AS BIGINT) AS "t_count_6a7e16e63463299e",
  CAST(sum("arr_delay") AS DOUBLE) AS "t_sum_167660ffa93bb84b",
  CAST(count("arr_delay") AS BIGINT) AS "t_count_999923f4c41d9dda",
  CAST(max("arr_delay") AS DOUBLE) AS "t_max_082261a9fbb1d198"
FROM (SELECT *, (epoch_us("recorded_at") + 4611685968000000000) // 86400000000 - 53375995 AS __tile, ((epoch_us("recorded_at") + 4611685968000000000) // 86400000000 - 53375995 + 1) * 86400000000 AS __tile_to FROM events)
GROUP BY 1, 2
);

-- audit counts
SELECT "__interval" AS interval_end, count(*) AS "rows",
       count(*) FILTER (WHERE a0) AS violations_0,
       count(*) FILTER (WHERE a1) AS violations_1,
       count(*) FILTER (WHERE a2) AS violations_2
FROM (
    SELECT "__interval", "carrier", "event_timestamp",
           "flights_30d" IS NULL AS a0,
           coalesce("cancelled_share" < 0 OR "cancelled_share" > 1, false) AS a1,
           coalesce("arr_delay_avg_1d" < -120 OR "arr_delay_avg_1d" > 1440, false) AS a2
    FROM "rows"
)
GROUP BY 1
ORDER BY 1;

-- audit samples
WITH checked AS (
    SELECT "__interval", "carrier", "event_timestamp",
           "flights_30d" IS NULL AS a0,
           coalesce("cancelled_share" < 0 OR "cancelled_share" > 1, false) AS a1,
           coalesce("arr_delay_avg_1d" < -120 OR "arr_delay_avg_1d" > 1440, false) AS a2
    FROM "rows"
)
(SELECT 0 AS audit, "__interval" AS interval_end, "carrier", "event_timestamp" FROM checked WHERE a0
 QUALIFY row_number() OVER (PARTITION BY "__interval" ORDER BY "carrier", "event_timestamp") <= 5)
UNION ALL
(SELECT 1 AS audit, "__interval" AS interval_end, "carrier", "event_timestamp" FROM checked WHERE a1
 QUALIFY row_number() OVER (PARTITION BY "__interval" ORDER BY "carrier", "event_timestamp") <= 5)
UNION ALL
(SELECT 2 AS audit, "__interval" AS interval_end, "carrier", "event_timestamp" FROM checked WHERE a2
 QUALIFY row_number() OVER (PARTITION BY "__interval" ORDER BY "carrier", "event_timestamp") <= 5);

-- quarantine
SELECT *, (coalesce("arr_delay_avg_1d" < -120 OR "arr_delay_avg_1d" > 1440, false)) AS "__quarantined"
FROM "rows";
