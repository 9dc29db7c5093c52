"""Load many small projects, each in a process forked from one that has already imported what the loader's child imports.

Four fifths of the time of loading a small project are the start of its process. :class:`ForkedLoader` is the test's side:
it starts this file as a process of its own, which has one thread and none of the tests' modules. There the loader is the
real one except for how its child begins, and every project still has a process to itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Self


class ForkedLoader:
    """Gives the problems of projects; a context manager."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-B", "-P", "-u", "-W", "error", __file__]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def problems(self, directory: Path) -> list[str]:
        """Return the problems of the definitions below a directory."""
        print(directory, file=self._process.stdin, flush=True)
        found: list[str] = json.loads(self._process.stdout.readline())
        return found

    def __exit__(self, *exception: object) -> None:
        self._process.communicate()
        assert self._process.returncode == 0


class Forked:
    """What the loader uses of a ``Popen``, for a process that begins as a copy of this one."""

    def __init__(self, arguments: Sequence[str], **_: object) -> None:
        reader, writer = os.pipe()
        self.returncode: int | None = None
        self.pid = os.fork()
        if not self.pid:
            begin(arguments[-2:], writer)
        os.close(writer)
        self.stdout = open(reader, "rb", buffering=0)  # noqa: SIM115, PTH123  (the loader closes it)

    def poll(self) -> int | None:
        return self._wait(os.WNOHANG)

    def wait(self) -> int | None:
        return self._wait(0)

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def _wait(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode


def begin(arguments: Sequence[str], output: int) -> None:
    """Do what a new child does, in a process group of its own; never returns."""
    from fstore.definitions.loader_child import main

    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        main(arguments)
    except BaseException:  # noqa: BLE001  (whatever it is, this copy must not go on as a server)
        traceback.print_exc()
    finally:
        os._exit(1)


def serve() -> None:
    """Load the directory on every line of stdin, and answer with a line of JSON."""
    import fstore.definitions.loader_child  # noqa: F401  (what every child needs)
    from fstore.definitions import loader

    loader.subprocess.Popen = Forked
    for line in sys.stdin:
        problems = loader.load_project(Path(line.rstrip("\n")), "shop").problems
        sys.stdout.write(json.dumps([str(problem) for problem in problems]) + "\n")


if __name__ == "__main__":
    serve()
