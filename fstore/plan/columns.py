"""The columns that a view may use: of its entity, its sources and its upstream views.

Takes definitions and the recorded schemas, and gives column names with types. A source whose schema is neither recorded nor
declared has unknown columns: what depends on them is then not checked, and has no type, until the schema is recorded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from zoneinfo import ZoneInfo

from fstore.definitions.entity import Entity
from fstore.definitions.source import Source
from fstore.errors import did_you_mean, listing
from fstore.interval import parse_duration
from fstore.plan.problems import Reporter
from fstore.plan.steps import EVENT_TIMESTAMP
from fstore.types import KEY_TYPES, Column, parse_type

Schemas = Mapping[str, Mapping[str, str]]
"""Source name to column to type text, as recorded; a source that is absent has an unknown schema."""

UNSUPPORTED = "unsupported("
"""How the type text of a column begins whose type has no equivalent here."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


def source_columns(source: Source, schemas: Schemas) -> dict[str, str] | None:
    """Return a source's columns and types: recorded, else declared, else None."""
    if source.name in schemas:
        return dict(schemas[source.name])
    return dict(source.schema) if source.schema else None


def find_column(name: str, columns: Mapping[str, object]) -> str | None:
    """Return a column's real name for one written in any letter case; None when there is no such column."""
    return next((real for real in columns if real.lower() == name.lower()), None)


def check_name(name: str, taken: Mapping[str, str], report: Reporter) -> bool:
    """Report a column name that cannot be used, or that ``taken`` (lower-case name to what has it) has already."""
    if not _NAME.fullmatch(name) or name.startswith("__"):
        report.add(f"makes the column {name!r}, which is not a name.", "Use letters, digits and underscores, at most 63.")
    elif name.lower() == EVENT_TIMESTAMP:
        report.add(f"makes the column {name!r}, which every view has already.", "Give it another name with name=….")
    elif name.lower() in taken:
        report.add(f"makes the column {name!r}, which is also {taken[name.lower()]}.", "Give it another name with name=….")
    else:
        return True
    return False


def compile_keys(entity: Entity, report: Reporter) -> tuple[Column, ...]:
    """Return the columns of an entity's composite key, in order; empty when there is a problem."""
    keys: list[Column] = []
    taken: dict[str, str] = {}
    for name, text in entity.join_keys.items():
        if not check_name(name, taken, report):
            continue
        taken[name.lower()] = "another join key"
        if text.strip().lower() not in KEY_TYPES:
            report.add(f"has join key {name!r} of type {text!r}.", f"Use one of {', '.join(KEY_TYPES)}.")
            continue
        keys.append(Column(name=name, type=text.strip().lower()))
    if not entity.join_keys:
        report.add("has no join key.", 'Write join_keys={"user_id": "string"}.')
    return tuple(keys) if len(keys) == len(entity.join_keys) else ()


def check_source(source: Source, schemas: Schemas, report: Reporter) -> timedelta | None:
    """Report everything that is wrong with a source, and return its lag; None when there is a problem."""
    before = len(report.problems)
    _check_roles(source, report)
    _check_settings(source, report)
    columns = source_columns(source, schemas)
    if columns is not None and len(report.problems) == before:
        _check_columns(source, columns, report)
    return parse_duration(source.lag) if len(report.problems) == before else None


def _check_roles(source: Source, report: Reporter) -> None:
    if isinstance(source.keys, dict) and any(name != column for name, column in source.keys.items()):
        report.add("renames its keys.", 'Write keys=["user_id"] with the names in the files, and rename in a SQL view.')
    if source.event_time is None and not source.keys:
        report.add("has neither event_time nor keys.",
                   'Write event_time="…" for events, or keys=["…"] and updated_at="…" for a dimension.')  # fmt: skip
    elif source.event_time is not None and (source.updated_at is not None or source.static):
        report.add("has event_time and also updated_at or static: it is either events or a dimension.", "Remove one.")
    elif source.event_time is None and not source.static and source.updated_at is None:
        report.add("is a dimension without updated_at, so nobody can tell what was known when.",
                   'Write updated_at="…", or static=True if its history does not matter.')  # fmt: skip
    elif source.static and source.updated_at is not None:
        report.add("has updated_at and is static: its history either counts or does not.", "Remove one.")


def _check_settings(source: Source, report: Reporter) -> None:
    try:
        parse_duration(source.lag)
    except ValueError as error:
        report.add(f"has a lag that cannot be used: {error}.")
    if source.timezone is not None:
        try:
            ZoneInfo(source.timezone)
        except (KeyError, ValueError, OSError):
            report.add(
                f"has timezone {source.timezone!r}, which is not a time zone name.", "Use one such as 'Europe/Berlin'."
            )
    for name, text in (source.schema or {}).items():
        try:
            parse_type(text)
        except ValueError as error:
            report.add(f"declares column {name!r} with a type that cannot be used: {error}.")


def _check_columns(source: Source, columns: Mapping[str, str], report: Reporter) -> None:
    times = {"event_time": source.event_time, "updated_at": source.updated_at}
    for setting, name in times.items():
        if name is None:
            continue
        real = find_column(name, columns)
        if real is None:
            report.add(f"has {setting} {name!r}, which is not one of its columns: {listing(columns)}.",
                       did_you_mean(name, columns))  # fmt: skip
        elif columns[real] not in ("timestamp", "date"):
            report.add(f"has {setting} {name!r} of type {columns[real]}, where a timestamp is expected.",
                       "Write it as a timestamp, or declare its type in schema=….")  # fmt: skip
    for key in source.keys or ():
        if find_column(key, columns) is None:
            report.add(f"has key {key!r}, which is not one of its columns: {listing(columns)}.", did_you_mean(key, columns))


def check_key_columns(keys: Sequence[Column], columns: Mapping[str, str], where: str, report: Reporter) -> bool:
    """Report join keys that are not among columns, or there with a type whose values are never equal."""
    before = len(report.problems)
    for key in keys:
        real = find_column(key.name, columns)
        if real is None:
            report.add(f"needs the join key {key.name!r}, which {where} does not have; it has {listing(columns)}.",
                       did_you_mean(key.name, columns))  # fmt: skip
        elif not _same_family(key.type, columns[real]):
            report.add(f"has the join key {key.name!r} of type {key.type}, and {where} has it as {columns[real]}.",
                       "Give the entity's join key that type, or convert the column in the source.")  # fmt: skip
    return len(report.problems) == before


def _same_family(one: str, other: str) -> bool:
    if other.startswith(UNSUPPORTED):
        return False
    return one == other or (parse_type(one).is_integer and parse_type(other).is_integer)
