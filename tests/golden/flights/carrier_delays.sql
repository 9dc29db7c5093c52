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
  CAST(coalesce(count_all_w2, 0) AS BIGINT) AS "flights_1d",
  CAST(coalesce(count_all_w1, 0) AS BIGINT) AS "flights_7d",
  CAST(coalesce(count_all_w0, 0) AS BIGINT) AS "flights_30d",
  CAST(coalesce(count_a0_w2, 0) AS BIGINT) AS "departed_1d",
  CAST(coalesce(count_a0_w1, 0) AS BIGINT) AS "departed_7d",
  CAST(coalesce(count_a0_w0, 0) AS BIGINT) AS "departed_30d",
  CAST(CAST(sum_a1_w2 AS DOUBLE) / nullif(count_a1_w2, 0) AS DOUBLE) AS "arr_delay_avg_1d",
  CAST(CAST(sum_a1_w1 AS DOUBLE) / nullif(count_a1_w1, 0) AS DOUBLE) AS "arr_delay_avg_7d",
  CAST(CAST(sum_a1_w0 AS DOUBLE) / nullif(count_a1_w0, 0) AS DOUBLE) AS "arr_delay_avg_30d",
  CAST(max_a1_w1 AS DOUBLE) AS "arr_delay_max_7d"
FROM (
WITH
-- Every interval's end and every window's start, in order.
boundary AS (
  SELECT
    instant,
    CAST(row_number() OVER (ORDER BY instant) - 1 AS INTEGER) AS position,
    lead(instant) OVER (ORDER BY instant) AS next_instant
  FROM (SELECT DISTINCT epoch_us(interval_end) - unnest([0, 2592000000000, 604800000000, 86400000000]) AS instant FROM intervals)
),
-- How many segments before its end an interval's windows begin.
frame AS (
  SELECT
    stop.position,
    interval_end,
    CAST(stop.position - start0.position AS INTEGER) AS before0,
    CAST(stop.position - start1.position AS INTEGER) AS before1,
    CAST(stop.position - start2.position AS INTEGER) AS before2
  FROM intervals
  JOIN boundary stop ON stop.instant = epoch_us(interval_end)
  JOIN boundary start0 ON start0.instant = stop.instant - 2592000000000
  JOIN boundary start1 ON start1.instant = stop.instant - 604800000000
  JOIN boundary start2 ON start2.instant = stop.instant - 86400000000
),
-- The time from one boundary to the next, if it lies in some window; reach is the last end whose window holds it.
segment AS (
  SELECT position, instant, next_instant, reach
  FROM (
    SELECT boundary.position, instant, next_instant, max(frame.position) OVER (ORDER BY boundary.position) AS reach
    FROM boundary
    LEFT JOIN frame ON frame.position - frame.before0 = boundary.position
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
    count(*) AS count_all,
    count(a0) AS count_a0,
    sum(a1) AS sum_a1,
    count(a1) AS count_a1,
    max(a1) AS max_a1
  FROM (
    SELECT *, (instant - (SELECT origin FROM step)) // (SELECT length FROM step) AS at_step
    FROM (SELECT "carrier" AS k0, epoch_us("recorded_at") AS instant, "dep_delay" AS a0, "arr_delay" AS a1 FROM events)
  )
  LEFT JOIN lookup ON step_number = at_step AND instant >= from_instant AND instant < to_instant
  GROUP BY k0, position, reach
),
key AS MATERIALIZED (
  SELECT k0, CAST(row_number() OVER () AS UINTEGER) AS k
  FROM (SELECT DISTINCT k0 FROM tile)
),
followed AS (
  SELECT
    k, position, reach,
    (CAST(count_all AS HUGEINT) << 0) + (CAST(count_a0 AS HUGEINT) << 42) + (CAST(count_a1 AS HUGEINT) << 84) AS count_all_and_count_a0_and_count_a1,
    sum_a1,
    max_a1,
    lead(position) OVER neighbours AS next_position,
    lag(reach) OVER neighbours AS reached
  FROM tile
  JOIN key USING (k0)
  WINDOW neighbours AS (PARTITION BY k ORDER BY position)
),
stretch AS (
  SELECT
    k, position, count_all_and_count_a0_and_count_a1, sum_a1, max_a1,
    least(next_position, reach + 1) - position AS segments,
    max(CASE WHEN reached >= position THEN NULL ELSE position END) OVER (PARTITION BY k ORDER BY position) AS run
  FROM followed
),
cell AS (
  SELECT
    k,
    run,
    CAST(position + after_tile AS INTEGER) AS position,
    CASE WHEN after_tile = 0 THEN count_all_and_count_a0_and_count_a1 END AS count_all_and_count_a0_and_count_a1,
    CASE WHEN after_tile = 0 THEN sum_a1 END AS sum_a1,
    CASE WHEN after_tile = 0 THEN max_a1 END AS max_a1
  FROM (SELECT *, unnest(range(segments)) AS after_tile FROM stretch)
),
windowed AS (
  SELECT
    k,
    position,
    sum(count_all_and_count_a0_and_count_a1) OVER w0 AS count_all_and_count_a0_and_count_a1_w0,
    sum(count_all_and_count_a0_and_count_a1) OVER w2 AS count_all_and_count_a0_and_count_a1_w2,
    sum(count_all_and_count_a0_and_count_a1) OVER w1 AS count_all_and_count_a0_and_count_a1_w1,
    sum(sum_a1) OVER w2 AS sum_a1_w2,
    sum(sum_a1) OVER w1 AS sum_a1_w1,
    sum(sum_a1) OVER w0 AS sum_a1_w0,
    max(max_a1) OVER w1 AS max_a1_w1
  FROM cell
  LEFT JOIN frame USING (position)
  WINDOW
    w0 AS (PARTITION BY k, run ORDER BY position ROWS BETWEEN coalesce(before0, 0) PRECEDING AND 1 PRECEDING),
    w1 AS (PARTITION BY k, run ORDER BY position ROWS BETWEEN coalesce(before1, 0) PRECEDING AND 1 PRECEDING),
    w2 AS (PARTITION BY k, run ORDER BY position ROWS BETWEEN coalesce(before2, 0) PRECEDING AND 1 PRECEDING)
)
SELECT
  k0,
  interval_end,
  CAST((count_all_and_count_a0_and_count_a1_w2 >> 0) & 4398046511103 AS BIGINT) AS count_all_w2,
  CAST((count_all_and_count_a0_and_count_a1_w1 >> 0) & 4398046511103 AS BIGINT) AS count_all_w1,
  CAST((count_all_and_count_a0_and_count_a1_w0 >> 0) & 4398046511103 AS BIGINT) AS count_all_w0,
  CAST((count_all_and_count_a0_and_count_a1_w2 >> 42) & 4398046511103 AS BIGINT) AS count_a0_w2,
  CAST((count_all_and_count_a0_and_count_a1_w1 >> 42) & 4398046511103 AS BIGINT) AS count_a0_w1,
  CAST((count_all_and_count_a0_and_count_a1_w0 >> 42) & 4398046511103 AS BIGINT) AS count_a0_w0,
  sum_a1_w2 AS sum_a1_w2,
  CAST((count_all_and_count_a0_and_count_a1_w2 >> 84) & 4398046511103 AS BIGINT) AS count_a1_w2,
  sum_a1_w1 AS sum_a1_w1,
  CAST((count_all_and_count_a0_and_count_a1_w1 >> 84) & 4398046511103 AS BIGINT) AS count_a1_w1,
  sum_a1_w0 AS sum_a1_w0,
  CAST((count_all_and_count_a0_and_count_a1_w0 >> 84) & 4398046511103 AS BIGINT) AS count_a1_w0,
  max_a1_w1 AS max_a1_w1
FROM windowed
JOIN frame USING (position)
JOIN key USING (k)
WHERE count_all_and_count_a0_and_count_a1_w0 IS NOT NULL
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
  CAST(coalesce(count_all_w2, 0) AS BIGINT) AS "flights_1d",
  CAST(coalesce(count_all_w1, 0) AS BIGINT) AS "flights_7d",
  CAST(coalesce(count_all_w0, 0) AS BIGINT) AS "flights_30d",
  CAST(coalesce(count_a0_w2, 0) AS BIGINT) AS "departed_1d",
  CAST(coalesce(count_a0_w1, 0) AS BIGINT) AS "departed_7d",
  CAST(coalesce(count_a0_w0, 0) AS BIGINT) AS "departed_30d",
  CAST(CAST(sum_a1_w2 AS DOUBLE) / nullif(count_a1_w2, 0) AS DOUBLE) AS "arr_delay_avg_1d",
  CAST(CAST(sum_a1_w1 AS DOUBLE) / nullif(count_a1_w1, 0) AS DOUBLE) AS "arr_delay_avg_7d",
  CAST(CAST(sum_a1_w0 AS DOUBLE) / nullif(count_a1_w0, 0) AS DOUBLE) AS "arr_delay_avg_30d",
  CAST(max_a1_w1 AS DOUBLE) AS "arr_delay_max_7d"
FROM (
SELECT
  k0,
  interval_end,
  count(*) FILTER (instant >= end_instant - 86400000000) AS count_all_w2,
  count(*) FILTER (instant >= end_instant - 604800000000) AS count_all_w1,
  count(*) AS count_all_w0,
  count(a0) FILTER (instant >= end_instant - 86400000000) AS count_a0_w2,
  count(a0) FILTER (instant >= end_instant - 604800000000) AS count_a0_w1,
  count(a0) AS count_a0_w0,
  sum(a1) FILTER (instant >= end_instant - 86400000000) AS sum_a1_w2,
  count(a1) FILTER (instant >= end_instant - 86400000000) AS count_a1_w2,
  sum(a1) FILTER (instant >= end_instant - 604800000000) AS sum_a1_w1,
  count(a1) FILTER (instant >= end_instant - 604800000000) AS count_a1_w1,
  sum(a1) AS sum_a1_w0,
  count(a1) AS count_a1_w0,
  max(a1) FILTER (instant >= end_instant - 604800000000) AS max_a1_w1
FROM (
  SELECT "carrier" AS k0, epoch_us("recorded_at") AS instant, "dep_delay" AS a0, "arr_delay" AS a1 FROM events
)
CROSS JOIN (SELECT interval_end, epoch_us(interval_end) AS end_instant FROM intervals)
WHERE instant >= end_instant - 2592000000000 AND instant < end_instant
GROUP BY k0, interval_end
)
)
);

