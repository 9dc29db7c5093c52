"""The DuckDB engine: runs compiled queries on one machine, within a memory limit, spilling to disk.

Takes queries with their relations; gives Arrow batches, or Parquet files sorted and cast to a schema. A query sees its
relations and nothing else. Knows nothing of views, attempts or stores.
"""

from __future__ import annotations

import base64
import contextlib
import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from fstore.arrow import TIMESTAMP
from fstore.definitions.source import FileSource, PostgresSource, Source
from fstore.engines.duckdb_binding import describe_sql, described_types
from fstore.engines.duckdb_delta import write_delta, write_merged
from fstore.engines.duckdb_events import Sources
from fstore.engines.duckdb_guard import check_select
from fstore.engines.duckdb_listing import list_files
from fstore.engines.duckdb_outputs import OutputColumns, describe_misfit
from fstore.engines.duckdb_own_sql import read_own_sql
from fstore.engines.duckdb_relations import View, relation_view
from fstore.engines.duckdb_rows import ROWS, RowProgram
from fstore.engines.duckdb_session import Session
from fstore.engines.duckdb_sources import SourceReader
from fstore.engines.duckdb_types import quoted, text_literal
from fstore.engines.engine import EventRelation, ListedFile, Query, Relation, Written
from fstore.engines.extracts import Delta, Extracts, FindExtracts, no_extracts
from fstore.engines.failures import engine_error
from fstore.errors import FStoreError

ROW_GROUP_ROWS = 122_880
"""Rows per Parquet row group: what one thread reads at a time, and what a bound on time or key can skip."""

BATCH_ROWS = 65_536

_SOME_INSTANT = datetime(2000, 1, 1, tzinfo=UTC)


