-- Daily counts on a dense grid of days per user and category, and frames of rows over it. Counts of a user's day are sorted together
-- before the greatest are looked for: what looks for them holds its memory until the query ends.
WITH person AS MATERIALIZED (
  SELECT user_id, CAST(row_number() OVER () AS INTEGER) AS k FROM (SELECT DISTINCT user_id FROM events)
),
span AS (
  SELECT CAST(min(epoch_us(interval_end)) // 86400000000 AS INTEGER) AS first,
    CAST(max(epoch_us(interval_end)) // 86400000000 AS INTEGER) AS last
  FROM intervals
),
code AS MATERIALIZED (
  SELECT category, CAST(row_number() OVER (ORDER BY category) AS INTEGER) AS g FROM (SELECT DISTINCT category FROM events)
),
tile AS (
  SELECT k, g, CAST(epoch_us(event_time) // 86400000000 AS INTEGER) AS day, CAST(count(*) AS INTEGER) AS n
  FROM events JOIN person USING (user_id) JOIN code USING (category) GROUP BY ALL
),
grid AS (
  SELECT k, g, CAST(day AS INTEGER) AS day
  FROM (SELECT DISTINCT k, g FROM tile), (SELECT unnest(range(first - 90, last)) AS day FROM span)
),
slid AS (
  SELECT k, g, day + 1 AS day,
    CAST(sum(n) OVER (PARTITION BY k, g ORDER BY day ROWS BETWEEN 6 PRECEDING AND CURRENT ROW) AS INTEGER) AS c7,
    CAST(sum(n) OVER (PARTITION BY k, g ORDER BY day ROWS BETWEEN 29 PRECEDING AND CURRENT ROW) AS INTEGER) AS c30,
    CAST(sum(n) OVER (PARTITION BY k, g ORDER BY day ROWS BETWEEN 89 PRECEDING AND CURRENT ROW) AS INTEGER) AS c90
  FROM grid LEFT JOIN tile USING (k, g, day)
)
SELECT
  user_id,
  make_timestamptz(day * 86400000000) AS event_timestamp,
  nullif(list_transform(t7, lambda x: names[1023 - (x & 1023)]), []) AS top_k_7d,
  nullif(list_transform(t30, lambda x: names[1023 - (x & 1023)]), []) AS top_k_30d,
  nullif(list_transform(t90, lambda x: names[1023 - (x & 1023)]), []) AS top_k_90d
FROM (
  SELECT k, day,
    max(CAST(c7 AS BIGINT) * 1024 + 1023 - g, 3) FILTER (c7 > 0) AS t7,
    max(CAST(c30 AS BIGINT) * 1024 + 1023 - g, 3) FILTER (c30 > 0) AS t30,
    max(CAST(c90 AS BIGINT) * 1024 + 1023 - g, 3) AS t90
  FROM (SELECT slid.* FROM slid, span WHERE day >= first AND c90 > 0 ORDER BY k, day)
  GROUP BY k, day
)
JOIN person USING (k)
CROSS JOIN (SELECT list(category ORDER BY g) AS names FROM code)
