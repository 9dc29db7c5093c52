"""Counts of several sub-keys side by side in one whole number, each in a lane of its own, and windows over these.

Takes tiles with numbered keys (``k``) and sub-keys (``number``, from 1), and a :class:`fstore.plan.changes.Timeline`. A key
that has most sub-keys most of the time gets, per 128-bit number and for every instant at which tiles begin, the running
totals of its counts, all in one array; the counts of a window are the difference of two of these. No row is made per
sub-key, and nothing is sorted. (Prefix sums: exact, because the numbers are whole.) Other keys are left to what costs the
tiles that there are; :data:`PACKED` says which are which.

How wide a lane is, is read from the data: no count exceeds all events of a key's sub-key. A key is packed if the grid of all
sub-keys and instants, so packed, has no more cells than the key has tiles, if these are not few for the instants (every
interval is looked at, even if nothing comes of it), and while there is room for arrays. The results are the same either way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from fstore.interval import MICROSECOND
from fstore.plan.tile_states import TILE_START
from fstore.plan.window_features import Span

RELATION = "numbered"
"""Tiles with ``k``, ``number``, the beginning and the states."""

PACKED = "packed_key"
"""The CTE of the keys (``k``) whose counts are packed."""

WINDOWS = "packed_window"
"""The CTE of packed counts: a row per packed key and interval (``k``, ``position``), a list of numbers per window."""

LAYOUT = "lane"
"""The CTE of one row that :func:`of_each` reads beside :data:`WINDOWS`."""

_TYPE = "HUGEINT"
"""What holds the lanes."""

_BITS = 126
"""What a number can hold, and have a sign."""

MOST_NUMBERS = 2**23
"""How many numbers there may be in all arrays: DuckDB keeps them in memory while it makes them, with what sorts them 0.8 GB.

The keys with the most tiles come first."""

DENSE = 4
"""A key needs a tile for every so many instants."""

_WIDEST = 31
"""The bits of the widest lane: greater counts are left to where each has a number of its own."""


def packed_keys(states: Sequence[str]) -> str:
    """Return the CTEs :data:`LAYOUT` and :data:`PACKED`.

    ``states`` are counts: never negative, and null like 0. Reads ``sub_key`` and ``place`` for how many there are of both.
    """
    totals = ", ".join(f"coalesce(sum({state}), 0)" for state in states)
    return f"""-- How many events a key has of each sub-key: no count of a window is greater.
