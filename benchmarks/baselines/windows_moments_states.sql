-- Hand-written: day tiles of DuckDB's own states, combined in ROWS frames.
WITH tile AS (
  SELECT user_id, epoch_us(event_time) // 86400000000 AS day, count(*) AS events,
    var_samp(amount) EXPORT_STATE AS v, skewness(amount) EXPORT_STATE AS s
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
    finalize(combine_aggr(v) OVER w7) AS v_7d,
    finalize(combine_aggr(v) OVER w30) AS v_30d,
    finalize(combine_aggr(v) OVER w90) AS v_90d,
    finalize(combine_aggr(s) OVER w7) AS s_7d,
    finalize(combine_aggr(s) OVER w30) AS s_30d,
    finalize(combine_aggr(s) OVER w90) AS s_90d
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
  v_7d AS variance_7d,
  v_30d AS variance_30d,
  v_90d AS variance_90d,
  sqrt(v_7d) AS stddev_7d,
  sqrt(v_30d) AS stddev_30d,
  sqrt(v_90d) AS stddev_90d,
  s_7d AS skew_7d,
  s_30d AS skew_30d,
  s_90d AS skew_90d
FROM windowed
JOIN intervals ON epoch_us(interval_end) // 86400000000 = day
WHERE present > 0
