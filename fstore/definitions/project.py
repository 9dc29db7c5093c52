"""The project: everything that the modules of ``feature_defs/`` declare, as one serializable value.

The loader makes it and the plan compiler reads it. It holds declarations only: no Python objects of the user's modules, no
schemas, no settings. Files in it are relative to the project's root, so that it is the same on every machine.
"""

from __future__ import annotations

import msgspec

from fstore.definitions.entity import Entity
from fstore.definitions.feature_view import View
from fstore.definitions.location import Location
from fstore.definitions.on_demand import OnDemandFeature
from fstore.definitions.references import FeatureName as FeatureName  # noqa: PLC0414  (explicitly re-exported)
from fstore.definitions.source import Source
from fstore.errors import DefinitionError


class Problem(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A definition error as a value: serializable, and convertible back to a :class:`DefinitionError`."""

    file: str = ""
    line: int = 0
    subject: str = ""
    problem: str
    fix: str = ""

    def as_error(self) -> DefinitionError:
        """Return the exception that says the same."""
        return DefinitionError(self.problem, subject=self.subject, file=self.file, line=self.line, fix=self.fix)

    def __str__(self) -> str:
        return str(self.as_error())


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
    the project's root (``feature_defs/orders.py``). Entities, sources, views and services are keyed by name, ordered by
    file and then by place in the file. Only those without a problem are in them; of two declarations with the same name
    neither is kept. ``broken`` gives the place of every view that was declared and has a problem, so that its dependents
    can be told what blocks them. ``dependencies`` are the absolute paths of files that the modules imported from outside of
    the definitions directory and of the Python environment, and of those that views say they use. ``transient`` says that a
    module timed out or was killed, so that loading again may give another result.
    """

    project: str
    directory: str
    entities: dict[str, Entity] = {}
    sources: dict[str, Source] = {}
    views: dict[str, View] = {}
    services: dict[str, Service] = {}
    on_demand: dict[str, OnDemandFeature] = {}
    problems: tuple[Problem, ...] = ()
    broken: dict[str, Location] = {}
    dependencies: tuple[str, ...] = ()
    transient: bool = False
