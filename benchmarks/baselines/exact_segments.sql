-- The edges of windows cut the time of each key into segments; events are added up by segment, windows slide over those.
WITH edge AS (
  SELECT DISTINCT user_id, instant FROM (SELECT user_id, event_timestamp AS instant FROM labels UNION ALL SELECT user_id, event_timestamp - INTERVAL 7 DAYS AS instant FROM labels UNION ALL SELECT user_id, event_timestamp - INTERVAL 30 DAYS AS instant FROM labels UNION ALL SELECT user_id, event_timestamp - INTERVAL 90 DAYS AS instant FROM labels)
),
segment AS (
  SELECT g.user_id, g.instant, count(*) AS n, sum(e.amount) AS total
  FROM events e
  ASOF JOIN edge g ON g.user_id = e.user_id AND e.event_time >= g.instant
  GROUP BY g.user_id, g.instant
),
slid AS (
  SELECT user_id, instant,
    sum(n) OVER w7 AS n_7d, sum(total) OVER w7 AS total_7d, sum(n) OVER w30 AS n_30d, sum(total) OVER w30 AS total_30d, sum(n) OVER w90 AS n_90d, sum(total) OVER w90 AS total_90d
  FROM edge
  LEFT JOIN segment USING (user_id, instant)
  WINDOW
    w7 AS (PARTITION BY user_id ORDER BY instant RANGE BETWEEN INTERVAL 7 DAYS PRECEDING AND INTERVAL 1 MICROSECOND PRECEDING), w30 AS (PARTITION BY user_id ORDER BY instant RANGE BETWEEN INTERVAL 30 DAYS PRECEDING AND INTERVAL 1 MICROSECOND PRECEDING), w90 AS (PARTITION BY user_id ORDER BY instant RANGE BETWEEN INTERVAL 90 DAYS PRECEDING AND INTERVAL 1 MICROSECOND PRECEDING)
)
SELECT label, coalesce(n_7d, 0) AS n_7d, total_7d, total_7d / nullif(n_7d, 0) AS mean_7d, coalesce(n_30d, 0) AS n_30d, total_30d, total_30d / nullif(n_30d, 0) AS mean_30d, coalesce(n_90d, 0) AS n_90d, total_90d, total_90d / nullif(n_90d, 0) AS mean_90d
FROM labels l
JOIN slid s ON s.user_id = l.user_id AND s.instant = l.event_timestamp
