"""Where in the user's files something was written, for error messages."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

_PACKAGE = str(Path(__file__).resolve().parent.parent)


class Location(msgspec.Struct, frozen=True):
    """A file and a line. Never part of a fingerprint: moving code changes nothing."""

    file: str
    line: int


def caller_location() -> Location:
    """Return the innermost frame outside of this package: the user's line that is being executed."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith((_PACKAGE, "<frozen", "<string>")):
        frame = frame.f_back
    return Location(frame.f_code.co_filename, frame.f_lineno)


class Located(msgspec.Struct, frozen=True, kw_only=True):
    """A declaration that remembers where it was written."""

    location: Location | None = None

    def __post_init__(self) -> None:
        if self.location is None:
            msgspec.structs.force_setattr(self, "location", caller_location())


class Named(Located, frozen=True):
    """A declaration with a name, which is given first and by position."""

    name: str
