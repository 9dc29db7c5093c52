-- Daily counts by what changes them, for whole days in UTC: a day of a value counts from the next day's end on, until it leaves the window.
WITH person AS MATERIALIZED (
  SELECT user_id, CAST(row_number() OVER () AS INTEGER) AS k FROM (SELECT DISTINCT user_id FROM events)
),
span AS (
  SELECT min(epoch_us(interval_end)) // 86400000000 AS first, max(epoch_us(interval_end)) // 86400000000 AS last FROM intervals
),
tile AS (
  SELECT k, item, CAST(epoch_us(event_time) // 86400000000 AS INTEGER) AS day FROM events JOIN person USING (user_id) GROUP BY ALL
),
seen AS MATERIALIZED (
  SELECT k, day, lag(day) OVER days AS older, lead(day) OVER days IS NULL AS newest
  FROM tile WINDOW days AS (PARTITION BY k, item ORDER BY day)
),
move AS MATERIALIZED (
  SELECT k, day, older FROM seen WHERE older IS NULL OR day - older > 7
  UNION ALL SELECT k, NULL, day FROM seen WHERE newest
),
change AS (
  SELECT k, day, CAST(sum(c7) AS INTEGER) AS c7, CAST(sum(c30) AS INTEGER) AS c30, CAST(sum(c90) AS INTEGER) AS c90
  FROM (
    SELECT k, day + 1 AS day, 1 AS c7, 0 AS c30, 0 AS c90 FROM move WHERE day IS NOT NULL AND (older IS NULL OR day - older > 7)
    UNION ALL
    SELECT k, older + 8 AS day, -1 AS c7, 0 AS c30, 0 AS c90 FROM move WHERE older IS NOT NULL AND (day IS NULL OR day - older > 7)
    UNION ALL
    SELECT k, day + 1 AS day, 0 AS c7, 1 AS c30, 0 AS c90 FROM move WHERE day IS NOT NULL AND (older IS NULL OR day - older > 30)
    UNION ALL
    SELECT k, older + 31 AS day, 0 AS c7, -1 AS c30, 0 AS c90 FROM move WHERE older IS NOT NULL AND (day IS NULL OR day - older > 30)
    UNION ALL
    SELECT k, day + 1 AS day, 0 AS c7, 0 AS c30, 1 AS c90 FROM move WHERE day IS NOT NULL AND (older IS NULL OR day - older > 90)
    UNION ALL
    SELECT k, older + 91 AS day, 0 AS c7, 0 AS c30, -1 AS c90 FROM move WHERE older IS NOT NULL AND (day IS NULL OR day - older > 90)
  ), span
  WHERE day <= last
  GROUP BY k, day
),
held AS (
  SELECT k, day, lead(day, 1, last + 1) OVER days AS until,
    sum(c7) OVER so_far AS c7, sum(c30) OVER so_far AS c30, sum(c90) OVER so_far AS c90
  FROM change, span
  WINDOW days AS (PARTITION BY k ORDER BY day), so_far AS (PARTITION BY k ORDER BY day ROWS UNBOUNDED PRECEDING)
)
SELECT
  user_id,
  make_timestamptz(day * 86400000000) AS event_timestamp,
  CAST(c7 AS BIGINT) AS approx_count_distinct_7d, CAST(c30 AS BIGINT) AS approx_count_distinct_30d, CAST(c90 AS BIGINT) AS approx_count_distinct_90d
FROM (SELECT k, unnest(range(greatest(day, first), until)) AS day, c7, c30, c90 FROM held, span WHERE c90 > 0)
JOIN person USING (k)
