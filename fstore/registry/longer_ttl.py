"""Bring back online what a shorter ttl let go: event rows that expired and hold again since ttl is longer.

The online store has forgotten such rows up to a sequence, so they are applied again at a new one: the outbox gets an entry
for that in the transaction that registers the definition. Takes that transaction; moves no data.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy.engine import Connection, Row

from fstore.plan.steps import Step
from fstore.registry.database import Database
from fstore.registry.heads import Scope, read_heads
from fstore.registry.publishing import take_sequence
from fstore.registry.tables import outbox
from fstore.registry.views import read_views


class Lengthened(NamedTuple):
    """A registered event view whose ttl grows, and the ttl that it had."""

    step: Step
    generation: int
    ttl: timedelta


def lengthened_views(
    database: Database, connection: Connection, steps: Sequence[Step], rebuild: Collection[str]
) -> list[Lengthened]:
    """Return the views whose rows may hold longer than before, once these steps are registered."""
    events = {step.view: step for step in steps if step.kind == "event" and step.online and step.view not in rebuild}
    known = read_views(database.on_overlay(""), connection, sorted(events)) if events else []
    return [
        Lengthened(events[view.name], view.generation, ttl)
        for view in known
        if view.step.online and view.step.kind == "event" and (ttl := _shorter(view.step.ttl, events[view.name].ttl))
    ]


def bring_back(
    database: Database, connection: Connection, project: Row[*tuple[Any, ...]], views: Sequence[Lengthened]
) -> None:
    """Append online work for the keys that have a row in the time that the shorter ttl cut off, and the longer does not."""
    now, rows = database.now(connection), list[dict[str, object]]()
    for step, generation, ttl in views:
        measured = now if step.end is None else min(now, step.end)
        low = None if step.ttl is None else measured - step.ttl
        heads = read_heads(database, connection, Scope(view=step.view, generation=generation, start=low, end=measured - ttl))
        if heads:
            newest = max(heads, key=lambda head: head.sequence)
            rows.append({"view": step.view, "generation": generation, "attempt_id": newest.attempt,
                         "start_at": heads[0].start, "end_at": heads[-1].end})  # fmt: skip
    if not rows:
        return
    first, at = take_sequence(database, connection, project, count=len(rows))
    common = {"kind": "online", "created_at": at, "tries": 0}
    database.insert(connection, outbox, [{**row, **common, "sequence": first + n} for n, row in enumerate(rows)])


def _shorter(old: timedelta | None, new: timedelta | None) -> timedelta | None:
    """Return the old ttl where the new one is longer."""
    return old if old is not None and (new is None or new > old) else None
