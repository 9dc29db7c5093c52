-- Hand-written: what enters and what leaves each window on each day, and running sums of the differences over a dense grid.
-- Float sums cancel: they are right only to about 1e-9 of the largest running sum.
WITH tile AS (
  SELECT user_id, epoch_us(event_time) // 86400000000 AS day, count(*) AS events, sum(amount) AS amount
  FROM events
  GROUP BY ALL
),
difference AS (
  SELECT
    user_id,
    day + shift AS day,
    sum(CASE WHEN shift = 1 THEN events WHEN shift = 8 THEN -events END) AS count_7d,
    sum(CASE WHEN shift = 1 THEN events WHEN shift = 31 THEN -events END) AS count_30d,
    sum(CASE WHEN shift = 1 THEN events WHEN shift = 91 THEN -events END) AS count_90d,
    sum(CASE WHEN shift = 1 THEN amount WHEN shift = 8 THEN -amount END) AS sum_7d,
    sum(CASE WHEN shift = 1 THEN amount WHEN shift = 31 THEN -amount END) AS sum_30d,
    sum(CASE WHEN shift = 1 THEN amount WHEN shift = 91 THEN -amount END) AS sum_90d
  FROM tile
  CROSS JOIN (SELECT unnest([1, 8, 31, 91]) AS shift)
  GROUP BY ALL
),
grid AS (
  SELECT user_id, day
  FROM (SELECT DISTINCT user_id FROM tile)
  CROSS JOIN (
    SELECT unnest(range(min(epoch_us(interval_end)) // 86400000000 - 90, max(epoch_us(interval_end)) // 86400000000 + 1)) AS day
    FROM intervals
  )
),
windowed AS (
  SELECT
    user_id,
    day,
    sum(count_7d) OVER running AS count_7d, sum(count_30d) OVER running AS count_30d, sum(count_90d) OVER running AS count_90d,
    sum(sum_7d) OVER running AS sum_7d, sum(sum_30d) OVER running AS sum_30d, sum(sum_90d) OVER running AS sum_90d
  FROM grid
  LEFT JOIN difference USING (user_id, day)
  WINDOW running AS (PARTITION BY user_id ORDER BY day ROWS UNBOUNDED PRECEDING)
)
SELECT
  user_id,
  interval_end AS event_timestamp,
  CAST(coalesce(count_7d, 0) AS BIGINT) AS count_7d,
  CAST(coalesce(count_30d, 0) AS BIGINT) AS count_30d,
  CAST(count_90d AS BIGINT) AS count_90d,
  CASE WHEN count_7d > 0 THEN sum_7d END AS sum_7d,
  CASE WHEN count_30d > 0 THEN sum_30d END AS sum_30d,
  sum_90d,
  sum_7d / nullif(count_7d, 0) AS avg_7d, sum_30d / nullif(count_30d, 0) AS avg_30d, sum_90d / count_90d AS avg_90d
FROM windowed
JOIN intervals ON epoch_us(interval_end) // 86400000000 = day
WHERE count_90d > 0
