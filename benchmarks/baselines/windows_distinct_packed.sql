-- Daily counts by what changes them: values and days sorted as one number, a dense grid of how many come and go, running sums of both.
WITH person AS MATERIALIZED (
  SELECT user_id, CAST(row_number() OVER () AS INTEGER) AS k FROM (SELECT DISTINCT user_id FROM events)
),
tile AS (
  SELECT k, item, CAST(epoch_us(event_time) // 86400000000 AS INTEGER) AS day FROM events JOIN person USING (user_id) GROUP BY ALL
),
turn AS MATERIALIZED (
  SELECT k, day,
    CAST(count(*) - count(CASE WHEN since <= 7 THEN 1 END) AS INTEGER) AS came7,
    CAST(count(*) - count(CASE WHEN since <= 30 THEN 1 END) AS INTEGER) AS came30,
    CAST(count(*) - count(CASE WHEN since <= 90 THEN 1 END) AS INTEGER) AS came90,
    CAST(count(*) - count(CASE WHEN until <= 7 THEN 1 END) AS INTEGER) AS gone7,
    CAST(count(*) - count(CASE WHEN until <= 30 THEN 1 END) AS INTEGER) AS gone30,
    CAST(count(*) - count(CASE WHEN until <= 90 THEN 1 END) AS INTEGER) AS gone90
  FROM (
    SELECT k, day, x - lag(x) OVER days AS since, lead(x) OVER days - x AS until
    FROM (SELECT k, day, CAST(item AS BIGINT) * 1000000 + day AS x FROM tile) WINDOW days AS (PARTITION BY k ORDER BY x)
  )
  GROUP BY k, day
),
grid AS (
  SELECT k, day
  FROM person
  CROSS JOIN (
    SELECT
      CAST(unnest(range(min(epoch_us(interval_end)) // 86400000000 - 90, max(epoch_us(interval_end)) // 86400000000 + 1)) AS INTEGER) AS day
    FROM intervals
  )
),
windowed AS (
  SELECT k, day,
    sum(came7) OVER came - coalesce(sum(gone7) OVER g7, 0) AS c7,
    sum(came30) OVER came - coalesce(sum(gone30) OVER g30, 0) AS c30,
    sum(came90) OVER came - coalesce(sum(gone90) OVER g90, 0) AS c90
  FROM grid LEFT JOIN turn USING (k, day)
  WINDOW came AS (PARTITION BY k ORDER BY day ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING),
    g7 AS (PARTITION BY k ORDER BY day ROWS BETWEEN UNBOUNDED PRECEDING AND 8 PRECEDING),
    g30 AS (PARTITION BY k ORDER BY day ROWS BETWEEN UNBOUNDED PRECEDING AND 31 PRECEDING),
    g90 AS (PARTITION BY k ORDER BY day ROWS BETWEEN UNBOUNDED PRECEDING AND 91 PRECEDING)
)
SELECT
  user_id, interval_end AS event_timestamp,
  CAST(c7 AS BIGINT) AS count_distinct_7d, CAST(c30 AS BIGINT) AS count_distinct_30d, CAST(c90 AS BIGINT) AS count_distinct_90d
FROM windowed
JOIN intervals ON epoch_us(interval_end) // 86400000000 = day
JOIN person USING (k)
WHERE c90 > 0
