"""The query of a composite view: own aggregates joined with the snapshots that each interval reads of other views.

Takes the query of the own aggregates over the same intervals and the pinned publications, and gives one query for all the
intervals. Which snapshot an interval reads is decided by ``required_upstream``, as for any other view.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pyarrow as pa

from fstore.arrow import TIMESTAMP, arrow_schema
from fstore.backends import Backends
from fstore.engines.engine import ArrowRelation, Query, Relation
from fstore.interval import Interval, merge_intervals
from fstore.plan.steps import EVENT_TIMESTAMP, CompositeStep, SnapshotInput
from fstore.registry.records import Head
from fstore.runtime.inputs import ResolvedInputs, head_of, required_upstream
from fstore.types import Column


def composite_query(
    backends: Backends, step: CompositeStep, resolved: ResolvedInputs, intervals: Sequence[Interval], own: Query | None
) -> Query:
    """Return the query of a composite view over intervals; ``own`` computes its own aggregates over them."""
    relations: dict[str, Relation] = dict(own.relations) if own else {}
    joined = [item for item in step.inputs if isinstance(item, SnapshotInput)]
    for number, item in enumerate(joined):
        read = {interval: required_upstream(item, interval) for interval in intervals}
        relations[item.alias] = _published(backends, item, resolved, [part for parts in read.values() for part in parts])
        pairs = [(interval.end, parts[-1].end) for interval, parts in read.items() if parts]
        relations[f"ends{number}"] = ArrowRelation(
            table=pa.table(
                {
                    "interval_end": pa.array([end for end, _ in pairs], TIMESTAMP),
                    "snapshot_end": pa.array([end for _, end in pairs], TIMESTAMP),
                }
            )
        )
    sql = step.sql if own is None else f"WITH own AS MATERIALIZED (\n{own.sql}\n)\nSELECT * FROM (\n{step.sql}\n)"
    return Query(sql=sql, relations=relations)


def _published(backends: Backends, item: SnapshotInput, resolved: ResolvedInputs, read: Sequence[Interval]) -> Relation:
    """Return the published rows of the snapshots that are read."""
    features = [column.name for column in item.features]
    parts: list[Head] = []
    for needed in dict.fromkeys(read):
        head = head_of(resolved.heads[item.view], needed)
        if head is not None:
            parts.append(msgspec.structs.replace(head, start=needed.start, end=needed.end))
    if parts:
        return backends.published(backends.registry.view(item.view).step, _merged(parts), features=features)
    columns = (*item.keys, Column(name=EVENT_TIMESTAMP, type="timestamp"), *item.features)
    return ArrowRelation(table=arrow_schema(columns).empty_table())


def _merged(parts: Sequence[Head]) -> list[Head]:
    """Return heads cut to snapshots, neighbours of one publication merged into one."""
    merged: list[Head] = []
    for sequence in dict.fromkeys(part.sequence for part in parts):
        same = [part for part in parts if part.sequence == sequence]
        merged += [
            msgspec.structs.replace(same[0], start=span.start, end=span.end)
            for span in merge_intervals([Interval(part.start, part.end) for part in same])
        ]
    return sorted(merged, key=lambda part: part.start)
