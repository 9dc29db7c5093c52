"""The online store in Redis, 6.2 or newer, or anything that speaks its protocol.

Takes and gives encoded rows by key. Rows lie under ``fstore:<project>:row:<view>:<generation>:<key>``, so that one server
can serve many projects. Compare-and-set runs inside the server, in a Lua script over 500 keys at a time. Redis acknowledges
from memory; how durable that is, is its configuration, and a mark per view tells afterwards whether something was lost. What
may pass by itself is tried again for two seconds: every command here may be repeated. A server that evicts rows, and a Redis
Cluster, are refused when the store is created.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from typing import Any, TypeVar, cast

from fstore.errors import (
    StoreChanged,
    StoreError,
    StoreMismatch,
    StoreMissing,
    StoreReadOnly,
    StoreUnavailable,
)
from fstore.failpoints import failpoint
from fstore.stores.online import (
    Floor,
    Mark,
    OnlineView,
    StoreMark,
    ViewKeys,
    ViewRows,
    decode_floor,
    encode_floor,
    forgotten_lately,
    newest_per_key,
)
from fstore.stores.redis_async import AsyncRedisReads
from fstore.stores.redis_connections import ReadConnections, async_pool, connect, disconnect
from fstore.stores.redis_failures import Patience, classify, masked_url, refused_cluster, too_late
from fstore.stores.redis_forgetting import EVERYTHING, FORGET, forget_arguments
from fstore.stores.redis_keys import RedisKeys

_KEYS_PER_CALL = 500  # Lua unpacks twice as many arguments, of the 8,000 that it can
_CALLS_PER_PIPELINE = 10

Result = TypeVar("Result")

# A sequence has 64 bits and Lua's numbers 53, so it is compared in two halves; and not as a string, because Lua compares
# strings in the server's locale. All rows of a call have the sequence given as its halves.
_COMPARE_AND_SET = """
local high, low = tonumber(ARGV[1]), tonumber(ARGV[2])
local stored = redis.call('MGET', unpack(KEYS))
local winners, count = {}, 0
for i = 2, #KEYS do
  local row = stored[i] or stored[1]
  local newer = true
  if row then
    local stored_high, stored_low = struct.unpack('>I4I4', row)
    newer = high > stored_high or (high == stored_high and low > stored_low)
  end
  if newer then
    winners[count + 1], winners[count + 2] = KEYS[i], ARGV[i + 1]
    count = count + 2
  end
end
if count > 0 then redis.call('MSET', unpack(winners, 1, count)) end
return count / 2
"""

# A life ends with the server's process (run_id), with its promotion or a failover (master_replid), and with a flush (the
# random token of the store's creation). Marks and floors are raised in the script that compares it, so nothing lies between.
_LIFE = """
local function life()
  local token = redis.call('GET', KEYS[1])
  if not token then return nil end
  local info = redis.call('INFO', 'server') .. redis.call('INFO', 'replication')
  return string.match(info, 'run_id:(%w+)') .. '.' .. string.match(info, 'master_replid:(%w+)') .. '.' .. token
end
"""
_READ_MARK = _LIFE + "return {life() or false, redis.call('GET', KEYS[2])}"
_RAISE_MARK = (
    _LIFE
    + """
local function newer(one, other)
  if not other then return true end
  local high, low = struct.unpack('>I4I4', one)
  local other_high, other_low = struct.unpack('>I4I4', other)
  return high > other_high or (high == other_high and low > other_low)
