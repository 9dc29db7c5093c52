"""What may go wrong with Redis, and for how long it is tried again.

Takes what redis-py raised and gives the store's error, with whether trying again at once is of use; the table of them is in
docs/reference/online-stores.md. Waits for nobody and connects to nothing, so that blocking and asyncio readers share it.
"""

from __future__ import annotations

import random
import time
from typing import Final

from fstore.errors import StoreError, StoreFull, StoreReadOnly, StoreUnavailable

_PATIENCE = 2.0
"""For how many seconds what may pass by itself is tried again; a try of its own takes no longer than the timeout."""
_FIRST_WAIT, _LONGEST_WAIT = 0.02, 0.5
_PASSING: Final = ("BUSY", "MISCONF", "NOREPLICAS", "LOADING", "CLUSTERDOWN", "TRYAGAIN", "MASTERDOWN")
"""Codes in replies that are about the server's state now, and not about the command."""


class Patience:
    """The pauses between tries of one command: growing, random, and none that would end after the last moment."""

    def __init__(self, began: float, deadline: float | None = None) -> None:
        """``began`` is when the first try did, as ``deadline`` an instant of ``time.monotonic()``."""
        self._until = began + _PATIENCE if deadline is None else min(began + _PATIENCE, deadline)
        self._wait = _FIRST_WAIT

    def next_wait(self) -> float | None:
        """Return how long to wait before the next try, or None when there shall be none."""
        # random so that clients spread out
        self._wait = min(2 * self._wait, _LONGEST_WAIT) * random.uniform(0.5, 1.0)  # noqa: S311
        return self._wait if time.monotonic() + self._wait <= self._until else None


def classify(error: Exception, where: str) -> tuple[StoreError, bool]:
    """Return the store's error for what redis-py raised, and whether trying again at once is of use."""
    from redis import exceptions  # noqa: PLC0415 (an optional dependency)

    # A pipeline's error begins with the command, keys included, which are nobody's business; a script's names its line.
    reason = f"{type(error).__name__}: {str(error).rpartition(' caused error: ')[2]}"
    if isinstance(error, exceptions.ReadOnlyError) or "READONLY" in reason:
        refused = f"{where} refuses writes: it is a replica. FSTORE_ONLINE_URL must name the primary."
        return StoreReadOnly(refused, passing=True), True
    if isinstance(error, exceptions.OutOfMemoryError) or "OOM command not allowed" in reason:
        return StoreFull(f"{where} is out of memory. Raise its maxmemory; then this can be repeated."), False
    if isinstance(error, (exceptions.AuthenticationError, exceptions.AuthorizationError, exceptions.NoPermissionError)):
        return StoreError(f"{where} does not let this user in ({reason}): correct user or password in the URL"), False
    if isinstance(error, (exceptions.AskError, exceptions.MovedError, exceptions.ClusterCrossSlotError)):
        return refused_cluster(where), False
    unavailable = StoreUnavailable(f"{where} cannot be reached now: {reason}")
    # A server that is loading, down as a cluster or without its primary is reached by a ResponseError or a connection's.
    passing = isinstance(error, (exceptions.ClusterDownError, exceptions.TryAgainError, exceptions.MasterDownError))
    if isinstance(error, exceptions.ResponseError) and not passing and not any(word in reason for word in _PASSING):
        return StoreError(f"{where} refused a command: {reason}"), False
    return unavailable, True


def too_late(where: str, seconds: float) -> StoreUnavailable:
    """Return the error of a read whose deadline is over."""
    return StoreUnavailable(f"{where} did not answer by the deadline of this read, {seconds * 1000:.0f} ms ago")


def refused_cluster(where: str) -> StoreError:
    """Return the error of a server that is one of many."""
    return StoreError(
        f"{where} is a node of a Redis Cluster, which spreads keys over servers: a view's rows and floor could then not be "
        "read at one moment. FSTORE_ONLINE_URL must be redis+cluster://host:port,…, or name a single primary."
    )
