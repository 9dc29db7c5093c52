"""The online store in Redis, 6.2 or newer, or anything that speaks its protocol.

Takes and gives encoded rows by key. Rows lie under ``fstore:<project>:row:<view>:<generation>:<key>``, so that one server
can serve many projects. Compare-and-set runs inside the server, in a Lua script over 500 keys at a time. Redis acknowledges
from memory; how durable that is, is its configuration, and a mark per view tells afterwards whether something was lost. What
may pass by itself is tried again for two seconds: every command here may be repeated. A server that evicts rows, and a Redis
Cluster (which has a store of its own), are refused when the store is created.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeVar, cast

from fstore.connections import masked_url
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
from fstore.stores.redis_failures import Patience, classify, refused_cluster, too_late
from fstore.stores.redis_forgetting import EVERYTHING, FORGET, forget_arguments
from fstore.stores.redis_keys import RedisKeys

if TYPE_CHECKING:
    import redis

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
READ_MARK = _LIFE + "return {life() or false, redis.call('GET', KEYS[2])}"
RAISE_MARK = (
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
        self._connected = connect(url)
        self._reads = ReadConnections(self._connected.connection_pool)

    def create(self, store_id: str) -> None:
        """Write the id. Raises StoreError when the server is set to evict rows, or is one of a cluster."""

        def write_id() -> None:
            self._check_server()
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
        return None if found is None else text_of(found)

    def write_rows(self, view: OnlineView, keys: Sequence[bytes], rows: Sequence[bytes]) -> int:
        """Write in pipelines of scripts. An error leaves some of them done, which repeating makes whole."""
        self._run(self._check_created)
        return sum(
            self._write(sequence, pairs, self._keys.forgotten(view))
            for sequence, pairs in self.by_sequence(view, keys, rows)
        )

    def by_sequence(
        self, view: OnlineView, keys: Sequence[bytes], rows: Sequence[bytes]
    ) -> Iterator[tuple[bytes, list[tuple[bytes, bytes]]]]:
        """Yield whole keys and rows by the sequence that rows have, ascending."""
        keys, rows = newest_per_key(keys, rows)
        prefix = self._keys.rows(view)
        pairs = sorted(zip(rows, keys, strict=True)) if _mixed(rows) else zip(rows, keys, strict=True)
        for sequence, group in groupby(pairs, key=lambda pair: pair[0][:8]):
            yield sequence, [(prefix + key, row) for row, key in group]

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
        found = read_mark(self._script(READ_MARK, self.marking(view)))
        if found is None:
            raise self._missing()
        return found

    def marking(self, view: OnlineView) -> list[bytes]:
        """Return the keys of the script that reads a mark."""
        return [self._keys.life, self._keys.mark(view)]

    def raise_floor(self, view: OnlineView, floor: Floor, mark: Mark | None = None) -> None:
        """Raise the floor by the same script as rows, or floor and mark by one of their own."""
        value = encode_floor(floor)
        if mark is None:
            self._run(self._check_created)
            self._write(value[:8], [(self._keys.floor(view), value)], self._keys.floor(view))
            return
        keys, arguments = self.raising(view, floor, mark)
        match text_of(self._script(RAISE_MARK, keys, *arguments)):
            case "missing":
                raise self._missing()
            case "changed":
                raise StoreChanged(view.view)

    def raising(self, view: OnlineView, floor: Floor, mark: Mark) -> tuple[list[bytes], list[bytes]]:
        """Return keys and arguments of the script that raises floor and mark."""
        numbers = [number.to_bytes(8, "big") for number in (mark.ticket, mark.settled)]
        keys = [self._keys.life, self._keys.mark(view), self._keys.floor(view)]
        return keys, [mark.life.encode(), encode_floor(floor), *numbers]

    def forget_rows(self, view: OnlineView, sequence: int, before: datetime | None) -> int:
        """Find the rows by SCAN, and let the server compare and delete them, a few hundred at a time."""
        return self._forget(view, forget_arguments(sequence, before)) if self.begin_forgetting(view, sequence) else 0

    def begin_forgetting(self, view: OnlineView, sequence: int) -> bool:
        """Note up to where rows are forgotten, and return whether there is something to forget."""
        now, key = datetime.now(UTC), self._keys.forgotten(view)
        value = encode_floor(Floor(sequence=sequence, end=now))
        self._run(self._check_created)
        mark = decode_floor(self._values([key])[0])
        if sequence <= 0 or forgotten_lately(mark, sequence, now):
            return False
        if mark is not None and mark.sequence == sequence:
            self._run(lambda: self._client.set(key, value))
            return True
        return self._write(value[:8], [(key, value)], key) > 0  # else somebody else has forgotten more

    def begin_dropping(self, view: OnlineView) -> None:
        """Delete a view's floor: what is read of it from now on is an error."""
        self._run(self._check_created)
        self._run(lambda: self._client.delete(self._keys.floor(view)))

    def forget_keys(self, keys: list[bytes], arguments: tuple[bytes, ...]) -> int:
        """Run the script that forgets over rows by their whole keys, and return how many it deleted."""
        deleted = 0
        for start in range(0, len(keys), _KEYS_PER_CALL):
            deleted += int(self._script(FORGET, keys[start : start + _KEYS_PER_CALL], *arguments))
            failpoint("online.forgotten")
        return deleted

    def drop_view(self, view: OnlineView) -> int:
        """Delete the floor, then the rows."""
        self.begin_dropping(view)
        return self._forget(view, EVERYTHING)

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        self._reads.close()
        disconnect(self._client)

    # -- parts --------------------------------------------------------------------------------------------------------

    @property
    def _client(self) -> redis.Redis:
        return self._connected

    def _check_server(self) -> None:
        if is_cluster(self._client):
            raise refused_cluster(self._where)
        refuse_eviction(self._client, self._where)

    def _values(self, keys: list[bytes]) -> list[bytes | None]:
        return cast("list[bytes | None]", self._run(lambda: self._client.mget(keys)))

    def _check_created(self) -> None:
        if not self._client.exists(self._keys.id):
            raise self._missing()

    def _missing(self) -> StoreMissing:
        return StoreMissing(
            f"there is no online store of project {self.project!r} at {masked_url(self.url)}: it was never created, or has "
            "lost everything. Run `fstore repair --online` to fill it again, `fstore apply` to create it, or correct "
            "FSTORE_ONLINE_URL."
        )

    def _forget(self, view: OnlineView, arguments: tuple[bytes, ...]) -> int:
        """Run the script that forgets over all rows of a view."""
        deleted, cursor = 0, 0
        pattern = self._keys.rows(view) + b"*"
        while True:
            cursor, keys = self._run(partial(self._client.scan, cursor, match=pattern, count=_KEYS_PER_CALL))
            deleted += self.forget_keys(cast("list[bytes]", keys), arguments)
            if not cursor:
                return deleted

    def _write(self, sequence: bytes, pairs: list[tuple[bytes, bytes]], forgotten: bytes) -> int:
        """Put the pairs, all of one sequence, that are newer than what is there or was forgotten."""
        calls = list(write_calls(sequence, pairs, forgotten))
        parts = [calls[start : start + _CALLS_PER_PIPELINE] for start in range(0, len(calls), _CALLS_PER_PIPELINE)]
        return sum(self._run(partial(self._send, part)) for part in parts)

    def _send(self, calls: Sequence[list[Any]]) -> int:
        return send_calls(self._client, calls, self._where)

    def _script(self, script: str, keys: Sequence[bytes], *arguments: bytes) -> Any:
        return self._run(lambda: self._client.eval(script, len(keys), *keys, *arguments))

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


