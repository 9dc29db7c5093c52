"""Windowed aggregates at any instants: for each label its own windows, which end when it says.

Takes a step of aggregates and gives one query over ``source_events`` (events of its source, without null keys) and
``labels`` (``_label``, which no feature can be called, the keys as ``k0``, ``k1``, …, and ``mark``, the end of the windows
in microseconds since 1970; each pair of key and end once). It gives ``_label`` and the features, a row per label. DuckDB's
SQL, for a session in UTC.

The edges of all windows of a key cut its time into segments. Where an aggregate merges by itself, each event is merged into
its segment once, and a window is a frame of rows over the segments: the cost is that of the events plus that of the labels,
however many windows hold an event. All else (lists, distinct values, maps, sketches, moments, decay) takes the events of
each label apart, moved in time so that the windows of all labels end at one instant, and runs the query of a single interval
over them, with the label as the key.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from fstore.interval import MICROSECOND, to_micros
from fstore.plan.parts import raw_column
from fstore.plan.scalar_states import Recipe, recipe
from fstore.plan.slides import Slide
from fstore.plan.split_windows import split_of
from fstore.plan.sql import quoted
from fstore.plan.steps import AggregateStep
from fstore.plan.tile_grid import even_length
from fstore.plan.tile_queries import over_events
from fstore.plan.tile_states import TILE_START, TILE_TO, TileDraft
from fstore.plan.window_features import Span, WindowExpression, WindowFeature, longest_reach
from fstore.plan.windows import compile_windows, with_values

_LABEL, _MOVED = "_label", "__moved"
_END = datetime(2000, 1, 1, tzinfo=UTC)
"""Where the windows of all labels end once their events are moved: an edge of tiles of every length."""


class InstantWindows(msgspec.Struct, frozen=True, kw_only=True):
    """The query, the columns of the source that it reads, and how long before a label its oldest event lies (None: ever)."""

    sql: str
    columns: tuple[str, ...]
    back: timedelta | None


def compile_instants(step: AggregateStep, names: Sequence[str]) -> InstantWindows:
    """Compile the query that gives features of a step, by name, at the instants of labels.

    What a window covers, and what each function means, is as in :func:`fstore.plan.windows.compile_windows`.
    """
    expressions, windows = _needed(step, names)
    tiles = step.tiles[0]
    draft = TileDraft(
        source=tiles.events.source, keys=tiles.keys, event_time=tiles.events.source.event_time or "", length=MICROSECOND
    )
    merged = {feature: made for feature in windows if (made := _merged(draft, feature)) is not None}
    apart = [feature for feature in windows if feature not in merged]
    parts = ([_segments(draft, merged)] if merged else []) + ([_apart(draft, apart)] if apart else [])
    # a label without any event has a row, too
    rows = f"SELECT * FROM (SELECT {_LABEL} FROM labels)" + "".join(
        f" LEFT JOIN (\n{part}\n) USING ({_LABEL})" for part in parts
    )
    every = [column for item in step.tiles for column in item.events.columns or ()]
    return InstantWindows(
        sql=with_values(rows, {_LABEL: _LABEL}, windows, expressions, names),
        columns=tuple(dict.fromkeys(every)),
        back=longest_reach([feature.span for feature in windows]),
    )


def _needed(step: AggregateStep, names: Sequence[str]) -> tuple[list[WindowExpression], list[WindowFeature]]:
    """Return the expressions and aggregates that features are made of, in the order of the step."""
    wanted = set(names)
    expressions: list[WindowExpression] = []
    for expression in reversed(step.expressions):  # each reads only what is before it
        if expression.name in wanted:
            expressions.insert(0, expression)
            words = {word.lower() for word in re.findall(r"\w+", expression.sql)}
            every = [*(feature.name for feature in step.windows), *(other.name for other in step.expressions)]
            wanted |= {name for name in every if {*re.findall(r"\w+", name.lower())} <= words}
    return expressions, [feature for feature in step.windows if feature.name in wanted]


def _merged(draft: TileDraft, feature: WindowFeature) -> Recipe | None:
    """Return what a feature is made of, if its states merge whatever stretch of time they are of; else None."""
    if split_of(feature) is not None:
        return None
    made = recipe(draft, feature)
    timed = any(TILE_TO in slide.tile.aggregate for slide in made.slides)
    plain = all(not (slide.centred or slide.listed or slide.where or slide.tile.inexact) for slide in made.slides)
    return made if plain and not timed and made.span is None else None


# -- segments -----------------------------------------------------------------------------------------------------------


def _segments(draft: TileDraft, features: dict[WindowFeature, Recipe]) -> str:
    """Return the query over segments: ``_label`` and the raw columns."""
    keys = [f"k{index}" for index in range(len(draft.keys))]
    listed = ", ".join(keys)
    spans = list(dict.fromkeys(feature.span for feature in features))
    slides = list(dict.fromkeys(slide for made in features.values() for slide in made.slides))
    tiles = {slide.tile.name: slide.tile for slide in slides}
    states = [
        f"{f'CAST({tile.aggregate} AS {tile.type})' if tile.type else tile.aggregate} AS {quoted(name)}"
        for name, tile in tiles.items()
    ]
    slid = {(slide, feature.span): "" for feature, made in features.items() for slide in made.slides}
    columns = {pair: f"s{number}" for number, pair in enumerate(slid)}
    over = [
        f"{slide.over.format(over=f'OVER w{spans.index(span)}')} AS {column}" for (slide, span), column in columns.items()
    ]
    values = [
        f"{made.value(*(columns[slide, feature.span] for slide in made.slides))} AS {raw_column(feature)}"
        for feature, made in features.items()
    ]
    same = " AND ".join(f"e.{quoted(key)} = key.{column}" for column, key in zip(keys, draft.keys, strict=True))
    instant = f"epoch_us(e.{quoted(draft.event_time)})"
    if any(span.reach is None for span in spans):
        instant = f"greatest({instant}, key.origin)"
    return f"""WITH
{_boundaries(spans, listed)},
tile AS (
  SELECT
    {_list(["__k AS k", "__mark AS mark", *states], 4)}
  FROM (
    SELECT e.*, lookup.k AS __k, lookup.mark AS __mark
    FROM (
      SELECT *, (__instant - __origin) // __length AS __step
      FROM (
        SELECT e.*, key.k AS __key, key.origin AS __origin, key.step AS __length, {instant} AS __instant
        FROM source_events AS e
        JOIN key ON {same}
      )
    ) AS e
    JOIN lookup ON lookup.k = e.__key AND lookup.step_number = e.__step AND e.__instant >= lookup.mark
      AND e.__instant < lookup.until
  )
  GROUP BY 1, 2
),
cell AS (
  SELECT
    {_list(["k", "boundary.mark", "is_end", *_cells(slides)], 4)}
  FROM boundary
  LEFT JOIN (SELECT *, make_timestamptz(mark) AS {TILE_START} FROM tile) AS tile USING (k, mark)
  GROUP BY k, boundary.mark, is_end
),
windowed AS (
  SELECT
    {_list(["k", "mark", "is_end", *over], 4)}
  FROM (SELECT *, {", ".join(_bounds(spans))} FROM cell)
  WINDOW
    {_list([f"w{number} AS ({_frame(number, span)})" for number, span in enumerate(spans)], 4)}
)
SELECT
  {_list([_LABEL, *values])}
