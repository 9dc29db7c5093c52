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
  coalesce(CAST("raw orders_7d" AS BIGINT), CAST(0 AS BIGINT)) AS "orders_7d",
  coalesce(CAST("raw orders_30d" AS BIGINT), CAST(0 AS BIGINT)) AS "orders_30d",
  coalesce(CAST("raw spent_30d" AS DECIMAL(38,2)), CAST(0 AS DECIMAL(38,2))) AS "spent_30d",
  CAST("raw last_category_90d" AS VARCHAR) AS "last_category_90d"
FROM (
WITH own AS (
SELECT
  "user_id" AS k0,
  tile_start,
  event_timestamp,
  t_count_61458edc452b6a3f,
  t_sum_c016e6a9bd1fa520,
  t_last_f670915713476e0c
FROM tiles0
)
SELECT
  k0,
  interval_end,
  CAST(s0 AS BIGINT) AS "raw orders_7d",
  CAST(s1 AS BIGINT) AS "raw orders_30d",
  s2 AS "raw spent_30d",
  s3 AS "raw last_category_90d"
FROM (
WITH
-- Every interval's end and every edge of a window, in order.
boundary AS (
  SELECT
    instant,
    CAST(row_number() OVER (ORDER BY instant) - 1 AS INTEGER) AS position,
    lead(instant) OVER (ORDER BY instant) AS next_instant
  FROM (
    SELECT DISTINCT instant FROM (SELECT epoch_us(interval_end) - unnest([0, 604800000000, 2592000000000, 7776000000000]) AS instant FROM intervals)
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
  JOIN boundary edge1 ON edge1.instant = stop.instant - 604800000000
  JOIN boundary edge2 ON edge2.instant = stop.instant - 2592000000000
  JOIN boundary edge3 ON edge3.instant = stop.instant - 7776000000000
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
    sum(t_count_61458edc452b6a3f) AS t_count_61458edc452b6a3f,
    sum(t_sum_c016e6a9bd1fa520) AS t_sum_c016e6a9bd1fa520,
    arg_max(t_last_f670915713476e0c, tile_start) AS t_last_f670915713476e0c
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
    t_count_61458edc452b6a3f,
    t_sum_c016e6a9bd1fa520,
    t_last_f670915713476e0c,
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
    t_count_61458edc452b6a3f,
    t_sum_c016e6a9bd1fa520,
    t_last_f670915713476e0c,
    least(next_position, reach + 1) - position AS segments,
    max(CASE WHEN reached >= position THEN NULL ELSE position END) OVER (PARTITION BY k ORDER BY position) AS run
  FROM followed
),
cell AS (
  SELECT
    k,
    CAST(0 AS INTEGER) AS run,
    position,
    t_count_61458edc452b6a3f,
    t_sum_c016e6a9bd1fa520,
    t_last_f670915713476e0c
  FROM (
    SELECT k0, k, unnest(range(first, last + 1)) AS position FROM key WHERE dense
  )
  LEFT JOIN tile USING (k0, position)
  UNION ALL
  SELECT
    k,
    run,
    CAST(position + after_tile AS INTEGER) AS position,
    CASE WHEN after_tile = 0 THEN t_count_61458edc452b6a3f END AS t_count_61458edc452b6a3f,
    CASE WHEN after_tile = 0 THEN t_sum_c016e6a9bd1fa520 END AS t_sum_c016e6a9bd1fa520,
    CASE WHEN after_tile = 0 THEN t_last_f670915713476e0c END AS t_last_f670915713476e0c
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
    sum(t_count_61458edc452b6a3f) OVER w0 AS t_count_61458edc452b6a3f_w0,
    sum(t_count_61458edc452b6a3f) OVER w1 AS t_count_61458edc452b6a3f_w1,
    sum(t_count_61458edc452b6a3f) OVER w2 AS t_count_61458edc452b6a3f_w2,
    sum(t_sum_c016e6a9bd1fa520) OVER w2 AS t_sum_c016e6a9bd1fa520_w2,
    last_value(t_last_f670915713476e0c IGNORE NULLS) OVER w0 AS t_last_f670915713476e0c_w0
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
  t_count_61458edc452b6a3f_w1 AS s0,
  t_count_61458edc452b6a3f_w2 AS s1,
  t_sum_c016e6a9bd1fa520_w2 AS s2,
  t_last_f670915713476e0c_w0 AS s3
FROM windowed
JOIN frame USING (position)
LEFT JOIN (FROM key WHERE (k >= 0) IN (SELECT unnest([true]))) AS key USING (k)
WHERE t_count_61458edc452b6a3f_w0 IS NOT NULL
)
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
  coalesce(CAST("raw orders_7d" AS BIGINT), CAST(0 AS BIGINT)) AS "orders_7d",
  coalesce(CAST("raw orders_30d" AS BIGINT), CAST(0 AS BIGINT)) AS "orders_30d",
  coalesce(CAST("raw spent_30d" AS DECIMAL(38,2)), CAST(0 AS DECIMAL(38,2))) AS "spent_30d",
  CAST("raw last_category_90d" AS VARCHAR) AS "last_category_90d"
FROM (
WITH own AS (
SELECT
  "user_id" AS k0,
  tile_start,
  event_timestamp,
  t_count_61458edc452b6a3f,
  t_sum_c016e6a9bd1fa520,
  t_last_f670915713476e0c
FROM tiles0
)
SELECT
  k0,
  interval_end,
  CAST(s0 AS BIGINT) AS "raw orders_7d",
  CAST(s1 AS BIGINT) AS "raw orders_30d",
  s2 AS "raw spent_30d",
  s3 AS "raw last_category_90d"
FROM (
SELECT
  k0,
  interval_end,
  s0,
  s1,
  s2,
  s3
FROM (
SELECT
  k0,
  sum(t_count_61458edc452b6a3f) FILTER (instant >= before_604800000000) AS s0,
  sum(t_count_61458edc452b6a3f) FILTER (instant >= before_2592000000000) AS s1,
  sum(t_sum_c016e6a9bd1fa520) FILTER (instant >= before_2592000000000) AS s2,
  arg_max(t_last_f670915713476e0c, tile_start) AS s3
FROM (
  SELECT *, epoch_us(tile_start) AS instant
  FROM own
)
CROSS JOIN (SELECT epoch_us(interval_end) - 7776000000000 AS before_7776000000000, epoch_us(interval_end) - 2592000000000 AS before_2592000000000, epoch_us(interval_end) - 604800000000 AS before_604800000000, epoch_us(interval_end) - 0 AS before_0 FROM intervals)
WHERE instant >= before_7776000000000 AND instant < before_0
GROUP BY k0
)
CROSS JOIN (SELECT interval_end FROM intervals)
)
)
)
);

-- empty row
SELECT "orders_7d", "orders_30d", "spent_30d", "last_category_90d", "trend"
FROM (SELECT *, CAST(("orders_7d" / NULLIF("orders_30d", 0)) AS DOUBLE) AS "trend"
FROM (SELECT CAST(0 AS BIGINT) AS "orders_7d", CAST(0 AS BIGINT) AS "orders_30d", CAST(0 AS DECIMAL(38,2)) AS "spent_30d", CAST(NULL AS VARCHAR) AS "last_category_90d"));

-- making tiles0
SELECT
  __k0 AS "user_id",
  make_timestamptz(__tile * 86400000000) AS tile_start,
  make_timestamptz((__tile + 1) * 86400000000) AS event_timestamp,
  "t_count_61458edc452b6a3f",
  "t_sum_c016e6a9bd1fa520",
  "t_last_f670915713476e0c"
FROM (
SELECT
  "user_id" AS __k0,
  __tile,
  CAST(count(*) AS BIGINT) AS "t_count_61458edc452b6a3f",
  CAST(sum("amount" * "quantity") AS DECIMAL(38,2)) AS "t_sum_c016e6a9bd1fa520",
  CAST(struct_extract(max(struct_pack("at" := epoch_us("purchased_at"), v := ("category"))) FILTER (("category") IS NOT NULL), 'v') AS VARCHAR) AS "t_last_f670915713476e0c"
FROM (SELECT *, (epoch_us("purchased_at") + 4611685968000000000) // 86400000000 - 53375995 AS __tile, ((epoch_us("purchased_at") + 4611685968000000000) // 86400000000 - 53375995 + 1) * 86400000000 AS __tile_to FROM events)
GROUP BY 1, 2
);

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
