"""The online store in Redis, 6.2 or newer, or anything that speaks its protocol.

Takes and gives encoded rows by key. Rows lie under ``fstore:<project>:row:<view>:<generation>:<key>``, so that one server
can serve many projects. Compare-and-set runs inside the server, in a Lua script over 500 keys at a time. Redis acknowledges
from memory; how durable that is, is its configuration. A server that evicts rows is refused when the store is created.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit, urlunsplit

from fstore.errors import (
    SettingsError,
    StoreError,
    StoreFull,
    StoreMismatch,
    StoreMissing,
    StoreReadOnly,
    StoreUnavailable,
)
from fstore.stores.online import Floor, OnlineView, ViewRows, decode_floor, encode_floor, newest_per_key

if TYPE_CHECKING:
    import redis

_KEYS_PER_CALL = 500  # Lua unpacks twice as many arguments, of the 8,000 that it can
_CALLS_PER_PIPELINE = 10
_TIMEOUT = 10.0

# A sequence has 64 bits and Lua's numbers 53, so it is compared in two halves; and not as a string, because Lua compares
# strings in the server's locale. All rows of a call have the sequence given as its halves.
_COMPARE_AND_SET = """
local high, low = tonumber(ARGV[1]), tonumber(ARGV[2])
local stored = redis.call('MGET', unpack(KEYS))
local winners, count = {}, 0
for i = 1, #KEYS do
  local row = stored[i]
  local newer = true
  if row then
    local stored_high, stored_low = struct.unpack('>I4I4', row)
    newer = high > stored_high or (high == stored_high and low > stored_low)
  end
  if newer then
    winners[count + 1], winners[count + 2] = KEYS[i], ARGV[i + 2]
    count = count + 2
  end
