"""Fetch the rows of snapshots by gathering: find where each entity row's lies, then take them from the files piece by piece.

Reads the keys of all rows first, then the features of pieces in which rows were found. Two copies of the features never
exist: a piece is decoded, its rows go to their places in the result, and it is forgotten. Runs in as many threads as the
engine may use, and needs no engine.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from fstore.arrays import truth_array
from fstore.retrieval.gathered_columns import gathered_column
from fstore.retrieval.history import Answer
from fstore.retrieval.join_sql import value_names
from fstore.retrieval.published_rows import PublishedRows, explaining_losses
from fstore.retrieval.row_addresses import Numbers, Snapshots, find_addresses
from fstore.retrieval.row_pieces import Piece, cut_pieces
from fstore.retrieval.view_features import EntityTimes

if TYPE_CHECKING:
    from fstore.backends import Backends
    from fstore.registry.records import Head


def gather_snapshots(
    backends: Backends, published: PublishedRows, rows: EntityTimes, answer: Answer, heads: Sequence[Head]
) -> pa.Table:
    """Return ``found`` and ``value<n>`` for each entity row, in order. Raises SnapshotExpired and FileDamaged."""
    view = published.view
    step, offline = view.step, backends.offline
    held = [(item, offline.full_path(item.file.path)) for item in published.held]
    workers = backends.settings.threads or os.cpu_count() or 1
    with explaining_losses(backends, published), ThreadPoolExecutor(workers) as threads:
        pieces = cut_pieces(held)
        snapshots = Snapshots(ends=answer.grid.ends[answer.used], attempts=_attempts(answer, heads))
        addresses = find_addresses(pieces, step.keys, snapshots, rows.keys, _wanted(answer), threads)
        found = addresses.found
        kinds = zip(view.features, view.schema, strict=True)
        columns = {feature.name: gathered_column(field.type, len(found)) for feature, field in kinds}

        def gather(piece: Piece, places: Numbers, where: Numbers) -> None:
            # of a large row group one column at a time is in memory; to open small files once per column would cost more
            for chosen in [[name] for name in columns] if len(piece.parts) == 1 else [list(columns)]:
                table = piece.read(chosen)
                for name in table.column_names:  # older files may have fewer
                    columns[name].put(table[name], where, places)

        work = [(piece, *chosen) for piece, chosen in zip(pieces, addresses.by_piece(len(pieces)), strict=True)]
        list(threads.map(lambda item: gather(*item) if len(item[1]) else None, work))
        values = list(threads.map(lambda column: column.finish(), columns.values()))
    return pa.table([truth_array(found), *values], names=["found", *value_names(view.features)])


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
