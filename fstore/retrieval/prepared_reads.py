"""Prepared online reads: resolved once per list of features, and made anew when definitions have changed.

Takes the parts of one project; gives an :class:`~fstore.retrieval.online.OnlineResponse` per request. Asks the registry for
its version every few seconds, and at once when the store has rows that the prepared read does not know.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from fstore.errors import RetrievalError, StoreCorrupt
from fstore.retrieval.entity_rows import read_entity_rows, with_request
from fstore.retrieval.features import Wanted, as_texts, select_features
from fstore.retrieval.on_demand import on_demand_program
from fstore.retrieval.online import OnlineResponse, PreparedRead
from fstore.types import Column

if TYPE_CHECKING:
    from fstore.backends import Backends

_PLAN_SECONDS = 5.0
"""For how long a prepared online read is used before the registry is asked whether definitions changed."""


class OnlineReads:
    """Reads current features of one project; what :class:`~fstore.Client` says of its methods holds here."""

    def __init__(self, backends: Backends, clock: Callable[[], datetime]) -> None:
        self._backends, self._clock = backends, clock
        self._prepared: dict[tuple[tuple[str, ...] | str, bool], PreparedRead] = {}
        self._prepared_version, self._checked_at = -1, float("-inf")

    def read(
        self,
        features: Sequence[Wanted] | None,
        entities: Mapping[str, Sequence[object]] | Sequence[Mapping[str, object]] | None,
        *,
        request: Mapping[str, Sequence[object]] | None,
        service: str | None,
        full_names: bool,
    ) -> OnlineResponse:
        """Read the features of entities as they are now."""
        if entities is None:
            raise RetrievalError('entities is missing: pass the join keys, such as entities={"user_id": ["u1", "u2"]}')
        rows = with_request(read_entity_rows(entities), request)
        try:
            return self._prepare(features, service, full_names=full_names).read(self._backends.online, rows, self._clock())
        except StoreCorrupt:  # or a row of a definition that is newer than what was prepared
            if self._backends.registry.version() == self._prepared_version:
                raise
        self._checked_at = float("-inf")
        return self._prepare(features, service, full_names=full_names).read(self._backends.online, rows, self._clock())

    def _prepare(self, features: Sequence[Wanted] | None, service: str | None, *, full_names: bool) -> PreparedRead:
        """Return the prepared read of a list of features, made anew when definitions have changed."""
        registry = self._backends.registry
        if time.monotonic() - self._checked_at > _PLAN_SECONDS:
            version = registry.version()
            if version != self._prepared_version:
                self._prepared.clear()
            self._prepared_version, self._checked_at = version, time.monotonic()
        texts = None if features is None else as_texts(features)
        wanted = texts if texts is not None else service or ""
        prepared = self._prepared.get((wanted, full_names)) if (features is None) != (service is None) else None
        if prepared is None:
            selection = select_features(registry, features=texts, service=service, full_names=full_names)
            schemas = {view.step.view: _row_schemas(self._backends, view.step.view) for view in selection.views}
            prepared = PreparedRead(self._backends.settings.project, selection, schemas, self._how_to_refill,
                                    on_demand_program(self._backends, selection))  # fmt: skip
            self._prepared[wanted, full_names] = prepared
        return prepared

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


def _row_schemas(backends: Backends, view: str) -> list[list[Column]]:
    """Return the feature columns of every version of a view, which its stored rows may have."""
    return [
        [Column(name=feature.name, type=feature.type) for feature in step.features if feature.type is not None]
        for step in backends.registry.versions(view)
    ]
