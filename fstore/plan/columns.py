"""The columns that a view may use: of its entity, its sources and its upstream views.

Takes definitions and the recorded schemas, and gives column names with types; reports what a source names and does not
have. A source whose schema is neither recorded nor declared has unknown columns: what depends on them is then not checked,
and has no type, until the schema is recorded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fstore.definitions.entity import Entity
from fstore.definitions.problems import Reporter
from fstore.definitions.source import CompositeSource, Source
from fstore.errors import did_you_mean, listing
from fstore.plan.composite_sources import check_composite
from fstore.plan.steps import EVENT_TIMESTAMP, DimensionInput, EventInput, HistoryInput, SnapshotInput, StepInput
from fstore.types import Column, parse_type

Schemas = Mapping[str, Mapping[str, str]]
"""Source name to column to type text, as recorded; a source that is absent has an unknown schema."""

UNSUPPORTED = "unsupported("
"""How the type text of a column begins whose type has no equivalent here."""


def key_columns(entity: Entity) -> tuple[Column, ...]:
    """Return the columns of an entity's composite key, in order."""
    return tuple(Column(name=name, type=str(parse_type(text))) for name, text in entity.join_keys.items())


def source_columns(source: Source, schemas: Schemas) -> dict[str, str] | None:
    """Return a source's columns and types: recorded, else declared, else None."""
    if source.name in schemas:
        return dict(schemas[source.name])
    if isinstance(source, CompositeSource) or not source.schema:
        return None
    return {source.renamed.get(name, name): str(parse_type(text)) for name, text in source.schema.items()}


def relation_columns(item: StepInput, schemas: Schemas) -> tuple[str, ...] | None:
    """Return the columns that an input shows, in order; None when they are not known."""
    match item:
        case EventInput() | DimensionInput():
            columns = source_columns(item.source, schemas)
            return None if columns is None else tuple(columns)
        case SnapshotInput() | HistoryInput():
            features = [feature.name for feature in item.features]
            return (*(key.name for key in item.keys), EVENT_TIMESTAMP, *features)


def find_column(name: str, columns: Mapping[str, object]) -> str | None:
    """Return a column's real name for one written in any letter case; None when there is no such column."""
    return next((real for real in columns if real.lower() == name.lower()), None)


def check_source(source: Source, schemas: Schemas, report: Reporter) -> bool:
    """Report the times and keys that a source names and does not have, or has with another type, and SQL that is wrong."""
    before = len(report.problems)
    if isinstance(source, CompositeSource):
        check_composite(source, lambda member: source_columns(member, schemas), report)
    columns = source_columns(source, schemas)
    if columns is None:
        return len(report.problems) == before
    for setting, name in (("event_time", source.event_time), ("updated_at", source.updated_at)):
        if name is None:
            continue
        real = find_column(name, columns)
        if real is None:
            _report_missing(f"has {setting} {name!r}", name, columns, report)
        elif columns[real] not in ("timestamp", "date"):
            report.add(f"has {setting} {name!r} of type {columns[real]}, where a timestamp is expected.",
                       "Convert it in its SQL." if isinstance(source, CompositeSource)
                       else 'Store it as a timestamp, or declare its type: schema={…: "timestamp"}.')  # fmt: skip
    for key in source.keys or ():
        if find_column(key, columns) is None:
            _report_missing(f"has key {key!r}", key, columns, report)
    return len(report.problems) == before


def _report_missing(what: str, name: str, columns: Mapping[str, str], report: Reporter) -> None:
    report.add(f"{what}, which is not one of its columns: {listing(columns)}.", did_you_mean(name, columns))


def check_join_keys(keys: Sequence[Column], columns: Mapping[str, str], source: Source, report: Reporter) -> None:
    """Report join keys that are not columns of a source, or have types whose values are never equal."""
    for key in keys:
        real = find_column(key.name, columns)
        if real is None:
            report.add(f"needs the join key {key.name!r}, which source {source.name!r} does not have: {listing(columns)}.",
                       did_you_mean(key.name, columns))  # fmt: skip
        elif not _same_family(key.type, columns[real]):
            report.add(
                f"has the join key {key.name!r}: expected {key.type}, as its entity says, got {columns[real]} "
                f"from source {source.name!r}.",
                "Give the join key the type of the column, or convert the column.",
            )


def _same_family(one: str, other: str) -> bool:
    if other.startswith(UNSUPPORTED):
        return False
    return one == other or (parse_type(one).is_integer and parse_type(other).is_integer)
