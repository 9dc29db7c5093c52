"""Reads of the online store in Redis for one event loop: the same keys, errors and patience as the blocking store's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from fstore.errors import StoreError
from fstore.stores.online import ViewKeys, ViewRows
from fstore.stores.redis_connections import disconnect_pool
from fstore.stores.redis_failures import Patience, classify, too_late
from fstore.stores.redis_keys import RedisKeys
from fstore.stores.redis_spread import Spread
from fstore.stores.redis_topology import Address, Topology

if TYPE_CHECKING:
    from redis.asyncio import ConnectionPool

Result = TypeVar("Result")


class AsyncRedisReads:
    """An :class:`~fstore.stores.online.AsyncOnlineReads` over a pool of connections."""

    def __init__(self, pool: ConnectionPool, keys: RedisKeys, where: str, missing: Callable[[], StoreError]) -> None:
        self._pool: Any = pool  # most of its methods have no types
        self._keys, self._where, self._missing = keys, where, missing

    async def read_views(self, requests: Sequence[ViewKeys], *, deadline: float | None = None) -> list[ViewRows]:
        """Read all views with one MGET, which is atomic."""
        wanted = self._keys.wanted(requests)
        values = await _by_deadline(lambda: self._mget(wanted, deadline), self._where, deadline)
        found = self._keys.found(requests, values)
        if found is None:
            raise self._missing()
        return found

    async def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        await disconnect_pool(self._pool)

    async def _mget(self, keys: list[bytes], deadline: float | None) -> list[bytes | None]:
        async def work() -> list[bytes | None]:
            (values,) = await _exchange(self._pool, [keys])
            return values

        return await _patiently(work, self._where, deadline)


class AsyncClusterReads:
    """An :class:`~fstore.stores.online.AsyncOnlineReads` of a Redis Cluster: an exchange with each server, all at once."""

    def __init__(
        self, topology: Topology, keys: Sequence[RedisKeys], slots: Sequence[int], where: str,
        missing: Callable[[], StoreError],
    ) -> None:  # fmt: skip
        self._topology, self._keys, self._slots, self._where, self._missing = topology, keys, slots, where, missing
        self._pools: dict[Address, Any] = {}

    async def read_views(self, requests: Sequence[ViewKeys], *, deadline: float | None = None) -> list[ViewRows]:
        """Read with one MGET per bucket, in one round trip per server."""
        spread = Spread(requests, self._keys)
        values = await _by_deadline(
            lambda: _patiently(partial(self._read, spread), self._where, deadline), self._where, deadline
        )
        found = spread.merge(values)
        if found is None:
            raise self._missing()
        return found

    async def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        for pool in self._pools.values():
            await disconnect_pool(pool)

    async def _read(self, spread: Spread) -> list[list[bytes | None]]:
        from redis import exceptions  # noqa: PLC0415 (an optional dependency)

        failure: BaseException
        try:
            servers = await asyncio.to_thread(self._servers, spread)
            async with asyncio.TaskGroup() as group:
                tasks = [
                    (places, group.create_task(_exchange(self._pool(address), [spread.wanted[place] for place in places])))
                    for address, places in servers.items()
                ]
        except (exceptions.RedisError, OSError) as error:
            failure = error
        except BaseExceptionGroup as failures:  # what ``except*`` raises would be a group, which nobody tries again
            expected, others = failures.split((exceptions.RedisError, OSError))
            if expected is None or others is not None:
                raise
            failure = expected.exceptions[0]
        else:
            return _in_places(spread, tasks)
        self._topology.doubt()
        if isinstance(failure, exceptions.MovedError | exceptions.AskError):
            raise exceptions.TryAgainError(f"TRYAGAIN {type(failure).__name__}: {failure}") from failure
        raise failure

    def _servers(self, spread: Spread) -> dict[Address, list[int]]:
        return spread.by_server(lambda number: self._topology.address(self._slots[number]))

    def _pool(self, address: Address) -> Any:
        if address not in self._pools:
            self._pools[address] = self._topology.async_pool(address)
        return self._pools[address]


def _in_places(
    spread: Spread, tasks: Sequence[tuple[list[int], asyncio.Task[list[list[bytes | None]]]]]
) -> list[list[bytes | None]]:
    """Return the answers of all servers in the order of what was wanted."""
    values: list[list[bytes | None]] = [[]] * len(spread.wanted)
    for places, task in tasks:
        for place, answer in zip(places, task.result(), strict=True):
            values[place] = answer
    return values


async def _exchange(pool: Any, commands: Sequence[Sequence[bytes]]) -> list[list[bytes | None]]:
    """Send an MGET per list of keys and return the answers."""
    connection = await pool.get_connection()
    try:
        await connection.send_packed_command(connection.pack_commands([("MGET", *keys) for keys in commands]))
        return [await connection.read_response() for _ in commands]
    except BaseException:
        await connection.disconnect(nowait=True)  # answers may be on their way that nobody reads
        raise
    finally:
        await pool.release(connection)


async def _by_deadline(work: Callable[[], Awaitable[Result]], where: str, deadline: float | None) -> Result:
    if deadline is None:
        return await work()
    try:
        async with asyncio.timeout_at(asyncio.get_running_loop().time() + deadline - time.monotonic()):
            return await work()
    except TimeoutError as error:
        raise too_late(where, time.monotonic() - deadline) from error


async def _patiently(work: Callable[[], Awaitable[Result]], where: str, deadline: float | None) -> Result:
    """Do what may be repeated, again while it fails in a way that may pass."""
    from redis import exceptions  # noqa: PLC0415 (an optional dependency)

    began, patience = time.monotonic(), None
    while True:
        try:
            return await work()
        except (exceptions.RedisError, OSError) as cause:
            error, passing = classify(cause, where)
            patience = patience or Patience(began, deadline)
            wait = patience.next_wait()
            if not passing or wait is None:
                raise error from cause
        await asyncio.sleep(wait)
