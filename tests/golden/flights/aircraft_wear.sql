-- audit counts
SELECT "__interval" AS interval_end, count(*) AS "rows",
       count(*) FILTER (WHERE a0) AS violations_0,
       count(*) FILTER (WHERE a1) AS violations_1
FROM (
    SELECT "__interval", "tailnum", "event_timestamp",
           coalesce("wear" < 0 OR isnan(TRY_CAST("wear" AS DOUBLE)), false) AS a0,
           coalesce("age" < 0 OR "age" > 80, false) AS a1
    FROM "rows"
)
GROUP BY 1
ORDER BY 1;

-- audit samples
WITH checked AS (
    SELECT "__interval", "tailnum", "event_timestamp",
           coalesce("wear" < 0 OR isnan(TRY_CAST("wear" AS DOUBLE)), false) AS a0,
           coalesce("age" < 0 OR "age" > 80, false) AS a1
    FROM "rows"
)
(SELECT 0 AS audit, "__interval" AS interval_end, "tailnum", "event_timestamp" FROM checked WHERE a0
 QUALIFY row_number() OVER (PARTITION BY "__interval" ORDER BY "tailnum", "event_timestamp") <= 5)
UNION ALL
(SELECT 1 AS audit, "__interval" AS interval_end, "tailnum", "event_timestamp" FROM checked WHERE a1
 QUALIFY row_number() OVER (PARTITION BY "__interval" ORDER BY "tailnum", "event_timestamp") <= 5);
