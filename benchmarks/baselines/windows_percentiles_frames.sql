-- The exact percentile within frames over the events, looked up only at the ends of intervals.
WITH person AS MATERIALIZED (
  SELECT user_id, CAST(row_number() OVER () AS INTEGER) AS k FROM (SELECT DISTINCT user_id FROM events)
),
value AS MATERIALIZED (SELECT k, epoch_us(event_time) AS instant, amount FROM events JOIN person USING (user_id)),
day AS (SELECT DISTINCT k, instant // 86400000000 AS day FROM value),
span AS (
  SELECT min(epoch_us(interval_end)) // 86400000000 AS first, max(epoch_us(interval_end)) // 86400000000 AS last FROM intervals
),
asked AS (
  SELECT k, unnest(range(greatest(day + 1, first), least(day + 91, later + 1, last + 1))) AS day
  FROM (SELECT k, day, lead(day) OVER (PARTITION BY k ORDER BY day) AS later FROM day), span
),
item AS (
  SELECT k, instant, amount, false AS asks FROM value
  UNION ALL
  SELECT k, day * 86400000000, NULL, true FROM asked
)
SELECT user_id, make_timestamptz(instant) AS event_timestamp, p7 AS approx_percentile_7d, p30 AS approx_percentile_30d,
  p90 AS approx_percentile_90d
FROM (
  SELECT k, instant, asks,
    quantile_disc(amount, 0.5) OVER (PARTITION BY k ORDER BY instant RANGE BETWEEN
      CASE WHEN asks THEN 604800000000 ELSE 0 END PRECEDING AND 1 PRECEDING) AS p7,
    quantile_disc(amount, 0.5) OVER (PARTITION BY k ORDER BY instant RANGE BETWEEN
      CASE WHEN asks THEN 2592000000000 ELSE 0 END PRECEDING AND 1 PRECEDING) AS p30,
    quantile_disc(amount, 0.5) OVER (PARTITION BY k ORDER BY instant RANGE BETWEEN
      CASE WHEN asks THEN 7776000000000 ELSE 0 END PRECEDING AND 1 PRECEDING) AS p90
  FROM item
)
JOIN person USING (k)
WHERE asks
