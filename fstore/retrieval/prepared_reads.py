"""Prepared online reads: resolved once per list of features, and made anew when definitions have changed.

Asks the registry for its version every few seconds, and at once when the store has rows that the prepared read does not
know. Both clients use one: what may ask the registry, and so wait, is apart from what does not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias

from fstore.errors import StoreCorrupt
from fstore.retrieval.features import Wanted, as_texts, select_features
from fstore.retrieval.on_demand import on_demand_program
from fstore.retrieval.online import PreparedRead
from fstore.retrieval.online_entities import Entities, OnlineEntities
from fstore.retrieval.online_response import OnlineResponse
from fstore.types import Column

if TYPE_CHECKING:
    from fstore.backends import Backends

MOST_ENTITIES = 100_000
"""How many entities one online read may have: a store answers nobody else meanwhile."""

_PLAN_SECONDS = 5.0
"""For how long a prepared online read is used before the registry is asked whether definitions changed."""

_Name: TypeAlias = tuple[tuple[str, ...] | str, bool]


class PreparedReads:
    """The prepared reads of one client. ``known`` never waits; ``prepare`` may ask the registry."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self._prepared: dict[_Name, PreparedRead] = {}
        self._version, self._checked_at = -1, float("-inf")

    def known(self, features: Sequence[Wanted] | None, service: str | None, *, full_names: bool) -> PreparedRead | None:
        """Return the prepared read of a list of features, or None when the registry has to be asked."""
        if time.monotonic() - self._checked_at > _PLAN_SECONDS or (features is None) == (service is None):
            return None
        return self._prepared.get((_name(features) or service or "", full_names))

    def prepare(self, features: Sequence[Wanted] | None, service: str | None, *, full_names: bool) -> PreparedRead:
        """Return the prepared read of a list of features, made anew when definitions have changed.

        Raises UnknownFeature, FeatureNameClash and RetrievalError.
        """
        backends = self._backends
        if time.monotonic() - self._checked_at > _PLAN_SECONDS:
            version = backends.registry.version()
            if version != self._version:
                self._prepared.clear()
            self._version, self._checked_at = version, time.monotonic()
        found = self.known(features, service, full_names=full_names)
        if found is None:
            texts = as_texts(features)
            selection = select_features(backends.registry, features=texts, service=service, full_names=full_names)
            schemas = {view.step.view: _row_schemas(backends, view.step.view) for view in selection.views}
            found = PreparedRead(backends.settings.project, selection, schemas, self._how_to_refill,
                                 on_demand_program(backends, selection))  # fmt: skip
            self._prepared[texts or service or "", full_names] = found
        return found

    def renew(self) -> bool:
        """Ask the registry at the next read, and return whether it has definitions that are not prepared yet."""
        self._checked_at = float("-inf")
        return self._backends.registry.version() != self._version

    def _how_to_refill(self, view: str) -> str:
        """Say how a view that the online store lost gets there again."""
        newest = self._backends.registry.ledger.newest(view)
        if newest is None:
            return f"Nothing of it is published yet: `fstore run --select {view}` computes what is due."
        last = self._backends.registry.view(view).step.schedule.interval_ending_by(newest.end)
        return (
            "Publish its newest interval again: "
            f"`fstore run --select {view} --start {last.start:%Y-%m-%dT%H:%M} --end {last.end:%Y-%m-%dT%H:%M}`."
        )


class OnlineReads:
    """Reads current features of one project; what :class:`~fstore.Client` says of its methods holds here."""

    def __init__(self, backends: Backends, clock: Callable[[], datetime]) -> None:
        self._backends, self._clock = backends, clock
        self._plans = PreparedReads(backends)

    def read(
        self,
        features: Sequence[Wanted] | None,
        entities: Entities | None,
        *,
        request: Mapping[str, Sequence[object]] | None,
        service: str | None,
        full_names: bool,
        timeout: float | None = None,
    ) -> OnlineResponse:
        """Read the features of entities as they are now."""
        deadline = None if timeout is None else time.monotonic() + timeout
        rows = OnlineEntities(entities, request, MOST_ENTITIES)
        plan = self._plans.known(features, service, full_names=full_names)
        if plan is None:
            plan = self._plans.prepare(features, service, full_names=full_names)
        try:
            return self._answer(plan, rows, deadline)
        except StoreCorrupt:  # or a row of a definition that is newer than what was prepared
            if not self._plans.renew():
                raise
        return self._answer(self._plans.prepare(features, service, full_names=full_names), rows, deadline)

    def _answer(self, plan: PreparedRead, rows: OnlineEntities, deadline: float | None) -> OnlineResponse:
        asked = plan.ask(rows)
        found = self._backends.online.read_views(asked.keys, deadline=deadline)
        return plan.respond(asked, found, self._clock())


def _name(features: Sequence[Wanted] | None) -> tuple[str, ...] | None:
    """Return a list of features as texts, the usual ones as they are."""
    if type(features) is list and set(map(type, features)) == {str}:
        return tuple(features)
    return as_texts(features)


def _row_schemas(backends: Backends, view: str) -> list[list[Column]]:
    """Return the feature columns of every version of a view, which its stored rows may have."""
    return [
        [Column(name=feature.name, type=feature.type) for feature in step.features if feature.type is not None]
        for step in backends.registry.versions(view)
    ]
