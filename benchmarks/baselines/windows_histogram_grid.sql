-- Hand-written: day tiles with a counter per bucket, a dense grid, and ROWS frames of sums.
WITH tile AS (
  SELECT user_id, epoch_us(event_time) // 86400000000 AS day, count(*) AS events,
    count(*) FILTER (amount < 1000) AS b0, count(*) FILTER (amount >= 1000 AND amount < 2000) AS b1, count(*) FILTER (amount >= 2000 AND amount < 3000) AS b2, count(*) FILTER (amount >= 3000 AND amount < 5000) AS b3, count(*) FILTER (amount >= 5000 AND amount < 7000) AS b4, count(*) FILTER (amount >= 7000 AND amount < 9000) AS b5, count(*) FILTER (amount >= 9000) AS b6
  FROM events
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
    sum(events) OVER w90 AS present,
    sum(b0) OVER w7 AS b0_7d,
    sum(b0) OVER w30 AS b0_30d,
    sum(b0) OVER w90 AS b0_90d,
    sum(b1) OVER w7 AS b1_7d,
    sum(b1) OVER w30 AS b1_30d,
    sum(b1) OVER w90 AS b1_90d,
    sum(b2) OVER w7 AS b2_7d,
    sum(b2) OVER w30 AS b2_30d,
    sum(b2) OVER w90 AS b2_90d,
    sum(b3) OVER w7 AS b3_7d,
    sum(b3) OVER w30 AS b3_30d,
    sum(b3) OVER w90 AS b3_90d,
    sum(b4) OVER w7 AS b4_7d,
    sum(b4) OVER w30 AS b4_30d,
    sum(b4) OVER w90 AS b4_90d,
    sum(b5) OVER w7 AS b5_7d,
    sum(b5) OVER w30 AS b5_30d,
    sum(b5) OVER w90 AS b5_90d,
    sum(b6) OVER w7 AS b6_7d,
    sum(b6) OVER w30 AS b6_30d,
    sum(b6) OVER w90 AS b6_90d
  FROM grid
  LEFT JOIN tile USING (user_id, day)
  WINDOW
    w7 AS (PARTITION BY user_id ORDER BY day ROWS BETWEEN 7 PRECEDING AND 1 PRECEDING),
    w30 AS (PARTITION BY user_id ORDER BY day ROWS BETWEEN 30 PRECEDING AND 1 PRECEDING),
    w90 AS (PARTITION BY user_id ORDER BY day ROWS BETWEEN 90 PRECEDING AND 1 PRECEDING)
)
SELECT
  user_id,
  interval_end AS event_timestamp,
  CAST([coalesce(b0_7d, 0), coalesce(b1_7d, 0), coalesce(b2_7d, 0), coalesce(b3_7d, 0), coalesce(b4_7d, 0), coalesce(b5_7d, 0), coalesce(b6_7d, 0)] AS BIGINT[]) AS histogram_7d,
  CAST([coalesce(b0_30d, 0), coalesce(b1_30d, 0), coalesce(b2_30d, 0), coalesce(b3_30d, 0), coalesce(b4_30d, 0), coalesce(b5_30d, 0), coalesce(b6_30d, 0)] AS BIGINT[]) AS histogram_30d,
  CAST([coalesce(b0_90d, 0), coalesce(b1_90d, 0), coalesce(b2_90d, 0), coalesce(b3_90d, 0), coalesce(b4_90d, 0), coalesce(b5_90d, 0), coalesce(b6_90d, 0)] AS BIGINT[]) AS histogram_90d
FROM windowed
JOIN intervals ON epoch_us(interval_end) // 86400000000 = day
WHERE present > 0
