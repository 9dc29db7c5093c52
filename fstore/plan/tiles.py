"""The states of windowed aggregates as SQL: by tiles for a range of intervals, by filters for a single one.

Takes the SELECT that prepares events (columns ``k0…`` keys, ``instant`` in microseconds, ``a0…`` arguments), the windows'
lengths in microseconds, longest first, and the states needed. Gives a query with a row per interval and key: the keys,
``interval_end`` and a column per state and window. What a feature makes of its states is not decided here.

Joins with what is small (segments, frames) are outer joins where an inner one would do: DuckDB then knows that they drop no
row, and keeps the small side in memory instead of the large one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fstore.definitions.aggregation import Function

COUNTER_BITS = 42
"""Width of one counter where several are added up as parts of one 128-bit integer."""

COUNTERS_PER_PACK = 3


class State(NamedTuple):
    """What is kept of the events of a segment: a mergeable aggregate of one argument, or the number of all events."""

    function: Function
    argument: str = ""

    @property
    def column(self) -> str:
        """The name of the state's column."""
        return f"{self.function}_{self.argument or 'all'}"

    def aggregate(self, condition: str = "") -> str:
        """Return the aggregate of the events for which a condition holds."""
        if self.function == "last":
            # The newest value, and of several at one instant the greatest: structs compare field by field.
            conditions = " AND ".join(filter(None, (f"{self.argument} IS NOT NULL", condition)))
            return f"max({{'at': instant, 'v': {self.argument}}}) FILTER ({conditions})"
        call = f"{self.function}({self.argument or '*'})"
        return f"{call} FILTER ({condition})" if condition else call


class StateRef(NamedTuple):
    """A state over one of the windows, by index."""

    state: State
    window: int

    @property
    def column(self) -> str:
        """The name of the column that holds it."""
        return f"{self.state.column}_w{self.window}"


ALL_EVENTS = State("count")


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
GROUP BY {", ".join(keys)}, interval_end"""


def range_states(source: str, keys: Sequence[str], windows: Sequence[int], needed: Sequence[StateRef]) -> str:
    """Return the query for many intervals, by tiles."""
    states = list(dict.fromkeys([ALL_EVENTS, *(ref.state for ref in needed)]))
    columns = _sliding_columns(states)
    slides = dict.fromkeys([(columns[0], 0), *((_holder(columns, ref.state), ref.window) for ref in needed)])
    slid = [f"{column.merge} OVER w{window} AS {column.name}_w{window}" for column, window in slides]
    results = [f"{_holder(columns, ref.state).value(ref)} AS {ref.column}" for ref in needed]
    return f"""WITH
{_segments(windows)},
{_tiles(source, keys, states)},
{_cells(keys, columns)},
windowed AS (
  SELECT
    {_list(["k", "position", *slid], 4)}
  FROM cell
  LEFT JOIN frame USING (position)
  WINDOW
    {_list([_frame(index) for index in range(len(windows))], 4)}
)
SELECT
  {_list([*keys, "interval_end", *results])}
