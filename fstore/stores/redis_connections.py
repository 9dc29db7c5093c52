"""Connections to Redis, from a URL: blocking ones, and those of an event loop.

``redis://``, ``rediss://`` and ``unix://`` are read as redis-py reads them, options such as ``?socket_timeout=1`` and
``?max_connections=50`` included. Nothing is connected before the first use, and nothing is tried again here: the stores do
that. Raises SettingsError when the URL is none or redis-py is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fstore.errors import SettingsError
from fstore.stores.redis_failures import masked_url

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
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError:
        raise SettingsError(
            f"the online store at {masked_url(url)} needs redis-py, which is not installed: pip install 'fstore[redis]'"
        ) from None
    try:
        return redis.Redis.from_pool(redis.ConnectionPool.from_url(url, retry=Retry(NoBackoff(), 0), **_timeouts()))
    except ValueError as error:
        raise SettingsError(f"{masked_url(url)} is not a Redis URL: {error}") from None


def async_pool(url: str) -> redis.asyncio.ConnectionPool:
    """Return a pool of connections for one event loop."""
    from redis.asyncio import ConnectionPool
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    return ConnectionPool.from_url(url, retry=Retry(NoBackoff(), 0), **_timeouts())


def _timeouts() -> dict[str, Any]:
    return {"socket_timeout": _TIMEOUT, "socket_connect_timeout": _TIMEOUT}
