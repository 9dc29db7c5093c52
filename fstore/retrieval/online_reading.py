"""One online read, from the entities to the response, without the waiting: the client carries bytes in between.

Looks first into the cache, if there is one, and leaves what is not there for the store. What the store has found, or what is
last known of it while it is away, becomes the response.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from fstore.errors import StoreUnavailable
from fstore.retrieval.online import PreparedRead
from fstore.retrieval.online_cache import CachedRow, OnlineCache
from fstore.retrieval.online_entities import OnlineEntities
from fstore.retrieval.online_response import OnlineResponse
from fstore.retrieval.online_values import Reading
from fstore.stores.online import ViewKeys, ViewRows


class OnlineReading:
    """One request. ``keys`` are what the store has to be asked for; nothing, if the cache has everything."""

    def __init__(self, plan: PreparedRead, entities: OnlineEntities, cache: OnlineCache | None) -> None:
        """Begin a read. Raises EntityColumnError and FeatureNameClash."""
        self._plan, self._cache = plan, cache
        self._asked = plan.ask(entities)
        self.keys: list[ViewKeys] = self._asked.keys
        if cache is not None:
            self._cached = [cache.find(view.token, own.keys) for view, own in zip(plan.views, self.keys, strict=True)]
            missing = [
                ViewKeys(own.view, [key for key, row in zip(own.keys, rows, strict=True) if row is None])
                for own, rows in zip(self._asked.keys, self._cached, strict=True)
            ]
            self.keys = missing if any(own.keys for own in missing) or not all(own.keys for own in self.keys) else []

    def answer(self, found: Sequence[ViewRows], now: datetime) -> OnlineResponse:
        """Return the response for what the store has found for ``keys``.

        Raises FloorMissing, StoreCorrupt, and what an on-demand feature raises.
        """
        plan, cache = self._plan, self._cache
        if cache is None:
            settled = [view.settle(rows) for view, rows in zip(plan.views, found, strict=True)]
            return plan.respond(self._asked, settled, now)
        if not self.keys:
            return self._from_cache(self._cached, now, cached=[[True] * len(rows) for rows in self._cached])
        whole: list[list[CachedRow | None]] = []
        hits = []
        for view, missing, rows, known in zip(plan.views, self.keys, found, self._cached, strict=True):
            fresh = iter(cache.keep(view.token, missing.keys, view.settle(rows)))
            whole.append([next(fresh) if row is None else row for row in known])
            hits.append([row is not None for row in known])
        return self._from_cache(whole, now, cached=hits)

    def last_known(self, error: StoreUnavailable, now: datetime) -> OnlineResponse:
        """Return the response from what was read before, however long ago. Raises the error if some of it never was."""
        cache = self._cache
        if cache is None:
            raise error
        views = zip(self._plan.views, self._asked.keys, strict=True)
        known = [cache.find(view.token, own.keys, stale=True) for view, own in views]
        if unknown := sum(row is None for rows in known for row in rows):
            raise StoreUnavailable(
                f"{error} Of {unknown} of {sum(map(len, known))} rows no last known values are in this client's cache.",
                retry_after=error.retry_after,
            ) from error
        return self._from_cache(known, now, cached=[[True] * len(rows) for rows in known])

    def _from_cache(
        self, known: Sequence[Sequence[CachedRow | None]], now: datetime, *, cached: Sequence[list[bool]]
    ) -> OnlineResponse:
        assert self._cache is not None, "rows come from it"
        at = self._cache.now()
        rows = [[row.row for row in own if row is not None] for own in known]
        readings = [
            Reading([timedelta(seconds=at - row.read_at) if hit else timedelta() for row, hit in
                     zip([row for row in own if row is not None], hits, strict=True)], hits)
            for own, hits in zip(known, cached, strict=True)
        ]  # fmt: skip
        return self._plan.respond(self._asked, rows, now, readings)
