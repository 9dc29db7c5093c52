"""Counts of several sub-keys side by side in one whole number, each in a lane of its own.

Takes :data:`RELATION`, tiles with numbered keys (``k``) and sub-keys (``number``, from 1). Gives CTEs: tiles whose counts
are packed, and, from what :class:`fstore.plan.changes.Timeline` makes of those, a row per key, interval and sub-key again.
Adding up and sorting then cost one row where they would cost as many as there are lanes.

How wide a lane is, is read from the data: no count exceeds the number of events of its key. Counts are packed only where
most lanes would be used, that is if the grid of all keys, sub-keys and tiles' beginnings, so packed, has no more cells than
there are tiles; elsewhere each count stays alone, in the only lane of its number. The rows are the same either way.
"""

from __future__ import annotations

from collections.abc import Sequence

from fstore.plan.tile_states import TILE_START

RELATION = "numbered"
"""Tiles with ``k``, ``number``, the beginning and the states."""

PACKED = "packed"
"""Tiles with ``k``, ``pack``, ``begins`` in microseconds, and the states of several sub-keys in one number each."""

TYPE = "HUGEINT"
"""What holds the lanes."""

_BITS = 126
"""What a number can hold, and have a sign: of changes that are added up, some are taken away first."""


def packed_tiles(states: Sequence[str]) -> str:
    """Return the CTEs ``lane`` (how wide lanes are, and how many share a number) and :data:`PACKED`.

    ``states`` are counts: never negative, and null like 0. Reads ``sub_key`` and ``place`` for how many there are of both.
    """
    totals = ", ".join(f"coalesce(sum({state}), 0)" for state in states)
    sums = ", ".join(
        f"sum(CAST(coalesce({state}, 0) AS {TYPE}) << ((number - 1) % lanes * bits)) AS {state}" for state in states
    )
    grid = "keys * (SELECT count(*) FROM sub_key) * (SELECT count(*) FROM place)"
    return f"""-- No count has more bits than the events of its key.
lane AS MATERIALIZED (
  SELECT
    CAST(bits AS INTEGER) AS bits,
    CAST(CASE WHEN {grid} <= tiles * ({_BITS} // bits) THEN {_BITS} // bits ELSE 1 END AS INTEGER) AS lanes
  FROM (
    SELECT length(bin(CAST(max(events) AS BIGINT))) AS bits, CAST(count(*) AS HUGEINT) AS keys, sum(tiles) AS tiles
    FROM (SELECT greatest({totals}) AS events, count(*) AS tiles FROM {RELATION} GROUP BY k)
  )
),
{PACKED} AS (
  SELECT k, (number - 1) // lanes AS pack, epoch_us({TILE_START}) AS begins, {sums}
  FROM {RELATION}
  CROSS JOIN lane
  GROUP BY k, pack, begins
)"""


def unpacked_cells(columns: Sequence[str]) -> str:
    """Return the CTE ``cell``: from packed ``columns`` of ``held``, those of every key, position and sub-key with any.

    All columns are as narrow as can be: there are many rows, and they are sorted. A count of more than 32 bits is an error.
    """
    lanes = {column: f"({column} >> (slot * bits)) & mask" for column in columns}
    counts = ", ".join(f"CAST({lane} AS UINTEGER) AS {column}" for column, lane in lanes.items())
    return f"""cell AS (
  SELECT k, position, CAST(pack * lanes + slot + 1 AS INTEGER) AS number, {counts}
  FROM (
    SELECT *, unnest(range(lanes)) AS slot, (CAST(1 AS {TYPE}) << bits) - 1 AS mask
    FROM (SELECT k, pack, CAST(unnest(range(position, until)) AS INTEGER) AS position, {", ".join(columns)} FROM held)
    CROSS JOIN lane
  )
  WHERE (({" | ".join(columns)}) >> (slot * bits)) & mask > 0
)"""
