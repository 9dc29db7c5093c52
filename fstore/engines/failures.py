"""What an error of DuckDB means for the caller: out of space, a failing disk, a broken source, or a wrong query.

Takes an exception, the SQL and the views it read; gives an error of fstore. Decides nothing about retrying beyond the class.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from fstore.engines.duckdb_csv import NAIVE_MARK
from fstore.engines.duckdb_relations import View
from fstore.engines.duckdb_types import brief
from fstore.engines.source_files import source_error
from fstore.errors import (
    ComputeError,
    FStoreError,
    Interrupted,
    NaiveTimestamp,
    OutOfSpace,
    SourceUnreadable,
    StoreCorrupt,
    StoreUnavailable,
)

_DISK_FULL = re.compile(
    r"No space left|Disk quota exceeded|File too large|\"errno\":\"(28|122|27)\"|max_temp_directory_size|offload data"
)
_DISK_FAILS = re.compile(r"Input/output error|Stale file handle|\"errno\":\"(5|116)\"")
_MEMORY = re.compile(r"Out of Memory Error|std::bad_alloc|failed to allocate|could not allocate", re.IGNORECASE)
_NETWORK = re.compile(r"NETWORK_CONNECTION|curlCode|UNKNOWN_ERROR|SLOW_DOWN|HTTP response code (5\d\d|-1)|REQUEST_TIMEOUT")
_READING = (
    duckdb.IOException,
    duckdb.InvalidInputException,
    duckdb.ConversionException,
    duckdb.SerializationException,
    OSError,
)


def engine_error(error: Exception, *, sql: str, views: Iterable[View]) -> FStoreError:
    """Return the error of fstore that an exception during a query means."""
    text = brief(error)
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
    if _DISK_FAILS.search(str(error)):
        return StoreUnavailable(f"files cannot be read or written now, the disk or its network fails: {text}")
    if NAIVE_MARK in text:
        return _naive_text(text, views)
    if _NETWORK.search(str(error)) and any(view.remote for view in views):
        return StoreUnavailable(f"files cannot be read now: {text}")
    if isinstance(error, _READING):
        for view in views:
            if broken := next((path for path in view.files if path in str(error)), None):
                return _broken_file(view, broken, text)
    if type(error) is duckdb.Error:  # comes from a library below and does not name the file
        for view in views:
            if broken := next((path for path in view.files if not _is_whole(path)), None):
                return _broken_file(view, broken, text)
    if isinstance(error, duckdb.InterruptException):
        return Interrupted("the query was interrupted: the engine was closed while it ran", sql=sql)
    return ComputeError(f"{text}\nin the SQL:\n{sql}", sql=sql)


def _broken_file(view: View, path: str, text: str) -> FStoreError:
    if view.source is not None:
        return source_error(
            SourceUnreadable,
            view.source,
            f"has a file that cannot be read, {path}: {text}. Delete or rewrite it; it may have changed meanwhile.",
        )
    return StoreCorrupt(f"published file {path} is gone or damaged: {text}")


def _is_whole(path: str) -> bool:
    """Whether a Parquet file can be read to its end; other files are not looked at."""
    if not path.endswith(".parquet") or not Path(path).exists():
        return True
    try:
        with pq.ParquetFile(path) as file:
            for _ in file.iter_batches():
                pass
    except (OSError, pa.ArrowException):
        return False
    return True


def _naive_text(text: str, views: Iterable[View]) -> FStoreError:
    name, _, value = text.split(NAIVE_MARK, 1)[1].partition(": ")
    source = next(view.source for view in views if view.source is not None and view.source.name == name)
    fix = 'Say which zone they are in: timezone="UTC", or one such as "Europe/Berlin".'
    return source_error(NaiveTimestamp, source, f"has times without a zone: {value}. {fix}")
