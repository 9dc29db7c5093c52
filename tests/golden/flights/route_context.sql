-- interval
WITH keyed AS (
SELECT snapshot0."origin" AS "origin", snapshot0."dest" AS "dest", ends0.interval_end AS _end FROM snapshot0 JOIN ends0 ON ends0.snapshot_end = snapshot0.event_timestamp
),
held0 AS (SELECT "origin", "dest", event_timestamp, "flights_1d", "flights_30d" FROM snapshot0),
held1 AS (SELECT "origin", event_timestamp, "movements_1d" FROM snapshot1),
held2 AS (SELECT "airport", event_timestamp, "movements_30d" FROM snapshot2)
SELECT "origin", "dest", event_timestamp, "share_of_origin", "share_of_dest"
FROM (
SELECT *, CAST(("_value0" / NULLIF("_value1", 0)) AS DOUBLE) AS "share_of_origin", CAST(("_value2" / NULLIF("_value3", 0)) AS DOUBLE) AS "share_of_dest"
FROM (
SELECT
  keyed."origin",
  keyed."dest",
  keyed._end AS event_timestamp,
  CASE WHEN held0.event_timestamp IS NOT NULL THEN held0."flights_1d" ELSE empty0."flights_1d" END AS "_value0",
  CASE WHEN held0.event_timestamp IS NOT NULL THEN held0."flights_30d" ELSE empty0."flights_30d" END AS "_value2",
  CASE WHEN held1.event_timestamp IS NOT NULL THEN held1."movements_1d" ELSE empty1."movements_1d" END AS "_value1",
  CASE WHEN held2.event_timestamp IS NOT NULL THEN held2."movements_30d" ELSE empty2."movements_30d" END AS "_value3"
FROM keyed
  LEFT JOIN ends0 ON ends0.interval_end = keyed._end
  LEFT JOIN held0 ON held0."origin" = keyed."origin" AND held0."dest" = keyed."dest" AND held0.event_timestamp = ends0.snapshot_end
  CROSS JOIN (
SELECT "flights_1d", "flights_30d"
FROM (
SELECT "flights_1d", "flights_7d", "flights_30d", "arr_delay_avg_1d", "arr_delay_avg_7d", "arr_delay_avg_30d", "arr_delay_min_7d", "arr_delay_max_7d", "distance_30d", "trend"
FROM (SELECT *, CAST(("arr_delay_avg_7d" / NULLIF("arr_delay_avg_30d", 0)) AS DOUBLE) AS "trend"
FROM (SELECT CAST(0 AS BIGINT) AS "flights_1d", CAST(0 AS BIGINT) AS "flights_7d", CAST(0 AS BIGINT) AS "flights_30d", CAST(NULL AS DOUBLE) AS "arr_delay_avg_1d", CAST(NULL AS DOUBLE) AS "arr_delay_avg_7d", CAST(NULL AS DOUBLE) AS "arr_delay_avg_30d", CAST(NULL AS DOUBLE) AS "arr_delay_min_7d", CAST(NULL AS DOUBLE) AS "arr_delay_max_7d", CAST(NULL AS BIGINT) AS "distance_30d"))
)
) AS empty0
  LEFT JOIN ends1 ON ends1.interval_end = keyed._end
  LEFT JOIN held1 ON held1."origin" = keyed."origin" AND held1.event_timestamp = ends1.snapshot_end
  CROSS JOIN (
SELECT "movements_1d"
FROM (
SELECT "movements_1h", "movements_3h", "movements_1d", "dep_delay_avg_3h", "dep_delay_avg_1d", "last_dest_1d", "load"
FROM (SELECT *, CAST(("movements_3h" / NULLIF(("movements_1d" / 8), 0)) AS DOUBLE) AS "load"
FROM (SELECT CAST(0 AS BIGINT) AS "movements_1h", CAST(0 AS BIGINT) AS "movements_3h", CAST(0 AS BIGINT) AS "movements_1d", CAST(0.0 AS DOUBLE) AS "dep_delay_avg_3h", CAST(0.0 AS DOUBLE) AS "dep_delay_avg_1d", CAST(NULL AS VARCHAR) AS "last_dest_1d"))
)
) AS empty1
  LEFT JOIN ends2 ON ends2.interval_end = keyed._end
  LEFT JOIN held2 ON held2."airport" = keyed."dest" AND held2.event_timestamp = ends2.snapshot_end
  CROSS JOIN (
SELECT "movements_30d"
FROM (
SELECT "movements_1d", "movements_30d", "movements_lifetime", "movements_30d_offset_30d", "cancelled_30d", "by_carrier_30d", "delay_by_carrier_30d", "carriers_30d", "carrier_list_30d", "main_carriers_30d", "aircraft_30d", "aircraft_90d", "delay_median_30d", "delay_p95_30d", "delays_30d", "delay_deviation_30d", "delay_variance_30d", "delay_skew_30d", "recent_delay_7d", "first_carrier_1d", "last_carriers_1d", "first_carriers_1d", "growth"
FROM (SELECT *, CAST(("movements_30d" / NULLIF("movements_30d_offset_30d", 0)) AS DOUBLE) AS "growth"
FROM (SELECT CAST(0 AS BIGINT) AS "movements_1d", CAST(0 AS BIGINT) AS "movements_30d", CAST(0 AS BIGINT) AS "movements_lifetime", CAST(0 AS BIGINT) AS "movements_30d_offset_30d", CAST(0 AS BIGINT) AS "cancelled_30d", CAST(NULL AS MAP(VARCHAR, BIGINT)) AS "by_carrier_30d", CAST(NULL AS MAP(VARCHAR, DOUBLE)) AS "delay_by_carrier_30d", CAST(0 AS BIGINT) AS "carriers_30d", CAST(NULL AS VARCHAR[]) AS "carrier_list_30d", CAST(NULL AS VARCHAR[]) AS "main_carriers_30d", CAST(0 AS BIGINT) AS "aircraft_30d", CAST(0 AS BIGINT) AS "aircraft_90d", CAST(NULL AS DOUBLE) AS "delay_median_30d", CAST(NULL AS DOUBLE) AS "delay_p95_30d", CAST([0, 0, 0, 0] AS BIGINT[]) AS "delays_30d", CAST(NULL AS DOUBLE) AS "delay_deviation_30d", CAST(NULL AS DOUBLE) AS "delay_variance_30d", CAST(NULL AS DOUBLE) AS "delay_skew_30d", CAST(0.0 AS DOUBLE) AS "recent_delay_7d", CAST(NULL AS VARCHAR) AS "first_carrier_1d", CAST(NULL AS VARCHAR[]) AS "last_carriers_1d", CAST(NULL AS VARCHAR[]) AS "first_carriers_1d"))
)
) AS empty2
)
);

-- audit counts
SELECT "__interval" AS interval_end, count(*) AS "rows"
FROM (
    SELECT "__interval", "origin", "dest", "event_timestamp"
    FROM "rows"
)
GROUP BY 1
ORDER BY 1;
