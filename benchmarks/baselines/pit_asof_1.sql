-- The features of one view as of each entity row: the newest row of the key by then.
SELECT s.*, v1.* EXCLUDE (user_id, event_timestamp)
FROM spine s
ASOF LEFT JOIN v1 ON s.user_id = v1.user_id AND s.event_timestamp >= v1.event_timestamp
