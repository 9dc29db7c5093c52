"""The SQL of composite views: own aggregates joined with snapshots of other views, for any number of intervals.

Reads relations ``own`` (the view's own aggregates: keys, ``event_timestamp``, features; only if it has some), and for
each joined view ``snapshot<n>`` (its published rows) and ``ends<n>`` (``interval_end`` of the reader, ``snapshot_end`` of
the snapshot that it reads). Gives the keys, ``event_timestamp`` and the features. One query serves one interval and many, so
that they cannot differ. Checks nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from fstore.plan.inference import sql_type, typed
from fstore.plan.sql import quoted
from fstore.plan.steps import EVENT_TIMESTAMP, AggregateStep, CompositeStep, Feature, Step
from fstore.plan.window_features import WindowExpression
from fstore.types import parse_type


class OwnValues(msgspec.Struct, frozen=True, kw_only=True):
    """The view's own aggregates, and a SELECT without FROM of their values over nothing."""

    features: tuple[Feature, ...]
    empty_sql: str


class JoinedValue(msgspec.Struct, frozen=True, kw_only=True):
    """A feature of a joined view, and its column among the joined rows."""

    feature: str
    column: str
    type: str | None


class JoinedView(msgspec.Struct, frozen=True, kw_only=True):
    """A view that is joined: ``on`` maps each of its keys to a key of the reader."""

    index: int
    step: Step
    on: Mapping[str, str]
    has_all_keys: bool
    values: tuple[JoinedValue, ...] = ()

    @property
    def relation(self) -> str:
        """The relation with the view's published rows."""
        return f"snapshot{self.index}"

    @property
    def ends(self) -> str:
        """The relation that says which snapshot an interval reads."""
        return f"ends{self.index}"


def composite_sql(
    keys: Sequence[str], own: OwnValues | None, joins: Sequence[JoinedView], expressions: Sequence[WindowExpression],
    columns: Sequence[str],
) -> str:  # fmt: skip
    """Return the query of a composite view; ``expressions`` are in an order in which each reads only what is before it."""
    rows = [f"SELECT {_list(keys)}, {EVENT_TIMESTAMP} AS _end FROM own"] if own else []
    rows += [_keys_of(join, keys) for join in joins if join.has_all_keys]
    values = [f"keyed.{quoted(key)}" for key in keys] + [f"keyed._end AS {EVENT_TIMESTAMP}"]
    sources = ["keyed"]
    if own:
        same = " AND ".join(f"own.{quoted(key)} = keyed.{quoted(key)}" for key in keys)
        sources += [f"LEFT JOIN own ON {same} AND own.{EVENT_TIMESTAMP} = keyed._end",
                    f"CROSS JOIN (\n{own.empty_sql}\n) AS own_empty"]  # fmt: skip
        values += [_present("own", "own_empty", name, name) for name in (feature.name for feature in own.features)]
    for join in joins:
        held = f"held{join.index}"
        same = " AND ".join(f"{held}.{quoted(key)} = keyed.{quoted(column)}" for key, column in join.on.items())
        sources += [f"LEFT JOIN {join.ends} ON {join.ends}.interval_end = keyed._end",
                    f"LEFT JOIN {held} ON {same} AND {held}.{EVENT_TIMESTAMP} = {join.ends}.snapshot_end",
                    f"CROSS JOIN (\n{_empty_values(join)}\n) AS empty{join.index}"]  # fmt: skip
        values += [_joined(join, value) for value in join.values]
    held_rows = [f"held{join.index} AS (SELECT {_payload(join)} FROM {join.relation})" for join in joins]
    unions = "\nUNION\n".join(rows)
    ctes = ",\n".join([f"keyed AS (\n{unions}\n)", *held_rows])
    joined = f"SELECT\n  {_lines(values)}\nFROM {_lines(sources, '')}"
    result = [*(quoted(key) for key in keys), EVENT_TIMESTAMP, *(quoted(column) for column in columns)]
    return f"WITH {ctes}\nSELECT {', '.join(result)}\nFROM (\n{with_expressions(joined, expressions)}\n)"


