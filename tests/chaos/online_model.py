"""An online store against a dictionary: ``OnlineModel`` takes random steps with several handles, forks and kills.

Rows of several views and generations are written in any order, repeated, as tombstones too, by this process, by children
that inherited the open store, by children at once and by children that are killed. The model keeps, for each key, the row of
the highest sequence. A read as a client judges it takes a row below the floor for absent.
"""

from __future__ import annotations

import os
import pickle
import signal
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import rmtree
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from fstore.errors import StoreMismatch, StoreMissing
from fstore.stores.encoding import RowCodec
from fstore.stores.lmdb import LmdbStore
from fstore.stores.online import Floor, OnlineStore, OnlineView
from fstore.stores.redis import RedisStore
from fstore.types import Column
from tests.chaos.options import Options
from tests.chaos.stateful import Counted, machine_at, run_part

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
KEYS = [b"a", b"b", b"c", b"", b"long " * 200, b"longer" * 200, b"\xff\x00"]
NAMES = [("v", 1), ("v", 2), ("v:1", 1), ("w", 1)]
FEATURE = Column(name="n", type="int64")
CODEC = RowCodec(keys=(Column(name="id", type="string"),), features=(FEATURE,))

names = st.sampled_from(NAMES)
sequences = st.integers(0, 12) | st.sampled_from([2**32 - 1, 2**32, 2**53, 2**53 + 1, 2**64 - 1])
batches = st.lists(st.tuples(st.sampled_from(KEYS), sequences), max_size=8)
Batch = list[tuple[bytes, int]]


def row(key: bytes, sequence: int) -> bytes:
    """Return the one row that a publication has for a key; every fifth is a tombstone.

    Laid out by hand: sequence and time big-endian, schema (0: a tombstone), a null bitmap, and the number.
    """
    number = sequence % 10_007 + len(key)
    header = sequence.to_bytes(8, "big") + number.to_bytes(8, "big")
    if number % 5 == 0:
        return header + bytes(8)
    return header + CODEC.schema_id.to_bytes(8, "little") + b"\x01" + number.to_bytes(8, "little")


