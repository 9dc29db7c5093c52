-- audit counts
SELECT "__interval" AS interval_end, count(*) AS "rows"
FROM (
    SELECT "__interval", "airport", "event_timestamp"
    FROM "rows"
)
GROUP BY 1
ORDER BY 1;
