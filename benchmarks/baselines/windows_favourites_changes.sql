-- Daily counts by what changes them, for whole days in UTC: a day counts from the next day's end on, until it leaves the window.
WITH person AS MATERIALIZED (
  SELECT user_id, CAST(row_number() OVER () AS INTEGER) AS k FROM (SELECT DISTINCT user_id FROM events)
),
span AS (
  SELECT min(epoch_us(interval_end)) // 86400000000 AS first, max(epoch_us(interval_end)) // 86400000000 AS last FROM intervals
),
code AS MATERIALIZED (
  SELECT category, CAST(row_number() OVER (ORDER BY category) AS INTEGER) AS g FROM (SELECT DISTINCT category FROM events)
),
tile AS MATERIALIZED (
  SELECT k, g, CAST(epoch_us(event_time) // 86400000000 AS INTEGER) AS day, CAST(count(*) AS INTEGER) AS n
  FROM events JOIN person USING (user_id) JOIN code USING (category) GROUP BY ALL
),
change AS (
  SELECT k, g, day, CAST(sum(c7) AS INTEGER) AS c7, CAST(sum(c30) AS INTEGER) AS c30, CAST(sum(c90) AS INTEGER) AS c90
  FROM (
    SELECT k, g, day + 1 AS day, n AS c7, n AS c30, n AS c90 FROM tile
    UNION ALL SELECT k, g, day + 8, -n AS c7, 0 AS c30, 0 AS c90 FROM tile
    UNION ALL SELECT k, g, day + 31, 0 AS c7, -n AS c30, 0 AS c90 FROM tile
    UNION ALL SELECT k, g, day + 91, 0 AS c7, 0 AS c30, -n AS c90 FROM tile
  ), span
  WHERE day <= last
  GROUP BY k, g, day
),
held AS (
  SELECT k, g, day, lead(day, 1, last + 1) OVER days AS until,
    CAST(sum(c7) OVER so_far AS INTEGER) AS c7, CAST(sum(c30) OVER so_far AS INTEGER) AS c30,
    CAST(sum(c90) OVER so_far AS INTEGER) AS c90
  FROM change, span
  WINDOW days AS (PARTITION BY k, g ORDER BY day), so_far AS (PARTITION BY k, g ORDER BY day ROWS UNBOUNDED PRECEDING)
),
cell AS (
  SELECT k, g, unnest(range(greatest(day, first), until)) AS day, c7, c30, c90 FROM held, span WHERE c90 > 0
)
SELECT
  user_id,
  make_timestamptz(day * 86400000000) AS event_timestamp,
  nullif(list_transform(t7, lambda x: names[1000000 - (x & 4294967295)]), []) AS top_k_7d,
  nullif(list_transform(t30, lambda x: names[1000000 - (x & 4294967295)]), []) AS top_k_30d,
  nullif(list_transform(t90, lambda x: names[1000000 - (x & 4294967295)]), []) AS top_k_90d
FROM (
  SELECT k, day,
    max((CAST(c7 AS BIGINT) << 32) + 1000000 - g, 3) FILTER (c7 > 0) AS t7,
    max((CAST(c30 AS BIGINT) << 32) + 1000000 - g, 3) FILTER (c30 > 0) AS t30,
    max((CAST(c90 AS BIGINT) << 32) + 1000000 - g, 3) FILTER (c90 > 0) AS t90
  FROM (SELECT * FROM cell ORDER BY k, day) GROUP BY k, day
)
JOIN person USING (k)
CROSS JOIN (SELECT list(category ORDER BY g) AS names FROM code)
