"""Load the definition modules of a project, whatever they do.

Takes the definitions directory and gives a :class:`Project`. The modules run in a child process with a timeout, so that a
module that hangs, exits, crashes or floods the output costs the others nothing: it is named as a problem, and the child is
started again without it. Nothing is cached here (see ``fstore.runtime.plan_cache``) and nothing is planned.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from fstore.definitions.files import definition_files, is_collected, twin_files
from fstore.definitions.loading import MARK, Began, Ended, Failed, Loaded, Request, decode_message, encode_message
from fstore.definitions.project import Problem as Problem  # noqa: PLC0414  (explicitly re-exported)
from fstore.definitions.project import Project as Project  # noqa: PLC0414
from fstore.definitions.project import Service as Service  # noqa: PLC0414

_TOTAL = 5
"""A whole load may take this many times the timeout of one module."""

_KEPT_OUTPUT_BYTES = 2_000
_LOUD_OUTPUT_BYTES = 1_000_000
_READS = 16
_MARK = MARK[1:]
_LONGEST_MARK = 8_192
_TICK_SECONDS = 0.05
_ANSWER_SECONDS = 1.0
_OWN_SECONDS = 10.0
"""How long the child may take for itself: to start, and to put together what the modules declare."""

_TRACE_LINE = re.compile(r'File "(.*)", line (\d+)')


def load_project(directory: Path, project: str, *, timeout: float = 30) -> Project:
    """Import the modules below a directory in a child process and return what they declare, with all problems.

    Every module may take ``timeout`` seconds, and all of them together five times that. Never raises for what the modules
    do; a directory that is missing or empty is a problem of the project, too.
    """
    directory = directory.resolve()
    if problem := _unusable(directory):
        return Project(project=project, directory=directory.name, problems=(problem,))
    deadline = time.monotonic() + _TOTAL * timeout
    stopped: dict[str, Problem] = {}
    while True:
        request = Request(directory=str(directory), project=project, skip=tuple(stopped), seconds=_TOTAL * timeout + 5)
        child = _Child(request, timeout, deadline)
        child.watch()
        if child.project is not None:
            return _merged(child.project, child.problems(), stopped)
        file, problem = child.stopped()
        if file in stopped or not file or time.monotonic() >= deadline:
            stopped[file] = problem
            return _unfinished(directory, project, stopped)
        stopped[file] = problem


def _unusable(directory: Path) -> Problem | None:
    """Say what to do about a directory without definition modules, or of an impossible name."""
    subject = f"definitions directory {str(directory)!r}"
    if not directory.is_dir():
        problem = "does not exist." if not directory.exists() else "is not a directory."
        return Problem(subject=subject, problem=problem, fix="Create it, or name another one in the setting `definitions`.")
    if directory.name in sys.stdlib_module_names or directory.name == "fstore":
        return Problem(
            subject=subject,
            problem=f"would hide the Python package {directory.name!r} from its own modules.",
            fix="Rename it, to `feature_defs` for example, and set `definitions` to that.",
        )
    try:
        found = [*definition_files(directory), *twin_files(directory)]
        files = [file for file in found if is_collected(directory, file)]
    except OSError as error:
        return Problem(subject=subject, problem=f"cannot be read: {error}.")
    if not files:
        return Problem(
            subject=subject,
            problem="holds no module (files whose name begins with an underscore or a dot do not count).",
            fix="Add one that declares a feature view, such as orders.py; `fstore init` writes an example.",
        )
    return None


def _merged(project: Project, failed: list[Problem], stopped: dict[str, Problem]) -> Project:
    problems = {*project.problems, *failed, *stopped.values()}
    ordered = sorted(problems, key=lambda problem: (problem.file, problem.line, str(problem)))
    return msgspec.structs.replace(project, problems=tuple(ordered), transient=bool(stopped))


def _unfinished(directory: Path, project: str, stopped: dict[str, Problem]) -> Project:
    """Return a project of nothing but problems: the time is up, or the child died outside of any module."""
    problems = sorted(stopped.values(), key=lambda problem: (problem.file, problem.line))
    culprits = ", ".join(file for file in stopped if file)
    rest = Problem(
        subject=f"definitions directory {str(directory)!r}",
        problem=f"was not loaded{f': {culprits} used up the time for it' if culprits else ''}.",
        fix="Solve that first, or raise the setting `load_timeout`.",
    )
    return Project(project=project, directory=directory.name, problems=(*problems, rest), transient=True)


class _Output:
    """What a module printed: how much, and the end of it."""

    def __init__(self) -> None:
        self.bytes, self.tail = 0, b""

    def add(self, data: bytes) -> None:
        self.bytes += len(data)
        self.tail = (self.tail + data)[-_KEPT_OUTPUT_BYTES:]

    def note(self) -> str:
        """Return what is worth knowing of it when the module fails."""
        lines = [line.strip() for line in self.tail.decode(errors="replace").splitlines() if line.strip()]
        if not lines:
            return ""
        size = f" {self.bytes / 1_000_000:.1f} MB, the last line being" if self.bytes >= _LOUD_OUTPUT_BYTES else ""
        return f"It printed{size}: {lines[-1][:80]!r}"


class _Child:
    """One run of the child process: what it said, and why it stopped."""

    def __init__(self, request: Request, timeout: float, deadline: float) -> None:
        self.timeout, self.deadline = timeout, deadline
        self.project: Project | None = None
        self.failures: list[Failed] = []
        self.importing: list[str] = []
        self.output: dict[str, _Output] = {}
        self.heard = time.monotonic()
        self.late = False
        self.trace: list[str] = []
        self.buffer = b""
        self.unread = b""
        self.printing = ""
        self.messages, writer = os.pipe()
        package = str(Path(__file__).resolve().parents[2])
        start = (
            f"import sys; sys.path += [{package!r}] * ({package!r} not in sys.path); "
            "from fstore.definitions.loader_child import main; main(sys.argv[1:])"
        )
        try:
            # -B: bytecode is checked by size and whole seconds, so a helper module edited twice in a second would stay old.
            self.process = subprocess.Popen(  # noqa: S603  (our own interpreter and code)
                [sys.executable, "-B", "-P", "-u", "-c", start, encode_message(request).decode().strip(), str(writer)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(writer,),
                start_new_session=True,
            )
        finally:
            os.close(writer)

    def watch(self) -> None:
        """Listen until the child has sent its project, has died, or is late; then end its whole process group."""
        assert self.process.stdout is not None
        os.set_blocking(self.messages, False)
        os.set_blocking(self.process.stdout.fileno(), False)
        with self.process.stdout, selectors.DefaultSelector() as selector:
            selector.register(self.messages, selectors.EVENT_READ)
            selector.register(self.process.stdout, selectors.EVENT_READ)
            try:
                while self.project is None and not self.late and self._listen(selector):
                    now = time.monotonic()
                    patience = self.timeout if self.importing else max(self.timeout, _OWN_SECONDS)
                    self.late = now - self.heard > patience or now > self.deadline
                if self.late and self.importing:  # before, nobody answers the signal
                    self._ask_for_the_line()
            finally:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
                os.close(self.messages)

    def _listen(self, selector: selectors.BaseSelector) -> bool:
        """Take what the child has said by now; return whether it may say more."""
        ended = self.process.poll() is not None
        if not ended:
            selector.select(_TICK_SECONDS)
        self._read_output()
        self._read_messages()
        return not ended

    def _ask_for_the_line(self) -> None:
        """Let a hanging child write where it is, which takes it no time unless it is stopped."""
        self.process.send_signal(signal.SIGUSR1)
        patience = time.monotonic() + _ANSWER_SECONDS
        while not self.trace and time.monotonic() < patience and self.process.poll() is None:
            time.sleep(_TICK_SECONDS / 5)
            self._read_messages()

    def _read_output(self) -> None:
        """Take what was printed, but not for ever: it may be printed as fast as it is read."""
        assert self.process.stdout is not None
        for _ in range(_READS):
            if not (data := _read(self.process.stdout.fileno())):
                return
            *parts, last = (self.unread + data).split(b"\0")
            for part in parts:
                self._take_output(part)
            unfinished = len(last) < _LONGEST_MARK and (last.startswith(_MARK) or _MARK.startswith(last))
            self.unread = last if unfinished else b""
            if not self.unread:
                self._take_output(last)

    def _take_output(self, part: bytes) -> None:
        """Take what is between two zero bytes of the output: a mark, or something that was printed."""
        if part.startswith(_MARK):
            self.printing = part.removeprefix(_MARK).decode()
        else:
            self.output.setdefault(self.printing, _Output()).add(part)

    def _read_messages(self) -> None:
        while data := _read(self.messages):
            self.buffer += data
        *lines, self.buffer = self.buffer.split(b"\n")
        for line in lines:
            if not line.startswith(b"{"):
                self.trace.append(line.decode(errors="replace"))  # of faulthandler
                continue
            self.heard = time.monotonic()
            match decode_message(line):
                case Began(file):
                    self.importing.append(file)
                case Ended():
                    self.importing.pop()
                case Failed() as failed:
                    self.failures.append(failed)
                case Loaded(project):
                    self.project = project

    def problems(self) -> list[Problem]:
        """Return the problems of the modules that could not be imported, with what they printed."""
        return [self._with_output(failed.file, failed.problem) for failed in self.failures]

    def _with_output(self, file: str, problem: Problem) -> Problem:
        note = self.output[file].note() if file in self.output else ""
        return msgspec.structs.replace(problem, fix=f"{problem.fix} {note}".strip())

    def stopped(self) -> tuple[str, Problem]:
        """Return the file that was being imported when the child stopped (none: no module was), and why it stopped."""
        if not self.importing:
            return "", self._with_output("", self._stopped_by_itself())
        file = self.importing[-1]
        code = self.process.returncode
        fix = ""
        if self.late:
            text = (
                f"was still being imported after {min(self.timeout, time.monotonic() - self.heard):.3g} s, and was stopped."
            )
            fix = "A definition module only declares: move what takes long into the function that needs it."
        elif code < 0:
            text = f"was being imported when the process was killed by {signal.Signals(-code).name}."
            fix = "Memory ran out, or a library that it imports crashed."
        else:
            text = f"ended the process with exit code {code} while it was imported."
            fix = "A definition module only declares: remove the call of os._exit."
        problem = Problem(file=file, line=self._line_of(file), subject="module", problem=text, fix=fix)
        return file, self._with_output(file, problem)

    def _stopped_by_itself(self) -> Problem:
        """Return why the child stopped while it imported no module."""
        subject = "the process that loads the definitions"
        if self.late:
            text = "was not done when the time was up, and was stopped."
            return Problem(subject=subject, problem=text, fix="Try again when the machine is less busy.")
        return Problem(subject=subject, problem=f"stopped with exit code {self.process.returncode}.")

    def _line_of(self, file: str) -> int:
        """Return the innermost line of a module in the traceback that the child left, or its first line."""
        for line in self.trace:
            if (found := _TRACE_LINE.search(line)) and found[1].endswith(f"/{file}"):
                return int(found[2])
        return 1


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except BlockingIOError:
        return b""
