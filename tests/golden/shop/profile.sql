-- interval
SELECT "user_id", "country", "vat", "regular"
FROM (
SELECT u.user_id, u.country, coalesce(c.vat, 0) AS vat, p.orders_30d > 10 AS regular
FROM u LEFT JOIN c USING (country) LEFT JOIN p USING (user_id)
) AS view_rows;

-- audit counts
SELECT "__interval" AS interval_end, count(*) AS "rows",
       count(*) FILTER (WHERE a0) AS violations_0
FROM (
    SELECT "__interval", "user_id", "event_timestamp",
           coalesce("country" NOT IN ('de', 'fr'), false) AS a0
    FROM "rows"
)
GROUP BY 1
ORDER BY 1;

-- audit samples
WITH checked AS (
    SELECT "__interval", "user_id", "event_timestamp",
           coalesce("country" NOT IN ('de', 'fr'), false) AS a0
    FROM "rows"
)
(SELECT 0 AS audit, "__interval" AS interval_end, "user_id", "event_timestamp" FROM checked WHERE a0
 QUALIFY row_number() OVER (PARTITION BY "__interval" ORDER BY "user_id", "event_timestamp") <= 5);
