-- range
SELECT
  "origin",
  event_timestamp,
  "movements_1h",
  "movements_3h",
  "movements_1d",
  "dep_delay_avg_3h",
  "dep_delay_avg_1d",
  "last_dest_1d",
  "load"
FROM (
SELECT
  *,
  CAST(("movements_3h" / NULLIF(("movements_1d" / 8), 0)) AS DOUBLE) AS "load"
FROM (
SELECT
  k0 AS "origin",
  interval_end AS event_timestamp,
  CAST(coalesce(count_all_w2, 0) AS BIGINT) AS "movements_1h",
  CAST(coalesce(count_all_w1, 0) AS BIGINT) AS "movements_3h",
  CAST(coalesce(count_all_w0, 0) AS BIGINT) AS "movements_1d",
  coalesce(CAST(CAST(sum_a0_w1 AS DOUBLE) / nullif(count_a0_w1, 0) AS DOUBLE), CAST(0.0 AS DOUBLE)) AS "dep_delay_avg_3h",
  coalesce(CAST(CAST(sum_a0_w0 AS DOUBLE) / nullif(count_a0_w0, 0) AS DOUBLE), CAST(0.0 AS DOUBLE)) AS "dep_delay_avg_1d",
  CAST(struct_extract(last_a1_w0, 'v') AS VARCHAR) AS "last_dest_1d"
FROM (
WITH
-- Every interval's end and every window's start, in order.
boundary AS (
  SELECT
    instant,
    CAST(row_number() OVER (ORDER BY instant) - 1 AS INTEGER) AS position,
    lead(instant) OVER (ORDER BY instant) AS next_instant
  FROM (SELECT DISTINCT epoch_us(interval_end) - unnest([0, 86400000000, 10800000000, 3600000000]) AS instant FROM intervals)
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
  JOIN boundary start0 ON start0.instant = stop.instant - 86400000000
  JOIN boundary start1 ON start1.instant = stop.instant - 10800000000
  JOIN boundary start2 ON start2.instant = stop.instant - 3600000000
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
    sum(a0) AS sum_a0,
    count(a0) AS count_a0,
    max({'at': instant, 'v': a1}) FILTER (a1 IS NOT NULL) AS last_a1
  FROM (
    SELECT *, (instant - (SELECT origin FROM step)) // (SELECT length FROM step) AS at_step
    FROM (SELECT "origin" AS k0, epoch_us("recorded_at") AS instant, "dep_delay" AS a0, "dest" AS a1 FROM events)
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
    (CAST(count_all AS HUGEINT) << 0) + (CAST(count_a0 AS HUGEINT) << 42) AS count_all_and_count_a0,
    sum_a0,
    last_a1,
    lead(position) OVER neighbours AS next_position,
    lag(reach) OVER neighbours AS reached
  FROM tile
  JOIN key USING (k0)
  WINDOW neighbours AS (PARTITION BY k ORDER BY position)
),
stretch AS (
  SELECT
    k, position, count_all_and_count_a0, sum_a0, last_a1,
    least(next_position, reach + 1) - position AS segments,
    max(CASE WHEN reached >= position THEN NULL ELSE position END) OVER (PARTITION BY k ORDER BY position) AS run
  FROM followed
),
cell AS (
  SELECT
    k,
    run,
    CAST(position + after_tile AS INTEGER) AS position,
    CASE WHEN after_tile = 0 THEN count_all_and_count_a0 END AS count_all_and_count_a0,
    CASE WHEN after_tile = 0 THEN sum_a0 END AS sum_a0,
    CASE WHEN after_tile = 0 THEN last_a1 END AS last_a1
  FROM (SELECT *, unnest(range(segments)) AS after_tile FROM stretch)
),
windowed AS (
  SELECT
    k,
    position,
    sum(count_all_and_count_a0) OVER w0 AS count_all_and_count_a0_w0,
    sum(count_all_and_count_a0) OVER w2 AS count_all_and_count_a0_w2,
    sum(count_all_and_count_a0) OVER w1 AS count_all_and_count_a0_w1,
    sum(sum_a0) OVER w1 AS sum_a0_w1,
    sum(sum_a0) OVER w0 AS sum_a0_w0,
    max(last_a1) OVER w0 AS last_a1_w0
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
  CAST((count_all_and_count_a0_w2 >> 0) & 4398046511103 AS BIGINT) AS count_all_w2,
  CAST((count_all_and_count_a0_w1 >> 0) & 4398046511103 AS BIGINT) AS count_all_w1,
  CAST((count_all_and_count_a0_w0 >> 0) & 4398046511103 AS BIGINT) AS count_all_w0,
  sum_a0_w1 AS sum_a0_w1,
  CAST((count_all_and_count_a0_w1 >> 42) & 4398046511103 AS BIGINT) AS count_a0_w1,
  sum_a0_w0 AS sum_a0_w0,
  CAST((count_all_and_count_a0_w0 >> 42) & 4398046511103 AS BIGINT) AS count_a0_w0,
  last_a1_w0 AS last_a1_w0
FROM windowed
JOIN frame USING (position)
JOIN key USING (k)
WHERE count_all_and_count_a0_w0 IS NOT NULL
)
)
);

-- single interval
SELECT
  "origin",
  event_timestamp,
  "movements_1h",
  "movements_3h",
  "movements_1d",
  "dep_delay_avg_3h",
  "dep_delay_avg_1d",
  "last_dest_1d",
  "load"
FROM (
SELECT
  *,
  CAST(("movements_3h" / NULLIF(("movements_1d" / 8), 0)) AS DOUBLE) AS "load"
FROM (
SELECT
  k0 AS "origin",
  interval_end AS event_timestamp,
  CAST(coalesce(count_all_w2, 0) AS BIGINT) AS "movements_1h",
  CAST(coalesce(count_all_w1, 0) AS BIGINT) AS "movements_3h",
  CAST(coalesce(count_all_w0, 0) AS BIGINT) AS "movements_1d",
  coalesce(CAST(CAST(sum_a0_w1 AS DOUBLE) / nullif(count_a0_w1, 0) AS DOUBLE), CAST(0.0 AS DOUBLE)) AS "dep_delay_avg_3h",
  coalesce(CAST(CAST(sum_a0_w0 AS DOUBLE) / nullif(count_a0_w0, 0) AS DOUBLE), CAST(0.0 AS DOUBLE)) AS "dep_delay_avg_1d",
  CAST(struct_extract(last_a1_w0, 'v') AS VARCHAR) AS "last_dest_1d"
FROM (
SELECT
  k0,
  interval_end,
  count(*) FILTER (instant >= end_instant - 3600000000) AS count_all_w2,
  count(*) FILTER (instant >= end_instant - 10800000000) AS count_all_w1,
  count(*) AS count_all_w0,
  sum(a0) FILTER (instant >= end_instant - 10800000000) AS sum_a0_w1,
  count(a0) FILTER (instant >= end_instant - 10800000000) AS count_a0_w1,
  sum(a0) AS sum_a0_w0,
  count(a0) AS count_a0_w0,
  max({'at': instant, 'v': a1}) FILTER (a1 IS NOT NULL) AS last_a1_w0
FROM (
  SELECT "origin" AS k0, epoch_us("recorded_at") AS instant, "dep_delay" AS a0, "dest" AS a1 FROM events
)
CROSS JOIN (SELECT interval_end, epoch_us(interval_end) AS end_instant FROM intervals)
WHERE instant >= end_instant - 86400000000 AND instant < end_instant
GROUP BY k0, interval_end
)
)
);

-- empty row
SELECT "movements_1h", "movements_3h", "movements_1d", "dep_delay_avg_3h", "dep_delay_avg_1d", "last_dest_1d", "load"
FROM (SELECT *, CAST(("movements_3h" / NULLIF(("movements_1d" / 8), 0)) AS DOUBLE) AS "load"
FROM (SELECT CAST(0 AS BIGINT) AS "movements_1h", CAST(0 AS BIGINT) AS "movements_3h", CAST(0 AS BIGINT) AS "movements_1d", CAST(0.0 AS DOUBLE) AS "dep_delay_avg_3h", CAST(0.0 AS DOUBLE) AS "dep_delay_avg_1d", CAST(NULL AS VARCHAR) AS "last_dest_1d"));

-- audit counts
SELECT "__interval" AS interval_end, count(*) AS "rows",
       count(*) FILTER (WHERE a0) AS violations_0,
       count(*) FILTER (WHERE a1) AS violations_1
FROM (
    SELECT "__interval", "origin", "event_timestamp",
           coalesce("movements_1d" < 1 OR "movements_1d" > 2000, false) AS a0,
           "dep_delay_avg_3h" IS NULL AS a1
    FROM "rows"
)
GROUP BY 1
ORDER BY 1;

-- audit samples
WITH checked AS (
    SELECT "__interval", "origin", "event_timestamp",
           coalesce("movements_1d" < 1 OR "movements_1d" > 2000, false) AS a0,
           "dep_delay_avg_3h" IS NULL AS a1
    FROM "rows"
)
(SELECT 0 AS audit, "__interval" AS interval_end, "origin", "event_timestamp" FROM checked WHERE a0
 QUALIFY row_number() OVER (PARTITION BY "__interval" ORDER BY "origin", "event_timestamp") <= 5)
UNION ALL
(SELECT 1 AS audit, "__interval" AS interval_end, "origin", "event_timestamp" FROM checked WHERE a1
 QUALIFY row_number() OVER (PARTITION BY "__interval" ORDER BY "origin", "event_timestamp") <= 5);
