"""What tests of views share within a process: one engine, one directory for rows, and the steps compiled so far.

An engine takes some 15 ms to open and a view some 10 ms to compile, so both are kept until pytest ends.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Hashable
from pathlib import Path

from fstore.engines.duckdb import DuckDBEngine
from fstore.plan.steps import Step

_sessions: list[Session] = []


class Session:
    """An engine with a directory of its own."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="fstore-test-"))
        self.engine = DuckDBEngine(
            memory_limit="1GB", threads=1, spill_dir=str(self.directory / "spill"), root=str(self.directory)
        )
        self._steps: dict[Hashable, Step] = {}
        self._files = 0

    def file(self) -> Path:
        """Return the path of a new file: an engine may remember what an old one holds."""
        self._files += 1
        return self.directory / f"rows-{self._files}.parquet"

    def remove(self, path: str) -> None:
        """Remove a file of rows."""
        Path(path).unlink(missing_ok=True)

    def step(self, key: Hashable, compile_: Callable[[], Step]) -> Step:
        """Return what was compiled for a key, or compile it."""
        if key not in self._steps:
            self._steps[key] = compile_()
        return self._steps[key]

    def close(self) -> None:
        """Close the engine and remove the directory."""
        self.engine.close()
        shutil.rmtree(self.directory, ignore_errors=True)


def current_session() -> Session:
    """Return the session of this process, opened on first use and closed at its end."""
    if not _sessions:
        _sessions.append(Session())
        atexit.register(close_session)
    return _sessions[0]


def close_session() -> None:
    """Close the session of this process, if there is one."""
    while _sessions:
        _sessions.pop().close()
