-- Hand-written: day tiles weighed at one instant (as long as a float64 holds it), a dense grid, and ROWS frames of sums.
WITH tile AS (
  SELECT user_id, epoch_us(event_time) // 86400000000 AS day, count(*) AS events,
    sum(amount * 2.0 ** ((epoch_us(event_time) - 1735689600000000) / 604800000000.0)) AS weighed
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
    sum(weighed) OVER w7 AS weighed_7d,
    sum(weighed) OVER w30 AS weighed_30d,
    sum(weighed) OVER w90 AS weighed_90d
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
  weighed_7d * 2.0 ** (-(epoch_us(interval_end) - 1735689600000000) / 604800000000.0) AS decayed_sum_7d,
  weighed_30d * 2.0 ** (-(epoch_us(interval_end) - 1735689600000000) / 604800000000.0) AS decayed_sum_30d,
  weighed_90d * 2.0 ** (-(epoch_us(interval_end) - 1735689600000000) / 604800000000.0) AS decayed_sum_90d
FROM windowed
JOIN intervals ON epoch_us(interval_end) // 86400000000 = day
WHERE present > 0
