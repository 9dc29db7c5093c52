"""How the files of a source become rows with logical types in DuckDB.

Takes a source and gives a :class:`Scan`: its columns with their logical types, and expressions and a FROM clause per group
of files with the same physical schema. Times become instants here, and nowhere else. Cuts no rows: relations do.
"""

from __future__ import annotations

import csv
import gzip
import io
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.fs as pafs

from fstore.definitions.source import CsvSource, ParquetSource, Source
from fstore.engines.duckdb_types import brief, file_list, instant_literal, logical_type, quoted, sql_type, text_literal
from fstore.engines.partitions import partition_columns
from fstore.engines.source_columns import NAIVE, logical_columns, physical_types
from fstore.engines.source_files import SourceFile, SourceFiles, find_files, read_footers, source_error
from fstore.errors import SourceSchemaDrift, SourceUnreadable
from fstore.interval import format_instant

Layout = Literal["instant", "zoned_ns", "naive", "naive_ns", "date", "other"]
"""How a file keeps a column: what has to happen to it to become an instant, and which bounds prune row groups."""

RunSql = Callable[[str, Sequence[str]], list[tuple[object, ...]]]
"""Runs trusted SQL with access to the given directories."""

NAIVE_MARK = "fstore: no zone in "
"""Begins the message of the error that DuckDB raises for a text that is a time without a zone."""

_ZONED_TEXT = r"\d{2}:\d{2}.*(Z|[+-]\d{2}(:?\d{2})?)\s*$"
_LITERALS = {"naive": "TIMESTAMP", "naive_ns": "TIMESTAMP_NS", "zoned_ns": "TIMESTAMPTZ_NS", "date": "DATE"}


