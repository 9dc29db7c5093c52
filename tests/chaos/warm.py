"""What the processes of a scenario need not make again and again, because it holds nothing that a kill could lose."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Collection, Iterator
from pathlib import Path

import duckdb

from fstore.engines.duckdb_session import Session
from fstore.registry import database


@contextlib.contextmanager
def warm(place: Path) -> Iterator[None]:
    """Within the block, keep what is compiled, and open DuckDB once for all directories below a place.

    There is one SQLAlchemy engine per URL, with the statements that it compiled and no connection. And an engine's DuckDB is
    allowed to reach the whole place, instead of being opened again whenever it meets another directory.
    """
    made, opened = database.open_engine, Session.cursor

    def cursor(self: Session, directories: Collection[str] = ()) -> duckdb.DuckDBPyConnection:
        return opened(self, {str(place), *(path for path in directories if not path.startswith(f"{place}/"))})

    database.open_engine, Session.cursor = functools.cache(made), cursor
    try:
        yield
    finally:
        database.open_engine, Session.cursor = made, opened
