"""What an error of DuckDB means for the caller: out of space, a broken source, or a wrong query.

Takes an exception, the SQL and the views it read; gives an error of fstore. Decides nothing about retrying beyond the class.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import duckdb

from fstore.engines.duckdb_relations import View
from fstore.errors import ComputeError, FStoreError, OutOfSpace, SourceUnreadable, StoreCorrupt

_DISK_FULL = re.compile(
    r"No space left|Disk quota exceeded|File too large|\"errno\":\"(28|122|27)\"|max_temp_directory_size|offload data"
)
_MEMORY = re.compile(r"Out of Memory Error|std::bad_alloc|failed to allocate|could not allocate", re.IGNORECASE)
_READING = (
    duckdb.IOException,
    duckdb.InvalidInputException,
    duckdb.ConversionException,
    duckdb.SerializationException,
    OSError,
)


def engine_error(error: Exception, *, sql: str, views: Iterable[View]) -> FStoreError:
    """Return the error of fstore that an exception during a query means."""
    text = _first_lines(str(error))
    if _DISK_FULL.search(str(error)):
        return OutOfSpace(
            f"the disk is full: {text}. Free space where files are written and spilled, then run again.", sql=sql
        )
    if isinstance(error, duckdb.OutOfMemoryException | MemoryError) or _MEMORY.search(str(error)):
        return OutOfSpace(
            f"the query needs more memory than it may use: {text}. Raise FSTORE_MEMORY_LIMIT, or compute fewer intervals at "
            "once.",
            sql=sql,
        )
    if isinstance(error, _READING):
        for view in views:
            if broken := next((path for path in view.files if path in str(error)), None):
                return _broken_file(view, broken, text)
    if isinstance(error, duckdb.InterruptException):
        return ComputeError("the query was interrupted: the engine was closed while it ran", sql=sql)
    return ComputeError(f"{text}\nin the SQL:\n{sql}", sql=sql)


def _broken_file(view: View, path: str, text: str) -> FStoreError:
    if view.source:
        return SourceUnreadable(
            view.source,
            f"has a file that cannot be read, {path}: {text}. Delete or rewrite it; it may have changed meanwhile.",
        )
    return StoreCorrupt(f"published file {path} is gone or damaged: {text}")


def _first_lines(text: str) -> str:
    """Return DuckDB's message without its hints on DuckDB's own settings."""
    return text.split("\n\n", 1)[0].strip().rstrip(".")
