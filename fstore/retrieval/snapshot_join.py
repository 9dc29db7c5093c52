"""Join a snapshot view to entity rows: an equi-join on (key, end) with exactly the files that the log names.

Which snapshot answers for which instant is known before (:mod:`fstore.retrieval.history`); here its rows are fetched, and
keys without a row get the view's empty row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fstore.plan.steps import EVENT_TIMESTAMP
from fstore.retrieval.features import SelectedView, empty_values
from fstore.retrieval.history import BEFORE_ALL, Answer, Mask, used_heads
from fstore.retrieval.join_sql import payload_sql, same_key_sql, value_names
from fstore.retrieval.published_rows import find_published, read_joined, whole_files
from fstore.retrieval.view_features import EntityTimes, Found, JoinPlan, ViewFeatures, instants_column, report_rows

if TYPE_CHECKING:
    from fstore.backends import Backends
    from fstore.registry.records import Head

_SHORTEST_RUN = 1024
"""Shorter runs of rows, on average, are gathered row by row."""


def join_snapshots(
    backends: Backends, view: SelectedView, rows: EntityTimes, answer: Answer, heads: Sequence[Head], sequence: int | None
) -> ViewFeatures:
    """Return the features of the snapshot that each entity row reads. Raises SnapshotExpired and FileDamaged."""
    complete = rows.complete
    held = find_published(backends, view, used_heads(heads, answer), sequence)
    published = whole_files(held, heads, answer)
    snapshot = answer.snapshot
    keys = {f"key{index}": key for index, key in enumerate(rows.keys)}
    position = pa.array(np.arange(len(rows.instants), dtype=np.int64))
    spine = pa.table({"position": position, **keys, "snapshot": instants_column(snapshot)})
    if spine.num_rows < published.rows:
        result = read_joined(backends, published, sorted_sql(view), {"spine": spine}, estimate="at least")
    else:
        result = in_order(read_joined(backends, published, unsorted_sql(view), {"spine": spine}, estimate="at most"))
    hit = result["found"].combine_chunks().to_numpy(zero_copy_only=False)
    table = with_empty_rows(view, result, complete & (snapshot != BEFORE_ALL) & ~hit)
    plan = JoinPlan(
        join="equi-join on (key, end of the snapshot)", files=len(published.held), rows=published.rows,
        published_intervals=int(np.count_nonzero(answer.grid.head >= 0)), columns=tuple(f.name for f in view.features),
    )  # fmt: skip
    report = report_rows(view, complete, answer, Found(hit=hit), attempts=published.attempts, plan=plan)
    return ViewFeatures(table=table, report=report, snapshots=tuple(answer.grid.ends[answer.used].tolist()))


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


def with_empty_rows(view: SelectedView, result: pa.Table, empty: Mask) -> pa.Table:
    """Return the features of a join's result as their types, and the view's empty row where there is none for the key."""
    columns = [result[name].cast(field.type) for name, field in zip(value_names(view.features), view.schema, strict=True)]
    if empty.any():
        where = pa.array(empty)
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
    return after.take(pc.if_else(where, len(column), pa.array(np.arange(len(column)))))
