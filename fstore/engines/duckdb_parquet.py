"""Parquet files as DuckDB reads them: local ones by itself, remote ones as an Arrow dataset.

Takes files with one physical schema and the logical columns wanted; gives a :class:`Part`. Times become instants here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as pads

from fstore.definitions.source import ParquetSource, PostgresSource
from fstore.engines.duckdb_scan import Field, Origin, Part
from fstore.engines.duckdb_types import date_field_sql, file_list, quoted, sql_type, text_literal
from fstore.engines.source_files import SourceFiles, Span

_PARTITION_TYPES = {"int64": pa.int64(), "date": pa.date32(), "string": pa.string()}


def parquet_part(
    source: ParquetSource | PostgresSource,
    found: SourceFiles,
    schema: pa.Schema,
    files: Sequence[tuple[str, Span | None]],
    columns: Mapping[str, str],
    types: Mapping[str, str],
    partitions: Mapping[str, str],
) -> Part:
    """Return how to read files of one physical schema, whose columns have ``types``, as the logical ``columns``."""
    keys = {name: type_ for name, type_ in partitions.items() if name not in schema.names}

    def open_files(paths: Sequence[str]) -> Origin:
        return _dataset(found, schema, paths, keys) if found.remote else _from_clause(paths, keys)

    return Part(
        fields={name: _parquet_field(source, schema, name, types, type_) for name, type_ in columns.items()},
        files=tuple(path for path, _ in files),
        spans=tuple(span for _, span in files),
        open=open_files,
    )


def _from_clause(paths: Sequence[str], keys: Mapping[str, str]) -> str:
    if not keys:
        return f"read_parquet({file_list(str(Path(path).resolve()) for path in paths)}, hive_partitioning=false)"
    types = ", ".join(f"{text_literal(name)}: {text_literal(sql_type(type_))}" for name, type_ in keys.items())
    return f"read_parquet({file_list(paths)}, hive_partitioning=true, hive_types={{{types}}})"


def _dataset(found: SourceFiles, schema: pa.Schema, paths: Sequence[str], keys: Mapping[str, str]) -> pads.Dataset:
    added = [pa.field(name, _PARTITION_TYPES[type_]) for name, type_ in keys.items()]
    return pads.dataset(
        list(paths),
        schema=pa.schema([*(_utc(field) for field in schema), *added]),
        format="parquet",
        filesystem=found.filesystem,
        partitioning=pads.partitioning(pa.schema(added), flavor="hive") if keys else None,
        partition_base_dir=found.base if keys else None,
    )


def _parquet_field(
    source: ParquetSource | PostgresSource, schema: pa.Schema, name: str, types: Mapping[str, str], logical: str
) -> Field:
    """Return how to read a column of a group of files as its logical type."""
    if name not in types:
        return Field(f"CAST(NULL AS {sql_type(logical)})")
    column = quoted(name)
    index = schema.get_field_index(name)
    kind = schema.field(index).type if index >= 0 else None
    if kind is not None and pa.types.is_timestamp(kind):
        return _instant_field(source, name, zoned=kind.tz is not None, nanoseconds=kind.unit == "ns")
    if types[name] == "date" and name in (source.event_time, source.updated_at):
        return Field(date_field_sql(name, source.timezone), name, "date")
    if logical.startswith("unsupported"):
        return Field(column, name)
    return Field(f"CAST({column} AS {sql_type(logical)})", name)


def _instant_field(source: ParquetSource | PostgresSource, name: str, *, zoned: bool, nanoseconds: bool) -> Field:
    column = quoted(name)
    if nanoseconds:  # a cast would round up: an instant must not slip past the end of its interval
        micros = f"(epoch_ns({column}) - ((epoch_ns({column}) % 1000) + 1000) % 1000) // 1000"
        if zoned:
            return Field(f"make_timestamptz({micros})", name, "zoned_ns")
        return Field(f"timezone({text_literal(source.timezone or 'UTC')}, make_timestamp({micros}))", name, "naive_ns")
    if zoned:
        return Field(f"CAST({column} AS TIMESTAMP WITH TIME ZONE)", name, "instant")
    return Field(f"timezone({text_literal(source.timezone or 'UTC')}, CAST({column} AS TIMESTAMP))", name, "naive")


def _date_field(source: ParquetSource | PostgresSource, name: str) -> Field:
    zone = text_literal(source.timezone or "UTC")
    return Field(f"timezone({zone}, CAST({quoted(name)} AS TIMESTAMP))", name, "date")


def _utc(field: pa.Field) -> pa.Field:
    """Return the field with its instants shown in UTC, the only zone in which filters are pushed down."""
    zoned = pa.types.is_timestamp(field.type) and field.type.tz is not None
    return field.with_type(pa.timestamp(field.type.unit, tz="UTC")) if zoned else field
