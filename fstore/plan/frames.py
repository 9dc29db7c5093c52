"""Windows over tiles as SQL: by frames over segments of time, for a range of intervals.

Takes a relation of tiles, its keys (the sub-key may be one of them) and the slides that are needed over which spans. Gives a
query with a row per interval and key: the keys as ``k0``, ``k1``, …, ``interval_end`` and a column per slide and span. What
a feature makes of them is not decided here.

The ends of all intervals and the edges of all windows cut time into elementary segments, so that every window of every
interval is a run of whole segments. Tiles are merged once per key and segment, and each window is a frame of rows over the
segments of a key. A key has rows only for stretches of time in which some window holds one of its events, so the cost
follows the number of result rows, however many keys there are and however rarely they act. (Tiling of sliding windows after
Li et al., "No pane, no gain", SIGMOD Record 34, 2005: panes of unequal length.)

Joins with what is small (segments, frames) are outer joins where an inner one would do: DuckDB then knows that they drop no
row, and keeps the small side in memory instead of the large one. Where it expects as many rows on the small side as on the
large one, a semi-join that drops none makes it expect few. (Looking up the rows of windows for each of a few keys would be
one thread's work, with all that follows.)
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from fstore.interval import MICROSECOND
from fstore.plan.single_interval import single_interval
from fstore.plan.slides import Slide, SlideRef
from fstore.plan.tile_states import TILE_START
from fstore.plan.window_features import Span, longest_reach

COUNTER_BITS = 42
"""Width of one counter where several are added up as parts of one 128-bit integer."""

COUNTERS_PER_PACK = 3

DENSE = 4
"""A key with a tile in every so many segments gets a row for each segment: cheaper than to look for the gaps."""


class Frames:
    """Lays out the windows of some slides over relation ``relation``, apart for each of ``keys`` (SQL over the relation).

    ``presence`` counts the events of any kind. A row exists where there is one from the earliest beginning to the latest end
    of ``spans``, which may be more than those of ``refs``.
    """

    def __init__(
        self, relation: str, keys: Sequence[str], spans: Sequence[Span], refs: Sequence[SlideRef], presence: Slide
    ) -> None:
        self.relation, self.refs = relation, list(refs)
        self.keys = {f"k{index}": key for index, key in enumerate(keys)}
        reach, nearest = longest_reach(spans), min(span.offset for span in spans)
        self.hull = Span(window=None if reach is None else reach - nearest, offset=nearest)
        self.present = SlideRef(slide=presence, span=self.hull, column="")
        used = [self.hull, *(ref.span for ref in refs)]
        self.spans = list(dict.fromkeys(used))
        reaches = {span.reach for span in self.spans if span.reach is not None}
        windows = [(self.hull, ""), *((ref.span, _where(ref.slide, ref.span)) for ref in refs)]
        self.windows = list(dict.fromkeys(windows))
        self.weights = list(dict.fromkeys(ref.slide.weight for ref in refs if ref.slide.weight))
        self.distances = sorted({timedelta(), *(span.offset for span in self.spans), *reaches})

    def single(self) -> str:
        """Return the query for exactly one interval."""
        return single_interval(self.relation, self.keys, self.hull, self.refs)

    def range(self) -> str:
        """Return the query for any number of intervals."""
        refs = [self.present, *self.refs]
        columns = _columns(list(dict.fromkeys(ref.slide for ref in refs)))
        slid = list(dict.fromkeys((_holder(columns, ref.slide), ref.span) for ref in refs))
        often = [pair for pair in slid if not self._condition(*pair)]
        seldom = [pair for pair in slid if self._condition(*pair)]
        results = [f"{self._result(columns, ref)} AS {ref.column}" for ref in self.refs]
        few = "WHERE (k >= 0) IN (SELECT unnest([true]))"  # drops nothing, see above
        joined = f"\nLEFT JOIN (FROM seldom {few}) AS seldom USING (k, position)" if seldom else ""
        return f"""WITH
{_segments(self.distances, forever=self.hull.window is None, anchored=bool(self.weights))},
{self._tiles(columns)},
{_cells(list(self.keys), columns, forever=self.hull.window is None)},
{self._bounds()},
{self._windowed("windowed", often)}{self._seldom(seldom)}
SELECT
  {_list([*self.keys, "interval_end", *results])}
