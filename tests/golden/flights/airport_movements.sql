-- range
SELECT
  "airport",
  event_timestamp,
  "movements_1d",
  "movements_30d",
  "movements_lifetime",
  "movements_30d_offset_30d",
  "cancelled_30d",
  "by_carrier_30d",
  "delay_by_carrier_30d",
  "carriers_30d",
  "carrier_list_30d",
  "main_carriers_30d",
  "aircraft_30d",
  "aircraft_90d",
  "delay_median_30d",
  "delay_p95_30d",
  "delays_30d",
  "delay_deviation_30d",
  "delay_variance_30d",
  "delay_skew_30d",
  "recent_delay_7d",
  "first_carrier_1d",
  "last_carriers_1d",
  "first_carriers_1d",
  "growth"
FROM (
SELECT
  *,
  CAST(("movements_30d" / NULLIF("movements_30d_offset_30d", 0)) AS DOUBLE) AS "growth"
FROM (
SELECT
  k0 AS "airport",
  interval_end AS event_timestamp,
  coalesce(CAST("raw movements_1d" AS BIGINT), CAST(0 AS BIGINT)) AS "movements_1d",
  coalesce(CAST("raw movements_30d" AS BIGINT), CAST(0 AS BIGINT)) AS "movements_30d",
  coalesce(CAST("raw movements_lifetime" AS BIGINT), CAST(0 AS BIGINT)) AS "movements_lifetime",
  coalesce(CAST("raw movements_30d_offset_30d" AS BIGINT), CAST(0 AS BIGINT)) AS "movements_30d_offset_30d",
  coalesce(CAST("raw cancelled_30d" AS BIGINT), CAST(0 AS BIGINT)) AS "cancelled_30d",
  CAST("raw by_carrier_30d" AS MAP(VARCHAR, BIGINT)) AS "by_carrier_30d",
  CAST("raw delay_by_carrier_30d" AS MAP(VARCHAR, DOUBLE)) AS "delay_by_carrier_30d",
  coalesce(CAST("raw carriers_30d" AS BIGINT), CAST(0 AS BIGINT)) AS "carriers_30d",
  CAST("raw carrier_list_30d" AS VARCHAR[]) AS "carrier_list_30d",
  CAST("raw main_carriers_30d" AS VARCHAR[]) AS "main_carriers_30d",
  coalesce(CAST("raw aircraft_30d" AS BIGINT), CAST(0 AS BIGINT)) AS "aircraft_30d",
  coalesce(CAST("raw aircraft_90d" AS BIGINT), CAST(0 AS BIGINT)) AS "aircraft_90d",
  CAST("raw delay_median_30d" AS DOUBLE) AS "delay_median_30d",
  CAST("raw delay_p95_30d" AS DOUBLE) AS "delay_p95_30d",
  coalesce(CAST("raw delays_30d" AS BIGINT[]), CAST([0, 0, 0, 0] AS BIGINT[])) AS "delays_30d",
  CAST("raw delay_deviation_30d" AS DOUBLE) AS "delay_deviation_30d",
  CAST("raw delay_variance_30d" AS DOUBLE) AS "delay_variance_30d",
  CAST("raw delay_skew_30d" AS DOUBLE) AS "delay_skew_30d",
  coalesce(CAST("raw recent_delay_7d" AS DOUBLE), CAST(0.0 AS DOUBLE)) AS "recent_delay_7d",
  CAST("raw first_carrier_1d" AS VARCHAR) AS "first_carrier_1d",
  CAST("raw last_carriers_1d" AS VARCHAR[]) AS "last_carriers_1d",
  CAST("raw first_carriers_1d" AS VARCHAR[]) AS "first_carriers_1d"
FROM (
SELECT * FROM (
WITH own AS (
SELECT
  "airport" AS k0,
  tile_start,
  event_timestamp,
  t_count_25ff0b8485121160,
  t_count_af37078793172b5b,
  t_histogram_9ce9f74a98ce4438,
  t_moments_5ff077926e346889,
  t_decayed_d98b297ac57b25da,
  t_first_096cbac94d8721e2,
  t_last_k_915cae88ca11a85f,
  t_first_k_f253abe49738bfa8
FROM tiles0
)
SELECT
  k0,
  interval_end,
  CAST(s0 AS BIGINT) AS "raw movements_1d",
  CAST(s1 AS BIGINT) AS "raw movements_30d",
  CAST(s2 AS BIGINT) AS "raw movements_lifetime",
  CAST(s3 AS BIGINT) AS "raw movements_30d_offset_30d",
  CAST(s4 AS BIGINT) AS "raw cancelled_30d",
  [coalesce(s5, 0), coalesce(s6, 0), coalesce(s7, 0), coalesce(s8, 0)] AS "raw delays_30d",
  sqrt(CASE WHEN CAST(s9.n AS DOUBLE) > 1 THEN s9.m2 / (CAST(s9.n AS DOUBLE) - 1) END) AS "raw delay_deviation_30d",
  CASE WHEN CAST(s9.n AS DOUBLE) > 1 THEN s9.m2 / (CAST(s9.n AS DOUBLE) - 1) END AS "raw delay_variance_30d",
  CASE WHEN CAST(s9.n AS DOUBLE) > 2 AND s9.m2 <> 0 THEN CAST(s9.n AS DOUBLE) * sqrt(CAST(s9.n AS DOUBLE) - 1) / (CAST(s9.n AS DOUBLE) - 2) * (s9.m3 / s9.m2 / sqrt(s9.m2)) END AS "raw delay_skew_30d",
  coalesce(s10 + s11, s10, s11) AS "raw recent_delay_7d",
  s12 AS "raw first_carrier_1d",
  CASE WHEN s14 > 0 THEN s13[:least(s14, 3)] END AS "raw last_carriers_1d",
  CASE WHEN s16 > 0 THEN s15[:least(s16, 3)] END AS "raw first_carriers_1d"
FROM (
WITH list_0 AS (
  SELECT
    k0, beginning,
    flatten(list(own) OVER (PARTITION BY k0 ORDER BY number RANGE BETWEEN CURRENT ROW AND 2 FOLLOWING))[:3] AS items
  FROM (
    -- number: how many values lie between a tile and the outermost one of its key.
    SELECT *, sum(len(own)) OVER (PARTITION BY k0 ORDER BY beginning DESC) - len(own) AS number
    FROM (SELECT k0 AS k0, epoch_us(tile_start) AS beginning, t_last_k_915cae88ca11a85f AS own FROM own WHERE len(t_last_k_915cae88ca11a85f) > 0)
  )
),
list_1 AS (
  SELECT
    k0, beginning,
    flatten(list(own) OVER (PARTITION BY k0 ORDER BY number RANGE BETWEEN CURRENT ROW AND 2 FOLLOWING))[:3] AS items
  FROM (
    -- number: how many values lie between a tile and the outermost one of its key.
    SELECT *, sum(len(own)) OVER (PARTITION BY k0 ORDER BY beginning ASC) - len(own) AS number
    FROM (SELECT k0 AS k0, epoch_us(tile_start) AS beginning, t_first_k_f253abe49738bfa8 AS own FROM own WHERE len(t_first_k_f253abe49738bfa8) > 0)
  )
)
SELECT
  rows.k0, rows.interval_end, rows.s0, rows.s1, rows.s2, rows.s3, rows.s4, rows.s5, rows.s6, rows.s7, rows.s8, rows.s9, rows.s10, rows.s11, rows.s12, rows.s14, rows.s16, of_s13.items AS s13, of_s15.items AS s15
FROM (
WITH rows AS MATERIALIZED (
WITH
-- Every interval's end and every edge of a window, in order.
boundary AS (
  SELECT
    instant,
    CAST(row_number() OVER (ORDER BY instant) - 1 AS INTEGER) AS position,
    lead(instant) OVER (ORDER BY instant) AS next_instant
  FROM (
    SELECT DISTINCT instant FROM (SELECT epoch_us(interval_end) - unnest([0, 86400000000, 604800000000, 2592000000000, 5184000000000]) AS instant FROM intervals
    UNION ALL
    SELECT min(epoch_us(interval_end)) - 5184000000001 FROM intervals)
  )
),
-- How many segments before its end the edges of an interval's windows lie.
frame AS (
  SELECT
    stop.position,
    interval_end,
    CAST(stop.position - edge1.position AS INTEGER) AS before1,
    CAST(stop.position - edge2.position AS INTEGER) AS before2,
    CAST(stop.position - edge3.position AS INTEGER) AS before3,
    CAST(stop.position - edge4.position AS INTEGER) AS before4,
    min(epoch_us(interval_end)) OVER () AS first_end
  FROM intervals
  JOIN boundary stop ON stop.instant = epoch_us(interval_end)
  JOIN boundary edge1 ON edge1.instant = stop.instant - 86400000000
  JOIN boundary edge2 ON edge2.instant = stop.instant - 604800000000
  JOIN boundary edge3 ON edge3.instant = stop.instant - 2592000000000
  JOIN boundary edge4 ON edge4.instant = stop.instant - 5184000000000
),
-- The time from one boundary to the next, if it lies in some window; reach is the last end whose window holds it.
segment AS (
  SELECT position, instant, next_instant, reach
  FROM (
    SELECT boundary.position, instant, next_instant, (SELECT max(position) FROM frame) AS reach
    FROM boundary
  )
  WHERE reach > position
),
-- Finds the segment of an instant by hashing: even steps of time, each with the segments that it touches.
step AS (
  SELECT
    min(instant) AS origin,
    greatest(min(next_instant - instant), (max(next_instant) - min(instant)) // (16 * count(*)), 1) AS length
  FROM segment
),
lookup AS (
  SELECT
    position,
    reach,
    instant AS from_instant,
    next_instant AS to_instant,
    unnest(range((instant - origin) // length, (next_instant - 1 - origin) // length + 1)) AS step_number
  FROM segment
  CROSS JOIN step
),
tile AS MATERIALIZED (
  SELECT
    k0,
    position,
    reach,
    sum(t_count_25ff0b8485121160) AS t_count_25ff0b8485121160,
    sum(t_count_af37078793172b5b) AS t_count_af37078793172b5b,
    sum(t_histogram_9ce9f74a98ce4438[1]) AS t_histogram_9ce9f74a98ce4438_1,
    sum(t_histogram_9ce9f74a98ce4438[2]) AS t_histogram_9ce9f74a98ce4438_2,
    sum(t_histogram_9ce9f74a98ce4438[3]) AS t_histogram_9ce9f74a98ce4438_3,
    sum(t_histogram_9ce9f74a98ce4438[4]) AS t_histogram_9ce9f74a98ce4438_4,
    sum(len(t_last_k_915cae88ca11a85f)) AS t_last_k_915cae88ca11a85f_len,
    sum(len(t_first_k_f253abe49738bfa8)) AS t_first_k_f253abe49738bfa8_len,
    CAST(combine_aggr(CASE WHEN t_moments_5ff077926e346889.n > 0 THEN to_aggregate_state(struct_pack(n := t_moments_5ff077926e346889.n, mean := (coalesce(t_moments_5ff077926e346889.c, 0) - coalesce("centre t_moments_5ff077926e346889", 0)) + t_moments_5ff077926e346889.mean, m2 := t_moments_5ff077926e346889.m2, m3 := t_moments_5ff077926e346889.m3), 'skewness', ['DOUBLE']) END) AS STRUCT(n UBIGINT, mean DOUBLE, m2 DOUBLE, m3 DOUBLE)) AS t_moments_5ff077926e346889,
    sum(t_decayed_d98b297ac57b25da * pow(2.0, (epoch_us(event_timestamp) - first_end - greatest(0, (epoch_us(event_timestamp) - first_end - 1) // 21600000000000) * 21600000000000) / 43200000000.0) * CASE WHEN greatest(0, (epoch_us(event_timestamp) - first_end - 1) // 21600000000000) % 2 = 0 THEN 1 END) AS t_decayed_d98b297ac57b25da_even,
    sum(t_decayed_d98b297ac57b25da * pow(2.0, (epoch_us(event_timestamp) - first_end - greatest(0, (epoch_us(event_timestamp) - first_end - 1) // 21600000000000) * 21600000000000) / 43200000000.0) * CASE WHEN greatest(0, (epoch_us(event_timestamp) - first_end - 1) // 21600000000000) % 2 = 1 THEN 1 END) AS t_decayed_d98b297ac57b25da_odd,
    arg_min(t_first_096cbac94d8721e2, tile_start) AS t_first_096cbac94d8721e2,
    max(CASE WHEN len(t_last_k_915cae88ca11a85f) > 0 THEN epoch_us(tile_start) END) AS t_last_k_915cae88ca11a85f_tile,
    min(CASE WHEN len(t_first_k_f253abe49738bfa8) > 0 THEN epoch_us(tile_start) END) AS t_first_k_f253abe49738bfa8_tile
  FROM (
    SELECT *, (instant - (SELECT origin FROM step)) // (SELECT length FROM step) AS at_step, (SELECT min(first_end) FROM frame) AS first_end
    FROM (SELECT *, greatest(epoch_us(tile_start), (SELECT min(instant) FROM boundary)) AS instant FROM (SELECT * FROM own JOIN (SELECT k0, any_value(CASE WHEN "t_moments_5ff077926e346889".n > 0 AND isfinite("t_moments_5ff077926e346889".mean) THEN coalesce("t_moments_5ff077926e346889".c, 0) + "t_moments_5ff077926e346889".mean END) AS "centre t_moments_5ff077926e346889" FROM own GROUP BY k0) USING (k0)))
  )
  LEFT JOIN lookup ON step_number = at_step AND instant >= from_instant AND instant < to_instant
  GROUP BY k0, position, reach
),
key AS MATERIALIZED (
  SELECT k0, CAST(row_number() OVER () AS UINTEGER) AS k, first, last, true AS dense
  FROM (
    SELECT k0, CAST(min(position) AS INTEGER) AS first, CAST(max(reach) AS INTEGER) AS last, count(position) AS tiles
    FROM tile
    GROUP BY k0
  )
),
cell AS (
  SELECT
    k,
    CAST(0 AS INTEGER) AS run,
    position,
    CASE WHEN reach IS NOT NULL THEN (CAST(coalesce(t_count_25ff0b8485121160, 0) AS HUGEINT) << 0) + (CAST(coalesce(t_count_af37078793172b5b, 0) AS HUGEINT) << 42) + (CAST(coalesce(t_histogram_9ce9f74a98ce4438_1, 0) AS HUGEINT) << 84) END AS packed_t_count_25ff0b8485121160,
    CASE WHEN reach IS NOT NULL THEN (CAST(coalesce(t_histogram_9ce9f74a98ce4438_2, 0) AS HUGEINT) << 0) + (CAST(coalesce(t_histogram_9ce9f74a98ce4438_3, 0) AS HUGEINT) << 42) + (CAST(coalesce(t_histogram_9ce9f74a98ce4438_4, 0) AS HUGEINT) << 84) END AS packed_t_histogram_9ce9f74a98ce4438_2,
    CASE WHEN reach IS NOT NULL THEN (CAST(coalesce(t_last_k_915cae88ca11a85f_len, 0) AS HUGEINT) << 0) + (CAST(coalesce(t_first_k_f253abe49738bfa8_len, 0) AS HUGEINT) << 42) END AS packed_t_last_k_915cae88ca11a85f_len,
    t_moments_5ff077926e346889,
    t_decayed_d98b297ac57b25da_even,
    t_decayed_d98b297ac57b25da_odd,
    t_first_096cbac94d8721e2,
    t_last_k_915cae88ca11a85f_tile,
    t_first_k_f253abe49738bfa8_tile
  FROM (
    SELECT k0, k, unnest(range(first, last + 1)) AS position FROM key WHERE dense
  )
  LEFT JOIN tile USING (k0, position)
),
bound AS (
  SELECT
    position,
    coalesce(CAST(before1 AS BIGINT), 0) AS first1,
    coalesce(CAST(before3 AS BIGINT), 0) AS first2,
    coalesce(CAST(before3 AS BIGINT), 0) + 1 AS until3,
    coalesce(CAST(before4 AS BIGINT), 0) AS first3,
    coalesce(CAST(before2 AS BIGINT), 0) AS first4,
    coalesce(CASE WHEN epoch_us(interval_end) > first_end + 21600000000000 THEN CAST(before2 AS BIGINT) END, 0) AS first5
  FROM boundary
  LEFT JOIN frame USING (position)
),
windowed AS (
  SELECT
    k,
    position,
    sum(packed_t_count_25ff0b8485121160) OVER w0 AS packed_t_count_25ff0b8485121160_w0,
    sum(packed_t_count_25ff0b8485121160) OVER w1 AS packed_t_count_25ff0b8485121160_w1,
    sum(packed_t_count_25ff0b8485121160) OVER w2 AS packed_t_count_25ff0b8485121160_w2,
    sum(packed_t_count_25ff0b8485121160) OVER w3 AS packed_t_count_25ff0b8485121160_w3,
    sum(packed_t_histogram_9ce9f74a98ce4438_2) OVER w2 AS packed_t_histogram_9ce9f74a98ce4438_2_w2,
    CAST(combine_aggr(to_aggregate_state(t_moments_5ff077926e346889, 'skewness', ['DOUBLE'])) OVER w2 AS STRUCT(n UBIGINT, mean DOUBLE, m2 DOUBLE, m3 DOUBLE)) AS t_moments_5ff077926e346889_w2,
    sum(t_decayed_d98b297ac57b25da_even) OVER w4 AS t_decayed_d98b297ac57b25da_even_w4,
    first_value(t_first_096cbac94d8721e2 IGNORE NULLS) OVER w1 AS t_first_096cbac94d8721e2_w1,
    max(t_last_k_915cae88ca11a85f_tile) OVER w0 AS t_last_k_915cae88ca11a85f_tile_w0,
    sum(packed_t_last_k_915cae88ca11a85f_len) OVER w1 AS packed_t_last_k_915cae88ca11a85f_len_w1,
    min(t_first_k_f253abe49738bfa8_tile) OVER w1 AS t_first_k_f253abe49738bfa8_tile_w1
  FROM cell
  LEFT JOIN bound USING (position)
  WINDOW
    w0 AS (PARTITION BY k, run ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING),
    w1 AS (PARTITION BY k, run ORDER BY position ROWS BETWEEN first1 PRECEDING AND 1 PRECEDING),
    w2 AS (PARTITION BY k, run ORDER BY position ROWS BETWEEN first2 PRECEDING AND 1 PRECEDING),
    w3 AS (PARTITION BY k, run ORDER BY position ROWS BETWEEN first3 PRECEDING AND until3 PRECEDING),
    w4 AS (PARTITION BY k, run ORDER BY position ROWS BETWEEN first4 PRECEDING AND 1 PRECEDING)
),
seldom AS (
  SELECT
    k,
    position,
    sum(t_decayed_d98b297ac57b25da_odd) OVER w5 AS t_decayed_d98b297ac57b25da_odd_w5
  FROM cell
  LEFT JOIN bound USING (position)
  WHERE position >= (SELECT min(position - greatest(first5)) FROM bound WHERE greatest(first5) > 0)
  WINDOW
    w5 AS (PARTITION BY k, run ORDER BY position ROWS BETWEEN first5 PRECEDING AND 1 PRECEDING)
)
SELECT
  k0,
  interval_end,
  (packed_t_count_25ff0b8485121160_w1 >> 0) & 4398046511103 AS s0,
  (packed_t_count_25ff0b8485121160_w2 >> 0) & 4398046511103 AS s1,
  (packed_t_count_25ff0b8485121160_w0 >> 0) & 4398046511103 AS s2,
  (packed_t_count_25ff0b8485121160_w3 >> 0) & 4398046511103 AS s3,
  (packed_t_count_25ff0b8485121160_w2 >> 42) & 4398046511103 AS s4,
  (packed_t_count_25ff0b8485121160_w2 >> 84) & 4398046511103 AS s5,
  (packed_t_histogram_9ce9f74a98ce4438_2_w2 >> 0) & 4398046511103 AS s6,
  (packed_t_histogram_9ce9f74a98ce4438_2_w2 >> 42) & 4398046511103 AS s7,
  (packed_t_histogram_9ce9f74a98ce4438_2_w2 >> 84) & 4398046511103 AS s8,
  t_moments_5ff077926e346889_w2 AS s9,
  t_decayed_d98b297ac57b25da_even_w4 * weight0 AS s10,
  t_decayed_d98b297ac57b25da_odd_w5 * weight1 AS s11,
  t_first_096cbac94d8721e2_w1 AS s12,
  t_last_k_915cae88ca11a85f_tile_w0 AS s13,
  (packed_t_last_k_915cae88ca11a85f_len_w1 >> 0) & 4398046511103 AS s14,
  t_first_k_f253abe49738bfa8_tile_w1 AS s15,
  (packed_t_last_k_915cae88ca11a85f_len_w1 >> 42) & 4398046511103 AS s16
FROM windowed
LEFT JOIN (FROM seldom WHERE (k >= 0) IN (SELECT unnest([true]))) AS seldom USING (k, position)
JOIN (SELECT *, pow(2.0, -(epoch_us(interval_end) - first_end - greatest(0, (epoch_us(interval_end) - first_end - 1) // 21600000000000) // 2 * 2 * 21600000000000) / 43200000000.0) AS weight0, pow(2.0, -(epoch_us(interval_end) - first_end - ((greatest(0, (epoch_us(interval_end) - first_end - 1) // 21600000000000) + 1) // 2 * 2 - 1) * 21600000000000) / 43200000000.0) AS weight1 FROM frame) AS frame USING (position)
LEFT JOIN (FROM key WHERE (k >= 0) IN (SELECT unnest([true]))) AS key USING (k)
WHERE packed_t_count_25ff0b8485121160_w0 IS NOT NULL
),
-- Rows whose values are so far from those that the key was centred on that digits were lost.
doubtful AS (
  SELECT k0, interval_end, epoch_us(interval_end) AS end_instant FROM rows WHERE coalesce(s9.n > 1 AND isfinite(s9.n * (s9.mean * s9.mean)) AND s9.n * (s9.mean * s9.mean) > 1e6 * s9.m2, false)
),
piece AS (
  SELECT *, any_value(CASE WHEN "t_moments_5ff077926e346889".n > 0 AND isfinite("t_moments_5ff077926e346889".mean) THEN coalesce("t_moments_5ff077926e346889".c, 0) + "t_moments_5ff077926e346889".mean END) FILTER (instant >= end_instant - 2592000000000 AND instant < end_instant) OVER (PARTITION BY k0, interval_end) AS centre_s9
  FROM (SELECT doubtful.*, tiles.* EXCLUDE (k0), epoch_us(tile_start) AS instant
    FROM doubtful JOIN own AS tiles ON tiles.k0 = doubtful.k0)
),
exact AS (
  SELECT
    k0, interval_end,
    CAST(combine_aggr(CASE WHEN t_moments_5ff077926e346889.n > 0 THEN to_aggregate_state(struct_pack(n := t_moments_5ff077926e346889.n, mean := (coalesce(t_moments_5ff077926e346889.c, 0) - coalesce(centre_s9, 0)) + t_moments_5ff077926e346889.mean, m2 := t_moments_5ff077926e346889.m2, m3 := t_moments_5ff077926e346889.m3), 'skewness', ['DOUBLE']) END) FILTER (instant >= end_instant - 2592000000000 AND instant < end_instant) AS STRUCT(n UBIGINT, mean DOUBLE, m2 DOUBLE, m3 DOUBLE)) AS s9
  FROM piece
  GROUP BY k0, interval_end
)
SELECT
  rows.k0, rows.interval_end, rows.s0, rows.s1, rows.s2, rows.s3, rows.s4, rows.s5, rows.s6, rows.s7, rows.s8, rows.s10, rows.s11, rows.s12, rows.s13, rows.s14, rows.s15, rows.s16,
  CASE WHEN coalesce(rows.s9.n > 1 AND isfinite(rows.s9.n * (rows.s9.mean * rows.s9.mean)) AND rows.s9.n * (rows.s9.mean * rows.s9.mean) > 1e6 * rows.s9.m2, false) THEN exact.s9 ELSE rows.s9 END AS s9
FROM rows
LEFT JOIN exact USING (k0, interval_end)
) AS rows
LEFT JOIN list_0 AS of_s13 ON of_s13.k0 = rows.k0 AND of_s13.beginning = rows.s13
LEFT JOIN list_1 AS of_s15 ON of_s15.k0 = rows.k0 AND of_s15.beginning = rows.s15
)
)
LEFT JOIN (
WITH whole AS (
  SELECT "airport" AS k0
  FROM tiles0
),
own AS (
  SELECT "airport" AS k0, tile_sub, tile_start, t_count_8d911ac65ef31849, t_sum_1de4d4d07f217650, t_count_5a9d347b7fea75a3
  FROM tiles1
)
SELECT * FROM (
WITH
sub_key AS MATERIALIZED (
  SELECT sub, CAST(row_number() OVER (ORDER BY sub) AS INTEGER) AS number
  FROM (SELECT DISTINCT tile_sub AS sub FROM own)
),
key AS MATERIALIZED (
  SELECT k0, CAST(row_number() OVER () AS UINTEGER) AS k
  FROM (SELECT DISTINCT k0 FROM whole)
),
numbered AS (
  SELECT * EXCLUDE (k0, tile_sub, sub)
  FROM own
  JOIN sub_key ON sub = tile_sub
  JOIN key USING (k0)
),
cell AS (
  SELECT k0 AS k, k1 AS number, interval_end, s0, s1, s2
  FROM (
WITH
-- Every interval's end and every edge of a window, in order.
boundary AS (
  SELECT
    instant,
    CAST(row_number() OVER (ORDER BY instant) - 1 AS INTEGER) AS position,
    lead(instant) OVER (ORDER BY instant) AS next_instant
  FROM (
    SELECT DISTINCT instant FROM (SELECT epoch_us(interval_end) - unnest([0, 2592000000000]) AS instant FROM intervals)
  )
),
-- How many segments before its end the edges of an interval's windows lie.
frame AS (
  SELECT
    stop.position,
    interval_end,
    CAST(stop.position - edge1.position AS INTEGER) AS before1
  FROM intervals
  JOIN boundary stop ON stop.instant = epoch_us(interval_end)
  JOIN boundary edge1 ON edge1.instant = stop.instant - 2592000000000
),
-- The time from one boundary to the next, if it lies in some window; reach is the last end whose window holds it.
segment AS (
  SELECT position, instant, next_instant, reach
  FROM (
    SELECT boundary.position, instant, next_instant, max(frame.position) OVER (ORDER BY boundary.position) AS reach
    FROM boundary
    LEFT JOIN frame ON frame.position - frame.before1 = boundary.position
  )
  WHERE reach > position
),
-- Finds the segment of an instant by hashing: even steps of time, each with the segments that it touches.
step AS (
  SELECT
    min(instant) AS origin,
    greatest(min(next_instant - instant), (max(next_instant) - min(instant)) // (16 * count(*)), 1) AS length
  FROM segment
),
lookup AS (
  SELECT
    position,
    reach,
    instant AS from_instant,
    next_instant AS to_instant,
    unnest(range((instant - origin) // length, (next_instant - 1 - origin) // length + 1)) AS step_number
  FROM segment
  CROSS JOIN step
),
tile AS MATERIALIZED (
  SELECT
    k0,
    k1,
    position,
    reach,
    sum(t_count_8d911ac65ef31849) AS t_count_8d911ac65ef31849,
    sum(t_count_5a9d347b7fea75a3) AS t_count_5a9d347b7fea75a3,
    sum(t_sum_1de4d4d07f217650) AS t_sum_1de4d4d07f217650
  FROM (
    SELECT *, (instant - (SELECT origin FROM step)) // (SELECT length FROM step) AS at_step
    FROM (SELECT *, k AS k0, number AS k1, epoch_us(tile_start) AS instant FROM numbered)
  )
  LEFT JOIN lookup ON step_number = at_step AND instant >= from_instant AND instant < to_instant
  GROUP BY k0, k1, position, reach
),
key AS MATERIALIZED (
  SELECT k0, k1, CAST(row_number() OVER () AS UINTEGER) AS k, first, last, last - first < 4 * tiles AS dense
  FROM (
    SELECT k0, k1, CAST(min(position) AS INTEGER) AS first, CAST(max(reach) AS INTEGER) AS last, count(position) AS tiles
    FROM tile
    GROUP BY k0, k1
  )
),
followed AS (
  SELECT
    k, position, reach,
    (CAST(coalesce(t_count_8d911ac65ef31849, 0) AS HUGEINT) << 0) + (CAST(coalesce(t_count_5a9d347b7fea75a3, 0) AS HUGEINT) << 42) AS packed_t_count_8d911ac65ef31849,
    t_sum_1de4d4d07f217650,
    lead(position) OVER neighbours AS next_position,
    lag(reach) OVER neighbours AS reached
  FROM tile
  JOIN (FROM key WHERE NOT dense) USING (k0, k1)
  WINDOW neighbours AS (PARTITION BY k ORDER BY position)
),
stretch AS (
  SELECT
    k,
    position,
    packed_t_count_8d911ac65ef31849,
    t_sum_1de4d4d07f217650,
    least(next_position, reach + 1) - position AS segments,
    max(CASE WHEN reached >= position THEN NULL ELSE position END) OVER (PARTITION BY k ORDER BY position) AS run
  FROM followed
),
cell AS (
  SELECT
    k,
    CAST(0 AS INTEGER) AS run,
    position,
    CASE WHEN reach IS NOT NULL THEN (CAST(coalesce(t_count_8d911ac65ef31849, 0) AS HUGEINT) << 0) + (CAST(coalesce(t_count_5a9d347b7fea75a3, 0) AS HUGEINT) << 42) END AS packed_t_count_8d911ac65ef31849,
    t_sum_1de4d4d07f217650
  FROM (
    SELECT k0, k1, k, unnest(range(first, last + 1)) AS position FROM key WHERE dense
  )
  LEFT JOIN tile USING (k0, k1, position)
  UNION ALL
  SELECT
    k,
    run,
    CAST(position + after_tile AS INTEGER) AS position,
    CASE WHEN after_tile = 0 THEN packed_t_count_8d911ac65ef31849 END AS packed_t_count_8d911ac65ef31849,
    CASE WHEN after_tile = 0 THEN t_sum_1de4d4d07f217650 END AS t_sum_1de4d4d07f217650
  FROM (SELECT *, unnest(range(segments)) AS after_tile FROM stretch)
),
bound AS (
  SELECT
    position,
    coalesce(CAST(before1 AS BIGINT), 0) AS first0
  FROM boundary
  LEFT JOIN frame USING (position)
),
windowed AS (
  SELECT
    k,
    position,
    sum(packed_t_count_8d911ac65ef31849) OVER w0 AS packed_t_count_8d911ac65ef31849_w0,
    sum(t_sum_1de4d4d07f217650) OVER w0 AS t_sum_1de4d4d07f217650_w0
  FROM cell
  LEFT JOIN bound USING (position)
  WINDOW
    w0 AS (PARTITION BY k, run ORDER BY position ROWS BETWEEN first0 PRECEDING AND 1 PRECEDING)
)
SELECT
  k0,
  k1,
  interval_end,
  (packed_t_count_8d911ac65ef31849_w0 >> 0) & 4398046511103 AS s0,
  t_sum_1de4d4d07f217650_w0 AS s1,
  (packed_t_count_8d911ac65ef31849_w0 >> 42) & 4398046511103 AS s2
FROM windowed
JOIN frame USING (position)
LEFT JOIN (FROM key WHERE (k >= 0) IN (SELECT unnest([true]))) AS key USING (k)
WHERE packed_t_count_8d911ac65ef31849_w0 IS NOT NULL
)
)
SELECT k0, interval_end, CASE WHEN len(list_filter(pack0, lambda x: CAST((x >> 0) & 4294967295 AS BIGINT) > 0)) > 100 THEN map_from_entries(list_transform(list_sort(list_transform(list_reverse_sort(list_transform(list_filter(pack0, lambda x: CAST((x >> 0) & 4294967295 AS BIGINT) > 0), lambda x: (CAST(CAST((x >> 0) & 4294967295 AS BIGINT) AS BIGINT) << 31) + (2147483647 - CAST(x >> 96 AS INTEGER))))[1:100], lambda x: (CAST(CAST(2147483647 - (x & 2147483647) AS INTEGER) AS BIGINT) << 32) + (x >> 31))), lambda x: {'key': names[x >> 32], 'value': x & 4294967295})) WHEN len(list_filter(pack0, lambda x: CAST((x >> 0) & 4294967295 AS BIGINT) > 0)) > 0 THEN map_from_entries(list_transform(list_filter(pack0, lambda x: CAST((x >> 0) & 4294967295 AS BIGINT) > 0), lambda x: {'key': names[CAST(x >> 96 AS INTEGER)], 'value': CAST((x >> 0) & 4294967295 AS BIGINT)})) END AS "raw by_carrier_30d", CASE WHEN len(held1) > 0 THEN map_from_entries(list_transform(list_sort(CASE WHEN len(held1) <= 5 THEN held1 ELSE list_transform(list_reverse_sort(list_transform(held1, lambda x: {'rank': (CAST((x.at & 4294967295) AS BIGINT) << 31) + (2147483647 - (x.at >> 32)), 'value': x.value}))[1:5], lambda x: {'at': (CAST(CAST(2147483647 - (x.rank & 2147483647) AS INTEGER) AS BIGINT) << 32) + 0, 'value': x.value}) END), lambda x: {'key': names[x.at >> 32], 'value': x.value})) END AS "raw delay_by_carrier_30d"
FROM (
  SELECT k, interval_end, list({'at': (CAST(number AS BIGINT) << 32) + CAST(s0 AS UINTEGER), 'value': CAST(s1 AS DOUBLE) / nullif(s2, 0)}) FILTER (s0 > 0) AS held1, list_sort(list((CAST(number AS HUGEINT) << 96) + (CAST(CAST(coalesce(s0, 0) AS UINTEGER) AS HUGEINT) << 0))) AS pack0
  FROM (SELECT * FROM cell ORDER BY k, interval_end)
  GROUP BY k, interval_end
)
LEFT JOIN (
  SELECT unnest(entries, max_depth := 2) FROM (SELECT list({'k': k, 'k0': k0}) AS entries FROM key)
) USING (k)
CROSS JOIN (SELECT list(sub ORDER BY number) AS names FROM sub_key)
)
) USING (k0, interval_end)
LEFT JOIN (
WITH whole AS (
  SELECT "airport" AS k0
  FROM tiles0
),
own AS (
  SELECT "airport" AS k0, tile_sub, tile_start, t_count_05e9cd502fc65283
  FROM tiles2
)
SELECT * FROM (
SELECT * FROM (
SELECT k0, interval_end, c0 AS "raw carriers_30d"
FROM (
WITH
key AS MATERIALIZED (
  SELECT k0, CAST(row_number() OVER () AS UINTEGER) AS k
  FROM (SELECT DISTINCT k0 FROM whole)
),
seen0 AS (
  SELECT k, begins, number - lag(number) OVER tiles AS since, lead(number) OVER tiles - number AS until
  FROM (
    SELECT k, epoch_us(tile_start) AS begins, tile_sub AS sub, epoch_us(tile_start) AS number FROM own JOIN key USING (k0)
  )
  WINDOW tiles AS (PARTITION BY k, sub ORDER BY number)
),
moved0 AS MATERIALIZED (
  SELECT k, begins, count(*) - count(CASE WHEN since <= 2592000000000 THEN 1 END) AS came0, count(*) - count(CASE WHEN until <= 2592000000000 THEN 1 END) AS gone0
  FROM seen0
  GROUP BY k, begins
),
-- The intervals in order, and where tiles lie among them.
stop AS MATERIALIZED (
  SELECT interval_end, epoch_us(interval_end) AS instant, row_number() OVER (ORDER BY interval_end) - 1 AS position
  FROM intervals
),
place AS MATERIALIZED (
  SELECT
    begins,
    (SELECT count(*) FROM stop) AS intervals,
    coalesce(stop0.position + 1, 0) AS after0,
    coalesce(stop1.position + 1, 0) AS after1
  FROM (SELECT DISTINCT begins FROM (SELECT begins FROM moved0))
  ASOF LEFT JOIN stop stop0 ON begins + 0 >= stop0.instant
  ASOF LEFT JOIN stop stop1 ON begins + 2592000000000 >= stop1.instant
),
turn0 AS MATERIALIZED (
  SELECT * FROM moved0 LEFT JOIN place USING (begins)
),
change AS (
  SELECT k, position, CAST(sum(c0) AS BIGINT) AS c0
  FROM (
    SELECT k, turn0.after0 AS position, came0 AS c0
    FROM turn0
    WHERE true AND turn0.after0 < (SELECT count(*) FROM stop)
    UNION ALL
    SELECT k, turn0.after1 AS position, -gone0 AS c0
    FROM turn0
    WHERE true AND turn0.after1 < (SELECT count(*) FROM stop)
  )
  GROUP BY k, position
),
held AS (
  SELECT * FROM (
    SELECT
      k, position,
      lead(position, 1, (SELECT count(*) FROM stop)) OVER (PARTITION BY k ORDER BY position) AS until,
      CAST(sum(c0) OVER so_far AS BIGINT) AS c0
    FROM change
    WINDOW so_far AS (PARTITION BY k ORDER BY position ROWS UNBOUNDED PRECEDING)
  )
  WHERE c0 > 0
)
SELECT k0, interval_end, c0
FROM (SELECT k, unnest(range(position, until)) AS position, c0 FROM held)
JOIN stop USING (position)
JOIN key USING (k)
)
)
FULL JOIN (
WITH
sub_key AS MATERIALIZED (
  SELECT sub, CAST(row_number() OVER (ORDER BY sub) AS INTEGER) AS number
  FROM (SELECT DISTINCT tile_sub AS sub FROM own)
),
key AS MATERIALIZED (
  SELECT k0, CAST(row_number() OVER () AS UINTEGER) AS k
  FROM (SELECT DISTINCT k0 FROM whole)
),
numbered AS (
  SELECT * EXCLUDE (k0, tile_sub, sub)
  FROM own
  JOIN sub_key ON sub = tile_sub
  JOIN key USING (k0)
),
-- The intervals in order, and where tiles lie among them.
stop AS MATERIALIZED (
  SELECT interval_end, epoch_us(interval_end) AS instant, row_number() OVER (ORDER BY interval_end) - 1 AS position
  FROM intervals
),
place AS MATERIALIZED (
  SELECT
    begins,
    (SELECT count(*) FROM stop) AS intervals,
    coalesce(stop0.position + 1, 0) AS after0,
    coalesce(stop1.position + 1, 0) AS after1
  FROM (SELECT DISTINCT begins FROM (SELECT epoch_us(tile_start) AS begins FROM own))
  ASOF LEFT JOIN stop stop0 ON begins + 0 >= stop0.instant
  ASOF LEFT JOIN stop stop1 ON begins + 2592000000000 >= stop1.instant
),
-- How many events a key has of each sub-key: no count of a window is greater.
total AS MATERIALIZED (
  SELECT k, greatest(coalesce(sum(t_count_05e9cd502fc65283), 0)) AS events, count(*) AS tiles FROM numbered GROUP BY k, number
),
lane AS MATERIALIZED (
  SELECT
    bits, lanes, subs, (CAST(1 AS HUGEINT) << bits) - 1 AS mask, (subs - 1) // lanes + 1 AS packs,
    (SELECT count(*) FROM place) + 1 AS size,  -- of what an array has per number: nothing comes first
    list_transform(range(subs), lambda n: {
      'number': n + 1, 'pack': n // lanes + 1, 'shift': CAST(n % lanes * bits AS HUGEINT)
    }) AS slots
  FROM (
    SELECT bits, 126 // bits AS lanes, (SELECT count(*) FROM sub_key) AS subs
    FROM (SELECT CAST(length(bin(CAST(max(events) AS BIGINT))) AS INTEGER) AS bits FROM total)
  )
),
packed_key AS MATERIALIZED (
  SELECT k
  FROM (
    SELECT k, packs * size AS numbers, row_number() OVER (ORDER BY tiles DESC) AS rank
    FROM (SELECT k, sum(tiles) AS tiles FROM total GROUP BY k)
    CROSS JOIN lane
    WHERE subs * size <= tiles * lanes AND size <= tiles * 4 AND bits <= 31
  )
  WHERE rank * numbers <= 8388608
),
instant AS MATERIALIZED (
  SELECT begins, row_number() OVER (ORDER BY begins) AS rank FROM place
),
-- How many places of an array lie before the edges of an interval's windows.
edge AS MATERIALIZED (
  SELECT CAST(position AS INTEGER) AS position, coalesce(edge0.rank, 0) + 1 AS before0, coalesce(edge1.rank, 0) + 1 AS before1
  FROM stop
  ASOF LEFT JOIN instant edge0 ON stop.instant - 0 > edge0.begins
  ASOF LEFT JOIN instant edge1 ON stop.instant - 2592000000000 > edge1.begins
),
-- Every number of a packed key has a row for every instant, and one before all.
dense AS (
  SELECT k, pack, begins, CAST(sum(t_count_05e9cd502fc65283) AS HUGEINT) AS t_count_05e9cd502fc65283
  FROM (
    SELECT k, (number - 1) // lanes AS pack, epoch_us(tile_start) AS begins, CAST(coalesce(t_count_05e9cd502fc65283, 0) AS HUGEINT) << ((number - 1) % lanes * bits) AS t_count_05e9cd502fc65283
    FROM numbered
    SEMI JOIN packed_key USING (k)
    CROSS JOIN lane
    UNION ALL
    SELECT k, pack, begins, 0 AS t_count_05e9cd502fc65283
    FROM packed_key
    CROSS JOIN (SELECT unnest(range(packs)) AS pack FROM lane)
    CROSS JOIN (SELECT begins FROM instant UNION ALL SELECT min(begins) - 1 FROM instant)
  )
  GROUP BY k, pack, begins
),
packed_window AS MATERIALIZED (
  SELECT *
  FROM (
    SELECT k, position, list_transform(range(packs), lambda n: t_count_05e9cd502fc65283[n * size + before0] - t_count_05e9cd502fc65283[n * size + before1]) AS s0
    FROM (
      SELECT k, list(t_count_05e9cd502fc65283 ORDER BY pack, begins) AS t_count_05e9cd502fc65283
      FROM (
        SELECT k, pack, begins, CAST(sum(t_count_05e9cd502fc65283) OVER so_far AS HUGEINT) AS t_count_05e9cd502fc65283
        FROM dense
        WINDOW so_far AS (PARTITION BY k, pack ORDER BY begins ROWS UNBOUNDED PRECEDING)
      )
      GROUP BY k
    )
    CROSS JOIN edge
    CROSS JOIN lane
  )
  WHERE list_max(s0) > 0
),
moving AS MATERIALIZED (
  SELECT * FROM (
    SELECT k, number, t_count_05e9cd502fc65283, place.after0 AS come0, place.after1 AS gone0
    FROM (SELECT *, epoch_us(tile_start) AS begins FROM numbered ANTI JOIN packed_key USING (k))
    LEFT JOIN place USING (begins)
  )
  WHERE come0 < gone0
),
change AS (
  SELECT k, number, position, CAST(sum(s0) AS BIGINT) AS s0
  FROM (
    SELECT k, number, come0 AS position, t_count_05e9cd502fc65283 AS s0
    FROM moving
    WHERE true AND come0 < (SELECT count(*) FROM stop)
    UNION ALL
    SELECT k, number, gone0 AS position, -t_count_05e9cd502fc65283 AS s0
    FROM moving
    WHERE true AND gone0 < (SELECT count(*) FROM stop)
  )
  GROUP BY k, number, position
),
held AS (
  SELECT * FROM (
    SELECT
      k, number, position,
      lead(position, 1, (SELECT count(*) FROM stop)) OVER (PARTITION BY k, number ORDER BY position) AS until,
      CAST(sum(s0) OVER so_far AS BIGINT) AS s0
    FROM change
    WINDOW so_far AS (PARTITION BY k, number ORDER BY position ROWS UNBOUNDED PRECEDING)
  )
  WHERE s0 > 0
),
cell AS (
  SELECT k, number, CAST(unnest(range(position, until)) AS INTEGER) AS position, CAST(s0 AS UINTEGER) AS s0 FROM held
)
SELECT k0, interval_end, nullif(list_transform(list_filter(pack0, lambda x: CAST((x >> 0) & 4294967295 AS BIGINT) > 0)[1:20], lambda x: names[CAST(x >> 96 AS INTEGER)]), []) AS "raw carrier_list_30d", nullif(list_transform(most1, lambda x: names[CAST(2147483647 - (x & 2147483647) AS INTEGER)]), []) AS "raw main_carriers_30d"
FROM (
  SELECT k, position, max((CAST(s0 AS BIGINT) << 31) + (2147483647 - number), 3) FILTER (s0 > 0) AS most1, list_sort(list((CAST(number AS HUGEINT) << 96) + (CAST(CAST(coalesce(s0, 0) AS UINTEGER) AS HUGEINT) << 0))) AS pack0
  FROM (SELECT * FROM cell ORDER BY k, position)
  GROUP BY k, position
  UNION ALL
  SELECT k, position, list_filter(list_aggregate(list_transform(slots, lambda x: (CAST(CAST((s0[x.pack] >> x.shift) & mask AS BIGINT) AS BIGINT) << 31) + (2147483647 - x.number)), 'max', 3), lambda x: x > 2147483647) AS most1, list_transform(slots, lambda x: (CAST(x.number AS HUGEINT) << 96) + (CAST(CAST((s0[x.pack] >> x.shift) & mask AS BIGINT) AS HUGEINT) << 0)) AS pack0
  FROM packed_window
  CROSS JOIN lane
)
LEFT JOIN stop USING (position)
LEFT JOIN (
  SELECT unnest(entries, max_depth := 2) FROM (SELECT list({'k': k, 'k0': k0}) AS entries FROM key)
) USING (k)
CROSS JOIN (SELECT list(sub ORDER BY number) AS names FROM sub_key)
) USING (k0, interval_end)
)
) USING (k0, interval_end)
LEFT JOIN (
WITH whole AS (
  SELECT "airport" AS k0
  FROM tiles0
),
own AS (
  SELECT "airport" AS k0, tile_sub, tile_start, t_count_0758756d82729071
  FROM tiles3
)
SELECT * FROM (
WITH counted AS MATERIALIZED (
WITH
key AS MATERIALIZED (
  SELECT k0, CAST(row_number() OVER () AS UINTEGER) AS k
  FROM (SELECT DISTINCT k0 FROM whole)
),
seen0 AS (
  SELECT k, begins, number - lag(number) OVER tiles AS since, lead(number) OVER tiles - number AS until
  FROM (
    SELECT k, epoch_us(tile_start) AS begins, CAST(tile_sub AS BIGINT) * 536870912 + epoch_us(tile_start) // 86400000000 AS number FROM own JOIN key USING (k0)
  )
  WINDOW tiles AS (PARTITION BY k ORDER BY number)
),
moved0 AS MATERIALIZED (
  SELECT k, begins, count(*) - count(CASE WHEN since <= 30 THEN 1 END) AS came0, count(*) - count(CASE WHEN until <= 30 THEN 1 END) AS gone0, count(*) - count(CASE WHEN since <= 90 THEN 1 END) AS came1, count(*) - count(CASE WHEN until <= 90 THEN 1 END) AS gone1
  FROM seen0
  GROUP BY k, begins
),
-- The intervals in order, and where tiles lie among them.
stop AS MATERIALIZED (
  SELECT interval_end, epoch_us(interval_end) AS instant, row_number() OVER (ORDER BY interval_end) - 1 AS position
  FROM intervals
),
place AS MATERIALIZED (
  SELECT
    begins,
    (SELECT count(*) FROM stop) AS intervals,
    coalesce(stop0.position + 1, 0) AS after0,
    coalesce(stop1.position + 1, 0) AS after1,
    coalesce(stop2.position + 1, 0) AS after2
  FROM (SELECT DISTINCT begins FROM (SELECT begins FROM moved0))
  ASOF LEFT JOIN stop stop0 ON begins + 0 >= stop0.instant
  ASOF LEFT JOIN stop stop1 ON begins + 2592000000000 >= stop1.instant
  ASOF LEFT JOIN stop stop2 ON begins + 7776000000000 >= stop2.instant
),
turn0 AS MATERIALIZED (
  SELECT * FROM moved0 LEFT JOIN place USING (begins)
),
change AS (
  SELECT k, position, CAST(sum(c0) AS BIGINT) AS c0, CAST(sum(c1) AS BIGINT) AS c1
  FROM (
    SELECT k, turn0.after0 AS position, came0 AS c0, came1 AS c1
    FROM turn0
    WHERE true AND turn0.after0 < (SELECT count(*) FROM stop)
    UNION ALL
    SELECT k, turn0.after1 AS position, -gone0 AS c0, 0 AS c1
    FROM turn0
    WHERE true AND turn0.after1 < (SELECT count(*) FROM stop)
    UNION ALL
    SELECT k, turn0.after2 AS position, 0 AS c0, -gone1 AS c1
    FROM turn0
    WHERE true AND turn0.after2 < (SELECT count(*) FROM stop)
  )
  GROUP BY k, position
),
held AS (
  SELECT * FROM (
    SELECT
      k, position,
      lead(position, 1, (SELECT count(*) FROM stop)) OVER (PARTITION BY k ORDER BY position) AS until,
      CAST(sum(c0) OVER so_far AS BIGINT) AS c0, CAST(sum(c1) OVER so_far AS BIGINT) AS c1
    FROM change
    WINDOW so_far AS (PARTITION BY k ORDER BY position ROWS UNBOUNDED PRECEDING)
  )
  WHERE c0 > 0 OR c1 > 0
)
SELECT k0, interval_end, c0, c1
FROM (SELECT k, unnest(range(position, until)) AS position, c0, c1 FROM held)
JOIN stop USING (position)
JOIN key USING (k)
),
estimate AS MATERIALIZED (
  SELECT coupons, CAST(round(exp(list_reduce(list_prepend(least(ln(4096) + coupons * ln(2.0) / 4096 + 0.5, CASE WHEN coupons < 4096 THEN ln(-4096 * ln(1 - coupons / 4096)) END), CAST(range(7) AS DOUBLE[])), lambda x, step: x - (4096 * list_sum(list_transform([0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125, 0.00390625, 0.001953125, 0.0009765625, 0.00048828125, 0.000244140625, 0.0001220703125, 6.103515625e-05, 3.0517578125e-05, 1.52587890625e-05, 7.62939453125e-06, 3.814697265625e-06, 1.9073486328125e-06, 9.5367431640625e-07, 4.76837158203125e-07, 2.384185791015625e-07, 1.1920928955078125e-07, 5.960464477539063e-08, 2.9802322387695312e-08, 1.4901161193847656e-08, 7.450580596923828e-09, 3.725290298461914e-09, 1.862645149230957e-09, 9.313225746154785e-10, 4.656612873077393e-10, 2.3283064365386963e-10, 1.1641532182693481e-10, 5.820766091346741e-11, 2.9103830456733704e-11, 1.4551915228366852e-11, 7.275957614183426e-12, 3.637978807091713e-12, 1.8189894035458565e-12, 9.094947017729282e-13, 9.094947017729282e-13], lambda p: 1 - exp(-(exp(x) * p / 4096)))) - coupons) / (4096 * list_sum(list_transform([0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125, 0.00390625, 0.001953125, 0.0009765625, 0.00048828125, 0.000244140625, 0.0001220703125, 6.103515625e-05, 3.0517578125e-05, 1.52587890625e-05, 7.62939453125e-06, 3.814697265625e-06, 1.9073486328125e-06, 9.5367431640625e-07, 4.76837158203125e-07, 2.384185791015625e-07, 1.1920928955078125e-07, 5.960464477539063e-08, 2.9802322387695312e-08, 1.4901161193847656e-08, 7.450580596923828e-09, 3.725290298461914e-09, 1.862645149230957e-09, 9.313225746154785e-10, 4.656612873077393e-10, 2.3283064365386963e-10, 1.1641532182693481e-10, 5.820766091346741e-11, 2.9103830456733704e-11, 1.4551915228366852e-11, 7.275957614183426e-12, 3.637978807091713e-12, 1.8189894035458565e-12, 9.094947017729282e-13, 9.094947017729282e-13], lambda p: (exp(x) * p / 4096) * exp(-(exp(x) * p / 4096)))))))) AS BIGINT) AS estimate FROM (
  SELECT DISTINCT c0 AS coupons FROM counted WHERE c0 > 0
  UNION
  SELECT DISTINCT c1 AS coupons FROM counted WHERE c1 > 0
  )
)
SELECT k0, interval_end, of_c0.estimate AS "raw aircraft_30d", of_c1.estimate AS "raw aircraft_90d"
FROM counted
LEFT JOIN estimate AS of_c0 ON of_c0.coupons = c0
LEFT JOIN estimate AS of_c1 ON of_c1.coupons = c1
)
) USING (k0, interval_end)
LEFT JOIN (
WITH whole AS (
  SELECT "airport" AS k0
  FROM tiles0
),
own AS (
  SELECT "airport" AS k0, tile_sub, tile_start, t_count_4b655fec2f016709
  FROM tiles4
)
SELECT * FROM (
WITH
-- The intervals in order, and where tiles lie among them.
stop AS MATERIALIZED (
  SELECT interval_end, epoch_us(interval_end) AS instant, row_number() OVER (ORDER BY interval_end) - 1 AS position
  FROM intervals
),
place AS MATERIALIZED (
  SELECT
    begins,
    (SELECT count(*) FROM stop) AS intervals,
    coalesce(stop0.position + 1, 0) AS after0,
    coalesce(stop1.position + 1, 0) AS after1
  FROM (SELECT DISTINCT begins FROM (SELECT epoch_us(tile_start) AS begins FROM own))
  ASOF LEFT JOIN stop stop0 ON begins + 0 >= stop0.instant
  ASOF LEFT JOIN stop stop1 ON begins + 2592000000000 >= stop1.instant
),
key AS MATERIALIZED (
  SELECT k0, CAST(row_number() OVER () AS UINTEGER) AS k
  FROM (SELECT DISTINCT k0 FROM whole)
),
counted AS MATERIALIZED (
  SELECT k, epoch_us(tile_start) AS begins, tile_sub AS bucket, t_count_4b655fec2f016709 AS events
  FROM own JOIN key USING (k0)
  WHERE t_count_4b655fec2f016709 > 0
),
-- The intervals that some tile of a key lies in: those of a tile up to those of the next one.
asked AS (
  SELECT k, unnest(range(come, least(gone, coalesce(next_come, gone)))) AS position
  FROM (
    SELECT k, least(place.after0) AS come, greatest(place.after1) AS gone, lead(least(place.after0)) OVER (PARTITION BY k ORDER BY begins) AS next_come
    FROM (SELECT DISTINCT k, begins FROM counted)
    JOIN place USING (begins)
  )
),
item AS (
  SELECT k, begins AS instant, bucket, false AS asks FROM counted CROSS JOIN unnest(range(events))
  UNION ALL
  SELECT k, instant, NULL, true FROM asked JOIN stop USING (position)
),
ranked AS (
  SELECT k, instant, asks, quantile_disc(bucket, [0.5, 0.95]) OVER (PARTITION BY k ORDER BY instant RANGE BETWEEN CASE WHEN asks THEN 2592000000000 ELSE 0 END PRECEDING AND CASE WHEN asks THEN 1 ELSE 1 END PRECEDING) AS found0
  FROM item
)
SELECT k0, interval_end, CASE WHEN found0[1] = 2000000 THEN CAST('NaN' AS DOUBLE) WHEN abs(found0[1]) = 1000000 THEN sign(found0[1]) * CAST('Infinity' AS DOUBLE) WHEN found0[1] = 0 THEN 0.0 ELSE sign(found0[1]) * exp(least((abs(found0[1]) - 100000 - 0.5) * 0.0199, 709.78)) / 1.000049501658397 END AS "raw delay_median_30d", CASE WHEN found0[2] = 2000000 THEN CAST('NaN' AS DOUBLE) WHEN abs(found0[2]) = 1000000 THEN sign(found0[2]) * CAST('Infinity' AS DOUBLE) WHEN found0[2] = 0 THEN 0.0 ELSE sign(found0[2]) * exp(least((abs(found0[2]) - 100000 - 0.5) * 0.0199, 709.78)) / 1.000049501658397 END AS "raw delay_p95_30d"
FROM ranked
JOIN stop USING (instant)
JOIN key USING (k)
WHERE asks
)
) USING (k0, interval_end)
)
)
);

-- single interval
SELECT
  "airport",
  event_timestamp,
  "movements_1d",
  "movements_30d",
  "movements_lifetime",
  "movements_30d_offset_30d",
  "cancelled_30d",
  "by_carrier_30d",
  "delay_by_carrier_30d",
  "carriers_30d",
  "carrier_list_30d",
  "main_carriers_30d",
  "aircraft_30d",
  "aircraft_90d",
  "delay_median_30d",
  "delay_p95_30d",
  "delays_30d",
  "delay_deviation_30d",
  "delay_variance_30d",
  "delay_skew_30d",
  "recent_delay_7d",
  "first_carrier_1d",
  "last_carriers_1d",
  "first_carriers_1d",
  "growth"
FROM (
SELECT
  *,
  CAST(("movements_30d" / NULLIF("movements_30d_offset_30d", 0)) AS DOUBLE) AS "growth"
FROM (
SELECT
  k0 AS "airport",
  interval_end AS event_timestamp,
  coalesce(CAST("raw movements_1d" AS BIGINT), CAST(0 AS BIGINT)) AS "movements_1d",
  coalesce(CAST("raw movements_30d" AS BIGINT), CAST(0 AS BIGINT)) AS "movements_30d",
  coalesce(CAST("raw movements_lifetime" AS BIGINT), CAST(0 AS BIGINT)) AS "movements_lifetime",
  coalesce(CAST("raw movements_30d_offset_30d" AS BIGINT), CAST(0 AS BIGINT)) AS "movements_30d_offset_30d",
  coalesce(CAST("raw cancelled_30d" AS BIGINT), CAST(0 AS BIGINT)) AS "cancelled_30d",
  CAST("raw by_carrier_30d" AS MAP(VARCHAR, BIGINT)) AS "by_carrier_30d",
  CAST("raw delay_by_carrier_30d" AS MAP(VARCHAR, DOUBLE)) AS "delay_by_carrier_30d",
  coalesce(CAST("raw carriers_30d" AS BIGINT), CAST(0 AS BIGINT)) AS "carriers_30d",
  CAST("raw carrier_list_30d" AS VARCHAR[]) AS "carrier_list_30d",
  CAST("raw main_carriers_30d" AS VARCHAR[]) AS "main_carriers_30d",
  coalesce(CAST("raw aircraft_30d" AS BIGINT), CAST(0 AS BIGINT)) AS "aircraft_30d",
  coalesce(CAST("raw aircraft_90d" AS BIGINT), CAST(0 AS BIGINT)) AS "aircraft_90d",
  CAST("raw delay_median_30d" AS DOUBLE) AS "delay_median_30d",
  CAST("raw delay_p95_30d" AS DOUBLE) AS "delay_p95_30d",
  coalesce(CAST("raw delays_30d" AS BIGINT[]), CAST([0, 0, 0, 0] AS BIGINT[])) AS "delays_30d",
  CAST("raw delay_deviation_30d" AS DOUBLE) AS "delay_deviation_30d",
  CAST("raw delay_variance_30d" AS DOUBLE) AS "delay_variance_30d",
  CAST("raw delay_skew_30d" AS DOUBLE) AS "delay_skew_30d",
  coalesce(CAST("raw recent_delay_7d" AS DOUBLE), CAST(0.0 AS DOUBLE)) AS "recent_delay_7d",
  CAST("raw first_carrier_1d" AS VARCHAR) AS "first_carrier_1d",
  CAST("raw last_carriers_1d" AS VARCHAR[]) AS "last_carriers_1d",
  CAST("raw first_carriers_1d" AS VARCHAR[]) AS "first_carriers_1d"
FROM (
SELECT * FROM (
WITH own AS (
SELECT
  "airport" AS k0,
  tile_start,
  event_timestamp,
  t_count_25ff0b8485121160,
  t_count_af37078793172b5b,
  t_histogram_9ce9f74a98ce4438,
  t_moments_5ff077926e346889,
  t_decayed_d98b297ac57b25da,
  t_first_096cbac94d8721e2,
  t_last_k_915cae88ca11a85f,
  t_first_k_f253abe49738bfa8
FROM tiles0
)
SELECT
  k0,
  interval_end,
  CAST(s0 AS BIGINT) AS "raw movements_1d",
  CAST(s1 AS BIGINT) AS "raw movements_30d",
  CAST(s2 AS BIGINT) AS "raw movements_lifetime",
  CAST(s3 AS BIGINT) AS "raw movements_30d_offset_30d",
  CAST(s4 AS BIGINT) AS "raw cancelled_30d",
  [coalesce(s5, 0), coalesce(s6, 0), coalesce(s7, 0), coalesce(s8, 0)] AS "raw delays_30d",
  sqrt(CASE WHEN CAST(s9.n AS DOUBLE) > 1 THEN s9.m2 / (CAST(s9.n AS DOUBLE) - 1) END) AS "raw delay_deviation_30d",
  CASE WHEN CAST(s9.n AS DOUBLE) > 1 THEN s9.m2 / (CAST(s9.n AS DOUBLE) - 1) END AS "raw delay_variance_30d",
  CASE WHEN CAST(s9.n AS DOUBLE) > 2 AND s9.m2 <> 0 THEN CAST(s9.n AS DOUBLE) * sqrt(CAST(s9.n AS DOUBLE) - 1) / (CAST(s9.n AS DOUBLE) - 2) * (s9.m3 / s9.m2 / sqrt(s9.m2)) END AS "raw delay_skew_30d",
  coalesce(s10 + s11, s10, s11) AS "raw recent_delay_7d",
  s12 AS "raw first_carrier_1d",
  CASE WHEN s14 > 0 THEN s13[:least(s14, 3)] END AS "raw last_carriers_1d",
  CASE WHEN s16 > 0 THEN s15[:least(s16, 3)] END AS "raw first_carriers_1d"
FROM (
WITH list_0 AS (
  SELECT
    k0, beginning,
    flatten(list(own) OVER (PARTITION BY k0 ORDER BY number RANGE BETWEEN CURRENT ROW AND 2 FOLLOWING))[:3] AS items
  FROM (
    -- number: how many values lie between a tile and the outermost one of its key.
    SELECT *, sum(len(own)) OVER (PARTITION BY k0 ORDER BY beginning DESC) - len(own) AS number
    FROM (SELECT k0 AS k0, epoch_us(tile_start) AS beginning, t_last_k_915cae88ca11a85f AS own FROM own WHERE len(t_last_k_915cae88ca11a85f) > 0)
  )
),
list_1 AS (
  SELECT
    k0, beginning,
    flatten(list(own) OVER (PARTITION BY k0 ORDER BY number RANGE BETWEEN CURRENT ROW AND 2 FOLLOWING))[:3] AS items
  FROM (
    -- number: how many values lie between a tile and the outermost one of its key.
    SELECT *, sum(len(own)) OVER (PARTITION BY k0 ORDER BY beginning ASC) - len(own) AS number
    FROM (SELECT k0 AS k0, epoch_us(tile_start) AS beginning, t_first_k_f253abe49738bfa8 AS own FROM own WHERE len(t_first_k_f253abe49738bfa8) > 0)
  )
)
SELECT
  rows.k0, rows.interval_end, rows.s0, rows.s1, rows.s2, rows.s3, rows.s4, rows.s5, rows.s6, rows.s7, rows.s8, rows.s9, rows.s10, rows.s11, rows.s12, rows.s14, rows.s16, of_s13.items AS s13, of_s15.items AS s15
FROM (
WITH rows AS MATERIALIZED (
SELECT
  k0,
  interval_end,
  s0,
  s1,
  s2,
  s3,
  s4,
  s5,
  s6,
  s7,
  s8,
  s9,
  s10 * pow(2.0, -(epoch_us(interval_end) - epoch_us(interval_end) - greatest(0, (epoch_us(interval_end) - epoch_us(interval_end) - 1) // 21600000000000) // 2 * 2 * 21600000000000) / 43200000000.0) AS s10,
  s11 * pow(2.0, -(epoch_us(interval_end) - epoch_us(interval_end) - ((greatest(0, (epoch_us(interval_end) - epoch_us(interval_end) - 1) // 21600000000000) + 1) // 2 * 2 - 1) * 21600000000000) / 43200000000.0) AS s11,
  s12,
  s13,
  s14,
  s15,
  s16
FROM (
SELECT
  k0,
  sum(t_count_25ff0b8485121160) FILTER (segment > 3) AS s0,
  sum(t_count_25ff0b8485121160) FILTER (segment > 1) AS s1,
  sum(t_count_25ff0b8485121160) AS s2,
  sum(t_count_25ff0b8485121160) FILTER (segment > 0 AND segment <= 1) AS s3,
  sum(t_count_af37078793172b5b) FILTER (segment > 1) AS s4,
  sum(t_histogram_9ce9f74a98ce4438_1) FILTER (segment > 1) AS s5,
  sum(t_histogram_9ce9f74a98ce4438_2) FILTER (segment > 1) AS s6,
  sum(t_histogram_9ce9f74a98ce4438_3) FILTER (segment > 1) AS s7,
  sum(t_histogram_9ce9f74a98ce4438_4) FILTER (segment > 1) AS s8,
  CAST(combine_aggr(to_aggregate_state(t_moments_5ff077926e346889, 'skewness', ['DOUBLE'])) FILTER (segment > 1) AS STRUCT(n UBIGINT, mean DOUBLE, m2 DOUBLE, m3 DOUBLE)) AS s9,
  sum(t_decayed_d98b297ac57b25da_even) FILTER (segment > 2) AS s10,
  sum(t_decayed_d98b297ac57b25da_odd) FILTER (segment > 2) AS s11,
  arg_min(t_first_096cbac94d8721e2, segment) FILTER (segment > 3) AS s12,
  max(t_last_k_915cae88ca11a85f_tile) AS s13,
  sum(t_last_k_915cae88ca11a85f_len) FILTER (segment > 3) AS s14,
  min(t_first_k_f253abe49738bfa8_tile) FILTER (segment > 3) AS s15,
  sum(t_first_k_f253abe49738bfa8_len) FILTER (segment > 3) AS s16
FROM (
SELECT
  k0,
  segment,
  sum(t_count_25ff0b8485121160) AS t_count_25ff0b8485121160,
  sum(t_count_af37078793172b5b) AS t_count_af37078793172b5b,
  sum(t_histogram_9ce9f74a98ce4438[1]) AS t_histogram_9ce9f74a98ce4438_1,
  sum(t_histogram_9ce9f74a98ce4438[2]) AS t_histogram_9ce9f74a98ce4438_2,
  sum(t_histogram_9ce9f74a98ce4438[3]) AS t_histogram_9ce9f74a98ce4438_3,
  sum(t_histogram_9ce9f74a98ce4438[4]) AS t_histogram_9ce9f74a98ce4438_4,
  CAST(combine_aggr(CASE WHEN t_moments_5ff077926e346889.n > 0 THEN to_aggregate_state(struct_pack(n := t_moments_5ff077926e346889.n, mean := (coalesce(t_moments_5ff077926e346889.c, 0) - coalesce("centre t_moments_5ff077926e346889", 0)) + t_moments_5ff077926e346889.mean, m2 := t_moments_5ff077926e346889.m2, m3 := t_moments_5ff077926e346889.m3), 'skewness', ['DOUBLE']) END) AS STRUCT(n UBIGINT, mean DOUBLE, m2 DOUBLE, m3 DOUBLE)) AS t_moments_5ff077926e346889,
  sum(t_decayed_d98b297ac57b25da * pow(2.0, (epoch_us(event_timestamp) - first_end - greatest(0, (epoch_us(event_timestamp) - first_end - 1) // 21600000000000) * 21600000000000) / 43200000000.0) * CASE WHEN greatest(0, (epoch_us(event_timestamp) - first_end - 1) // 21600000000000) % 2 = 0 THEN 1 END) AS t_decayed_d98b297ac57b25da_even,
  sum(t_decayed_d98b297ac57b25da * pow(2.0, (epoch_us(event_timestamp) - first_end - greatest(0, (epoch_us(event_timestamp) - first_end - 1) // 21600000000000) * 21600000000000) / 43200000000.0) * CASE WHEN greatest(0, (epoch_us(event_timestamp) - first_end - 1) // 21600000000000) % 2 = 1 THEN 1 END) AS t_decayed_d98b297ac57b25da_odd,
  arg_min(t_first_096cbac94d8721e2, tile_start) AS t_first_096cbac94d8721e2,
  max(CASE WHEN len(t_last_k_915cae88ca11a85f) > 0 THEN epoch_us(tile_start) END) AS t_last_k_915cae88ca11a85f_tile,
  sum(len(t_last_k_915cae88ca11a85f)) AS t_last_k_915cae88ca11a85f_len,
  min(CASE WHEN len(t_first_k_f253abe49738bfa8) > 0 THEN epoch_us(tile_start) END) AS t_first_k_f253abe49738bfa8_tile,
  sum(len(t_first_k_f253abe49738bfa8)) AS t_first_k_f253abe49738bfa8_len
FROM (
SELECT *, CAST(instant >= before_5184000000000 AS SMALLINT) + CAST(instant >= before_2592000000000 AS SMALLINT) + CAST(instant >= before_604800000000 AS SMALLINT) + CAST(instant >= before_86400000000 AS SMALLINT) AS segment
FROM (
  SELECT *, epoch_us(tile_start) AS instant
  FROM (SELECT * FROM own JOIN (SELECT k0, any_value(CASE WHEN "t_moments_5ff077926e346889".n > 0 AND isfinite("t_moments_5ff077926e346889".mean) THEN coalesce("t_moments_5ff077926e346889".c, 0) + "t_moments_5ff077926e346889".mean END) AS "centre t_moments_5ff077926e346889" FROM own GROUP BY k0) USING (k0))
)
CROSS JOIN (SELECT epoch_us(interval_end) - 5184000000000 AS before_5184000000000, epoch_us(interval_end) - 2592000000000 AS before_2592000000000, epoch_us(interval_end) - 604800000000 AS before_604800000000, epoch_us(interval_end) - 86400000000 AS before_86400000000, epoch_us(interval_end) - 0 AS before_0, epoch_us(interval_end) AS first_end FROM intervals)
WHERE instant < before_0
)
GROUP BY k0, segment
)
GROUP BY k0
)
CROSS JOIN (SELECT interval_end FROM intervals)
),
-- Rows whose values are so far from those that the key was centred on that digits were lost.
doubtful AS (
  SELECT k0, interval_end, epoch_us(interval_end) AS end_instant FROM rows WHERE coalesce(s9.n > 1 AND isfinite(s9.n * (s9.mean * s9.mean)) AND s9.n * (s9.mean * s9.mean) > 1e6 * s9.m2, false)
),
piece AS (
  SELECT *, any_value(CASE WHEN "t_moments_5ff077926e346889".n > 0 AND isfinite("t_moments_5ff077926e346889".mean) THEN coalesce("t_moments_5ff077926e346889".c, 0) + "t_moments_5ff077926e346889".mean END) FILTER (instant >= end_instant - 2592000000000 AND instant < end_instant) OVER (PARTITION BY k0, interval_end) AS centre_s9
  FROM (SELECT doubtful.*, tiles.* EXCLUDE (k0), epoch_us(tile_start) AS instant
    FROM doubtful JOIN own AS tiles ON tiles.k0 = doubtful.k0)
),
exact AS (
  SELECT
    k0, interval_end,
    CAST(combine_aggr(CASE WHEN t_moments_5ff077926e346889.n > 0 THEN to_aggregate_state(struct_pack(n := t_moments_5ff077926e346889.n, mean := (coalesce(t_moments_5ff077926e346889.c, 0) - coalesce(centre_s9, 0)) + t_moments_5ff077926e346889.mean, m2 := t_moments_5ff077926e346889.m2, m3 := t_moments_5ff077926e346889.m3), 'skewness', ['DOUBLE']) END) FILTER (instant >= end_instant - 2592000000000 AND instant < end_instant) AS STRUCT(n UBIGINT, mean DOUBLE, m2 DOUBLE, m3 DOUBLE)) AS s9
  FROM piece
  GROUP BY k0, interval_end
)
SELECT
  rows.k0, rows.interval_end, rows.s0, rows.s1, rows.s2, rows.s3, rows.s4, rows.s5, rows.s6, rows.s7, rows.s8, rows.s10, rows.s11, rows.s12, rows.s13, rows.s14, rows.s15, rows.s16,
  CASE WHEN coalesce(rows.s9.n > 1 AND isfinite(rows.s9.n * (rows.s9.mean * rows.s9.mean)) AND rows.s9.n * (rows.s9.mean * rows.s9.mean) > 1e6 * rows.s9.m2, false) THEN exact.s9 ELSE rows.s9 END AS s9
FROM rows
LEFT JOIN exact USING (k0, interval_end)
) AS rows
LEFT JOIN list_0 AS of_s13 ON of_s13.k0 = rows.k0 AND of_s13.beginning = rows.s13
LEFT JOIN list_1 AS of_s15 ON of_s15.k0 = rows.k0 AND of_s15.beginning = rows.s15
)
)
LEFT JOIN (
WITH whole AS (
  SELECT "airport" AS k0
  FROM tiles0
),
own AS (
  SELECT "airport" AS k0, tile_sub, tile_start, t_count_8d911ac65ef31849, t_sum_1de4d4d07f217650, t_count_5a9d347b7fea75a3
  FROM tiles1
)
SELECT * FROM (
WITH
sub_key AS MATERIALIZED (
  SELECT sub, CAST(row_number() OVER (ORDER BY sub) AS INTEGER) AS number
  FROM (SELECT DISTINCT tile_sub AS sub FROM own)
),
key AS MATERIALIZED (
  SELECT k0, CAST(row_number() OVER () AS UINTEGER) AS k
  FROM (SELECT DISTINCT k0 FROM whole)
),
numbered AS (
  SELECT * EXCLUDE (k0, tile_sub, sub)
  FROM own
  JOIN sub_key ON sub = tile_sub
  JOIN key USING (k0)
),
cell AS (
  SELECT k0 AS k, k1 AS number, interval_end, s0, s1, s2
  FROM (
SELECT
  k0,
  k1,
  interval_end,
  s0,
  s1,
  s2
FROM (
SELECT
  k0,
  k1,
  sum(t_count_8d911ac65ef31849) AS s0,
  sum(t_sum_1de4d4d07f217650) AS s1,
  sum(t_count_5a9d347b7fea75a3) AS s2
FROM (
  SELECT *, k AS k0, number AS k1, epoch_us(tile_start) AS instant
  FROM numbered
)
CROSS JOIN (SELECT epoch_us(interval_end) - 2592000000000 AS before_2592000000000, epoch_us(interval_end) - 0 AS before_0 FROM intervals)
WHERE instant >= before_2592000000000 AND instant < before_0
GROUP BY k0, k1
)
CROSS JOIN (SELECT interval_end FROM intervals)
)
)
SELECT k0, interval_end, CASE WHEN len(list_filter(pack0, lambda x: CAST((x >> 0) & 4294967295 AS BIGINT) > 0)) > 100 THEN map_from_entries(list_transform(list_sort(list_transform(list_reverse_sort(list_transform(list_filter(pack0, lambda x: CAST((x >> 0) & 4294967295 AS BIGINT) > 0), lambda x: (CAST(CAST((x >> 0) & 4294967295 AS BIGINT) AS BIGINT) << 31) + (2147483647 - CAST(x >> 96 AS INTEGER))))[1:100], lambda x: (CAST(CAST(2147483647 - (x & 2147483647) AS INTEGER) AS BIGINT) << 32) + (x >> 31))), lambda x: {'key': names[x >> 32], 'value': x & 4294967295})) WHEN len(list_filter(pack0, lambda x: CAST((x >> 0) & 4294967295 AS BIGINT) > 0)) > 0 THEN map_from_entries(list_transform(list_filter(pack0, lambda x: CAST((x >> 0) & 4294967295 AS BIGINT) > 0), lambda x: {'key': names[CAST(x >> 96 AS INTEGER)], 'value': CAST((x >> 0) & 4294967295 AS BIGINT)})) END AS "raw by_carrier_30d", CASE WHEN len(held1) > 0 THEN map_from_entries(list_transform(list_sort(CASE WHEN len(held1) <= 5 THEN held1 ELSE list_transform(list_reverse_sort(list_transform(held1, lambda x: {'rank': (CAST((x.at & 4294967295) AS BIGINT) << 31) + (2147483647 - (x.at >> 32)), 'value': x.value}))[1:5], lambda x: {'at': (CAST(CAST(2147483647 - (x.rank & 2147483647) AS INTEGER) AS BIGINT) << 32) + 0, 'value': x.value}) END), lambda x: {'key': names[x.at >> 32], 'value': x.value})) END AS "raw delay_by_carrier_30d"
FROM (
  SELECT k, interval_end, list({'at': (CAST(number AS BIGINT) << 32) + CAST(s0 AS UINTEGER), 'value': CAST(s1 AS DOUBLE) / nullif(s2, 0)}) FILTER (s0 > 0) AS held1, list_sort(list((CAST(number AS HUGEINT) << 96) + (CAST(CAST(coalesce(s0, 0) AS UINTEGER) AS HUGEINT) << 0))) AS pack0
  FROM (SELECT * FROM cell ORDER BY k, interval_end)
  GROUP BY k, interval_end
)
LEFT JOIN (
  SELECT unnest(entries, max_depth := 2) FROM (SELECT list({'k': k, 'k0': k0}) AS entries FROM key)
) USING (k)
CROSS JOIN (SELECT list(sub ORDER BY number) AS names FROM sub_key)
)
) USING (k0, interval_end)
LEFT JOIN (
WITH whole AS (
  SELECT "airport" AS k0
  FROM tiles0
),
own AS (
  SELECT "airport" AS k0, tile_sub, tile_start, t_count_05e9cd502fc65283
  FROM tiles2
)
SELECT * FROM (
SELECT * FROM (
SELECT k0, interval_end, c0 AS "raw carriers_30d"
FROM (
SELECT k0, interval_end, count(*) FILTER (events_c0 > 0) AS c0
FROM (
SELECT
  k0,
  k1,
  interval_end,
  events_c0
FROM (
SELECT
  k0,
  k1,
  sum(t_count_05e9cd502fc65283) AS events_c0
FROM (
  SELECT *, tile_sub AS k1, epoch_us(tile_start) AS instant
  FROM own
)
CROSS JOIN (SELECT epoch_us(interval_end) - 2592000000000 AS before_2592000000000, epoch_us(interval_end) - 0 AS before_0 FROM intervals)
WHERE instant >= before_2592000000000 AND instant < before_0
GROUP BY k0, k1
)
CROSS JOIN (SELECT interval_end FROM intervals)
)
GROUP BY k0, interval_end
)
)
FULL JOIN (
WITH
sub_key AS MATERIALIZED (
  SELECT sub, CAST(row_number() OVER (ORDER BY sub) AS INTEGER) AS number
  FROM (SELECT DISTINCT tile_sub AS sub FROM own)
),
key AS MATERIALIZED (
  SELECT k0, CAST(row_number() OVER () AS UINTEGER) AS k
  FROM (SELECT DISTINCT k0 FROM whole)
),
numbered AS (
  SELECT * EXCLUDE (k0, tile_sub, sub)
  FROM own
  JOIN sub_key ON sub = tile_sub
  JOIN key USING (k0)
),
cell AS (
  SELECT k0 AS k, k1 AS number, interval_end, s0
  FROM (
SELECT
  k0,
  k1,
  interval_end,
  s0
FROM (
SELECT
  k0,
  k1,
  sum(t_count_05e9cd502fc65283) AS s0
FROM (
  SELECT *, k AS k0, number AS k1, epoch_us(tile_start) AS instant
  FROM numbered
)
CROSS JOIN (SELECT epoch_us(interval_end) - 2592000000000 AS before_2592000000000, epoch_us(interval_end) - 0 AS before_0 FROM intervals)
WHERE instant >= before_2592000000000 AND instant < before_0
GROUP BY k0, k1
)
CROSS JOIN (SELECT interval_end FROM intervals)
)
)
SELECT k0, interval_end, nullif(list_transform(list_filter(pack0, lambda x: CAST((x >> 0) & 4294967295 AS BIGINT) > 0)[1:20], lambda x: names[CAST(x >> 96 AS INTEGER)]), []) AS "raw carrier_list_30d", nullif(list_transform(most1, lambda x: names[CAST(2147483647 - (x & 2147483647) AS INTEGER)]), []) AS "raw main_carriers_30d"
FROM (
  SELECT k, interval_end, max((CAST(s0 AS BIGINT) << 31) + (2147483647 - number), 3) FILTER (s0 > 0) AS most1, list_sort(list((CAST(number AS HUGEINT) << 96) + (CAST(CAST(coalesce(s0, 0) AS UINTEGER) AS HUGEINT) << 0))) AS pack0
  FROM (SELECT * FROM cell ORDER BY k, interval_end)
  GROUP BY k, interval_end
)
LEFT JOIN (
  SELECT unnest(entries, max_depth := 2) FROM (SELECT list({'k': k, 'k0': k0}) AS entries FROM key)
) USING (k)
CROSS JOIN (SELECT list(sub ORDER BY number) AS names FROM sub_key)
) USING (k0, interval_end)
)
) USING (k0, interval_end)
LEFT JOIN (
WITH whole AS (
  SELECT "airport" AS k0
  FROM tiles0
),
own AS (
  SELECT "airport" AS k0, tile_sub, tile_start, t_count_0758756d82729071
  FROM tiles3
)
SELECT * FROM (
WITH counted AS MATERIALIZED (
SELECT k0, interval_end, count(*) FILTER (events_c0 > 0) AS c0, count(*) FILTER (events_c1 > 0) AS c1
FROM (
SELECT
  k0,
  k1,
  interval_end,
  events_c0,
  events_c1
FROM (
SELECT
  k0,
  k1,
  sum(t_count_0758756d82729071) FILTER (instant >= before_2592000000000) AS events_c0,
  sum(t_count_0758756d82729071) AS events_c1
FROM (
  SELECT *, tile_sub AS k1, epoch_us(tile_start) AS instant
  FROM own
)
CROSS JOIN (SELECT epoch_us(interval_end) - 7776000000000 AS before_7776000000000, epoch_us(interval_end) - 2592000000000 AS before_2592000000000, epoch_us(interval_end) - 0 AS before_0 FROM intervals)
WHERE instant >= before_7776000000000 AND instant < before_0
GROUP BY k0, k1
)
CROSS JOIN (SELECT interval_end FROM intervals)
)
GROUP BY k0, interval_end
),
estimate AS MATERIALIZED (
  SELECT coupons, CAST(round(exp(list_reduce(list_prepend(least(ln(4096) + coupons * ln(2.0) / 4096 + 0.5, CASE WHEN coupons < 4096 THEN ln(-4096 * ln(1 - coupons / 4096)) END), CAST(range(7) AS DOUBLE[])), lambda x, step: x - (4096 * list_sum(list_transform([0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125, 0.00390625, 0.001953125, 0.0009765625, 0.00048828125, 0.000244140625, 0.0001220703125, 6.103515625e-05, 3.0517578125e-05, 1.52587890625e-05, 7.62939453125e-06, 3.814697265625e-06, 1.9073486328125e-06, 9.5367431640625e-07, 4.76837158203125e-07, 2.384185791015625e-07, 1.1920928955078125e-07, 5.960464477539063e-08, 2.9802322387695312e-08, 1.4901161193847656e-08, 7.450580596923828e-09, 3.725290298461914e-09, 1.862645149230957e-09, 9.313225746154785e-10, 4.656612873077393e-10, 2.3283064365386963e-10, 1.1641532182693481e-10, 5.820766091346741e-11, 2.9103830456733704e-11, 1.4551915228366852e-11, 7.275957614183426e-12, 3.637978807091713e-12, 1.8189894035458565e-12, 9.094947017729282e-13, 9.094947017729282e-13], lambda p: 1 - exp(-(exp(x) * p / 4096)))) - coupons) / (4096 * list_sum(list_transform([0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125, 0.00390625, 0.001953125, 0.0009765625, 0.00048828125, 0.000244140625, 0.0001220703125, 6.103515625e-05, 3.0517578125e-05, 1.52587890625e-05, 7.62939453125e-06, 3.814697265625e-06, 1.9073486328125e-06, 9.5367431640625e-07, 4.76837158203125e-07, 2.384185791015625e-07, 1.1920928955078125e-07, 5.960464477539063e-08, 2.9802322387695312e-08, 1.4901161193847656e-08, 7.450580596923828e-09, 3.725290298461914e-09, 1.862645149230957e-09, 9.313225746154785e-10, 4.656612873077393e-10, 2.3283064365386963e-10, 1.1641532182693481e-10, 5.820766091346741e-11, 2.9103830456733704e-11, 1.4551915228366852e-11, 7.275957614183426e-12, 3.637978807091713e-12, 1.8189894035458565e-12, 9.094947017729282e-13, 9.094947017729282e-13], lambda p: (exp(x) * p / 4096) * exp(-(exp(x) * p / 4096)))))))) AS BIGINT) AS estimate FROM (
  SELECT DISTINCT c0 AS coupons FROM counted WHERE c0 > 0
  UNION
  SELECT DISTINCT c1 AS coupons FROM counted WHERE c1 > 0
  )
)
SELECT k0, interval_end, of_c0.estimate AS "raw aircraft_30d", of_c1.estimate AS "raw aircraft_90d"
FROM counted
LEFT JOIN estimate AS of_c0 ON of_c0.coupons = c0
LEFT JOIN estimate AS of_c1 ON of_c1.coupons = c1
)
) USING (k0, interval_end)
LEFT JOIN (
WITH whole AS (
  SELECT "airport" AS k0
  FROM tiles0
),
own AS (
  SELECT "airport" AS k0, tile_sub, tile_start, t_count_4b655fec2f016709
  FROM tiles4
)
SELECT * FROM (
SELECT k0, interval_end, CASE WHEN f0 = 2000000 THEN CAST('NaN' AS DOUBLE) WHEN abs(f0) = 1000000 THEN sign(f0) * CAST('Infinity' AS DOUBLE) WHEN f0 = 0 THEN 0.0 ELSE sign(f0) * exp(least((abs(f0) - 100000 - 0.5) * 0.0199, 709.78)) / 1.000049501658397 END AS "raw delay_median_30d", CASE WHEN f1 = 2000000 THEN CAST('NaN' AS DOUBLE) WHEN abs(f1) = 1000000 THEN sign(f1) * CAST('Infinity' AS DOUBLE) WHEN f1 = 0 THEN 0.0 ELSE sign(f1) * exp(least((abs(f1) - 100000 - 0.5) * 0.0199, 709.78)) / 1.000049501658397 END AS "raw delay_p95_30d"
FROM (
  SELECT k0, interval_end, min(bucket) FILTER (n0 > 0 AND to_n0 >= greatest(1, (1 * all_n0 + 1) // 2)) AS f0, min(bucket) FILTER (n0 > 0 AND to_n0 >= greatest(1, (19 * all_n0 + 19) // 20)) AS f1
  FROM (
    SELECT k0, interval_end, k1 AS bucket, n0, sum(n0) OVER up_to AS to_n0, sum(n0) OVER whole AS all_n0
    FROM (
SELECT
  k0,
  k1,
  interval_end,
  n0
FROM (
SELECT
  k0,
  k1,
  sum(t_count_4b655fec2f016709) AS n0
FROM (
  SELECT *, tile_sub AS k1, epoch_us(tile_start) AS instant
  FROM own
)
CROSS JOIN (SELECT epoch_us(interval_end) - 2592000000000 AS before_2592000000000, epoch_us(interval_end) - 0 AS before_0 FROM intervals)
WHERE instant >= before_2592000000000 AND instant < before_0
GROUP BY k0, k1
)
CROSS JOIN (SELECT interval_end FROM intervals)
    )
    WINDOW
      whole AS (PARTITION BY k0, interval_end),
      up_to AS (PARTITION BY k0, interval_end ORDER BY k1 ROWS UNBOUNDED PRECEDING)
  )
  GROUP BY k0, interval_end
)
)
) USING (k0, interval_end)
)
)
);

-- empty row
SELECT "movements_1d", "movements_30d", "movements_lifetime", "movements_30d_offset_30d", "cancelled_30d", "by_carrier_30d", "delay_by_carrier_30d", "carriers_30d", "carrier_list_30d", "main_carriers_30d", "aircraft_30d", "aircraft_90d", "delay_median_30d", "delay_p95_30d", "delays_30d", "delay_deviation_30d", "delay_variance_30d", "delay_skew_30d", "recent_delay_7d", "first_carrier_1d", "last_carriers_1d", "first_carriers_1d", "growth"
FROM (SELECT *, CAST(("movements_30d" / NULLIF("movements_30d_offset_30d", 0)) AS DOUBLE) AS "growth"
FROM (SELECT CAST(0 AS BIGINT) AS "movements_1d", CAST(0 AS BIGINT) AS "movements_30d", CAST(0 AS BIGINT) AS "movements_lifetime", CAST(0 AS BIGINT) AS "movements_30d_offset_30d", CAST(0 AS BIGINT) AS "cancelled_30d", CAST(NULL AS MAP(VARCHAR, BIGINT)) AS "by_carrier_30d", CAST(NULL AS MAP(VARCHAR, DOUBLE)) AS "delay_by_carrier_30d", CAST(0 AS BIGINT) AS "carriers_30d", CAST(NULL AS VARCHAR[]) AS "carrier_list_30d", CAST(NULL AS VARCHAR[]) AS "main_carriers_30d", CAST(0 AS BIGINT) AS "aircraft_30d", CAST(0 AS BIGINT) AS "aircraft_90d", CAST(NULL AS DOUBLE) AS "delay_median_30d", CAST(NULL AS DOUBLE) AS "delay_p95_30d", CAST([0, 0, 0, 0] AS BIGINT[]) AS "delays_30d", CAST(NULL AS DOUBLE) AS "delay_deviation_30d", CAST(NULL AS DOUBLE) AS "delay_variance_30d", CAST(NULL AS DOUBLE) AS "delay_skew_30d", CAST(0.0 AS DOUBLE) AS "recent_delay_7d", CAST(NULL AS VARCHAR) AS "first_carrier_1d", CAST(NULL AS VARCHAR[]) AS "last_carriers_1d", CAST(NULL AS VARCHAR[]) AS "first_carriers_1d"));

-- making tiles0
WITH made AS MATERIALIZED (
SELECT
  "airport" AS __k0,
  __tile,
  CAST(count(*) AS BIGINT) AS "t_count_25ff0b8485121160",
  CAST(count(*) FILTER (("cancelled")) AS BIGINT) AS "t_count_af37078793172b5b",
  CAST([count(*) FILTER (CAST("arr_delay" AS DOUBLE) < CAST(0.0 AS DOUBLE)), count(*) FILTER (CAST("arr_delay" AS DOUBLE) >= CAST(0.0 AS DOUBLE) AND CAST("arr_delay" AS DOUBLE) < CAST(15.0 AS DOUBLE)), count(*) FILTER (CAST("arr_delay" AS DOUBLE) >= CAST(15.0 AS DOUBLE) AND CAST("arr_delay" AS DOUBLE) < CAST(60.0 AS DOUBLE)), count(*) FILTER (CAST("arr_delay" AS DOUBLE) >= CAST(60.0 AS DOUBLE))] AS BIGINT[]) AS "t_histogram_9ce9f74a98ce4438",
  CAST(CAST(skewness(CAST(("arr_delay") AS DOUBLE)) EXPORT_STATE AS STRUCT(n UBIGINT, mean DOUBLE, m2 DOUBLE, m3 DOUBLE, c DOUBLE)) AS STRUCT(n UBIGINT, mean DOUBLE, m2 DOUBLE, m3 DOUBLE, c DOUBLE)) AS "t_moments_5ff077926e346889",
  CAST(sum(CAST(GREATEST("arr_delay", 0) AS DOUBLE) * pow(2.0, -(__tile_to - epoch_us("recorded_at")) / 43200000000.0)) AS DOUBLE) AS "t_decayed_d98b297ac57b25da",
  CAST(arg_max(("carrier"), create_sort_key(-epoch_us("recorded_at"), 'ASC NULLS FIRST', "flight", 'DESC NULLS FIRST', ("carrier"), 'ASC NULLS FIRST')) AS VARCHAR) AS "t_first_096cbac94d8721e2",
  CAST(CASE WHEN CASE WHEN list_reduce(max(CASE WHEN ("carrier") IS NOT NULL THEN epoch_us("recorded_at") END, 4), lambda a, b: CASE WHEN a <> b THEN b END) IS NULL THEN len(list_filter(list_zip(max(CASE WHEN ("carrier") IS NOT NULL THEN epoch_us("recorded_at") END, 4), max(CASE WHEN ("carrier") IS NOT NULL THEN epoch_us("recorded_at") END, 4)[2:], arg_max(("carrier"), CASE WHEN ("carrier") IS NOT NULL THEN epoch_us("recorded_at") END, 4), arg_max(("carrier"), CASE WHEN ("carrier") IS NOT NULL THEN epoch_us("recorded_at") END, 4)[2:]), lambda p, i: p[1] = p[2] AND (i = 3 OR p[3] IS DISTINCT FROM p[4]))) > 0 END THEN list_resize(arg_max(("carrier"), CASE WHEN ("carrier") IS NOT NULL THEN epoch_us("recorded_at") END, 4), 4) ELSE arg_max(("carrier"), CASE WHEN ("carrier") IS NOT NULL THEN epoch_us("recorded_at") END, 4)[:3] END AS VARCHAR[]) AS "t_last_k_915cae88ca11a85f",
  CAST(CASE WHEN CASE WHEN list_reduce(min(CASE WHEN ("carrier") IS NOT NULL THEN epoch_us("recorded_at") END, 4), lambda a, b: CASE WHEN a <> b THEN b END) IS NULL THEN len(list_filter(list_zip(min(CASE WHEN ("carrier") IS NOT NULL THEN epoch_us("recorded_at") END, 4), min(CASE WHEN ("carrier") IS NOT NULL THEN epoch_us("recorded_at") END, 4)[2:], arg_min(("carrier"), CASE WHEN ("carrier") IS NOT NULL THEN epoch_us("recorded_at") END, 4), arg_min(("carrier"), CASE WHEN ("carrier") IS NOT NULL THEN epoch_us("recorded_at") END, 4)[2:]), lambda p, i: p[1] = p[2] AND (i = 3 OR p[3] IS DISTINCT FROM p[4]))) > 0 END THEN list_resize(arg_min(("carrier"), CASE WHEN ("carrier") IS NOT NULL THEN epoch_us("recorded_at") END, 4), 4) ELSE arg_min(("carrier"), CASE WHEN ("carrier") IS NOT NULL THEN epoch_us("recorded_at") END, 4)[:3] END AS VARCHAR[]) AS "t_first_k_f253abe49738bfa8"
FROM (SELECT *, (epoch_us("recorded_at") + 4611685968000000000) // 86400000000 - 53375995 AS __tile, ((epoch_us("recorded_at") + 4611685968000000000) // 86400000000 - 53375995 + 1) * 86400000000 AS __tile_to FROM events)
GROUP BY 1, 2
),
again AS (
SELECT
  first.__k0,
  first.__tile,
  CAST(struct_update(CAST(skewness(CAST(("arr_delay") AS DOUBLE) - "t_moments_5ff077926e346889".mean) EXPORT_STATE AS STRUCT(n UBIGINT, mean DOUBLE, m2 DOUBLE, m3 DOUBLE, c DOUBLE)), c := any_value("t_moments_5ff077926e346889".mean)) AS STRUCT(n UBIGINT, mean DOUBLE, m2 DOUBLE, m3 DOUBLE, c DOUBLE)) AS "t_moments_5ff077926e346889",
  CAST(arg_max(("carrier"), create_sort_key(epoch_us("recorded_at"), 'ASC NULLS FIRST', "flight", 'ASC NULLS FIRST', ("carrier"), 'ASC NULLS FIRST'), 3) FILTER (("carrier") IS NOT NULL) AS VARCHAR[]) AS "t_last_k_915cae88ca11a85f",
  CAST(arg_max(("carrier"), create_sort_key(-epoch_us("recorded_at"), 'ASC NULLS FIRST', "flight", 'DESC NULLS FIRST', ("carrier"), 'ASC NULLS FIRST'), 3) FILTER (("carrier") IS NOT NULL) AS VARCHAR[]) AS "t_first_k_f253abe49738bfa8"
FROM (SELECT *, (epoch_us("recorded_at") + 4611685968000000000) // 86400000000 - 53375995 AS __tile, ((epoch_us("recorded_at") + 4611685968000000000) // 86400000000 - 53375995 + 1) * 86400000000 AS __tile_to FROM events) AS e
JOIN (SELECT __k0, __tile, "t_moments_5ff077926e346889", "t_last_k_915cae88ca11a85f", "t_first_k_f253abe49738bfa8" FROM made WHERE ((coalesce("t_moments_5ff077926e346889".n > 1 AND isfinite("t_moments_5ff077926e346889".n * ("t_moments_5ff077926e346889".mean * "t_moments_5ff077926e346889".mean)) AND "t_moments_5ff077926e346889".n * ("t_moments_5ff077926e346889".mean * "t_moments_5ff077926e346889".mean) > 1e6 * "t_moments_5ff077926e346889".m2, false) AND ("t_moments_5ff077926e346889".m2 <> 0 OR abs("t_moments_5ff077926e346889".mean) >= 1125899906842624.0)) OR (len("t_last_k_915cae88ca11a85f") > 3) OR (len("t_first_k_f253abe49738bfa8") > 3)) IN (SELECT unnest([true]))) AS first
  ON first.__k0 = "airport" AND first.__tile = e.__tile
GROUP BY 1, 2
)
SELECT
  __k0 AS "airport",
  make_timestamptz(__tile * 86400000000) AS tile_start,
  make_timestamptz((__tile + 1) * 86400000000) AS event_timestamp,
  "t_count_25ff0b8485121160",
  "t_count_af37078793172b5b",
  "t_histogram_9ce9f74a98ce4438",
  CASE WHEN coalesce(made."t_moments_5ff077926e346889".n > 1 AND isfinite(made."t_moments_5ff077926e346889".n * (made."t_moments_5ff077926e346889".mean * made."t_moments_5ff077926e346889".mean)) AND made."t_moments_5ff077926e346889".n * (made."t_moments_5ff077926e346889".mean * made."t_moments_5ff077926e346889".mean) > 1e6 * made."t_moments_5ff077926e346889".m2, false) AND (made."t_moments_5ff077926e346889".m2 <> 0 OR abs(made."t_moments_5ff077926e346889".mean) >= 1125899906842624.0) THEN again."t_moments_5ff077926e346889" ELSE made."t_moments_5ff077926e346889" END AS "t_moments_5ff077926e346889",
  "t_decayed_d98b297ac57b25da",
  "t_first_096cbac94d8721e2",
  CASE WHEN len(made."t_last_k_915cae88ca11a85f") > 3 THEN again."t_last_k_915cae88ca11a85f" ELSE made."t_last_k_915cae88ca11a85f" END AS "t_last_k_915cae88ca11a85f",
  CASE WHEN len(made."t_first_k_f253abe49738bfa8") > 3 THEN again."t_first_k_f253abe49738bfa8" ELSE made."t_first_k_f253abe49738bfa8" END AS "t_first_k_f253abe49738bfa8"
FROM made
LEFT JOIN again USING (__k0, __tile);

-- making tiles1
SELECT
  __k0 AS "airport",
  tile_sub,
  make_timestamptz(__tile * 86400000000) AS tile_start,
  make_timestamptz((__tile + 1) * 86400000000) AS event_timestamp,
  "t_count_8d911ac65ef31849",
  "t_sum_1de4d4d07f217650",
  "t_count_5a9d347b7fea75a3"
FROM (
SELECT
  "airport" AS __k0,
  CASE WHEN typeof("carrier") IN ('FLOAT', 'DOUBLE') AND CAST(("carrier") AS VARCHAR) IN ('-0.0', '-nan') THEN substr(CAST(("carrier") AS VARCHAR), 2) ELSE CAST(("carrier") AS VARCHAR) END AS tile_sub,
  __tile,
  CAST(count(*) AS BIGINT) AS "t_count_8d911ac65ef31849",
  CAST(sum("arr_delay") AS DOUBLE) AS "t_sum_1de4d4d07f217650",
  CAST(count("arr_delay") AS BIGINT) AS "t_count_5a9d347b7fea75a3"
FROM (SELECT *, (epoch_us("recorded_at") + 4611685968000000000) // 86400000000 - 53375995 AS __tile, ((epoch_us("recorded_at") + 4611685968000000000) // 86400000000 - 53375995 + 1) * 86400000000 AS __tile_to FROM events)
WHERE ("carrier") IS NOT NULL
GROUP BY 1, 2, 3
);

-- making tiles2
SELECT
  __k0 AS "airport",
  tile_sub,
  make_timestamptz(__tile * 86400000000) AS tile_start,
  make_timestamptz((__tile + 1) * 86400000000) AS event_timestamp,
  "t_count_05e9cd502fc65283"
FROM (
SELECT
  "airport" AS __k0,
  ("carrier") AS tile_sub,
  __tile,
  CAST(count(*) AS BIGINT) AS "t_count_05e9cd502fc65283"
FROM (SELECT *, (epoch_us("recorded_at") + 4611685968000000000) // 86400000000 - 53375995 AS __tile, ((epoch_us("recorded_at") + 4611685968000000000) // 86400000000 - 53375995 + 1) * 86400000000 AS __tile_to FROM events)
WHERE ("carrier") IS NOT NULL
GROUP BY 1, 2, 3
);

-- making tiles3
SELECT
  __k0 AS "airport",
  tile_sub,
  make_timestamptz(__tile * 86400000000) AS tile_start,
  make_timestamptz((__tile + 1) * 86400000000) AS event_timestamp,
  "t_count_0758756d82729071"
FROM (
SELECT
  "airport" AS __k0,
  CASE WHEN ("tailnum") IS NOT NULL THEN CAST((CASE WHEN hash('fstore') = 12720049878186315196 THEN hash(CAST(("tailnum") AS VARCHAR)) ELSE CAST('fstore: this version of DuckDB hashes differently' AS UBIGINT) END) & 4095 AS INTEGER) * 64 + 40 - CAST(floor(log2(CAST(((CASE WHEN hash('fstore') = 12720049878186315196 THEN hash(CAST(("tailnum") AS VARCHAR)) ELSE CAST('fstore: this version of DuckDB hashes differently' AS UBIGINT) END) >> 12) & 1099511627775 AS DOUBLE) + 0.5)) AS INTEGER) END AS tile_sub,
  __tile,
  CAST(count(*) AS BIGINT) AS "t_count_0758756d82729071"
FROM (SELECT *, (epoch_us("recorded_at") + 4611685968000000000) // 86400000000 - 53375995 AS __tile, ((epoch_us("recorded_at") + 4611685968000000000) // 86400000000 - 53375995 + 1) * 86400000000 AS __tile_to FROM events)
WHERE ("tailnum") IS NOT NULL
GROUP BY 1, 2, 3
);

-- making tiles4
SELECT
  __k0 AS "airport",
  tile_sub,
  make_timestamptz(__tile * 86400000000) AS tile_start,
  make_timestamptz((__tile + 1) * 86400000000) AS event_timestamp,
  "t_count_4b655fec2f016709"
FROM (
SELECT
  "airport" AS __k0,
  CASE WHEN isnan(CAST(CASE WHEN isnan(("arr_delay")) THEN CAST('NaN' AS DOUBLE) ELSE ("arr_delay") + CAST(0 AS DOUBLE) END AS DOUBLE)) THEN 2000000 WHEN CAST(CASE WHEN isnan(("arr_delay")) THEN CAST('NaN' AS DOUBLE) ELSE ("arr_delay") + CAST(0 AS DOUBLE) END AS DOUBLE) = 0 THEN 0 WHEN isinf(CAST(CASE WHEN isnan(("arr_delay")) THEN CAST('NaN' AS DOUBLE) ELSE ("arr_delay") + CAST(0 AS DOUBLE) END AS DOUBLE)) THEN CAST(sign(CAST(CASE WHEN isnan(("arr_delay")) THEN CAST('NaN' AS DOUBLE) ELSE ("arr_delay") + CAST(0 AS DOUBLE) END AS DOUBLE)) AS INTEGER) * 1000000 ELSE CAST(sign(CAST(CASE WHEN isnan(("arr_delay")) THEN CAST('NaN' AS DOUBLE) ELSE ("arr_delay") + CAST(0 AS DOUBLE) END AS DOUBLE)) AS INTEGER) * (100000 + CAST(ceil(ln(abs(CAST(CASE WHEN isnan(("arr_delay")) THEN CAST('NaN' AS DOUBLE) ELSE ("arr_delay") + CAST(0 AS DOUBLE) END AS DOUBLE))) / 0.0199) AS INTEGER)) END AS tile_sub,
  __tile,
  CAST(count(*) AS BIGINT) AS "t_count_4b655fec2f016709"
FROM (SELECT *, (epoch_us("recorded_at") + 4611685968000000000) // 86400000000 - 53375995 AS __tile, ((epoch_us("recorded_at") + 4611685968000000000) // 86400000000 - 53375995 + 1) * 86400000000 AS __tile_to FROM events)
WHERE ("arr_delay") IS NOT NULL
GROUP BY 1, 2, 3
);

-- audit counts
SELECT "__interval" AS interval_end, count(*) AS "rows",
       count(*) FILTER (WHERE a0) AS violations_0,
       count(*) FILTER (WHERE a1) AS violations_1
FROM (
    SELECT "__interval", "airport", "event_timestamp",
           "movements_30d" IS NULL AS a0,
           coalesce("delay_deviation_30d" < 0 OR "delay_deviation_30d" > 2000, false) AS a1
    FROM "rows"
)
GROUP BY 1
ORDER BY 1;

-- audit samples
WITH checked AS (
    SELECT "__interval", "airport", "event_timestamp",
           "movements_30d" IS NULL AS a0,
           coalesce("delay_deviation_30d" < 0 OR "delay_deviation_30d" > 2000, false) AS a1
    FROM "rows"
)
(SELECT 0 AS audit, "__interval" AS interval_end, "airport", "event_timestamp" FROM checked WHERE a0
 QUALIFY row_number() OVER (PARTITION BY "__interval" ORDER BY "airport", "event_timestamp") <= 5)
UNION ALL
(SELECT 1 AS audit, "__interval" AS interval_end, "airport", "event_timestamp" FROM checked WHERE a1
 QUALIFY row_number() OVER (PARTITION BY "__interval" ORDER BY "airport", "event_timestamp") <= 5);
