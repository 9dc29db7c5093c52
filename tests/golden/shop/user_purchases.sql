-- range
SELECT
  "user_id",
  event_timestamp,
  "orders_7d",
  "orders_30d",
  "spent_30d",
  "last_category_90d",
  "trend"
FROM (
SELECT
  *,
  CAST(("orders_7d" / NULLIF("orders_30d", 0)) AS DOUBLE) AS "trend"
FROM (
SELECT
  k0 AS "user_id",
  interval_end AS event_timestamp,
  CAST(coalesce(count_all_w2, 0) AS BIGINT) AS "orders_7d",
  CAST(coalesce(count_all_w1, 0) AS BIGINT) AS "orders_30d",
  coalesce(CAST(sum_a0_w1 AS DECIMAL(38,2)), CAST(0 AS DECIMAL(38,2))) AS "spent_30d",
  CAST(struct_extract(last_a1_w0, 'v') AS VARCHAR) AS "last_category_90d"
FROM (
WITH
-- Every interval's end and every window's start, in order.
boundary AS (
  SELECT
    instant,
    CAST(row_number() OVER (ORDER BY instant) - 1 AS INTEGER) AS position,
    lead(instant) OVER (ORDER BY instant) AS next_instant
  FROM (SELECT DISTINCT epoch_us(interval_end) - unnest([0, 7776000000000, 2592000000000, 604800000000]) AS instant FROM intervals)
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
  JOIN boundary start0 ON start0.instant = stop.instant - 7776000000000
  JOIN boundary start1 ON start1.instant = stop.instant - 2592000000000
  JOIN boundary start2 ON start2.instant = stop.instant - 604800000000
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
    max({'at': instant, 'v': a1}) FILTER (a1 IS NOT NULL) AS last_a1
  FROM (
    SELECT *, (instant - (SELECT origin FROM step)) // (SELECT length FROM step) AS at_step
    FROM (SELECT "user_id" AS k0, epoch_us("purchased_at") AS instant, "amount" * "quantity" AS a0, "category" AS a1 FROM events)
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
    count_all,
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
    k, position, count_all, sum_a0, last_a1,
    least(next_position, reach + 1) - position AS segments,
    max(CASE WHEN reached >= position THEN NULL ELSE position END) OVER (PARTITION BY k ORDER BY position) AS run
  FROM followed
),
cell AS (
  SELECT
    k,
    run,
    CAST(position + after_tile AS INTEGER) AS position,
    CASE WHEN after_tile = 0 THEN count_all END AS count_all,
    CASE WHEN after_tile = 0 THEN sum_a0 END AS sum_a0,
    CASE WHEN after_tile = 0 THEN last_a1 END AS last_a1
  FROM (SELECT *, unnest(range(segments)) AS after_tile FROM stretch)
),
windowed AS (
  SELECT
    k,
    position,
    sum(count_all) OVER w0 AS count_all_w0,
    sum(count_all) OVER w2 AS count_all_w2,
    sum(count_all) OVER w1 AS count_all_w1,
    sum(sum_a0) OVER w1 AS sum_a0_w1,
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
  CAST(count_all_w2 AS BIGINT) AS count_all_w2,
  CAST(count_all_w1 AS BIGINT) AS count_all_w1,
  sum_a0_w1 AS sum_a0_w1,
  last_a1_w0 AS last_a1_w0
FROM windowed
JOIN frame USING (position)
JOIN key USING (k)
WHERE count_all_w0 IS NOT NULL
)
)
);

-- single interval
SELECT
  "user_id",
  event_timestamp,
  "orders_7d",
  "orders_30d",
  "spent_30d",
  "last_category_90d",
  "trend"
FROM (
SELECT
  *,
  CAST(("orders_7d" / NULLIF("orders_30d", 0)) AS DOUBLE) AS "trend"
FROM (
SELECT
  k0 AS "user_id",
  interval_end AS event_timestamp,
  CAST(coalesce(count_all_w2, 0) AS BIGINT) AS "orders_7d",
  CAST(coalesce(count_all_w1, 0) AS BIGINT) AS "orders_30d",
  coalesce(CAST(sum_a0_w1 AS DECIMAL(38,2)), CAST(0 AS DECIMAL(38,2))) AS "spent_30d",
  CAST(struct_extract(last_a1_w0, 'v') AS VARCHAR) AS "last_category_90d"
FROM (
SELECT
  k0,
  interval_end,
  count(*) FILTER (instant >= end_instant - 604800000000) AS count_all_w2,
  count(*) FILTER (instant >= end_instant - 2592000000000) AS count_all_w1,
  sum(a0) FILTER (instant >= end_instant - 2592000000000) AS sum_a0_w1,
  max({'at': instant, 'v': a1}) FILTER (a1 IS NOT NULL) AS last_a1_w0
FROM (
  SELECT "user_id" AS k0, epoch_us("purchased_at") AS instant, "amount" * "quantity" AS a0, "category" AS a1 FROM events
)
CROSS JOIN (SELECT interval_end, epoch_us(interval_end) AS end_instant FROM intervals)
WHERE instant >= end_instant - 7776000000000 AND instant < end_instant
GROUP BY k0, interval_end
)
)
);

-- empty row
SELECT "orders_7d", "orders_30d", "spent_30d", "last_category_90d", "trend"
FROM (SELECT *, CAST(("orders_7d" / NULLIF("orders_30d", 0)) AS DOUBLE) AS "trend"
FROM (SELECT CAST(0 AS BIGINT) AS "orders_7d", CAST(0 AS BIGINT) AS "orders_30d", CAST(0 AS DECIMAL(38,2)) AS "spent_30d", CAST(NULL AS VARCHAR) AS "last_category_90d"));

-- audit counts
SELECT "__interval" AS interval_end, count(*) AS "rows",
       count(*) FILTER (WHERE a0) AS violations_0,
       count(*) FILTER (WHERE a1) AS violations_1
FROM (
    SELECT "__interval", "user_id", "event_timestamp",
           "orders_7d" IS NULL AS a0,
           coalesce("spent_30d" < 0 OR "spent_30d" > 10000, false) AS a1
    FROM "rows"
)
GROUP BY 1
ORDER BY 1;

-- audit samples
WITH checked AS (
    SELECT "__interval", "user_id", "event_timestamp",
           "orders_7d" IS NULL AS a0,
           coalesce("spent_30d" < 0 OR "spent_30d" > 10000, false) AS a1
    FROM "rows"
)
(SELECT 0 AS audit, "__interval" AS interval_end, "user_id", "event_timestamp" FROM checked WHERE a0
 QUALIFY row_number() OVER (PARTITION BY "__interval" ORDER BY "user_id", "event_timestamp") <= 5)
UNION ALL
(SELECT 1 AS audit, "__interval" AS interval_end, "user_id", "event_timestamp" FROM checked WHERE a1
 QUALIFY row_number() OVER (PARTITION BY "__interval" ORDER BY "user_id", "event_timestamp") <= 5);

-- quarantine
SELECT *, (coalesce("spent_30d" < 0 OR "spent_30d" > 10000, false)) AS "__quarantined"
FROM "rows";