total AS MATERIALIZED (
  SELECT k, greatest({totals}) AS events, count(*) AS tiles FROM {RELATION} GROUP BY k, number
),
{LAYOUT} AS MATERIALIZED (
  SELECT
    bits, lanes, subs, (CAST(1 AS {_TYPE}) << bits) - 1 AS mask, (subs - 1) // lanes + 1 AS packs,
    (SELECT count(*) FROM place) + 1 AS size,  -- of what an array has per number: nothing comes first
    list_transform(range(subs), lambda n: {{
      'number': n + 1, 'pack': n // lanes + 1, 'shift': CAST(n % lanes * bits AS {_TYPE})
    }}) AS slots
  FROM (
    SELECT bits, {_BITS} // bits AS lanes, (SELECT count(*) FROM sub_key) AS subs
    FROM (SELECT CAST(length(bin(CAST(max(events) AS BIGINT))) AS INTEGER) AS bits FROM total)
  )
),
{PACKED} AS MATERIALIZED (
  SELECT k
  FROM (
    SELECT k, packs * size AS numbers, row_number() OVER (ORDER BY tiles DESC) AS rank
    FROM (SELECT k, sum(tiles) AS tiles FROM total GROUP BY k)
    CROSS JOIN {LAYOUT}
    WHERE subs * size <= tiles * lanes AND size <= tiles * {DENSE} AND bits <= {_WIDEST}
  )
  WHERE rank * numbers <= {MOST_NUMBERS // len(states)}
)"""


def packed_windows(states: Sequence[str], windows: Mapping[str, tuple[str, Span]]) -> str:
    """Return the CTEs that end in :data:`WINDOWS`, which has the columns of ``windows``: a state over a span each.

    Reads ``stop`` and ``place``. The last CTE is kept, because arrays are so few that one thread reads them all.
    """
    distances = list(dict.fromkeys(d for _, span in windows.values() for d in (span.offset, span.reach) if d is not None))
    before = [f"coalesce(edge{number}.rank, 0) + 1 AS before{number}" for number in range(len(distances))]
    joins = "".join(
        f"\n  ASOF LEFT JOIN instant edge{number} ON stop.instant - {distance // MICROSECOND} > edge{number}.begins"
        for number, distance in enumerate(distances)
    )

    def counted(state: str, span: Span) -> str:
        since = "1" if span.reach is None else _before(distances, span.reach)
        until = _before(distances, span.offset)
        return f"list_transform(range(packs), lambda n: {state}[n * size + {until}] - {state}[n * size + {since}])"

    shifted = ", ".join(
        f"CAST(coalesce({state}, 0) AS {_TYPE}) << ((number - 1) % lanes * bits) AS {state}" for state in states
    )
    nothing = ", ".join(f"0 AS {state}" for state in states)
    sums = ", ".join(f"CAST(sum({state}) AS {_TYPE}) AS {state}" for state in states)
    running = ", ".join(f"CAST(sum({state}) OVER so_far AS {_TYPE}) AS {state}" for state in states)
    arrays = ", ".join(f"list({state} ORDER BY pack, begins) AS {state}" for state in states)
    some = " OR ".join(f"list_max({column}) > 0" for column in windows)
    columns = ", ".join(f"{counted(state, span)} AS {column}" for column, (state, span) in windows.items())
    return f"""instant AS MATERIALIZED (
  SELECT begins, row_number() OVER (ORDER BY begins) AS rank FROM place
),
-- How many places of an array lie before the edges of an interval's windows.
edge AS MATERIALIZED (
  SELECT CAST(position AS INTEGER) AS position, {", ".join(before)}
  FROM stop{joins}
),
-- Every number of a packed key has a row for every instant, and one before all.
dense AS (
  SELECT k, pack, begins, {sums}
  FROM (
    SELECT k, (number - 1) // lanes AS pack, epoch_us({TILE_START}) AS begins, {shifted}
    FROM {RELATION}
    SEMI JOIN {PACKED} USING (k)
    CROSS JOIN {LAYOUT}
    UNION ALL
    SELECT k, pack, begins, {nothing}
    FROM {PACKED}
    CROSS JOIN (SELECT unnest(range(packs)) AS pack FROM {LAYOUT})
    CROSS JOIN (SELECT begins FROM instant UNION ALL SELECT min(begins) - 1 FROM instant)
  )
  GROUP BY k, pack, begins
),
{WINDOWS} AS MATERIALIZED (
  SELECT *
  FROM (
    SELECT k, position, {columns}
    FROM (
      SELECT k, {arrays}
      FROM (
        SELECT k, pack, begins, {running}
        FROM dense
        WINDOW so_far AS (PARTITION BY k, pack ORDER BY begins ROWS UNBOUNDED PRECEDING)
      )
      GROUP BY k
    )
    CROSS JOIN edge
    CROSS JOIN {LAYOUT}
  )
  WHERE {some}
)"""


def of_each(value: str) -> str:
    """Return the list of a value of each sub-key ``x.number``, in their order, from columns of :data:`WINDOWS`."""
    return f"list_transform(slots, lambda x: {value})"


def count(column: str) -> str:
    """Return the count of sub-key ``x.number`` in a column of :data:`WINDOWS`."""
    return f"CAST(({column}[x.pack] >> x.shift) & mask AS BIGINT)"


def _before(distances: Sequence[timedelta], distance: timedelta) -> str:
    return f"before{distances.index(distance)}"
