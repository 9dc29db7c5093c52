"""The states of windowed aggregates as SQL: by tiles for a range of intervals, by filters for a single one.

Takes the SELECT that prepares events (columns ``k0…`` keys, ``instant`` in microseconds, ``a0…`` arguments), the windows'
lengths in microseconds, longest first, and the states needed. Gives a query with a row per interval and key: the keys,
``interval_end`` and a column per state and window, ordered by interval and keys. What a feature makes of its states is not
decided here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fstore.definitions.aggregation import Function


class State(NamedTuple):
    """What is kept of the events of a segment: a mergeable aggregate of one argument, or the number of ``events``."""

    kind: Function | str
    argument: str = ""

    @property
    def column(self) -> str:
        """The name of the state's column."""
        return f"{self.kind}_{self.argument}" if self.argument else f"{self.kind}_all"

    def aggregate(self, condition: str = "") -> str:
        """Return the aggregate of the events for which a condition holds."""
        if self.kind == "last":
            # The newest value, and of several at one instant the greatest: structs compare field by field.
            present = f"{self.argument} IS NOT NULL"
            return (
                f"max({{'at': instant, 'v': {self.argument}}}) FILTER ({' AND '.join(filter(None, (present, condition)))})"
            )
        call = "count(*)" if self.kind == "events" else f"{self.kind}({self.argument})"
        return f"{call} FILTER ({condition})" if condition else call

    def merge(self, frame: str) -> str:
        """Return the aggregate of states over a frame of segments."""
        if self.kind in ("events", "count"):
            return f"CAST(sum({self.column}) OVER {frame} AS BIGINT)"
        return f"{'max' if self.kind == 'last' else self.kind}({self.column}) OVER {frame}"


class StateRef(NamedTuple):
    """A state over one of the windows, by index."""

    state: State
    window: int

    @property
    def column(self) -> str:
        """The name of the column that holds it."""
        return f"{self.state.column}_w{self.window}"


EVENTS_IN_LONGEST = StateRef(State("events"), 0)
"""The number of events in the longest window, which comes first: a key without any has no row."""


def single_states(source: str, keys: Sequence[str], windows: Sequence[int], needed: Sequence[StateRef]) -> str:
    """Return the query for one interval: a GROUP BY with a filter per window."""
    conditions = ["", *(f"instant >= end_instant - {window}" for window in windows[1:])]
    states = [f"{ref.state.aggregate(conditions[ref.window])} AS {ref.column}" for ref in needed]
    return f"""SELECT
  {_list([*keys, "interval_end", *states])}
FROM (
  {source}
)
CROSS JOIN (SELECT interval_end, epoch_us(interval_end) AS end_instant FROM intervals)
WHERE instant >= end_instant - {windows[0]} AND instant < end_instant
GROUP BY {", ".join(keys)}, interval_end
ORDER BY interval_end, {", ".join(keys)}"""


def range_states(source: str, keys: Sequence[str], windows: Sequence[int], needed: Sequence[StateRef]) -> str:
    """Return the query for many intervals, by tiles."""
    refs = list(dict.fromkeys([EVENTS_IN_LONGEST, *needed]))
    states = list(dict.fromkeys(ref.state for ref in refs))
    return f"""WITH
{_segments(windows)},
{_tiles(source, keys, states)},
{_cells(keys, states)},
windowed AS (
  SELECT
    {_list(["k", "position", *(f"{ref.state.merge(f'w{ref.window}')} AS {ref.column}" for ref in refs)], 4)}
  FROM cell
  LEFT JOIN frame USING (position)
  WINDOW
    {_list([_frame(index) for index in range(len(windows))], 4)}
)
SELECT
  {_list([*keys, "interval_end", *(ref.column for ref in needed)])}
FROM windowed
JOIN frame USING (position)
JOIN key USING (k)
WHERE {EVENTS_IN_LONGEST.column} IS NOT NULL
ORDER BY position * (SELECT count(*) FROM key) + k"""


