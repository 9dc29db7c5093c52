"""Windowed aggregates as SQL: many windows over many intervals in one query.

Takes the aggregates and expressions of one view, with arguments that are already checked and quoted, and gives two queries
over the relations ``events`` and ``intervals``: one for a range of intervals, one for a single interval. They give the same
rows. Both are DuckDB's SQL and assume a session in UTC. Infers no type, checks no name and runs nothing.

A range is computed by tiles. The ends of all intervals and the starts of all windows cut time into elementary segments, so
that every window of every interval is a run of whole segments: days for a daily schedule with windows of days, and something
irregular where clocks change, a cron skips days or only a few intervals are asked for. Events are aggregated once per key
and segment into states that merge by addition or comparison, never by subtraction, and each window is a frame of rows over
the segments of a key. A key has rows only for stretches of time in which some window holds one of its events, so the cost
follows the number of result rows, however many keys there are and however rarely they act. (Tiling of sliding windows after
Li et al., "No pane, no gain", SIGMOD Record 34, 2005: panes of unequal length.)

A single interval needs no tiles: it is one GROUP BY with a filter per window.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import assert_never

import msgspec

from fstore.definitions.aggregation import Function, Scalar
from fstore.interval import MICROSECOND
from fstore.plan.audits import sql_literal
from fstore.plan.inference import sql_type
from fstore.plan.sql import quoted
from fstore.plan.steps import EVENT_TIMESTAMP
from fstore.plan.tiles import ALL_EVENTS, State, StateRef, range_states, single_states
from fstore.types import parse_type


class WindowFeature(msgspec.Struct, frozen=True, kw_only=True):
    """One aggregate over one window.

    ``argument`` is a SQL scalar over the source's columns, None for ``count`` of all events. ``fill`` replaces null.
    ``type`` is None where the source's schema is unknown: the value then has whatever type DuckDB gives it.
    """

    name: str
    function: Function
    argument: str | None
    window: timedelta
    fill: Scalar = None
    type: str | None = None


class WindowExpression(msgspec.Struct, frozen=True, kw_only=True):
    """A feature computed from other features of its view, by a SQL scalar over their names."""

    name: str
    sql: str
    type: str | None = None


class WindowQueries(msgspec.Struct, frozen=True, kw_only=True):
    """The SQL of a view's windows: ``range`` for any number of intervals, ``single`` for exactly one.

    Both give the keys, ``event_timestamp`` (the interval's end) and the columns asked for: a row for each interval
    and key with an event in the longest window, in any order.
    """

    range: str
    single: str


def compile_windows(
    *,
    keys: Sequence[str],
    event_time: str,
    features: Sequence[WindowFeature],
    expressions: Sequence[WindowExpression] = (),
    columns: Sequence[str],
) -> WindowQueries:
    """Compile aggregates and expressions to the queries that compute ``columns`` (names of either).

    ``expressions`` are in an order in which each reads only features and expressions before it. Relation ``events`` has no
    null key or time and at least the events of every window. Semantics: a window of length ``w`` at ``t`` covers
    ``[t - w, t)``; nulls are skipped; NaN is the greatest number; a count over nothing is 0 and all else null, before
    ``fill``; ``last`` is the newest value that is not null, the greatest of those at the same instant; sums of integers and
    decimals are exact or an error, averages are their float64 quotient.
    """
    windows = sorted({feature.window for feature in features}, reverse=True)
    micros = [window // MICROSECOND for window in windows]
    arguments = list(dict.fromkeys(feature.argument for feature in features if feature.argument is not None))
    internal = [f"k{index}" for index in range(len(keys))]
    source = _source(dict(zip(internal, keys, strict=True)), event_time, arguments)
    aggregates = [(feature, windows.index(feature.window), _argument(feature, arguments)) for feature in features]
    needed = list(dict.fromkeys(ref for feature, window, value in aggregates for ref in _states(feature, value, window)))
    selected = [
        *(f"{column} AS {quoted(key)}" for column, key in zip(internal, keys, strict=True)),
        f"interval_end AS {EVENT_TIMESTAMP}",
        *(f"{_value(feature, value, window)} AS {quoted(feature.name)}" for feature, window, value in aggregates),
    ]
    result = [*(quoted(key) for key in keys), EVENT_TIMESTAMP, *(quoted(column) for column in columns)]

    def features_of(states: str) -> str:
        sql = _select(selected, states)
        for level in _levels(expressions):
            sql = _select(["*", *(f"{_typed(f'({item.sql})', item.type)} AS {quoted(item.name)}" for item in level)], sql)
        return _select(result, sql)

    return WindowQueries(
        range=features_of(range_states(source, internal, micros, needed)),
        single=features_of(single_states(source, internal, micros, needed)),
    )


def _source(keys: Mapping[str, str], event_time: str, arguments: Sequence[str]) -> str:
    """Return the SELECT that renames what is read of the events, so that no name of the user's meets one of ours."""
    items = [
        *(f"{quoted(key)} AS {column}" for column, key in keys.items()),
        f"epoch_us({quoted(event_time)}) AS instant",
        *(f"{argument} AS a{index}" for index, argument in enumerate(arguments)),
    ]
    return f"SELECT {', '.join(items)} FROM events"


def _select(items: Sequence[str], relation: str) -> str:
    listed = ",\n  ".join(items)
    return f"SELECT\n  {listed}\nFROM (\n{relation}\n)"


def _argument(feature: WindowFeature, arguments: Sequence[str]) -> str | None:
    return None if feature.argument is None else f"a{arguments.index(feature.argument)}"


def _states(feature: WindowFeature, value: str | None, window: int) -> tuple[StateRef, ...]:
    """Return the states that a feature is made of."""
    if value is None:
        return (StateRef(ALL_EVENTS, window),)
    if feature.function == "avg":
        return (StateRef(State("sum", value), window), StateRef(State("count", value), window))
    return (StateRef(State(feature.function, value), window),)


def _value(feature: WindowFeature, value: str | None, window: int) -> str:
    """Return a feature's value, computed from its states."""
    first, *rest = (ref.column for ref in _states(feature, value, window))
    match feature.function:
        case "count":
            return _typed(f"coalesce({first}, 0)", feature.type)
        case "avg":
            result = f"CAST({first} AS DOUBLE) / nullif({rest[0]}, 0)"
        case "last":
            result = f"struct_extract({first}, 'v')"
        case "sum" | "min" | "max":
            result = first
        case _:
            assert_never(feature.function)
    if feature.fill is None:
        return _typed(result, feature.type)
    return f"coalesce({_typed(result, feature.type)}, {_typed(sql_literal(feature.fill), feature.type)})"


def _typed(sql: str, type: str | None) -> str:
    return sql if type is None else f"CAST({sql} AS {sql_type(parse_type(type))})"


def _levels(expressions: Sequence[WindowExpression]) -> list[list[WindowExpression]]:
    """Group expressions so that those of one group can be computed side by side: none names another of its group."""
    levels: list[list[WindowExpression]] = []
    for expression in expressions:
        words = {word.lower() for word in re.findall(r"\w+", expression.sql)}
        if not levels or any(words >= {*re.findall(r"\w+", other.name.lower())} for other in levels[-1]):
            levels.append([])
        levels[-1].append(expression)
    return levels
