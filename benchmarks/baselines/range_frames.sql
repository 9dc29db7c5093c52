-- Hand-written: day tiles and the wanted rows in one relation, and RANGE frames over the days; no grid.
WITH tile AS (
  SELECT user_id, epoch_us(event_time) // 86400000000 AS day, count(*) AS events, sum(amount) AS amount
  FROM events
  GROUP BY ALL
),
together AS (
  SELECT user_id, day, events, amount, CAST(NULL AS TIMESTAMP WITH TIME ZONE) AS interval_end
  FROM tile
  UNION ALL
  SELECT user_id, epoch_us(interval_end) // 86400000000, NULL, NULL, interval_end
  FROM (SELECT DISTINCT user_id FROM tile)
  CROSS JOIN intervals
),
windowed AS (
  SELECT
    user_id,
    interval_end,
    sum(events) OVER w7 AS count_7d, sum(events) OVER w30 AS count_30d, sum(events) OVER w90 AS count_90d,
    sum(amount) OVER w7 AS sum_7d, sum(amount) OVER w30 AS sum_30d, sum(amount) OVER w90 AS sum_90d
  FROM together
  WINDOW
    w7 AS (PARTITION BY user_id ORDER BY day RANGE BETWEEN 7 PRECEDING AND 1 PRECEDING),
    w30 AS (PARTITION BY user_id ORDER BY day RANGE BETWEEN 30 PRECEDING AND 1 PRECEDING),
    w90 AS (PARTITION BY user_id ORDER BY day RANGE BETWEEN 90 PRECEDING AND 1 PRECEDING)
)
SELECT
  user_id,
  interval_end AS event_timestamp,
  CAST(coalesce(count_7d, 0) AS BIGINT) AS count_7d,
  CAST(coalesce(count_30d, 0) AS BIGINT) AS count_30d,
  CAST(count_90d AS BIGINT) AS count_90d,
  sum_7d, sum_30d, sum_90d,
  sum_7d / count_7d AS avg_7d, sum_30d / count_30d AS avg_30d, sum_90d / count_90d AS avg_90d
FROM windowed
WHERE interval_end IS NOT NULL AND count_90d > 0
