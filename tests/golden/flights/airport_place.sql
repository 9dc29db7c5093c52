-- interval
SELECT "airport", "name", "lat", "lon"
FROM (
SELECT airport, name, lat, lon FROM a
) AS view_rows;

-- audit counts
SELECT "__interval" AS interval_end, count(*) AS "rows",
       count(*) FILTER (WHERE a0) AS violations_0,
       count(*) FILTER (WHERE a1) AS violations_1
FROM (
    SELECT "__interval", "airport", "event_timestamp",
           coalesce("lat" < -90 OR "lat" > 90, false) AS a0,
           coalesce("lon" < -180 OR "lon" > 180, false) AS a1
    FROM "rows"
)
GROUP BY 1
ORDER BY 1;

-- audit samples
WITH checked AS (
    SELECT "__interval", "airport", "event_timestamp",
           coalesce("lat" < -90 OR "lat" > 90, false) AS a0,
           coalesce("lon" < -180 OR "lon" > 180, false) AS a1
    FROM "rows"
)
(SELECT 0 AS audit, "__interval" AS interval_end, "airport", "event_timestamp" FROM checked WHERE a0
 QUALIFY row_number() OVER (PARTITION BY "__interval" ORDER BY "airport", "event_timestamp") <= 5)
UNION ALL
(SELECT 1 AS audit, "__interval" AS interval_end, "airport", "event_timestamp" FROM checked WHERE a1
 QUALIFY row_number() OVER (PARTITION BY "__interval" ORDER BY "airport", "event_timestamp") <= 5);
