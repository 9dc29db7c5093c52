"""Windowed aggregates as SQL: many windows over many intervals in one query over tiles.

Takes the aggregates and expressions of one view, with arguments that are already checked and quoted, and gives the tiles
that they read and two queries over them and ``intervals``: one for a range of intervals, one for a single interval. They
give the same rows. All are DuckDB's SQL and assume a session in UTC. Infers no type, checks no name and runs nothing.

Features are taken apart by what splits their tiles: those of whole keys are computed first and say which rows there are,
each split gives a part that is joined to them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta

import msgspec

from fstore.definitions.source import Source
from fstore.plan.columns import find_column
from fstore.plan.frames import Frames, within
from fstore.plan.inference import typed
from fstore.plan.moments import centred_relation, exact_rows
from fstore.plan.ordered_lists import listed_rows
from fstore.plan.parts import Part, final_value, raw_column
from fstore.plan.presence import present_keys
from fstore.plan.scalar_states import presence, recipe
from fstore.plan.slides import SlideRef
from fstore.plan.split_windows import compile_split, split_is_known, split_of
from fstore.plan.sql import quoted
from fstore.plan.steps import EVENT_TIMESTAMP, EventInput, TileSet
from fstore.plan.tile_grid import coarse_length, tile_length
from fstore.plan.tile_states import TILE_START, TileDraft
from fstore.plan.timing import Timing
from fstore.plan.window_features import Span, WindowExpression, WindowFeature, longest_reach
from fstore.types import Column

_OWN = "own"
"""The tiles of whole keys with the names of queries, so that none of the user's meets one of ours."""


class Windows(msgspec.Struct, frozen=True, kw_only=True):
    """The tiles of a view's windows, and the SQL over them: for any number of intervals, and for exactly one.

    Both give the keys, ``event_timestamp`` (the interval's end) and the columns asked for, in any order: a row for each
    interval and key with an event from the earliest beginning to the latest end of its windows.
    """

    tiles: tuple[TileSet, ...]
    range: str
    single: str


def compile_windows(
    draft: TileDraft, features: Sequence[WindowFeature], expressions: Sequence[WindowExpression], columns: Sequence[str]
) -> Windows:
    """Compile aggregates and expressions to the queries that compute ``columns`` (names of either).

    ``expressions`` are in an order in which each reads only features and expressions before it. Semantics: a window of
    length ``w`` at ``t`` covers ``[t - w, t)``; nulls are skipped; NaN is the greatest number; counts over nothing are 0
    and all else null, before ``fill``; sums of integers and decimals are exact or an error, averages are their float64
    quotient.
    """
    splits = {feature.name: split_of(feature) for feature in features}
    whole = [feature for feature in features if splits[feature.name] is None]
    parts = [_whole_keys(draft, whole, features)]
    for split in dict.fromkeys(split for split in splits.values() if split is not None):
        mine = [feature for feature in features if splits[feature.name] == split]
        split_columns = tuple(dict.fromkeys(column for feature in mine for column in feature.columns))
        of_split = msgspec.structs.replace(
            draft, split=split, split_columns=split_columns, split_known=split_is_known(mine[0])
        )
        parts.append(compile_split(mine, of_split, f"tiles{len(parts)}", parts[0].tiles.relation))

    def joined(queries: Sequence[str]) -> str:
        keys = [f"k{index}" for index in range(len(draft.keys))]
        sql = queries[0]
        if len(queries) > 1:
            using = ", ".join([*keys, "interval_end"])
            sql = f"SELECT * FROM (\n{sql}\n)" + "".join(
                f"\nLEFT JOIN (\n{query}\n) USING ({using})" for query in queries[1:]
            )
        named = {quoted(key): column for column, key in zip(keys, draft.keys, strict=True)}
        return with_values(sql, {**named, EVENT_TIMESTAMP: "interval_end"}, features, expressions, columns)

    return Windows(
        tiles=tuple(part.tiles for part in parts),
        range=joined([part.range for part in parts]),
        single=joined([part.single for part in parts]),
    )


def with_values(
    sql: str,
    kept: Mapping[str, str],
    features: Sequence[WindowFeature],
    expressions: Sequence[WindowExpression],
    columns: Sequence[str],
) -> str:
    """Return the query that gives ``columns`` over one that has the raw columns of features.

    ``kept`` are columns that come before them, each with what it is of ``sql``.
    """
    values = [f"{final_value(feature)} AS {quoted(feature.name)}" for feature in features]
    sql = _select([*(f"{column} AS {name}" for name, column in kept.items()), *values], sql)
    for level in _levels(expressions):
        sql = _select(["*", *(f"{typed(f'({item.sql})', item.type)} AS {quoted(item.name)}" for item in level)], sql)
    return _select([*kept, *(quoted(column) for column in columns)], sql)