class Field(msgspec.Struct, frozen=True):
    """A column as a group of files keeps it: its expression over the file's columns, and for bounds its name and layout."""

    sql: str
    raw: str = ""
    layout: Layout = "other"


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Files with one physical schema. ``relation`` is a FROM clause, or None where ``dataset`` is to be registered."""

    fields: dict[str, Field]
    relation: str | None = None
    dataset: pads.Dataset | None = None

    def bounds(self, column: str, start: datetime | None, end: datetime) -> Iterator[str]:
        """Yield predicates for ``start <= column < end``: exact ones, and coarse ones that prune row groups."""
        field = self.fields[column]
        if start is not None:
            yield f"{field.sql} >= {instant_literal(start)}"
        yield f"{field.sql} < {instant_literal(end)}"
        kind = _LITERALS.get(field.layout)
        slack = timedelta(days=2)
        if kind is None or not 1700 < end.year < 2200:
            return
        if start is not None and start.year > 1700:
            yield f"{quoted(field.raw)} >= {_raw_literal(kind, start - slack)}"
        yield f"{quoted(field.raw)} <= {_raw_literal(kind, end + slack)}"


class Scan(msgspec.Struct, frozen=True, kw_only=True):
    """A source, ready to be read: columns with logical types, parts, and the directories that reading them touches."""

    source: Source
    columns: dict[str, str]
    parts: tuple[Part, ...]
    directories: tuple[str, ...]
    files: tuple[str, ...]

    def column(self, name: str) -> str:
        """Return the column of a name, whatever its letter case. Raises SourceSchemaDrift when there is none."""
        if name in self.columns:
            return name
        for column in self.columns:
            if column.lower() == name.lower():
                return column
        raise source_error(
            SourceSchemaDrift, self.source, f"has no column {name!r}; its columns are {', '.join(self.columns)}"
        )


class SourceReader:
    """Finds out how to read sources. Remembers it for as long as their files do not change."""

    def __init__(self, root: str, spill_dir: str, run: RunSql) -> None:
        self._root, self._spill_dir, self._run = root, spill_dir, run
        self._scans: dict[bytes, tuple[tuple[SourceFile, ...], Scan]] = {}

    def scan(self, source: Source) -> Scan:
        """Return how to read a source now. Raises the errors of :meth:`fstore.engines.engine.Engine.source_schema`."""
        found = find_files(source, self._root)
        key = msgspec.json.encode(source, order="sorted")
        known = self._scans.get(key)
        if known is not None and known[0] == found.files:
            return known[1]
        scan = self._parquet(source, found) if isinstance(source, ParquetSource) else self._csv(source, found)
        self._scans[key] = (found.files, scan)
        return scan

    # -- Parquet ------------------------------------------------------------------------------------------------------

    def _parquet(self, source: ParquetSource, found: SourceFiles) -> Scan:
        partitions = partition_columns(found)
        groups: dict[pa.Schema, list[str]] = {}
        for file, schema in zip(found.files, read_footers(source, found), strict=True):
            groups.setdefault(schema, []).append(file.path)
        types = {next(iter(paths)): physical_types(source, schema, partitions) for schema, paths in groups.items()}
        columns = logical_columns(source, types)
        parts = []
        for (schema, paths), found_types in zip(groups.items(), types.values(), strict=True):
            fields = {name: _parquet_field(source, schema, name, found_types, type_) for name, type_ in columns.items()}
            parts.append(_parquet_part(found, schema, paths, fields, partitions))
        return _finished(source, columns, parts, found)

    # -- CSV ----------------------------------------------------------------------------------------------------------

    def _csv(self, source: CsvSource, found: SourceFiles) -> Scan:
        local = self._fetched(found) if found.remote else found
        groups: dict[tuple[str, ...], list[str]] = {}
        for file in local.files:
            groups.setdefault(_header(source, file.path), []).append(file.path)
        sniffed = self._sniffed(source, local, groups)
        types = {paths[0]: {name: sniffed[name] for name in header} for header, paths in groups.items()}
        columns = logical_columns(source, types)
        parts = [_csv_part(source, header, paths, columns, sniffed) for header, paths in groups.items()]
        return _finished(source, columns, parts, local)

    def _sniffed(
        self, source: CsvSource, found: SourceFiles, groups: Mapping[tuple[str, ...], Sequence[str]]
    ) -> dict[str, str]:
        """Return a type per column: as declared, else what all values of the column fit.

        A time without a zone gives ``"timestamp"`` where the source has a zone, and is marked naive where it has not.
        """
        declared = source.schema or {}
        names = [name for header in groups for name in header]
        if all(name in declared for name in names):
            return {name: declared[name] for name in names}
        options = f"header=true, delim={text_literal(source.delimiter)}, nullstr={text_literal(source.null)}"
        paths = [path for group in groups.values() for path in group]
        sql = f"DESCRIBE SELECT * FROM read_csv({file_list(paths)}, {options}, sample_size=-1, union_by_name=true)"
        try:
            found_types = {str(row[0]): str(row[1]) for row in self._run(sql, _directories(found))}
        except duckdb.Error as error:
            path = next((path for path in paths if path in str(error)), paths[0])
            problem = f"has a file that cannot be read, {path}: {brief(error)}. Delete or rewrite it."
            raise source_error(SourceUnreadable, source, problem) from error
        naive = "timestamp" if source.timezone else NAIVE
        return {
            name: declared.get(name)
            or (naive if found_types.get(name) == "TIMESTAMP" else logical_type(found_types.get(name, "VARCHAR")))
            for name in names
        }

    def _fetched(self, found: SourceFiles) -> SourceFiles:
        """Copy remote CSV files to the spill directory, where they are read like local ones."""
        directory = Path(self._spill_dir) / "fetched"
        directory.mkdir(parents=True, exist_ok=True)
        files = []
        for file in found.files:
            name = f"{abs(hash(file)):x}-{Path(file.path).name}"
            if not (directory / name).exists():
                pafs.copy_files(file.path, str(directory / name), found.filesystem, pafs.LocalFileSystem())
            files.append(SourceFile(str(directory / name), file.bytes, file.changed_ns))
        return SourceFiles(filesystem=pafs.LocalFileSystem(), remote=False, base=str(directory), files=tuple(files))

    def close(self) -> None:
        """Forget everything, and delete what was fetched."""
        self._scans.clear()
        shutil.rmtree(Path(self._spill_dir) / "fetched", ignore_errors=True)


def _finished(source: Source, columns: dict[str, str], parts: Sequence[Part], found: SourceFiles) -> Scan:
    """Name keys as the definition does, and check the columns that the definition names."""
    renames = {column: key for key, column in source.keys.items()} if isinstance(source.keys, dict) else {}
    named = list(source.keys.values()) if isinstance(source.keys, dict) else source.keys or ()
    for column in named:
        if column not in columns:
            raise source_error(
                SourceSchemaDrift, source, f"has key {column!r}, which is not a column of its files: {', '.join(columns)}"
            )
    times = (source.event_time, source.updated_at)
    return Scan(
        source=source,
        columns={renames.get(name, name): "timestamp" if name in times else type_ for name, type_ in columns.items()},
        parts=tuple(
            msgspec.structs.replace(part, fields={renames.get(name, name): field for name, field in part.fields.items()})
            for part in parts
        ),
        directories=tuple(() if found.remote else _directories(found)),
        files=tuple(file.path for file in found.files),
    )


def _directories(found: SourceFiles) -> list[str]:
    """Return the real directories of the files, as few as possible."""
    base = str(Path(found.base).resolve())
    real = {str(Path(file.path).resolve()) for file in found.files}
    return sorted({base if path.startswith(base + "/") else str(Path(path).parent) for path in real})


# -- parts ------------------------------------------------------------------------------------------------------------


def _parquet_field(source: Source, schema: pa.Schema, name: str, types: Mapping[str, str], logical: str) -> Field:
    """Return how to read a column of a group of files as its logical type."""
    if name not in types:
        return Field(f"CAST(NULL AS {sql_type(logical)})")
    column = quoted(name)
    index = schema.get_field_index(name)
    kind = schema.field(index).type if index >= 0 else None
    if kind is not None and pa.types.is_timestamp(kind):
        return _instant_field(source, name, zoned=kind.tz is not None, nanoseconds=kind.unit == "ns")
    if types[name] == "date" and name in (source.event_time, source.updated_at):
        return _date_field(source, name)
    if logical.startswith("unsupported"):
        return Field(column, name)
    return Field(f"CAST({column} AS {sql_type(logical)})", name)


def _instant_field(source: Source, name: str, *, zoned: bool, nanoseconds: bool) -> Field:
    column = quoted(name)
    if nanoseconds:  # a cast would round up: an instant must not slip past the end of its interval
        micros = f"(epoch_ns({column}) - ((epoch_ns({column}) % 1000) + 1000) % 1000) // 1000"
        if zoned:
            return Field(f"make_timestamptz({micros})", name, "zoned_ns")
        return Field(f"timezone({text_literal(source.timezone or 'UTC')}, make_timestamp({micros}))", name, "naive_ns")
    if zoned:
        return Field(f"CAST({column} AS TIMESTAMP WITH TIME ZONE)", name, "instant")
    return Field(f"timezone({text_literal(source.timezone or 'UTC')}, CAST({column} AS TIMESTAMP))", name, "naive")


def _date_field(source: Source, name: str) -> Field:
    zone = text_literal(source.timezone or "UTC")
    return Field(f"timezone({zone}, CAST({quoted(name)} AS TIMESTAMP))", name, "date")


def _parquet_part(
    found: SourceFiles, schema: pa.Schema, paths: Sequence[str], fields: dict[str, Field], partitions: Mapping[str, str]
) -> Part:
    keys = {name: type_ for name, type_ in partitions.items() if name not in schema.names}
    if not found.remote:
        hive = "hive_partitioning=false"
        if keys:
            types = ", ".join(f"{text_literal(name)}: {text_literal(sql_type(type_))}" for name, type_ in keys.items())
            hive = f"hive_partitioning=true, hive_types={{{types}}}"
        real = [str(Path(path).resolve()) for path in paths] if not keys else list(paths)
        return Part(fields=fields, relation=f"read_parquet({file_list(real)}, {hive})")
    full = pa.schema(
        [_utc(field) for field in schema] + [pa.field(name, _PARTITION_TYPES[type_]) for name, type_ in keys.items()]
    )
    layout = pads.partitioning(pa.schema([full.field(name) for name in keys]), flavor="hive") if keys else None
    dataset = pads.dataset(
        list(paths),
        schema=full,
        format="parquet",
        filesystem=found.filesystem,
        partitioning=layout,
        partition_base_dir=found.base if keys else None,
    )
    return Part(fields=fields, dataset=dataset)


_PARTITION_TYPES = {"int64": pa.int64(), "date": pa.date32(), "string": pa.string()}


def _utc(field: pa.Field) -> pa.Field:
    """Return the field with its instants shown in UTC, the only zone in which filters are pushed down."""
    zoned = pa.types.is_timestamp(field.type) and field.type.tz is not None
    return field.with_type(pa.timestamp(field.type.unit, tz="UTC")) if zoned else field


def _csv_part(
    source: CsvSource, header: Sequence[str], paths: Sequence[str], columns: Mapping[str, str], types: Mapping[str, str]
) -> Part:
    fields: dict[str, Field] = {}
    for name, logical in columns.items():
        if name not in header:
            fields[name] = Field(f"CAST(NULL AS {sql_type(logical)})")
        elif logical == "timestamp":
            fields[name] = Field(_text_instant(source, name), name)
        elif logical == "date" and name in (source.event_time, source.updated_at):
            fields[name] = _date_field(source, name)
        else:
            fields[name] = Field(quoted(name), name)
    read = ", ".join(
        f"{text_literal(name)}: {text_literal('VARCHAR' if _as_text(types[name]) else sql_type(types[name]))}"
        for name in header
    )
    real = [str(Path(path).resolve()) for path in paths]
    return Part(
        fields=fields,
        relation=(
            f"read_csv({file_list(real)}, auto_detect=false, header=true, delim={text_literal(source.delimiter)}, "
            f"quote='\"', escape='\"', nullstr={text_literal(source.null)}, columns={{{read}}})"
        ),
    )


def _as_text(type_: str) -> bool:
    return type_ == "timestamp" or type_.startswith(("unsupported", "list<")) or type_.endswith("]")


def _text_instant(source: CsvSource, name: str) -> str:
    """Return the instant that a text means; a text without a zone is in the source's, or an error."""
    column = quoted(name)
    if source.timezone is not None:
        local = f"timezone({text_literal(source.timezone)}, CAST({column} AS TIMESTAMP))"
    else:
        local = f"error({text_literal(f'{NAIVE_MARK}{source.name}: {name} = ')} || {column})"
    zoned = f"regexp_matches({column}, {text_literal(_ZONED_TEXT)})"
    return f"CASE WHEN {column} IS NULL THEN NULL WHEN {zoned} THEN CAST({column} AS TIMESTAMPTZ) ELSE {local} END"


def _header(source: CsvSource, path: str) -> tuple[str, ...]:
    """Return the column names in a file's first line."""
    try:
        with gzip.open(path, "rb") if path.endswith(".gz") else Path(path).open("rb") as raw:
            text = io.TextIOWrapper(raw, encoding="utf-8-sig", errors="replace", newline="")
            names = tuple(next(csv.reader(text, delimiter=source.delimiter), []))
    except (OSError, EOFError, csv.Error) as error:
        raise source_error(
            SourceUnreadable, source, f"has a file that cannot be read, {path}: {error}. Delete or rewrite it."
        ) from error
    if not names or not all(names) or len({name.lower() for name in names}) != len(names):
        raise source_error(
            SourceUnreadable,
            source,
            f"has a header with missing or doubled column names in {path}: {', '.join(names) or 'no line at all'}. Every "
            "CSV file needs a first line with distinct names.",
        )
    return names


def _raw_literal(kind: str, instant: datetime) -> str:
    text = format_instant(instant).removesuffix("Z")
    return f"{kind} {text_literal(text[:10])}" if kind == "DATE" else f"CAST({text_literal(text)} AS {kind})"
