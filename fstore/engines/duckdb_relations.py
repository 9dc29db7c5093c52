"""What a query may name: its relations as views, cut to the instants that it is allowed to see.

Takes relations and gives, for each, the SELECT of its view, the Arrow objects that it reads and the directories it needs.
The cut is part of the view, so the query cannot undo it. Runs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeAlias, assert_never

import msgspec
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.fs as pafs

from fstore.arrow import TIMESTAMP, type_text
from fstore.definitions.source import Source
from fstore.engines.duckdb_scan import Part, Scan
from fstore.engines.duckdb_sources import SourceReader
from fstore.engines.duckdb_types import file_list, instant_literal, quoted, sql_type
from fstore.engines.engine import (
    ArrowRelation,
    DimensionRelation,
    EventRelation,
    FilesRelation,
    IntervalsRelation,
    Relation,
)
from fstore.engines.source_files import published_schemas, source_error
from fstore.errors import SourceError
from fstore.interval import Interval, merge_intervals
from fstore.plan.steps import EVENT_TIMESTAMP

MAX_BRANCHES = 4
"""Groups of files with equal ranges that become branches of a UNION; more are joined with a table of ranges."""

ArrowSource: TypeAlias = pa.Table | pads.Dataset
_Span: TypeAlias = tuple[datetime | None, datetime]
_Conditions = Callable[[Part], Iterator[str]]


class View(msgspec.Struct, frozen=True, kw_only=True):
    """A relation, ready to be made: the SELECT of its view, or None where the one Arrow object is the relation itself."""

    select: str | None
    objects: dict[str, ArrowSource] = {}
    directories: tuple[str, ...] = ()
    source: Source | None = None
    files: tuple[str, ...] = ()

    @property
    def remote(self) -> bool:
        """Whether files are read over a network."""
        return any(isinstance(held, pads.Dataset) for held in self.objects.values())


def relation_view(alias: str, relation: Relation, sources: SourceReader) -> View:
    """Return how to make a relation under its alias. Raises SourceError when a source cannot be read as declared."""
    match relation:
        case EventRelation():
            return _event_view(alias, relation, sources.scan(relation.source))
        case DimensionRelation():
            return _dimension_view(alias, relation, sources.scan(relation.source))
        case FilesRelation():
            return _files_view(alias, relation)
        case IntervalsRelation():
            return View(select=None, objects={alias: _interval_table(relation.intervals)})
        case ArrowRelation():
            return View(select=None, objects={alias: relation.table})
        case _:
            assert_never(relation)


# -- sources ----------------------------------------------------------------------------------------------------------


def ignored_rows_view(alias: str, relation: EventRelation, sources: SourceReader) -> View:
    """Return a view of the events in the relation's range of time that it leaves out for a null in a key."""
    scan = sources.scan(relation.source)
    keys = [scan.column(key) for key in relation.keys]
    time = scan.column(_event_time(relation))

    def conditions(part: Part) -> Iterator[str]:
        yield from part.bounds(time, relation.start, relation.end)
        yield "(" + " OR ".join(f"{part.fields[key].sql} IS NULL" for key in keys) + ")" if keys else "false"

    return _scan_view(alias, scan, [time], conditions, (relation.start, relation.end))


def _event_view(alias: str, relation: EventRelation, scan: Scan) -> View:
    time = scan.column(_event_time(relation))
    keys = [scan.column(key) for key in relation.keys]
    wanted = list(scan.columns)
    if relation.columns is not None:
        wanted = list(dict.fromkeys([*(scan.column(name) for name in relation.columns), *keys, time]))

    def conditions(part: Part) -> Iterator[str]:
        yield from part.bounds(time, relation.start, relation.end)
        for key in keys:
            yield f"{part.fields[key].sql} IS NOT NULL"

    return _scan_view(alias, scan, wanted, conditions, (relation.start, relation.end))


def _event_time(relation: EventRelation) -> str:
    if relation.source.event_time is None:
        raise source_error(
            SourceError, relation.source, "has no event_time, so its rows are not events: read it as a dimension."
        )
    return relation.source.event_time


def _dimension_view(alias: str, relation: DimensionRelation, scan: Scan) -> View:
    source = relation.source
    keys = [scan.column(key) for key in source.keys or ()]
    updated = None if source.static or source.updated_at is None else scan.column(source.updated_at)

    def conditions(part: Part) -> Iterator[str]:
        if updated is not None:
            yield from part.bounds(updated, None, relation.end)
        for key in keys:
            yield f"{part.fields[key].sql} IS NOT NULL"

    view = _scan_view(alias, scan, list(scan.columns), conditions, (None, relation.end))
    if updated is None or not keys:
        return view
    ties = [name for name in scan.columns if name not in (*keys, updated)]
    order = ", ".join(f"{quoted(name)} DESC NULLS LAST" for name in (updated, *ties))
    newest = f"row_number() OVER (PARTITION BY {', '.join(map(quoted, keys))} ORDER BY {order}) = 1"
    return msgspec.structs.replace(view, select=f"SELECT * FROM ({view.select}) QUALIFY {newest}")


def _scan_view(
    alias: str, scan: Scan, columns: Sequence[str], conditions: _Conditions, span: tuple[datetime | None, datetime]
) -> View:
    selects: list[str] = []
    objects: dict[str, ArrowSource] = {}
    for index, part in enumerate(scan.parts):
        origin = part.origin(*span)
        if isinstance(origin, pads.Dataset):
            name = f"__{alias}_{index}"
            objects[name] = origin
            origin = quoted(name)
        listed = ", ".join(f"{part.fields[column].sql} AS {quoted(column)}" for column in columns)
        where = " AND ".join(conditions(part))
        selects.append(f"SELECT {listed} FROM {origin}" + (f" WHERE {where}" if where else ""))
    return View(
        select=" UNION ALL ".join(selects),
        objects=objects,
        directories=scan.directories,
        source=scan.source,
        files=scan.files,
    )


