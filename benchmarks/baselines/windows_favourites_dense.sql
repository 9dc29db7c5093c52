-- Written for this data alone: 20 categories, of which a user has fewer than 2^18 events each, seven to a number of 128 bits.
-- A dense grid of days per user, frames of rows over three such numbers, and the greatest of 20 columns, three times.
WITH code AS MATERIALIZED (
  SELECT category, CAST(row_number() OVER (ORDER BY category) - 1 AS INTEGER) AS g FROM (SELECT DISTINCT category FROM events)
),
slot AS MATERIALIZED (
  SELECT
    category,
    CASE WHEN g // 7 = 0 THEN CAST(1 AS HUGEINT) << (g % 7 * 18) ELSE 0 END AS p0,
    CASE WHEN g // 7 = 1 THEN CAST(1 AS HUGEINT) << (g % 7 * 18) ELSE 0 END AS p1,
    CASE WHEN g // 7 = 2 THEN CAST(1 AS HUGEINT) << (g % 7 * 18) ELSE 0 END AS p2
  FROM code
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
    CAST(sum(p0) AS HUGEINT) AS p0, CAST(sum(p1) AS HUGEINT) AS p1, CAST(sum(p2) AS HUGEINT) AS p2
  FROM events JOIN slot USING (category)
  GROUP BY ALL
),
grid AS (
  SELECT user_id, CAST(day AS INTEGER) AS day
  FROM (SELECT DISTINCT user_id FROM tile), (SELECT unnest(range(first - 90, last)) AS day FROM span)
),
slid AS (
  SELECT
    user_id, day + 1 AS day,
    sum(p0) OVER w7 AS w7_0, sum(p1) OVER w7 AS w7_1, sum(p2) OVER w7 AS w7_2,
    sum(p0) OVER w30 AS w30_0, sum(p1) OVER w30 AS w30_1, sum(p2) OVER w30 AS w30_2,
    sum(p0) OVER w90 AS w90_0, sum(p1) OVER w90 AS w90_1, sum(p2) OVER w90 AS w90_2
  FROM grid LEFT JOIN tile USING (user_id, day)
  WINDOW
    w7 AS (PARTITION BY user_id ORDER BY day ROWS BETWEEN 6 PRECEDING AND CURRENT ROW),
    w30 AS (PARTITION BY user_id ORDER BY day ROWS BETWEEN 29 PRECEDING AND CURRENT ROW),
    w90 AS (PARTITION BY user_id ORDER BY day ROWS BETWEEN 89 PRECEDING AND CURRENT ROW)
),
-- A number is greater for more events, and of as many for the smaller category.
rank AS (
  SELECT
    user_id, day,
    (CAST((w7_0 >> 0) & 262143 AS INTEGER) << 5) + 31 AS r7_0, (CAST((w7_0 >> 18) & 262143 AS INTEGER) << 5) + 30 AS r7_1,
    (CAST((w7_0 >> 36) & 262143 AS INTEGER) << 5) + 29 AS r7_2, (CAST((w7_0 >> 54) & 262143 AS INTEGER) << 5) + 28 AS r7_3,
    (CAST((w7_0 >> 72) & 262143 AS INTEGER) << 5) + 27 AS r7_4, (CAST((w7_0 >> 90) & 262143 AS INTEGER) << 5) + 26 AS r7_5,
    (CAST((w7_0 >> 108) & 262143 AS INTEGER) << 5) + 25 AS r7_6, (CAST((w7_1 >> 0) & 262143 AS INTEGER) << 5) + 24 AS r7_7,
    (CAST((w7_1 >> 18) & 262143 AS INTEGER) << 5) + 23 AS r7_8, (CAST((w7_1 >> 36) & 262143 AS INTEGER) << 5) + 22 AS r7_9,
    (CAST((w7_1 >> 54) & 262143 AS INTEGER) << 5) + 21 AS r7_10, (CAST((w7_1 >> 72) & 262143 AS INTEGER) << 5) + 20 AS r7_11,
    (CAST((w7_1 >> 90) & 262143 AS INTEGER) << 5) + 19 AS r7_12, (CAST((w7_1 >> 108) & 262143 AS INTEGER) << 5) + 18 AS r7_13,
    (CAST((w7_2 >> 0) & 262143 AS INTEGER) << 5) + 17 AS r7_14, (CAST((w7_2 >> 18) & 262143 AS INTEGER) << 5) + 16 AS r7_15,
    (CAST((w7_2 >> 36) & 262143 AS INTEGER) << 5) + 15 AS r7_16, (CAST((w7_2 >> 54) & 262143 AS INTEGER) << 5) + 14 AS r7_17,
    (CAST((w7_2 >> 72) & 262143 AS INTEGER) << 5) + 13 AS r7_18, (CAST((w7_2 >> 90) & 262143 AS INTEGER) << 5) + 12 AS r7_19,
    (CAST((w30_0 >> 0) & 262143 AS INTEGER) << 5) + 31 AS r30_0, (CAST((w30_0 >> 18) & 262143 AS INTEGER) << 5) + 30 AS r30_1,
    (CAST((w30_0 >> 36) & 262143 AS INTEGER) << 5) + 29 AS r30_2, (CAST((w30_0 >> 54) & 262143 AS INTEGER) << 5) + 28 AS r30_3,
    (CAST((w30_0 >> 72) & 262143 AS INTEGER) << 5) + 27 AS r30_4, (CAST((w30_0 >> 90) & 262143 AS INTEGER) << 5) + 26 AS r30_5,
    (CAST((w30_0 >> 108) & 262143 AS INTEGER) << 5) + 25 AS r30_6, (CAST((w30_1 >> 0) & 262143 AS INTEGER) << 5) + 24 AS r30_7,
    (CAST((w30_1 >> 18) & 262143 AS INTEGER) << 5) + 23 AS r30_8, (CAST((w30_1 >> 36) & 262143 AS INTEGER) << 5) + 22 AS r30_9,
    (CAST((w30_1 >> 54) & 262143 AS INTEGER) << 5) + 21 AS r30_10, (CAST((w30_1 >> 72) & 262143 AS INTEGER) << 5) + 20 AS r30_11,
    (CAST((w30_1 >> 90) & 262143 AS INTEGER) << 5) + 19 AS r30_12, (CAST((w30_1 >> 108) & 262143 AS INTEGER) << 5) + 18 AS r30_13,
    (CAST((w30_2 >> 0) & 262143 AS INTEGER) << 5) + 17 AS r30_14, (CAST((w30_2 >> 18) & 262143 AS INTEGER) << 5) + 16 AS r30_15,
    (CAST((w30_2 >> 36) & 262143 AS INTEGER) << 5) + 15 AS r30_16, (CAST((w30_2 >> 54) & 262143 AS INTEGER) << 5) + 14 AS r30_17,
    (CAST((w30_2 >> 72) & 262143 AS INTEGER) << 5) + 13 AS r30_18, (CAST((w30_2 >> 90) & 262143 AS INTEGER) << 5) + 12 AS r30_19,
    (CAST((w90_0 >> 0) & 262143 AS INTEGER) << 5) + 31 AS r90_0, (CAST((w90_0 >> 18) & 262143 AS INTEGER) << 5) + 30 AS r90_1,
    (CAST((w90_0 >> 36) & 262143 AS INTEGER) << 5) + 29 AS r90_2, (CAST((w90_0 >> 54) & 262143 AS INTEGER) << 5) + 28 AS r90_3,
    (CAST((w90_0 >> 72) & 262143 AS INTEGER) << 5) + 27 AS r90_4, (CAST((w90_0 >> 90) & 262143 AS INTEGER) << 5) + 26 AS r90_5,
    (CAST((w90_0 >> 108) & 262143 AS INTEGER) << 5) + 25 AS r90_6, (CAST((w90_1 >> 0) & 262143 AS INTEGER) << 5) + 24 AS r90_7,
    (CAST((w90_1 >> 18) & 262143 AS INTEGER) << 5) + 23 AS r90_8, (CAST((w90_1 >> 36) & 262143 AS INTEGER) << 5) + 22 AS r90_9,
    (CAST((w90_1 >> 54) & 262143 AS INTEGER) << 5) + 21 AS r90_10, (CAST((w90_1 >> 72) & 262143 AS INTEGER) << 5) + 20 AS r90_11,
    (CAST((w90_1 >> 90) & 262143 AS INTEGER) << 5) + 19 AS r90_12, (CAST((w90_1 >> 108) & 262143 AS INTEGER) << 5) + 18 AS r90_13,
    (CAST((w90_2 >> 0) & 262143 AS INTEGER) << 5) + 17 AS r90_14, (CAST((w90_2 >> 18) & 262143 AS INTEGER) << 5) + 16 AS r90_15,
    (CAST((w90_2 >> 36) & 262143 AS INTEGER) << 5) + 15 AS r90_16, (CAST((w90_2 >> 54) & 262143 AS INTEGER) << 5) + 14 AS r90_17,
    (CAST((w90_2 >> 72) & 262143 AS INTEGER) << 5) + 13 AS r90_18, (CAST((w90_2 >> 90) & 262143 AS INTEGER) << 5) + 12 AS r90_19
  FROM slid, span
  WHERE day >= first AND w90_0 + w90_1 + w90_2 > 0
),
first_rank AS (
  SELECT
    *,
    greatest(
      r7_0, r7_1, r7_2, r7_3, r7_4, r7_5, r7_6, r7_7, r7_8, r7_9,
      r7_10, r7_11, r7_12, r7_13, r7_14, r7_15, r7_16, r7_17, r7_18, r7_19
    ) AS a7,
    greatest(
      r30_0, r30_1, r30_2, r30_3, r30_4, r30_5, r30_6, r30_7, r30_8, r30_9,
      r30_10, r30_11, r30_12, r30_13, r30_14, r30_15, r30_16, r30_17, r30_18, r30_19
    ) AS a30,
    greatest(
      r90_0, r90_1, r90_2, r90_3, r90_4, r90_5, r90_6, r90_7, r90_8, r90_9,
      r90_10, r90_11, r90_12, r90_13, r90_14, r90_15, r90_16, r90_17, r90_18, r90_19
    ) AS a90
  FROM rank
),
second_rank AS (
  SELECT
    *,
    greatest(
      CASE WHEN r7_0 < a7 THEN r7_0 ELSE 0 END, CASE WHEN r7_1 < a7 THEN r7_1 ELSE 0 END,
      CASE WHEN r7_2 < a7 THEN r7_2 ELSE 0 END, CASE WHEN r7_3 < a7 THEN r7_3 ELSE 0 END,
      CASE WHEN r7_4 < a7 THEN r7_4 ELSE 0 END, CASE WHEN r7_5 < a7 THEN r7_5 ELSE 0 END,
      CASE WHEN r7_6 < a7 THEN r7_6 ELSE 0 END, CASE WHEN r7_7 < a7 THEN r7_7 ELSE 0 END,
      CASE WHEN r7_8 < a7 THEN r7_8 ELSE 0 END, CASE WHEN r7_9 < a7 THEN r7_9 ELSE 0 END,
      CASE WHEN r7_10 < a7 THEN r7_10 ELSE 0 END, CASE WHEN r7_11 < a7 THEN r7_11 ELSE 0 END,
      CASE WHEN r7_12 < a7 THEN r7_12 ELSE 0 END, CASE WHEN r7_13 < a7 THEN r7_13 ELSE 0 END,
      CASE WHEN r7_14 < a7 THEN r7_14 ELSE 0 END, CASE WHEN r7_15 < a7 THEN r7_15 ELSE 0 END,
      CASE WHEN r7_16 < a7 THEN r7_16 ELSE 0 END, CASE WHEN r7_17 < a7 THEN r7_17 ELSE 0 END,
      CASE WHEN r7_18 < a7 THEN r7_18 ELSE 0 END, CASE WHEN r7_19 < a7 THEN r7_19 ELSE 0 END
    ) AS b7,
    greatest(
      CASE WHEN r30_0 < a30 THEN r30_0 ELSE 0 END, CASE WHEN r30_1 < a30 THEN r30_1 ELSE 0 END,
      CASE WHEN r30_2 < a30 THEN r30_2 ELSE 0 END, CASE WHEN r30_3 < a30 THEN r30_3 ELSE 0 END,
      CASE WHEN r30_4 < a30 THEN r30_4 ELSE 0 END, CASE WHEN r30_5 < a30 THEN r30_5 ELSE 0 END,
      CASE WHEN r30_6 < a30 THEN r30_6 ELSE 0 END, CASE WHEN r30_7 < a30 THEN r30_7 ELSE 0 END,
      CASE WHEN r30_8 < a30 THEN r30_8 ELSE 0 END, CASE WHEN r30_9 < a30 THEN r30_9 ELSE 0 END,
      CASE WHEN r30_10 < a30 THEN r30_10 ELSE 0 END, CASE WHEN r30_11 < a30 THEN r30_11 ELSE 0 END,
      CASE WHEN r30_12 < a30 THEN r30_12 ELSE 0 END, CASE WHEN r30_13 < a30 THEN r30_13 ELSE 0 END,
      CASE WHEN r30_14 < a30 THEN r30_14 ELSE 0 END, CASE WHEN r30_15 < a30 THEN r30_15 ELSE 0 END,
      CASE WHEN r30_16 < a30 THEN r30_16 ELSE 0 END, CASE WHEN r30_17 < a30 THEN r30_17 ELSE 0 END,
      CASE WHEN r30_18 < a30 THEN r30_18 ELSE 0 END, CASE WHEN r30_19 < a30 THEN r30_19 ELSE 0 END
    ) AS b30,
    greatest(
      CASE WHEN r90_0 < a90 THEN r90_0 ELSE 0 END, CASE WHEN r90_1 < a90 THEN r90_1 ELSE 0 END,
      CASE WHEN r90_2 < a90 THEN r90_2 ELSE 0 END, CASE WHEN r90_3 < a90 THEN r90_3 ELSE 0 END,
      CASE WHEN r90_4 < a90 THEN r90_4 ELSE 0 END, CASE WHEN r90_5 < a90 THEN r90_5 ELSE 0 END,
      CASE WHEN r90_6 < a90 THEN r90_6 ELSE 0 END, CASE WHEN r90_7 < a90 THEN r90_7 ELSE 0 END,
      CASE WHEN r90_8 < a90 THEN r90_8 ELSE 0 END, CASE WHEN r90_9 < a90 THEN r90_9 ELSE 0 END,
      CASE WHEN r90_10 < a90 THEN r90_10 ELSE 0 END, CASE WHEN r90_11 < a90 THEN r90_11 ELSE 0 END,
      CASE WHEN r90_12 < a90 THEN r90_12 ELSE 0 END, CASE WHEN r90_13 < a90 THEN r90_13 ELSE 0 END,
      CASE WHEN r90_14 < a90 THEN r90_14 ELSE 0 END, CASE WHEN r90_15 < a90 THEN r90_15 ELSE 0 END,
      CASE WHEN r90_16 < a90 THEN r90_16 ELSE 0 END, CASE WHEN r90_17 < a90 THEN r90_17 ELSE 0 END,
      CASE WHEN r90_18 < a90 THEN r90_18 ELSE 0 END, CASE WHEN r90_19 < a90 THEN r90_19 ELSE 0 END
    ) AS b90
  FROM first_rank
),
third_rank AS (
  SELECT
    *,
    greatest(
      CASE WHEN r7_0 < b7 THEN r7_0 ELSE 0 END, CASE WHEN r7_1 < b7 THEN r7_1 ELSE 0 END,
      CASE WHEN r7_2 < b7 THEN r7_2 ELSE 0 END, CASE WHEN r7_3 < b7 THEN r7_3 ELSE 0 END,
      CASE WHEN r7_4 < b7 THEN r7_4 ELSE 0 END, CASE WHEN r7_5 < b7 THEN r7_5 ELSE 0 END,
      CASE WHEN r7_6 < b7 THEN r7_6 ELSE 0 END, CASE WHEN r7_7 < b7 THEN r7_7 ELSE 0 END,
      CASE WHEN r7_8 < b7 THEN r7_8 ELSE 0 END, CASE WHEN r7_9 < b7 THEN r7_9 ELSE 0 END,
      CASE WHEN r7_10 < b7 THEN r7_10 ELSE 0 END, CASE WHEN r7_11 < b7 THEN r7_11 ELSE 0 END,
      CASE WHEN r7_12 < b7 THEN r7_12 ELSE 0 END, CASE WHEN r7_13 < b7 THEN r7_13 ELSE 0 END,
      CASE WHEN r7_14 < b7 THEN r7_14 ELSE 0 END, CASE WHEN r7_15 < b7 THEN r7_15 ELSE 0 END,
      CASE WHEN r7_16 < b7 THEN r7_16 ELSE 0 END, CASE WHEN r7_17 < b7 THEN r7_17 ELSE 0 END,
      CASE WHEN r7_18 < b7 THEN r7_18 ELSE 0 END, CASE WHEN r7_19 < b7 THEN r7_19 ELSE 0 END
    ) AS c7,
    greatest(
      CASE WHEN r30_0 < b30 THEN r30_0 ELSE 0 END, CASE WHEN r30_1 < b30 THEN r30_1 ELSE 0 END,
      CASE WHEN r30_2 < b30 THEN r30_2 ELSE 0 END, CASE WHEN r30_3 < b30 THEN r30_3 ELSE 0 END,
      CASE WHEN r30_4 < b30 THEN r30_4 ELSE 0 END, CASE WHEN r30_5 < b30 THEN r30_5 ELSE 0 END,
      CASE WHEN r30_6 < b30 THEN r30_6 ELSE 0 END, CASE WHEN r30_7 < b30 THEN r30_7 ELSE 0 END,
      CASE WHEN r30_8 < b30 THEN r30_8 ELSE 0 END, CASE WHEN r30_9 < b30 THEN r30_9 ELSE 0 END,
      CASE WHEN r30_10 < b30 THEN r30_10 ELSE 0 END, CASE WHEN r30_11 < b30 THEN r30_11 ELSE 0 END,
      CASE WHEN r30_12 < b30 THEN r30_12 ELSE 0 END, CASE WHEN r30_13 < b30 THEN r30_13 ELSE 0 END,
      CASE WHEN r30_14 < b30 THEN r30_14 ELSE 0 END, CASE WHEN r30_15 < b30 THEN r30_15 ELSE 0 END,
      CASE WHEN r30_16 < b30 THEN r30_16 ELSE 0 END, CASE WHEN r30_17 < b30 THEN r30_17 ELSE 0 END,
      CASE WHEN r30_18 < b30 THEN r30_18 ELSE 0 END, CASE WHEN r30_19 < b30 THEN r30_19 ELSE 0 END
    ) AS c30,
    greatest(
      CASE WHEN r90_0 < b90 THEN r90_0 ELSE 0 END, CASE WHEN r90_1 < b90 THEN r90_1 ELSE 0 END,
      CASE WHEN r90_2 < b90 THEN r90_2 ELSE 0 END, CASE WHEN r90_3 < b90 THEN r90_3 ELSE 0 END,
      CASE WHEN r90_4 < b90 THEN r90_4 ELSE 0 END, CASE WHEN r90_5 < b90 THEN r90_5 ELSE 0 END,
      CASE WHEN r90_6 < b90 THEN r90_6 ELSE 0 END, CASE WHEN r90_7 < b90 THEN r90_7 ELSE 0 END,
      CASE WHEN r90_8 < b90 THEN r90_8 ELSE 0 END, CASE WHEN r90_9 < b90 THEN r90_9 ELSE 0 END,
      CASE WHEN r90_10 < b90 THEN r90_10 ELSE 0 END, CASE WHEN r90_11 < b90 THEN r90_11 ELSE 0 END,
      CASE WHEN r90_12 < b90 THEN r90_12 ELSE 0 END, CASE WHEN r90_13 < b90 THEN r90_13 ELSE 0 END,
      CASE WHEN r90_14 < b90 THEN r90_14 ELSE 0 END, CASE WHEN r90_15 < b90 THEN r90_15 ELSE 0 END,
      CASE WHEN r90_16 < b90 THEN r90_16 ELSE 0 END, CASE WHEN r90_17 < b90 THEN r90_17 ELSE 0 END,
      CASE WHEN r90_18 < b90 THEN r90_18 ELSE 0 END, CASE WHEN r90_19 < b90 THEN r90_19 ELSE 0 END
    ) AS c90
  FROM second_rank
)
SELECT
  user_id,
  make_timestamptz(day * 86400000000) AS event_timestamp,
  CASE
    WHEN c7 > 31 THEN [names[32 - (a7 & 31)], names[32 - (b7 & 31)], names[32 - (c7 & 31)]]
    WHEN b7 > 31 THEN [names[32 - (a7 & 31)], names[32 - (b7 & 31)]]
    WHEN a7 > 31 THEN [names[32 - (a7 & 31)]]
  END AS top_k_7d,
  CASE
    WHEN c30 > 31 THEN [names[32 - (a30 & 31)], names[32 - (b30 & 31)], names[32 - (c30 & 31)]]
    WHEN b30 > 31 THEN [names[32 - (a30 & 31)], names[32 - (b30 & 31)]]
    WHEN a30 > 31 THEN [names[32 - (a30 & 31)]]
  END AS top_k_30d,
  CASE
    WHEN c90 > 31 THEN [names[32 - (a90 & 31)], names[32 - (b90 & 31)], names[32 - (c90 & 31)]]
    WHEN b90 > 31 THEN [names[32 - (a90 & 31)], names[32 - (b90 & 31)]]
    WHEN a90 > 31 THEN [names[32 - (a90 & 31)]]
  END AS top_k_90d
FROM third_rank, (SELECT list(category ORDER BY g) AS names FROM code)
