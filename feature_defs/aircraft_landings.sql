/*
# The newest landing of an aircraft, in SQL: rows with times of their own make an event view.
entity: aircraft
description: The newest landing of an aircraft.
inputs: {f: {source: flights, window: 1d}}
schedule: "@daily"
start: 2013-01-01
end: 2014-01-01
owner: fleet-ml
tags: {domain: fleet}
pipeline: aircraft
features:
  event_timestamp: timestamp
  landed_at: {type: string, description: The airport.}
  arr_delay: {type: float64, description: Minutes.}
*/
SELECT tailnum, recorded_at AS event_timestamp, max(dest) AS landed_at, max(arr_delay) AS arr_delay
FROM f
WHERE tailnum IS NOT NULL AND NOT cancelled AND recorded_at >= $start
GROUP BY tailnum, recorded_at