-- empty row
SELECT "flights_1d", "flights_7d", "flights_30d", "departed_1d", "departed_7d", "departed_30d", "arr_delay_avg_1d", "arr_delay_avg_7d", "arr_delay_avg_30d", "arr_delay_max_7d", "cancelled_share", "delay_trend"
FROM (SELECT *, CAST(("arr_delay_avg_7d" - "arr_delay_avg_30d") AS DOUBLE) AS "delay_trend"
FROM (SELECT *, CAST((1 - "departed_7d" / NULLIF("flights_7d", 0)) AS DOUBLE) AS "cancelled_share"
FROM (SELECT CAST(0 AS BIGINT) AS "flights_1d", CAST(0 AS BIGINT) AS "flights_7d", CAST(0 AS BIGINT) AS "flights_30d", CAST(0 AS BIGINT) AS "departed_1d", CAST(0 AS BIGINT) AS "departed_7d", CAST(0 AS BIGINT) AS "departed_30d", CAST(NULL AS DOUBLE) AS "arr_delay_avg_1d", CAST(NULL AS DOUBLE) AS "arr_delay_avg_7d", CAST(NULL AS DOUBLE) AS "arr_delay_avg_30d", CAST(NULL AS DOUBLE) AS "arr_delay_max_7d")));

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
