-- Written for this data alone: 20 categories, a column each, and no amount is null. A dense grid of days per user, and frames
-- of rows over 20 columns; a sum is null where a window has no event of the category, which is seldom.
WITH code AS MATERIALIZED (
  SELECT category, CAST(row_number() OVER (ORDER BY category) - 1 AS INTEGER) AS g FROM (SELECT DISTINCT category FROM events)
),
span AS (
  SELECT
    CAST(min(epoch_us(interval_end)) // 86400000000 AS INTEGER) AS first,
    CAST(max(epoch_us(interval_end)) // 86400000000 AS INTEGER) AS last
  FROM intervals
),
tile AS (
  SELECT
    user_id, CAST(epoch_us(event_time) // 86400000000 AS INTEGER) AS day,
    sum(amount) FILTER (g = 0) AS a0, sum(amount) FILTER (g = 1) AS a1, sum(amount) FILTER (g = 2) AS a2,
    sum(amount) FILTER (g = 3) AS a3, sum(amount) FILTER (g = 4) AS a4, sum(amount) FILTER (g = 5) AS a5,
    sum(amount) FILTER (g = 6) AS a6, sum(amount) FILTER (g = 7) AS a7, sum(amount) FILTER (g = 8) AS a8,
    sum(amount) FILTER (g = 9) AS a9, sum(amount) FILTER (g = 10) AS a10, sum(amount) FILTER (g = 11) AS a11,
    sum(amount) FILTER (g = 12) AS a12, sum(amount) FILTER (g = 13) AS a13, sum(amount) FILTER (g = 14) AS a14,
    sum(amount) FILTER (g = 15) AS a15, sum(amount) FILTER (g = 16) AS a16, sum(amount) FILTER (g = 17) AS a17,
    sum(amount) FILTER (g = 18) AS a18, sum(amount) FILTER (g = 19) AS a19
  FROM events JOIN code USING (category)
  GROUP BY ALL
),
grid AS (
  SELECT user_id, CAST(day AS INTEGER) AS day
  FROM (SELECT DISTINCT user_id FROM tile), (SELECT unnest(range(first - 90, last)) AS day FROM span)
),
slid AS (
  SELECT
    user_id, day + 1 AS day,
    sum(a0) OVER w7 AS w7_0, sum(a1) OVER w7 AS w7_1, sum(a2) OVER w7 AS w7_2,
    sum(a3) OVER w7 AS w7_3, sum(a4) OVER w7 AS w7_4, sum(a5) OVER w7 AS w7_5,
    sum(a6) OVER w7 AS w7_6, sum(a7) OVER w7 AS w7_7, sum(a8) OVER w7 AS w7_8,
    sum(a9) OVER w7 AS w7_9, sum(a10) OVER w7 AS w7_10, sum(a11) OVER w7 AS w7_11,
    sum(a12) OVER w7 AS w7_12, sum(a13) OVER w7 AS w7_13, sum(a14) OVER w7 AS w7_14,
    sum(a15) OVER w7 AS w7_15, sum(a16) OVER w7 AS w7_16, sum(a17) OVER w7 AS w7_17,
    sum(a18) OVER w7 AS w7_18, sum(a19) OVER w7 AS w7_19, sum(a0) OVER w30 AS w30_0,
    sum(a1) OVER w30 AS w30_1, sum(a2) OVER w30 AS w30_2, sum(a3) OVER w30 AS w30_3,
    sum(a4) OVER w30 AS w30_4, sum(a5) OVER w30 AS w30_5, sum(a6) OVER w30 AS w30_6,
    sum(a7) OVER w30 AS w30_7, sum(a8) OVER w30 AS w30_8, sum(a9) OVER w30 AS w30_9,
    sum(a10) OVER w30 AS w30_10, sum(a11) OVER w30 AS w30_11, sum(a12) OVER w30 AS w30_12,
    sum(a13) OVER w30 AS w30_13, sum(a14) OVER w30 AS w30_14, sum(a15) OVER w30 AS w30_15,
    sum(a16) OVER w30 AS w30_16, sum(a17) OVER w30 AS w30_17, sum(a18) OVER w30 AS w30_18,
    sum(a19) OVER w30 AS w30_19, sum(a0) OVER w90 AS w90_0, sum(a1) OVER w90 AS w90_1,
    sum(a2) OVER w90 AS w90_2, sum(a3) OVER w90 AS w90_3, sum(a4) OVER w90 AS w90_4,
    sum(a5) OVER w90 AS w90_5, sum(a6) OVER w90 AS w90_6, sum(a7) OVER w90 AS w90_7,
    sum(a8) OVER w90 AS w90_8, sum(a9) OVER w90 AS w90_9, sum(a10) OVER w90 AS w90_10,
    sum(a11) OVER w90 AS w90_11, sum(a12) OVER w90 AS w90_12, sum(a13) OVER w90 AS w90_13,
    sum(a14) OVER w90 AS w90_14, sum(a15) OVER w90 AS w90_15, sum(a16) OVER w90 AS w90_16,
    sum(a17) OVER w90 AS w90_17, sum(a18) OVER w90 AS w90_18, sum(a19) OVER w90 AS w90_19
  FROM grid LEFT JOIN tile USING (user_id, day)
  WINDOW
    w7 AS (PARTITION BY user_id ORDER BY day ROWS BETWEEN 6 PRECEDING AND CURRENT ROW),
    w30 AS (PARTITION BY user_id ORDER BY day ROWS BETWEEN 29 PRECEDING AND CURRENT ROW),
    w90 AS (PARTITION BY user_id ORDER BY day ROWS BETWEEN 89 PRECEDING AND CURRENT ROW)
)
SELECT
  user_id,
  make_timestamptz(day * 86400000000) AS event_timestamp,
  CASE
    WHEN NOT list_contains(list_transform([
      w7_0, w7_1, w7_2, w7_3, w7_4, w7_5, w7_6, w7_7, w7_8, w7_9,
      w7_10, w7_11, w7_12, w7_13, w7_14, w7_15, w7_16, w7_17, w7_18, w7_19
    ], lambda a: a IS NULL), true) THEN map(names, [
      w7_0, w7_1, w7_2, w7_3, w7_4, w7_5, w7_6, w7_7, w7_8, w7_9,
      w7_10, w7_11, w7_12, w7_13, w7_14, w7_15, w7_16, w7_17, w7_18, w7_19
    ])
    WHEN coalesce(
      w7_0, w7_1, w7_2, w7_3, w7_4, w7_5, w7_6, w7_7, w7_8, w7_9,
      w7_10, w7_11, w7_12, w7_13, w7_14, w7_15, w7_16, w7_17, w7_18, w7_19
    ) IS NOT NULL THEN map(
      list_where(names, list_transform([
      w7_0, w7_1, w7_2, w7_3, w7_4, w7_5, w7_6, w7_7, w7_8, w7_9,
      w7_10, w7_11, w7_12, w7_13, w7_14, w7_15, w7_16, w7_17, w7_18, w7_19
    ], lambda a: a IS NOT NULL)), list_filter([
      w7_0, w7_1, w7_2, w7_3, w7_4, w7_5, w7_6, w7_7, w7_8, w7_9,
      w7_10, w7_11, w7_12, w7_13, w7_14, w7_15, w7_16, w7_17, w7_18, w7_19
    ], lambda a: a IS NOT NULL)
    )
  END AS sum_7d,
  CASE
    WHEN NOT list_contains(list_transform([
      w30_0, w30_1, w30_2, w30_3, w30_4, w30_5, w30_6, w30_7, w30_8, w30_9,
      w30_10, w30_11, w30_12, w30_13, w30_14, w30_15, w30_16, w30_17, w30_18, w30_19
    ], lambda a: a IS NULL), true) THEN map(names, [
      w30_0, w30_1, w30_2, w30_3, w30_4, w30_5, w30_6, w30_7, w30_8, w30_9,
      w30_10, w30_11, w30_12, w30_13, w30_14, w30_15, w30_16, w30_17, w30_18, w30_19
    ])
    WHEN coalesce(
      w30_0, w30_1, w30_2, w30_3, w30_4, w30_5, w30_6, w30_7, w30_8, w30_9,
      w30_10, w30_11, w30_12, w30_13, w30_14, w30_15, w30_16, w30_17, w30_18, w30_19
    ) IS NOT NULL THEN map(
      list_where(names, list_transform([
      w30_0, w30_1, w30_2, w30_3, w30_4, w30_5, w30_6, w30_7, w30_8, w30_9,
      w30_10, w30_11, w30_12, w30_13, w30_14, w30_15, w30_16, w30_17, w30_18, w30_19
    ], lambda a: a IS NOT NULL)), list_filter([
      w30_0, w30_1, w30_2, w30_3, w30_4, w30_5, w30_6, w30_7, w30_8, w30_9,
      w30_10, w30_11, w30_12, w30_13, w30_14, w30_15, w30_16, w30_17, w30_18, w30_19
    ], lambda a: a IS NOT NULL)
    )
  END AS sum_30d,
  CASE
    WHEN NOT list_contains(list_transform([
      w90_0, w90_1, w90_2, w90_3, w90_4, w90_5, w90_6, w90_7, w90_8, w90_9,
      w90_10, w90_11, w90_12, w90_13, w90_14, w90_15, w90_16, w90_17, w90_18, w90_19
    ], lambda a: a IS NULL), true) THEN map(names, [
      w90_0, w90_1, w90_2, w90_3, w90_4, w90_5, w90_6, w90_7, w90_8, w90_9,
      w90_10, w90_11, w90_12, w90_13, w90_14, w90_15, w90_16, w90_17, w90_18, w90_19
    ])
    WHEN coalesce(
      w90_0, w90_1, w90_2, w90_3, w90_4, w90_5, w90_6, w90_7, w90_8, w90_9,
      w90_10, w90_11, w90_12, w90_13, w90_14, w90_15, w90_16, w90_17, w90_18, w90_19
    ) IS NOT NULL THEN map(
      list_where(names, list_transform([
      w90_0, w90_1, w90_2, w90_3, w90_4, w90_5, w90_6, w90_7, w90_8, w90_9,
      w90_10, w90_11, w90_12, w90_13, w90_14, w90_15, w90_16, w90_17, w90_18, w90_19
    ], lambda a: a IS NOT NULL)), list_filter([
      w90_0, w90_1, w90_2, w90_3, w90_4, w90_5, w90_6, w90_7, w90_8, w90_9,
      w90_10, w90_11, w90_12, w90_13, w90_14, w90_15, w90_16, w90_17, w90_18, w90_19
    ], lambda a: a IS NOT NULL)
    )
  END AS sum_90d
FROM slid, span, (SELECT list(category ORDER BY g) AS names FROM code)
WHERE day >= first AND coalesce(
  w90_0, w90_1, w90_2, w90_3, w90_4, w90_5, w90_6, w90_7, w90_8, w90_9,
  w90_10, w90_11, w90_12, w90_13, w90_14, w90_15, w90_16, w90_17, w90_18, w90_19
) IS NOT NULL
