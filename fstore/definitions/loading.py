"""What the loader's child process tells its parent: a line of JSON for everything that happens to a module.

The parent learns from it which module was being imported when the child hangs or dies.
"""

from __future__ import annotations

import msgspec

from fstore.decoding import decode_json
from fstore.definitions.project import Problem, Project


class Began(msgspec.Struct, frozen=True, tag="began"):
    """The import of a module began; ``file`` is relative to the project's root."""

    file: str


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """The innermost import that began is over, with or without success."""

    file: str


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """A module could not be imported, for a reason of its own."""

    file: str
    problem: Problem


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """Everything was imported: the last message. The project's problems do not repeat those of failed modules."""

    project: Project


Message = Began | Ended | Failed | Loaded
"""The closed union of messages."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What the child is asked to do: import the modules of a directory, but not those in ``skip``."""

    directory: str
    project: str
    skip: tuple[str, ...] = ()
    seconds: float = 600.0


def output_mark(file: str) -> bytes:
    """Return what the child writes between the modules' output: from here on it belongs to a file (none: to no module)."""
    return MARK + file.encode() + b"\0"


MARK = b"\0@fstore:"
"""How a mark in the output begins; it ends with a zero byte."""


def encode_message(message: Message | Request) -> bytes:
    """Return a message as one line."""
    return msgspec.json.encode(message) + b"\n"


def decode_message(line: bytes) -> Message:
    """Return the message of a line."""
    return decode_json(line, Message)  # type: ignore[arg-type]  # a union is no type[…] to mypy
