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
from fstore.registry.records import Head, RegisteredView
from fstore.runtime.audited_files import left_over
from fstore.runtime.delivery import apply_work, online_view, restore_lost
from fstore.runtime.holding import holding
from fstore.runtime.incarnation import check_incarnation

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
    that cannot be repaired does not stop the others. A store that lost its id as well gets that back. Raises StoreError as
    the store does, StoreMissing for one that the registry does not know by this URL.
    """
    backends.renew_online()
    repaired: list[str] = []
    rows = 0
    failed: FStoreError | None = None
    for registered in _views_behind(backends, views):
        try:
            rows += restore_lost(backends, registered.name, registered.generation)
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
    """Return the views that :func:`repair_online` would bring online again; of a store that lost everything, all."""
    if backends.has_lost_online():
        return [registered.name for registered, _ in _published(backends, views)]
    return [registered.name for registered in _views_behind(backends, views)]


def _views_behind(backends: Backends, views: Collection[str] | None) -> Iterator[RegisteredView]:
    pending = {entry.payload.view for entry in backends.registry.outbox.pending(kind="online", limit=10_000)}
    for registered, heads in _published(backends, views):
        if is_behind(backends, registered, heads, pending=registered.name in pending):
            yield registered


def _published(backends: Backends, views: Collection[str] | None) -> Iterator[tuple[RegisteredView, list[Head]]]:
    """Yield the online views among those named (None: all) that have anything published, with their heads."""
    for registered in backends.registry.views():
        wanted = registered.step.online and (views is None or registered.name in views)
        if wanted and (heads := backends.registry.ledger.heads(registered.name)):
            yield registered, heads


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
        restore_lost(backends, registered.name, registered.generation)
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
