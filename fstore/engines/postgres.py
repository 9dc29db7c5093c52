"""Rows of a PostgreSQL table or query as Parquet: the one door to the database's driver.

Reads in one transaction that only reads and sees one state throughout, and streams: the server sends rows as CSV, which
Arrow parses block by block, so memory stays bounded whatever the table's size. Values are exact; what has no exact
equivalent is an error that says how to declare it. Knows nothing of what was read before but the cursor to begin at.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq

from fstore.arrow import arrow_type
from fstore.connections import without_credentials
from fstore.definitions.source import PostgresSource
from fstore.engines.extracts import Extracts, same_columns
from fstore.engines.source_files import source_error
from fstore.errors import NaiveTimestamp, SettingsError, SourceSchemaDrift, SourceUnreadable, StoreUnavailable
from fstore.interval import MICROSECOND, parse_duration

if TYPE_CHECKING:
    import psycopg

BLOCK_BYTES = 4 << 20
"""How much CSV is parsed at a time; no row may be longer."""

CONNECT_SECONDS = 10

OVERLAP = timedelta(minutes=10)
"""How far before the last cursor of times rows are read again, unless the source says otherwise."""

OVERLAP_NUMBER = 1_000
"""The same for cursors of numbers."""

_UTC = pa.timestamp("us", tz="UTC")
_TYPES: dict[str, pa.DataType] = {
    "bool": pa.bool_(), "int2": pa.int16(), "int4": pa.int32(), "int8": pa.int64(), "float4": pa.float32(),
    "float8": pa.float64(), "date": pa.date32(), "timestamptz": _UTC, "timestamp": pa.timestamp("us"), "oid": pa.int64(),
}  # fmt: skip
_NUMBERS = {"int2", "int4", "int8", "float4", "float8", "numeric"}
_TIMES = {"timestamptz", "timestamp", "date"}


class _Column(msgspec.Struct, frozen=True):
    """A column of the table: its name, the SQL that gives it as text Arrow can parse, and its Arrow type."""

    name: str
    kind: str
    type: pa.DataType
    sql: str


class Extraction(msgspec.Struct, frozen=True, kw_only=True):
    """What one read gave: its rows, whether they are the whole table, and the greatest cursor (None: no row has one)."""

    rows: int
    whole: bool
    cursor: str | None


def extract_rows(source: PostgresSource, url: str, path: str, *, after: str | None, known: Extracts) -> Extraction:
    """Write the rows of a source to a Parquet file: those not below the cursor ``after`` less the overlap, or all of them.

    When the table's columns differ from those of the copies that are ``known``, all rows are read, whatever ``after`` says.
    Columns keep the names that the table gives them. Raises StoreUnavailable (the server cannot be
    reached), SourceUnreadable, SourceSchemaDrift and NaiveTimestamp.
    """
    try:
        import psycopg  # noqa: PLC0415  (an optional extra)
    except ModuleNotFoundError:
        raise SettingsError("a PostgresSource needs the driver psycopg: pip install 'fstore[postgres]'") from None
    try:
        with psycopg.connect(_plain(url), connect_timeout=CONNECT_SECONDS, autocommit=True) as connection:
            connection.execute("SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'iso_8601'; "
                               "SET extra_float_digits = 3; SET bytea_output = 'hex'")  # fmt: skip
            with connection.transaction():
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                return _extract(connection, source, path, after, known)
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise StoreUnavailable(
            f"source {source.name!r}: connection {source.connection!r} cannot be read now: {_brief(error, url)}"
        ) from None
    except psycopg.Error as error:
        raise source_error(
            SourceUnreadable, source, f"cannot be read through connection {source.connection!r}: {_brief(error, url)}."
        ) from None


def _plain(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme.partition('+')[0]}://{rest}"


def _brief(error: Exception, url: str) -> str:
    return without_credentials(" ".join(str(error).split()).rstrip("."), url)


def _extract(
    connection: psycopg.Connection, source: PostgresSource, path: str, after: str | None, known: Extracts
) -> Extraction:
    columns = _columns(connection, source)
    schema = pa.schema([pa.field(column.name, column.type) for column in columns])
    if known.paths and not same_columns(known, schema):
        after = None
    table = _from(source)
    listed = ", ".join(f"{column.sql} AS {_quoted(column.name)}" for column in columns)
    where = "" if after is None else f" WHERE {_beyond(connection, source, columns, after)}"
    rows, newest = 0, None
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY (SELECT {listed} FROM {table}{where}) TO STDOUT (FORMAT csv)") as copy,
        pq.ParquetWriter(path, schema, compression="zstd") as writer,
    ):
        for batch in _batches(source, columns, _Stream(iter(map(bytes, copy)))):
            writer.write_batch(batch)
            rows += batch.num_rows
            if source.cursor is not None:
                newest = _greater(newest, pc.max(batch.column(source.cursor)))
    return Extraction(rows=rows, whole=after is None, cursor=_cursor_text(newest) if newest is not None else None)


def _from(source: PostgresSource) -> str:
    if source.table is not None:
        return source.table
    return f"(\n{(source.query or '').strip().rstrip(';')}\n) AS q"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


# -- columns ----------------------------------------------------------------------------------------------------------


def _columns(connection: psycopg.Connection, source: PostgresSource) -> list[_Column]:
    """Return the columns that are copied: those declared, else all of the table."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {_from(source)} LIMIT 0")
        described = [(item.name, item.type_code, item.precision, item.scale) for item in cursor.description or ()]
        names = [name for name, *_ in described]
        cursor.execute("SELECT oid, typname FROM pg_type WHERE oid = ANY(%s)", [[item[1] for item in described]])
        kinds = {int(oid): str(kind) for oid, kind in cursor.fetchall()}
    declared = source.schema or {}
    named = [
        *source.key_columns,
        source.event_time,
        source.updated_at,
        source.cursor,
        source.deleted,
        *(source.unique_key or ()),
    ]
    for name in (*named, *declared):
        if name is not None and name not in names:
            raise source_error(
                SourceSchemaDrift, source, f"names column {name!r}, which is not one of its columns: {', '.join(names)}"
            )
    deleted = next((kinds[oid] for name, oid, *_ in described if name == source.deleted), "bool")
    if deleted != "bool":
        raise source_error(
            SourceSchemaDrift,
            source,
            f"says by column {source.deleted!r} which rows are gone, but it is {deleted}, not boolean. Convert it in a "
            f"query: SELECT *, {source.deleted} IS NOT NULL AS is_deleted FROM …",
        )
    return [
        _column(source, name, kinds[oid], precision, scale, declared.get(name))
        for name, oid, precision, scale in described
        if not declared or name in declared
    ]