class DuckDBEngine:
    """Runs queries with DuckDB.

    ``memory_limit`` is a text such as ``"4GB"``, ``threads`` 0 for one per core. Temporary files go to a directory of their
    own below ``spill_dir``; relative source paths start at ``root``. Opening costs nothing, the first query some 15 ms.
    Several threads may use one engine: every query has its own connection. ``before_query`` is called when all that a query
    needs has been found and it is about to run, for as long as it takes.
    """

    def __init__(
        self, *, memory_limit: str = "4GB", threads: int = 0, spill_dir: str, root: str,
        extracts: FindExtracts = no_extracts, before_query: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self._settings = (memory_limit, threads, spill_dir)
        self._root = root
        self._opening = threading.Lock()
        self._session: Session | None = None
        self._reader: SourceReader | None = None
        self._sources: Sources | None = None
        self._extracts, self._before_query = extracts, before_query

    @property
    def name(self) -> str:
        """Name and version."""
        return f"DuckDB {duckdb.__version__}"

    def source_schema(self, source: Source) -> dict[str, str]:
        """Return a source's columns and their types as text; see :meth:`fstore.engines.engine.Engine.source_schema`."""
        return self._source_views().columns(source)

    def list_files(self, source: FileSource, known: Mapping[str, ListedFile]) -> list[ListedFile]:
        """Return the files of a source as they are now; see :meth:`fstore.engines.engine.Engine.list_files`."""
        self._source_views()
        assert self._reader is not None, "made with the views"
        return list_files(self._reader, self._run_trusted, source, known)

    def write_delta(
        self, source: PostgresSource, rows: str, known: Extracts, path: str, *, number: int, whole: bool
    ) -> Delta | None:
        """Write the rows that the copies of a table do not have; see :meth:`fstore.engines.engine.Engine.write_delta`."""
        return write_delta(self._run_views, source, rows, known, path, number=number, whole=whole)

    def write_merged(self, source: PostgresSource, known: Extracts, path: str, *, number: int) -> Delta:
        """Write what the copies of a table say together; see :meth:`fstore.engines.engine.Engine.write_merged`."""
        return write_merged(self._run_views, source, known, path, number=number)

    def count_ignored(self, relation: EventRelation) -> int:
        """Return how many rows an event relation leaves out because of a null key, counted within its time range."""
        if not relation.keys:
            return 0
        view = self._source_views().ignored_view("ignored", relation)
        with self._connection({"ignored": view}, "SELECT count(*) FROM ignored") as connection:
            ((count,),) = connection.execute("SELECT count(*) FROM ignored").fetchall()
            return int(count)

    def read(self, query: Query) -> pa.RecordBatchReader:
        """Run a query and stream its rows in the query's order; instants are in UTC with microseconds.

        Errors may also come while reading. Close the reader, or read it to its end, to free what the query holds.
        """
        batches = self._batches(query)
        schema = next(batches)
        assert isinstance(schema, pa.Schema), "the schema comes first"
        return pa.RecordBatchReader.from_batches(schema, batches)

    def read_table(self, query: Query) -> pa.Table:
        """Run a query and return all its rows in the query's order; instants are in UTC with microseconds."""
        views = self._views(query.relations)
        with self._connection(views, query.sql) as connection:
            table = connection.sql(query.sql, params=self._used_parameters(query) or None).to_arrow_table()
            schema = _normal_schema(table.schema)
            if not table.schema.equals(schema):
                table = pa.Table.from_batches([_normal_batch(batch, schema) for batch in table.to_batches()], schema)
            return table

    def read_own_sql(self, sql: str) -> pa.RecordBatchReader:
        """Run a reader's own SELECT; see :meth:`fstore.engines.engine.Engine.read_own_sql`."""
        memory_limit, threads, _ = self._settings
        settings: dict[str, str | int] = {"memory_limit": memory_limit, "temp_directory": str(self._opened().spill_dir)}
        return read_own_sql(sql, root=self._root, settings=settings | ({"threads": threads} if threads else {}))

    def write(self, query: Query, path: str, *, schema: pa.Schema, sort_by: Sequence[str]) -> Written:
        """Run a query and write its rows, cast and sorted, as one Parquet file at a local path, synced to disk.

        Columns that ``schema`` says are not nullable, and those sorted by, must have no null. Raises OutputMismatch when the
        columns are not those of the schema, a type would have to be rounded or parsed, or a value does not fit. On any error
        no file is left. Sorting spills to disk.
        """
        views = self._views(query.relations)
        directory = str(Path(path).resolve().parent)
        with self._connection(views, query.sql, extra=directory) as connection:  # opens DuckDB for what it touches, once
            parameters = self._used_parameters(query)
            found = _described(connection, query.sql, parameters)
            outputs = OutputColumns(schema, found, required={*sort_by, *_required(schema)}, sql=query.sql)
            # Sorting comes before the first byte is written, and so do all errors in the rows: DuckDB 2.0 can hang when a
            # query fails while its Parquet file is being written. So there is always an order.
            order = ", ".join(quoted(name) for name in (sort_by or schema.names))
            copy = (
                f"COPY (SELECT {outputs.select} FROM (\n{query.sql}\n) ORDER BY {order}) TO {text_literal(path)} "
                f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP_ROWS}, "
                f"KV_METADATA {{'ARROW:schema': {text_literal(_encoded(schema))}}})"
            )
            try:
                ((rows,),) = connection.execute(copy, parameters).fetchall()
                _sync(path)
            except (duckdb.Error, OSError) as error:
                _remove(path)
                misfit = describe_misfit(connection, error, outputs, query.sql, parameters)
                raise misfit or engine_error(error, sql=query.sql, views=views.values()) from error
        return Written(rows=int(rows), bytes=Path(path).stat().st_size, schema=schema)

    def bind(self, sql: str, relations: Mapping[str, Mapping[str, str]], parameters: Collection[str]) -> dict[str, str]:
        """Return the columns and types that a SELECT gives; see :meth:`fstore.engines.engine.Engine.bind`."""
        with contextlib.closing(self._opened().cursor()) as connection:
            try:
                described = connection.execute(describe_sql(sql, relations), dict.fromkeys(parameters, _SOME_INSTANT))
                return described_types(described.fetchall())
            except duckdb.Error as error:
                raise engine_error(error, sql=sql, views=()) from error

    def compile_rows(self, sql: str, schema: pa.Schema) -> Callable[[pa.Table], pa.Table]:
        """Return a function that runs a SELECT over relation ``rows`` on tables of a schema; it is parsed here, once."""
        self._check(sql, [ROWS], [])
        return RowProgram(self._opened().cursor(), sql, schema)

    def write_raw(self, query: Query, path: str, *, sort_by: Sequence[str]) -> Written:
        """Run a query and write its rows, sorted, as one Parquet file with the types that it gives, synced to disk."""
        views = self._views(query.relations)
        directory = str(Path(path).resolve().parent)
        with self._connection(views, query.sql, extra=directory) as connection:
            parameters = self._used_parameters(query)
            order = ", ".join(quoted(name) for name in sort_by)
            copy = (
                f"COPY (SELECT * FROM (\n{query.sql}\n) ORDER BY {order}) TO {text_literal(path)} "
                f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP_ROWS})"
            )
            try:
                ((rows,),) = connection.execute(copy, parameters).fetchall()
                _sync(path)
            except (duckdb.Error, OSError) as error:
                _remove(path)
                raise engine_error(error, sql=query.sql, views=views.values()) from error
        return Written(rows=int(rows), bytes=Path(path).stat().st_size, schema=pq.read_schema(path))

    def expect(self, directories: Collection[str], filesystem: pafs.FileSystem) -> None:
        """Say which directories later queries touch; see :meth:`fstore.engines.engine.Engine.expect`."""
        if isinstance(filesystem, pafs.LocalFileSystem):
            self._opened().expect([str(Path(directory).resolve()) for directory in directories])

    def close(self) -> None:
        """Release memory, threads and spill files; the engine opens again when it is next used."""
        with self._opening:
            session, self._session = self._session, None
            reader, self._reader, self._sources = self._reader, None, None
        if reader is not None:
            reader.close()
        if session is not None:
            session.close()

    # -- running ------------------------------------------------------------------------------------------------------

    def _opened(self) -> Session:
        with self._opening:
            if self._session is None:
                memory_limit, threads, spill_dir = self._settings
                self._session = Session(memory_limit=memory_limit, threads=threads, spill_dir=spill_dir)
            return self._session

    def _source_views(self) -> Sources:
        session = self._opened()
        with self._opening:
            if self._sources is None:
                spill_dir = str(session.spill_dir)
                self._reader = SourceReader(self._root, spill_dir, self._run_trusted, self._extracts)
                self._sources = Sources(self._reader, spill_dir, self._run_views, self._check)
            return self._sources

    def _run_views(self, views: Mapping[str, View], sql: str, directory: str) -> list[tuple[object, ...]]:
        with self._connection(views, sql, extra=directory) as connection:
            return connection.execute(sql).fetchall()

    def _run_trusted(self, sql: str, directories: Sequence[str]) -> list[tuple[object, ...]]:
        with contextlib.closing(self._opened().cursor(directories)) as connection:
            return connection.execute(sql).fetchall()

    def _views(self, relations: Mapping[str, Relation]) -> dict[str, View]:
        return {alias: relation_view(alias, relation, self._source_views()) for alias, relation in relations.items()}

    def _used_parameters(self, query: Query) -> dict[str, datetime]:
        """Check that a query may run, and return the parameters it uses."""
        used = self._check(query.sql, list(query.relations), list(query.parameters))
        return {name: value for name, value in query.parameters.items() if name in used}

    def _check(self, sql: str, relations: Sequence[str], parameters: Sequence[str]) -> frozenset[str]:
        with contextlib.closing(self._opened().cursor()) as connection:

            def serialize(sql: str) -> str:
                ((text,),) = connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()
                return str(text)

            return check_select(sql, relations, parameters, serialize)

    @contextlib.contextmanager
    def _connection(self, views: Mapping[str, View], sql: str, *, extra: str = "") -> Iterator[duckdb.DuckDBPyConnection]:
        """Give a connection on which exactly these views exist; errors of DuckDB become errors of fstore."""
        directories = {directory for view in views.values() for directory in view.directories} | ({extra} - {""})
        connection = self._opened().cursor(directories)
        try:
            for alias, view in views.items():
                for name, held in view.objects.items():
                    connection.register(name, held)
                if view.select is not None:
                    connection.execute(f"CREATE TEMP VIEW {quoted(alias)} AS {view.select}")
            self._before_query()
            yield connection
        except duckdb.Error as error:
            raise engine_error(error, sql=sql, views=views.values()) from error
        finally:
            connection.close()

    def _batches(self, query: Query) -> Iterator[pa.Schema | pa.RecordBatch]:
        """Yield the schema, then the batches of a query."""
        views = self._views(query.relations)
        with self._connection(views, query.sql) as connection:  # opens DuckDB for what it reads, once
            parameters = self._used_parameters(query)
            reader = connection.sql(query.sql, params=parameters or None).to_arrow_reader(BATCH_ROWS)
            schema = _normal_schema(reader.schema)
            yield schema
            try:
                for batch in reader:
                    yield _normal_batch(batch, schema)
            except (pa.ArrowException, OSError, RuntimeError) as error:
                if isinstance(error, FStoreError):
                    raise
                raise engine_error(error, sql=query.sql, views=views.values()) from error