def draft_tiles(
    source: Source, keys: Sequence[Column], columns: Mapping[str, str], timing: Timing, features: Sequence[WindowFeature]
) -> TileDraft:
    """Return what the tiles of a view have in common; ``columns`` are the source's, as far as they are known."""
    spans = [feature.span for feature in features]
    distances = [*(span.offset for span in spans), *(span.window for span in spans if span.window is not None)]
    length = tile_length(timing.schedule, timing.start, distances)
    time = source.event_time or ""
    return TileDraft(
        source=source,
        keys=tuple(key.name for key in keys),
        event_time=find_column(time, columns) or time,
        length=length,
        coarse=coarse_length(length, longest_reach(spans)),
        read=tuple(find_column(name, columns) or name for name in [*(key.name for key in keys), time]),
    )


def all_events(tiles: Sequence[TileSet]) -> EventInput:
    """Return the events that sets of tiles of one source are made of, altogether."""
    windows = [item.events.window for item in tiles]
    known = [window for window in windows if window is not None]
    columns = dict.fromkeys(column for item in tiles for column in item.events.columns or ())
    window = max(known) if len(known) == len(windows) else None
    return msgspec.structs.replace(tiles[0].events, window=window, columns=tuple(columns))


def _whole_keys(draft: TileDraft, features: Sequence[WindowFeature], every: Sequence[WindowFeature]) -> Part:
    """Compile the features whose tiles are not split; ``every`` feature of the view decides which rows there are."""
    spans = list(dict.fromkeys(feature.span for feature in every))
    refs: dict[tuple[str, Span], SlideRef] = {}
    values: list[str] = []
    for feature in features:
        made = recipe(draft, feature)
        columns: list[str] = []
        for slide in made.slides:
            span = _longest(feature.span, spans) if slide.ends_alike else feature.span
            span = made.span if made.span is not None and not slide.counter else span
            ref = refs.setdefault((slide.name, span), SlideRef(slide=slide, span=span, column=f"s{len(refs)}"))
            columns.append(ref.column)
        values.append(f"{made.value(*columns)} AS {raw_column(feature)}")
    used = list(refs.values())
    shorter = [ref.span.reach for ref in used if ref.span not in spans and ref.span.reach is not None]
    tiles = draft.tile_set("tiles0", [ref.slide.tile for ref in used], spans, edges=shorter)
    keys = [f"k{index}" for index in range(len(draft.keys))]
    slides = list(dict.fromkeys(ref.slide for ref in used))
    frames = Frames(centred_relation(_OWN, keys, slides), keys, spans, used, presence(draft))
    selected = [*keys, "interval_end", *values]
    renamed = [f"{quoted(key)} AS {column}" for column, key in zip(keys, draft.keys, strict=True)]
    columns = [*renamed, TILE_START, EVENT_TIMESTAMP, *(state.name for state in tiles.states)]
    own = f"WITH {_OWN} AS (\n{_select(columns, tiles.relation, nested=False)}\n)\n"
    many = _finished(frames, frames.range()) if features else present_keys(draft, frames.hull)
    return Part(
        tiles=tiles,
        range=own + _select(selected, many),
        single=own + _select(selected, _finished(frames, frames.single())),
    )


def _longest(span: Span, spans: Sequence[Span]) -> Span:
    """Return the longest of some spans that ends where one of them does."""
    alike = [other for other in spans if other.offset == span.offset]
    return max(alike, key=lambda other: timedelta.max if other.reach is None else other.reach)


def _finished(frames: Frames, rows: str) -> str:
    """Return rows of slides with moments that are beyond doubt, and lists instead of the tiles that they begin with."""
    moments = {ref.column: (ref.slide, within(ref.span)) for ref in frames.refs if ref.slide.centred}
    lists = {ref.column: ref.slide for ref in frames.refs if ref.slide.listed}
    every = [ref.column for ref in frames.refs]
    if moments:
        rows = exact_rows(rows, _OWN, frames.keys, moments, [column for column in every if column not in moments])
    if lists:
        rows = listed_rows(rows, _OWN, frames.keys, lists, [column for column in every if column not in lists])
    return rows


def _select(items: Sequence[str], relation: str, *, nested: bool = True) -> str:
    listed = ",\n  ".join(items)
    return f"SELECT\n  {listed}\nFROM " + (f"(\n{relation}\n)" if nested else relation)


def _levels(expressions: Sequence[WindowExpression]) -> list[list[WindowExpression]]:
    """Group expressions so that those of one group can be computed side by side: none names another of its group."""
    levels: list[list[WindowExpression]] = []
    for expression in expressions:
        words = {word.lower() for word in re.findall(r"\w+", expression.sql)}
        if not levels or any(words >= {*re.findall(r"\w+", other.name.lower())} for other in levels[-1]):
            levels.append([])
        levels[-1].append(expression)
    return levels
