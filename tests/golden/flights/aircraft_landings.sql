-- interval
SELECT "tailnum", "event_timestamp", "landed_at", "arr_delay"
FROM (
SELECT tailnum, recorded_at AS event_timestamp, max(dest) AS landed_at, max(arr_delay) AS arr_delay
FROM f
WHERE tailnum IS NOT NULL AND NOT cancelled AND recorded_at >= $start
GROUP BY tailnum, recorded_at
) AS view_rows;

-- audit counts
SELECT "__interval" AS interval_end, count(*) AS "rows"
FROM (
    SELECT "__interval", "tailnum", "event_timestamp"
    FROM "rows"
)
GROUP BY 1
ORDER BY 1;
