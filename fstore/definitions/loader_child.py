"""The loader's child process: import the definition modules and send what they declare.

Started by :mod:`fstore.definitions.loader` with a :class:`Request` on the command line, in a process group of its own. It
writes messages to a file descriptor of its own, never to stdout, which belongs to the modules. It may be killed at any time.
"""

from __future__ import annotations

import faulthandler
import importlib
import os
import signal
import sys
import sysconfig
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, TracebackType

import msgspec

from fstore.decoding import decode_json
from fstore.definitions import location
from fstore.definitions.assemble import assemble_project, module_values
from fstore.definitions.feature_view import declared_views
from fstore.definitions.files import definition_files, is_collected, module_name, twin_files
from fstore.definitions.loading import Began, Ended, Failed, Loaded, Message, Request, encode_message, output_mark
from fstore.definitions.modules import DefinitionFinder, SourceLoader
from fstore.definitions.project import Problem, Project
from fstore.definitions.twins import load_twins
from fstore.definitions.uses import examined_files
from fstore.errors import did_you_mean

_LONGEST_DETAIL = 500
"""How many characters of an exception's message are reported."""


def main(arguments: Sequence[str]) -> None:
    """Load what a request (JSON) names, and write messages to a file descriptor (a number)."""
    request = decode_json(arguments[0], Request)
    signal.setitimer(signal.ITIMER_REAL, request.seconds)  # should the parent be killed, nobody else ends a hanging module
    directory = Path(request.directory)
    os.chdir(directory.parent)
    sys.path.append(str(directory.parent))
    location.locate_from(directory)
    run = _Run(directory, request, int(arguments[1]))
    run.import_all()
    run.send(Loaded(run.project()))
    os._exit(0)  # threads that the modules started must not keep the process


class Blocked(Exception):
    """A module was not imported because one that it imports has a problem of its own."""

    def __init__(self, file: str) -> None:
        self.file = file
        super().__init__(f"{file} has a problem of its own")