def _described(connection: duckdb.DuckDBPyConnection, sql: str, parameters: Mapping[str, datetime]) -> list[tuple[str, str]]:
    """Return the names and DuckDB types of a query's columns."""
    rows = connection.execute(f"DESCRIBE (\n{sql}\n)", dict(parameters)).fetchall()
    return [(str(row[0]), str(row[1])) for row in rows]


def _required(schema: pa.Schema) -> list[str]:
    return [field.name for field in schema if not field.nullable]


def _encoded(schema: pa.Schema) -> str:
    """Return a schema as Arrow readers expect it in a Parquet footer: it brings fixed-size lists back."""
    nullable = pa.schema([field.with_nullable(True) for field in schema])
    return base64.b64encode(nullable.serialize().to_pybytes()).decode()


def _normal_schema(schema: pa.Schema) -> pa.Schema:
    return pa.schema([field.with_type(_normal_type(field.type)) for field in schema])


def _normal_type(type: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(type):
        return TIMESTAMP
    if pa.types.is_dictionary(type):
        return type.value_type
    return type


def _normal_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    if batch.schema.equals(schema):
        return batch
    columns = []
    for array, field in zip(batch.columns, schema, strict=True):
        column = array
        if pa.types.is_timestamp(array.type) and array.type.unit == "ns":  # a cast would refuse, or round up
            column = pc.floor_temporal(array, unit="microsecond")
        columns.append(column if column.type == field.type else column.cast(field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _remove(path: str) -> None:
    """Delete a file that was not finished; what cannot be deleted is the sweeper's, and the error that is known matters."""
    with contextlib.suppress(OSError):
        Path(path).unlink()


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
