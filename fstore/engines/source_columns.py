"""The columns of a source: what its files agree on, or what is declared and they can give.

Takes the physical columns of every kind of file; gives names with logical types, or the error that says which two files
disagree, which column is missing or which times lack a zone. Reads nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from fstore.arrow import type_text
from fstore.definitions.source import CsvSource, PhysicalSource
from fstore.engines.source_files import source_error
from fstore.errors import NaiveTimestamp, SourceSchemaDrift, SourceUnreadable
from fstore.plan.conversions import widens

NAIVE = "unsupported(timestamp without zone)"
"""The type of a time whose zone nobody has said."""


def physical_types(source: PhysicalSource, schema: pa.Schema, partitions: Mapping[str, str]) -> dict[str, str]:
    """Return the logical type of every column of a file; naive times have one where the source says their zone."""
    types: dict[str, str] = {}
    for field in schema:
        naive = pa.types.is_timestamp(field.type) and field.type.tz is None and source.timezone is not None
        types[field.name] = "timestamp" if naive else type_text(field.type)
    return types | {name: type_ for name, type_ in partitions.items() if name not in types}


def logical_columns(source: PhysicalSource, types: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return the columns that all files agree on, or those that are declared and that the files can give.

    ``types`` has the columns of one file per physical schema, by path. Raises SourceSchemaDrift naming the files otherwise.
    """
    first_path, first = next(iter(types.items()))
    for path, found in types.items():
        lower = [name.lower() for name in found]
        if doubled := [name for name in found if lower.count(name.lower()) > 1]:
            names = ", ".join(repr(name) for name in doubled)
            raise source_error(
                SourceUnreadable, source, f"has columns that SQL cannot tell apart in {path}: {names}. Rename one."
            )
    if source.schema is not None:
        _check_declared(source, source.schema, types)
        columns = dict(source.schema)
    else:
        for path, found in types.items():
            _check_agreement(source, first_path, first, path, found)
        columns = dict(first)
    naive = [name for name, type_ in columns.items() if type_ == NAIVE]
    if source.schema is not None:
        naive = [name for name in columns if any(found.get(name) == NAIVE for found in types.values())]
    _check_times(source, list(columns), naive, [name for name, type_ in columns.items() if type_ == "date"])
    for setting, name in (("event_time", source.event_time), ("updated_at", source.updated_at)):
        if name is not None and columns[name] not in ("timestamp", "date"):
            fix = (
                'Declare its type, schema={…: "timestamp"}, if'
                if isinstance(source, CsvSource)
                else "Rewrite it as a timestamp if"
            )
            raise source_error(
                SourceSchemaDrift,
                source,
                f"has {setting} {name!r} of type {columns[name]} in {first_path}; expected timestamp or date. {fix} its "
                "values are times, or name another column.",
            )
    return columns


def _check_agreement(
    source: PhysicalSource, first_path: str, first: Mapping[str, str], path: str, found: Mapping[str, str]
) -> None:
    for name in (*first, *found):
        one, other = first.get(name, "missing"), found.get(name, "missing")
        if one != other:
            known = other if one == "missing" or one.startswith("unsupported") else one
            raise source_error(
                SourceSchemaDrift,
                source,
                f"has files that disagree on column {name!r}: it is {one} in {first_path} and {other} in {path}. Rewrite "
                f"one of them, or declare every column that is needed, schema={{{name!r}: {known!r}, …}}: then narrower "
                "types are widened and missing columns read as null.",
            )


def _check_declared(source: PhysicalSource, schema: Mapping[str, str], types: Mapping[str, Mapping[str, str]]) -> None:
    for name, declared in schema.items():
        holders = {path: found[name] for path, found in types.items() if name in found}
        if not holders:
            path, found = next(iter(types.items()))
            raise source_error(
                SourceSchemaDrift,
                source,
                f"declares column {name!r}, which {path} does not have; its columns are {', '.join(found)}. Correct the "
                "schema, or the file.",
            )
        for path, type_ in holders.items():
            if type_ != NAIVE and not widens(type_, declared):
                raise source_error(
                    SourceSchemaDrift,
                    source,
                    f"declares column {name!r} as {declared}, but it is {type_} in {path}, and not every {type_} is a "
                    f"{declared}. Correct the schema, or the file.",
                )


def _check_times(source: PhysicalSource, columns: Sequence[str], naive: Sequence[str], dates: Sequence[str]) -> None:
    """Check that a source's time columns exist and that no time lacks a zone.

    ``naive`` and ``dates`` are the columns that are timestamps without a zone, or dates.
    """
    for setting, name in (("event_time", source.event_time), ("updated_at", source.updated_at)):
        if name is not None and name not in columns:
            raise source_error(
                SourceSchemaDrift,
                source,
                f"has {setting} {name!r}, which is not a column of its files: {', '.join(columns)}",
            )
    if source.timezone is not None:
        return
    instants = [name for name in dates if name in (source.event_time, source.updated_at)]
    if naive or instants:
        names = ", ".join(repr(name) for name in (*naive, *instants))
        raise source_error(
            NaiveTimestamp,
            source,
            f'has times without a zone: {names}. Say which zone they are in: timezone="UTC", or one such as '
            '"Europe/Berlin".',
        )
