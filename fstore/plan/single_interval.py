"""Windows of a single interval as SQL: tiles are grouped by key, with a filter per window.

Takes a relation of tiles, its keys and the slides that are needed over which spans, and gives a query with a row per key, as
:class:`fstore.plan.frames.Frames` does for a range of intervals. Where many columns have filters, tiles are merged per key
and segment first (a segment is the time between two edges of windows), and the filters choose among segments: every row
of the tiles is then added up once instead of once per window, and DuckDB evaluates no filter on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from fstore.interval import MICROSECOND
from fstore.plan.slides import SlideRef
from fstore.plan.tile_states import TILE_START
from fstore.plan.window_features import Span

SEGMENTED = 10
"""From so many columns over parts of the longest window on, tiles are merged per segment first.

With 18 such columns that takes 0.6 of the time where a key has 80 tiles, as much where it has eight, and 1.2 times as long
where it has one or two. With three it never pays.
"""


def single_interval(relation: str, keys: Mapping[str, str], hull: Span, refs: Sequence[SlideRef]) -> str:
    """Return the query for exactly one interval.

    ``keys`` maps the columns of the result to SQL over ``relation``; ``hull`` holds all spans. Gives the keys,
    ``interval_end`` and the columns of ``refs``, a row for each key with a tile within the hull, in any order.
    """
    edges = _Edges(hull, [ref.span for ref in refs])
    anchored = any(ref.slide.weight for ref in refs)
    renamed = [f"{key} AS {column}" for column, key in keys.items() if key != column]
    tiles = f"""(
  SELECT *, {", ".join([*renamed, f"epoch_us({TILE_START}) AS instant"])}
  FROM {relation}
)
CROSS JOIN (SELECT {", ".join(edges.columns(anchored=anchored))} FROM intervals)
WHERE {edges.within(hull)}"""
    if sum(ref.span != hull for ref in refs) < SEGMENTED:
        merged = [
            f"{ref.slide.merge.format(filter=' ' + edges.on_instants(ref.span)).rstrip()} AS {ref.column}" for ref in refs
        ]
    else:
        slides = dict.fromkeys(ref.slide for ref in refs)
        tiles = _grouped(
            [*keys, "segment"],
            [f"{slide.merge.format(filter='')} AS {slide.name}" for slide in slides],
            f"(\nSELECT *, {edges.segment} AS segment\nFROM {tiles}\n)",
        )
        tiles = f"(\n{tiles}\n)"
        merged = [
            f"{(ref.slide.joined or ref.slide.over).format(over=edges.on_segments(ref.span)).rstrip()} AS {ref.column}"
            for ref in refs
        ]
    end = "epoch_us(interval_end)"
    values = [
        f"{ref.column} * {ref.slide.weight.format(end=end, first=end)} AS {ref.column}" if ref.slide.weight else ref.column
        for ref in refs
    ]
    return f"""SELECT
  {_list([*keys, "interval_end", *values])}
FROM (
{_grouped(list(keys), merged, tiles)}
)
CROSS JOIN (SELECT interval_end FROM intervals)"""


class _Edges:
    """The edges of windows before the interval's end, as columns of the one row that tiles are joined with.

    Columns, because DuckDB would work out ``end - distance`` again for every row and filter.
    """

    def __init__(self, hull: Span, spans: Sequence[Span]) -> None:
        self._hull = hull
        inner = {span.reach for span in spans if span.reach is not None} | {span.offset for span in spans}
        self._inner = sorted(inner - {hull.reach, hull.offset}, reverse=True)

    @property
    def segment(self) -> str:
        """The number of a tile's segment, from 0 for the oldest: how many edges it lies behind."""
        return " + ".join(f"CAST(instant >= {self._name(edge)} AS SMALLINT)" for edge in self._inner)

    def columns(self, *, anchored: bool) -> list[str]:
        """Return the columns; ``anchored`` says that the end of the first interval is asked for, too."""
        distances = [*([] if self._hull.reach is None else [self._hull.reach]), *self._inner, self._hull.offset]
        end = "epoch_us(interval_end)"
        named = [f"{end} - {distance // MICROSECOND} AS {self._name(distance)}" for distance in distances]
        return [*named, *([f"{end} AS first_end"] if anchored else [])]

    def within(self, span: Span) -> str:
        """Return the condition that a tile lies in a span."""
        until = f"instant < {self._name(span.offset)}"
        return until if span.reach is None else f"instant >= {self._name(span.reach)} AND {until}"

    def on_instants(self, span: Span) -> str:
        """Return the FILTER of the tiles in a span, of those in the hull; nothing for all of them."""
        return self._filter(
            span, lambda edge: f"instant >= {self._name(edge)}", lambda edge: f"instant < {self._name(edge)}"
        )

    def on_segments(self, span: Span) -> str:
        """Return the FILTER of the segments in a span; nothing for all of them."""
        number = self._inner.index
        return self._filter(span, lambda edge: f"segment > {number(edge)}", lambda edge: f"segment <= {number(edge)}")

    def _filter(self, span: Span, since: Callable[[timedelta], str], until: Callable[[timedelta], str]) -> str:
        conditions = [since(span.reach)] if span.reach is not None and span.reach != self._hull.reach else []
        conditions += [until(span.offset)] if span.offset != self._hull.offset else []
        return f"FILTER ({' AND '.join(conditions)})" if conditions else ""

    def _name(self, distance: timedelta) -> str:
        return f"before_{distance // MICROSECOND}"


def _grouped(groups: Sequence[str], columns: Sequence[str], relation: str) -> str:
    return f"SELECT\n  {_list([*groups, *columns])}\nFROM {relation}\nGROUP BY {', '.join(groups)}"


def _list(items: Sequence[str]) -> str:
    return ",\n  ".join(items)
