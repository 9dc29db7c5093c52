"""When a client tries again, and for how long: pure, so that both clients share it.

A try is repeated when it had no answer because its connection failed, or when the answer asks for it by a short
``Retry-After``. Three tries are made at most, and none that could not end in time.
"""

from __future__ import annotations

import time

from fstore.errors import DeadlineExceeded, FStoreError, ServerUnavailable

_TRIES = 3
_FIRST_WAIT = 0.05
_LONGEST_WAIT = 2.0


class Tries:
    """The tries of one read."""

    def __init__(self, where: str, seconds: float) -> None:
        self._where, self._seconds = where, seconds
        self._until = time.monotonic() + seconds
        self._made = 0

    def begin(self) -> float:
        """Begin a try and return the seconds that it may take. Raises DeadlineExceeded when there are none left."""
        self._made += 1
        left = self._until - time.monotonic()
        if left <= 0:
            raise self._late()
        return left

    def after_failure(self, error: Exception, *, late: bool) -> float:
        """Return how long to wait after a connection failed; raises ServerUnavailable, or DeadlineExceeded if ``late``."""
        if late:
            raise self._late() from error
        wait: float = _FIRST_WAIT * 2 ** (self._made - 1)
        if not self._worthwhile(wait):
            text = str(error) or type(error).__name__
            raise ServerUnavailable(f"{self._where} cannot be reached or broke off: {text}") from error
        return wait

    def after_refusal(self, error: FStoreError, retry_after: str | None) -> float:
        """Return how long to wait after an answer that asks for another try; raises the error when it does not."""
        wait = float(retry_after) if retry_after is not None and retry_after.isdigit() else _LONGEST_WAIT + 1
        if not error.retryable or wait > _LONGEST_WAIT or not self._worthwhile(wait):
            raise error
        return wait

    def _worthwhile(self, wait: float) -> bool:
        return self._made < _TRIES and time.monotonic() + wait < self._until

    def _late(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"{self._where} did not answer within {self._seconds:g} s")
