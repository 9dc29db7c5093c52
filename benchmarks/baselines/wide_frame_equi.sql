-- Ten views of a hundred features each, by whoever knows that each of them has a row per key and day.
SELECT s.* EXCLUDE (day), v1.* EXCLUDE (user_id, event_timestamp),
  v2.* EXCLUDE (user_id, event_timestamp),
  v3.* EXCLUDE (user_id, event_timestamp),
  v4.* EXCLUDE (user_id, event_timestamp),
  v5.* EXCLUDE (user_id, event_timestamp),
  v6.* EXCLUDE (user_id, event_timestamp),
  v7.* EXCLUDE (user_id, event_timestamp),
  v8.* EXCLUDE (user_id, event_timestamp),
  v9.* EXCLUDE (user_id, event_timestamp),
  v10.* EXCLUDE (user_id, event_timestamp)
FROM (SELECT *, date_trunc('day', event_timestamp) AS day FROM spine) s
LEFT JOIN v1 ON v1.user_id = s.user_id AND v1.event_timestamp = s.day
LEFT JOIN v2 ON v2.user_id = s.user_id AND v2.event_timestamp = s.day
LEFT JOIN v3 ON v3.user_id = s.user_id AND v3.event_timestamp = s.day
LEFT JOIN v4 ON v4.user_id = s.user_id AND v4.event_timestamp = s.day
LEFT JOIN v5 ON v5.user_id = s.user_id AND v5.event_timestamp = s.day
LEFT JOIN v6 ON v6.user_id = s.user_id AND v6.event_timestamp = s.day
LEFT JOIN v7 ON v7.user_id = s.user_id AND v7.event_timestamp = s.day
LEFT JOIN v8 ON v8.user_id = s.user_id AND v8.event_timestamp = s.day
LEFT JOIN v9 ON v9.user_id = s.user_id AND v9.event_timestamp = s.day
LEFT JOIN v10 ON v10.user_id = s.user_id AND v10.event_timestamp = s.day
