"""Connections to Redis, from a URL: blocking ones, and those of an event loop.

``redis://``, ``rediss://`` and ``unix://`` are read as redis-py reads them, options such as ``?socket_timeout=1`` and
``?max_connections=50`` included. ``redis+sentinel://host:port,host:port/service/db`` asks Sentinels which server is the
primary, at every new connection; ``rediss+sentinel://`` then talks TLS with it, and options that begin with ``sentinel_``
are for the connections to Sentinels. Nothing is connected before the first use, and nothing is tried again here: the stores
do that. Raises SettingsError when the URL is none or redis-py is missing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from fstore.connections import masked_url
from fstore.errors import SettingsError

if TYPE_CHECKING:
    import redis
    import redis.asyncio

_TIMEOUT = 10.0

# redis-py is an optional dependency
# ruff: noqa: PLC0415


def connect(url: str) -> redis.Redis:
    """Return a client whose connections a thread takes from a pool."""
    try:
        import redis
        from redis.retry import Retry
        from redis.sentinel import Sentinel as UntypedSentinel
    except ImportError:
        raise SettingsError(
            f"the online store at {masked_url(url)} needs redis-py, which is not installed: pip install 'fstore[redis]'"
        ) from None
    try:
        if (watched := _sentinel(url)) is None:
            return redis.Redis.from_pool(redis.ConnectionPool.from_url(url, **connection_options(Retry)))
        Sentinel: Any = UntypedSentinel  # noqa: N806 (redis-py has no types there)
        sentinel = Sentinel(watched.hosts, sentinel_kwargs=watched.sentinel_options | connection_options(Retry))
        client: redis.Redis = sentinel.master_for(watched.service, **(connection_options(Retry) | watched.options))
    except ValueError as error:
        raise SettingsError(f"{masked_url(url)} is not a Redis URL: {error}") from None
    return client


def async_pool(url: str) -> redis.asyncio.ConnectionPool:
    """Return a pool of connections for one event loop."""
    from redis.asyncio import ConnectionPool
    from redis.asyncio.retry import Retry
    from redis.asyncio.sentinel import Sentinel as UntypedSentinel

    if (watched := _sentinel(url)) is None:
        return ConnectionPool.from_url(url, **connection_options(Retry))
    Sentinel: Any = UntypedSentinel  # noqa: N806 (redis-py has no types there)
    sentinel = Sentinel(watched.hosts, sentinel_kwargs=watched.sentinel_options | connection_options(Retry))
    pool: ConnectionPool = sentinel.master_for(
        watched.service, **(connection_options(Retry) | watched.options)
    ).connection_pool
    return pool


def disconnect(client: redis.Redis) -> None:
    """Close a client's connections, those to Sentinels too; the next use opens new ones."""
    client.close()
    client.connection_pool.disconnect()
    for sentinel in getattr(client.connection_pool, "sentinel_manager", _NONE).sentinels:
        sentinel.close()


async def disconnect_pool(pool: redis.asyncio.ConnectionPool) -> None:
    """Close the connections of an event loop likewise."""
    await pool.disconnect()
    for sentinel in getattr(pool, "sentinel_manager", _NONE).sentinels:
        await sentinel.aclose()


class _NoSentinels:
    sentinels: tuple[Any, ...] = ()


_NONE = _NoSentinels()


class _Watched(NamedTuple):
    """A primary that Sentinels know: their addresses, its name there, and options of connections to either."""

    hosts: list[tuple[str, int]]
    service: str
    options: dict[str, Any]
    sentinel_options: dict[str, Any]


def _sentinel(url: str) -> _Watched | None:
    """Return what a URL of Sentinels says, None for another URL. Raises ValueError."""
    from redis import connection

    parts = urlsplit(url)
    if parts.scheme not in ("redis+sentinel", "rediss+sentinel"):
        return None
    user, _, addresses = parts.netloc.rpartition("@")
    hosts = [urlsplit(f"//{address}") for address in addresses.split(",")]
    path = [part for part in parts.path.split("/") if part]
    if not all(host.hostname for host in hosts) or len(path) not in (1, 2):
        raise ValueError(
            "it should be redis+sentinel://host:port,host:port/service, with /db at its end where that is not 0"
        )
    database = f"/{path[1]}" if len(path) == 2 else ""
    parse: Any = connection.parse_url
    options: dict[str, Any] = parse(f"redis://{user}{'@' if user else ''}host{database}?{parts.query}")
    del options["host"]
    begins = "sentinel_"
    sentinel_options = {name.removeprefix(begins): value for name, value in options.items() if name.startswith(begins)}
    options = {name: value for name, value in options.items() if not name.startswith(begins)}
    if parts.scheme.startswith("rediss"):
        options["ssl"] = True
    return _Watched([(host.hostname or "", host.port or 26379) for host in hosts], path[0], options, sentinel_options)


