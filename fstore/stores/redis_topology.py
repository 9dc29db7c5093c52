"""Which server of a Redis Cluster has which slot, and connections to each.

Takes a URL ``redis+cluster://user:password@host:port,host:port?options`` (``rediss+cluster://`` with TLS) and asks whichever
of these hosts answers, or one that is known by then; asks again after :meth:`Topology.doubt`. Knows nothing of keys or rows.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from fstore.connections import masked_url
from fstore.errors import SettingsError
from fstore.stores.redis_connections import ReadConnections, connection_options

if TYPE_CHECKING:
    import redis
    import redis.asyncio

# redis-py is an optional dependency
# ruff: noqa: PLC0415


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int


class Topology:
    """The primaries of a cluster. Safe to share between threads; not after a fork."""

    def __init__(self, url: str) -> None:
        """Nothing is connected yet. Raises SettingsError for a URL that is none, and when redis-py is missing."""
        try:
            import redis  # noqa: F401 (is it there?)
        except ImportError:
            raise SettingsError(
                f"the online store at {masked_url(url)} needs redis-py, which is not installed: pip install 'fstore[redis]'"
            ) from None
        try:
            self._start, options = _read_url(url)
        except ValueError as error:
            raise SettingsError(f"{masked_url(url)} is not a Redis URL: {error}") from None
        self._options = options
        self._lock = threading.Lock()
        self._clients: dict[Address, redis.Redis] = {}
        self._reads: dict[Address, ReadConnections] = {}
        self._ranges: list[tuple[int, int, Address]] = []

    def address(self, slot: int) -> Address:
        """Return the primary that has a slot. Raises what redis-py does when no server answers."""
        from redis.exceptions import ClusterDownError

        for first, last, address in self._ranges or self._ask():
            if first <= slot <= last:
                return address
        raise ClusterDownError(f"CLUSTERDOWN no server has slot {slot}")

    def addresses(self) -> list[Address]:
        """Return all primaries."""
        return sorted({address for _, _, address in self._ranges or self._ask()})

    def client(self, address: Address) -> redis.Redis:
        """Return a client of one server."""
        import redis
        from redis.retry import Retry

        with self._lock:
            if address not in self._clients:
                options = connection_options(Retry) | self._options
                self._clients[address] = redis.Redis(host=address.host, port=address.port, **options)
            return self._clients[address]

    def reads(self, address: Address) -> ReadConnections:
        """Return the connections for reading from one server."""
        if address not in self._reads:
            self._reads[address] = ReadConnections(self.client(address).connection_pool)
        return self._reads[address]

    def async_pool(self, address: Address) -> redis.asyncio.ConnectionPool:
        """Return a new pool of connections to one server for one event loop."""
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry

        options = connection_options(Retry) | self._options
        pool: redis.asyncio.ConnectionPool = Redis(host=address.host, port=address.port, **options).connection_pool
        return pool

    def doubt(self) -> None:
        """Ask again at the next use: a server said that it has not what was asked for, or did not answer."""
        self._ranges = []

    def close(self) -> None:
        """Close all connections; the next use opens new ones."""
        for reads in self._reads.values():
            reads.close()
        for client in list(self._clients.values()):
            client.close()
            client.connection_pool.disconnect()

    def _ask(self) -> list[tuple[int, int, Address]]:
        from redis.exceptions import RedisError

        failure: Exception | None = None
        for address in dict.fromkeys([*self._start, *list(self._clients)]):
            try:
                client: Any = self.client(address)
                found = client.execute_command("CLUSTER SLOTS")
            except (RedisError, OSError) as error:
                failure = error
                continue
            self._ranges = ranges = [
                (int(first), int(last), Address(_text(primary[0]) or address.host, int(primary[1])))
                for first, last, primary in _ranges(found)
            ]
            return ranges
        assert failure is not None, "there is at least one host"
        raise failure


def _read_url(url: str) -> tuple[list[Address], dict[str, Any]]:
    from redis import connection

    parts = urlsplit(url)
    user, _, hosts = parts.netloc.rpartition("@")
    found = [urlsplit(f"//{host}") for host in hosts.split(",")]
    if not all(host.hostname for host in found) or parts.path.strip("/") not in ("", "0"):
        raise ValueError("it should be redis+cluster://host:port,host:port; a cluster has database 0 alone")
    parse: Any = connection.parse_url
    options: dict[str, Any] = parse(f"redis://{user}{'@' if user else ''}host?{parts.query}")
    del options["host"]
    if parts.scheme.startswith("rediss"):
        options["ssl"] = True
    return [Address(host.hostname or "", host.port or 6379) for host in found], options


def _ranges(found: Any) -> list[tuple[Any, Any, Any]]:
    """Return first slot, last slot and primary of every range, in either form that redis-py gives them."""
    if isinstance(found, dict):
        return [(first, last, nodes["primary"]) for (first, last), nodes in found.items()]
    return [(row[0], row[1], row[2]) for row in found]


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")
