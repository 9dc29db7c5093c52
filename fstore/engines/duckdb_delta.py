"""What is new in rows that were just read from a table, compared with the copies that count already.

Takes a file of rows and the earlier copies of a source; writes a file of the rows that differ, marked as the newest copy,
and says at which times anything differs. Reading them all together then gives the table's newest state.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from fstore.definitions.source import PostgresSource
from fstore.engines.duckdb_events import RunView
from fstore.engines.duckdb_types import file_list, quoted, text_literal
from fstore.engines.duckdb_views import View
from fstore.engines.extracts import EXTRACT, Delta, Extracts, columns_of, copied_schema, same_columns
from fstore.engines.source_files import source_error
from fstore.errors import SourceUnreadable
from fstore.interval import MICROSECOND, from_micros


class _Tables(msgspec.Struct, frozen=True, kw_only=True):
    """The rows read, and the state known before (None: nothing is), both with the same columns."""

    source: PostgresSource
    columns: tuple[str, ...]
    unique: tuple[str, ...]
    views: dict[str, View]

    @property
    def listed(self) -> str:
        return ", ".join(map(quoted, self.columns))

    @property
    def time(self) -> str | None:
        name = self.source.event_time or self.source.updated_at
        return None if name is None else quoted(name)


def unique_columns(source: PostgresSource) -> tuple[str, ...]:
    """Return the columns of a table by which a newer copy of a row replaces an older one; none: rows are only added."""
    named = source.unique_key or (source.key_columns if source.is_dimension else ())
    if not named:
        return ()
    return tuple(dict.fromkeys([*named, *([source.updated_at] if source.updated_at else [])]))


def write_delta(
    run: RunView, source: PostgresSource, rows: str, known: Extracts, path: str, *, number: int, whole: bool
) -> Delta | None:
    """Write the rows of a file that the known copies do not have; ``whole``: the file is the whole table.

    Returns None, and writes nothing, where nothing differs. Where the whole table is read and anything of it differs, or
    where copies have other columns, the new file holds all rows and takes the place of the copies (``replaces``). A
    dimension keeps the versions that it had. Raises SourceUnreadable when rows without a unique key were changed.
    """
    schema = pq.read_schema(rows)
    columns = tuple(schema.names)
    compared = _known_view(source, columns, known, whole=whole) if known.paths and same_columns(known, schema) else None
    tables = _Tables(
        source=source,
        columns=columns,
        unique=unique_columns(source),
        views={"raw": _file_view(source, rows, columns), **({"known": compared} if compared else {})},
    )
    if compared is None:
        return _written(
            run, tables, f"SELECT {tables.listed} FROM ({_raw(tables)})", path, number, replaces=bool(known.paths)
        )
    added = f"SELECT {tables.listed} FROM ({_raw(tables)}) EXCEPT ALL SELECT {tables.listed} FROM known"
    keeps_versions = source.is_dimension and source.updated_at is not None
    if whole and not keeps_versions:
        return _replaced(run, tables, added, path, number)
    if not tables.unique:
        _refuse_changed_rows(run, tables)
    return _written(run, tables, added, path, number, replaces=False)


def _file_view(source: PostgresSource, path: str, columns: Sequence[str]) -> View:
    listed = ", ".join(map(quoted, columns))
    return View(
        select=f"SELECT {listed} FROM read_parquet({file_list([path])}, hive_partitioning=false)",
        directories=(str(Path(path).resolve().parent),),
        source=source,
        files=(path,),
    )


def _known_view(source: PostgresSource, columns: Sequence[str], known: Extracts, *, whole: bool) -> View:
    """Return the newest state of the rows that were copied, with those that are gone; all of them, or those read again."""
    if isinstance(known.filesystem, pafs.LocalFileSystem):
        origin = f"read_parquet({file_list(str(Path(path).resolve()) for path in known.paths)}, hive_partitioning=false)"
        objects: dict[str, pa.Table | pads.Dataset] = {}
        directories = tuple({str(Path(path).resolve().parent) for path in known.paths})
    else:
        origin, directories = "__known", ()
        schema = copied_schema(known, known.paths[0])
        objects = {"__known": pads.dataset(list(known.paths), schema=schema, format="parquet", filesystem=known.filesystem)}
    select = f"SELECT {', '.join(map(quoted, columns))} FROM {origin}"
    unique = unique_columns(source)
    if not whole and unique:
        same = " AND ".join(f"raw.{quoted(name)} IS NOT DISTINCT FROM copied.{quoted(name)}" for name in unique)
        select += f" copied WHERE EXISTS (SELECT 1 FROM raw WHERE {same})"
    elif not whole:
        cursor = quoted(source.cursor or "")
        newest = f"SELECT max({cursor}) FROM {origin}"  # it is always read again, unless it is gone
        select += f" WHERE {cursor} IS NULL OR {cursor} >= coalesce((SELECT min({cursor}) FROM raw), ({newest}))"
    if unique:
        keys = ", ".join(map(quoted, unique))
        select += f" QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {EXTRACT} DESC) = 1"
    return View(select=select, objects=objects, directories=directories, source=source, files=known.paths)


def _raw(tables: _Tables) -> str:
    """Return the rows read, one per unique key: the one of the greatest cursor."""
    if not tables.unique:
        return "SELECT * FROM raw"
    cursor = [tables.source.cursor] if tables.source.cursor else []
    order = ", ".join(f"{quoted(name)} DESC NULLS LAST" for name in (*cursor, *tables.columns))
    keys = ", ".join(map(quoted, tables.unique))
    return f"SELECT * FROM raw QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {order}) = 1"


def _refuse_changed_rows(run: RunView, tables: _Tables) -> None:
    """Raise when a row that was copied before is not in the part of the table that was read again."""
    cursor = quoted(tables.source.cursor or "")
    again = f"(SELECT min({cursor}) FROM raw)"
    later = f"coalesce({cursor} > {again}, {cursor} IS NOT NULL)"  # where nothing was read, any is gone
    gone = f"SELECT {tables.listed} FROM known WHERE {later} EXCEPT ALL SELECT {tables.listed} FROM raw"
    ((count,),) = run(tables.views, f"SELECT count(*) FROM ({gone})", "")
    if count:
        raise source_error(
            SourceUnreadable,
            tables.source,
            f"has {count} row(s) that were changed or deleted since they were copied, and nothing that tells which: it is "
            'read by a cursor without a unique key, which is for tables that only grow. Add unique_key=["id"] (and '
            'deleted="is_deleted"), or leave the cursor out to compare the whole table each time.',
        )


def _replaced(run: RunView, tables: _Tables, added: str, path: str, number: int) -> Delta | None:
    """Write all rows when anything differs from the copies, and say where it does."""
    gone = f"SELECT {tables.listed} FROM known EXCEPT ALL SELECT {tables.listed} FROM ({_raw(tables)})"
    span = _span(run, tables, [added, gone])
    if span.count == 0:
        return None
    made = _copied(run, tables, f"SELECT {tables.listed} FROM ({_raw(tables)})", path, number)
    return _delta(tables.source, span, made, path, replaces=True)


class _Differences(msgspec.Struct, frozen=True):
    """How many rows differ, and their least and greatest time in microseconds."""

    count: int
    low: int | None
    high: int | None


def _written(run: RunView, tables: _Tables, select: str, path: str, number: int, *, replaces: bool) -> Delta | None:
    """Write the rows of a SELECT, if any, and say at which times something differs: theirs, and those they replace."""
    parts = [select]
    if replaces:
        span = _Differences(1, None, None)  # other columns than before: everything differs
    else:
        if tables.unique and "known" in tables.views:
            same = " AND ".join(f"k.{quoted(name)} IS NOT DISTINCT FROM d.{quoted(name)}" for name in tables.unique)
            parts.append(f"SELECT {tables.listed} FROM known k WHERE EXISTS (SELECT 1 FROM ({select}) d WHERE {same})")
        span = _span(run, tables, parts)
        if span.count == 0 and "known" in tables.views:
            return None
    made = _copied(run, tables, select, path, number)
    return _delta(tables.source, span, made, path, replaces=replaces)


def _span(run: RunView, tables: _Tables, selects: Sequence[str]) -> _Differences:
    time = tables.time
    every = " UNION ALL ".join(f"({select})" for select in selects)
    found = f"epoch_us(min({time})), epoch_us(max({time}))" if time else "NULL, NULL"
    ((count, low, high),) = run(tables.views, f"SELECT count(*), {found} FROM ({every})", "")
    return _Differences(
        count if isinstance(count, int) else 0,
        low if isinstance(low, int) else None,
        high if isinstance(high, int) else None,
    )


def _copied(run: RunView, tables: _Tables, select: str, path: str, number: int) -> int:
    order = f" ORDER BY {tables.time}" if tables.time else ""
    copy = (
        f"COPY (SELECT {tables.listed}, {number}::BIGINT AS {EXTRACT} FROM ({select}){order}) TO {text_literal(path)} "
        "(FORMAT parquet, COMPRESSION zstd)"
    )
    ((rows,),) = run(tables.views, copy, str(Path(path).resolve().parent))
    return int(str(rows))


def _delta(source: PostgresSource, span: _Differences, rows: int, path: str, *, replaces: bool) -> Delta:
    size = Path(path).stat().st_size
    if source.static or (span.count and replaces and span.low is None):
        return Delta(rows=rows, bytes=size, replaces=replaces, start=None, end=None, is_empty=source.static)
    if span.low is None or span.high is None:
        return Delta(rows=rows, bytes=size, replaces=replaces, start=None, end=None, is_empty=True)
    start: datetime | None
    end: datetime | None
    try:
        start, end = from_micros(span.low), from_micros(span.high) + MICROSECOND
    except OverflowError:
        start = end = None
    return Delta(
        rows=rows, bytes=size, replaces=replaces, start=start, end=None if source.is_dimension else end, is_empty=False
    )


def write_merged(run: RunView, source: PostgresSource, known: Extracts, path: str, *, number: int) -> Delta:
    """Write what many copies say together, rows that are gone included, as one copy that takes their place."""
    columns = tuple(name for name, _ in columns_of(copied_schema(known, known.paths[0])))
    views = {"known": _known_view(source, columns, known, whole=True)}
    tables = _Tables(source=source, columns=columns, unique=unique_columns(source), views=views)
    rows = _copied(run, tables, f"SELECT {tables.listed} FROM known", path, number)
    return Delta(rows=rows, bytes=Path(path).stat().st_size, replaces=True, start=None, end=None, is_empty=True)
