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
SELECT
  k0,
  k1,
  interval_end,
  s0,
  s1,
  s2,
  s3,
  s4
FROM (
SELECT
  k0,
  k1,
  sum(t_count_a903ec888cab441b) FILTER (instant >= before_604800000000) AS s0,
  sum(t_count_a903ec888cab441b) AS s1,
  sum(t_sum_ac83e8e97e566953) AS s2,
  sum(t_count_2a715963a5451d86) AS s3,
  arg_max(t_last_886f6937d34d57e8, tile_start) FILTER (instant >= before_604800000000) AS s4
FROM (
  SELECT *, epoch_us(tile_start) AS instant
  FROM own
)
CROSS JOIN (SELECT epoch_us(interval_end) - 2592000000000 AS before_2592000000000, epoch_us(interval_end) - 604800000000 AS before_604800000000, epoch_us(interval_end) - 0 AS before_0 FROM intervals)
WHERE instant >= before_2592000000000 AND instant < before_0
GROUP BY k0, k1
)
CROSS JOIN (SELECT interval_end FROM intervals)
)
)
)
)
