"""Import the modules of a definitions directory: a package by the directory's name, with or without ``__init__.py``.

Always from source: compiled files are neither written nor trusted, because their check by whole seconds of modification time
misses two edits in one second. Used by the loader's child process, and by :func:`load_function` where a Python view runs.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

from fstore.definitions.feature_view import PythonFunction
from fstore.definitions.files import FileStamp, module_name, scan_definitions
from fstore.definitions.function_source import function_source
from fstore.definitions.uses import changed_use
from fstore.errors import DefinitionError


class SourceLoader(importlib.machinery.SourceFileLoader):
    """Loads a module from its source, never from a compiled file."""

    def get_code(self, fullname: str) -> CodeType:
        """Compile the module's source."""
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


class DefinitionFinder(importlib.abc.MetaPathFinder):
    """Finds the modules of one definitions directory, before any other finder is asked."""

    def __init__(self, directory: Path, loader: type[SourceLoader] = SourceLoader) -> None:
        self.directory, self.loader = directory, loader

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of a module or package of the directory; a folder without ``__init__.py`` is a package too."""
        first, *parts = fullname.split(".")
        if first != self.directory.name:
            return None
        folder = self.directory.joinpath(*parts)
        for file, search in ((folder / "__init__.py", [str(folder)]), (folder.with_name(f"{folder.name}.py"), None)):
            if file.is_file() and (parts or search):
                loader = self.loader(fullname, str(file))
                return importlib.util.spec_from_file_location(
                    fullname, file, loader=loader, submodule_search_locations=search
                )
        if not folder.is_dir():
            return None
        spec = importlib.machinery.ModuleSpec(fullname, None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
        return spec


_lock = threading.Lock()
_set_aside: list[dict[str, ModuleType]] = []
"""Packages of definitions that others had imported, such as a file of tests, before a function was loaded."""


@contextmanager
def modules_of(declared: type) -> Iterator[None]:
    """Have the modules in place with which a class was imported: loading a function may have set them aside since."""
    name = declared.__module__
    package = name.split(".")[0]
    with _lock:
        own = next((found for found in _set_aside if getattr(found.get(name), declared.__name__, None) is declared), None)
        if own is None:
            yield
            return
        others = _take_modules(package)
        sys.modules.update(own)
        try:
            yield
        finally:
            _take_modules(package)
            sys.modules.update(others)


def _take_modules(package: str) -> dict[str, ModuleType]:
    """Take the modules of a package out of those that are imported, and return them."""
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == package}


def load_function(directory: Path, function: PythonFunction) -> Callable[..., object]:
    """Import the function of a Python view from a definitions directory into this process.

    Modules imported before are used again until a file of the directory changes. Raises DefinitionError when the module or
    the function is gone, or when its source, or what the view says it uses, is not what was planned.
    """
    directory = directory.resolve()
    file = directory.parent / function.module
    with _lock:
        _forget_modules(directory)
        if not file.is_file():
            raise _changed(function, "its module is gone")
        module = importlib.import_module(module_name(directory, file))
    found = getattr(module, function.name, None)
    if not isinstance(found, FunctionType):
        raise _changed(function, "its module does not define it any more")
    if function_source(found) != function.source:
        raise _changed(function, "its source is not the one that was planned")
    for use in function.uses:
        if reason := changed_use(use, directory.parent):
            raise _changed(function, reason)
    return found


def _changed(function: PythonFunction, reason: str) -> DefinitionError:
    return DefinitionError(
        f"cannot be run: {reason}.",
        subject=f"function {function.name!r}",
        file=function.module,
        line=1,
        fix="Run `fstore plan` and start a new run, which will use the definition as it is now.",
    )


def _forget_modules(directory: Path) -> None:
    """Drop what was imported from another definitions directory of that name, or from older files of this one."""
    stamp = tuple(scan_definitions(directory))
    finders = [finder for finder in sys.meta_path if isinstance(finder, _StampedFinder)]
    same = [finder for finder in finders if finder.directory == directory and finder.stamp == stamp]
    if same:
        return
    for finder in finders:
        if finder.directory.name == directory.name:
            sys.meta_path.remove(finder)
    modules = _take_modules(directory.name)
    if any(not isinstance(getattr(module.__spec__, "loader", None), SourceLoader | None) for module in modules.values()):
        _set_aside.append(modules)
    sys.meta_path.insert(0, _StampedFinder(directory, stamp))


class _StampedFinder(DefinitionFinder):
    """A finder that knows the files which were there when it was made."""

    def __init__(self, directory: Path, stamp: tuple[FileStamp, ...]) -> None:
        super().__init__(directory)
        self.stamp = stamp