FROM windowed{joined}
JOIN {self._ends()} USING (position)
LEFT JOIN (FROM key {few}) AS key USING (k)
WHERE {self._slid(columns[0], self.hull)} IS NOT NULL"""

    def _windowed(self, name: str, slid: Sequence[tuple[_Column, Span]], condition: str = "") -> str:
        """Return the CTE of some columns over windows."""
        sliding = [
            f"{column.over.format(over=f'OVER w{self._window(column, span)}')} AS {self._slid(column, span)}"
            for column, span in slid
        ]
        numbers = sorted({self._window(column, span) for column, span in slid})
        windows = [f"w{number} AS ({self._frame(number, self.windows[number][0])})" for number in numbers]
        where = f"\n  WHERE {condition}" if condition else ""
        return f"""{name} AS (
  SELECT
    {_list(["k", "position", *sliding], 4)}
  FROM cell
  LEFT JOIN bound USING (position){where}
  WINDOW
    {_list(windows, 4)}
)"""

    def _seldom(self, slid: Sequence[tuple[_Column, Span]]) -> str:
        """Return the CTE of columns that few windows hold anything of, mostly none: from where the first of these begins."""
        if not slid:
            return ""
        firsts = ", ".join(f"first{number}" for number in sorted({self._window(column, span) for column, span in slid}))
        earliest = f"(SELECT min(position - greatest({firsts})) FROM bound WHERE greatest({firsts}) > 0)"
        return ",\n" + self._windowed("seldom", slid, f"position >= {earliest}")

    def _ends(self) -> str:
        """Return the relation of the intervals' ends, with the weights that values have there."""
        if not self.weights:
            return "frame"
        weights = [
            f"{weight.format(end='epoch_us(interval_end)', first='first_end')} AS weight{number}"
            for number, weight in enumerate(self.weights)
        ]
        return f"(SELECT *, {', '.join(weights)} FROM frame) AS frame"

    def _slid(self, column: _Column, span: Span) -> str:
        return f"{column.name}_w{self._window(column, span)}"

    def _window(self, column: _Column, span: Span) -> int:
        return self.windows.index((span, self._condition(column, span)))

    @staticmethod
    def _condition(column: _Column, span: Span) -> str:
        return _where(column.slides[0], span)

    def _result(self, columns: Sequence[_Column], ref: SlideRef) -> str:
        """Return a slide over a window, from the column that holds it."""
        column = _holder(columns, ref.slide)
        merged = self._slid(column, ref.span)
        if ref.slide.weight:
            return f"{merged} * weight{self.weights.index(ref.slide.weight)}"
        if len(column.slides) == 1:
            return merged
        shift = column.slides.index(ref.slide) * COUNTER_BITS
        return f"({merged} >> {shift}) & {2**COUNTER_BITS - 1}"

    def _bounds(self) -> str:
        """Return the CTE of how far back each frame begins and ends at a position: nowhere but at an interval's end.

        Plain columns, because each function of a window works out the bounds of its frame again for every row.
        """
        bounds: list[str] = []
        for index, (span, where) in enumerate(self.windows):
            if span.offset:
                bounds.append(f"coalesce({self._before(span.offset)}, 0) + 1 AS until{index}")
            if span.reach is not None:
                first = self._before(span.reach)
                first = f"CASE WHEN {where} THEN {first} END" if where else first
                bounds.append(f"coalesce({first}, 0) AS first{index}")
        return f"""bound AS (
  SELECT
    {_list(["position", *bounds], 4)}
  FROM boundary
  LEFT JOIN frame USING (position)
)"""

    def _before(self, distance: timedelta) -> str:
        return f"CAST(before{self.distances.index(distance)} AS BIGINT)"

    @staticmethod
    def _frame(index: int, span: Span) -> str:
        first = "UNBOUNDED" if span.reach is None else f"first{index}"
        until = f"until{index}" if span.offset else "1"
        return f"PARTITION BY k, run ORDER BY position ROWS BETWEEN {first} PRECEDING AND {until} PRECEDING"

    def _tiles(self, columns: Sequence[_Column]) -> str:
        """Return the CTEs that merge tiles per key and segment, and number the keys."""
        listed = ", ".join(self.keys)
        keys = [f"{key} AS {column}" for column, key in self.keys.items() if key != column]
        merged = [f"{slide.merge.format(filter='')} AS {slide.name}" for column in columns for slide in column.slides]
        instant = f"epoch_us({TILE_START})"
        first = ", (SELECT min(first_end) FROM frame) AS first_end" if self.weights else ""
        dense = f"last - first < {DENSE} * tiles"
        if self.hull.window is None:
            dense = "true"  # a window that holds all tiles before its end has no gap
            instant = f"greatest({instant}, (SELECT min(instant) FROM boundary))"
        return f"""tile AS MATERIALIZED (
  SELECT
    {_list([*self.keys, "position", "reach", *merged], 4)}
  FROM (
    SELECT *, (instant - (SELECT origin FROM step)) // (SELECT length FROM step) AS at_step{first}
    FROM (SELECT *, {", ".join([*keys, f"{instant} AS instant"])} FROM {self.relation})
  )
  LEFT JOIN lookup ON step_number = at_step AND instant >= from_instant AND instant < to_instant
  GROUP BY {listed}, position, reach
),
key AS MATERIALIZED (
  SELECT {listed}, CAST(row_number() OVER () AS UINTEGER) AS k, first, last, {dense} AS dense
  FROM (
    SELECT {listed}, CAST(min(position) AS INTEGER) AS first, CAST(max(reach) AS INTEGER) AS last, count(position) AS tiles
    FROM tile
    GROUP BY {listed}
  )
)"""


