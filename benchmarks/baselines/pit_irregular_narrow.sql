-- The ASOF join of keys and times alone; the features of what it found are fetched afterwards.
WITH newest AS (
  SELECT s.*, e.event_timestamp AS found_at
  FROM spine s
  ASOF LEFT JOIN (SELECT user_id, event_timestamp FROM e1) e
    ON s.user_id = e.user_id AND s.event_timestamp >= e.event_timestamp
)
SELECT n.* EXCLUDE (found_at), e1.* EXCLUDE (user_id, event_timestamp)
FROM newest n
LEFT JOIN e1 ON n.user_id = e1.user_id AND n.found_at = e1.event_timestamp