def empty_row_sql(
    own: OwnValues | None, joins: Sequence[JoinedView], expressions: Sequence[WindowExpression], columns: Sequence[str]
) -> str:
    """Return a SELECT without tables that gives the features of a key that no relation has."""
    parts = [f"(\n{own.empty_sql}\n) AS own_empty"] if own else []
    values = [f"own_empty.{quoted(feature.name)}" for feature in own.features] if own else []
    for join in joins:
        parts.append(f"(\n{_empty_values(join)}\n) AS empty{join.index}")
        values += [f"empty{join.index}.{quoted(value.feature)} AS {quoted(value.column)}" for value in join.values]
    start = f"SELECT {', '.join(values)}\nFROM " + "\nCROSS JOIN ".join(parts)
    return f"SELECT {', '.join(quoted(column) for column in columns)}\nFROM (\n{with_expressions(start, expressions)}\n)"


def with_expressions(sql: str, expressions: Sequence[WindowExpression]) -> str:
    """Return a SELECT that adds expressions to the columns of another, those that name none of each other side by side."""
    level: list[WindowExpression] = []
    for expression in [*expressions, None]:
        words = set() if expression is None else {word.lower() for word in re.findall(r"\w+", expression.sql)}
        if level and (expression is None or any(item.name.lower() in words for item in level)):
            added = ", ".join(f"{typed(f'({item.sql})', item.type)} AS {quoted(item.name)}" for item in level)
            sql, level = f"SELECT *, {added}\nFROM (\n{sql}\n)", []
        if expression is not None:
            level.append(expression)
    return sql


def _keys_of(join: JoinedView, keys: Sequence[str]) -> str:
    """Return the SELECT of a joined view's keys, as keys of the reader, at each interval that reads it."""
    key_of = {column: key for key, column in join.on.items()}
    listed = ", ".join(f"{join.relation}.{quoted(key_of[key])} AS {quoted(key)}" for key in keys)
    return (
        f"SELECT {listed}, {join.ends}.interval_end AS _end FROM {join.relation} "
        f"JOIN {join.ends} ON {join.ends}.snapshot_end = {join.relation}.{EVENT_TIMESTAMP}"
    )


def _payload(join: JoinedView) -> str:
    """Return what a join carries of a snapshot: vectors as lists.

    A left join of DuckDB 2.0 reads lengths from memory that was never set where an array in its payload is null.
    """
    values = [
        f"CAST({quoted(value.feature)} AS {_list_type(value)}) AS {quoted(value.feature)}" if _is_vector(value)
        else quoted(value.feature)
        for value in join.values
    ]  # fmt: skip
    return ", ".join([*(quoted(key) for key in join.on), EVENT_TIMESTAMP, *values])


def _joined(join: JoinedView, value: JoinedValue) -> str:
    empty = f"empty{join.index}"
    if not _is_vector(value):
        return _present(f"held{join.index}", empty, value.feature, value.column)
    held = f"held{join.index}.{quoted(value.feature)}"
    there = f"held{join.index}.{EVENT_TIMESTAMP} IS NOT NULL"
    chosen = f"CASE WHEN {there} THEN {held} ELSE CAST({empty}.{quoted(value.feature)} AS {_list_type(value)}) END"
    return f"CAST({chosen} AS {sql_type(parse_type(value.type or ''))}) AS {quoted(value.column)}"


def _present(relation: str, empty: str, name: str, column: str) -> str:
    """Return a value of a row that may be absent, which then is that of the empty row."""
    column_of = f"{relation}.{quoted(name)}"
    return (
        f"CASE WHEN {relation}.{EVENT_TIMESTAMP} IS NOT NULL THEN {column_of} "
        f"ELSE {empty}.{quoted(name)} END AS {quoted(column)}"
    )


def _empty_values(join: JoinedView) -> str:
    """Return a SELECT of the values that a view has for a key without a row; all null for SQL and Python views."""
    if isinstance(join.step, AggregateStep | CompositeStep):
        return f"SELECT {', '.join(quoted(value.feature) for value in join.values)}\nFROM (\n{join.step.empty_sql}\n)"
    return "SELECT " + ", ".join(f"{typed('NULL', value.type)} AS {quoted(value.feature)}" for value in join.values)


def _is_vector(value: JoinedValue) -> bool:
    return value.type is not None and parse_type(value.type).name == "vector"


def _list_type(value: JoinedValue) -> str:
    item = parse_type(value.type or "").item
    return f"{sql_type(item)}[]" if item else ""


def _list(names: Sequence[str]) -> str:
    return ", ".join(quoted(name) for name in names)


def _lines(items: Sequence[str], comma: str = ",") -> str:
    return f"{comma}\n  ".join(items)