class _Column(NamedTuple):
    """A column that windows slide over: one slide, or several counters packed into one integer to be added up at once."""

    slides: tuple[Slide, ...]

    @property
    def name(self) -> str:
        return self.slides[0].name if len(self.slides) == 1 else f"packed_{self.slides[0].name}"

    @property
    def source(self) -> str:
        """The column, from those of merged tiles."""
        if len(self.slides) == 1:
            return self.slides[0].name
        parts = enumerate(self.slides)
        return " + ".join(f"(CAST(coalesce({slide.name}, 0) AS HUGEINT) << {i * COUNTER_BITS})" for i, slide in parts)

    @property
    def over(self) -> str:
        return self.slides[0].over if len(self.slides) == 1 else f"sum({self.name}) {{over}}"


def _columns(slides: Sequence[Slide]) -> list[_Column]:
    """Return the columns to slide over, the first slide in the first one. Sliding costs more than all else."""
    counters = [slide for slide in slides if slide.counter]
    starts = range(0, len(counters), COUNTERS_PER_PACK)
    packs = [_Column(tuple(counters[start : start + COUNTERS_PER_PACK])) for start in starts]
    return [*packs, *(_Column((slide,)) for slide in slides if not slide.counter)]


def _holder(columns: Sequence[_Column], slide: Slide) -> _Column:
    return next(column for column in columns if slide in column.slides)


def within(span: Span) -> str:
    """Return the condition that an instant lies in a span before ``end_instant``."""
    until = f"instant < {_earlier('end_instant', span.offset)}"
    return until if span.reach is None else f"instant >= {_earlier('end_instant', span.reach)} AND {until}"


def _where(slide: Slide, span: Span) -> str:
    """Return the condition, on ``interval_end``, that a slide may have a value over a span; nothing if always."""
    if not slide.where or span.reach is None:
        return ""
    return slide.where.format(until=_earlier("epoch_us(interval_end)", span.offset), first="first_end")


def _earlier(instant: str, distance: timedelta) -> str:
    return f"{instant} - {distance // MICROSECOND}" if distance else instant


