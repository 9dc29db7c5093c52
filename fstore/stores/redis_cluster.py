"""The online store in a Redis Cluster: 128 buckets of keys, each of them a store of its own on whichever server has it.

Rows and floor must be read at one moment, and what loses rows must lose the floor that vouches for them. A cluster promises
neither across slots, but both within one: a server holds a slot as a whole, with its replicas and its files, and MGET over
keys of one slot is atomic. So keys are spread over 128 buckets by their hash, and a bucket has all that a single Redis has,
in one slot (by the hash tag ``{<bucket>}``): id, life, floors, marks and rows. A reader asks every bucket of its keys for
floor and rows with one MGET, all buckets in one round trip per server, and judges the rows of a view by the lowest floor it
got. That is safe: no row is below the floor of its own bucket, so none below the lowest; floors rise after all rows of all
buckets are written, so a row above the lowest floor is what a single Redis shows as well between writing and raising; and a
key without a row had none at the lowest floor either, or one that is beyond ttl by now. A bucket without id or floor is an
error.

A view's mark is the lowest of its buckets', and its life changes with that of any: work counts as settled when no bucket
lost anything. Moved slots are followed; while one is being moved, reads of its buckets wait.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from fstore.connections import masked_url
from fstore.errors import StoreChanged, StoreError, StoreMissing
from fstore.stores.online import Floor, Mark, OnlineView, StoreMark, ViewKeys, ViewRows, encode_floor
from fstore.stores.redis import (
    RAISE_MARK,
    READ_MARK,
    RedisStore,
    is_cluster,
    read_mark,
    refuse_eviction,
    send_calls,
    text_of,
    write_calls,
)
from fstore.stores.redis_async import AsyncClusterReads
from fstore.stores.redis_forgetting import EVERYTHING, forget_arguments
from fstore.stores.redis_keys import RedisKeys
from fstore.stores.redis_spread import BUCKETS, Spread
from fstore.stores.redis_topology import Address, Topology

if TYPE_CHECKING:
    import redis

Result = TypeVar("Result")

_REMEMBERED_LIVES = 1000
_SCANNED_KEYS = 2000
_CALLS_PER_PIPELINE = 200


class Bucket(RedisStore):
    """One bucket: a :class:`RedisStore` on the server that has its slot now."""

    def __init__(self, url: str, project: str, number: int, topology: Topology) -> None:
        from redis.crc import key_slot  # noqa: PLC0415 (an optional dependency)

        self.url, self.project = url, project
        self._where = f"the online store at {masked_url(url)}"
        self._keys = RedisKeys(project, f"{{{number}}}:")
        self.slot = int(key_slot(str(number).encode()))
        self._topology = topology

    @property
    def keys(self) -> RedisKeys:
        """Where everything of the bucket lies."""
        return self._keys

    @property
    def _client(self) -> redis.Redis:
        return self._topology.client(self._topology.address(self.slot))

    def _check_server(self) -> None:
        """Leave it to the whole store, which looks once at each server."""

    def _run(self, work: Callable[[], Result], deadline: float | None = None) -> Result:
        return super()._run(lambda: follow(self._topology, work), deadline)

    def calls(self, view: OnlineView, keys: Sequence[bytes], rows: Sequence[bytes]) -> Iterator[list[Any]]:
        """Yield the arguments of calls of the script that puts the rows."""
        for sequence, pairs in self.by_sequence(view, keys, rows):
            yield from write_calls(sequence, pairs, self._keys.forgotten(view))

    def _missing(self) -> StoreMissing:
        return StoreMissing(
            f"there is no online store of project {self.project!r} at {masked_url(self.url)}: it was never created, or a "
            "server of it has lost everything. Run `fstore repair --online` to fill it again, `fstore apply` to create it, "
            "or correct FSTORE_ONLINE_URL."
        )

    def missing(self) -> StoreMissing:
        """Return the error of a bucket without an id."""
        return self._missing()

    def ask(self, work: Callable[[], Result], deadline: float | None) -> Result:
        """Do what may be repeated, with the patience of a store."""
        return self._run(work, deadline)


class RedisClusterStore:
    """An :class:`~fstore.stores.online.OnlineStore` in a Redis Cluster."""

    def __init__(self, url: str, project: str) -> None:
        """Connect to nothing yet. Raises SettingsError when the URL is none or redis-py is missing."""
        self.url, self.project = url, project
        self._where = f"the online store at {masked_url(url)}"
        self._topology = Topology(url)
        self._buckets = [Bucket(url, project, number, self._topology) for number in range(BUCKETS)]
        self._lives: dict[str, list[str]] = {}

    def create(self, store_id: str) -> None:
        """Write the id into every bucket. Raises StoreError for servers that evict rows or are of no cluster."""
        where = self._where

        def check() -> None:
            for address in self._topology.addresses():
                client = self._topology.client(address)
                if not is_cluster(client):
                    raise StoreError(f"{where} is no Redis Cluster: give its URL with redis:// instead of redis+cluster://")
                refuse_eviction(client, where)

        self._buckets[0].ask(check, None)
        for bucket in self._buckets:
            bucket.create(store_id)

    def store_id(self) -> str | None:
        """Return the id, or None when some bucket has none: never created, or lost with its server."""
        found = {bucket.store_id() for bucket in self._buckets}
        return None if None in found else sorted(str(one) for one in found)[0]

    def write_rows(self, view: OnlineView, keys: Sequence[bytes], rows: Sequence[bytes]) -> int:
        """Write in a pipeline per server. An error leaves some of it done, which repeating makes whole."""
        if len(keys) != len(rows):
            raise ValueError(f"{len(keys)} keys were given for {len(rows)} rows")
        parts: dict[int, tuple[list[bytes], list[bytes]]] = {}
        for key, row in zip(keys, rows, strict=True):
            own_keys, own_rows = parts.setdefault(zlib.crc32(key) % BUCKETS, ([], []))
            own_keys.append(key)
            own_rows.append(row)
        self._lowest_floor(view, parts or (0,))
        calls = {number: list(self._buckets[number].calls(view, *part)) for number, part in parts.items()}
        return self._buckets[0].ask(lambda: self._send(calls), None)

    def _send(self, calls: Mapping[int, list[list[Any]]]) -> int:
        by_server: dict[Address, list[list[Any]]] = {}
        for number, own in calls.items():
            by_server.setdefault(self._topology.address(self._buckets[number].slot), []).extend(own)
        return sum(
            send_calls(self._topology.client(address), own[start : start + _CALLS_PER_PIPELINE], self._where)
            for address, own in by_server.items()
            for start in range(0, len(own), _CALLS_PER_PIPELINE)
        )

    def read_rows(self, view: OnlineView, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the stored row of each key, or None."""
        return self.read_view(view, keys).rows

    def read_view(self, view: OnlineView, keys: Sequence[bytes]) -> ViewRows:
        """Return the rows, and a floor that is not above that of any bucket read."""
        return self.read_views([ViewKeys(view, keys)])[0]

    def read_views(self, requests: Sequence[ViewKeys], *, deadline: float | None = None) -> list[ViewRows]:
        """Return rows and floors from one MGET per bucket, all of them in one round trip per server."""
        spread = Spread(requests, [bucket.keys for bucket in self._buckets])
        found = spread.merge(self._buckets[0].ask(lambda: self._exchange(spread, deadline), deadline))
        if found is None:
            raise self._buckets[0].missing()
        return found

    def async_reads(self) -> AsyncClusterReads:
        """Return reads over connections of their own."""
        slots = [bucket.slot for bucket in self._buckets]
        keys = [bucket.keys for bucket in self._buckets]
        return AsyncClusterReads(self._topology, keys, slots, self._where, self._buckets[0].missing)

    def floor(self, view: OnlineView) -> Floor | None:
        """Return the lowest floor of all buckets, or None when one of them has none."""
        return self._lowest_floor(view, range(BUCKETS))

    def mark(self, view: OnlineView) -> StoreMark:
        """Return the lowest mark, and a life that stands for those of all buckets."""
        marks = []
        for answer in self._each(READ_MARK, [(bucket.marking(view), []) for bucket in self._buckets]):
            if (mark := read_mark(answer)) is None:
                raise self._buckets[0].missing()
            marks.append(mark)
        lives = [mark.life for mark in marks]
        life = hashlib.sha256("\n".join(lives).encode()).hexdigest()
        self._lives[life] = lives
        while len(self._lives) > _REMEMBERED_LIVES:
            del self._lives[next(iter(self._lives))]
        return StoreMark(life=life, ticket=min(mark.ticket for mark in marks))

    def raise_floor(self, view: OnlineView, floor: Floor, mark: Mark | None = None) -> None:
        """Raise floor and mark in every bucket, each if it leads the life that it led.

        Some may be raised where others turn out not to. That is no harm: a bucket whose floor rises has all its rows, and
        only the lowest floors and marks count.
        """
        self._lowest_floor(view, range(BUCKETS))
        if mark is None:
            value = encode_floor(floor)
            places = [bucket.keys.floor(view) for bucket in self._buckets]
            calls = [list(write_calls(value[:8], [(place, value)], place)) for place in places]
            self._buckets[0].ask(lambda: self._send(dict(enumerate(calls))), None)
            return
        lives = self._lives.get(mark.life)
        if lives is None:
            raise StoreChanged(view.view)
        own = [Mark(life=life, ticket=mark.ticket, settled=mark.settled) for life in lives]
        raising = [bucket.raising(view, floor, one) for bucket, one in zip(self._buckets, own, strict=True)]
        answers = {text_of(answer) for answer in self._each(RAISE_MARK, raising)}
        if "missing" in answers:
            raise self._buckets[0].missing()
        if "changed" in answers:
            raise StoreChanged(view.view)

    def forget_rows(self, view: OnlineView, sequence: int, before: datetime | None) -> int:
        """Find the rows by SCAN on every server, and forget them bucket by bucket."""
        begun = {number for number, bucket in enumerate(self._buckets) if bucket.begin_forgetting(view, sequence)}
        return self._forget(view, begun, forget_arguments(sequence, before)) if begun else 0

    def drop_view(self, view: OnlineView) -> int:
        """Delete the floors of all buckets, then the rows."""
        for bucket in self._buckets:
            bucket.begin_dropping(view)
        return self._forget(view, set(range(BUCKETS)), EVERYTHING)

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        self._topology.close()

    def _each(self, script: str, arguments: Sequence[tuple[list[bytes], list[bytes]]]) -> list[Any]:
        """Run a script in every bucket with keys and arguments of its own, in a pipeline per server; answers by bucket."""

        def work() -> list[Any]:
            by_server: dict[Address, list[int]] = {}
            for number, bucket in enumerate(self._buckets):
                by_server.setdefault(self._topology.address(bucket.slot), []).append(number)
            answers: list[Any] = [None] * len(self._buckets)
            for address, numbers in by_server.items():
                with self._topology.client(address).pipeline(transaction=False) as pipeline:
                    for number in numbers:
                        keys, own = arguments[number]
                        pipeline.eval(script, len(keys), *keys, *own)
                    for number, answer in zip(numbers, pipeline.execute(), strict=True):
                        answers[number] = answer
            return answers

        return self._buckets[0].ask(work, None)

    def _lowest_floor(self, view: OnlineView, buckets: Iterable[int]) -> Floor | None:
        """Return the lowest floor of some buckets. Raises StoreMissing if one of them has no id."""
        spread = Spread([ViewKeys(view, ())], [bucket.keys for bucket in self._buckets], buckets=buckets)
        found = spread.merge(self._buckets[0].ask(lambda: self._exchange(spread, None), None))
        if found is None:
            raise self._buckets[0].missing()
        return found[0].floor

    def _exchange(self, spread: Spread, deadline: float | None) -> list[list[bytes | None]]:
        """Send every server its MGETs, then receive all answers; they come in the order of ``spread.wanted``."""
        topology = self._topology
        parts = spread.by_server(lambda number: topology.address(self._buckets[number].slot))
        sent = []
        try:
            for address, places in parts.items():
                reads = topology.reads(address)
                sent.append((reads, reads.send([spread.wanted[place] for place in places], deadline), places))
            values: list[list[bytes | None]] = [[]] * len(spread.wanted)
            while sent:
                reads, connection, places = sent[0]
                for place, answer in zip(places, reads.receive(connection, len(places), deadline), strict=True):
                    values[place] = answer
                del sent[0]
        finally:
            for reads, connection, _ in sent:
                reads.give_up(connection)
        return values

    def _forget(self, view: OnlineView, begun: set[int], arguments: tuple[bytes, ...]) -> int:
        deleted, first, pattern = 0, self._buckets[0], RedisKeys.tagged_rows(view)
        for address in first.ask(self._topology.addresses, None):
            cursor = 0
            while True:
                scan = partial(self._topology.client(address).scan, cursor, match=pattern, count=_SCANNED_KEYS)
                cursor, keys = cast("tuple[int, list[bytes]]", first.ask(scan, None))
                for number, own in _by_bucket(keys).items():
                    if number in begun:
                        deleted += self._buckets[number].forget_keys(own, arguments)
                if not cursor:
                    break
        return deleted


def _by_bucket(keys: Sequence[bytes]) -> dict[int, list[bytes]]:
    """Return whole keys by the bucket in their tag."""
    found: dict[int, list[bytes]] = {}
    for key in keys:
        found.setdefault(int(key[key.index(b"{") + 1 : key.index(b"}")]), []).append(key)
    return found


def follow(topology: Topology, work: Callable[[], Result]) -> Result:
    """Do something, and look for the servers anew before it is tried again, where that may be of use."""
    from redis import exceptions  # noqa: PLC0415 (an optional dependency)

    try:
        return work()
    except (exceptions.MovedError, exceptions.AskError) as error:
        topology.doubt()
        raise exceptions.TryAgainError(f"TRYAGAIN {type(error).__name__}: {error}") from error
    except (exceptions.ConnectionError, exceptions.TimeoutError, exceptions.ReadOnlyError, OSError):
        topology.doubt()
        raise
