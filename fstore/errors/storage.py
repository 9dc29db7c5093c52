"""Errors of stores and of the registry."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from fstore.errors.root import FStoreError


class StoreError(FStoreError):
    """A store that does not do what was asked."""

    code = "store_error"


class StoreUnavailable(StoreError):
    """The store cannot be reached now. ``retry_after``: in how many seconds trying again makes sense, if that is known."""

    code = "store_unavailable"
    retryable = True

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class StoreChanged(StoreUnavailable):
    """The online store restarted, failed over or was flushed while a view was being written, so rows may be lost."""

    code = "store_changed"

    def __init__(self, view: str) -> None:
        self.view = view
        super().__init__(
            f"the online store restarted, failed over or was flushed while view {view!r} was being written, and may have "
            "lost some of it. Nothing is counted as written; the same work again brings all of it online."
        )


class StoreReadOnly(StoreError):
    """The store was reached and refuses writes. ``passing``: it may soon not, as a replica that is being promoted."""

    code = "store_read_only"

    def __init__(self, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        if passing:
            self.retryable = True


class StoreFull(StoreError):
    """The store was reached, but its memory or disk is full."""

    code = "store_full"
    retryable = True


class StoreMissing(StoreError):
    """There is no store at the URL: it was never created, or has lost everything, its id included."""

    code = "store_missing"


class StoreMismatch(StoreError):
    """The store is not the one whose id the registry has recorded."""

    code = "store_mismatch"


class StoreCorrupt(StoreError):
    """A stored row or file cannot be decoded."""

    code = "store_corrupt"


class FileDamaged(StoreCorrupt):
    """A published file is missing, or its bytes are not those that were written. Intervals in other files stay readable."""

    code = "file_damaged"

    def __init__(self, path: str, view: str, ranges: Sequence[tuple[datetime, datetime]], problem: str) -> None:
        self.path, self.view, self.ranges, self.problem = path, view, tuple(ranges), problem
        spans = ", ".join(f"{start:%Y-%m-%dT%H:%MZ} to {end:%Y-%m-%dT%H:%MZ}" for start, end in self.ranges)
        what = "is missing" if problem == "missing" else "is damaged: its bytes are not those that were written"
        super().__init__(
            f"file {path!r} of the offline store {what}. It holds {spans} of view {view!r}; everything else stays readable. "
            f"`fstore verify {view}` records it, then `fstore repair {view}` computes these intervals again."
        )


class EventRefused(StoreError):
    """The OpenLineage backend refuses an event for what is in it: sending it again changes nothing."""

    code = "event_refused"


class FloorMissing(StoreError):
    """The online store has nothing of the view: it was flushed, is another store, or was never filled."""

    code = "floor_missing"


class RegistryError(FStoreError):
    """A registry that does not do what was asked."""

    code = "registry_error"


class RegistryUnavailable(RegistryError):
    """The registry cannot be reached now. ``lost``: the transaction was lost with its connection; nothing was written."""

    code = "registry_unavailable"
    retryable = True

    def __init__(self, message: str, *, lost: bool = False) -> None:
        self.lost = lost
        super().__init__(message)


class RegistryReadOnly(RegistryError, StoreReadOnly):
    """The registry was reached and refuses writes."""

    code = "registry_read_only"


class RegistryOutdated(RegistryError):
    """The registry's schema is not the one that this version of fstore works with."""

    code = "registry_outdated"


class RegistryRestored(RegistryError):
    """The registry is an older state of the one that the stores, or this process, have worked with."""

    code = "registry_restored"