def _segments(distances: Sequence[timedelta], *, forever: bool, anchored: bool) -> str:
    """Return the CTEs about time alone: boundaries, where windows lie, segments and their lookup.

    ``distances`` are those of windows' edges before an interval's end, ascending from nothing; ``anchored`` says that the
    first interval's end is asked for.
    """
    joins = "".join(
        f"\n  JOIN boundary edge{number} ON edge{number}.instant = stop.instant - {distance // MICROSECOND}"
        for number, distance in enumerate(distances)
        if number
    )
    numbers = range(1, len(distances))
    before = [f"CAST(stop.position - edge{number}.position AS INTEGER) AS before{number}" for number in numbers]
    before += ["min(epoch_us(interval_end)) OVER () AS first_end"] if anchored else []
    micros = ", ".join(str(distance // MICROSECOND) for distance in distances)
    edges = f"SELECT epoch_us(interval_end) - unnest([{micros}]) AS instant FROM intervals"
    reach = f"""max(frame.position) OVER (ORDER BY boundary.position) AS reach
    FROM boundary
    LEFT JOIN frame ON frame.position - frame.before{len(distances) - 1} = boundary.position"""
    if forever:  # what precedes all edges is one segment, and every segment is reached back to
        edges += (
            f"\n    UNION ALL\n    SELECT min(epoch_us(interval_end)) - {distances[-1] // MICROSECOND + 1} FROM intervals"
        )
        reach = "(SELECT max(position) FROM frame) AS reach\n    FROM boundary"
    return f"""-- Every interval's end and every edge of a window, in order.
boundary AS (
  SELECT
    instant,
    CAST(row_number() OVER (ORDER BY instant) - 1 AS INTEGER) AS position,
    lead(instant) OVER (ORDER BY instant) AS next_instant
  FROM (
    SELECT DISTINCT instant FROM ({edges})
  )
),
-- How many segments before its end the edges of an interval's windows lie.
frame AS (
  SELECT
    {_list(["stop.position", "interval_end", *before], 4)}
  FROM intervals
  JOIN boundary stop ON stop.instant = epoch_us(interval_end){joins}
),
-- The time from one boundary to the next, if it lies in some window; reach is the last end whose window holds it.
segment AS (
  SELECT position, instant, next_instant, reach
  FROM (
    SELECT boundary.position, instant, next_instant, {reach}
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


def _cells(keys: Sequence[str], columns: Sequence[_Column], *, forever: bool) -> str:
    """Return the CTEs of the rows that windows slide over: merged tiles, and empty segments between and after them.

    A key that has tiles most of the time gets every segment from its first tile to the last window that holds one. Any
    other gets only runs: stretches of segments in which it has tiles, or had some that a window still holds. Events of no
    window have no position, hence no cells.
    """
    named = [column.source if column.source == column.name else f"{column.source} AS {column.name}" for column in columns]
    here = [f"CASE WHEN after_tile = 0 THEN {column.name} END AS {column.name}" for column in columns]
    joined = [
        column.source
        if len(column.slides) == 1
        else f"CASE WHEN reach IS NOT NULL THEN {column.source} END AS {column.name}"
        for column in columns
    ]
    listed = ", ".join(keys)
    dense = f"""  SELECT
    {_list(["k", "CAST(0 AS INTEGER) AS run", "position", *joined], 4)}
  FROM (
    SELECT {listed}, k, unnest(range(first, last + 1)) AS position FROM key WHERE dense
  )
  LEFT JOIN tile USING ({listed}, position)"""
    if forever:
        return f"cell AS (\n{dense}\n)"
    return f"""followed AS (
  SELECT
    k, position, reach,
    {_list([*named, "lead(position) OVER neighbours AS next_position", "lag(reach) OVER neighbours AS reached"], 4)}
  FROM tile
  JOIN (FROM key WHERE NOT dense) USING ({listed})
  WINDOW neighbours AS (PARTITION BY k ORDER BY position)
),
stretch AS (
  SELECT
    {_list(["k", "position", *(column.name for column in columns)], 4)},
    least(next_position, reach + 1) - position AS segments,
    max(CASE WHEN reached >= position THEN NULL ELSE position END) OVER (PARTITION BY k ORDER BY position) AS run
  FROM followed
),
cell AS (
{dense}
  UNION ALL
  SELECT
    {_list(["k", "run", "CAST(position + after_tile AS INTEGER) AS position", *here], 4)}
  FROM (SELECT *, unnest(range(segments)) AS after_tile FROM stretch)
)"""


def _list(items: Sequence[str], indent: int = 2) -> str:
    return f",\n{' ' * indent}".join(items)
