-- range
WITH keyed AS (
SELECT "user_id", "other_id", event_timestamp AS _end FROM own
),
held0 AS (SELECT "user_id", event_timestamp, "n_7d" FROM snapshot0),
held1 AS (SELECT "user_id", event_timestamp, "spent_7d" FROM snapshot1)
SELECT "user_id", "other_id", event_timestamp, "m_7d", "x", "y"
FROM (
SELECT *, CAST(("x" + COALESCE("_value1", 0)) AS DOUBLE) AS "y"
FROM (
SELECT *, CAST(("m_7d" / NULLIF("_value0", 0)) AS DOUBLE) AS "x"
FROM (
SELECT
  keyed."user_id",
  keyed."other_id",
  keyed._end AS event_timestamp,
  CASE WHEN own.event_timestamp IS NOT NULL THEN own."m_7d" ELSE own_empty."m_7d" END AS "m_7d",
  CASE WHEN held0.event_timestamp IS NOT NULL THEN held0."n_7d" ELSE empty0."n_7d" END AS "_value0",
  CASE WHEN held1.event_timestamp IS NOT NULL THEN held1."spent_7d" ELSE empty1."spent_7d" END AS "_value1"
FROM keyed
  LEFT JOIN own ON own."user_id" = keyed."user_id" AND own."other_id" = keyed."other_id" AND own.event_timestamp = keyed._end
  CROSS JOIN (
SELECT "m_7d"
FROM (SELECT CAST(0 AS DECIMAL(38,2)) AS "m_7d")
) AS own_empty
  LEFT JOIN ends0 ON ends0.interval_end = keyed._end
  LEFT JOIN held0 ON held0."user_id" = keyed."user_id" AND held0.event_timestamp = ends0.snapshot_end
  CROSS JOIN (
SELECT "n_7d"
FROM (
SELECT "n_7d", "n_30d", "spent_7d"
FROM (SELECT CAST(0 AS BIGINT) AS "n_7d", CAST(0 AS BIGINT) AS "n_30d", CAST(0 AS DECIMAL(38,2)) AS "spent_7d")
)
) AS empty0
  LEFT JOIN ends1 ON ends1.interval_end = keyed._end
  LEFT JOIN held1 ON held1."user_id" = keyed."other_id" AND held1.event_timestamp = ends1.snapshot_end
  CROSS JOIN (
SELECT "spent_7d"
FROM (
SELECT "n_7d", "n_30d", "spent_7d"
FROM (SELECT CAST(0 AS BIGINT) AS "n_7d", CAST(0 AS BIGINT) AS "n_30d", CAST(0 AS DECIMAL(38,2)) AS "spent_7d")
)
) AS empty1
)
)
);

-- empty row
SELECT "m_7d", "x", "y"
FROM (
SELECT *, CAST(("x" + COALESCE("_value1", 0)) AS DOUBLE) AS "y"
FROM (
SELECT *, CAST(("m_7d" / NULLIF("_value0", 0)) AS DOUBLE) AS "x"
FROM (
SELECT own_empty."m_7d", empty0."n_7d" AS "_value0", empty1."spent_7d" AS "_value1"
FROM (
SELECT "m_7d"
FROM (SELECT CAST(0 AS DECIMAL(38,2)) AS "m_7d")
) AS own_empty
CROSS JOIN (
SELECT "n_7d"
FROM (
SELECT "n_7d", "n_30d", "spent_7d"
FROM (SELECT CAST(0 AS BIGINT) AS "n_7d", CAST(0 AS BIGINT) AS "n_30d", CAST(0 AS DECIMAL(38,2)) AS "spent_7d")
)
) AS empty0
CROSS JOIN (
SELECT "spent_7d"
FROM (
SELECT "n_7d", "n_30d", "spent_7d"
FROM (SELECT CAST(0 AS BIGINT) AS "n_7d", CAST(0 AS BIGINT) AS "n_30d", CAST(0 AS DECIMAL(38,2)) AS "spent_7d")
)
) AS empty1
)
)
);
