"""Connections to SQLite that are kept from one transaction to the next while a piece of work goes on.

Opening one costs more than most transactions do: it parses the schema, and the last one to be closed copies the whole log
into the database. So a piece of work of many transactions holds the registry, and within :func:`holding` idle connections
are kept, under these rules:

* Outside of it nothing is open, so a process that only stands by never keeps the file from being moved or replaced.
* Only a connection whose transaction ended well is kept (:func:`keep`). Whatever else happened to it, it is closed.
* None is idle over a fork: SQLite's locks are a process's own, and a child that took them for its own would lose writes.
* One whose file was deleted or replaced is closed, and what is at its path now is opened.
* What a transaction left half-read is closed with it, so that the next one sees the newest state.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

IDLE = 4
"""How many idle connections a pool keeps: as many transactions of different threads go on without connecting."""

_KEEP = "fstore_keep"


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


class KeptConnection(sqlite3.Connection):
    """A connection that knows which file it has open, and what is being read from it."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._cursors: weakref.WeakSet[sqlite3.Cursor] = weakref.WeakSet()
        self._path: Path | None = None
        self._file: tuple[int, int] | None = None

    @classmethod
    def opening(cls, path: Path, address: str, **options: Any) -> KeptConnection:
        """Return a connection to the file at a path, which ``address`` tells SQLite how to open."""
        before = _file_at(path)
        opened = sqlite3.connect(address, uri=True, factory=cls, **options)
        opened._path = path
        opened._file = before if _file_at(path) == before else None  # replaced meanwhile: either may be open
        return opened

    def cursor(self, factory: Any = sqlite3.Cursor) -> Any:
        """Return a new cursor."""
        made = super().cursor(factory)
        self._cursors.add(made)
        return made

    def settle(self) -> None:
        """End all reading, which would hold on to the state that it began in."""
        for cursor in list(self._cursors):
            cursor.close()
        self._cursors.clear()

    def is_current(self) -> bool:
        """Whether the file that is open is the one that its path leads to."""
        return self._file is not None and self._path is not None and self._file == _file_at(self._path)


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
        while (record := self._taken()) is not None:
            connection: Any = record.dbapi_connection
            if connection.is_current():
                return record
            record.close()
        return self._create_connection()

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        connection: Any = record.dbapi_connection
        if connection is None or not record.info.pop(_KEEP, False) or not self.holders or len(self._idle) >= IDLE:
            record.close()
            return
        connection.settle()
        self._idle.append(record)
        if not self.holders:  # the last one left meanwhile, in another thread
            self.close_idle()

    def _taken(self) -> ConnectionPoolEntry | None:
        """Take the connection that was used last, of which SQLite's cache is the newest; None if there is none."""
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


def _file_at(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
