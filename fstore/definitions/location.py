"""Where in the user's files something was written, for error messages and for the module that owns a view.

Found by walking the stack while the declaration runs; nothing is parsed. The loader sets the project's root, so that files
in it are named relative to it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

import msgspec

_PACKAGE = f"{Path(__file__).resolve().parent.parent}/"


class Location(msgspec.Struct, frozen=True):
    """A file and a line. Never part of a fingerprint: moving code changes nothing."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class _Origin:
    """The project that is being loaded by this process: prefixes of file names, both ending in a slash."""

    root = ""
    definitions = ""


def locate_from(directory: Path) -> None:
    """Name the files of the project whose definition modules are in ``directory`` relative to its parent from now on."""
    _Origin.root = f"{directory.parent}/".replace("//", "/")
    _Origin.definitions = f"{directory}/"


def display_path(file: str) -> str:
    """Return a file's path relative to the project's root where it lies in it."""
    return file.removeprefix(_Origin.root) if _Origin.root and file.startswith(_Origin.root) else file


def project_root() -> Path | None:
    """Return the root of the project that is being loaded, if one is."""
    return Path(_Origin.root) if _Origin.root else None


def is_definition_file(file: str) -> bool:
    """Whether a file is a definition module of the project being loaded; any file is when none is being loaded."""
    return not _Origin.definitions or file.startswith(_Origin.definitions)


def frame_location(frame: FrameType) -> Location:
    """Return the line that a frame is executing."""
    return Location(display_path(frame.f_code.co_filename), frame.f_lineno)


def caller_location() -> Location:
    """Return the innermost frame outside of this package: the user's line that is being executed."""
    return frame_location(_caller())


def defining_module() -> str:
    """Return the definition module that is being executed, the innermost one if one imports another.

    A view that a function of another file makes belongs to the module that called the function.
    """
    frame: FrameType | None = _caller()
    innermost = display_path(frame.f_code.co_filename) if frame else ""
    while frame is not None:
        file = frame.f_code.co_filename
        if frame.f_code.co_name == "<module>" and _Origin.definitions and file.startswith(_Origin.definitions):
            return display_path(file)
        frame = frame.f_back
    return innermost


def _caller() -> FrameType:
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith((_PACKAGE, "<frozen", "<string>")):
        frame = frame.f_back
    return frame


class Located(msgspec.Struct, frozen=True, kw_only=True):
    """A declaration that remembers where it was written."""

    location: Location | None = None

    def __post_init__(self) -> None:
        if self.location is None:
            msgspec.structs.force_setattr(self, "location", caller_location())


class Named(Located, frozen=True):
    """A declaration with a name, which is given first and by position."""

    name: str
