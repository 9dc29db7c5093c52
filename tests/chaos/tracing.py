"""Run work in a process of its own under ``strace``, which writes its calls down and makes some fail or kill it.

The process is forked from one that has everything imported, and traced only from where its work begins, so calls have the
same numbers in every run; threads that it starts are traced as well and counted for themselves. Knows nothing of fstore.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import shutil
import signal
import subprocess
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.chaos.history import Event, History
from tests.chaos.kills import _LIBC, _die_with_parent

CALLS = (
    "openat", "write", "writev", "pwrite64", "pwritev", "pwritev2", "fsync", "fdatasync", "msync", "ftruncate", "fallocate",
    "rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat", "mkdir", "mkdirat",
)  # fmt: skip
"""The calls that can change a file."""

ALL = ("-y", "-s", "8", "-e", f"trace={','.join(CALLS)}")
"""Options of strace that write every one of them down, with the files that they are about."""

SECONDS = 120
"""How long the work may take; a process that hangs ends with status 124."""

_PR_SET_PTRACER = 0x59616D61


class Traced(NamedTuple):
    """The lines of a trace, what the process said, and its exit code, or minus the signal that ended it."""

    lines: list[str]
    events: list[Event]
    status: int


def reason_to_skip() -> str | None:
    """Return why calls cannot be made to fail here, None where they can."""
    strace = shutil.which("strace")
    if strace is None:
        return "there is no strace on the path"
    inject = "inject=getppid:error=EIO:when=1"
    command = [strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace=getppid", "-e", inject, "true"]
    probe = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    if probe.returncode:
        return f"strace may not trace or inject here: {probe.stderr.strip()[-200:] or probe.returncode}"
    return None


def run_traced(work: Callable[[History], None], trace: Path, what: Sequence[str] = ALL) -> Traced:
    """Do work in a traced process, which is given a history to speak to; ``what`` are options of strace."""
    trace.unlink(missing_ok=True)
    said = mmap.mmap(-1, 1 << 20)
    waits, goes = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if not pid:
        os.close(goes)
        _be_traced(work, said, waits, parent)
    os.close(waits)
    command = ["strace", "-f", "-o", str(trace), *what, "-p", str(pid)]
    strace = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        if "attached" not in (first := strace.stderr.readline() if strace.stderr else ""):
            raise RuntimeError(f"strace could not attach: {first}")
        os.write(goes, b".")
        status = _wait(pid)
    finally:
        os.close(goes)
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        strace.wait(timeout=30)
        if strace.stderr:
            strace.stderr.close()
    text = said[:].partition(b"\0")[0].decode()
    events = [json.loads(line) for line in text.splitlines()]
    said.close()
    return Traced(trace.read_text(encoding="utf-8", errors="replace").splitlines(), events, status)


def _wait(pid: int) -> int:
    """Wait for a process; return its exit code, or the signal that ended it as a negative number."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return 124


class _Memory(History):
    """A history in shared memory: saying something calls nothing that could be made to fail."""

    def __init__(self, memory: mmap.mmap) -> None:
        self.role, self._memory = "victim", memory

    def add(self, what: str, **facts: object) -> None:
        line = {"what": what, "role": self.role, "at": time.monotonic_ns(), **facts}
        self._memory.write(json.dumps(line, default=str).encode() + b"\n")


def _be_traced(work: Callable[[History], None], said: mmap.mmap, waits: int, parent: int) -> None:
    """Wait to be traced, then do the work."""
    try:
        _die_with_parent(parent)
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PTRACER, -1)
        os.read(waits, 1)
        work(_Memory(said))
    except BaseException:  # noqa: BLE001 (the process ends here)
        traceback.print_exc()
        os._exit(70)
    finally:
        os._exit(0)
