"""Connections that are kept from one transaction to the next while a piece of work goes on.

Opening one costs more than most transactions do. PostgreSQL starts a process and asks who is there; SQLite parses the
schema, and the last connection to be closed copies the whole log into the database. So a piece of work of many transactions
holds the registry, and within :func:`holding` idle connections are kept, under these rules:

* Outside of it nothing is open, so a process that only stands by takes no place on a server, and never keeps a file from
  being moved or replaced.
* Only a connection whose transaction ended well is kept (:func:`keep`). Whatever else happened to it, it is closed.
* None is idle over a fork. SQLite's locks are a process's own, and a child that took them for its own would lose writes; two
  processes that talk to a server through one socket get each other's answers.
* Each is asked before it is used again (:class:`Keepable`). One that is not what a new one would be is closed, and all
  others with it: what befell it, a restart, a failover, a file that was replaced, befell them as well.

What is particular to either database is in ``sqlite_connection.py`` and ``postgres_connection.py``.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Iterator
from typing import Any, Protocol, cast

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

IDLE = 4
"""How many idle connections a pool keeps: as many transactions of different threads go on without connecting."""

_KEEP = "fstore_keep"


class Keepable(Protocol):
    """A driver's connection that can be kept."""

    def settle(self) -> None:
        """Let nothing of the transaction that ended last be left, and begin to be idle."""

    def is_current(self) -> bool:
        """Whether the next transaction finds what it would find with a new connection. May ask the server."""


def keep(connection: Connection) -> None:
    """Let a connection, whose transaction was committed, be used again. Means nothing to a pool that keeps none."""
    connection.info[_KEEP] = True


@contextlib.contextmanager
def holding(engine: Engine) -> Iterator[None]:
    """Within the block, connections are kept, of whatever thread; the last block to be left closes them. May be nested.

    A child that is forked within the block is outside of it.
    """
    if not isinstance(engine.pool, KeepingPool):
        yield
        return
    holders = engine.pool.holders
    holders.append(None)
    try:
        yield
    finally:
        with contextlib.suppress(IndexError):  # in a child that was forked within the block, which holds nothing
            holders.pop()
        if not holders:
            close_idle(engine)


def close_idle(engine: Engine) -> None:
    """Close what is kept and nobody uses."""
    if isinstance(engine.pool, KeepingPool):
        engine.pool.close_idle()


class KeepingPool(NullPool):
    """Keeps idle connections by the rules above. Safe to share between threads."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        # Appending to a list and popping from it are atomic, so that no lock is held over a fork.
        self.holders: list[None] = []
        self._idle: list[ConnectionPoolEntry] = []
        _pools.add(weakref.ref(self, _pools.discard))

    def close_idle(self) -> None:
        """Close what nobody uses; what is in use may be kept afterwards."""
        while (record := self._taken()) is not None:
            record.close()

    def abandon_idle(self) -> None:
        """Neither use nor close what nobody uses: it is another process's."""
        while (record := self._taken()) is not None:
            _inherited.append(record)

    def _do_get(self) -> ConnectionPoolEntry:
        if (record := self._taken()) is not None:
            current = False
            try:
                current = _connection_of(record).is_current()
            finally:
                if not current:
                    record.close()
                    self.close_idle()
            if current:
                return record
        return self._create_connection()

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        kept = record.dbapi_connection is not None and record.info.pop(_KEEP, False)
        if not kept or not self.holders or len(self._idle) >= IDLE:
            record.close()
            return
        _connection_of(record).settle()
        self._idle.append(record)
        if not self.holders:  # the last one left meanwhile, in another thread
            self.close_idle()

    def _taken(self) -> ConnectionPoolEntry | None:
        """Take the connection that was used last, which is the likeliest to be as it was; None if there is none."""
        with contextlib.suppress(IndexError):
            return self._idle.pop()
        return None


_pools: set[weakref.ref[KeepingPool]] = set()
_inherited: list[ConnectionPoolEntry] = []
"""What another thread of the parent gave back in the last moment before a fork: the child must not even close it."""


def _close_all_idle() -> None:
    for reference in tuple(_pools):
        if (pool := reference()) is not None:
            pool.close_idle()


def _hold_nothing() -> None:
    for reference in tuple(_pools):
        if (pool := reference()) is not None:
            pool.holders.clear()
            pool.abandon_idle()


os.register_at_fork(before=_close_all_idle, after_in_child=_hold_nothing)


def _connection_of(record: ConnectionPoolEntry) -> Keepable:
    return cast(Keepable, record.dbapi_connection)
