-- Each label with all events of its longest window.
SELECT label,
  count(e.amount) FILTER (event_time >= l.event_timestamp - INTERVAL 7 DAYS) AS n_7d,
  count(e.amount) FILTER (event_time >= l.event_timestamp - INTERVAL 30 DAYS) AS n_30d,
  count(e.amount) AS n_90d,
  sum(e.amount) FILTER (event_time >= l.event_timestamp - INTERVAL 7 DAYS) AS total_7d,
  sum(e.amount) FILTER (event_time >= l.event_timestamp - INTERVAL 30 DAYS) AS total_30d,
  sum(e.amount) AS total_90d,
  avg(e.amount) FILTER (event_time >= l.event_timestamp - INTERVAL 7 DAYS) AS mean_7d,
  avg(e.amount) FILTER (event_time >= l.event_timestamp - INTERVAL 30 DAYS) AS mean_30d,
  avg(e.amount) AS mean_90d
FROM labels l
LEFT JOIN events e
  ON e.user_id = l.user_id AND e.event_time < l.event_timestamp AND e.event_time >= l.event_timestamp - INTERVAL 90 DAYS
GROUP BY label
