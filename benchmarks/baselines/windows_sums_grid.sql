-- Hand-written: day tiles, a dense grid, and ROWS frames of sums.
WITH tile AS (
  SELECT user_id, epoch_us(event_time) // 86400000000 AS day, count(*) AS events,
    sum(amount) AS amount
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
    sum(events) OVER w7 AS n_7d,
    sum(events) OVER w30 AS n_30d,
    sum(events) OVER w90 AS n_90d,
    sum(amount) OVER w7 AS s_7d,
    sum(amount) OVER w30 AS s_30d,
    sum(amount) OVER w90 AS s_90d
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
  CAST(coalesce(n_7d, 0) AS BIGINT) AS count_7d,
  CAST(coalesce(n_30d, 0) AS BIGINT) AS count_30d,
  CAST(coalesce(n_90d, 0) AS BIGINT) AS count_90d,
  s_7d AS sum_7d,
  s_30d AS sum_30d,
  s_90d AS sum_90d,
  s_7d / n_7d AS avg_7d,
  s_30d / n_30d AS avg_30d,
  s_90d / n_90d AS avg_90d
FROM windowed
JOIN intervals ON epoch_us(interval_end) // 86400000000 = day
WHERE present > 0