def _column(
    source: PostgresSource, name: str, kind: str, precision: int | None, scale: int | None, declared: str | None
) -> _Column:
    sql = _quoted(name)
    if kind == "timestamp" and source.timezone is None:
        raise source_error(
            NaiveTimestamp,
            source,
            f'has times without a zone: {name!r}. Say which zone they are in: timezone="UTC", or one such as '
            '"Europe/Berlin".',
        )
    if kind == "timestamp":
        return _Column(name, kind, _UTC, f"({sql} AT TIME ZONE {_literal(source.timezone or 'UTC')})")
    if declared is not None and kind in (*_NUMBERS, "numeric") and not declared.startswith(("timestamp", "date")):
        return _Column(name, kind, arrow_type(declared), sql)
    if kind == "numeric":
        known = precision is not None and scale is not None and precision <= 38
        return _Column(name, kind, pa.decimal128(precision, scale) if known else pa.decimal128(38, 10), sql)
    if kind in _TYPES:
        return _Column(name, kind, _TYPES[kind], sql)
    if kind == "bytea":
        return _Column(name, kind, pa.binary(), f"encode({sql}, 'base64')")
    item = _TYPES.get(kind.removeprefix("_")) if kind.startswith("_") else None
    if item is not None and not pa.types.is_temporal(item):
        return _Column(name, kind, pa.list_(item), f"array_to_json({sql})::text")
    if kind in ("_text", "_varchar"):
        return _Column(name, kind, pa.list_(pa.string()), f"array_to_json({sql})::text")
    return _Column(name, kind, pa.string(), f"({sql})::text")


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


