-- A hash join on the key: each entity row keeps its newest event.
WITH numbered AS (SELECT *, row_number() OVER () AS position FROM spine),
newest AS (
  SELECT s.position AS place, arg_max(e1, e1.event_timestamp) AS event
  FROM numbered s
  JOIN e1 ON s.user_id = e1.user_id AND s.event_timestamp >= e1.event_timestamp
  GROUP BY s.position
),
unpacked AS (SELECT place, unnest(event) FROM newest)
SELECT s.* EXCLUDE (position), n.* EXCLUDE (place, user_id, event_timestamp)
FROM numbered s
LEFT JOIN unpacked n ON n.place = s.position
