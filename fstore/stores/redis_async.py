"""Reads of the online store in Redis for one event loop: the same keys, errors and patience as the blocking store's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from fstore.errors import StoreError
from fstore.stores.online import ViewKeys, ViewRows
from fstore.stores.redis_connections import disconnect_pool
from fstore.stores.redis_failures import Patience, classify, too_late
from fstore.stores.redis_keys import RedisKeys

if TYPE_CHECKING:
    from redis.asyncio import ConnectionPool


class AsyncRedisReads:
    """An :class:`~fstore.stores.online.AsyncOnlineReads` over a pool of connections."""

    def __init__(self, pool: ConnectionPool, keys: RedisKeys, where: str, missing: Callable[[], StoreError]) -> None:
        self._pool: Any = pool  # most of its methods have no types
        self._keys, self._where, self._missing = keys, where, missing

    async def read_views(self, requests: Sequence[ViewKeys], *, deadline: float | None = None) -> list[ViewRows]:
        """Read all views with one MGET, which is atomic."""
        wanted = self._keys.wanted(requests)
        try:
            if deadline is None:
                values = await self._mget(wanted, None)
            else:
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + deadline - time.monotonic()):
                    values = await self._mget(wanted, deadline)
        except TimeoutError as error:
            raise too_late(self._where, time.monotonic() - (deadline or 0.0)) from error
        found = self._keys.found(requests, values)
        if found is None:
            raise self._missing()
        return found

    async def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        await disconnect_pool(self._pool)

    async def _mget(self, keys: list[bytes], deadline: float | None) -> list[bytes | None]:
        from redis import exceptions  # noqa: PLC0415 (an optional dependency)

        began, patience = time.monotonic(), None
        while True:
            try:
                connection = await self._pool.get_connection()
                try:
                    await connection.send_command("MGET", *keys)
                    values: list[bytes | None] = await connection.read_response()
                finally:
                    await self._pool.release(connection)
            except (exceptions.RedisError, OSError) as cause:
                error, passing = classify(cause, self._where)
                patience = patience or Patience(began, deadline)
                wait = patience.next_wait()
                if not passing or wait is None:
                    raise error from cause
                await asyncio.sleep(wait)
            else:
                return values
