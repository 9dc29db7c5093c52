-- interval
SELECT "origin", "temp_avg", "visib_min", "wind_max", "precip_sum", "pressure_last"
FROM (
SELECT origin, avg(temp) AS temp_avg, min(visib) AS visib_min, max(wind_speed) AS wind_max,
               sum(precip) AS precip_sum, arg_max(pressure, observed_at) AS pressure_last
        FROM w
        GROUP BY origin
) AS view_rows;

-- audit counts
SELECT "__interval" AS interval_end, count(*) AS "rows",
       count(*) FILTER (WHERE a0) AS violations_0,
       count(*) FILTER (WHERE a1) AS violations_1,
       count(*) FILTER (WHERE a2) AS violations_2
FROM (
    SELECT "__interval", "origin", "event_timestamp",
           coalesce("visib_min" < 0 OR "visib_min" > 10, false) AS a0,
           coalesce("wind_max" < 0 OR "wind_max" > 200, false) AS a1,
           coalesce("temp_avg" < -30 OR "temp_avg" > 120, false) AS a2
    FROM "rows"
)
GROUP BY 1
ORDER BY 1;

-- audit samples
WITH checked AS (
    SELECT "__interval", "origin", "event_timestamp",
           coalesce("visib_min" < 0 OR "visib_min" > 10, false) AS a0,
           coalesce("wind_max" < 0 OR "wind_max" > 200, false) AS a1,
           coalesce("temp_avg" < -30 OR "temp_avg" > 120, false) AS a2
    FROM "rows"
)
(SELECT 0 AS audit, "__interval" AS interval_end, "origin", "event_timestamp" FROM checked WHERE a0
 QUALIFY row_number() OVER (PARTITION BY "__interval" ORDER BY "origin", "event_timestamp") <= 5)
UNION ALL
(SELECT 1 AS audit, "__interval" AS interval_end, "origin", "event_timestamp" FROM checked WHERE a1
 QUALIFY row_number() OVER (PARTITION BY "__interval" ORDER BY "origin", "event_timestamp") <= 5)
UNION ALL
(SELECT 2 AS audit, "__interval" AS interval_end, "origin", "event_timestamp" FROM checked WHERE a2
 QUALIFY row_number() OVER (PARTITION BY "__interval" ORDER BY "origin", "event_timestamp") <= 5);

-- quarantine
SELECT *, (coalesce("visib_min" < 0 OR "visib_min" > 10, false)) OR (coalesce("wind_max" < 0 OR "wind_max" > 200, false)) AS "__quarantined"
FROM "rows";