end
local now = life()
if not now then return 'missing' end
if now ~= ARGV[1] then return 'changed' end
local mark = redis.call('GET', KEYS[2])
local settled = not newer(ARGV[4], mark or string.rep(string.char(0), 8))
if settled and newer(ARGV[3], mark) then redis.call('SET', KEYS[2], ARGV[3]) end
if newer(ARGV[2], redis.call('GET', KEYS[3])) then redis.call('SET', KEYS[3], ARGV[2]) end
return 'raised'
"""
)
# The first key has what was forgotten last; it stands for rows that are not there.
_SCRIPT_ID = hashlib.sha1(_COMPARE_AND_SET.encode(), usedforsecurity=False).hexdigest()


class RedisStore:
    """An :class:`~fstore.stores.online.OnlineStore` in a Redis database.

    ``url`` is ``redis://``, ``rediss://`` or ``unix://`` as redis-py reads it, options such as ``?socket_timeout=1``
    included. Nothing is connected before the first use. Raises SettingsError when the URL is none or redis-py is missing.
    """

    def __init__(self, url: str, project: str) -> None:
        self.url, self.project = url, project
        self._keys = RedisKeys(project)
        self._where = f"the online store at {masked_url(url)}"
        self._client = connect(url)
        self._reads = ReadConnections(self._client.connection_pool)

    def create(self, store_id: str) -> None:
        """Write the id. Raises StoreError when the server is set to evict rows, or is one of a cluster."""

        def write_id() -> None:
            if _text(self._client.info("server").get("redis_mode", "")) == "cluster":
                raise refused_cluster(self._where)
            policy = _text(self._client.info("memory").get("maxmemory_policy", ""))
            if policy.startswith("allkeys"):
                raise StoreError(
                    f"{self._where} evicts rows when its memory is full (maxmemory-policy {policy}), and a read would then "
                    "give nulls for them. Set maxmemory-policy to noeviction or to one of the volatile ones."
                )
            self._client.set(self._keys.life, uuid.uuid4().hex, nx=True)
            self._client.set(self._keys.id, store_id.encode(), nx=True)

        self._run(write_id)
        found = self.store_id()
        if found != store_id:
            raise StoreMismatch(
                f"{self._where} has id {found}, not {store_id}: it belongs to another registry. Correct "
                "FSTORE_ONLINE_URL or FSTORE_REGISTRY_URL."
            )

    def store_id(self) -> str | None:
        """Return the id, or None when this project never was in this database or the database was flushed."""
        found = self._run(lambda: self._client.get(self._keys.id))
        return None if found is None else _text(found)

    def write_rows(self, view: OnlineView, keys: Sequence[bytes], rows: Sequence[bytes]) -> int:
        """Write in pipelines of scripts. An error leaves some of them done, which repeating makes whole."""
        keys, rows = newest_per_key(keys, rows)
        prefix = self._keys.rows(view)
        self._run(self._check_created)
        pairs = sorted(zip(rows, keys, strict=True)) if _mixed(rows) else zip(rows, keys, strict=True)
        return sum(
            self._write(sequence, [(prefix + key, row) for row, key in group], self._keys.forgotten(view))
            for sequence, group in groupby(pairs, key=lambda pair: pair[0][:8])
        )

    def read_rows(self, view: OnlineView, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the stored row of each key, or None."""
        return self.read_view(view, keys).rows

    def read_view(self, view: OnlineView, keys: Sequence[bytes]) -> ViewRows:
        """Return rows and floor from one MGET, which is atomic."""
        return self.read_views([ViewKeys(view, keys)])[0]

    def read_views(self, requests: Sequence[ViewKeys], *, deadline: float | None = None) -> list[ViewRows]:
        """Return rows and floors of all views from one MGET, which is atomic."""
        wanted = self._keys.wanted(requests)
        found = self._keys.found(requests, self._run(partial(self._reads.mget, wanted, deadline), deadline))
        if found is None:
            raise self._missing()
        return found

    def async_reads(self) -> AsyncRedisReads:
        """Return reads over connections of their own, with the options of the same URL."""
        return AsyncRedisReads(async_pool(self.url), self._keys, self._where, self._missing)

    def floor(self, view: OnlineView) -> Floor | None:
        """Return the view's floor, or None, also when the database was flushed."""
        return decode_floor(self._values([self._keys.floor(view)])[0])

    def mark(self, view: OnlineView) -> StoreMark:
        """Return mark and life from one script, which is atomic."""
        found: list[object] = self._script(_READ_MARK, [self._keys.life, self._keys.mark(view)])
        if found[0] is None:
            raise self._missing()
        return StoreMark(life=_text(found[0]), ticket=int.from_bytes(cast("bytes | None", found[1]) or b"", "big"))

    def raise_floor(self, view: OnlineView, floor: Floor, mark: Mark | None = None) -> None:
        """Raise the floor by the same script as rows, or floor and mark by one of their own."""
        value = encode_floor(floor)
        if mark is None:
            self._run(self._check_created)
            self._write(value[:8], [(self._keys.floor(view), value)], self._keys.floor(view))
            return
        numbers = (number.to_bytes(8, "big") for number in (mark.ticket, mark.settled))
        answer = self._script(
            _RAISE_MARK,
            [self._keys.life, self._keys.mark(view), self._keys.floor(view)],
            mark.life.encode(),
            value,
            *numbers,
        )
        match _text(answer):
            case "missing":
                raise self._missing()
            case "changed":
                raise StoreChanged(view.view)

    def forget_rows(self, view: OnlineView, sequence: int, before: datetime | None) -> int:
        """Find the rows by SCAN, and let the server compare and delete them, a few hundred at a time."""
        now, key = datetime.now(UTC), self._keys.forgotten(view)
        value = encode_floor(Floor(sequence=sequence, end=now))
        self._run(self._check_created)
        mark = decode_floor(self._values([key])[0])
        if sequence <= 0 or forgotten_lately(mark, sequence, now):
            return 0
        if mark is not None and mark.sequence == sequence:
            self._run(lambda: self._client.set(key, value))
        elif not self._write(value[:8], [(key, value)], key):
            return 0  # somebody else has forgotten more
        return self._forget(view, forget_arguments(sequence, before))

    def drop_view(self, view: OnlineView) -> int:
        """Delete the floor, then the rows."""
        self._run(self._check_created)
        self._run(lambda: self._client.delete(self._keys.floor(view)))
        return self._forget(view, EVERYTHING)

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        self._reads.close()
        disconnect(self._client)

    # -- parts --------------------------------------------------------------------------------------------------------

    def _values(self, keys: list[bytes]) -> list[bytes | None]:
        return cast("list[bytes | None]", self._run(lambda: self._client.mget(keys)))

    def _check_created(self) -> None:
        if not self._client.exists(self._keys.id):
            raise self._missing()

    def _missing(self) -> StoreMissing:
        return StoreMissing(
            f"there is no online store of project {self.project!r} at {masked_url(self.url)}: it was never created, or was "
            "flushed. Run `fstore apply` to create it, or correct FSTORE_ONLINE_URL."
        )

    def _forget(self, view: OnlineView, arguments: tuple[bytes, ...]) -> int:
        """Run the script that forgets over all rows of a view."""
        deleted, cursor = 0, 0
        pattern = self._keys.rows(view) + b"*"
        while True:
            cursor, keys = self._run(partial(self._client.scan, cursor, match=pattern, count=_KEYS_PER_CALL))
            for start in range(0, len(keys), _KEYS_PER_CALL):
                some = cast("list[bytes]", keys[start : start + _KEYS_PER_CALL])
                deleted += int(self._script(FORGET, some, *arguments))
                failpoint("online.forgotten")
            if not cursor:
                return deleted

    def _write(self, sequence: bytes, pairs: list[tuple[bytes, bytes]], forgotten: bytes) -> int:
        """Put the pairs, all of one sequence, that are newer than what is there or was forgotten."""
        halves = [int.from_bytes(sequence[:4], "big"), int.from_bytes(sequence[4:], "big")]
        per_pipeline = _KEYS_PER_CALL * _CALLS_PER_PIPELINE
        parts = [pairs[start : start + per_pipeline] for start in range(0, len(pairs), per_pipeline)]
        return sum(self._run(partial(self._send, halves, part, forgotten)) for part in parts)

    def _script(self, script: str, keys: Sequence[bytes], *arguments: bytes) -> Any:
        return self._run(lambda: self._client.eval(script, len(keys), *keys, *arguments))

    def _send(self, halves: list[int], pairs: list[tuple[bytes, bytes]], forgotten: bytes) -> int:
        from redis.exceptions import NoScriptError  # noqa: PLC0415 (an optional dependency)

        for _ in range(2):
            with self._client.pipeline(transaction=False) as pipeline:
                for start in range(0, len(pairs), _KEYS_PER_CALL):
                    keys, rows = zip(*pairs[start : start + _KEYS_PER_CALL], strict=True)
                    pipeline.evalsha(_SCRIPT_ID, len(keys) + 1, forgotten, *keys, *halves, *rows)
                try:
                    return sum(pipeline.execute())
                except NoScriptError:
                    self._client.script_load(_COMPARE_AND_SET)
        raise StoreUnavailable(f"{self._where} forgets its scripts at once: another client keeps flushing them")

    def _run(self, work: Callable[[], Result], deadline: float | None = None) -> Result:
        """Do what may be repeated, again while it fails in a way that may pass, and give the store's error otherwise."""
        from redis import exceptions  # noqa: PLC0415 (an optional dependency)

        began, patience = time.monotonic(), None
        while True:
            if deadline is not None and time.monotonic() >= deadline:
                raise too_late(self._where, time.monotonic() - deadline)
            try:
                return work()
            except (exceptions.RedisError, OSError) as cause:
                error, passing = classify(cause, self._where)
                patience = patience or Patience(began, deadline)
                wait = patience.next_wait()
                if not passing or wait is None:
                    raise error from cause
                if isinstance(error, StoreReadOnly):
                    self._client.connection_pool.disconnect()  # the name may lead to the new primary by now
            time.sleep(wait)


def _mixed(rows: Sequence[bytes]) -> bool:
    """Whether rows are of several publications."""
    return len({row[:8] for row in rows}) > 1


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
