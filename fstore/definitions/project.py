"""A project: everything that the modules of ``feature_defs/`` declare, as one serializable value.

The loader makes it (in a child process), the compiler takes it. It holds what could be read and, as values, the problems
of what could not; it knows no schema of any source and checks nothing itself.
"""

from __future__ import annotations

import msgspec

from fstore.definitions.entity import Entity
from fstore.definitions.feature_view import View
from fstore.definitions.location import Location
from fstore.definitions.source import Source
from fstore.errors import DefinitionError


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """A definition error as a value: serializable, and convertible back to a ``DefinitionError``."""

    problem: str
    subject: str = ""
    file: str = ""
    line: int = 0
    fix: str = ""

    def as_error(self) -> DefinitionError:
        """Return the error that says the same."""
        return DefinitionError(self.problem, subject=self.subject, file=self.file, line=self.line, fix=self.fix)

    def __str__(self) -> str:
        return str(self.as_error())


class FeatureName(msgspec.Struct, frozen=True, kw_only=True):
    """A reference of a service: a whole view (no attribute), an attribute with all its windows, or one window of it."""

    view: str
    attribute: str | None = None
    window: str | None = None


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """A feature service as declared, its references by name."""

    name: str
    features: tuple[FeatureName, ...]
    location: Location
    owner: str = ""
    description: str = ""
    tags: dict[str, str] = {}


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """What a directory of definition modules declares.

    ``directory`` is the name of the definitions directory (``feature_defs``); the files of all locations are relative to
    the project's root (``feature_defs/orders.py``). Names are unique within each mapping: of two declarations with the same
    name neither is kept and ``problems`` says so.
    """

    project: str
    directory: str
    entities: dict[str, Entity] = {}
    sources: dict[str, Source] = {}
    views: dict[str, View] = {}
    services: dict[str, Service] = {}
    problems: tuple[Problem, ...] = ()
