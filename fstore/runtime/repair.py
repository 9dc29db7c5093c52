"""Bring a project back to what the publication log says, after crashes and losses.

Two things, both safe to repeat and to run beside anything else: what is published and not online, although nothing of it is
pending, goes online again (a flushed store, a restored one); and files of attempts that will never publish are deleted.
Recomputes nothing: missing and stale intervals are for scheduled runs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime, timedelta

import msgspec

from fstore.backends import Backends
from fstore.extraction import sweep_extracts
from fstore.failpoints import failpoint
from fstore.plan.steps import Step
from fstore.registry.records import Head, OnlineWork, RegisteredView
from fstore.runtime.delivery import apply_work
from fstore.runtime.incarnation import check_incarnation
from fstore.stores.online import OnlineView

SWEEP_AFTER = timedelta(days=2)
"""How long the files of an attempt that published nothing are kept: for looking at them, and for tasks that still run."""


class Repaired(msgspec.Struct, frozen=True, kw_only=True):
    """The views that were brought online again, and the rows that this took."""

    views: tuple[str, ...]
    rows: int


def repair_online(backends: Backends, views: Collection[str] | None = None) -> Repaired:
    """Bring every online view (or those named) that the store lost, or has an older state of, to its newest publication.

    Views with pending work in the outbox are left to it. Raises StoreError as the store does.
    """
    repaired: list[str] = []
    rows = 0
    for registered, heads in _views_behind(backends, views):
        step = registered.step
        rows += sum(apply_work(backends, work) for work in _work(step, registered.generation, heads))
        failpoint("repair.applied")
        repaired.append(step.view)
    return Repaired(views=tuple(repaired), rows=rows)


def lost_views(backends: Backends, views: Collection[str] | None = None) -> list[str]:
    """Return the views that :func:`repair_online` would bring online again."""
    return [registered.name for registered, _ in _views_behind(backends, views)]


def _views_behind(backends: Backends, views: Collection[str] | None) -> Iterator[tuple[RegisteredView, list[Head]]]:
    pending = {entry.payload.view for entry in backends.registry.outbox.pending(kind="online", limit=10_000)}
    for registered in backends.registry.views():
        step = registered.step
        if not step.online or step.view in pending or (views is not None and step.view not in views):
            continue
        heads = backends.registry.ledger.heads(step.view)
        if heads and _is_behind(backends, step, registered.generation, heads):
            yield registered, heads


def sweep(backends: Backends, now: datetime, *, after: timedelta = SWEEP_AFTER) -> int:
    """Delete the files of attempts that began before ``now - after`` and published nothing; return how many attempts.

    Copies of tables that were never recorded, or that others took the place of before that, are deleted as well.

    The attempts are marked first, so that one that is still running cannot publish files that are gone.
    """
    check_incarnation(backends, online=False)
    ledger = backends.registry.ledger
    dead = ledger.abandon(now - after)
    failpoint("sweep.abandoned")
    for attempt in dead:
        backends.offline.delete_directory(backends.offline.attempt_directory(attempt.view, attempt.generation, attempt.id))
        failpoint("sweep.deleted")
    ledger.mark_swept([attempt.id for attempt in dead])
    failpoint("sweep.marked")
    sweep_extracts(backends.registry, backends.offline, now - after)
    return len(dead)


def bring_online(backends: Backends, registered: RegisteredView) -> int:
    """Bring a view online as far as it is published, and return the newest sequence that is there (0: none).

    Applies what is pending in the outbox, and what the store lost.
    """
    outbox, step = backends.registry.outbox, registered.step
    for entry in outbox.pending(kind="online", limit=10_000):
        if (entry.payload.view, entry.payload.generation) == (registered.name, registered.generation):
            apply_work(backends, entry.payload)
            outbox.done([entry.id])
    heads = backends.registry.ledger.heads(registered.name, generation=registered.generation)
    if heads and _is_behind(backends, step, registered.generation, heads):
        for work in _work(step, registered.generation, heads):
            apply_work(backends, work)
    return heads[-1].sequence if heads else 0


def _is_behind(backends: Backends, step: Step, generation: int, heads: list[Head]) -> bool:
    """Whether the store lacks the newest publication (snapshot views), or everything (event views)."""
    floor = backends.online.floor(OnlineView(project=backends.settings.project, view=step.view, generation=generation))
    if floor is None:
        return True
    return step.kind == "snapshot" and floor.sequence < heads[-1].sequence


def _work(step: Step, generation: int, heads: list[Head]) -> list[OnlineWork]:
    """Return what brings a view online: the newest interval's publication, or all that an event view has."""
    needed = heads[-1:] if step.kind == "snapshot" else heads
    return [
        OnlineWork(
            view=step.view,
            generation=generation,
            sequence=head.sequence,
            start=head.start,
            end=head.end,
            attempt=head.attempt,
        )
        for head in needed
    ]
