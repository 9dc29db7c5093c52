-- interval
SELECT "origin", "dest", "risk", "origin_movements", "low_visibility"
FROM (
SELECT r.origin, r.dest,
               coalesce(r.arr_delay_avg_7d, 0) + 5 * coalesce(w.precip_sum, 0)
                   + greatest(coalesce(w.wind_max, 0) - 25, 0) AS risk,
               t.movements_1d AS origin_movements,
               coalesce(w.visib_min < 3, false) AS low_visibility
        FROM r LEFT JOIN w USING (origin) LEFT JOIN t USING (origin)
) AS view_rows;

-- audit counts
SELECT "__interval" AS interval_end, count(*) AS "rows",
       count(*) FILTER (WHERE a0) AS violations_0,
       count(*) FILTER (WHERE a1) AS violations_1
FROM (
    SELECT "__interval", "origin", "dest", "event_timestamp",
           "risk" IS NULL AS a0,
           coalesce("risk" < -120 OR "risk" > 2000, false) AS a1
    FROM "rows"
)
GROUP BY 1
ORDER BY 1;

-- audit samples
WITH checked AS (
    SELECT "__interval", "origin", "dest", "event_timestamp",
           "risk" IS NULL AS a0,
           coalesce("risk" < -120 OR "risk" > 2000, false) AS a1
    FROM "rows"
)
(SELECT 0 AS audit, "__interval" AS interval_end, "origin", "dest", "event_timestamp" FROM checked WHERE a0
 QUALIFY row_number() OVER (PARTITION BY "__interval" ORDER BY "origin", "dest", "event_timestamp") <= 5)
UNION ALL
(SELECT 1 AS audit, "__interval" AS interval_end, "origin", "dest", "event_timestamp" FROM checked WHERE a1
 QUALIFY row_number() OVER (PARTITION BY "__interval" ORDER BY "origin", "dest", "event_timestamp") <= 5);

-- quarantine
SELECT *, (coalesce("risk" < -120 OR "risk" > 2000, false)) AS "__quarantined"
FROM "rows";