def write_calls(sequence: bytes, pairs: list[tuple[bytes, bytes]], forgotten: bytes) -> Iterator[list[Any]]:
    """Yield the arguments of calls of the script that puts whole keys and rows of one sequence."""
    halves = [int.from_bytes(sequence[:4], "big"), int.from_bytes(sequence[4:], "big")]
    for start in range(0, len(pairs), _KEYS_PER_CALL):
        keys, rows = zip(*pairs[start : start + _KEYS_PER_CALL], strict=True)
        yield [len(keys) + 1, forgotten, *keys, *halves, *rows]


def send_calls(client: redis.Redis, calls: Sequence[list[Any]], where: str) -> int:
    """Call the script that puts rows in one pipeline, and return how many rows were put."""
    from redis.exceptions import NoScriptError  # noqa: PLC0415 (an optional dependency)

    for _ in range(2):
        with client.pipeline(transaction=False) as pipeline:
            for call in calls:
                pipeline.evalsha(_SCRIPT_ID, *call)
            try:
                return sum(pipeline.execute())
            except NoScriptError:
                client.script_load(_COMPARE_AND_SET)
    raise StoreUnavailable(f"{where} forgets its scripts at once: another client keeps flushing them")


def is_cluster(client: redis.Redis) -> bool:
    """Whether a server is one of a cluster."""
    return text_of(client.info("server").get("redis_mode", "")) == "cluster"


def refuse_eviction(client: redis.Redis, where: str) -> None:
    """Raise StoreError for a server that is set to evict rows."""
    policy = text_of(client.info("memory").get("maxmemory_policy", ""))
    if policy.startswith("allkeys"):
        raise StoreError(
            f"{where} evicts rows when its memory is full (maxmemory-policy {policy}), and a read would then give nulls for "
            "them. Set maxmemory-policy to noeviction or to one of the volatile ones."
        )


def read_mark(answer: list[Any]) -> StoreMark | None:
    """Return what the script that reads a mark has answered; None where there is no store."""
    life, ticket = answer
    return None if life is None else StoreMark(life=text_of(life), ticket=int.from_bytes(ticket or b"", "big"))


def _mixed(rows: Sequence[bytes]) -> bool:
    """Whether rows are of several publications."""
    return len({row[:8] for row in rows}) > 1


def text_of(value: object) -> str:
    """Return a reply as text."""
    return value.decode() if isinstance(value, bytes) else str(value)
