"""Which rows there are, where nothing else is computed over whole keys: one while a window holds any event of the key.

A key comes with a tile whose older one has left the window by then, or that has none, and goes with a tile that leaves
before the newer one comes. So a range costs what comes and goes, and then a row each.
"""

from __future__ import annotations

from fstore.interval import MICROSECOND
from fstore.plan.changes import Change, Timeline
from fstore.plan.sub_keys import BEGINS, OWN, key_columns, numbered_keys
from fstore.plan.tile_states import TILE_START, TileDraft
from fstore.plan.window_features import Span


def present_keys(draft: TileDraft, hull: Span) -> str:
    """Return the query for the keys, as ``k0``, ``k1``, …, and ``interval_end`` with tiles of :data:`OWN` in a span."""
    timeline = Timeline(BEGINS, [hull])
    keys = ", ".join(key_columns(draft))
    since, until = "since IS NULL", "until IS NULL"
    changes = [Change("present", "1", timeline.enter(hull, "turn"), "turn", "comes")]
    if hull.window is not None:
        micros = hull.window // MICROSECOND
        since, until = f"coalesce(since > {micros}, true)", f"coalesce(until > {micros}, true)"
        changes.append(Change("present", "-1", timeline.leave(hull, "turn"), "turn", "goes"))
    return f"""WITH
{timeline.ctes()},
{numbered_keys(draft, OWN)},
seen AS (
  SELECT k, begins, begins - lag(begins) OVER tiles AS since, lead(begins) OVER tiles - begins AS until
  FROM (SELECT k, epoch_us({TILE_START}) AS begins FROM {OWN} JOIN key USING ({keys}))
  WINDOW tiles AS (PARTITION BY k ORDER BY begins)
),
turn AS MATERIALIZED (
  SELECT *
  FROM (SELECT k, begins, {since} AS comes, {until} AS goes FROM seen)
  LEFT JOIN place USING (begins)
  WHERE comes OR goes
),
{timeline.held(["k"], changes)}
SELECT {keys}, interval_end
FROM (SELECT k, unnest(range(position, until)) AS position FROM held)
JOIN stop USING (position)
JOIN key USING (k)"""
