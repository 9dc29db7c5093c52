"""Published rows in pieces: row groups of Parquet files that are decoded together, each by one thread.

Takes held files; reads their footers, leaves out row groups whose times nobody wants, and puts small ones of the same layout
together. A piece is read as often as needed, some columns at a time, and no file stays open in between.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from fstore.arrow import TIMESTAMP
from fstore.integrity import HeldFile
from fstore.interval import to_micros
from fstore.plan.steps import EVENT_TIMESTAMP
from fstore.retrieval.arrow_memory import system_memory

PIECE_ROWS = 131_072
"""Row groups are put together up to here, and are never cut."""


class PiecePart(msgspec.Struct, frozen=True, kw_only=True):
    """Some row groups of one file, which an attempt wrote."""

    attempt: int
    path: str
    layout: str
    metadata: pq.FileMetaData
    groups: tuple[int, ...]
    rows: int


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of files with the same columns, part after part."""

    parts: tuple[PiecePart, ...]

    @property
    def rows(self) -> int:
        """The rows of all parts together."""
        return sum(part.rows for part in self.parts)

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Return the rows with those of the columns that the files have.

        Text and binary columns are dictionaries where the files have them so: each of their values is decoded once then.
        Raises OSError and ArrowException for files that are gone or damaged.
        """
        metadata = self.parts[0].metadata
        schema = metadata.schema.to_arrow_schema()
        held = [name for name in columns if name in schema.names]
        encoded = [name for name in held if is_text(schema.field(name).type) and _has_dictionary(metadata, name)]
        tables = []
        for part in self.parts:
            with system_memory():
                opened = pq.ParquetFile(part.path, metadata=part.metadata, read_dictionary=encoded, pre_buffer=False)
            with opened as file:
                tables.append(file.read_row_groups(part.groups, columns=held, use_threads=False))
        return pa.concat_tables(tables, promote_options="default")


def cut_pieces(held: Sequence[tuple[HeldFile, str]]) -> list[Piece]:
    """Return the pieces of local files, given with their paths, that may hold rows of the ranges to be read of them.

    Raises what :meth:`Piece.read` raises. Footers are read one by one: threads would only wait for each other.
    """
    pieces: list[Piece] = []
    parts: list[PiecePart] = []
    rows = 0
    for item, path in held:
        for part in _parts(item, path):
            if parts and (rows + part.rows > PIECE_ROWS or part.layout != parts[0].layout):
                pieces.append(Piece(parts=tuple(parts)))
                parts, rows = [], 0
            parts.append(part)
            rows += part.rows
    return [*pieces, Piece(parts=tuple(parts))] if parts else pieces


def is_text(kind: pa.DataType) -> bool:
    """Whether values are texts or binary: what Parquet may keep once, in a dictionary."""
    return kind in (pa.string(), pa.binary())


def _parts(item: HeldFile, path: str) -> list[PiecePart]:
    """Return a small file as one part, of a larger one every row group that may hold wanted rows."""
    metadata = pq.read_metadata(path)
    every = range(metadata.num_row_groups)
    groups: list[tuple[int, ...]] = [tuple(every)]
    if metadata.num_rows > PIECE_ROWS and metadata.schema.to_arrow_schema().field(EVENT_TIMESTAMP).type == TIMESTAMP:
        groups = [(group,) for group in every if _is_wanted(metadata, group, item)]
    return [
        PiecePart(
            attempt=item.attempt, path=path, layout=item.file.schema_id, metadata=metadata, groups=chosen,
            rows=sum(metadata.row_group(group).num_rows for group in chosen),
        )
        for chosen in groups
    ]  # fmt: skip


def _is_wanted(metadata: pq.FileMetaData, group: int, item: HeldFile) -> bool:
    """Whether the times of a row group may lie in a range to be read, which for snapshots holds its end."""
    column = metadata.row_group(group).column(_leaf(metadata, EVENT_TIMESTAMP))
    if not column.is_stats_set or not column.statistics.has_min_max:
        return True
    first, last = column.statistics.min_raw, column.statistics.max_raw  # in microseconds
    return any(to_micros(span.start) < last and first <= to_micros(span.end) for span in item.ranges)


def _has_dictionary(metadata: pq.FileMetaData, name: str) -> bool:
    return metadata.num_row_groups > 0 and bool(metadata.row_group(0).column(_leaf(metadata, name)).has_dictionary_page)


def _leaf(metadata: pq.FileMetaData, name: str) -> int:
    return next(leaf for leaf in range(metadata.num_columns) if metadata.schema.column(leaf).path == name)