# -- the cursor -------------------------------------------------------------------------------------------------------


def _beyond(connection: psycopg.Connection, source: PostgresSource, columns: Sequence[_Column], after: str) -> str:
    """Return the condition for rows that may be new: not below the cursor less the overlap, or without a cursor at all."""
    del connection
    column = next((item for item in columns if item.name == source.cursor), None)
    if column is None:
        raise source_error(SourceSchemaDrift, source, f"declares columns without its cursor {source.cursor!r}. Add it.")
    value = f"{_literal(after)}::{column.kind}"
    if column.kind == "timestamp":
        value = f"({_literal(after)}::timestamptz AT TIME ZONE {_literal(source.timezone or 'UTC')})"
    overlap = source.overlap
    if column.kind in _TIMES:
        if isinstance(overlap, int):
            raise source_error(SourceSchemaDrift, source, 'has a number as overlap of a cursor of times: write overlap="1h"')
        span = OVERLAP if overlap is None else parse_duration(overlap)
        if column.kind == "timestamp":
            span += timedelta(hours=2)  # the hour that clocks go through twice
        value = f"({value} - {span // MICROSECOND} * interval '1 microsecond')"
    elif column.kind in _NUMBERS:
        if isinstance(overlap, str):
            raise source_error(
                SourceSchemaDrift, source, "has a duration as overlap of a cursor of numbers: write overlap=1000"
            )
        value = f"({value} - {OVERLAP_NUMBER if overlap is None else overlap})"
    name = _quoted(column.name)
    return f"({name} >= {value} OR {name} IS NULL)"


def _greater(one: pa.Scalar | None, other: pa.Scalar) -> pa.Scalar | None:
    if not other.is_valid:
        return one
    if one is None:
        return other
    return pc.max(pa.array([one.as_py(), other.as_py()], other.type))


def _cursor_text(scalar: pa.Scalar) -> str:
    value = scalar.as_py()
    return str(value.isoformat()) if hasattr(value, "isoformat") else str(value)


# -- rows -------------------------------------------------------------------------------------------------------------


class _Stream(io.RawIOBase):
    """What the server sends, as a file that Arrow reads."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks, self._rest = blocks, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._rest = block
        size = min(len(view), len(self._rest))
        view[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def _batches(source: PostgresSource, columns: Sequence[_Column], stream: io.RawIOBase) -> Iterator[pa.RecordBatch]:
    schema = pa.schema([pa.field(column.name, column.type) for column in columns])
    parsed = {column.name: pa.string() if _decoded(column.type) else column.type for column in columns}
    buffered = io.BufferedReader(stream, 1 << 20)
    if not buffered.peek(1):  # Arrow refuses a file without a line
        return
    try:
        reader = pc_csv.open_csv(
            pa.PythonFile(buffered, mode="r"),
            read_options=pc_csv.ReadOptions(column_names=list(parsed), block_size=BLOCK_BYTES, use_threads=False),
            parse_options=pc_csv.ParseOptions(newlines_in_values=True),
            convert_options=pc_csv.ConvertOptions(
                column_types=parsed, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False,
                true_values=["t"], false_values=["f"],
            ),
        )  # fmt: skip
        for batch in reader:
            arrays = [_decode(batch.column(index), column.type) for index, column in enumerate(columns)]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)
    except pa.ArrowInvalid as error:
        text = " ".join(str(error).split())
        raise source_error(
            SourceUnreadable,
            source,
            f"has a value that has no exact equivalent: {text}. Declare the types of the columns that are needed, "
            'schema={"amount": "decimal(18,2)", …}, or convert it in a query.',
        ) from None


def _decoded(type: pa.DataType) -> bool:
    return bool(pa.types.is_list(type) or pa.types.is_binary(type))


def _decode(array: pa.Array, type: pa.DataType) -> pa.Array:
    """Return lists and bytes from the text that they were sent as."""
    if pa.types.is_list(type):
        return pa.array([None if text is None else msgspec.json.decode(text) for text in array.to_pylist()], type)
    if pa.types.is_binary(type):
        return pa.array([None if text is None else base64.b64decode(text) for text in array.to_pylist()], type)
    return array