FROM windowed
JOIN frame USING (position)
JOIN key USING (k)
WHERE {columns[0].name}_w0 IS NOT NULL"""


class _Sliding(NamedTuple):
    """A column that windows slide over: one state, or several counters packed into one integer to be added up at once."""

    states: tuple[State, ...]

    @property
    def packed(self) -> bool:
        return len(self.states) > 1

    @property
    def name(self) -> str:
        return "_and_".join(state.column for state in self.states)

    @property
    def source(self) -> str:
        """The column, from those of a tile."""
        if not self.packed:
            return self.name
        parts = enumerate(self.states)
        return " + ".join(f"(CAST({state.column} AS HUGEINT) << {index * COUNTER_BITS})" for index, state in parts)

    @property
    def merge(self) -> str:
        """The aggregate that merges values of the column."""
        function = {"count": "sum", "last": "max"}.get(self.states[0].function, self.states[0].function)
        return f"{function}({self.name})"

    def value(self, ref: StateRef) -> str:
        """Return a state over a window, from the merged column."""
        merged = f"{self.name}_w{ref.window}"
        if ref.state.function != "count":
            return merged
        shift = self.states.index(ref.state) * COUNTER_BITS
        return (
            f"CAST(({merged} >> {shift}) & {2**COUNTER_BITS - 1} AS BIGINT)" if self.packed else f"CAST({merged} AS BIGINT)"
        )


def _sliding_columns(states: Sequence[State]) -> list[_Sliding]:
    """Return the columns to slide over; the first one counts all events. Sliding costs more than all else."""
    counters = [state for state in states if state.function == "count"]
    starts = range(0, len(counters), COUNTERS_PER_PACK)
    packs = [_Sliding(tuple(counters[start : start + COUNTERS_PER_PACK])) for start in starts]
    return [*packs, *(_Sliding((state,)) for state in states if state.function != "count")]


def _holder(columns: Sequence[_Sliding], state: State) -> _Sliding:
    return next(column for column in columns if state in column.states)


def _segments(windows: Sequence[int]) -> str:
    """Return the CTEs about time alone: boundaries, the frame of each interval's windows, segments and their lookup."""
    starts = "\n".join(
        f"  JOIN boundary start{index} ON start{index}.instant = stop.instant - {window}"
        for index, window in enumerate(windows)
    )
    before = [f"CAST(stop.position - start{index}.position AS INTEGER) AS before{index}" for index in range(len(windows))]
    return f"""-- Every interval's end and every window's start, in order.
boundary AS (
  SELECT
    instant,
    CAST(row_number() OVER (ORDER BY instant) - 1 AS INTEGER) AS position,
    lead(instant) OVER (ORDER BY instant) AS next_instant
  FROM (SELECT DISTINCT epoch_us(interval_end) - unnest([0, {", ".join(map(str, windows))}]) AS instant FROM intervals)
),
-- How many segments before its end an interval's windows begin.
frame AS (
  SELECT
    {_list(["stop.position", "interval_end", *before], 4)}
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
    reach,
    instant AS from_instant,
    next_instant AS to_instant,
    unnest(range((instant - origin) // length, (next_instant - 1 - origin) // length + 1)) AS step_number
  FROM segment
  CROSS JOIN step
)"""


def _tiles(source: str, keys: Sequence[str], states: Sequence[State]) -> str:
    """Return the CTEs that aggregate events per key and segment, and number the keys."""
    listed = ", ".join(keys)
    return f"""tile AS MATERIALIZED (
  SELECT
    {_list([*keys, "position", "reach", *(f"{state.aggregate()} AS {state.column}" for state in states)], 4)}
  FROM (
    SELECT *, (instant - (SELECT origin FROM step)) // (SELECT length FROM step) AS at_step
    FROM ({source})
  )
  LEFT JOIN lookup ON step_number = at_step AND instant >= from_instant AND instant < to_instant
  GROUP BY {listed}, position, reach
),
key AS MATERIALIZED (
  SELECT {listed}, CAST(row_number() OVER () AS UINTEGER) AS k
  FROM (SELECT DISTINCT {listed} FROM tile)
)"""


def _cells(keys: Sequence[str], columns: Sequence[_Sliding]) -> str:
    """Return the CTEs of the rows that windows slide over: each tile, and the empty segments that follow it in its run.

    A run is a stretch of segments in which a key has tiles, or had some that a window still holds. Events of no window
    have no position, hence no cells.
    """
    listed = ", ".join(column.name for column in columns)
    here = [f"CASE WHEN after_tile = 0 THEN {column.name} END AS {column.name}" for column in columns]
    return f"""followed AS (
  SELECT
    k, position, reach,
    {_list([column.source if not column.packed else f"{column.source} AS {column.name}" for column in columns], 4)},
    lead(position) OVER neighbours AS next_position,
    lag(reach) OVER neighbours AS reached
  FROM tile
  JOIN key USING ({", ".join(keys)})
  WINDOW neighbours AS (PARTITION BY k ORDER BY position)
),
stretch AS (
  SELECT
    k, position, {listed},
    least(next_position, reach + 1) - position AS segments,
    max(CASE WHEN reached >= position THEN NULL ELSE position END) OVER (PARTITION BY k ORDER BY position) AS run
  FROM followed
),
cell AS (
  SELECT
    {_list(["k", "run", "CAST(position + after_tile AS INTEGER) AS position", *here], 4)}
  FROM (SELECT *, unnest(range(segments)) AS after_tile FROM stretch)
)"""


def _frame(window: int) -> str:
    rows = f"ROWS BETWEEN coalesce(before{window}, 0) PRECEDING AND 1 PRECEDING"
    return f"w{window} AS (PARTITION BY k, run ORDER BY position {rows})"


def _list(items: Sequence[str], indent: int = 2) -> str:
    return f",\n{' ' * indent}".join(items)
