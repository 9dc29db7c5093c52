-- Running counts and sums over events and the edges of all windows; a window is a difference of two of them.
WITH mixed AS (
  SELECT user_id, event_time AS instant, NULL AS label, 1000 AS edge, amount FROM events
  UNION ALL SELECT user_id, event_timestamp AS instant, label, 0 AS edge, NULL AS amount FROM labels
  UNION ALL SELECT user_id, event_timestamp - INTERVAL 7 DAYS AS instant, label, 7 AS edge, NULL AS amount FROM labels
  UNION ALL SELECT user_id, event_timestamp - INTERVAL 30 DAYS AS instant, label, 30 AS edge, NULL AS amount FROM labels
  UNION ALL SELECT user_id, event_timestamp - INTERVAL 90 DAYS AS instant, label, 90 AS edge, NULL AS amount FROM labels
),
running AS (
  -- An edge comes before the events of its own instant.
  SELECT label, edge, count(amount) OVER w AS n, sum(amount) OVER w AS total
  FROM mixed
  WINDOW w AS (PARTITION BY user_id ORDER BY instant, edge ROWS UNBOUNDED PRECEDING)
),
wide AS (
  SELECT label,
    any_value(n) FILTER (edge = 0) AS c0, any_value(total) FILTER (edge = 0) AS t0, any_value(n) FILTER (edge = 7) AS c7, any_value(total) FILTER (edge = 7) AS t7, any_value(n) FILTER (edge = 30) AS c30, any_value(total) FILTER (edge = 30) AS t30, any_value(n) FILTER (edge = 90) AS c90, any_value(total) FILTER (edge = 90) AS t90
  FROM running
  WHERE label IS NOT NULL
  GROUP BY label
)
SELECT label,
  c0 - c7 AS n_7d, CASE WHEN c0 > c7 THEN coalesce(t0, 0) - coalesce(t7, 0) END AS total_7d, (coalesce(t0, 0) - coalesce(t7, 0)) / nullif(c0 - c7, 0) AS mean_7d, c0 - c30 AS n_30d, CASE WHEN c0 > c30 THEN coalesce(t0, 0) - coalesce(t30, 0) END AS total_30d, (coalesce(t0, 0) - coalesce(t30, 0)) / nullif(c0 - c30, 0) AS mean_30d, c0 - c90 AS n_90d, CASE WHEN c0 > c90 THEN coalesce(t0, 0) - coalesce(t90, 0) END AS total_90d, (coalesce(t0, 0) - coalesce(t90, 0)) / nullif(c0 - c90, 0) AS mean_90d
FROM wide