def _segments(windows: Sequence[int]) -> str:
    """Return the CTEs about time alone: boundaries, the frame of each interval's windows, segments and their lookup."""
    starts = "\n".join(
        f"  JOIN boundary start{index} ON start{index}.instant = stop.instant - {window}"
        for index, window in enumerate(windows)
    )
    offsets = _list([f"stop.position - start{index}.position AS before{index}" for index in range(len(windows))], 4)
    return f"""-- Every interval's end and every window's start, in order.
boundary AS (
  SELECT instant, CAST(row_number() OVER (ORDER BY instant) - 1 AS INTEGER) AS position, lead(instant) OVER (ORDER BY instant) AS next_instant
  FROM (SELECT DISTINCT epoch_us(interval_end) - unnest([0, {", ".join(map(str, windows))}]) AS instant FROM intervals)
),
-- How many segments before its end an interval's windows begin.
frame AS (
  SELECT
    stop.position,
    interval_end,
    {offsets}
  FROM intervals
  JOIN boundary stop ON stop.instant = epoch_us(interval_end)
{starts}
),
-- The time from one boundary to the next, if it lies in some window; reach is the last end whose window holds it.
segment AS (
  SELECT position, instant, next_instant, reach
  FROM (
    SELECT boundary.position, instant, next_instant, max(frame.position) OVER (ORDER BY boundary.position) AS reach
    FROM boundary
    LEFT JOIN frame ON frame.position - frame.before0 = boundary.position
  )
  WHERE reach > position
),
-- Finds the segment of an instant by hashing: even steps of time, each with the segments that it touches.
step AS (
  SELECT
    min(instant) AS origin,
    greatest(min(next_instant - instant), (max(next_instant) - min(instant)) // (16 * count(*)), 1) AS length
  FROM segment
),
lookup AS (
  SELECT
    position,
    instant AS from_instant,
    next_instant AS to_instant,
    unnest(range((instant - origin) // length, (next_instant - 1 - origin) // length + 1)) AS step_number
  FROM segment
  CROSS JOIN step
)"""


def _tiles(source: str, keys: Sequence[str], states: Sequence[State]) -> str:
    """Return the CTEs that aggregate events per key and segment, and number the keys in their order."""
    listed = ", ".join(keys)
    return f"""tile AS MATERIALIZED (
  SELECT
    {_list([*keys, "position", *(f"{state.aggregate()} AS {state.column}" for state in states)], 4)}
  FROM (
    SELECT *, (instant - (SELECT origin FROM step)) // (SELECT length FROM step) AS step_number
    FROM ({source})
  )
  JOIN lookup USING (step_number)
  WHERE instant >= from_instant AND instant < to_instant
  GROUP BY {listed}, position
),
key AS MATERIALIZED (
  SELECT {listed}, row_number() OVER (ORDER BY {listed}) - 1 AS k
  FROM (SELECT DISTINCT {listed} FROM tile)
)"""


def _cells(keys: Sequence[str], states: Sequence[State]) -> str:
    """Return the CTEs of the rows that windows slide over: each tile, and the empty segments that follow it in its run.

    A run is a stretch of segments in which a key has tiles, or had some that a window still holds.
    """
    here = [f"CASE WHEN step_from_tile = 0 THEN {state.column} END AS {state.column}" for state in states]
    listed = ", ".join(state.column for state in states)
    return f"""followed AS (
  SELECT
    k, position, reach, {listed},
    lead(position) OVER neighbours AS next_position,
    lag(reach) OVER neighbours AS reached
  FROM tile
  JOIN key USING ({", ".join(keys)})
  JOIN segment USING (position)
  WINDOW neighbours AS (PARTITION BY k ORDER BY position)
),
stretch AS (
  SELECT
    k, position, {listed},
    coalesce(least(next_position, reach + 1), reach + 1) - position AS segments,
    max(CASE WHEN reached >= position THEN NULL ELSE position END) OVER (PARTITION BY k ORDER BY position) AS run
  FROM followed
),
cell AS (
  SELECT
    k, run, CAST(position + step_from_tile AS INTEGER) AS position,
    {_list(here, 4)}
  FROM (SELECT *, unnest(range(segments)) AS step_from_tile FROM stretch)
)"""


def _frame(window: int) -> str:
    rows = f"ROWS BETWEEN coalesce(before{window}, 0) PRECEDING AND 1 PRECEDING"
    return f"w{window} AS (PARTITION BY k, run ORDER BY position {rows})"


def _list(items: Sequence[str], indent: int = 2) -> str:
    return f",\n{' ' * indent}".join(items)
