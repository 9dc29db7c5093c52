-- Hand-written without a thought for speed: every interval joined with the events of its longest window.
SELECT
  user_id,
  interval_end AS event_timestamp,
  count(*) FILTER (event_time >= interval_end - INTERVAL 7 DAY) AS count_7d,
  count(*) FILTER (event_time >= interval_end - INTERVAL 30 DAY) AS count_30d,
  count(*) FILTER (event_time >= interval_end - INTERVAL 90 DAY) AS count_90d,
  sum(amount) FILTER (event_time >= interval_end - INTERVAL 7 DAY) AS sum_7d,
  sum(amount) FILTER (event_time >= interval_end - INTERVAL 30 DAY) AS sum_30d,
  sum(amount) FILTER (event_time >= interval_end - INTERVAL 90 DAY) AS sum_90d,
  avg(amount) FILTER (event_time >= interval_end - INTERVAL 7 DAY) AS avg_7d,
  avg(amount) FILTER (event_time >= interval_end - INTERVAL 30 DAY) AS avg_30d,
  avg(amount) FILTER (event_time >= interval_end - INTERVAL 90 DAY) AS avg_90d
FROM events
JOIN intervals ON event_time >= interval_end - INTERVAL 90 DAY AND event_time < interval_end
GROUP BY user_id, interval_end
