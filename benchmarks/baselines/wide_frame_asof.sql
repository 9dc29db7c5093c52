-- Ten views of a hundred features each: the newest row of the key by each entity row's time.
SELECT s.*, v1.* EXCLUDE (user_id, event_timestamp),
  v2.* EXCLUDE (user_id, event_timestamp),
  v3.* EXCLUDE (user_id, event_timestamp),
  v4.* EXCLUDE (user_id, event_timestamp),
  v5.* EXCLUDE (user_id, event_timestamp),
  v6.* EXCLUDE (user_id, event_timestamp),
  v7.* EXCLUDE (user_id, event_timestamp),
  v8.* EXCLUDE (user_id, event_timestamp),
  v9.* EXCLUDE (user_id, event_timestamp),
  v10.* EXCLUDE (user_id, event_timestamp)
FROM spine s
ASOF LEFT JOIN v1 ON s.user_id = v1.user_id AND s.event_timestamp >= v1.event_timestamp
ASOF LEFT JOIN v2 ON s.user_id = v2.user_id AND s.event_timestamp >= v2.event_timestamp
ASOF LEFT JOIN v3 ON s.user_id = v3.user_id AND s.event_timestamp >= v3.event_timestamp
ASOF LEFT JOIN v4 ON s.user_id = v4.user_id AND s.event_timestamp >= v4.event_timestamp
ASOF LEFT JOIN v5 ON s.user_id = v5.user_id AND s.event_timestamp >= v5.event_timestamp
ASOF LEFT JOIN v6 ON s.user_id = v6.user_id AND s.event_timestamp >= v6.event_timestamp
ASOF LEFT JOIN v7 ON s.user_id = v7.user_id AND s.event_timestamp >= v7.event_timestamp
ASOF LEFT JOIN v8 ON s.user_id = v8.user_id AND s.event_timestamp >= v8.event_timestamp
ASOF LEFT JOIN v9 ON s.user_id = v9.user_id AND s.event_timestamp >= v9.event_timestamp
ASOF LEFT JOIN v10 ON s.user_id = v10.user_id AND s.event_timestamp >= v10.event_timestamp
