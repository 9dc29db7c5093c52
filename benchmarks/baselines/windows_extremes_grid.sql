-- Hand-written: day tiles, a dense grid, and ROWS frames of min and max.
WITH tile AS (
  SELECT user_id, epoch_us(event_time) // 86400000000 AS day, count(*) AS events,
    min(amount) AS lowest, max(amount) AS highest
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
    min(lowest) OVER w7 AS min_7d,
    min(lowest) OVER w30 AS min_30d,
    min(lowest) OVER w90 AS min_90d,
    max(highest) OVER w7 AS max_7d,
    max(highest) OVER w30 AS max_30d,
    max(highest) OVER w90 AS max_90d
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
  min_7d AS min_7d,
  min_30d AS min_30d,
  min_90d AS min_90d,
  max_7d AS max_7d,
  max_30d AS max_30d,
  max_90d AS max_90d
FROM windowed
JOIN intervals ON epoch_us(interval_end) // 86400000000 = day
WHERE present > 0
