"""Deadlines of requests, kept without a timer for each.

A timer costs a tenth of an online read, and nearly none ever rings. One look at all running requests every few milliseconds
costs nothing that can be measured; a request is ended at most that much late. For one event loop.
"""

from __future__ import annotations

import asyncio
import time

from fstore.errors import DeadlineExceeded

_LOOK_SECONDS = 0.02


class Deadlines:
    """The requests that run, each with the moment at which it is given up."""

    def __init__(self) -> None:
        self.until: dict[asyncio.Task[object], float] = {}
        self.late: set[asyncio.Task[object]] = set()
        self._looking = False

    def hold(self, seconds: float) -> Hold:
        """Give the running task so many seconds for what is inside; then cancel it, which raises DeadlineExceeded there."""
        if not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)
        return Hold(self, seconds)

    def _look(self) -> None:
        now = time.monotonic()
        for task, until in self.until.items():
            if until <= now and task not in self.late:
                self.late.add(task)
                task.cancel()
        self._looking = bool(self.until)
        if self._looking:
            asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)


class Hold:
    """The time of one request; a context manager."""

    def __init__(self, deadlines: Deadlines, seconds: float) -> None:
        task = asyncio.current_task()
        assert task is not None, "a coroutine that runs has a task"
        self._deadlines, self._seconds, self._task = deadlines, seconds, task

    def __enter__(self) -> None:
        self._deadlines.until[self._task] = time.monotonic() + self._seconds

    def __exit__(self, kind: type[BaseException] | None, *raised: object) -> None:
        del self._deadlines.until[self._task]
        if self._deadlines.late and self._task in self._deadlines.late:
            self._deadlines.late.discard(self._task)
            if kind is asyncio.CancelledError:
                self._task.uncancel()
                raise DeadlineExceeded(f"the answer was not ready within {self._seconds:g} s") from None
