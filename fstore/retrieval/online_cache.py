"""Rows that a client has read, kept in the process: to answer again for a while, and as the last known of a store away.

Takes and gives settled rows (:mod:`fstore.retrieval.online_values`), which hold by themselves, so that a cached row is never
judged by a floor that was raised after it; ttl and lag of the view apply to it at every read. Keeps the newest rows up to a
number of them. Safe to share between threads, and between clients of one project.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from datetime import timedelta
from typing import NamedTuple

from fstore.errors import RetrievalError


class CachedRow(NamedTuple):
    """A settled row, and when it was read, by the cache's clock in seconds."""

    row: bytes
    read_at: float


class OnlineCache:
    """Answers for rows that were read less than ``ttl`` ago, and keeps at most ``max_rows``: those read last.

    Rows beyond ttl stay while there is room, for reads with ``on_unavailable="last_known"``. A row takes its packed size and
    about 250 bytes of memory.
    """

    def __init__(self, *, ttl: timedelta, max_rows: int = 100_000, clock: Callable[[], float] = time.monotonic) -> None:
        if not isinstance(ttl, timedelta) or ttl < timedelta() or max_rows < 1:
            raise RetrievalError(
                f"a cache needs a ttl, as in timedelta(seconds=5), and room for one row at least, got {ttl!r}, {max_rows!r}"
            )
        self._ttl, self._most, self._clock = ttl.total_seconds(), max_rows, clock
        self._rows: dict[tuple[Hashable, bytes], CachedRow] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._rows)

    def now(self) -> float:
        """Return the moment, by the clock of ``read_at``."""
        return self._clock()

    def find(self, view: Hashable, keys: Sequence[bytes], *, stale: bool = False) -> list[CachedRow | None]:
        """Return the row of each key of a view, or None; those beyond ttl only if ``stale``."""
        rows = self._rows
        found = [rows.get((view, key)) for key in keys]
        if stale:
            return found
        oldest = self._clock() - self._ttl
        return [None if row is None or row.read_at <= oldest else row for row in found]

    def keep(self, view: Hashable, keys: Sequence[bytes], rows: Sequence[bytes]) -> list[CachedRow]:
        """Keep rows that were read just now, and return them as they are kept."""
        at = self._clock()
        kept = [CachedRow(row, at) for row in rows]
        with self._lock:
            for key, row in zip(keys, kept, strict=True):
                self._rows.pop((view, key), None)  # so that it becomes the last
                self._rows[view, key] = row
            while len(self._rows) > self._most:
                del self._rows[next(iter(self._rows))]
        return kept

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._rows.clear()
