"""What the step of a view is compiled from, as a key: equal keys, equal steps.

Takes a view, the keys of the views that it reads, its sources and their schemas, and gives a digest. Whoever compiles a
project again can hand the steps of the last time in as :class:`KnownSteps`, and only what has another key is compiled. The
version of fstore and of what it compiles with are no part of a key: whoever keeps steps keeps them apart by these.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Protocol

import msgspec

from fstore.definitions.feature_view import View
from fstore.definitions.project import Project
from fstore.definitions.source import Source, with_members
from fstore.plan.columns import Schemas
from fstore.plan.steps import Step


class KnownSteps(Protocol):
    """Steps of an earlier compilation by key."""

    def find(self, key: str) -> Step | None:
        """Return the step with a key."""

    def keep(self, key: str, step: Step) -> None:
        """Take note of a step."""


class StepKeys:
    """Gives the keys of one compilation; ``bound`` says whether an engine is asked what SQL gives."""

    def __init__(self, project: Project, schemas: Schemas, *, bound: bool) -> None:
        self._schemas = schemas
        self._common = _digest(project.project, project.directory, list(project.entities.items()), bound)
        self._sources: dict[str, str] = {}

    def key(self, view: View, sources: Iterable[Source], upstream: Iterable[str]) -> str:
        """Return the key of a view's step; ``upstream`` are the keys of the views that it reads, in its order."""
        return _digest(self._common, view, [self._source(source) for source in sources], list(upstream))

    def _source(self, source: Source) -> str:
        if source.name not in self._sources:
            parts = [(each, _listed(self._schemas, each.name)) for each in with_members(source)]
            self._sources[source.name] = _digest(parts)
        return self._sources[source.name]


def _listed(schemas: Schemas, source: str) -> list[tuple[str, str]] | None:
    columns = schemas.get(source)
    return None if columns is None else list(columns.items())


def _digest(*values: object) -> str:
    return hashlib.sha256(msgspec.json.encode(values)).hexdigest()
