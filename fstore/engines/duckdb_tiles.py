"""Tiles as a relation: files that hold different states of different stretches of time, read as one table.

Takes a :class:`TilesRelation`, which says per group of files which states and which time of each file count, and gives the
SELECT of its view. A state that a row's file does not hold, or that counts from another file, is null. Runs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.fs as pafs

from fstore.arrow import TIMESTAMP
from fstore.engines.duckdb_types import file_list, instant_literal, quoted
from fstore.engines.engine import TilePart, TilesRelation
from fstore.engines.source_files import published_schemas
from fstore.interval import Interval
from fstore.plan.steps import EVENT_TIMESTAMP

MAX_BRANCHES = 4
"""Files that count in part and become branches of their own; more are joined with a table of ranges."""


class TilesView(msgspec.Struct, frozen=True, kw_only=True):
    """The SELECT of tiles, the Arrow objects that it reads, and the directories and files that it needs."""

    select: str
    objects: dict[str, pa.Table | pads.Dataset]
    directories: tuple[str, ...]
    files: tuple[str, ...]


def tiles_view(alias: str, relation: TilesRelation) -> TilesView:
    """Return how to make a relation of tiles under its alias."""
    builder = _Builder(alias, relation)
    for part in relation.parts:
        builder.add(part)
    return builder.view()


class _Builder:
    """Collects the branches of one relation."""

    def __init__(self, alias: str, relation: TilesRelation) -> None:
        self._alias, self._relation = alias, relation
        self._local = isinstance(relation.filesystem, pafs.LocalFileSystem)
        self._selects: list[str] = []
        self._objects: dict[str, pa.Table | pads.Dataset] = {}
        self._files: list[str] = []

    def add(self, part: TilePart) -> None:
        """Add the files of a part: whole ones are read together, the others by the ranges of theirs that count."""
        whole = [path for path, ranges in part.files if ranges is None]
        cut: dict[tuple[Interval, ...], list[str]] = {}
        for path, ranges in part.files:
            if ranges:
                cut.setdefault(ranges, []).append(path)
        if whole:
            self._select(part.states, whole)
        if self._local and len(cut) > MAX_BRANCHES:
            self._select_joined(part.states, cut)
        else:
            for ranges, paths in cut.items():
                self._select(part.states, paths, where=_within(ranges))

    def view(self) -> TilesView:
        """Return the union of all branches."""
        columns = self._relation.columns
        empty = ", ".join(f"CAST(NULL AS {type_ or 'VARCHAR'}) AS {quoted(name)}" for name, type_ in columns)
        directories = sorted({str(Path(path).parent) for path in self._files}) if self._local else []
        return TilesView(
            select=" UNION ALL ".join(self._selects) or f"SELECT {empty} LIMIT 0",
            objects=self._objects,
            directories=tuple(directories),
            files=tuple(self._files),
        )

    def _select(self, states: Sequence[str], paths: Sequence[str], *, where: str = "") -> None:
        condition = f" WHERE {where}" if where else ""
        if self._local:
            real = [str(Path(path).resolve()) for path in paths]
            self._files.extend(real)
            origin = self._scan(real)
        else:
            name = f"__{self._alias}_{len(self._objects)}"
            self._objects[name] = pads.dataset(list(paths), format="parquet", filesystem=self._relation.filesystem)
            self._files.extend(paths)
            origin = quoted(name)
        self._selects.append(f"SELECT {self._columns(states)} FROM {origin}{condition}")

    def _select_joined(self, states: Sequence[str], cut: dict[tuple[Interval, ...], list[str]]) -> None:
        """Add one scan of many files, joined with the ranges of each: a UNION of hundreds of scans plans slowly."""
        rows = [
            (str(Path(path).resolve()), span.start, span.end)
            for spans, paths in cut.items()
            for path in paths
            for span in spans
        ]
        paths = list(dict.fromkeys(row[0] for row in rows))
        name = f"__{self._alias}_{len(self._objects)}"
        self._objects[name] = pa.table(
            {
                "__of": pa.array([row[0] for row in rows], pa.string()),
                "__from": pa.array([row[1] for row in rows], TIMESTAMP),
                "__to": pa.array([row[2] for row in rows], TIMESTAMP),
            }
        )
        self._files.extend(paths)
        time = quoted(EVENT_TIMESTAMP)
        self._selects.append(
            f"SELECT {self._columns(states)} FROM {self._scan(paths, filename=True)} "
            f"JOIN {quoted(name)} ON __path = __of AND {time} > __from AND {time} <= __to"
        )

    def _scan(self, paths: Sequence[str], *, filename: bool = False) -> str:
        schemas = set(published_schemas(self._relation.filesystem, tuple(paths)))
        union = "true" if len(schemas) > 1 else "false"
        named = ", filename='__path'" if filename else ""
        return f"read_parquet({file_list(paths)}, hive_partitioning=false, union_by_name={union}{named})"

    def _columns(self, states: Sequence[str]) -> str:
        held = {*self._relation.shared, *states}
        columns: list[str] = []
        for name, type_ in self._relation.columns:
            value = quoted(name) if name in held else "NULL"
            columns.append(f"{f'CAST({value} AS {type_})' if type_ else value} AS {quoted(name)}")
        return ", ".join(columns)


def _within(ranges: Sequence[Interval]) -> str:
    """Return the condition that a tile ends within ranges: after a start and by its end."""
    time = quoted(EVENT_TIMESTAMP)
    spans = (f"({time} > {instant_literal(span.start)} AND {time} <= {instant_literal(span.end)})" for span in ranges)
    return "(" + " OR ".join(spans) + ")"
