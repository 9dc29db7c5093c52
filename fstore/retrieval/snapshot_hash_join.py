"""Fetch the rows of snapshots by an equi-join on (key, end) in the engine, which spills to disk what does not fit.

The smaller side is hashed. Reads exactly the files that the log names, and gives one row per entity row, in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from fstore.plan.steps import EVENT_TIMESTAMP
from fstore.retrieval.features import SelectedView
from fstore.retrieval.history import Answer
from fstore.retrieval.join_sql import payload_sql, same_key_sql, value_names
from fstore.retrieval.published_rows import PublishedRows, read_joined, whole_files
from fstore.retrieval.view_features import EntityTimes, instants_column

if TYPE_CHECKING:
    from fstore.backends import Backends
    from fstore.registry.records import Head

_SHORTEST_RUN = 1024
"""Shorter runs of rows, on average, are gathered row by row."""


def hash_join_snapshots(
    backends: Backends, published: PublishedRows, rows: EntityTimes, answer: Answer, heads: Sequence[Head]
) -> pa.Table:
    """Return ``found`` and ``value<n>`` for each entity row, in order. Raises SnapshotExpired and FileDamaged."""
    view, whole = published.view, whole_files(published, heads, answer)
    keys = {f"key{index}": key for index, key in enumerate(rows.keys)}
    position = pa.array(np.arange(len(rows.instants), dtype=np.int64))
    spine = pa.table({"position": position, **keys, "snapshot": instants_column(answer.snapshot)})
    if spine.num_rows < published.rows:
        return read_joined(backends, whole, sorted_sql(view), {"spine": spine}, estimate="at least")
    return in_order(read_joined(backends, whole, unsorted_sql(view), {"spine": spine}, estimate="at most"))


def unsorted_sql(view: SelectedView) -> str:
    """Return the equi-join of ``spine`` with ``published`` on (key, end), with the ``position`` of each row.

    For spines that are not smaller: the published rows are hashed, and the spine runs through them in its order.
    """
    return f"{_held(view)} SELECT s.position, {_found(view)} {_joined(view)}"


def sorted_sql(view: SelectedView) -> str:
    """Return the same in the order of the spine: it is hashed, and the published rows run through it in theirs."""
    return f"{_held(view)} SELECT {_found(view)} {_joined(view)} ORDER BY s.position"


def in_order(result: pa.Table) -> pa.Table:
    """Return rows by their ``position``, which is a permutation.

    An engine that runs a spine through a hash table gives it in long runs, each in order: these are put together.
    """
    position = result["position"].to_numpy()
    starts = np.concatenate([[0], np.flatnonzero(np.diff(position) != 1) + 1])
    if len(starts) == 1:
        return result
    if len(starts) < len(position) // _SHORTEST_RUN:
        ends = np.append(starts[1:], len(position))
        runs = np.argsort(position[starts])
        return pa.concat_tables(
            [result.slice(start, end - start) for start, end in zip(starts[runs], ends[runs], strict=True)]
        )
    places = np.empty(len(position), dtype=np.int64)
    places[position] = np.arange(len(position))
    return result.take(pa.array(places))


def _held(view: SelectedView) -> str:
    return f"WITH held AS ({payload_sql(view.step, view.features)} FROM published p)"


def _found(view: SelectedView) -> str:
    return ", ".join([f"p.{EVENT_TIMESTAMP} IS NOT NULL AS found", *(f"p.{name}" for name in value_names(view.features))])


def _joined(view: SelectedView) -> str:
    return f"FROM spine s LEFT JOIN held p ON p.{EVENT_TIMESTAMP} = s.snapshot AND {same_key_sql(view.step)}"
