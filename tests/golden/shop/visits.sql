-- interval
SELECT "user_id", "event_timestamp", "amount"
FROM (
SELECT user_id, purchased_at AS event_timestamp, amount FROM e WHERE amount > 0 AND purchased_at >= $start
) AS view_rows;

-- audit counts
SELECT "__interval" AS interval_end, count(*) AS "rows",
       count(*) FILTER (WHERE a0) AS violations_0
FROM (
    SELECT "__interval", "user_id", "event_timestamp",
           ("amount" IS NOT NULL AND count(*) OVER (PARTITION BY "__interval", "amount") > 1) AS a0
    FROM "rows"
)
GROUP BY 1
ORDER BY 1;

-- audit samples
WITH checked AS (
    SELECT "__interval", "user_id", "event_timestamp",
           ("amount" IS NOT NULL AND count(*) OVER (PARTITION BY "__interval", "amount") > 1) AS a0
    FROM "rows"
)
(SELECT 0 AS audit, "__interval" AS interval_end, "user_id", "event_timestamp" FROM checked WHERE a0
 QUALIFY row_number() OVER (PARTITION BY "__interval" ORDER BY "user_id", "event_timestamp") <= 5);
