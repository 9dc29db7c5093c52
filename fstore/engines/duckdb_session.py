"""A locked DuckDB: memory, threads, spill directory and the only directories it may touch.

An instance is opened for a set of directories and can reach nothing else: no other file, no extension, no setting, no
Python variable. When a query needs another directory, a new instance is opened; readers of the old one keep it alive. Every
query gets a cursor of its own, so that no relation of one query is ever visible to another.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
import threading
from collections.abc import Collection
from pathlib import Path

import duckdb

from fstore.engines.duckdb_types import text_literal, without_wildcards
from fstore.errors import OutOfSpace, SettingsError, StoreUnavailable

_LOCK = "lock"


class Session:
    """Opens cursors. Safe to use and to close from several threads."""

    def __init__(self, *, memory_limit: str, threads: int, spill_dir: str) -> None:
        self._memory_limit, self._threads = memory_limit, threads
        self._guard = threading.Lock()
        self._instance: duckdb.DuckDBPyConnection | None = None
        self._allowed: frozenset[str] = frozenset()
        self._expected: frozenset[str] = frozenset()
        self._closed = False
        self._spill = SpillDirectory(Path(spill_dir))

    @property
    def spill_dir(self) -> Path:
        """The directory for temporary files that belongs to this session alone."""
        return self._spill.path

    def expect(self, directories: Collection[str]) -> None:
        """Take note of real directories that will be asked for: the next instance is opened for them, too."""
        with self._guard:
            self._expected |= _ended(directories)

    def cursor(self, directories: Collection[str] = ()) -> duckdb.DuckDBPyConnection:
        """Return a fresh connection that may read and write files below the given real directories."""
        wanted = _ended(directories)
        with self._guard:
            if self._closed:
                raise SettingsError("the engine is closed; open another one")
            if self._instance is None or not all(map(self._allows, wanted)):
                allowed = wanted | self._expected | (frozenset() if len(self._allowed) > 256 else self._allowed)
                self._instance = self._open(allowed)
                self._allowed, self._expected = allowed, frozenset()
            return self._instance.cursor()

    def _allows(self, directory: str) -> bool:
        """Whether a directory is one of those allowed, or below one."""
        return directory in self._allowed or any(directory.startswith(allowed) for allowed in self._allowed)

    def close(self) -> None:
        """Release memory, threads and spill files; repeating it is harmless."""
        with self._guard:
            self._closed = True
            instance, self._instance = self._instance, None
        if instance is not None:
            instance.close()
        self._spill.close()

    def _open(self, allowed: frozenset[str]) -> duckdb.DuckDBPyConnection:
        try:
            instance = duckdb.connect(
                config={
                    "memory_limit": self._memory_limit,
                    **({"threads": self._threads} if self._threads else {}),
                    "temp_directory": str(self._spill.path),
                    "python_enable_replacements": False,
                    "allow_community_extensions": False,
                    "autoinstall_known_extensions": False,
                    "autoload_known_extensions": False,
                    "allow_persistent_secrets": False,
                }
            )
        except duckdb.Error as error:
            raise SettingsError(
                f"DuckDB does not take memory_limit={self._memory_limit!r}, threads={self._threads}: {error}. Write a size "
                'such as "4GB" and a number of threads, 0 for one per core (FSTORE_MEMORY_LIMIT, FSTORE_THREADS).'
            ) from error
        instance.execute("SET GLOBAL TimeZone = 'UTC'")  # global: a plain SET holds for this connection, not its cursors
        spellings = {*allowed, *map(without_wildcards, allowed)}
        listed = ", ".join(text_literal(directory) for directory in sorted(spellings))
        instance.execute(f"SET allowed_directories = [{listed}]")
        instance.execute("SET enable_external_access = false")
        instance.execute("SET lock_configuration = true")
        return instance


def _ended(directories: Collection[str]) -> frozenset[str]:
    return frozenset(directory.rstrip("/") + "/" for directory in directories)


class SpillDirectory:
    """A directory of temporary files that no other process uses: DuckDB instances would overwrite each other's files.

    Held by a file lock; directories whose lock nobody holds belong to killed processes and are deleted on the way.
    """

    def __init__(self, parent: Path) -> None:
        try:
            parent.mkdir(parents=True, exist_ok=True)
            self.path = Path(tempfile.mkdtemp(prefix="duckdb-", dir=parent)).resolve()
            self._lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        except OSError as error:
            problem = f"no temporary files can be written to {parent}: {error}."
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise OutOfSpace(f"{problem} Free space there, then run again.") from error
            if error.errno in (errno.EIO, errno.ESTALE):
                raise StoreUnavailable(f"{problem} The disk or its network fails.") from error
            raise SettingsError(f"{problem} Give this user write permission there, or set FSTORE_SPILL_DIR.") from error
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        for other in parent.glob("duckdb-*"):
            _delete_abandoned(other)

    def close(self) -> None:
        """Delete the directory."""
        shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.close(self._lock)


def _delete_abandoned(directory: Path) -> None:
    try:
        lock = os.open(directory / _LOCK, os.O_RDWR)
    except OSError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    else:
        shutil.rmtree(directory, ignore_errors=True)
    finally:
        os.close(lock)
