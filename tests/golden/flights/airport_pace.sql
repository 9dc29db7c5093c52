-- audit counts
SELECT "__interval" AS interval_end, count(*) AS "rows",
       count(*) FILTER (WHERE a0) AS violations_0
FROM (
    SELECT "__interval", "airport", "event_timestamp",
           coalesce("pace" < 0 OR isnan(TRY_CAST("pace" AS DOUBLE)), false) AS a0
    FROM "rows"
)
GROUP BY 1
ORDER BY 1;

-- audit samples
WITH checked AS (
    SELECT "__interval", "airport", "event_timestamp",
           coalesce("pace" < 0 OR isnan(TRY_CAST("pace" AS DOUBLE)), false) AS a0
    FROM "rows"
)
(SELECT 0 AS audit, "__interval" AS interval_end, "airport", "event_timestamp" FROM checked WHERE a0
 QUALIFY row_number() OVER (PARTITION BY "__interval" ORDER BY "airport", "event_timestamp") <= 5);
