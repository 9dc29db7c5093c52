"""Checks of sources, which are values already when they are declared.

Takes a source as its author made it, with any values in its fields, and gives the problems with it. What the SQL of a
source says is for the plan to see; whether two sources share a name is for the loader.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from fstore.definitions.feature_view import FeatureReference, FeatureView, ViewHistory
from fstore.definitions.problems import Reporter
from fstore.definitions.project import Problem
from fstore.definitions.source import (
    CsvSource,
    PhysicalSource,
    PostgresSource,
    Source,
    SqlSource,
    UnionSource,
    WindowedSource,
)
from fstore.definitions.validation import (
    kind_of,
    read_column,
    read_duration,
    read_flag,
    read_name,
    read_optional_text,
    read_parsed,
    read_text,
    read_type,
    report_unknown,
)
from fstore.errors import listing
from fstore.interval import Schedule

_ALIAS = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TABLE = re.compile(r'([A-Za-z_][A-Za-z0-9_$]*|"[^"]+")(\.([A-Za-z_][A-Za-z0-9_$]*|"[^"]+"))?')
_CONNECTION = re.compile(r"[a-z][a-z0-9_]*|airflow://[A-Za-z0-9_.-]+")
_UNBOUNDED = "all"


def source_problems(source: Source) -> list[Problem]:
    """Return what is wrong with a source."""
    report = Reporter([], f"source {source.name!r}", source.location)
    read_name(report, "name", source.name)
    read_optional_text(report, "description", source.description)
    match source:
        case SqlSource():
            _check_sql_source(report, source)
        case UnionSource():
            _check_union(report, source)
        case PostgresSource():
            _check_rows(report, source)
            _check_postgres(report, source)
        case _:
            read_text(report, "path", source.path, example='"data/orders/"')
            _check_rows(report, source)
            if isinstance(source, CsvSource):
                delimiter: object = source.delimiter
                if not isinstance(delimiter, str) or len(delimiter) != 1:
                    report.add(f"has a wrong delimiter: expected one character, got {delimiter!r}.")
                read_optional_text(report, "null text", source.null)
    return report.problems


# -- files and tables -------------------------------------------------------------------------------------------------


def _check_rows(report: Reporter, source: PhysicalSource) -> None:
    """Check what files and tables have in common."""
    read_duration(report, "lag", source.lag, positive=False)
    if source.timezone is not None:
        read_parsed(report, "time zone", source.timezone, _parse_zone, example='"Europe/Berlin"')
    _check_time(report, source)
    _check_schema(report, source)


def _parse_zone(name: str) -> Schedule:
    return Schedule.parse("@daily", name)


def _check_time(report: Reporter, source: PhysicalSource) -> None:
    """Check that a source is either of events or a dimension, and says what that needs."""
    static = read_flag(report, "static", source.static)
    if source.event_time is None and source.keys is None:
        report.add(
            "has neither event_time nor keys.",
            'Events need event_time="…"; a dimension needs keys=["…"] and updated_at="…" (or static=True).',
        )
        return
    if isinstance(source.keys, Mapping):
        _check_renames(report, source.keys)
    if source.event_time is not None:
        read_text(report, "event_time", source.event_time, example='"created_at"')
        listed = source.keys is not None and not isinstance(source.keys, Mapping)
        mixed = ["keys"] * listed + ["updated_at"] * (source.updated_at is not None) + ["static"] * static
        if mixed:
            report.add(
                f"has event_time and {listing(mixed)}: it cannot be both events and a dimension.",
                "Keep event_time for events, or keys with updated_at (or static=True) for a dimension.",
            )
        return
    keys: object = source.keys
    if not isinstance(keys, Mapping):
        _check_columns(report, "keys", keys)
    if static == (source.updated_at is not None):
        has = "both updated_at and static=True" if static else "keys but neither updated_at nor static=True"
        report.add(
            f"has {has}.",
            "updated_at names the column that says since when a row holds; static=True is for a table without history.",
        )
    elif source.updated_at is not None:
        read_text(report, "updated_at", source.updated_at, example='"updated_at"')


def _check_columns(report: Reporter, setting: str, value: object) -> bool:
    if isinstance(value, list | tuple) and value and all(isinstance(item, str) and item for item in value):
        return True
    report.add(f'has wrong {setting}: expected a list of column names such as ["user_id"], got {value!r}.')
    return False


def _check_renames(report: Reporter, keys: Mapping[str, str]) -> None:
    """Check keys that are a mapping of join keys to columns."""
    if not keys:
        report.add('has wrong keys: expected a mapping such as {"user_id": "customer_id"}, got an empty one.')
    columns: dict[str, object] = {}
    for key, column in keys.items():
        read_column(report, "key", key)
        text = read_text(report, f"column of key {key!r}", column, example='"customer_id"')
        if text is not None and text in columns:
            report.add(f"shows column {text!r} as two keys, {columns[text]!r} and {key!r}.", "Keep one of them.")
        elif text is not None:
            columns[text] = key


def _check_schema(report: Reporter, source: PhysicalSource) -> None:
    """Check a declared schema, and that the columns the source names are in it."""
    schema: object = source.schema
    if schema is None:
        return
    if not isinstance(schema, Mapping) or not schema:
        report.add(f'has a wrong schema: expected a mapping such as {{"amount": "float64"}}, got {kind_of(schema)}.')
        return
    for column, type_text in schema.items():
        read_text(report, "column name in its schema", column, example='"amount"')
        read_type(report, f"type of column {column!r}", type_text)
    keys: object = source.keys
    named: list[object] = list(
        keys.values() if isinstance(keys, Mapping) else keys if isinstance(keys, list | tuple) else ()
    )
    named += [source.event_time, source.updated_at]
    if isinstance(source, PostgresSource):
        named += [source.cursor, source.deleted, *(source.unique_key if isinstance(source.unique_key, list) else ())]
    for name in dict.fromkeys(name for name in named if isinstance(name, str)):
        if name not in schema:
            report_unknown(report, "names column", name, list(schema), "Add it to the schema.")


# -- PostgreSQL -------------------------------------------------------------------------------------------------------


def _check_postgres(report: Reporter, source: PostgresSource) -> None:
    connection: object = source.connection
    if not isinstance(connection, str) or not _CONNECTION.fullmatch(connection):
        address = isinstance(connection, str) and ("@" in connection or "://" in connection or "=" in connection)
        report.add(
            "has an address or credentials as its connection, which is a name."
            if address
            else f'has a wrong connection: expected a name such as "shop", got {kind_of(connection)}.',
            'Write connection="shop" and set FSTORE_CONNECTION_SHOP=postgresql://…, or name an Airflow connection: '
            'connection="airflow://shop_db".',
        )
    if (source.table is None) == (source.query is None):
        has = "neither a table nor a query" if source.table is None else "both a table and a query"
        report.add(f"has {has}.", 'Give exactly one: table="shop.orders", or query="SELECT …".')
    elif source.table is not None and (not isinstance(source.table, str) or not _TABLE.fullmatch(source.table)):
        report.add(f'has a wrong table: expected a name such as "orders" or "shop.orders", got {kind_of(source.table)}.')
    elif source.query is not None:
        _check_query(report, source.query)
    if source.cursor is not None:
        read_text(report, "cursor", source.cursor, example='"updated_at"')
    _check_overlap(report, source)
    if source.unique_key is not None:
        _check_columns(report, "unique_key", source.unique_key)
    if source.deleted is not None:
        read_text(report, "deleted", source.deleted, example='"is_deleted"')
        if source.unique_key is None and source.keys is None:
            report.add(
                f"says by column {source.deleted!r} which rows are gone, but not how a row is told from others.",
                'Add unique_key=["order_id"].',
            )


def _check_query(report: Reporter, query: object) -> None:
    text = read_text(report, "query", query, example='"SELECT * FROM orders"')
    if text is not None and not re.match(r"\s*(SELECT|WITH|\()", text, re.IGNORECASE):
        report.add(f"has a query that is not a SELECT: {' '.join(text.split())[:60]!r}.")
    elif text is not None and ";" in text.rstrip().rstrip(";"):
        report.add("has a query with more than one statement.", "Write one SELECT, without a semicolon inside.")


def _check_overlap(report: Reporter, source: PostgresSource) -> None:
    overlap: object = source.overlap
    if overlap is None:
        return
    if source.cursor is None:
        report.add("has an overlap but no cursor.", 'Add cursor="updated_at", or remove the overlap.')
    if isinstance(overlap, str):
        read_duration(report, "overlap", overlap, positive=False)
    elif not isinstance(overlap, int) or isinstance(overlap, bool) or overlap < 0:
        report.add(
            f"has a wrong overlap: expected a duration for a cursor of times or a number for one of numbers, got "
            f"{kind_of(overlap)}."
        )


# -- sources made of others -------------------------------------------------------------------------------------------


def _check_sql_source(report: Reporter, source: SqlSource) -> None:
    read_text(report, "sql", source.sql, example='"SELECT user_id, paid_at, amount FROM o"')
    read_text(report, "event_time", source.event_time, example='"paid_at"')
    _check_own_lag(report, source.lag)
    inputs: object = source.inputs
    if not isinstance(inputs, Mapping) or not inputs:
        got = "an empty one" if isinstance(inputs, Mapping) else kind_of(inputs)
        report.add(f'has wrong inputs: expected a mapping such as {{"o": orders}}, got {got}.')
        return
    seen: set[str] = set()
    events = 0
    for alias, item in inputs.items():
        if not isinstance(alias, str) or not _ALIAS.fullmatch(alias):
            report.add(f"has a wrong input name: {alias!r} cannot name a table in SQL.")
            continue
        if alias.lower() in seen:
            report.add(f"has two inputs called {alias!r} (case does not count).", "Rename one.")
        seen.add(alias.lower())
        events += _check_input(report, alias, item)
    if not events and not report.problems:
        report.add(
            "reads no events: all of its inputs are dimensions, whose rows did not happen at an instant.",
            "Give one of its inputs an event_time, or read the dimensions in a SQL view.",
        )


def _check_input(report: Reporter, alias: str, item: object) -> bool:
    """Check an input of a SqlSource; return whether it is one of events."""
    if isinstance(item, WindowedSource):
        here = report.about(report.subject, item.location)
        if item.source.is_dimension:
            here.add(
                f"puts a window on source {item.source.name!r} (input {alias!r}), which is a dimension: the newest row "
                "counts.",
                f'Write {{"{alias}": {item.source.name}}}.',
            )
        elif item.window != _UNBOUNDED:
            read_duration(here, f"window of input {alias!r}", item.window)
        return not item.source.is_dimension
    if isinstance(item, Source):
        return not item.is_dimension
    report.add(f"gives input {alias!r} as {_described(item)}; an input of a source is another source.", _instead(item))
    return True


def _check_union(report: Reporter, source: UnionSource) -> None:
    read_text(report, "event_time", source.event_time, example='"created_at"')
    _check_own_lag(report, source.lag)
    members: object = source.sources
    if not isinstance(members, list | tuple) or len(members) < 2:
        got = f"{len(members)}" if isinstance(members, list | tuple) else kind_of(members)
        report.add(f"has wrong sources: expected a list of two or more, such as [web, app], got {got}.")
        return
    names: list[str] = []
    for item in members:
        if not isinstance(item, Source):
            report.add(f"is made of {_described(item)}; a union is made of sources.", _instead(item))
            return
        if item.is_dimension:
            report.add(
                f"is made of source {item.name!r}, which is a dimension: its rows did not happen at an instant.",
                "Give it an event_time, or leave it out.",
            )
        if item.name in names:
            report.add(f"is made of source {item.name!r} twice.", "Remove one.")
        names.append(item.name)
    _check_union_columns(report, source, names)


def _check_union_columns(report: Reporter, source: UnionSource, names: list[str]) -> None:
    columns: object = source.columns
    if columns is None:
        return
    if not isinstance(columns, Mapping):
        if _check_columns(report, "columns", columns):
            doubled = [name for name in source.columns or () if list(source.columns or ()).count(name) > 1]
            for name in dict.fromkeys(doubled):
                report.add(f"lists column {name!r} twice.", "Remove one.")
        return
    for name, expressions in columns.items():
        read_column(report, "column", name)
        if name == source.event_time:
            report.add(
                f"maps column {name!r}, its event time, which is that of each member.",
                'Remove it from the columns, or call the event time otherwise: event_time="happened_at".',
            )
        if not isinstance(expressions, Mapping):
            report.add(
                f"has a wrong column {name!r}: expected a mapping of source names to SQL such as "
                f'{{"{names[0]}": "amount / 100"}}, got {kind_of(expressions)}.'
            )
            continue
        for member, sql in expressions.items():
            if member not in names:
                report_unknown(report, f"maps column {name!r} of source", str(member), names)
            read_text(report, f"SQL of column {name!r} of source {member!r}", sql, example='"amount / 100"')


def _check_own_lag(report: Reporter, lag: object) -> None:
    if lag is not None:
        read_duration(report, "lag", lag, positive=False)


def _described(item: object) -> str:
    match item:
        case FeatureReference():
            return f"the feature {item!r}"
        case ViewHistory():
            return f"{item.view.__name__}.history"
        case type() if issubclass(item, FeatureView):
            return f"the view {item.__name__}"
        case str():
            return f"the text {item!r}"
        case _:
            return kind_of(item)


def _instead(item: object) -> str:
    if isinstance(item, str):
        return "Sources are objects, never strings: import it and write its name without quotes."
    if isinstance(item, FeatureReference | ViewHistory | type):
        return "Read views in a SQL or Python view."
    return ""
