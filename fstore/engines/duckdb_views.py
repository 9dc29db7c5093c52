"""A relation as a view of DuckDB: its SELECT, the Arrow objects that it reads and the directories it needs.

Made by the modules that know a kind of relation, used by the engine. Runs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import msgspec
import pyarrow as pa
import pyarrow.dataset as pads

from fstore.definitions.source import Source

ArrowSource: TypeAlias = pa.Table | pads.Dataset


class View(msgspec.Struct, frozen=True, kw_only=True):
    """A relation, ready to be made: the SELECT of its view, or None where the one Arrow object is the relation itself."""

    select: str | None
    objects: dict[str, ArrowSource] = {}
    directories: tuple[str, ...] = ()
    source: Source | None = None
    files: tuple[str, ...] = ()

    @property
    def remote(self) -> bool:
        """Whether files are read over a network."""
        return any(isinstance(held, pads.Dataset) for held in self.objects.values())


def composed(select: str, parts: Iterable[View], source: Source) -> View:
    """Return a view that reads other views."""
    views = list(parts)
    return View(
        select=select,
        objects={name: held for view in views for name, held in view.objects.items()},
        directories=tuple(dict.fromkeys(directory for view in views for directory in view.directories)),
        source=source,
        files=tuple(dict.fromkeys(file for view in views for file in view.files)),
    )
