"""Three ways to join events to entity rows, and which one is cheapest: a pure choice by the sizes of both sides.

Every way gives the same rows, with ``found_at`` and ``value<n>`` in the order of the spine. A value beyond ttl is null, and
its time is given nevertheless.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from fstore.plan.steps import EVENT_TIMESTAMP
from fstore.retrieval.features import SelectedView
from fstore.retrieval.join_sql import payload_sql, same_key_sql


class EventJoin(msgspec.Struct, frozen=True):
    """A way to join: in words, and the SQL over ``spine`` and ``published``."""

    words: str
    sql: Callable[[SelectedView], str]


def asof_sql(view: SelectedView) -> str:
    """Return the ASOF join that carries all features; rows of other keys are dropped before it sorts them."""
    step = view.step
    return (
        f"WITH held AS ({payload_sql(step, view.features)} FROM published p SEMI JOIN spine s ON {same_key_sql(step)}) "
        f"SELECT p.{EVENT_TIMESTAMP} AS found_at, {_within_ttl(view)} FROM spine s "
        f"ASOF LEFT JOIN held p ON {same_key_sql(step)} AND s.visible >= p.{EVENT_TIMESTAMP} ORDER BY s.position"
    )


def _within_ttl(view: SelectedView) -> str:
    within = f"p.{EVENT_TIMESTAMP} >= s.oldest" if view.step.ttl is not None else "true"
    return ", ".join(f"CASE WHEN {within} THEN p.value{n} END AS value{n}" for n in range(len(view.features)))


ASOF = EventJoin("ASOF join on (key, time)", asof_sql)