end
if count > 0 then redis.call('MSET', unpack(winners, 1, count)) end
return count / 2
"""
_SCRIPT_ID = hashlib.sha1(_COMPARE_AND_SET.encode(), usedforsecurity=False).hexdigest()


class RedisStore:
    """An :class:`~fstore.stores.online.OnlineStore` in a Redis database.

    ``url`` is ``redis://``, ``rediss://`` or ``unix://`` as redis-py reads it, options such as ``?socket_timeout=1``
    included. Nothing is connected before the first use. Raises SettingsError when the URL is none or redis-py is missing.
    """

    def __init__(self, url: str, project: str) -> None:
        self.url, self.project = url, project
        self._where = f"the online store at {masked_url(url)}"
        self._client = _connect(url)

    def create(self, store_id: str) -> None:
        """Write the id. Raises StoreError when the server is set to evict rows."""
        with self._errors():
            policy = _text(self._client.info("memory").get("maxmemory_policy", ""))
            if policy.startswith("allkeys"):
                raise StoreError(
                    f"{self._where} evicts rows when its memory is full (maxmemory-policy {policy}), and a read would then "
                    "give nulls for them. Set maxmemory-policy to noeviction or to one of the volatile ones."
                )
            self._client.set(self._id_key, store_id.encode(), nx=True)
            found = self.store_id()
        if found != store_id:
            raise StoreMismatch(
                f"{self._where} has id {found}, not {store_id}: it belongs to another registry. Correct "
                "FSTORE_ONLINE_URL or FSTORE_REGISTRY_URL."
            )

    def store_id(self) -> str | None:
        """Return the id, or None when this project never was in this database or the database was flushed."""
        with self._errors():
            found = self._client.get(self._id_key)
        return None if found is None else _text(found)

    def write_rows(self, view: OnlineView, keys: Sequence[bytes], rows: Sequence[bytes]) -> int:
        """Write in pipelines of scripts. An error leaves some of them done, which repeating makes whole."""
        keys, rows = newest_per_key(keys, rows)
        prefix = self._row_prefix(view)
        with self._errors():
            self._check_created()
            pairs = sorted(zip(rows, keys, strict=True)) if _mixed(rows) else zip(rows, keys, strict=True)
            return sum(
                self._write(sequence, [(prefix + key, row) for row, key in group])
                for sequence, group in groupby(pairs, key=lambda pair: pair[0][:8])
            )

    def read_rows(self, view: OnlineView, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the stored row of each key, or None."""
        return self.read_view(view, keys).rows

    def read_view(self, view: OnlineView, keys: Sequence[bytes]) -> ViewRows:
        """Return rows and floor from one MGET, which is atomic."""
        prefix = self._row_prefix(view)
        with self._errors():
            values = self._values([self._id_key, self._floor_key(view), *(prefix + key for key in keys)])
        if values[0] is None:
            raise self._missing()
        return ViewRows(floor=decode_floor(values[1]), rows=values[2:])

    def floor(self, view: OnlineView) -> Floor | None:
        """Return the view's floor, or None, also when the database was flushed."""
        with self._errors():
            return decode_floor(self._values([self._floor_key(view)])[0])

    def raise_floor(self, view: OnlineView, floor: Floor) -> None:
        """Raise the floor by the same script as rows."""
        value = encode_floor(floor)
        with self._errors():
            self._check_created()
            self._write(value[:8], [(self._floor_key(view), value)])

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        self._client.close()
        self._client.connection_pool.disconnect()

    # -- parts --------------------------------------------------------------------------------------------------------

    @property
    def _id_key(self) -> bytes:
        return f"fstore:{self.project}:id".encode()

    def _floor_key(self, view: OnlineView) -> bytes:
        return f"fstore:{view.project}:floor:{view.view}:{view.generation}".encode()

    def _row_prefix(self, view: OnlineView) -> bytes:
        return f"fstore:{view.project}:row:{view.view}:{view.generation}:".encode()

    def _values(self, keys: list[bytes]) -> list[bytes | None]:
        return cast("list[bytes | None]", self._client.mget(keys))

    def _check_created(self) -> None:
        if not self._client.exists(self._id_key):
            raise self._missing()

    def _missing(self) -> StoreMissing:
        return StoreMissing(
            f"there is no online store of project {self.project!r} at {masked_url(self.url)}: it was never created, or was "
            "flushed. Run `fstore apply` to create it, or correct FSTORE_ONLINE_URL."
        )

    def _write(self, sequence: bytes, pairs: list[tuple[bytes, bytes]]) -> int:
        """Put the pairs, all of one sequence, that are newer than what is there."""
        halves = [int.from_bytes(sequence[:4], "big"), int.from_bytes(sequence[4:], "big")]
        per_pipeline = _KEYS_PER_CALL * _CALLS_PER_PIPELINE
        parts = [pairs[start : start + per_pipeline] for start in range(0, len(pairs), per_pipeline)]
        return sum(self._send(halves, part) for part in parts)

    def _send(self, halves: list[int], pairs: list[tuple[bytes, bytes]]) -> int:
        from redis.exceptions import NoScriptError  # noqa: PLC0415 (an optional dependency)

        for _ in range(2):
            with self._client.pipeline(transaction=False) as pipeline:
                for start in range(0, len(pairs), _KEYS_PER_CALL):
                    keys, rows = zip(*pairs[start : start + _KEYS_PER_CALL], strict=True)
                    pipeline.evalsha(_SCRIPT_ID, len(keys), *keys, *halves, *rows)
                try:
                    return sum(pipeline.execute())
                except NoScriptError:
                    self._client.script_load(_COMPARE_AND_SET)
        raise StoreUnavailable(f"{self._where} forgets its scripts at once: another client keeps flushing them")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what redis-py raises into the store's errors."""
        from redis import exceptions  # noqa: PLC0415 (an optional dependency)

        try:
            yield
        except (exceptions.RedisError, OSError) as error:
            raise self._error(error) from error

    def _error(self, error: Exception) -> StoreError:
        from redis import exceptions  # noqa: PLC0415 (an optional dependency)

        # A pipeline's error begins with the command, keys included, which are nobody's business; a script's names its line.
        reason = f"{type(error).__name__}: {str(error).rpartition(' caused error: ')[2]}"
        if isinstance(error, exceptions.ReadOnlyError) or "READONLY" in reason:
            return StoreReadOnly(f"{self._where} refuses writes: it is a replica. FSTORE_ONLINE_URL must name the primary.")
        if isinstance(error, exceptions.OutOfMemoryError) or "OOM command not allowed" in reason:
            return StoreFull(f"{self._where} is out of memory. Raise its maxmemory; then this can be repeated.")
        if isinstance(error, (exceptions.AuthenticationError, exceptions.AuthorizationError, exceptions.NoPermissionError)):
            return StoreError(f"{self._where} does not let this user in ({reason}): correct user or password in the URL")
        passing = isinstance(error, (exceptions.ClusterDownError, exceptions.TryAgainError))
        if isinstance(error, exceptions.ResponseError) and not passing and not any(word in reason for word in _PASSING):
            return StoreError(f"{self._where} refused a command: {reason}")
        return StoreUnavailable(f"{self._where} cannot be reached now: {reason}")


_PASSING = ("BUSY", "MISCONF", "NOREPLICAS")
"""Codes in replies that are about the server's state now, and not about the command."""


def masked_url(url: str) -> str:
    """Return a URL without its password."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}:***@{host}"))


def _connect(url: str) -> redis.Redis:
    try:
        import redis  # noqa: PLC0415 (an optional dependency)
    except ImportError:
        raise SettingsError(
            f"the online store at {masked_url(url)} needs redis-py, which is not installed: pip install 'fstore[redis]'"
        ) from None
    try:
        pool = redis.ConnectionPool.from_url(url, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT)
    except ValueError as error:
        raise SettingsError(f"{masked_url(url)} is not a Redis URL: {error}") from None
    return redis.Redis.from_pool(pool)


def _mixed(rows: Sequence[bytes]) -> bool:
    """Whether rows are of several publications."""
    return len({row[:8] for row in rows}) > 1


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
