-- Written for this data alone: 20 categories, of which a user has fewer than 2^18 events each, seven to a number of 128 bits.
-- A dense grid of days per user, frames of rows over three such numbers, and maps of 20 columns, mostly none of them zero.
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
counted AS (
  SELECT
    user_id, day,
    CAST((w7_0 >> 0) & 262143 AS BIGINT) AS c7_0, CAST((w7_0 >> 18) & 262143 AS BIGINT) AS c7_1,
    CAST((w7_0 >> 36) & 262143 AS BIGINT) AS c7_2, CAST((w7_0 >> 54) & 262143 AS BIGINT) AS c7_3,
    CAST((w7_0 >> 72) & 262143 AS BIGINT) AS c7_4, CAST((w7_0 >> 90) & 262143 AS BIGINT) AS c7_5,
    CAST((w7_0 >> 108) & 262143 AS BIGINT) AS c7_6, CAST((w7_1 >> 0) & 262143 AS BIGINT) AS c7_7,
    CAST((w7_1 >> 18) & 262143 AS BIGINT) AS c7_8, CAST((w7_1 >> 36) & 262143 AS BIGINT) AS c7_9,
    CAST((w7_1 >> 54) & 262143 AS BIGINT) AS c7_10, CAST((w7_1 >> 72) & 262143 AS BIGINT) AS c7_11,
    CAST((w7_1 >> 90) & 262143 AS BIGINT) AS c7_12, CAST((w7_1 >> 108) & 262143 AS BIGINT) AS c7_13,
    CAST((w7_2 >> 0) & 262143 AS BIGINT) AS c7_14, CAST((w7_2 >> 18) & 262143 AS BIGINT) AS c7_15,
    CAST((w7_2 >> 36) & 262143 AS BIGINT) AS c7_16, CAST((w7_2 >> 54) & 262143 AS BIGINT) AS c7_17,
    CAST((w7_2 >> 72) & 262143 AS BIGINT) AS c7_18, CAST((w7_2 >> 90) & 262143 AS BIGINT) AS c7_19,
    CAST((w30_0 >> 0) & 262143 AS BIGINT) AS c30_0, CAST((w30_0 >> 18) & 262143 AS BIGINT) AS c30_1,
    CAST((w30_0 >> 36) & 262143 AS BIGINT) AS c30_2, CAST((w30_0 >> 54) & 262143 AS BIGINT) AS c30_3,
    CAST((w30_0 >> 72) & 262143 AS BIGINT) AS c30_4, CAST((w30_0 >> 90) & 262143 AS BIGINT) AS c30_5,
    CAST((w30_0 >> 108) & 262143 AS BIGINT) AS c30_6, CAST((w30_1 >> 0) & 262143 AS BIGINT) AS c30_7,
    CAST((w30_1 >> 18) & 262143 AS BIGINT) AS c30_8, CAST((w30_1 >> 36) & 262143 AS BIGINT) AS c30_9,
    CAST((w30_1 >> 54) & 262143 AS BIGINT) AS c30_10, CAST((w30_1 >> 72) & 262143 AS BIGINT) AS c30_11,
    CAST((w30_1 >> 90) & 262143 AS BIGINT) AS c30_12, CAST((w30_1 >> 108) & 262143 AS BIGINT) AS c30_13,
    CAST((w30_2 >> 0) & 262143 AS BIGINT) AS c30_14, CAST((w30_2 >> 18) & 262143 AS BIGINT) AS c30_15,
    CAST((w30_2 >> 36) & 262143 AS BIGINT) AS c30_16, CAST((w30_2 >> 54) & 262143 AS BIGINT) AS c30_17,
    CAST((w30_2 >> 72) & 262143 AS BIGINT) AS c30_18, CAST((w30_2 >> 90) & 262143 AS BIGINT) AS c30_19,
    CAST((w90_0 >> 0) & 262143 AS BIGINT) AS c90_0, CAST((w90_0 >> 18) & 262143 AS BIGINT) AS c90_1,
    CAST((w90_0 >> 36) & 262143 AS BIGINT) AS c90_2, CAST((w90_0 >> 54) & 262143 AS BIGINT) AS c90_3,
    CAST((w90_0 >> 72) & 262143 AS BIGINT) AS c90_4, CAST((w90_0 >> 90) & 262143 AS BIGINT) AS c90_5,
    CAST((w90_0 >> 108) & 262143 AS BIGINT) AS c90_6, CAST((w90_1 >> 0) & 262143 AS BIGINT) AS c90_7,
    CAST((w90_1 >> 18) & 262143 AS BIGINT) AS c90_8, CAST((w90_1 >> 36) & 262143 AS BIGINT) AS c90_9,
    CAST((w90_1 >> 54) & 262143 AS BIGINT) AS c90_10, CAST((w90_1 >> 72) & 262143 AS BIGINT) AS c90_11,
    CAST((w90_1 >> 90) & 262143 AS BIGINT) AS c90_12, CAST((w90_1 >> 108) & 262143 AS BIGINT) AS c90_13,
    CAST((w90_2 >> 0) & 262143 AS BIGINT) AS c90_14, CAST((w90_2 >> 18) & 262143 AS BIGINT) AS c90_15,
    CAST((w90_2 >> 36) & 262143 AS BIGINT) AS c90_16, CAST((w90_2 >> 54) & 262143 AS BIGINT) AS c90_17,
    CAST((w90_2 >> 72) & 262143 AS BIGINT) AS c90_18, CAST((w90_2 >> 90) & 262143 AS BIGINT) AS c90_19
  FROM slid, span
  WHERE day >= first AND w90_0 + w90_1 + w90_2 > 0
)
SELECT
  user_id,
  make_timestamptz(day * 86400000000) AS event_timestamp,
  CASE
    WHEN least(
      c7_0, c7_1, c7_2, c7_3, c7_4, c7_5, c7_6, c7_7, c7_8, c7_9,
      c7_10, c7_11, c7_12, c7_13, c7_14, c7_15, c7_16, c7_17, c7_18, c7_19
    ) > 0 THEN map(names, [
      c7_0, c7_1, c7_2, c7_3, c7_4, c7_5, c7_6, c7_7, c7_8, c7_9,
      c7_10, c7_11, c7_12, c7_13, c7_14, c7_15, c7_16, c7_17, c7_18, c7_19
    ])
    WHEN greatest(
      c7_0, c7_1, c7_2, c7_3, c7_4, c7_5, c7_6, c7_7, c7_8, c7_9,
      c7_10, c7_11, c7_12, c7_13, c7_14, c7_15, c7_16, c7_17, c7_18, c7_19
    ) > 0 THEN map(
      list_where(names, list_transform([
      c7_0, c7_1, c7_2, c7_3, c7_4, c7_5, c7_6, c7_7, c7_8, c7_9,
      c7_10, c7_11, c7_12, c7_13, c7_14, c7_15, c7_16, c7_17, c7_18, c7_19
    ], lambda n: n > 0)), list_filter([
      c7_0, c7_1, c7_2, c7_3, c7_4, c7_5, c7_6, c7_7, c7_8, c7_9,
      c7_10, c7_11, c7_12, c7_13, c7_14, c7_15, c7_16, c7_17, c7_18, c7_19
    ], lambda n: n > 0)
    )
  END AS count_7d,
  CASE
    WHEN least(
      c30_0, c30_1, c30_2, c30_3, c30_4, c30_5, c30_6, c30_7, c30_8, c30_9,
      c30_10, c30_11, c30_12, c30_13, c30_14, c30_15, c30_16, c30_17, c30_18, c30_19
    ) > 0 THEN map(names, [
      c30_0, c30_1, c30_2, c30_3, c30_4, c30_5, c30_6, c30_7, c30_8, c30_9,
      c30_10, c30_11, c30_12, c30_13, c30_14, c30_15, c30_16, c30_17, c30_18, c30_19
    ])
    WHEN greatest(
      c30_0, c30_1, c30_2, c30_3, c30_4, c30_5, c30_6, c30_7, c30_8, c30_9,
      c30_10, c30_11, c30_12, c30_13, c30_14, c30_15, c30_16, c30_17, c30_18, c30_19
    ) > 0 THEN map(
      list_where(names, list_transform([
      c30_0, c30_1, c30_2, c30_3, c30_4, c30_5, c30_6, c30_7, c30_8, c30_9,
      c30_10, c30_11, c30_12, c30_13, c30_14, c30_15, c30_16, c30_17, c30_18, c30_19
    ], lambda n: n > 0)), list_filter([
      c30_0, c30_1, c30_2, c30_3, c30_4, c30_5, c30_6, c30_7, c30_8, c30_9,
      c30_10, c30_11, c30_12, c30_13, c30_14, c30_15, c30_16, c30_17, c30_18, c30_19
    ], lambda n: n > 0)
    )
  END AS count_30d,
  CASE
    WHEN least(
      c90_0, c90_1, c90_2, c90_3, c90_4, c90_5, c90_6, c90_7, c90_8, c90_9,
      c90_10, c90_11, c90_12, c90_13, c90_14, c90_15, c90_16, c90_17, c90_18, c90_19
    ) > 0 THEN map(names, [
      c90_0, c90_1, c90_2, c90_3, c90_4, c90_5, c90_6, c90_7, c90_8, c90_9,
      c90_10, c90_11, c90_12, c90_13, c90_14, c90_15, c90_16, c90_17, c90_18, c90_19
    ])
    WHEN greatest(
      c90_0, c90_1, c90_2, c90_3, c90_4, c90_5, c90_6, c90_7, c90_8, c90_9,
      c90_10, c90_11, c90_12, c90_13, c90_14, c90_15, c90_16, c90_17, c90_18, c90_19
    ) > 0 THEN map(
      list_where(names, list_transform([
      c90_0, c90_1, c90_2, c90_3, c90_4, c90_5, c90_6, c90_7, c90_8, c90_9,
      c90_10, c90_11, c90_12, c90_13, c90_14, c90_15, c90_16, c90_17, c90_18, c90_19
    ], lambda n: n > 0)), list_filter([
      c90_0, c90_1, c90_2, c90_3, c90_4, c90_5, c90_6, c90_7, c90_8, c90_9,
      c90_10, c90_11, c90_12, c90_13, c90_14, c90_15, c90_16, c90_17, c90_18, c90_19
    ], lambda n: n > 0)
    )
  END AS count_90d
FROM counted, (SELECT list(category ORDER BY g) AS names FROM code)