def in_child(work: Callable[[], Any]) -> tuple[int, int]:
    """Fork, do some work with what the child inherits, and return the child's id and where its result can be read."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # "use of fork() may lead to deadlocks": that is what is tried
        child = os.fork()
    if not child:
        try:
            result: object = work()
        except BaseException as error:  # noqa: BLE001 (told to the parent)
            result = repr(error)
        with suppress(OSError):
            os.write(writing, pickle.dumps(result))
        os._exit(0)
    os.close(writing)
    return child, reading


def result_of(child: int, reading: int) -> Any:
    """Wait for a child and return what it said, None when it was killed before."""
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return pickle.loads(text) if text else None


class OnlineModel(Counted):
    """Random steps at a store; ``open`` gives a new handle for a project, and ``lose`` loses all that the store has."""

    open: Callable[[str], OnlineStore]
    lose: Callable[[str], None]

    @initialize()
    def create(self) -> None:
        self.project = f"p{uuid.uuid4().hex[:12]}"
        self.store = type(self).open(self.project)
        self.other = type(self).open(self.project)
        self.there = False
        self.rows: dict[tuple[tuple[str, int], bytes], int] = {}
        self.floors: dict[tuple[str, int], Floor] = {}
        self.seen: dict[tuple[tuple[str, int], bytes], int] = {}
        self.found_at_once: set[tuple[str, int]] = set()

    def teardown(self) -> None:
        if hasattr(self, "store"):
            type(self).lose(self.project)
            self.store.close()
            self.other.close()

    def view(self, name: tuple[str, int]) -> OnlineView:
        return OnlineView(project=self.project, view=name[0], generation=name[1])

    def handle(self, second: bool) -> OnlineStore:
        return self.other if second else self.store

    def write_to(self, store: OnlineStore, name: tuple[str, int], batch: Batch) -> int:
        return store.write_rows(self.view(name), [key for key, _ in batch], [row(key, n) for key, n in batch])

    def remember(self, name: tuple[str, int], batch: Batch) -> None:
        for key, sequence in batch:
            self.rows[name, key] = max(sequence, self.rows.get((name, key), 0))

    # -- the store itself -----------------------------------------------------------------------------------------------

    @rule(second=st.booleans())
    def create_it(self, second: bool) -> None:
        self.handle(second).create("id-1")
        self.there = True
        assert self.store.store_id() == self.other.store_id() == "id-1"

    @precondition(lambda self: self.there)
    @rule(second=st.booleans())
    def create_another(self, second: bool) -> None:
        try:
            self.handle(second).create("id-2")
        except StoreMismatch:
            return
        raise AssertionError("a store took another id")

    @precondition(lambda self: not self.there)
    @rule(name=names, second=st.booleans())
    def use_what_is_not_there(self, name: tuple[str, int], second: bool) -> None:
        store, view = self.handle(second), self.view(name)
        assert store.store_id() is None
        for use in (
            lambda: store.write_rows(view, [b"a"], [row(b"a", 1)]),
            lambda: store.read_view(view, [b"a"]),
            lambda: store.read_rows(view, []),
            lambda: store.raise_floor(view, Floor(sequence=1, end=NOON)),
        ):
            try:
                use()
            except StoreMissing:
                continue
            raise AssertionError("a store that is not there was used")

    @precondition(lambda self: self.there)  # and not what rows there are: that depends on when a child was killed
    @rule(dice=st.integers(0, 9))
    def lose_it(self, dice: int) -> None:
        if dice:
            return
        type(self).lose(self.project)
        self.there = False
        self.rows.clear()
        self.floors.clear()
        self.seen.clear()

    @rule(second=st.booleans(), new=st.booleans())
    def reopen(self, second: bool, new: bool) -> None:
        self.handle(second).close()
        if new and second:
            self.other = type(self).open(self.project)
        elif new:
            self.store = type(self).open(self.project)

    # -- rows and floors ------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.there)
    @rule(name=names, batch=batches, second=st.booleans(), forked=st.booleans())
    def write(self, name: tuple[str, int], batch: Batch, second: bool, forked: bool) -> None:
        store = self.handle(second)
        if forked:
            written = result_of(*in_child(lambda: self.write_to(store, name, batch)))
        else:
            written = self.write_to(store, name, batch)
        winners = {key for key, sequence in batch if sequence > self.rows.get((name, key), -1)}
        equal = [key for key, sequence in batch if sequence >= self.rows.get((name, key), -1)]
        assert isinstance(written, int), written
        assert len(winners) <= written <= len(equal), "another number of rows counts as written"
        self.remember(name, batch)

    @precondition(lambda self: self.there)
    @rule(name=names, batch=batches)
    def write_again_and_back(self, name: tuple[str, int], batch: Batch) -> None:
        for again in (batch, list(reversed(batch)), [(key, max(n - 1, 0)) for key, n in batch]):
            self.write_to(self.store, name, again)
            self.remember(name, again)

    @precondition(lambda self: self.there)
    @rule(name=names, parts=st.lists(batches, min_size=2, max_size=3), kill=st.booleans())
    def write_at_once(self, name: tuple[str, int], parts: list[Batch], kill: bool) -> None:
        """Children that inherited the store write at once, while this process reads; the first may be killed."""
        before = {key: self.rows.get((name, key), -1) for key in KEYS}

        def several(batch: Batch) -> int:
            return sum(self.write_to(self.store, name, batch[at : at + 2]) for at in range(0, len(batch), 2))

        children = [in_child(lambda batch=batch: several(batch)) for batch in parts]
        if kill:
            time.sleep(0.001 * (len(parts[0]) % 3))
            os.kill(children[0][0], signal.SIGKILL)
        last = before
        for _ in range(3):
            now = self.stored(self.store, name)
            assert all(now[key] >= last[key] for key in KEYS), "a key's sequence went back"
            last = now
        results = [result_of(*child) for child in children]
        assert all(isinstance(result, int) for result in results[kill:]), results
        done = [batch for batch, result in zip(parts, results, strict=True) if result is not None]
        for batch in done:
            self.remember(name, batch)
        if kill and results[0] is None:  # of what the killed one wrote each row is there or not
            now = self.stored(self.store, name)
            for key in KEYS:
                known = self.rows.get((name, key), -1)
                possible = {known, *(n for other, n in parts[0] if other == key and n > known)}
                assert now[key] in possible, f"{key!r} has {now[key]} and not one of {possible}"
                if now[key] >= 0:
                    self.rows[name, key] = now[key]

    @precondition(lambda self: self.there)
    @rule(name=names, sequence=sequences, hours=st.integers(0, 3), second=st.booleans(), forked=st.booleans())
    def raise_floor(self, name: tuple[str, int], sequence: int, hours: int, second: bool, forked: bool) -> None:
        floor = Floor(sequence=sequence, end=NOON + timedelta(hours=hours))
        store = self.handle(second)
        if forked:
            assert result_of(*in_child(lambda: store.raise_floor(self.view(name), floor) or "raised")) == "raised"
        else:
            store.raise_floor(self.view(name), floor)
        if name not in self.floors or floor.sequence > self.floors[name].sequence:
            self.floors[name] = floor

    # -- what must hold -------------------------------------------------------------------------------------------------

    def stored(self, store: OnlineStore, name: tuple[str, int]) -> dict[bytes, int]:
        """Return the sequence of each key; every row must be the one of its sequence, whole."""
        found = {}
        for key, value in zip(KEYS, store.read_rows(self.view(name), KEYS), strict=True):
            found[key] = -1 if value is None else int.from_bytes(value[:8], "big")
            assert value is None or value == row(key, found[key]), "a row is torn or another's"
        return found

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "there") or not self.there:
            return
        name = NAMES[type(self).taken % len(NAMES)]
        found = self.other.read_view(self.view(name), [*KEYS, KEYS[0]])
        expected = [row(key, self.rows[name, key]) if (name, key) in self.rows else None for key in [*KEYS, KEYS[0]]]
        assert found.rows == expected
        assert found.floor == self.floors.get(name)
        for key, value in zip(KEYS, found.rows, strict=False):
            sequence = -1 if value is None else int.from_bytes(value[:8], "big")
            assert sequence >= self.seen.get((name, key), -1), "a key's sequence went back"
            self.seen[name, key] = sequence

    @precondition(lambda self: self.there)
    @rule(name=names)
    def read_as_a_client(self, name: tuple[str, int]) -> None:
        """Rows below the floor, tombstones and keys without a row are absent; others have their value."""
        found = self.store.read_view(self.view(name), KEYS)
        floor = found.floor.sequence if found.floor else 0
        values = CODEC.decode_rows(found.rows, floor).column("n").to_pylist()
        for key, value in zip(KEYS, values, strict=True):
            sequence = self.rows.get((name, key), -1)
            number = sequence % 10_007 + len(key)
            there = sequence >= floor and sequence >= 0 and number % 5 != 0
            assert value == (number if there else None)

    @precondition(lambda self: self.there)
    @rule(name=names)
    def read_in_a_child(self, name: tuple[str, int]) -> None:
        found = result_of(*in_child(lambda: self.stored(self.store, name)))
        assert found == {key: self.rows.get((name, key), -1) for key in KEYS}


def lmdb_at(directory: Path) -> type[Counted]:
    """Return the machine for LMDB; each project has an environment of its own, which is lost by deleting it."""
    return machine_at(
        OnlineModel, open=staticmethod(lambda project: LmdbStore(directory / project, project)),
        lose=staticmethod(lambda project: rmtree(directory / project, ignore_errors=True)),
    )  # fmt: skip


def redis_at(url: str) -> type[Counted]:
    """Return the machine for Redis; a project is lost by deleting its keys."""

    def lose(project: str) -> None:
        import redis

        with redis.Redis.from_url(url) as client:
            if keys := list(client.scan_iter(f"fstore:{project}:*", count=1000)):
                client.delete(*keys)

    return machine_at(OnlineModel, open=staticmethod(lambda project: RedisStore(url, project)), lose=staticmethod(lose))


def run(options: Options) -> tuple[int, int]:
    """Run the model as a part of the harness, on every store asked for."""
    from scripts.servers import redis_server

    with ExitStack() as stack:
        machines = {}
        if "lmdb" in options.online or options.long:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="fstore-online-"))
            machines["lmdb"] = lmdb_at(Path(directory))
        if "redis" in options.online or options.long:
            machines["redis"] = redis_at(stack.enter_context(redis_server()).url)
        return run_part(options, "online-model", machines, examples=200 if options.long else 8, steps=40)
