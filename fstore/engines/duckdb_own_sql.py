"""A reader's own SQL, such as the one that makes entity rows: it may read whatever this process may.

Not for the SQL of definitions, which sees its relations and nothing else. Takes one SELECT and gives its rows as a stream.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import duckdb
import pyarrow as pa

from fstore.engines.duckdb_types import brief
from fstore.errors import ComputeError

BATCH_ROWS = 65_536


def read_own_sql(sql: str, *, root: str, settings: Mapping[str, str | int]) -> pa.RecordBatchReader:
    """Run a SELECT on a connection of its own; relative paths start at ``root``. Raises ComputeError."""
    connection = duckdb.connect(config={**settings})
    try:
        _refuse_others(connection, sql)
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET file_search_path = ?", [root])
        reader = connection.sql(sql).to_arrow_reader(BATCH_ROWS)
    except (duckdb.Error, ComputeError) as error:
        connection.close()
        if isinstance(error, ComputeError):
            raise
        raise ComputeError(f"the SQL fails: {brief(error)}", sql=sql) from error
    return pa.RecordBatchReader.from_batches(reader.schema, _batches(connection, reader, sql))


def _refuse_others(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    statements = connection.extract_statements(sql)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise ComputeError("the SQL must be one SELECT", sql=sql)


def _batches(connection: duckdb.DuckDBPyConnection, reader: pa.RecordBatchReader, sql: str) -> Iterator[pa.RecordBatch]:
    try:
        yield from reader
    except (duckdb.Error, OSError, RuntimeError, pa.ArrowException) as error:
        raise ComputeError(f"the SQL fails: {error}", sql=sql) from error
    finally:
        connection.close()
