"""The client of event loops: reads current features without blocking the loop.

Shares everything with :class:`~fstore.Client` but the waiting: stores are read by asyncio, and what asks the registry (once
per list of features, and for its version every few seconds) runs in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fstore.backends import Backends, open_backends
from fstore.errors import StoreCorrupt, StoreUnavailable
from fstore.retrieval.breaker import CircuitBreaker
from fstore.retrieval.client_settings import client_settings
from fstore.retrieval.features import Wanted
from fstore.retrieval.historical import HistoricalReads
from fstore.retrieval.online import PreparedRead
from fstore.retrieval.online_cache import OnlineCache
from fstore.retrieval.online_entities import Entities, OnlineEntities
from fstore.retrieval.online_reading import OnlineReading
from fstore.retrieval.online_response import OnlineResponse
from fstore.retrieval.prepared_reads import (
    MOST_ENTITIES,
    Offline,
    OnUnavailable,
    PreparedReads,
    Question,
    Terms,
    terms_of,
)
from fstore.settings import Settings

if TYPE_CHECKING:
    from fstore.stores.online import AsyncOnlineReads, ViewRows


class AsyncClient:
    """Reads current features of one project. Use as an async context manager, or await :meth:`close`. For one event loop."""

    def __init__(
        self, source: Settings | Backends, *, clock: Callable[[], datetime] | None = None, cache: OnlineCache | None = None
    ) -> None:
        """Open a project by its settings, or over parts opened already; the other arguments are those of ``Client``."""
        self._backends = source if isinstance(source, Backends) else open_backends(source)
        self._clock, self._cache = clock or (lambda: datetime.now(UTC)), cache
        self._plans = PreparedReads(self._backends, HistoricalReads(self._backends, self._clock))
        self._breaker = CircuitBreaker()
        self._preparing = asyncio.Lock()
        self._store: AsyncOnlineReads | None = None

    @classmethod
    def from_env(cls, directory: str | Path | None = None, *, cache: OnlineCache | None = None) -> AsyncClient:
        """Open the project that the environment names, or the one at or above a directory, as ``Client.from_env`` does."""
        return cls(client_settings(directory), cache=cache)

    async def get_online_features(
        self,
        features: Sequence[Wanted] | None = None,
        entities: Entities | None = None,
        *,
        request: Mapping[str, Sequence[object]] | None = None,
        service: str | None = None,
        full_names: bool = False,
        timeout: float | None = None,
        on_unavailable: OnUnavailable = "error",
        offline: Offline = "error",
    ) -> OnlineResponse:
        """Read the features of entities as they are now; arguments, response and errors are those of ``Client``."""
        question, terms = Question(features, service, full_names, offline), terms_of(timeout, on_unavailable, self._cache)
        rows = OnlineEntities(entities, request, MOST_ENTITIES)
        plan = self._plans.known(question) or await self._prepare(question)
        try:
            return await self._answer(plan, rows, terms)
        except StoreCorrupt:  # or a row of a definition that is newer than what was prepared
            if not await asyncio.to_thread(self._plans.renew):
                raise
        return await self._answer(await self._prepare(question), rows, terms)

    async def close(self) -> None:
        """Close the registry, the stores and the engine, as far as they were opened."""
        if self._store is not None:
            await self._store.close()
            self._store = None
        await asyncio.to_thread(self._backends.close)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def _prepare(self, question: Question) -> PreparedRead:
        """Prepare a read in a thread, one at a time: requests that come meanwhile wait for it."""
        async with self._preparing:
            if self._store is None:
                self._store = (await asyncio.to_thread(lambda: self._backends.online)).async_reads()
            plan = self._plans.known(question)
            return await asyncio.to_thread(self._plans.prepare, question) if plan is None else plan

    async def _answer(self, plan: PreparedRead, rows: OnlineEntities, terms: Terms) -> OnlineResponse:
        assert self._store is not None, "preparing opens it"
        reading = OnlineReading(plan, rows, self._cache)
        found: list[ViewRows] = []
        if reading.keys:
            try:
                with self._breaker:
                    found = await self._store.read_views(reading.keys, deadline=terms.deadline)
            except StoreUnavailable as error:
                if terms.on_unavailable == "error":
                    raise
                return await self._finish(plan, partial(reading.last_known, error))
        if plan.offline is None:
            return reading.answer(found, self._clock())
        return await self._finish(plan, partial(reading.answer, found))

    async def _finish(self, plan: PreparedRead, respond: Callable[[datetime], OnlineResponse]) -> OnlineResponse:
        """Make the response, in a thread where that reads the offline store."""
        now = self._clock()
        return respond(now) if plan.offline is None else await asyncio.to_thread(respond, now)
