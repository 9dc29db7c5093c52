-- The newest event of the key by each entity row's time, features and all.
SELECT s.*, e1.* EXCLUDE (user_id, event_timestamp)
FROM spine s
ASOF LEFT JOIN e1 ON s.user_id = e1.user_id AND s.event_timestamp >= e1.event_timestamp
