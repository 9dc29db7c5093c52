"""Online reads: the values that a point-in-time join at this moment would give, from the online store.

A read is prepared once per list of features, and then goes from entities to the keys that a store has to look up, and from
the rows that it found to a response. Nothing here connects to anything or waits, so a blocking and an asyncio client share
all of it. Touches neither the offline store nor the engine, unless features are computed on demand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import pyarrow as pa

from fstore.errors import FloorMissing, RetrievalError
from fstore.retrieval.features import SelectedView, Selection, refuse_taken
from fstore.retrieval.offline_part import OfflinePart
from fstore.retrieval.on_demand import OnDemandProgram
from fstore.retrieval.online_entities import Mask, OnlineEntities
from fstore.retrieval.online_response import OnlineResponse, Outputs, Place
from fstore.retrieval.online_values import Reading, ViewJudge, ViewValues
from fstore.stores.online import OnlineView, ViewKeys, ViewRows
from fstore.types import Column


class Asked:
    """One request, and what a store has to be asked for it: ``keys`` are one request per join of a view."""

    def __init__(self, entities: OnlineEntities, keys: list[ViewKeys], complete: list[Mask | None]) -> None:
        self.entities, self.keys, self.complete = entities, keys, complete


class PreparedView:
    """Everything about one join of a view that a read needs and that does not depend on the entities."""

    def __init__(
        self, project: str, view: SelectedView, schemas: Sequence[Sequence[Column]], refill: Callable[[str], str]
    ) -> None:
        self.view, self._refill = view, refill
        self.name = OnlineView(project=project, view=view.step.view, generation=view.generation)
        self.token = (self.name, view.fingerprint)
        self.judge = ViewJudge(view, schemas)
        self._keys, self._label = view.keys, view.label

    def keys(self, entities: OnlineEntities) -> tuple[list[bytes], Mask | None]:
        """Return the encoded keys of the entities, and which have one (None: all)."""
        return entities.keys(self._keys, self.judge.codec, self._label)

    def settle(self, found: ViewRows) -> list[bytes]:
        """Return rows of which each stands for itself, as a cache may keep them. Raises FloorMissing and StoreCorrupt."""
        if found.floor is None:
            raise FloorMissing(
                f"the online store has nothing of view {self.name.view!r} (project {self.name.project!r}, "
                f"generation {self.name.generation}): it was never filled, it was flushed, or FSTORE_ONLINE_URL leads to "
                f"another store. {self._refill(self.name.view)}"
            )
        return self.judge.settle(found.rows, found.floor)

    def values(self, rows: list[bytes], complete: Mask | None, now: datetime, read: Reading | None) -> ViewValues:
        """Return the features of all entities as of ``now``, from the rows of those with a key. Raises StoreCorrupt."""
        if complete is not None:
            stored = iter(rows)
            rows = [next(stored) if whole else self.judge.null_key for whole in complete.tolist()]
            read = None if read is None else read.among(complete)
        return self.judge.judge(rows, now, read)


class PreparedRead:
    """A list of features, ready to be read for any entities. Safe to share between threads."""

    def __init__(
        self,
        project: str,
        selection: Selection,
        schemas: Mapping[str, Sequence[Sequence[Column]]],
        refill: Callable[[str], str],
        on_demand: OnDemandProgram,
        offline: OfflinePart | None = None,
    ) -> None:
        """Prepare a selection.

        ``schemas`` are the feature columns, now and before, of the rows of each view; ``refill`` says how a view that is
        missing from the store gets there; ``offline`` reads the views that are kept offline only. Raises RetrievalError for
        one of those where there is none.
        """
        online = [view for view in selection.views if view.step.online]
        for view in selection.views:
            if not view.step.online and offline is None:
                raise RetrievalError(
                    f"view {view.step.view!r} is not kept online (online = False in {view.step.module}:{view.step.line}); "
                    'read it with get_historical_features, pass offline="allow", or leave its features out'
                )
        self.selection, self.offline, self._on_demand = selection, offline, on_demand
        self.views = [PreparedView(project, view, schemas[view.step.view], refill) for view in online]
        self._no_readings: list[Reading | None] = [None] * len(self.views)
        self._outputs = frozenset(selection.columns)
        self._places = Outputs(_places(selection, online))
        self._only_stored = offline is None and not on_demand.selected

    def ask(self, entities: OnlineEntities) -> Asked:
        """Return what a store has to be asked for entities. Raises EntityColumnError and FeatureNameClash."""
        if not self._outputs.isdisjoint(entities.names):
            refuse_taken(self.selection, entities.names)
        keys, complete = [], []
        for view in self.views:
            own, whole = view.keys(entities)
            keys.append(ViewKeys(view.name, own))
            complete.append(whole)
        return Asked(entities, keys, complete)

    def respond(
        self, asked: Asked, rows: Sequence[list[bytes]], now: datetime, read: Sequence[Reading | None] | None = None
    ) -> OnlineResponse:
        """Return the response for the settled rows of each view, as of ``now``; ``read`` for rows that were read before.

        Blocks where a part of it is read from the offline store. Raises StoreCorrupt, and what an on-demand feature or the
        offline store raises.
        """
        values = [
            view.values(own, complete, now, before)
            for view, own, complete, before in zip(self.views, rows, asked.complete, read or self._no_readings, strict=True)
        ]
        if self._only_stored:
            return OnlineResponse(asked.entities, self._places, values, {})
        offline = {} if self.offline is None else self.offline.read(asked.entities.table, now)
        computed = {}
        if self._on_demand.selected:
            stored: dict[str, pa.Array | pa.ChunkedArray] = {
                column: part.rows.arrow(feature)
                for view, part in zip(self.views, values, strict=True)
                for feature, column in enumerate(view.view.columns)
            }
            computed = self._on_demand.evaluate(asked.entities.table, stored | offline)
        return OnlineResponse(asked.entities, self._places, values, computed, offline)


def _places(selection: Selection, online: Sequence[SelectedView]) -> tuple[Place, ...]:
    """Return where each output column comes from."""
    stored = {
        reference: (number, feature) for number, view in enumerate(online) for feature, reference in enumerate(view.columns)
    }
    types = {item.column: item.definition.type or "" for item in selection.on_demand}
    types |= {
        reference: feature.type or ""
        for view in selection.views
        for reference, feature in zip(view.columns, view.features, strict=True)
    }
    places = []
    for reference, column in zip(selection.references, selection.columns, strict=True):
        view, feature = stored.get(reference, (None, 0))
        places.append(Place(column, reference, view, feature, types[reference]))
    return tuple(places)
