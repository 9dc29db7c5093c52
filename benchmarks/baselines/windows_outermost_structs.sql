-- Hand-written: day tiles, a dense grid, and the first and last tile of each frame. Ties of time go to the greatest amount.
WITH tile AS (
  SELECT user_id, epoch_us(event_time) // 86400000000 AS day, count(*) AS events,
    arg_max(amount, {t: -epoch_us(event_time), v: amount}) AS oldest, arg_max(amount, {t: epoch_us(event_time), v: amount}) AS newest
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
    first_value(oldest IGNORE NULLS) OVER w7 AS first_7d,
    first_value(oldest IGNORE NULLS) OVER w30 AS first_30d,
    first_value(oldest IGNORE NULLS) OVER w90 AS first_90d,
    last_value(newest IGNORE NULLS) OVER w7 AS last_7d,
    last_value(newest IGNORE NULLS) OVER w30 AS last_30d,
    last_value(newest IGNORE NULLS) OVER w90 AS last_90d
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
  first_7d AS first_7d,
  first_30d AS first_30d,
  first_90d AS first_90d,
  last_7d AS last_7d,
  last_30d AS last_30d,
  last_90d AS last_90d
FROM windowed
JOIN intervals ON epoch_us(interval_end) // 86400000000 = day
WHERE present > 0