class _Run:
    """The state of one load: which modules were imported, and which failed."""

    def __init__(self, directory: Path, request: Request, descriptor: int) -> None:
        self.directory, self.request, self.descriptor = directory, request, descriptor
        os.set_inheritable(descriptor, False)
        faulthandler.enable(descriptor, all_threads=False)  # says at which line a library crashed
        faulthandler.register(signal.SIGUSR1, descriptor, all_threads=False)  # the parent asks at which line it hangs
        self.failed: set[str] = set(request.skip)
        self.modules: dict[str, ModuleType] = {}
        self.before = set(sys.modules)
        self.importing: list[str] = []
        self.output = os.dup(1)  # stays when a module closes or redirects its own
        run = self

        class Loader(SourceLoader):
            """Tells the parent about every module, and imports none twice that failed."""

            def exec_module(self, module: ModuleType) -> None:
                run.execute(self, module)

        self.loader = Loader
        sys.meta_path.insert(0, DefinitionFinder(directory, Loader))

    def send(self, message: Message) -> None:
        """Write a message to the parent."""
        data = encode_message(message)
        while data:
            data = data[os.write(self.descriptor, data) :]

    def import_all(self) -> None:
        """Import every module that is collected on its own, whatever the others do."""
        for file in definition_files(self.directory):
            if is_collected(self.directory, file) and self.display(file) not in self.failed:
                try:
                    importlib.import_module(module_name(self.directory, file))
                except BaseException as error:  # noqa: BLE001  (a module can raise anything; it was recorded where it did)
                    self.record(self.display(file), error)

    def execute(self, loader: SourceLoader, module: ModuleType) -> None:
        """Execute a module's code, unless it failed before."""
        file = self.display(Path(str(module.__file__)))
        if file in self.failed:
            raise Blocked(file)
        self.enter(file)
        try:
            super(type(loader), loader).exec_module(module)
        except BaseException as error:
            self.record(file, error)
            raise Blocked(file) from error
        else:
            self.modules[file] = module
        finally:
            self.leave(file)

    def enter(self, file: str) -> None:
        """Tell the parent that a module begins."""
        self.importing.append(file)
        os.write(self.output, output_mark(file))
        self.send(Began(file))

    def leave(self, file: str) -> None:
        """Tell the parent that the innermost module is over."""
        self.importing.pop()
        os.write(self.output, output_mark(self.importing[-1] if self.importing else ""))
        self.send(Ended(file))

    def record(self, file: str, error: BaseException) -> None:
        """Remember that a module failed, once."""
        if file not in self.failed:
            self.failed.add(file)
            self.send(Failed(file, self.problem_of(file, error)))

    def problem_of(self, file: str, error: BaseException) -> Problem:
        """Say why a module could not be imported, at the innermost line of the project's modules."""
        if isinstance(error, Blocked):
            line = self.line_of(file, error)
            return _problem(file, line, f"is blocked by {error.file}.", "Solve the problem there first.")
        if isinstance(error, SyntaxError) and str(error.filename).startswith(f"{self.directory}/"):
            where = location.display_path(str(error.filename))
            if "codec can't decode" in error.msg:
                return _problem(where, 1, "is not UTF-8 text.", "Save it as UTF-8.")
            return _problem(where, error.lineno or 1, f"is not valid Python: {error.msg}.")
        where, line = self.innermost(error.__traceback__) or (file, 1)
        during = "" if where == file else f" while {file} was imported"
        if isinstance(error, SystemExit):
            text = f"calls sys.exit({error.code!r}){during}; a definition module only declares."
            return _problem(where, line, text, "Remove the call.")
        detail = _describe(error)
        fix = self.import_fix(error) if isinstance(error, ModuleNotFoundError) else ""
        ending = "" if detail.endswith(("?", "!", "…")) and not during else "."
        return _problem(where, line, f"raises {detail.rstrip('.')}{during}{ending}", fix)

    def import_fix(self, error: ModuleNotFoundError) -> str:
        """Suggest the module of the project that was meant, or what to do about one that is not installed."""
        name = error.name or ""
        if name.split(".")[0] != self.directory.name:
            return f"Install it, or import {name} inside of the function that needs it, where the view runs."
        known = [module_name(self.directory, file) for file in definition_files(self.directory)]
        return did_you_mean(name, known).strip()

    def innermost(self, trace: TracebackType | None) -> tuple[str, int] | None:
        """Return the innermost line of a definition module in a traceback."""
        found = None
        for frame, line in traceback.walk_tb(trace):
            if frame.f_code.co_filename.startswith(f"{self.directory}/"):
                found = (location.display_path(frame.f_code.co_filename), line)
        return found

    def line_of(self, file: str, error: BaseException) -> int:
        """Return the line of a module at which an error passed through it."""
        lines = [
            line
            for frame, line in traceback.walk_tb(error.__traceback__)
            if location.display_path(frame.f_code.co_filename) == file
        ]
        return lines[-1] if lines else 1

    def display(self, file: Path) -> str:
        """Return a file's path relative to the project's root."""
        return location.display_path(str(file))

    def project(self) -> Project:
        """Return what the modules declare."""
        views = declared_views()
        sound = [view for view in views if view.__body__.module not in self.failed]
        files = {self.display(file): file for file in twin_files(self.directory) if is_collected(self.directory, file)}
        twins = load_twins(files, module_values(self.modules), sound) if files else None
        project = assemble_project(self.request.project, self.directory.name, self.modules, views, self.failed, twins=twins)
        outside = self.imported_files() | examined_files()
        return msgspec.structs.replace(project, dependencies=tuple(sorted(outside)))

    def imported_files(self) -> set[str]:
        """Return the files that were imported from neither the definitions directory nor the Python environment."""
        inside = (f"{self.directory}/", *{f"{prefix}/" for prefix in (sys.prefix, sys.base_prefix)}, *_environment())
        files = {
            str(getattr(module, "__file__", None) or "")
            for name, module in list(sys.modules.items())
            if name not in self.before
        }
        return {file for file in files if file.endswith(".py") and not file.startswith(inside)}


def _environment() -> set[str]:
    """Return the folders, with a slash at the end, of the standard library, of installed packages and of fstore itself."""
    own = Path(__file__).parents[1]
    return {f"{own}/", *(f"{folder}/" for folder in sysconfig.get_paths().values())}


def _describe(error: BaseException) -> str:
    """Return an exception's type and message on one line, in the same words in every version of Python."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        text = " ".join(str(error).split())
    except Exception:  # noqa: BLE001  (the user's own __str__)
        text = "(its text cannot be shown)"
    detail = f"{name}: {text}" if text else name
    return detail if len(detail) <= _LONGEST_DETAIL else f"{detail[:_LONGEST_DETAIL]}…"


def _problem(file: str, line: int, text: str, fix: str = "") -> Problem:
    return Problem(file=file, line=line, subject="module", problem=text, fix=fix)


if __name__ == "__main__":
    main(sys.argv[1:])
