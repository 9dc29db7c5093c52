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
        self._loop: asyncio.AbstractEventLoop | None = None

    def hold(self, seconds: float) -> Hold:
        """Give the running task so many seconds for what is inside; then cancel it, which raises DeadlineExceeded there."""
        loop = self._loop  # while there is somebody to look at; asking which loop runs is a system call
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
            loop.call_later(_LOOK_SECONDS, self._look, loop)
        return Hold(self, seconds, asyncio.current_task(loop))

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = time.monotonic()
        for task, until in self.until.items():
            if until <= now and task not in self.late:
                self.late.add(task)
                task.cancel()
        if self.until:
            loop.call_later(_LOOK_SECONDS, self._look, loop)
        else:
            self._loop = None


class Hold:
    """The time of one request; a context manager."""

    def __init__(self, deadlines: Deadlines, seconds: float, task: asyncio.Task[object] | None) -> None:
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