class ReadConnections:
    """Connections for nothing but MGET, past the layers of redis-py that every command goes through.

    Threads take one each; the pool says how many there may be and how they are made. One that broke while it waited is
    replaced at once: Redis closes idle connections when it likes. Nothing is shared with a forked child.
    """

    def __init__(self, pool: redis.ConnectionPool) -> None:
        self._pool, self._process = pool, os.getpid()
        self._ready: list[Any] = []
        self._broken: list[Any] = []

    def mget(self, keys: Sequence[bytes], deadline: float | None) -> list[bytes | None]:
        """Return the values of keys. Raises what redis-py does, TimeoutError at the deadline too."""
        from redis.exceptions import ConnectionError as BrokenConnection

        if self._process != os.getpid():
            self._process, self._ready, self._broken = os.getpid(), [], []
        while True:
            waited, connection = self._take()
            try:
                if not waited:
                    self._connect(connection, deadline)
                connection.send_command("MGET", *keys)
                values: list[bytes | None] = (
                    connection.read_response() if deadline is None else connection.read_response(timeout=_left(deadline))
                )
            except BaseException as error:
                connection.disconnect()
                self._broken.append(connection)
                if not (waited and isinstance(error, BrokenConnection)):
                    raise
                self.close()  # the others have waited as long
            else:
                self._ready.append(connection)
                return values

    def send(self, commands: Sequence[Sequence[bytes]], deadline: float | None) -> Any:
        """Send an MGET per list of keys, and return the connection to receive the answers from."""
        if self._process != os.getpid():
            self._process, self._ready, self._broken = os.getpid(), [], []
        waited, connection = self._take()
        try:
            if not waited:
                self._connect(connection, deadline)
            connection.send_packed_command(connection.pack_commands([("MGET", *keys) for keys in commands]))
        except BaseException:
            self.give_up(connection)
            raise
        return connection

    def receive(self, connection: Any, count: int, deadline: float | None) -> list[list[bytes | None]]:
        """Return the answers to what was sent, and keep the connection."""
        found = [
            connection.read_response() if deadline is None else connection.read_response(timeout=_left(deadline))
            for _ in range(count)
        ]
        self._ready.append(connection)
        return found

    def give_up(self, connection: Any) -> None:
        """Disconnect a connection whose answers nobody will read, and those that have waited as long."""
        connection.disconnect()
        self._broken.append(connection)
        self.close()

    def close(self) -> None:
        """Disconnect those that wait; the next use connects again."""
        while self._ready:
            connection = self._ready.pop()
            connection.disconnect()
            self._broken.append(connection)

    def _connect(self, connection: Any, deadline: float | None) -> None:
        """Connect and greet, by the deadline."""
        own = [self._pool.connection_kwargs[name] for name in ("socket_timeout", "socket_connect_timeout")]
        if deadline is None:
            connection.socket_timeout, connection.socket_connect_timeout = own
            connection.connect()
            return
        left = _left(deadline)
        connection.socket_timeout, connection.socket_connect_timeout = (
            left if seconds is None else min(left, seconds) for seconds in own
        )
        connection.connect()
        connection.socket_timeout = own[0]
        connection.update_current_socket_timeout(own[0])

    def _take(self) -> tuple[bool, Any]:
        """Return a connection, and whether it is one that has waited."""
        for kept in (self._ready, self._broken):
            try:
                return kept is self._ready, kept.pop()
            except IndexError:
                pass  # or another thread has taken it
        return False, self._pool.make_connection()


def _left(deadline: float) -> float:
    """Return the seconds until a deadline, or a millisecond where it is over."""
    return max(deadline - time.monotonic(), 0.001)


def connection_options(retry: type[Any]) -> dict[str, Any]:
    """Return the options of every connection, which a URL may overrule; the stores themselves try again."""
    from redis.backoff import NoBackoff

    return {"socket_timeout": _TIMEOUT, "socket_connect_timeout": _TIMEOUT, "retry": retry(NoBackoff(), 0)}
