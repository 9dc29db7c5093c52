"""The contract of ``OnlineStore``, run on every implementation."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from fstore.errors import StoreChanged, StoreMismatch, StoreMissing
from fstore.stores.encoding import RowCodec
from fstore.stores.online import (
    AppliedRows,
    Floor,
    Mark,
    OnlineStore,
    OnlineView,
    ViewKeys,
    ViewRows,
    apply_rows,
    apply_tombstones,
)
from fstore.types import Column
from scripts.servers import ServerMissing, redis_cluster, redis_sentinel, redis_server
from tests.contracts.online_writers import KEYS, VIEW, open_store, race, race_rows, row, write_until_killed

OTHER = OnlineView(project="shop", view="user_purchases", generation=2)
SPAWN = multiprocessing.get_context("spawn")
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


SERVERS = [pytest.param(name, marks=pytest.mark.integration) for name in ("redis", "sentinel", "cluster")]


@pytest.fixture(params=["lmdb", *SERVERS])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    match request.param:
        case "lmdb":
            return f"lmdb:{tmp_path / 'online'}"
        case "redis":
            return str(request.getfixturevalue("redis_database"))
        case _:
            ports, url = request.getfixturevalue(request.param)
            for port in ports:
                with redis.Redis(port=port) as client:
                    client.flushall()
            return str(url)


@pytest.fixture(scope="module")
def sentinel() -> Iterator[tuple[list[int], str]]:
    """A Redis and a Sentinel that knows it: the ports to empty, and the URL."""
    try:
        with redis_server() as primary, redis_sentinel(primary.port) as watching:
            yield [primary.port], watching.url
    except ServerMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[list[int], str]]:
    """A cluster of three."""
    try:
        with redis_cluster() as servers:
            yield [server.port for server in servers], servers[1].url
    except ServerMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture
def store(url: str) -> Iterator[OnlineStore]:
    store = open_store(url)
    store.create("id-1")
    yield store
    store.close()


# -- identity ----------------------------------------------------------------------------------------------------------


def test_a_store_that_was_never_created_says_so(url: str) -> None:
    store = open_store(url)
    assert store.store_id() is None
    for use in (
        lambda: store.read_rows(VIEW, [b"a"]),
        lambda: store.read_view(VIEW, []),
        lambda: store.write_rows(VIEW, [b"a"], [row(1)]),
        lambda: store.raise_floor(VIEW, Floor(sequence=1, end=NOON)),
        lambda: store.raise_floor(VIEW, Floor(sequence=1, end=NOON), Mark(life="", ticket=1, settled=0)),
        lambda: store.mark(VIEW),
    ):
        with pytest.raises(
            StoreMissing, match=r"^there is no online store of project 'shop' at .*`fstore apply` to create it"
        ):
            use()
    assert store.store_id() is None
    store.close()


def test_an_id_is_given_once(store: OnlineStore, url: str) -> None:
    store.create("id-1")
    with pytest.raises(StoreMismatch, match="has id id-1, not id-2: it belongs to another registry"):
        store.create("id-2")
    other = open_store(url)
    assert store.store_id() == other.store_id() == "id-1"
    other.close()


def test_a_closed_store_opens_again(store: OnlineStore) -> None:
    store.write_rows(VIEW, [b"a"], [row(1)])
    store.close()
    assert store.read_rows(VIEW, [b"a"]) == [row(1)]


# -- rows ----------------------------------------------------------------------------------------------------------------


def test_reads_come_in_the_order_asked_for(store: OnlineStore) -> None:
    assert store.write_rows(VIEW, [b"b", b"a", b"c"], [row(1, b"B"), row(1, b"A"), row(1, b"C")]) == 3
    found = store.read_rows(VIEW, [b"c", b"missing", b"a", b"a", b"b"])
    assert found == [row(1, b"C"), None, row(1, b"A"), row(1, b"A"), row(1, b"B")]
    assert store.read_rows(VIEW, []) == []
    assert store.write_rows(VIEW, [], []) == 0


def test_only_a_higher_sequence_replaces(store: OnlineStore) -> None:
    store.write_rows(VIEW, [b"a", b"b"], [row(5, b"old"), row(7, b"old")])
    assert store.write_rows(VIEW, [b"a", b"b", b"c"], [row(6, b"new")] * 3) == 2
    assert store.read_rows(VIEW, [b"a", b"b", b"c"]) == [row(6, b"new"), row(7, b"old"), row(6, b"new")]


def test_writing_again_changes_nothing(store: OnlineStore) -> None:
    for _ in range(3):
        store.write_rows(VIEW, [b"a"], [row(5, b"x")])
        assert store.read_rows(VIEW, [b"a"]) == [row(5, b"x")]


def test_the_newer_of_two_rows_for_a_key_counts(store: OnlineStore) -> None:
    store.write_rows(VIEW, [b"a", b"b", b"a", b"a"], [row(2, b"2"), row(1), row(3, b"3"), row(1, b"1")])
    assert store.read_rows(VIEW, [b"a"]) == [row(3, b"3")]


def test_sequences_are_compared_as_64_bits(store: OnlineStore) -> None:
    """Lua's numbers have 53 bits, C's strings end at a zero byte, and a locale may order bytes as letters."""
    for sequence in (0x0A, 0x61, 0x100, 0x4100, 0x6100, 0xFF00, 2**32, 2**32 + 1, 2**53, 2**53 + 1, 2**64 - 1):
        assert store.write_rows(VIEW, [b"a"], [row(sequence)]) == 1
        assert store.write_rows(VIEW, [b"a"], [row(sequence - 1)]) == 0
        assert store.read_rows(VIEW, [b"a"]) == [row(sequence)]


def test_views_and_generations_are_apart(store: OnlineStore) -> None:
    views = [
        VIEW,
        OTHER,
        OnlineView(project="shop", view="user", generation=1),
        OnlineView(project="shop2", view="user", generation=1),
    ]
    for number, view in enumerate(views):
        store.write_rows(view, [b"a"], [row(number + 1)])
        store.raise_floor(view, Floor(sequence=number + 1, end=NOON))
    assert [store.read_rows(view, [b"a"]) for view in views] == [[row(1)], [row(2)], [row(3)], [row(4)]]
    assert [store.floor(view) for view in views] == [Floor(sequence=n, end=NOON) for n in (1, 2, 3, 4)]


def test_any_bytes_are_keys(store: OnlineStore) -> None:
    """Empty, binary, beyond what an index holds, and the hash of one that is beyond."""
    import hashlib

    long = [b"k" * 5000, b"k" * 4999 + b"l", hashlib.sha256(b"k" * 5000).digest(), *(b"k" * n for n in range(495, 515))]
    keys = [b"", b"\0", b"\0\0", b":", b"1:x", "é".encode(), b"\xff" * 40, *long]
    store.write_rows(VIEW, keys, [row(1, b"%d" % n) for n in range(len(keys))])
    assert store.read_rows(VIEW, keys) == [row(1, b"%d" % n) for n in range(len(keys))]


def test_a_large_write_and_large_rows(store: OnlineStore) -> None:
    keys = [b"%d" % n for n in range(120_000)]
    assert store.write_rows(VIEW, keys, [row(1)] * len(keys)) == len(keys)
    assert store.write_rows(VIEW, keys[::1000], [row(2, b"x" * 100_000)] * 120) == 120
    assert store.read_rows(VIEW, keys[:1001:500]) == [row(2, b"x" * 100_000), row(1), row(2, b"x" * 100_000)]


# -- floors ---------------------------------------------------------------------------------------------------------------


def test_a_floor_only_rises(store: OnlineStore) -> None:
    assert store.floor(VIEW) is None
    high, low = Floor(sequence=300, end=NOON), Floor(sequence=2, end=NOON + timedelta(days=1))
    for floor in (high, low, Floor(sequence=300, end=NOON + timedelta(days=2))):
        store.raise_floor(VIEW, floor)
        assert store.floor(VIEW) == high
    assert store.floor(OTHER) is None


def test_instants_of_floors_are_exact(store: OnlineStore) -> None:
    for sequence, end in enumerate([datetime(1900, 1, 1, tzinfo=UTC), NOON + timedelta(microseconds=1)]):
        store.raise_floor(VIEW, Floor(sequence=sequence, end=end))
        assert store.floor(VIEW) == Floor(sequence=sequence, end=end)


def test_rows_and_floor_are_of_one_moment(store: OnlineStore, url: str) -> None:
    """A reader who took the floor later than the rows would find rows below it that were complete when it read them."""
    store.write_rows(VIEW, KEYS, [row(1)] * len(KEYS))
    store.raise_floor(VIEW, Floor(sequence=1, end=NOON))
    stop = threading.Event()

    def publish() -> None:
        writer = open_store(url)
        sequence = 1
        while not stop.is_set():
            sequence += 1
            writer.write_rows(VIEW, KEYS, [row(sequence)] * len(KEYS))
            writer.raise_floor(VIEW, Floor(sequence=sequence, end=NOON))
        writer.close()

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        for _ in range(150):
            found = store.read_view(VIEW, KEYS[::10])
            assert found.floor is not None
            oldest = min(int.from_bytes(value[:8], "big") for value in found.rows if value is not None)
            assert oldest >= found.floor.sequence
    finally:
        stop.set()
        thread.join()


# -- a model -----------------------------------------------------------------------------------------------------------


class Model(RuleBasedStateMachine):
    """The store against a dict. Content follows from key and sequence, as it does for rows of one publication."""

    url = ""

    @initialize()
    def open(self) -> None:
        type(self).url, self.view = self.url, OnlineView(project="shop", view=f"v{os.urandom(6).hex()}", generation=1)
        self.store = open_store(self.url)
        self.rows: dict[bytes, int] = {}
        self.reached: Floor | None = None

    @rule(
        keys=st.lists(st.sampled_from([b"a", b"b", b"", b"long" * 300]), max_size=5),
        sequences=st.lists(st.integers(0, 4) | st.sampled_from([2**32, 2**53 + 1]), min_size=5, max_size=5),
        one=st.booleans(),
    )
    def write(self, keys: list[bytes], sequences: list[int], one: bool) -> None:
        chosen = [sequences[0]] * len(keys) if one else sequences[: len(keys)]
        written = self.store.write_rows(self.view, keys, [row(n, key) for key, n in zip(keys, chosen, strict=True)])
        newer = {key for key, n in zip(keys, chosen, strict=True) if n > self.rows.get(key, -1)}
        assert len(newer) <= written <= len(keys)
        for key, sequence in zip(keys, chosen, strict=True):
            self.rows[key] = max(sequence, self.rows.get(key, sequence))

    @rule(sequence=st.integers(0, 5), hours=st.integers(0, 3))
    def raise_floor(self, sequence: int, hours: int) -> None:
        floor = Floor(sequence=sequence, end=NOON + timedelta(hours=hours))
        self.store.raise_floor(self.view, floor)
        if self.reached is None or floor.sequence > self.reached.sequence:
            self.reached = floor

    @rule()
    def reopen(self) -> None:
        self.store.close()

    @invariant()
    def agrees(self) -> None:
        keys = [b"a", b"b", b"", b"long" * 300]
        found = self.store.read_view(self.view, keys)
        assert found.rows == [row(self.rows[key], key) if key in self.rows else None for key in keys]
        assert found.floor == self.store.floor(self.view) == self.reached

    def teardown(self) -> None:
        self.store.close()


def test_a_store_behaves_as_a_dict(store: OnlineStore, url: str) -> None:
    Model.url = url
    run_state_machine_as_test(
        Model,
        settings=settings(max_examples=40, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)),
    )


def test_ten_thousand_steps_leave_what_a_dict_would_have(store: OnlineStore) -> None:
    """One long walk over several views, seeded: rows of any age, floors, reads of many views at once, and reopening."""
    walk = random.Random(20260102)
    views = [OnlineView(project="shop", view=f"walk{number}", generation=number) for number in range(3)]
    keys = [b"k%d" % number for number in range(12)]
    rows: dict[tuple[OnlineView, bytes], int] = {}
    floors: dict[OnlineView, Floor] = {}
    for step in range(10_000):
        view, chance = walk.choice(views), walk.random()
        if chance < 0.6:
            chosen = walk.sample(keys, walk.randrange(1, 5))
            sequence = walk.randrange(1, 2 + step)
            store.write_rows(view, chosen, [row(sequence, key) for key in chosen])
            for key in chosen:
                rows[view, key] = max(sequence, rows.get((view, key), 0))
        elif chance < 0.62:
            floor = Floor(sequence=walk.randrange(1, 2 + step), end=NOON + timedelta(seconds=step))
            store.raise_floor(view, floor)
            if view not in floors or floor.sequence > floors[view].sequence:
                floors[view] = floor
        elif chance < 0.63:
            store.close()
        else:
            requests = [
                ViewKeys(one, walk.sample(keys, walk.randrange(6))) for one in walk.sample(views, walk.randrange(1, 4))
            ]
            for (one, own), found in zip(requests, store.read_views(requests), strict=True):
                assert found.floor == floors.get(one), step
                expected = [row(rows[one, key], key) if (one, key) in rows else None for key in own]
                assert found.rows == expected, step


def test_an_event_loop_reads_the_same(store: OnlineStore) -> None:
    store.write_rows(VIEW, KEYS, [row(2, key) for key in KEYS])
    store.write_rows(OTHER, KEYS[:1], [row(3)])
    store.raise_floor(VIEW, Floor(sequence=2, end=NOON))
    requests = [ViewKeys(OTHER, [*KEYS[:2], b"none"]), ViewKeys(VIEW, KEYS), ViewKeys(VIEW, [])]

    async def read() -> list[list[ViewRows]]:
        reads = store.async_reads()
        found = await asyncio.gather(*(reads.read_views(requests, deadline=time.monotonic() + 30) for _ in range(10)))
        await reads.close()
        found.append(await reads.read_views(requests))  # a closed one opens again
        await reads.close()
        return found

    assert asyncio.run(read()) == [store.read_views(requests)] * 11


# -- processes ---------------------------------------------------------------------------------------------------------


def test_writers_of_several_processes_leave_the_newest_row_of_each_key(store: OnlineStore, url: str) -> None:
    writers = [SPAWN.Process(target=race, args=(url, seed)) for seed in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    expected: dict[bytes, bytes] = {}
    for seed in range(3):
        for keys, rows in race_rows(seed):
            for key, value in zip(keys, rows, strict=True):
                expected[key] = max(value, expected.get(key, value))
    assert store.read_rows(VIEW, KEYS) == [expected.get(key) for key in KEYS]


def test_what_a_killed_writer_had_acknowledged_is_there_and_nothing_is_torn(store: OnlineStore, url: str) -> None:
    receiver, sender = SPAWN.Pipe(duplex=False)
    writer = SPAWN.Process(target=write_until_killed, args=(url, sender))
    writer.start()
    sender.close()
    acknowledged = [receiver.recv() for _ in range(25)][-1]
    writer.kill()
    writer.join()
    while True:
        try:
            acknowledged = receiver.recv()
        except (EOFError, OSError):
            break
    receiver.close()
    for value in store.read_rows(VIEW, KEYS):
        assert value is not None
        sequence = int.from_bytes(value[:8], "big")
        assert acknowledged <= sequence <= acknowledged + 1
        assert value == row(sequence, b"%d " % sequence * 40)
    assert store.write_rows(VIEW, KEYS, [row(acknowledged + 2)] * len(KEYS)) == len(KEYS)


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_parent_and_child_go_on_after_a_fork(store: OnlineStore) -> None:
    store.write_rows(VIEW, [b"a"], [row(1)])
    child = os.fork()
    if child == 0:
        try:
            fine = store.read_rows(VIEW, [b"a"]) == [row(1)] and store.write_rows(VIEW, [b"a"], [row(2)]) == 1
            os._exit(0 if fine else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store.read_rows(VIEW, [b"a"]) == [row(2)]
    assert store.write_rows(VIEW, [b"a"], [row(3)]) == 1


def test_threads_share_a_store(store: OnlineStore) -> None:
    def write(seed: int) -> None:
        for keys, rows in race_rows(seed):
            store.write_rows(VIEW, keys, rows)
            store.read_rows(VIEW, keys)

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    newest = max(max(rows) for seed in range(3) for _, rows in race_rows(seed))
    assert newest in store.read_rows(VIEW, KEYS)


# -- applying a publication ----------------------------------------------------------------------------------------------

CODEC = RowCodec([Column(name="user_id", type="int64")], [Column(name="n", type="int64"), Column(name="s", type="string")])


def _publication(users: range, value: int | None) -> pa.RecordBatch:
    return pa.record_batch({
        "user_id": pa.array(users, pa.int64()),
        "event_timestamp": pa.array([NOON] * len(users), pa.timestamp("us", tz="UTC")),
        "n": pa.array([value] * len(users), pa.int64()),
        "s": pa.array([str(user) for user in users]),
    })  # fmt: skip


def test_a_publication_is_applied_in_chunks_and_reads_back(store: OnlineStore) -> None:
    batches = [_publication(range(at, at + 1500), 7) for at in range(0, 60_000, 1500)]
    done: list[int] = []
    assert apply_rows(store, VIEW, CODEC, batches, 3, progress=done.append) == AppliedRows(written=60_000, skipped=0)
    assert done == [49_500, 60_000]
    assert apply_rows(store, VIEW, CODEC, [_publication(range(10), 8)], 2) == AppliedRows(written=0, skipped=10)
    keys = CODEC.encode_keys(pa.table({"user_id": [5, 59_999, 60_000]}))
    decoded = CODEC.decode_rows(store.read_rows(VIEW, keys), 3)
    assert decoded.select(["present", "n", "s"]).to_pylist() == [
        {"present": True, "n": 7, "s": "5"},
        {"present": True, "n": 7, "s": "59999"},
        {"present": False, "n": None, "s": None},
    ]
    assert apply_rows(store, VIEW, CODEC, [], 4) == AppliedRows(written=0, skipped=0)


def test_a_tombstone_hides_a_row_until_a_newer_one_comes(store: OnlineStore) -> None:
    keys = CODEC.encode_keys(pa.table({"user_id": [1, 2]}))

    def present() -> list[bool]:
        found: list[bool] = CODEC.decode_rows(store.read_rows(VIEW, keys))["present"].to_pylist()
        return found

    apply_rows(store, VIEW, CODEC, [_publication(range(1, 3), 1)], 1)
    apply_tombstones(store, VIEW, CODEC, pa.table({"user_id": [2]}), 3)
    assert present() == [True, False]
    apply_rows(store, VIEW, CODEC, [_publication(range(1, 3), 1)], 2)
    assert present() == [True, False]
    apply_rows(store, VIEW, CODEC, [_publication(range(1, 3), 1)], 4)
    assert present() == [True, True]


def test_an_error_in_the_middle_of_a_publication_is_raised(store: OnlineStore) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        yield _publication(range(60_000), 1)
        raise ConnectionError("the source went away")

    with pytest.raises(ConnectionError, match="the source went away"):
        apply_rows(store, VIEW, CODEC, batches(), 1)
    assert apply_rows(store, VIEW, CODEC, [_publication(range(60_000), 1)], 1).written >= 10_000


# -- forgetting ----------------------------------------------------------------------------------------------------------


def stamped(sequence: int, instant: datetime, text: bytes = b"x") -> bytes:
    """A row of an event view: sequence, time, a schema that is not 0, and a value."""
    micros = int(instant.timestamp() * 1_000_000)
    return sequence.to_bytes(8, "big") + micros.to_bytes(8, "big", signed=True) + b"\1" * 8 + text


def test_old_rows_and_tombstones_are_forgotten(store: OnlineStore) -> None:
    hour = timedelta(hours=1)
    rows = {
        b"old": stamped(3, NOON - hour), b"new": stamped(3, NOON), b"gone": (4).to_bytes(8, "big") + bytes(16),
        b"unfinished": stamped(6, NOON - hour), b"x" * 600: stamped(2, NOON - hour),
    }  # fmt: skip
    store.write_rows(VIEW, list(rows), list(rows.values()))
    store.write_rows(OTHER, [b"old"], [rows[b"old"]])
    assert store.forget_rows(VIEW, 5, NOON) == 3
    assert store.read_rows(VIEW, list(rows)) == [None, rows[b"new"], None, rows[b"unfinished"], None]
    assert store.read_rows(OTHER, [b"old"]) == [rows[b"old"]]
    assert store.forget_rows(VIEW, 9, NOON + hour) == 0, "it looked at everything a moment ago"


def test_no_older_write_brings_back_what_was_forgotten(store: OnlineStore) -> None:
    tombstone, late = (4).to_bytes(8, "big") + bytes(16), stamped(3, NOON)
    store.write_rows(VIEW, [b"a"], [tombstone])
    assert store.forget_rows(VIEW, 5, None) == 1
    assert store.write_rows(VIEW, [b"a", b"b"], [late, late]) == 0, "a zombie applies what everybody has applied"
    assert store.read_rows(VIEW, [b"a", b"b"]) == [None, None]
    assert store.write_rows(VIEW, [b"a"], [stamped(6, NOON)]) == 1


def test_a_dropped_view_has_no_rows_and_no_floor(store: OnlineStore) -> None:
    for view in (VIEW, OTHER):
        store.write_rows(view, KEYS, [stamped(1, NOON)] * len(KEYS))
        store.raise_floor(view, Floor(sequence=1, end=NOON))
    assert store.drop_view(VIEW) == len(KEYS)
    assert (store.floor(VIEW), set(store.read_rows(VIEW, KEYS))) == (None, {None})
    assert (store.floor(OTHER), len(set(store.read_rows(OTHER, KEYS)))) == (Floor(sequence=1, end=NOON), 1)
    assert store.drop_view(VIEW) == 0


# -- marks -------------------------------------------------------------------------------------------------------------


def floor_at(sequence: int) -> Floor:
    return Floor(sequence=sequence, end=NOON)


def test_a_mark_is_raised_with_its_floor_and_never_lowered(store: OnlineStore) -> None:
    life = store.mark(VIEW).life
    assert store.mark(VIEW).ticket == 0
    store.raise_floor(VIEW, floor_at(5), Mark(life=life, ticket=2, settled=0))
    assert (store.mark(VIEW).ticket, store.floor(VIEW)) == (2, floor_at(5))
    store.raise_floor(VIEW, floor_at(4), Mark(life=life, ticket=1, settled=0))
    assert (store.mark(VIEW).ticket, store.floor(VIEW)) == (2, floor_at(5))
    store.raise_floor(VIEW, floor_at(6), Mark(life=life, ticket=2**60, settled=2))
    assert (store.mark(VIEW).ticket, store.floor(VIEW)) == (2**60, floor_at(6))
    assert store.mark(OTHER).ticket == 0


def test_a_mark_that_the_store_lost_stays_lost_while_the_floor_rises(store: OnlineStore) -> None:
    life = store.mark(VIEW).life
    store.raise_floor(VIEW, floor_at(5), Mark(life=life, ticket=2, settled=0))
    store.raise_floor(VIEW, floor_at(6), Mark(life=life, ticket=9, settled=3))
    assert (store.mark(VIEW).ticket, store.floor(VIEW)) == (2, floor_at(6))


def test_nothing_is_raised_in_another_life(store: OnlineStore) -> None:
    with pytest.raises(StoreChanged, match=r"^the online store restarted, failed over or was flushed while view 'user_"):
        store.raise_floor(VIEW, floor_at(5), Mark(life="another", ticket=2, settled=0))
    assert (store.mark(VIEW).ticket, store.floor(VIEW)) == (0, None)


def test_a_life_lasts_as_long_as_the_store(store: OnlineStore, url: str) -> None:
    life = store.mark(VIEW).life
    store.write_rows(VIEW, [b"a"], [row(1)])
    store.create("id-1")
    store.close()
    again = open_store(url)
    assert again.mark(OTHER).life == life
    again.close()
