"""What a query may name: its relations as views, cut to the instants that it is allowed to see.

Takes relations and gives, for each, the SELECT of its view, the Arrow objects that it reads and the directories it needs.
The cut is part of the view, so the query cannot undo it. Runs nothing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import assert_never

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.fs as pafs

from fstore.arrow import TIMESTAMP, type_text
from fstore.engines.duckdb_events import Sources
from fstore.engines.duckdb_tiles import tiles_view
from fstore.engines.duckdb_types import file_list, instant_literal, quoted, sql_type
from fstore.engines.duckdb_views import ArrowSource
from fstore.engines.duckdb_views import View as View  # noqa: PLC0414  (explicitly re-exported)
from fstore.engines.engine import (
    ArrowRelation,
    DimensionRelation,
    EventRelation,
    FilesRelation,
    IntervalsRelation,
    Relation,
    TilesRelation,
)
from fstore.engines.source_files import published_schemas
from fstore.interval import Interval, merge_intervals
from fstore.plan.steps import EVENT_TIMESTAMP

MAX_BRANCHES = 4
"""Groups of files with equal ranges that become branches of a UNION; more are joined with a table of ranges."""


def relation_view(alias: str, relation: Relation, sources: Sources) -> View:
    """Return how to make a relation under its alias. Raises SourceError when a source cannot be read as declared."""
    match relation:
        case EventRelation():
            return sources.event_view(alias, relation)
        case DimensionRelation():
            return sources.dimension_view(alias, relation)
        case FilesRelation():
            return _files_view(alias, relation)
        case IntervalsRelation():
            return View(select=None, objects={alias: _interval_table(relation.intervals)})
        case ArrowRelation():
            return View(select=None, objects={alias: relation.table})
        case TilesRelation():
            made = tiles_view(alias, relation)
            return View(select=made.select, objects=made.objects, directories=made.directories, files=made.files)
        case _:
            assert_never(relation)


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
    real_paths: dict[str, str] = {}
    names = {path: _real_path(path, real_paths) for paths in groups.values() for path in paths}
    real = {ranges: [names[path] for path in paths] for ranges, paths in groups.items()}
    files = tuple(names.values())
    own = {path.rpartition("/")[0] for path in files}
    directories = tuple(sorted(own if relation.directory is None else {str(Path(relation.directory).resolve())}))
    schemas = _schemas(relation, names)
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


def _real_path(path: str, known: dict[str, str]) -> str:
    """Return an absolute path without symbolic links; directories that many files share are looked at once."""
    if (found := known.get(path)) is not None:
        return found
    parent, _, name = path.rpartition("/")
    if not parent or name in ("", ".", ".."):
        return known.setdefault(path, str(Path(path).resolve()))
    joined = f"{_real_path(parent, known)}/{name}"
    try:
        linked = stat.S_ISLNK(os.lstat(joined).st_mode)
    except OSError:
        linked = False  # that it is not there is found when it is read
    return known.setdefault(path, str(Path(joined).resolve()) if linked else joined)


def _schemas(relation: FilesRelation, names: Mapping[str, str]) -> dict[str, pa.Schema]:
    """Return the physical schema of each file, from one footer for all files of the same layout."""
    layouts = [*relation.layouts] or [path for path, _ in relation.files]
    kept = {names[path]: layout for (path, _), layout in zip(relation.files, layouts, strict=True) if path in names}
    first = {layout: path for path, layout in reversed(kept.items())}
    found = dict(zip(first, published_schemas(relation.filesystem, list(first.values())), strict=True))
    return {path: found[layout] for path, layout in kept.items()}


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
