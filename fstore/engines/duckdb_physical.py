"""The rows of files and of copied tables as views: events cut in time, and the newest version of each thing.

Takes what a reader may see and a :class:`Scan`; gives the SELECT. Copies of a table are several files of which the newest
copy of a row counts. Runs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

import msgspec
import pyarrow.dataset as pads

from fstore.definitions.source import PostgresSource
from fstore.engines.duckdb_scan import Part, Scan
from fstore.engines.duckdb_types import quoted
from fstore.engines.duckdb_views import ArrowSource, View
from fstore.engines.engine import DimensionRelation, EventRelation
from fstore.engines.extracts import EXTRACT

_Conditions = Callable[[Part], Iterator[str]]
_Range = tuple[datetime | None, datetime]


def physical_events(alias: str, relation: EventRelation, scan: Scan) -> View:
    """Return the events of a file or table source that a relation shows."""
    time = scan.column(relation.source.event_time or "")
    keys = [scan.column(key) for key in relation.keys]
    wanted = list(scan.columns)
    if relation.columns is not None:
        wanted = list(dict.fromkeys([*(scan.column(name) for name in relation.columns), *keys, time]))

    def conditions(part: Part) -> Iterator[str]:
        yield from part.bounds(time, relation.start, relation.end)
        for key in keys:
            yield f"{part.fields[key].sql} IS NOT NULL"

    return _scanned(alias, scan, wanted, conditions, (relation.start, relation.end))


def ignored_rows(alias: str, relation: EventRelation, scan: Scan) -> View:
    """Return a view of the events in the relation's range of time that it leaves out for a null in a key."""
    keys = [scan.column(key) for key in relation.keys]
    time = scan.column(relation.source.event_time or "")

    def conditions(part: Part) -> Iterator[str]:
        yield from part.bounds(time, relation.start, relation.end)
        yield "(" + " OR ".join(f"{part.fields[key].sql} IS NULL" for key in keys) + ")" if keys else "false"

    return _scanned(alias, scan, [time], conditions, (relation.start, relation.end))


def dimension_rows(alias: str, relation: DimensionRelation, scan: Scan) -> View:
    """Return the newest row per key that was updated before the relation's end; of a static source, every row."""
    source = relation.source
    keys = [scan.column(scan.shown(key)) for key in getattr(source, "key_columns", ())]
    updated = None if source.updated_at is None else scan.column(source.updated_at)

    def conditions(part: Part) -> Iterator[str]:
        if updated is not None:
            yield from part.bounds(updated, None, relation.end)
        for key in keys:
            yield f"{part.fields[key].sql} IS NOT NULL"

    deleted = _deleted(scan)
    view = _scanned(alias, scan, list(scan.columns), conditions, (None, relation.end), drop_deleted=updated is None)
    if updated is None or not keys:
        return view
    ties = [name for name in scan.columns if name not in (*keys, updated)]
    order = ", ".join(f"{quoted(name)} DESC NULLS LAST" for name in (updated, *ties))
    newest = f"row_number() OVER (PARTITION BY {', '.join(map(quoted, keys))} ORDER BY {order}) = 1"
    select = f"SELECT * FROM ({view.select}) QUALIFY {newest}"
    if deleted is not None:
        select = f"SELECT * FROM ({select}) WHERE {_kept(deleted)}"
    return msgspec.structs.replace(view, select=select)


def _scanned(
    alias: str, scan: Scan, columns: Sequence[str], conditions: _Conditions, span: _Range, *, drop_deleted: bool = True
) -> View:
    """Return the rows of a scan that meet conditions; of a copied table, those that are its newest state."""
    unique = _unique(scan)
    deleted = _deleted(scan) if drop_deleted else None
    hidden = [] if unique is None else [*unique, *([deleted] if deleted else [])]
    shown = list(dict.fromkeys([*columns, *hidden]))
    view = _union(alias, scan, shown, conditions, span, extract=unique is not None)
    if unique is None:
        return view
    select = f"SELECT * FROM ({view.select}) WHERE {_kept(deleted)}" if deleted else str(view.select)
    objects = dict(view.objects)
    if sum(len(part.files) for part in scan.parts) > 1:
        later = [
            msgspec.structs.replace(part, files=files, spans=())  # the oldest copy takes the place of nothing
            for part in scan.parts
            if (files := tuple(file for file in part.files if file != scan.files[0]))
        ]
        every = _union(
            f"{alias}__newest",
            msgspec.structs.replace(scan, parts=tuple(later)),
            unique,
            lambda _: iter(()),
            None,
            extract=True,
        )
        objects |= every.objects
        names = ", ".join(map(quoted, unique))
        same = " AND ".join(f"n.{quoted(name)} IS NOT DISTINCT FROM e.{quoted(name)}" for name in unique)
        select = (
            f"SELECT * FROM ({select}) e WHERE NOT EXISTS (SELECT 1 FROM (SELECT {names}, max({EXTRACT}) AS {EXTRACT} "
            f"FROM ({every.select}) GROUP BY ALL) n WHERE {same} AND n.{EXTRACT} > e.{EXTRACT})"
        )
    listed = ", ".join(map(quoted, columns))
    return msgspec.structs.replace(view, select=f"SELECT {listed} FROM ({select})", objects=objects)


def _unique(scan: Scan) -> list[str] | None:
    """Return the columns by which a newer copy of a row replaces an older one; None where there are no copies."""
    source = scan.source
    if not isinstance(source, PostgresSource):
        return None
    named = list(source.unique_key or source.key_columns if source.is_dimension else source.unique_key or ())
    if not named:
        return None
    if source.updated_at is not None:
        named.append(source.updated_at)  # versions of a thing are kept
    return [scan.column(scan.shown(name)) for name in dict.fromkeys(named)]


def _deleted(scan: Scan) -> str | None:
    source = scan.source
    return scan.column(scan.shown(source.deleted)) if isinstance(source, PostgresSource) and source.deleted else None


def _kept(deleted: str) -> str:
    return f"NOT coalesce({quoted(deleted)}, false)"


def _union(
    alias: str, scan: Scan, columns: Sequence[str], conditions: _Conditions, span: _Range | None, *, extract: bool = False
) -> View:
    """Return all parts of a scan as one SELECT."""
    selects: list[str] = []
    objects: dict[str, ArrowSource] = {}
    for index, part in enumerate(scan.parts):
        origin = part.origin(*span) if span is not None else part.open(part.files)
        if isinstance(origin, pads.Dataset):
            name = f"__{alias}_{index}"
            objects[name] = origin
            origin = quoted(name)
        listed = ", ".join(f"{part.fields[column].sql} AS {quoted(column)}" for column in columns)
        listed += f", {EXTRACT}" if extract else ""
        where = " AND ".join(conditions(part))
        selects.append(f"SELECT {listed} FROM {origin}" + (f" WHERE {where}" if where else ""))
    return View(
        select=" UNION ALL ".join(selects),
        objects=objects,
        directories=scan.directories,
        source=scan.source,
        files=scan.files,
    )
