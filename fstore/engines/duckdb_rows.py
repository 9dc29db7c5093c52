"""A SELECT over rows in memory that is parsed and planned once and run on many tables.

Takes the SELECT over relation ``rows`` and the schema of that relation; gives a function from table to table. The relation
is registered once, as a stream that gives whatever table is being computed, so that a run costs neither parsing nor
planning, nor a change of the catalogue that would make the plan anew.
"""

from __future__ import annotations

import threading

import duckdb
import pyarrow as pa

from fstore.engines.failures import engine_error

ROWS = "rows"
"""The relation that such a SELECT reads."""


class _Stream:
    """The table that is being computed, as the Arrow stream that DuckDB scans."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)


class RowProgram:
    """Runs one SELECT on tables of one schema, a row for a row and in order. Safe to share between threads."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, sql: str, schema: pa.Schema) -> None:
        self._connection, self._sql, self._schema = connection, sql, schema
        self._stream = _Stream(schema.empty_table())
        self._lock = threading.Lock()
        try:
            connection.register(ROWS, self._stream)
            connection.execute(f"PREPARE program AS {sql}")
            (self._statement,) = connection.extract_statements("EXECUTE program")
        except duckdb.Error as error:
            raise engine_error(error, sql=sql, views=()) from error

    def __call__(self, table: pa.Table) -> pa.Table:
        """Return the result for a table with exactly the schema's columns."""
        with self._lock:
            self._stream.table = table.select(self._schema.names)
            try:
                return self._connection.query(self._statement).to_arrow_table()  # type: ignore[arg-type]
            except duckdb.Error as error:
                raise engine_error(error, sql=self._sql, views=()) from error
            finally:
                self._stream.table = self._schema.empty_table()
