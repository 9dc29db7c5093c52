-- The same for three views.
SELECT s.*,
  v1.* EXCLUDE (user_id, event_timestamp), v2.* EXCLUDE (user_id, event_timestamp), v3.* EXCLUDE (user_id, event_timestamp)
FROM spine s
ASOF LEFT JOIN v1 ON s.user_id = v1.user_id AND s.event_timestamp >= v1.event_timestamp
ASOF LEFT JOIN v2 ON s.user_id = v2.user_id AND s.event_timestamp >= v2.event_timestamp
ASOF LEFT JOIN v3 ON s.user_id = v3.user_id AND s.event_timestamp >= v3.event_timestamp