FROM windowed
JOIN key USING (k)
JOIN labels USING ({listed}, mark)
WHERE is_end"""


def _boundaries(spans: Sequence[Span], listed: str) -> str:
    """Return the CTEs of each key's segments: what cuts its time, and their lookup by even steps of time.

    The steps of a key are as long as its segments are on average, so that an event meets few of them.
    """
    reaches = [span.reach for span in spans if span.reach is not None]
    distances = sorted({timedelta(), *(span.offset for span in spans), *reaches})
    micros = ", ".join(str(distance // MICROSECOND) for distance in distances)
    edges = f"SELECT {listed}, mark - unnest([{micros}]) AS mark, unnest([{_flags(distances)}]) AS is_end FROM labels"
    if any(span.reach is None for span in spans):  # what precedes all edges of a key is one segment
        before = f"min(mark) - {distances[-1] // MICROSECOND + 1}"
        edges += f"\n    UNION ALL\n    SELECT {listed}, {before}, false FROM labels GROUP BY {listed}"
    return f"""key AS MATERIALIZED (
  SELECT
    {listed}, CAST(row_number() OVER () AS UINTEGER) AS k, min(mark) AS origin,
    greatest(CAST((CAST(max(mark) AS DOUBLE) - min(mark)) / count(*) AS BIGINT), 1) AS step
  FROM (
    {edges}
  )
  GROUP BY {listed}
),
boundary AS MATERIALIZED (
  SELECT k, mark, is_end, lead(mark) OVER (PARTITION BY k ORDER BY mark) AS until
  FROM (
    SELECT k, edge.mark, bool_or(edge.is_end) AS is_end
    FROM (
      {edges}
    ) AS edge
    JOIN key USING ({listed})
    GROUP BY ALL
  )
),
lookup AS (
  SELECT k, mark, until, unnest(range((mark - origin) // step, (until - 1 - origin) // step + 1)) AS step_number
  FROM boundary
  JOIN key USING (k)
  WHERE until IS NOT NULL
)"""


def _flags(distances: Sequence[timedelta]) -> str:
    return ", ".join("false" if distance else "true" for distance in distances)


def _cells(slides: Sequence[Slide]) -> list[str]:
    return [f"{slide.merge.format(filter='')} AS {slide.name}" for slide in slides]


def _bounds(spans: Sequence[Span]) -> list[str]:
    """Return how far back frames begin: only those of a label's end hold anything."""
    return [
        f"CASE WHEN is_end THEN {(span.reach or timedelta()) // MICROSECOND} ELSE 0 END AS first{number}"
        for number, span in enumerate(spans)
    ]


def _frame(number: int, span: Span) -> str:
    first = "UNBOUNDED" if span.reach is None else f"first{number}"
    until = span.offset // MICROSECOND + 1
    return f"PARTITION BY k ORDER BY mark RANGE BETWEEN {first} PRECEDING AND {until} PRECEDING"


# -- labels apart -------------------------------------------------------------------------------------------------------


def _apart(draft: TileDraft, features: Sequence[WindowFeature]) -> str:
    """Return the query over the events of each label: ``_label`` and the raw columns."""
    spans = [feature.span for feature in features]
    distances = [*(span.offset for span in spans), *(span.window for span in spans if span.window is not None)]
    length = even_length(math.gcd(*(distance // MICROSECOND for distance in distances)))
    source = msgspec.structs.replace(draft.source, event_time=_MOVED)
    moved = TileDraft(source=source, keys=(_LABEL,), event_time=_MOVED, length=length)
    windows = compile_windows(moved, features, [], [feature.name for feature in features])
    same = " AND ".join(f"e.{quoted(key)} = labels.k{index}" for index, key in enumerate(draft.keys))
    reach = longest_reach(spans)
    values = [f"{quoted(feature.name)} AS {raw_column(feature)}" for feature in features]
    instant = f"epoch_us(e.{quoted(draft.event_time)})"
    since = "" if reach is None else f" AND {instant} >= labels.mark - {reach // MICROSECOND}"
    return f"""WITH
events AS (
  SELECT labels.{_LABEL}, make_timestamptz({to_micros(_END)} + ({instant} - labels.mark)) AS {_MOVED}, e.*
  FROM source_events AS e
  JOIN labels ON {same} AND {instant} < labels.mark{since}
),
intervals AS (SELECT make_timestamptz({to_micros(_END)}) AS interval_end)
SELECT
  {_list([_LABEL, *values])}
FROM (
{over_events(windows.tiles, windows.single)}
)"""


def _list(items: Sequence[str], indent: int = 2) -> str:
    return f",\n{' ' * indent}".join(items)
