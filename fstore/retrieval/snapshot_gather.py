"""Fetch the rows of snapshots by gathering: find where each entity row's lies, then take them column by column.

Small files are read once, features along with the keys of all rows, as far as there is room for them. Of large ones the keys
are read first, then the features of row groups in which rows were found, so that two copies of all features never exist:
when a column is whole, its rows are taken, and it is forgotten. Runs in as many threads as the engine may use, and needs no
engine.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from fstore.arrays import truth_array
from fstore.plan.steps import EVENT_TIMESTAMP
from fstore.retrieval.gathered_columns import gathered_column
from fstore.retrieval.history import Answer
from fstore.retrieval.join_sql import value_names
from fstore.retrieval.published_rows import PublishedRows, explaining_losses
from fstore.retrieval.row_addresses import Numbers, PieceKeys, Snapshots, find_addresses, piece_keys
from fstore.retrieval.row_pieces import Piece, cut_pieces, is_text
from fstore.retrieval.view_features import EntityTimes
from fstore.types import Column

if TYPE_CHECKING:
    from fstore.backends import Backends
    from fstore.registry.records import Head

TOGETHER_BYTES = 128 << 20
"""Columns of so many bytes are put together at a time where files are small: opening those once per column costs more."""


def gather_snapshots(
    backends: Backends, published: PublishedRows, rows: EntityTimes, answer: Answer, heads: Sequence[Head]
) -> pa.Table:
    """Return ``found`` and ``value<n>`` for each entity row, in order.

    Raises SnapshotExpired, FileDamaged, and StoreCorrupt for files that never had the rows that were recorded.
    """
    view, offline = published.view, backends.offline
    held = [(item, offline.full_path(item.file.path)) for item in published.held]
    workers = backends.settings.threads or os.cpu_count() or 1
    with explaining_losses(backends, published), ThreadPoolExecutor(workers) as threads:
        kinds = {feature.name: field.type for feature, field in zip(view.features, view.schema, strict=True)}
        gathering = _Gathering(cut_pieces(held), kinds)
        snapshots = Snapshots(ends=answer.grid.ends[answer.used], attempts=_attempts(answer, heads))
        keys = gathering.read_keys(view.step.keys, snapshots, threads)
        found = find_addresses(keys, snapshots, rows.keys, _wanted(answer))
        values = gathering.take(found, threads)
    return pa.table([truth_array(found > 0), *values], names=["found", *value_names(view.features)])


class _Gathering:
    """Pieces whose rows are numbered from 1 on, one piece after another, and the columns that they are put together to."""

    def __init__(self, pieces: Sequence[Piece], kinds: Mapping[str, pa.DataType]) -> None:
        self._pieces = pieces
        self._starts = list(itertools.accumulate((piece.rows for piece in pieces), initial=1))
        self._columns = {name: gathered_column(kind, self._rows) for name, kind in kinds.items()}
        self._missing = [list(kinds) for _ in pieces]
        simple = [name for name, kind in kinds.items() if pa.types.is_primitive(kind) or is_text(kind)]
        self._first = next(self._groups(simple), [])
        self._changing = threading.Lock()

    @property
    def _rows(self) -> int:
        return self._starts[-1] - 1

    def read_keys(self, declared: Sequence[Column], snapshots: Snapshots, threads: ThreadPoolExecutor) -> list[PieceKeys]:
        """Return the keys of all pieces; features of small files are read along, as many as there is room for."""
        names = [*(key.name for key in declared), EVENT_TIMESTAMP]

        def read(number: int) -> PieceKeys:
            piece, start = self._pieces[number], self._starts[number]
            features = list(self._first) if piece.small else []
            table = piece.read([*names, *features])
            self._put(number, table, features, None)
            return piece_keys(table.select(names), piece, start, declared, snapshots)

        return list(threads.map(read, range(len(self._pieces))))

    def take(self, rows: Numbers, threads: ThreadPoolExecutor) -> list[pa.ChunkedArray]:
        """Return each column's values for so many of its rows, by their numbers; 0 is null."""
        wanted = np.zeros(self._rows + 1, dtype=np.bool_)
        wanted[rows] = True
        used = [number for number, start in enumerate(self._starts[:-1]) if wanted[start : self._starts[number + 1]].any()]
        work = [
            (number, [name for name in group if name in self._missing[number]])
            for group in self._groups_of(used)
            for number in used
        ]
        work = [(number, names) for number, names in work if names]
        left = Counter(name for _, names in work for name in names)
        taken: dict[str, pa.ChunkedArray] = {}

        def take(name: str) -> None:
            taken[name] = self._columns[name].take(rows)

        def fill(number: int, names: Sequence[str]) -> None:
            start = self._starts[number]
            chosen = np.flatnonzero(wanted[start : self._starts[number + 1]])
            self._put(number, self._pieces[number].read(names), names, chosen)
            with self._changing:
                left.subtract(names)
                whole = [name for name in names if not left[name]]
            for name in whole:
                take(name)

        tasks = [threads.submit(take, name) for name in self._columns if name not in left]
        tasks += [threads.submit(fill, *item) for item in work]
        for task in tasks:
            task.result()
        return [taken[name] for name in self._columns]

    def _put(self, number: int, table: pa.Table, names: Sequence[str], wanted: Numbers | None) -> None:
        """Put columns of a piece; files that are older than a feature have none of it."""
        for name in names:
            if name in table.column_names and not self._columns[name].put(table[name], self._starts[number], wanted):
                with self._changing:
                    self._first = [other for other in self._first if other != name]
            else:
                self._missing[number].remove(name)

    def _groups_of(self, used: Sequence[int]) -> Iterator[list[str]]:
        """Yield the columns that are read together: of large row groups one at a time, so that few are in memory."""
        if any(self._pieces[number].small and self._missing[number] for number in used):
            return self._groups(list(self._columns))
        return ([name] for name in self._columns)

    def _groups(self, names: Sequence[str]) -> Iterator[list[str]]:
        """Yield columns in groups of at most :data:`TOGETHER_BYTES`, or of one."""
        group: list[str] = []
        room = TOGETHER_BYTES
        for name in names:
            size = self._columns[name].row_bytes * self._rows
            if group and size > room:
                yield group
                group, room = [], TOGETHER_BYTES
            group.append(name)
            room -= size
        if group:
            yield group


def _attempts(answer: Answer, heads: Sequence[Head]) -> Numbers:
    """Return the attempts that wrote the snapshots in use."""
    return np.array([head.attempt for head in heads], dtype=np.int64)[answer.grid.head[answer.used]]


def _wanted(answer: Answer) -> Numbers:
    """Return, per entity row, which of the snapshots in use it reads, -1 where it reads none."""
    number = np.full(len(answer.grid.ends) + 1, -1, dtype=np.int32)  # the last is for rows without an interval
    number[answer.used] = np.arange(len(answer.used))
    wanted = number[answer.interval]
    if answer.expired.any():
        wanted[answer.expired] = -1
    return wanted
