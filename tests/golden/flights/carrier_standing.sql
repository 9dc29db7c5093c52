-- interval
SELECT "carrier", "name", "punctuality_rank", "market_share"
FROM (
SELECT d.carrier, a.name, rank() OVER (ORDER BY d.arr_delay_avg_30d NULLS LAST, d.carrier) AS punctuality_rank,
               d.flights_30d / sum(d.flights_30d) OVER () AS market_share
        FROM d LEFT JOIN a USING (carrier)
) AS view_rows;

-- audit counts
SELECT "__interval" AS interval_end, count(*) AS "rows",
       count(*) FILTER (WHERE a0) AS violations_0,
       count(*) FILTER (WHERE a1) AS violations_1
FROM (
    SELECT "__interval", "carrier", "event_timestamp",
           ("punctuality_rank" IS NOT NULL AND count(*) OVER (PARTITION BY "__interval", "punctuality_rank") > 1) AS a0,
           coalesce("market_share" < 0 OR "market_share" > 1, false) AS a1
    FROM "rows"
)
GROUP BY 1
ORDER BY 1;

-- audit samples
WITH checked AS (
    SELECT "__interval", "carrier", "event_timestamp",
           ("punctuality_rank" IS NOT NULL AND count(*) OVER (PARTITION BY "__interval", "punctuality_rank") > 1) AS a0,
           coalesce("market_share" < 0 OR "market_share" > 1, false) AS a1
    FROM "rows"
)
(SELECT 0 AS audit, "__interval" AS interval_end, "carrier", "event_timestamp" FROM checked WHERE a0
 QUALIFY row_number() OVER (PARTITION BY "__interval" ORDER BY "carrier", "event_timestamp") <= 5)
UNION ALL
(SELECT 1 AS audit, "__interval" AS interval_end, "carrier", "event_timestamp" FROM checked WHERE a1
 QUALIFY row_number() OVER (PARTITION BY "__interval" ORDER BY "carrier", "event_timestamp") <= 5);
