"""Connections to an SQLite file that can be kept (``kept.py``): which file is open, and what is being read from it."""

from __future__ import annotations

import sqlite3
import weakref
from pathlib import Path
from typing import Any


class SQLiteConnection(sqlite3.Connection):
    """A connection that knows which file it has open, and what is being read from it."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._cursors: weakref.WeakSet[sqlite3.Cursor] = weakref.WeakSet()
        self._path: Path | None = None
        self._file: tuple[int, int] | None = None

    @classmethod
    def opening(cls, path: Path, address: str, **options: Any) -> SQLiteConnection:
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
        """End all reading, which would hold on to the state that it began in: the next transaction sees the newest one."""
        for cursor in list(self._cursors):
            cursor.close()
        self._cursors.clear()

    def is_current(self) -> bool:
        """Whether the file that is open is the one that its path leads to, and not one that was deleted or replaced."""
        return self._file is not None and self._path is not None and self._file == _file_at(self._path)


def _file_at(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
