"""Join an event view to entity rows: the newest row of the key that is visible and within ttl.

Events lie at times of their own, so each entity row looks for its own: which way is cheapest depends on how many rows there
are on both sides (:mod:`fstore.retrieval.event_plans`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fstore.interval import MICROSECOND, from_micros
from fstore.retrieval.event_plans import EventSizes, choose_event_join
from fstore.retrieval.features import SelectedView
from fstore.retrieval.history import BEFORE_ALL, Answer, overlapping_heads
from fstore.retrieval.join_sql import value_names
from fstore.retrieval.published_rows import find_published, read_joined
from fstore.retrieval.view_features import EntityTimes, Found, JoinPlan, ViewFeatures, instants_column, report_rows

if TYPE_CHECKING:
    from fstore.backends import Backends
    from fstore.registry.records import Head


def join_events(
    backends: Backends, view: SelectedView, rows: EntityTimes, answer: Answer, heads: Sequence[Head], sequence: int | None
) -> ViewFeatures:
    """Return the features of the newest event that each entity row may see. Raises SnapshotExpired and FileDamaged."""
    oldest = None if view.step.ttl is None else from_micros(int(np.min(answer.oldest)))
    until = from_micros(int(np.max(answer.visible))) + MICROSECOND
    published = find_published(backends, view, overlapping_heads(heads, oldest, until), sequence)
    keys = {f"key{index}": key for index, key in enumerate(rows.keys)}
    times = {"visible": instants_column(answer.visible), "oldest": instants_column(answer.oldest)}
    spine = pa.table({"position": pa.array(np.arange(len(rows.instants), dtype=np.int64)), **keys, **times})
    chosen = choose_event_join(
        EventSizes(
            spine_rows=spine.num_rows, spine_keys=_distinct(rows.keys), events=published.rows, features=len(view.features)
        )
    )
    result = read_joined(backends, published, chosen.sql(view), {"spine": spine}, estimate="at least")
    stamps = result["found_at"].cast(pa.int64()).fill_null(BEFORE_ALL).to_numpy()
    columns = [result[name].cast(field.type) for name, field in zip(value_names(view.features), view.schema, strict=True)]
    plan = JoinPlan(
        join=chosen.words, files=len(published.held), rows=published.rows,
        published_intervals=int(np.count_nonzero(answer.grid.head >= 0)), columns=tuple(f.name for f in view.features),
    )  # fmt: skip
    found = Found(hit=stamps != BEFORE_ALL, times=stamps)
    report = report_rows(view, rows.complete, answer, found, attempts=published.attempts, plan=plan)
    return ViewFeatures(table=pa.table(columns, schema=view.schema), report=report)


def _distinct(keys: Sequence[pa.ChunkedArray]) -> int:
    """Return how many keys there are; of composite ones those of the part with the most."""
    return max(int(pc.count_distinct(key).as_py()) for key in keys)
