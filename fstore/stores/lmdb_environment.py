"""LMDB environments of this process: one per directory, shared by the stores that use it.

Gives transactions, and does what LMDB leaves to its user: let the map grow, follow other processes that grew it, free the
slots of killed readers, open for reading where writing is not allowed, and survive forks. Knows nothing of rows.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import lmdb

Result = TypeVar("Result")

DATA_FILE = "data.mdb"
REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
"""What the system says when it refuses to write."""

FIRST_MAP_BYTES = 1 << 30
MAX_READERS = 1024


class Environment:
    """An open LMDB environment: one per directory and process, because LMDB's locks belong to the process.

    Transactions go on side by side; resizing the map and closing wait until there is none and let none begin.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environment = _open(path)
        self.identity = identity_of(str(path / DATA_FILE))
        self.closed = False
        self.users = 0
        self._inside = self._waiting = 0
        self._lock = threading.RLock()
        self._condition = threading.Condition(self._lock)

    @contextmanager
    def transaction(self, *, write: bool) -> Iterator[lmdb.Transaction[bytes] | None]:
        """Begin a transaction, and commit it unless an error is raised; gives None when the environment was closed."""
        with self._condition:
            self._inside += 1
        try:
            if self.closed:
                yield None
                return
            if write and self.environment.flags()["readonly"]:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            with self.environment.begin(write=write, buffers=False) as transaction:
                yield transaction
        finally:
            with self._condition:
                self._inside -= 1
                if self._waiting:
                    self._condition.notify_all()

    def read(self, work: Callable[[Callable[[bytes], bytes | None]], Result]) -> Result | None:
        """Do what needs no more than looking up keys, in one transaction; gives None when the environment was closed.

        The same as :meth:`transaction`, without what only writers need.
        """
        with self._lock:
            self._inside += 1
        try:
            if self.closed:
                return None
            with self.environment.begin() as transaction:
                return work(transaction.get)
        finally:
            with self._lock:
                self._inside -= 1
                if self._waiting:
                    self._condition.notify_all()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._condition:
            self._wait()
            yield

    def grow(self) -> None:
        """Double the map: a transaction did not fit."""
        with self._alone():
            if not self.closed:
                self.environment.set_mapsize(self.environment.info()["map_size"] * 2)

    def adopt_size(self) -> None:
        """Take over the map size that another process has set."""
        with self._alone():
            if not self.closed:
                self.environment.set_mapsize(0)

    def unmap_pages(self) -> None:
        """Let go of the pages that a long write has touched: they are the file's, but count as this process's memory.

        Does nothing while there is a transaction, which is rare and harmless.
        """
        with self._condition:
            if not self._inside and not self.closed:
                self.environment.set_mapsize(self.environment.info()["map_size"])

    def clear_dead_readers(self) -> int:
        """Free the reader slots of processes that were killed, and return how many those were."""
        with self._alone():
            return 0 if self.closed else self.environment.reader_check()

    def release(self) -> None:
        """Give up one use, and close after the last. Needs the lock of the module."""
        self.users -= 1
        if self.users <= 0:
            self.close()

    def close(self) -> None:
        """Close for every user, who will open another. Needs the lock of the module."""
        with self._alone():
            if not self.closed:
                self.closed = True
                self.environment.close()
        for place in [place for place, environment in _OPEN.items() if environment is self]:
            del _OPEN[place]

    def pause(self) -> None:
        """Wait for the transactions of other threads, and let none begin until :meth:`resume`."""
        self._condition.acquire()
        self._wait()

    def _wait(self) -> None:
        """Wait until nobody is in a transaction. Needs the condition, and has it afterwards."""
        self._waiting += 1
        self._condition.wait_for(lambda: self._inside == 0)
        self._waiting -= 1

    def resume(self) -> None:
        """Let transactions begin again."""
        self._condition.release()


_OPEN: dict[str, Environment] = {}
LOCK = threading.RLock()
"""Guards ``_OPEN`` and who uses which environment; taken before an environment's own condition, never after it."""


def acquire(path: Path) -> Environment:
    """Return the process's environment of a directory, opened by the first who asks. Needs the lock of the module."""
    place = str(path.resolve())
    environment = _OPEN.get(place)
    if environment is not None and environment.identity != identity_of(str(path / DATA_FILE)):
        environment.close()
        environment = None
    if environment is None:
        environment = _OPEN[place] = Environment(path)
    environment.users += 1
    return environment


def _open(path: Path) -> lmdb.Environment:
    """Open for writing if that is allowed, else for reading with the lock file, else without it."""
    try:
        return lmdb.open(str(path), map_size=FIRST_MAP_BYTES, max_readers=MAX_READERS, mode=0o664, readahead=False)
    except (lmdb.Error, OSError) as error:
        if (error.errno if isinstance(error, OSError) else error.code) not in REFUSED:
            raise
    try:
        return lmdb.open(str(path), readonly=True, create=False, max_readers=MAX_READERS, readahead=False)
    except (lmdb.Error, OSError):
        return lmdb.open(str(path), readonly=True, create=False, lock=False, readahead=False)


def identity_of(file: str) -> tuple[int, int] | None:
    """Return what tells the environment's file from another that took its place, or None when there is none."""
    try:
        status = os.stat(file)  # noqa: PTH116 (every read asks, and a path takes twice as long)
    except (FileNotFoundError, NotADirectoryError):  # the latter below a file
        return None
    return status.st_dev, status.st_ino


# LMDB forbids using an environment after a fork, and the binding forbids opening it twice. So a fork waits until no thread
# is in a transaction, and the child closes what it inherited: the parent's locks and reader slots stay as they are.


def _before_fork() -> None:
    LOCK.acquire()
    for environment in _OPEN.values():
        environment.pause()


def _after_fork_in_parent() -> None:
    for environment in _OPEN.values():
        environment.resume()
    LOCK.release()


def _after_fork_in_child() -> None:
    for environment in list(_OPEN.values()):
        environment.resume()
        environment.close()
    LOCK.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
