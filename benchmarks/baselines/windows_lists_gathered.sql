-- Hand-written: day tiles of ten values, ten values from each tile on gathered once, a dense grid, and the outermost tile of each frame.
WITH tile AS (
  SELECT user_id, epoch_us(event_time) // 86400000000 AS day, count(*) AS events,
    max_by(amount, event_time, 10) AS newest, min_by(amount, event_time, 10) AS oldest
  FROM events
  GROUP BY ALL
),
joined AS (
  SELECT
    user_id, day, events,
    flatten(list(newest) OVER (PARTITION BY user_id ORDER BY day DESC ROWS BETWEEN CURRENT ROW AND 9 FOLLOWING))[:10] AS before,
    flatten(list(oldest) OVER (PARTITION BY user_id ORDER BY day ROWS BETWEEN CURRENT ROW AND 9 FOLLOWING))[:10] AS after
  FROM tile
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
    last_value(before IGNORE NULLS) OVER w7 AS l_7d,
    last_value(before IGNORE NULLS) OVER w30 AS l_30d,
    last_value(before IGNORE NULLS) OVER w90 AS l_90d,
    first_value(after IGNORE NULLS) OVER w7 AS f_7d,
    first_value(after IGNORE NULLS) OVER w30 AS f_30d,
    first_value(after IGNORE NULLS) OVER w90 AS f_90d
  FROM grid
  LEFT JOIN joined USING (user_id, day)
  WINDOW
    w7 AS (PARTITION BY user_id ORDER BY day ROWS BETWEEN 7 PRECEDING AND 1 PRECEDING),
    w30 AS (PARTITION BY user_id ORDER BY day ROWS BETWEEN 30 PRECEDING AND 1 PRECEDING),
    w90 AS (PARTITION BY user_id ORDER BY day ROWS BETWEEN 90 PRECEDING AND 1 PRECEDING)
)
SELECT
  user_id,
  interval_end AS event_timestamp,
  CASE WHEN n_7d > 0 THEN l_7d[:least(n_7d, 10)] END AS last_k_7d,
  CASE WHEN n_30d > 0 THEN l_30d[:least(n_30d, 10)] END AS last_k_30d,
  CASE WHEN n_90d > 0 THEN l_90d[:least(n_90d, 10)] END AS last_k_90d,
  CASE WHEN n_7d > 0 THEN f_7d[:least(n_7d, 10)] END AS first_k_7d,
  CASE WHEN n_30d > 0 THEN f_30d[:least(n_30d, 10)] END AS first_k_30d,
  CASE WHEN n_90d > 0 THEN f_90d[:least(n_90d, 10)] END AS first_k_90d
FROM windowed
JOIN intervals ON epoch_us(interval_end) // 86400000000 = day
WHERE present > 0
