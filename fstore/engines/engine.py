"""The engine protocol: run a compiled query over named relations, and write Parquet or yield Arrow.

Everything that a query may see is handed to it as a relation that is already cut to the instants it is allowed to see, so a
forgotten WHERE cannot leak. An engine knows nothing of views, attempts or stores.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

import msgspec
import pyarrow as pa
import pyarrow.fs

from fstore.definitions.source import FileSource, PostgresSource, Source
from fstore.engines.extracts import Delta, Extracts
from fstore.interval import Interval


class EventRelation(msgspec.Struct, frozen=True, kw_only=True):
    """Events of a source with ``start <= event_time < end`` (no lower bound when start is None).

    ``columns`` projects (None: all); rows with a null time, or a null in one of ``keys``, are left out. The time column is
    an instant in UTC, whatever the files hold.
    """

    source: Source
    start: datetime | None
    end: datetime
    columns: tuple[str, ...] | None = None
    keys: tuple[str, ...] = ()


class DimensionRelation(msgspec.Struct, frozen=True, kw_only=True):
    """The newest row per key of a dimension source with ``updated_at < end``; of a static source, every row."""

    source: Source
    end: datetime


class FilesRelation(msgspec.Struct, frozen=True, kw_only=True):
    """Published rows: of each file, those whose event_timestamp the given ranges cover.

    For snapshot rows ``event_timestamp`` is an interval's end, so a range ``[start, end)`` holds the rows with
    ``start < event_timestamp <= end``; for event rows it holds those with ``start <= event_timestamp < end``. ``schema``
    is the relation's schema, also when there is no file at all. Paths belong to ``filesystem``. ``layouts`` (one per file,
    or none) are the same for files with the same columns, so that one footer tells them all; ``directory`` holds all files.
    """

    files: tuple[tuple[str, tuple[Interval, ...]], ...]
    filesystem: pyarrow.fs.FileSystem
    schema: pa.Schema
    ends_inclusive: bool
    layouts: tuple[str, ...] = ()
    directory: str | None = None


class IntervalsRelation(msgspec.Struct, frozen=True, kw_only=True):
    """The intervals being computed, as ``interval_start`` and ``interval_end``."""

    intervals: tuple[Interval, ...]


class ArrowRelation(msgspec.Struct, frozen=True, kw_only=True):
    """Rows in memory."""

    table: pa.Table


class TilePart(msgspec.Struct, frozen=True, kw_only=True):
    """Files of tiles that hold some states, each with the ranges of time that count (None: the whole file does)."""

    files: tuple[tuple[str, tuple[Interval, ...] | None], ...]
    states: tuple[str, ...]


class TilesRelation(msgspec.Struct, frozen=True, kw_only=True):
    """Tiles: of each file the states and the time that count; any other state of its rows is null.

    A range ``[start, end)`` holds the tiles with ``start < event_timestamp <= end``, their end. ``columns`` are the
    relation's columns with their types in DuckDB's SQL, ``shared`` those of them that every file has.
    """

    parts: tuple[TilePart, ...]
    filesystem: pyarrow.fs.FileSystem
    columns: tuple[tuple[str, str], ...]
    shared: tuple[str, ...]


Relation = EventRelation | DimensionRelation | FilesRelation | IntervalsRelation | ArrowRelation | TilesRelation


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """One SELECT, the relations that it may name and the instants bound to its ``$`` parameters."""

    sql: str
    relations: Mapping[str, Relation]
    parameters: Mapping[str, datetime] = {}


class ListedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a source: ``version`` is another whenever its content is; its times lie in ``[start, end)``.

    ``start`` or ``end`` is None where that is not known or has no bound; ``is_empty``: no row has a time.
    """

    path: str
    version: str
    start: datetime | None
    end: datetime | None
    is_empty: bool


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """What :meth:`Engine.write` wrote."""

    rows: int
    bytes: int
    schema: pa.Schema


class Engine(Protocol):
    """Runs queries. Not safe to share between threads; cheap to open."""

    @property
    def name(self) -> str:
        """Name and version, for lineage and reports, such as ``DuckDB 2.0.0``."""
        ...

    def source_schema(self, source: Source) -> dict[str, str]:
        """Return a source's columns and types as text, from file metadata (CSV: sniffed) or its declared schema.

        A column whose type has no equivalent in ``fstore.types`` has type ``"unsupported(<engine type>)"``. Raises
        SourceMissing, SourceUnreadable, NaiveTimestamp and SourceSchemaDrift (files that disagree, or a declared column
        that is not there).
        """
        ...

    def list_files(self, source: FileSource, known: Mapping[str, ListedFile]) -> list[ListedFile]:
        """Return the files of a source as they are now; of a static table none, because nobody's times depend on it.

        ``known`` is an earlier listing by path: files that have not changed since are not looked into again. Reads no rows
        of Parquet. Of a dimension the spans have no end: a version counts from its time on. Raises what
        :meth:`source_schema` raises.
        """
        ...

    def write_delta(
        self, source: PostgresSource, rows: str, known: Extracts, path: str, *, number: int, whole: bool
    ) -> Delta | None:
        """Write, at a local path, the rows of a local file that the copies of a table do not have; None: nothing differs.

        ``number`` marks the copy and grows from one to the next. ``whole`` says that the file is the whole table. Raises
        SourceUnreadable when rows changed that nothing identifies.
        """
        ...

    def write_merged(self, source: PostgresSource, known: Extracts, path: str, *, number: int) -> Delta:
        """Write, at a local path, what the copies of a table say together as one copy that takes their place."""
        ...

    def count_ignored(self, relation: EventRelation) -> int:
        """Return how many rows an event relation leaves out because of a null key, counted within its time range."""
        ...

    def read(self, query: Query) -> pa.RecordBatchReader:
        """Run a query and stream its rows; column names and order are the query's."""
        ...

    def read_table(self, query: Query) -> pa.Table:
        """Run a query and return all its rows; column names and order are the query's. Faster than reading a stream."""
        ...

    def read_own_sql(self, sql: str) -> pa.RecordBatchReader:
        """Run a reader's own SELECT, which may read any file that this process may; relative paths start at the root.

        Never for the SQL of definitions. Raises ComputeError.
        """
        ...

    def write(self, query: Query, path: str, *, schema: pa.Schema, sort_by: Sequence[str]) -> Written:
        """Run a query, cast to ``schema`` (by name), sort, and write one Parquet file at a local path, synced to disk.

        Raises OutputMismatch when the columns are not those of the schema or a value does not fit its type.
        """
        ...

    def bind(self, sql: str, relations: Mapping[str, Mapping[str, str]], parameters: Collection[str]) -> dict[str, str]:
        """Return the columns and types (as text) that a SELECT gives over relations with the given columns and types.

        Reads nothing. ``parameters`` are instants. Raises ComputeError when the SELECT is refused.
        """
        ...

    def compile_rows(self, sql: str, schema: pa.Schema) -> Callable[[pa.Table], pa.Table]:
        """Return a function that runs a SELECT over relation ``rows`` on tables of a schema; it is parsed here, once."""
        ...

    def write_raw(self, query: Query, path: str, *, sort_by: Sequence[str]) -> Written:
        """Run a query and write its rows, sorted, with the columns and types that it gives, as one Parquet file.

        For tiles, whose states have types of the engine's own.
        """
        ...

    def expect(self, directories: Collection[str], filesystem: pa.fs.FileSystem) -> None:
        """Say which directories of a file system later queries read or write. Changes nothing but how fast they begin."""
        ...

    def close(self) -> None:
        """Release memory, threads and spill files."""
        ...
