"""Copies of tables that live in a database: immutable Parquet files, each with what was new when it was made.

Says where they are and how they are marked; who makes them is :mod:`fstore.engines.postgres`, who knows which count is the
registry.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import msgspec
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from fstore.arrow import type_text
from fstore.definitions.source import PostgresSource
from fstore.errors import StoreCorrupt

EXTRACT = "__fstore_extract"
"""The column of every copied row that says which copy it came with; later ones are greater."""


class Extracts(msgspec.Struct, frozen=True, kw_only=True):
    """The copies of a source that count, oldest first, on a file system."""

    filesystem: pafs.FileSystem
    paths: tuple[str, ...]


FindExtracts = Callable[[PostgresSource], Extracts]
"""Tells which copies of a source count now."""


def no_extracts(source: PostgresSource) -> Extracts:
    """Return no copies of any source: for an engine without a registry."""
    del source
    return Extracts(filesystem=pafs.LocalFileSystem(), paths=())


def columns_of(schema: pa.Schema) -> list[tuple[str, str]]:
    """Return the columns of a copy and their logical types, without its mark."""
    return [(field.name, type_text(field.type)) for field in schema if field.name != EXTRACT]


def copied_schema(extracts: Extracts, path: str) -> pa.Schema:
    """Return the schema of a copy. Raises StoreCorrupt when its file is gone or damaged."""
    try:
        with extracts.filesystem.open_input_file(path) as file:
            return pq.read_schema(file)
    except (OSError, pa.ArrowException) as error:
        raise StoreCorrupt(f"copied file {path} is gone or damaged: {error}") from error


def same_columns(extracts: Extracts, schema: pa.Schema) -> bool:
    """Whether all copies have the columns of a schema, in its order and with its types."""
    wanted = columns_of(schema)
    return all(columns_of(copied_schema(extracts, path)) == wanted for path in extracts.paths)


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    """What a new copy brought: ``rows`` in its file (none: no file), and the times at which anything differs from before.

    ``start`` and ``end`` are None where they are not known or there is no bound; ``is_empty``: no row with a time differs.
    ``replaces``: the copies made before do not count any more.
    """

    rows: int
    bytes: int
    replaces: bool
    start: datetime | None
    end: datetime | None
    is_empty: bool
