"""Published rows in pieces: row groups of Parquet files that are decoded together, each by one thread.

Takes held files; leaves out row groups of large ones whose times nobody wants, and puts small ones of the same layout
together. A piece is read as often as needed, some columns at a time, and no file stays open in between.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from fstore.arrow import TIMESTAMP
from fstore.errors import StoreCorrupt
from fstore.integrity import HeldFile
from fstore.interval import to_micros
from fstore.plan.steps import EVENT_TIMESTAMP
from fstore.retrieval.arrow_memory import system_memory

SMALL_ROWS = 131_072
"""Files of so many rows are read whole; of larger ones, each row group is a piece."""

PIECE_ROWS = 32_768
"""Small files are put together up to here, and so are row groups of a large one; no row group is cut."""


class PiecePart(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Some row groups of one file, which an attempt wrote; all of them, and no footer yet, of a small file."""

    attempt: int
    path: str
    layout: str
    rows: int
    metadata: pq.FileMetaData | None = None
    groups: tuple[int, ...] | None = None


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of files with the same columns, part after part."""

    parts: tuple[PiecePart, ...]

    @property
    def rows(self) -> int:
        """The rows of all parts together."""
        return sum(part.rows for part in self.parts)

    @property
    def small(self) -> bool:
        """Whether it is of whole small files, of which opening is a good part of the cost."""
        return self.parts[0].groups is None

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Return the rows, with those of the columns that the files have, each in one chunk.

        Text and binary columns are dictionaries where the files have them so: each of their values is decoded once then.
        Raises OSError, ArrowException and StoreCorrupt for files that are gone or damaged.
        """
        first = self.parts[0]
        metadata = first.metadata or pq.read_metadata(first.path)
        schema = metadata.schema.to_arrow_schema()
        held = [name for name in columns if name in schema.names]
        encoded = [name for name in held if is_text(schema.field(name).type) and _has_dictionary(metadata, name)]
        tables = [_read_part(part, held, encoded) for part in self.parts]
        return pa.concat_tables(tables, promote_options="default").combine_chunks()


def cut_pieces(held: Sequence[tuple[HeldFile, str]]) -> list[Piece]:
    """Return the pieces of local files, given with their paths, that may hold rows of the ranges to be read of them.

    Opens large files only. Raises what :meth:`Piece.read` raises.
    """
    pieces: list[Piece] = []
    parts: list[PiecePart] = []
    rows = 0
    for item, path in held:
        for part in _parts(item, path):
            together = not parts or (part.layout, part.groups is None) == (parts[0].layout, parts[0].groups is None)
            if parts and (rows + part.rows > PIECE_ROWS or not together):
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
    attempt, layout = item.attempt, item.file.schema_id
    if item.file.rows <= SMALL_ROWS:
        return [PiecePart(attempt=attempt, path=path, layout=layout, rows=item.file.rows)]
    metadata = pq.read_metadata(path)
    groups = list(range(metadata.num_row_groups))
    if metadata.schema.to_arrow_schema().field(EVENT_TIMESTAMP).type == TIMESTAMP:
        groups = [group for group in groups if _is_wanted(metadata, group, item)]
    return [
        PiecePart(
            attempt=attempt, path=path, layout=layout, rows=metadata.row_group(group).num_rows, metadata=metadata,
            groups=(group,),
        )
        for group in groups
    ]  # fmt: skip


def _read_part(part: PiecePart, columns: Sequence[str], encoded: Sequence[str]) -> pa.Table:
    with pa.OSFile(part.path) as source:  # without asking first what lies there: every call that waits costs 20 µs
        with system_memory():
            file = pq.ParquetFile(source, metadata=part.metadata, read_dictionary=encoded, pre_buffer=False)
        groups = range(file.num_row_groups) if part.groups is None else part.groups
        table = file.read_row_groups(groups, columns=columns, use_threads=False)
    if table.num_rows != part.rows:
        raise StoreCorrupt(
            f"file {part.path!r} has {table.num_rows} rows; {part.rows} were recorded when it was written. `fstore verify` "
            "finds a damaged file, and `fstore repair` computes its intervals again. Where they find none, the record is "
            "wrong: compute the intervals in it again, with `fstore run --select VIEW --start … --end …`"
        )
    return table


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
