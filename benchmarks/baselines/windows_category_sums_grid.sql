-- A dense grid of days per user and category, and frames of rows over it.
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
  SELECT k, g, CAST(epoch_us(event_time) // 86400000000 AS INTEGER) AS day, CAST(count(*) AS INTEGER) AS n, sum(amount) AS a
  FROM events JOIN person USING (user_id) JOIN code USING (category) GROUP BY ALL
),
row AS (
  SELECT k, g, day, n, a, least(lead(day, 1, day + 90) OVER (PARTITION BY k, g ORDER BY day), day + 90, last) - day AS days,
    coalesce(day - lag(day) OVER (PARTITION BY k, g ORDER BY day) > 90, true) AS apart
  FROM tile, span
),
run AS (SELECT *, count(*) FILTER (apart) OVER (PARTITION BY k, g ORDER BY day) AS run FROM row),
cell AS (
  SELECT k, g, run, day + later AS day, CASE WHEN later = 0 THEN n END AS n, CASE WHEN later = 0 THEN a END AS a
  FROM (SELECT *, unnest(range(days)) AS later FROM run)
),
slid AS (
  SELECT k, g, day + 1 AS day,
    sum(n) OVER w7 AS n7, sum(a) OVER w7 AS a7,
    sum(n) OVER w30 AS n30, sum(a) OVER w30 AS a30,
    sum(n) OVER w90 AS n90, sum(a) OVER w90 AS a90
  FROM cell
  WINDOW
    w7 AS (PARTITION BY k, g, run ORDER BY day ROWS BETWEEN 6 PRECEDING AND CURRENT ROW),
    w30 AS (PARTITION BY k, g, run ORDER BY day ROWS BETWEEN 29 PRECEDING AND CURRENT ROW),
    w90 AS (PARTITION BY k, g, run ORDER BY day ROWS BETWEEN 89 PRECEDING AND CURRENT ROW)
)
SELECT
  user_id,
  make_timestamptz(day * 86400000000) AS event_timestamp,
  map_from_entries(list_transform(list_sort(m7), lambda x: {'key': names[x.g], 'value': x.a})) AS sum_7d,
  map_from_entries(list_transform(list_sort(m30), lambda x: {'key': names[x.g], 'value': x.a})) AS sum_30d,
  map_from_entries(list_transform(list_sort(m90), lambda x: {'key': names[x.g], 'value': x.a})) AS sum_90d
FROM (
  SELECT k, day,
    list({'g': g, 'a': a7}) FILTER (n7 > 0) AS m7,
    list({'g': g, 'a': a30}) FILTER (n30 > 0) AS m30,
    list({'g': g, 'a': a90}) FILTER (n90 > 0) AS m90
  FROM (SELECT slid.* FROM slid, span WHERE day >= first ORDER BY k, day)
  GROUP BY k, day
)
JOIN person USING (k)
CROSS JOIN (SELECT list(category ORDER BY g) AS names FROM code)
