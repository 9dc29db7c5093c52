"""Join a snapshot view to entity rows: each gets the row that its key has in the snapshot it reads.

Which snapshot answers for which instant is known before (:mod:`fstore.retrieval.history`); here one of two ways to fetch its
rows from exactly the files that the log names is chosen by size, and keys without a row get the view's empty row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs

from fstore.arrays import joined, number_array, truth_array, truths
from fstore.retrieval.features import SelectedView, empty_values
from fstore.retrieval.history import Answer, Mask, used_heads
from fstore.retrieval.join_sql import value_names
from fstore.retrieval.published_rows import PublishedRows, find_published
from fstore.retrieval.snapshot_gather import gather_snapshots
from fstore.retrieval.snapshot_hash_join import hash_join_snapshots
from fstore.retrieval.view_features import EntityTimes, Found, JoinPlan, ViewFeatures, report_rows

if TYPE_CHECKING:
    from fstore.backends import Backends
    from fstore.registry.records import Head

GATHERED_ROWS = 3_000_000
"""Rows are gathered from up to so many, for up to so many: for a million that takes less processor time than a join, for ten
more; and lists of many entity rows may have more elements than the 32 bits of one array's offsets count."""

WIDE = 40
"""So many features of a view are joined: a hundred took 1.6 s instead of 1.4 s to gather, for ten views of 100,000 rows."""

GATHERED_FILES, SPINE_ROWS_PER_FILE = 100, 1_500
"""From up to so many files, and one more for so many entity rows.

Measured over a million rows in 365 files, on two threads: a gather takes 0.2 ms more for each file than a scan of the
engine, which takes 30 ms to open and more for each entity row; with 400,000 of them both take as long.
"""


class SnapshotJoin(msgspec.Struct, frozen=True):
    """A way to fetch rows: in words, and the function that gives ``found`` and ``value<n>`` per entity row."""

    words: str
    read: Callable[[Backends, PublishedRows, EntityTimes, Answer, Sequence[Head]], pa.Table]


GATHER = SnapshotJoin("rows gathered by their address for (key, end of the snapshot)", gather_snapshots)
HASH_JOIN = SnapshotJoin("equi-join on (key, end of the snapshot)", hash_join_snapshots)


class SnapshotSizes(msgspec.Struct, frozen=True, kw_only=True):
    """What is known before anything is read: entity rows, the published rows and files, and the features that are read."""

    spine_rows: int
    rows: int
    files: int
    features: int


def choose_snapshot_join(sizes: SnapshotSizes, filesystem: pafs.FileSystem) -> SnapshotJoin:
    """Return the cheaper way for such sizes. A gather waits for every file by itself, which only local ones allow."""
    large = max(sizes.rows, sizes.spine_rows) > GATHERED_ROWS or sizes.features >= WIDE
    if large or not isinstance(filesystem, pafs.LocalFileSystem):
        return HASH_JOIN
    return GATHER if sizes.files <= GATHERED_FILES + sizes.spine_rows / SPINE_ROWS_PER_FILE else HASH_JOIN


def join_snapshots(
    backends: Backends, view: SelectedView, rows: EntityTimes, answer: Answer, heads: Sequence[Head], sequence: int | None
) -> ViewFeatures:
    """Return the features of the snapshot that each entity row reads. Raises SnapshotExpired and FileDamaged."""
    complete = rows.complete
    published = find_published(backends, view, used_heads(heads, answer), sequence)
    sizes = SnapshotSizes(
        spine_rows=len(rows.instants), rows=published.rows, files=len(published.held), features=len(view.features)
    )
    way = choose_snapshot_join(sizes, backends.offline.filesystem)
    result = way.read(backends, published, rows, answer, heads)
    hit = truths(joined(result["found"]))
    table = with_empty_rows(view, result, complete & answer.reads & ~hit)
    plan = JoinPlan(
        join=way.words, files=len(published.held), rows=published.rows,
        published_intervals=int(np.count_nonzero(answer.grid.head >= 0)), columns=tuple(f.name for f in view.features),
    )  # fmt: skip
    report = report_rows(view, complete, answer, Found(hit=hit), attempts=published.attempts, plan=plan)
    return ViewFeatures(table=table, report=report, snapshots=tuple(answer.grid.ends[answer.used].tolist()))


def with_empty_rows(view: SelectedView, result: pa.Table, empty: Mask) -> pa.Table:
    """Return the features of a join's result as their types, and the view's empty row where there is none for the key."""
    columns = [result[name].cast(field.type) for name, field in zip(value_names(view.features), view.schema, strict=True)]
    if empty.any():
        where = truth_array(empty)
        row = empty_values(view)
        columns = [
            column if held[0].as_py() is None else _put(column, where, held.combine_chunks())
            for column, held in zip(columns, row.columns, strict=True)
        ]
    return pa.table(columns, schema=view.schema)


def _put(column: pa.ChunkedArray, where: pa.BooleanArray, value: pa.Array) -> pa.ChunkedArray:
    if not pa.types.is_nested(column.type):
        return pc.if_else(where, value[0], column)
    after = pa.chunked_array([*column.chunks, value])
    return after.take(pc.if_else(where, len(column), number_array(np.arange(len(column)))))
