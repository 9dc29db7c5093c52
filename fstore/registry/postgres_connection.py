"""Connections to PostgreSQL that give up when the server stays silent, and that can be kept (``kept.py``).

A black hole in the network must not hold a task for ever, and the kernel alone does not end every wait: a server that is
frozen keeps its connections. And an idle connection may be dead without knowing it: the server restarted or ended it, or
another one took over, or a firewall forgot about it. So it is asked before it is used again, for no longer than connecting
anew may take, and one that was idle for :data:`IDLE_SECONDS` is not even asked. (SQLAlchemy's own pre-ping waits for as long
as the answer to a statement may take.)
"""

from __future__ import annotations

import functools
import time
from collections.abc import Generator, Mapping, Sequence
from typing import Any, TypeVar

IDLE_SECONDS = 30
"""How long a connection may be idle and still be used again: shorter than what firewalls and proxies allow."""

_T = TypeVar("_T")


def connect(driver: Any, arguments: Sequence[Any], options: Mapping[str, Any], *, answer_seconds: float) -> Any:
    """Connect with psycopg.

    No statement waits longer than ``answer_seconds``, and no question whether it may be used again longer than the
    ``connect_timeout`` of the options.
    """
    connection = _connection_class(driver).connect(*arguments, **options)
    connection.answer_seconds = answer_seconds
    connection.connect_seconds = int(options["connect_timeout"])
    return connection


@functools.cache
def _connection_class(driver: Any) -> Any:
    """Return the class; the driver is known only when it is used, since PostgreSQL is optional."""

    class PostgresConnection(driver.Connection):  # type: ignore[misc]
        answer_seconds: float
        connect_seconds: float

        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self._settled_at = time.monotonic()

        def wait(self, gen: Generator[Any, Any, _T], *given: Any, **named: Any) -> _T:
            result: _T = super().wait(self._bounded(gen), *given, **named)
            return result

        def settle(self) -> None:
            """Begin to be idle: what a transaction sets, it sets for itself."""
            self._settled_at = time.monotonic()

        def is_current(self) -> bool:
            """Whether the server answers; its next transaction is as the first one of a new connection then."""
            if time.monotonic() - self._settled_at > IDLE_SECONDS:
                return False
            usual, self.answer_seconds = self.answer_seconds, min(self.answer_seconds, self.connect_seconds)
            try:
                # Unset, as in a new one, and not set to what is usual: a standby refuses transactions that say READ WRITE.
                self.isolation_level = self.read_only = None
                self.autocommit = True
                self.execute("")
                self.autocommit = False
            except driver.Error:
                return False
            finally:
                self.answer_seconds = usual
            return True

        def _bounded(self, gen: Generator[Any, Any, _T]) -> Generator[Any, Any, _T]:
            deadline = time.monotonic() + self.answer_seconds
            try:
                wanted = next(gen)
                while True:
                    ready = yield wanted
                    if not ready and time.monotonic() > deadline:
                        self.close()
                        raise driver.OperationalError(f"the server did not answer within {self.answer_seconds} s")
                    wanted = gen.send(ready)
            except StopIteration as done:
                result: _T = done.value
                return result

    return PostgresConnection
