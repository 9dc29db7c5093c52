"""The client of event loops: reads current features without blocking the loop.

Shares everything with :class:`~fstore.Client` but the waiting: stores are read by asyncio, and what asks the registry (once
per list of features, and for its version every few seconds) runs in a thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from fstore.backends import Backends, open_backends
from fstore.errors import StoreCorrupt
from fstore.retrieval.client_settings import client_settings
from fstore.retrieval.features import Wanted
from fstore.retrieval.online import PreparedRead
from fstore.retrieval.online_entities import Entities, OnlineEntities
from fstore.retrieval.online_response import OnlineResponse
from fstore.retrieval.prepared_reads import MOST_ENTITIES, PreparedReads
from fstore.settings import Settings

if TYPE_CHECKING:
    from fstore.stores.online import AsyncOnlineReads


class AsyncClient:
    """Reads current features of one project. Use as an async context manager, or await :meth:`close`. For one event loop."""

    def __init__(self, source: Settings | Backends, *, clock: Callable[[], datetime] | None = None) -> None:
        """Open a project by its settings, or over parts opened already; ``clock`` says what time it is (default: now)."""
        self._backends = source if isinstance(source, Backends) else open_backends(source)
        self._clock = clock or (lambda: datetime.now(UTC))
        self._plans = PreparedReads(self._backends)
        self._preparing = asyncio.Lock()
        self._store: AsyncOnlineReads | None = None

    @classmethod
    def from_env(cls, directory: str | Path | None = None) -> AsyncClient:
        """Open the project that the environment names, or the one at or above a directory, as ``Client.from_env`` does."""
        return cls(client_settings(directory))

    async def get_online_features(
        self,
        features: Sequence[Wanted] | None = None,
        entities: Entities | None = None,
        *,
        request: Mapping[str, Sequence[object]] | None = None,
        service: str | None = None,
        full_names: bool = False,
        timeout: float | None = None,
    ) -> OnlineResponse:
        """Read the features of entities as they are now; arguments, response and errors are those of ``Client``."""
        deadline = None if timeout is None else time.monotonic() + timeout
        rows = OnlineEntities(entities, request, MOST_ENTITIES)
        plan = self._plans.known(features, service, full_names=full_names)
        if plan is None:
            plan = await self._prepare(features, service, full_names=full_names)
        try:
            return await self._answer(plan, rows, deadline)
        except StoreCorrupt:  # or a row of a definition that is newer than what was prepared
            if not await asyncio.to_thread(self._plans.renew):
                raise
        return await self._answer(await self._prepare(features, service, full_names=full_names), rows, deadline)

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

    async def _prepare(self, features: Sequence[Wanted] | None, service: str | None, *, full_names: bool) -> PreparedRead:
        """Prepare a read in a thread, one at a time: requests that come meanwhile wait for it."""
        async with self._preparing:
            plan = self._plans.known(features, service, full_names=full_names)
            if plan is None:
                plan = await asyncio.to_thread(self._plans.prepare, features, service, full_names=full_names)
            if self._store is None:
                self._store = (await asyncio.to_thread(lambda: self._backends.online)).async_reads()
            return plan

    async def _answer(self, plan: PreparedRead, rows: OnlineEntities, deadline: float | None) -> OnlineResponse:
        assert self._store is not None, "preparing opens it"
        asked = plan.ask(rows)
        found = await self._store.read_views(asked.keys, deadline=deadline)
        return plan.respond(asked, found, self._clock())
