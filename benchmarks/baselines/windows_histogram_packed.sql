-- Hand-written: day tiles whose counters share 128-bit integers, a dense grid, and ROWS frames of sums.
WITH tile AS (
  SELECT user_id, epoch_us(event_time) // 86400000000 AS day, count(*) AS events,
    (count(*) FILTER (amount < 1000)::HUGEINT << 0) + (count(*) FILTER (amount >= 1000 AND amount < 2000)::HUGEINT << 42) + (count(*) FILTER (amount >= 2000 AND amount < 3000)::HUGEINT << 84) AS q0, (count(*) FILTER (amount >= 3000 AND amount < 5000)::HUGEINT << 0) + (count(*) FILTER (amount >= 5000 AND amount < 7000)::HUGEINT << 42) + (count(*) FILTER (amount >= 7000 AND amount < 9000)::HUGEINT << 84) AS q1, (count(*) FILTER (amount >= 9000)::HUGEINT << 0) AS q2
  FROM events
  GROUP BY ALL
),
grid AS (
  SELECT user_id, day
  FROM (SELECT DISTINCT user_id FROM tile)
  CROSS JOIN (
    SELECT unnest(range(min(epoch_us(interval_end)) // 86400000000 - 90, max(epoch_us(interval_end)) // 86400000000 + 1)) AS day
    FROM intervals
  )
),
windowed AS (
  SELECT
    user_id,
    day,
    sum(events) OVER w90 AS present,
    sum(q0) OVER w7 AS q0_7d,
    sum(q0) OVER w30 AS q0_30d,
    sum(q0) OVER w90 AS q0_90d,
    sum(q1) OVER w7 AS q1_7d,
    sum(q1) OVER w30 AS q1_30d,
    sum(q1) OVER w90 AS q1_90d,
    sum(q2) OVER w7 AS q2_7d,
    sum(q2) OVER w30 AS q2_30d,
    sum(q2) OVER w90 AS q2_90d
  FROM grid
  LEFT JOIN tile USING (user_id, day)
  WINDOW
    w7 AS (PARTITION BY user_id ORDER BY day ROWS BETWEEN 7 PRECEDING AND 1 PRECEDING),
    w30 AS (PARTITION BY user_id ORDER BY day ROWS BETWEEN 30 PRECEDING AND 1 PRECEDING),
    w90 AS (PARTITION BY user_id ORDER BY day ROWS BETWEEN 90 PRECEDING AND 1 PRECEDING)
)
SELECT
  user_id,
  interval_end AS event_timestamp,
  CAST([coalesce((q0_7d >> 0) & 4398046511103, 0), coalesce((q0_7d >> 42) & 4398046511103, 0), coalesce((q0_7d >> 84) & 4398046511103, 0), coalesce((q1_7d >> 0) & 4398046511103, 0), coalesce((q1_7d >> 42) & 4398046511103, 0), coalesce((q1_7d >> 84) & 4398046511103, 0), coalesce((q2_7d >> 0) & 4398046511103, 0)] AS BIGINT[]) AS histogram_7d,
  CAST([coalesce((q0_30d >> 0) & 4398046511103, 0), coalesce((q0_30d >> 42) & 4398046511103, 0), coalesce((q0_30d >> 84) & 4398046511103, 0), coalesce((q1_30d >> 0) & 4398046511103, 0), coalesce((q1_30d >> 42) & 4398046511103, 0), coalesce((q1_30d >> 84) & 4398046511103, 0), coalesce((q2_30d >> 0) & 4398046511103, 0)] AS BIGINT[]) AS histogram_30d,
  CAST([coalesce((q0_90d >> 0) & 4398046511103, 0), coalesce((q0_90d >> 42) & 4398046511103, 0), coalesce((q0_90d >> 84) & 4398046511103, 0), coalesce((q1_90d >> 0) & 4398046511103, 0), coalesce((q1_90d >> 42) & 4398046511103, 0), coalesce((q1_90d >> 84) & 4398046511103, 0), coalesce((q2_90d >> 0) & 4398046511103, 0)] AS BIGINT[]) AS histogram_90d
FROM windowed
JOIN intervals ON epoch_us(interval_end) // 86400000000 = day
WHERE present > 0
