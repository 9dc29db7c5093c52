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
  CAST(coalesce(count_all_w1, 0) AS BIGINT) AS "count_all_7d",
  CAST(coalesce(count_all_w0, 0) AS BIGINT) AS "count_all_30d",
  coalesce(CAST(CAST(sum_a0_w0 AS DOUBLE) / nullif(count_a0_w0, 0) AS DOUBLE), CAST(0.0 AS DOUBLE)) AS "avg_f_30d",
  CAST(struct_extract(last_a1_w1, 'v') AS VARCHAR) AS "last_s_7d"
FROM (
SELECT
  k0,
  k1,
  interval_end,
  count(*) FILTER (instant >= end_instant - 604800000000) AS count_all_w1,
  count(*) AS count_all_w0,
  sum(a0) AS sum_a0_w0,
  count(a0) AS count_a0_w0,
  max({'at': instant, 'v': a1}) FILTER (a1 IS NOT NULL AND instant >= end_instant - 604800000000) AS last_a1_w1
FROM (
  SELECT "user" AS k0, "shop" AS k1, epoch_us("at") AS instant, f AS a0, s AS a1 FROM events
)
CROSS JOIN (SELECT interval_end, epoch_us(interval_end) AS end_instant FROM intervals)
WHERE instant >= end_instant - 2592000000000 AND instant < end_instant
GROUP BY k0, k1, interval_end
)
)
)
