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
from fstore.errors import FStoreError, StoreUnavailable
from fstore.extraction import sweep_extracts
from fstore.failpoints import failpoint
from fstore.registry.records import Head, OnlineWork, RegisteredView
from fstore.runtime.audited_files import left_over
from fstore.runtime.delivery import admit, apply_work, online_view, write_rows
from fstore.runtime.holding import holding
from fstore.runtime.incarnation import check_incarnation
from fstore.stores.online import Mark

SWEEP_AFTER = timedelta(days=2)
"""How long the files of an attempt that published nothing are kept: for looking at them, and for tasks that still run."""


SWEEP_AGAIN = timedelta(days=30)
"""How long files that appear after that are looked for: of a process that stood still, and went on."""


TIDIED = timedelta(days=7)
"""For how long after that files of validations that do not count are looked for beside those of published attempts."""


class Repaired(msgspec.Struct, frozen=True, kw_only=True):
    """The views that were brought online again, and the rows that this took."""

    views: tuple[str, ...]
    rows: int


@holding
def repair_online(backends: Backends, views: Collection[str] | None = None) -> Repaired:
    """Bring online what the store lost of every online view (or those named): just that, from the published files.

    Safe beside writers, when it is killed anywhere, and twice at once. What is pending in the outbox is left to it. A view
    that cannot be repaired does not stop the others. Raises StoreError as the store does.
    """
    repaired: list[str] = []
    rows = 0
    failed: FStoreError | None = None
    for registered in _views_behind(backends, views):
        try:
            rows += _repair(backends, registered)
        except StoreUnavailable:
            raise
        except FStoreError as error:
            failed = failed or error
            continue
        failpoint("repair.applied")
        repaired.append(registered.name)
    if failed is not None:
        raise failed
    return Repaired(views=tuple(repaired), rows=rows)


def lost_views(backends: Backends, views: Collection[str] | None = None) -> list[str]:
    """Return the views that :func:`repair_online` would bring online again."""
    return [registered.name for registered in _views_behind(backends, views)]


def _views_behind(backends: Backends, views: Collection[str] | None) -> Iterator[RegisteredView]:
    pending = {entry.payload.view for entry in backends.registry.outbox.pending(kind="online", limit=10_000)}
    for registered in backends.registry.views():
        if not registered.step.online or (views is not None and registered.name not in views):
            continue
        heads = backends.registry.ledger.heads(registered.name)
        if heads and is_behind(backends, registered, heads, pending=registered.name in pending):
            yield registered


@holding
def sweep(backends: Backends, now: datetime, *, after: timedelta = SWEEP_AFTER) -> int:
    """Delete the files of attempts that began before ``now - after`` and published nothing; return how many attempts.

    Copies of tables that were never recorded, or that others took the place of before that, are deleted as well, and what
    tries of a validation left beside the files that were published.

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
    for attempt in ledger.swept(now - after - SWEEP_AGAIN):
        backends.offline.delete_directory(backends.offline.attempt_directory(attempt.view, attempt.generation, attempt.id))
    for rewritten in ledger.rewritten(now - after - TIDIED, now - after):
        directory = backends.offline.attempt_directory(rewritten.view, rewritten.generation, rewritten.id)
        listed = [file.path for file in backends.offline.list_directory(directory)]
        for path in left_over(listed, ledger.files([rewritten.id]).get(rewritten.id, ())):
            backends.offline.delete_file(path)
    sweep_extracts(backends.registry, backends.offline, now - after)
    return len(dead)


def bring_online(backends: Backends, registered: RegisteredView) -> int:
    """Bring a view online as far as it is published, and return the newest sequence that is there (0: none).

    Applies what is pending in the outbox, and what the store lost.
    """
    for entry in backends.registry.outbox.pending(kind="online", limit=10_000):
        if (entry.payload.view, entry.payload.generation) == (registered.name, registered.generation):
            apply_work(backends, entry.payload)
    heads = backends.registry.ledger.heads(registered.name, generation=registered.generation)
    if heads and is_behind(backends, registered, heads, pending=False):
        _repair(backends, registered)
    return heads[-1].sequence if heads else 0


def is_behind(backends: Backends, registered: RegisteredView, heads: list[Head], *, pending: bool) -> bool:
    """Whether the store lacks what was settled as being there, or what nothing that is pending will bring there."""
    target = online_view(backends, registered.name, registered.generation)
    floor = backends.online.floor(target)
    if registered.step.kind == "snapshot" and floor is not None and floor.sequence >= heads[-1].sequence:
        return False  # what it lost before that is of no use any more
    if backends.online.mark(target).ticket < backends.registry.online.settled(registered.name, registered.generation):
        return True
    return not pending and (floor is None or registered.step.kind == "snapshot")


def _repair(backends: Backends, registered: RegisteredView) -> int:
    """Write what one view lost, and return how many rows that took.

    The store's mark rises to what was settled when its life was entered into the registry: from then on nothing that an
    earlier life began can be settled, so what has a ticket up to there is either in the list or in the store.
    """
    marks, view, generation = backends.registry.online, registered.name, registered.generation
    target = online_view(backends, view, generation)
    found = backends.online.mark(target)
    settled = marks.enter(view, generation, found.life)
    failpoint("repair.entered")
    works = [] if registered.step.kind == "snapshot" else marks.settled_above(view, generation, found.ticket)
    heads = backends.registry.ledger.heads(view, generation=generation)  # as new as what is settled
    if registered.step.kind == "snapshot":
        works = _works(registered, heads[-1:])
    elif not found.ticket:  # all is lost, or was never counted
        works += _works(registered, heads)
    newest = max(head.sequence for head in heads)
    admit(backends, newest)
    written = write_rows(backends, registered.step, works, as_of=newest) if works else None
    ticket = settled or marks.issue(view, generation, life=found.life, above=found.ticket).ticket
    mark = Mark(life=found.life, ticket=ticket, settled=found.ticket)
    if floor := backends.online.floor(target) if written is None else written.floor:
        backends.online.raise_floor(target, floor, mark)
    return 0 if written is None else written.rows


def _works(registered: RegisteredView, heads: list[Head]) -> list[OnlineWork]:
    return [OnlineWork.of(registered.name, registered.generation, head) for head in heads]
