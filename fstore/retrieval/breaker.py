"""A circuit breaker: while a store does not answer, refuse reads at once instead of letting every one of them wait.

Closed, it lets everything through. After several reads in a row found the store unavailable it opens: reads are refused with
``retry_after`` until a second has passed, then one is let through as a probe, and what comes of it closes the breaker or
opens it again. A store that refuses for another reason (it was never created, it lets nobody in) answers, and so closes it.
Knows no store and waits for nothing, so that blocking and asyncio clients share it. Safe to share between threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType

from fstore.errors import RetrievalError, StoreError, StoreUnavailable

_SHORTEST_WAIT = 0.05


class CircuitBreaker:
    """Opens after ``failures`` reads in a row that found the store unavailable, for ``pause`` at a time.

    Each read is a ``with`` block, also around ``await``.
    """

    def __init__(
        self, *, failures: int = 5, pause: timedelta = timedelta(seconds=1), clock: Callable[[], float] = time.monotonic
    ) -> None:
        if failures < 1 or pause <= timedelta():
            raise RetrievalError(f"a circuit breaker needs at least one failure and a pause, got {failures} and {pause}")
        self._most, self._pause, self._clock = failures, pause.total_seconds(), clock
        self._lock = threading.Lock()
        self._failures = 0
        self._open_until = 0.0
        self._probing = False
        self._last = ""

    @property
    def is_open(self) -> bool:
        """Whether reads are refused, save for probes."""
        return self._failures >= self._most

    def __enter__(self) -> None:
        """Let a read through. Raises StoreUnavailable with ``retry_after`` when it shall not be tried."""
        if self._failures < self._most:
            return
        with self._lock:
            now = self._clock()
            if self._failures < self._most:
                return
            if now >= self._open_until and not self._probing:
                self._probing = True
                return
            wait = max(self._open_until - now, _SHORTEST_WAIT)
            raise StoreUnavailable(
                f"the online store is not asked now, because the last {self._failures} reads found it unavailable; the next "
                f"try is in {wait:.2f} s. The last answer: {self._last}",
                retry_after=wait,
            )

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Note what came of the read; a StoreUnavailable learns when to try again."""
        if error is None and not self._failures:
            return
        with self._lock:
            self._probing = False
            if isinstance(error, StoreUnavailable):
                self._failures, self._last = self._failures + 1, str(error)
                self._open_until = self._clock() + self._pause
                error.retry_after = self._pause
            elif error is None or isinstance(error, StoreError):
                self._failures, self._last = 0, ""  # it answers, if with an error; a task that was cancelled says nothing