# -- published files --------------------------------------------------------------------------------------------------


def _files_view(alias: str, relation: FilesRelation) -> View:
    groups: dict[tuple[Interval, ...], list[str]] = {}
    for path, ranges in relation.files:
        merged = tuple(merge_intervals(ranges))
        if merged:
            groups.setdefault(merged, []).append(path)
    if not groups:
        return View(select=None, objects={alias: relation.schema.empty_table()})
    if not isinstance(relation.filesystem, pafs.LocalFileSystem):
        return _remote_files(alias, relation, groups)
    real = {ranges: [str(Path(path).resolve()) for path in paths] for ranges, paths in groups.items()}
    files = tuple(path for paths in real.values() for path in paths)
    directories = tuple(sorted({str(Path(path).parent) for path in files}))
    schemas = dict(zip(files, published_schemas(relation.filesystem, files), strict=True))
    if len(real) > MAX_BRANCHES:
        name = f"__{alias}_ranges"
        select = _joined_ranges(quoted(name), real, relation, schemas)
        return View(select=select, objects={name: _range_table(real)}, directories=directories, files=files)
    select = " UNION ALL ".join(
        f"{_select_published(paths, relation.schema, schemas)} "
        f"WHERE {_within(ranges, ends_inclusive=relation.ends_inclusive)}"
        for ranges, paths in real.items()
    )
    return View(select=select, directories=directories, files=files)


def _select_published(
    paths: Sequence[str], schema: pa.Schema, schemas: Mapping[str, pa.Schema], *, filename: bool = False
) -> str:
    """Return a SELECT of a schema's columns; those that a file does not have, because it is older, are null."""
    found = {schemas[path] for path in paths}
    held = {name for item in found for name in item.names}
    columns = ", ".join(_published_column(field, held) for field in schema)
    union = "true" if len(found) > 1 else "false"
    named = ", filename='__path'" if filename else ""
    return f"SELECT {columns} FROM read_parquet({file_list(paths)}, hive_partitioning=false, union_by_name={union}{named})"


def _joined_ranges(
    ranges: str,
    groups: Mapping[tuple[Interval, ...], Sequence[str]],
    relation: FilesRelation,
    schemas: Mapping[str, pa.Schema],
) -> str:
    """Return one scan of all files, joined with each file's ranges: a UNION of hundreds of scans plans slowly."""
    low, high = (">", "<=") if relation.ends_inclusive else (">=", "<")
    time = quoted(EVENT_TIMESTAMP)
    whole = Interval(min(group[0].start for group in groups), max(group[-1].end for group in groups))
    paths = [path for group in groups.values() for path in group]
    return (
        f"{_select_published(paths, relation.schema, schemas, filename=True)} "
        f"JOIN {ranges} ON __path = __of AND {time} {low} __from AND {time} {high} __to "
        f"WHERE {_within([whole], ends_inclusive=relation.ends_inclusive)}"
    )


def _range_table(groups: Mapping[tuple[Interval, ...], Sequence[str]]) -> pa.Table:
    rows = [(path, span.start, span.end) for spans, paths in groups.items() for path in paths for span in spans]
    return pa.table(
        {
            "__of": pa.array([row[0] for row in rows], pa.string()),
            "__from": pa.array([row[1] for row in rows], TIMESTAMP),
            "__to": pa.array([row[2] for row in rows], TIMESTAMP),
        }
    )


def _remote_files(alias: str, relation: FilesRelation, groups: Mapping[tuple[Interval, ...], Sequence[str]]) -> View:
    columns = ", ".join(_published_column(field, relation.schema.names) for field in relation.schema)
    objects: dict[str, ArrowSource] = {}
    selects: list[str] = []
    for index, (ranges, paths) in enumerate(groups.items()):
        name = f"__{alias}_{index}"
        objects[name] = pads.dataset(
            list(paths), schema=_nullable(relation.schema), format="parquet", filesystem=relation.filesystem
        )
        within = _within(ranges, ends_inclusive=relation.ends_inclusive)
        selects.append(f"SELECT {columns} FROM {quoted(name)} WHERE {within}")
    files = tuple(path for paths in groups.values() for path in paths)
    return View(select=" UNION ALL ".join(selects), objects=objects, files=files)


def _nullable(schema: pa.Schema) -> pa.Schema:
    return pa.schema([field.with_nullable(True) for field in schema])


def _published_column(field: pa.Field, held: Collection[str]) -> str:
    name = quoted(field.name)
    return f"CAST({name if field.name in held else 'NULL'} AS {sql_type(type_text(field.type))}) AS {name}"


def _within(ranges: Sequence[Interval], *, ends_inclusive: bool) -> str:
    low, high = (">", "<=") if ends_inclusive else (">=", "<")
    time = quoted(EVENT_TIMESTAMP)
    spans = (
        f"({time} {low} {instant_literal(span.start)} AND {time} {high} {instant_literal(span.end)})" for span in ranges
    )
    return "(" + " OR ".join(spans) + ")"


# -- memory -----------------------------------------------------------------------------------------------------------


def _interval_table(intervals: Sequence[Interval]) -> pa.Table:
    def column(instants: Sequence[datetime]) -> pa.Array:
        return pa.array(instants, TIMESTAMP)

    return pa.table(
        {
            "interval_start": column([interval.start for interval in intervals]),
            "interval_end": column([interval.end for interval in intervals]),
        }
    )
