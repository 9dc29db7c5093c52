"""What only the store in a Redis Cluster has to get right: slots that move, servers that fail, and what one of them lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import pytest
import redis
from redis.crc import key_slot

from fstore.errors import SettingsError, StoreChanged, StoreError, StoreMissing
from fstore.stores.online import Floor, Mark, ViewKeys
from fstore.stores.redis import RedisStore
from fstore.stores.redis_cluster import RedisClusterStore
from scripts.servers import RunningServer, ServerMissing, redis_cluster, redis_server
from tests.contracts.online_writers import KEYS, VIEW, row
from tests.contracts.test_online_store import NOON

pytestmark = pytest.mark.integration

FLOOR = Floor(sequence=1, end=NOON)


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[RunningServer]]:
    """Three primaries."""
    try:
        with redis_cluster() as servers:
            yield servers
    except ServerMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture
def store(cluster: list[RunningServer]) -> Iterator[RedisClusterStore]:
    for server in cluster:
        with redis.Redis(port=server.port) as client:
            client.flushall()
    store = RedisClusterStore(",".join([cluster[0].url, *(f"127.0.0.1:{server.port}" for server in cluster[1:])]), "shop")
    store.create("id-1")
    store.write_rows(VIEW, KEYS, [row(1, key) for key in KEYS])
    store.raise_floor(VIEW, FLOOR)
    yield store
    store.close()


async def read_by_asyncio(store: RedisClusterStore) -> list[bytes | None]:
    reads = store.async_reads()
    try:
        (found,) = await reads.read_views([ViewKeys(VIEW, KEYS)])
    finally:
        await reads.close()
    return found.rows


def until(done: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def succeeds(work: Callable[[], object]) -> bool:
    """Whether it does; what a store says not to try again is an error."""
    try:
        work()
    except StoreError as error:
        if not error.retryable:
            raise
        return False
    return True


def test_every_server_has_its_share(store: RedisClusterStore, cluster: list[RunningServer]) -> None:
    for server in cluster:
        with redis.Redis(port=server.port) as client:
            assert len(list(client.scan_iter("fstore:{*}:shop:row:*", count=1000))) > len(KEYS) / 6
            assert 25 < len(list(client.scan_iter("fstore:{*}:shop:id", count=1000))) < 60
    found = store.read_view(VIEW, [*KEYS, b"none"])
    assert (found.floor, found.rows) == (FLOOR, [*(row(1, key) for key in KEYS), None])


def test_what_one_server_lost_is_an_error_and_no_empty_row(store: RedisClusterStore, cluster: list[RunningServer]) -> None:
    begun = store.mark(VIEW)
    with redis.Redis(port=cluster[1].port) as client:
        client.flushall()
    uses: tuple[Callable[[], object], ...] = (
        lambda: store.read_view(VIEW, KEYS), lambda: store.mark(VIEW), lambda: store.floor(VIEW),
        lambda: store.write_rows(VIEW, KEYS, [row(2)] * len(KEYS)),
        lambda: asyncio.run(read_by_asyncio(store)),
    )  # fmt: skip
    for use in uses:
        with pytest.raises(StoreMissing, match="it was never created, or a server of it has lost everything"):
            use()
    assert store.store_id() is None
    store.create("id-1")
    assert store.read_view(VIEW, KEYS).floor is None
    assert store.mark(VIEW).ticket == 0
    with pytest.raises(StoreChanged):
        store.raise_floor(VIEW, Floor(sequence=2, end=NOON), Mark(life=begun.life, ticket=2, settled=0))
    assert store.floor(VIEW) is None
    store.write_rows(VIEW, KEYS, [row(1, key) for key in KEYS])
    store.raise_floor(VIEW, Floor(sequence=1, end=NOON))
    assert store.read_view(VIEW, KEYS).rows == [row(1, key) for key in KEYS]


def test_a_floor_is_the_lowest_of_the_buckets_that_are_read(store: RedisClusterStore) -> None:
    higher = Floor(sequence=5, end=NOON)
    store._buckets[7].raise_floor(VIEW, higher)
    assert store.floor(VIEW) == store.read_view(VIEW, KEYS).floor == FLOOR
    for bucket in store._buckets:
        bucket.raise_floor(VIEW, higher)
    assert store.floor(VIEW) == store.read_view(VIEW, []).floor == higher


def test_slots_that_move_are_followed(store: RedisClusterStore, cluster: list[RunningServer]) -> None:
    """Move a bucket's slot to another server, keys and all; reads and writes wait or follow, and nothing is lost."""
    slot = key_slot(b"0")
    clients = [redis.Redis(port=server.port) for server in cluster]
    names = [client.execute_command("CLUSTER MYID").decode() for client in clients]
    owner = next(n for n, client in enumerate(clients) if client.execute_command("CLUSTER COUNTKEYSINSLOT", slot))
    target = (owner + 1) % 3

    async def read_before_and_after() -> list[list[bytes | None]]:
        reads = store.async_reads()
        found = [(await reads.read_views([ViewKeys(VIEW, KEYS)]))[0].rows]
        clients[target].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", names[owner])
        clients[owner].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", names[target])
        while keys := clients[owner].execute_command("CLUSTER GETKEYSINSLOT", slot, 100):
            clients[owner].execute_command("MIGRATE", "127.0.0.1", cluster[target].port, "", 0, 5000, "KEYS", *keys)
        for client in clients:
            client.execute_command("CLUSTER SETSLOT", slot, "NODE", names[target])
        found.append((await reads.read_views([ViewKeys(VIEW, KEYS)]))[0].rows)
        await reads.close()
        return found

    expected: list[bytes | None] = [row(1, key) for key in KEYS]
    assert asyncio.run(read_before_and_after()) == [expected, expected]
    assert store.read_view(VIEW, KEYS).rows == expected
    assert store.write_rows(VIEW, KEYS, [row(2)] * len(KEYS)) == len(KEYS)
    assert set(store.read_view(VIEW, KEYS).rows) == {row(2)}
    for client in clients:
        client.close()


def test_reads_and_writes_follow_a_failover() -> None:
    with redis_cluster(3, replicas=1) as servers:
        store = RedisClusterStore(servers[1].url, "shop")
        store.create("id-1")
        store.write_rows(VIEW, KEYS, [row(1, key) for key in KEYS])
        store.raise_floor(VIEW, FLOOR)
        begun = store.mark(VIEW)
        replica = redis.Redis(port=servers[3].port)
        with redis.Redis(port=servers[0].port) as primary:
            until(lambda: replica.info("replication").get("master_link_status") == "up")
            until(lambda: primary.execute_command("WAIT", 1, 1000) == 1)
        servers[0].kill()
        until(lambda: replica.info("replication")["role"] == "master")
        until(lambda: succeeds(lambda: store.read_view(VIEW, KEYS)))
        assert store.read_view(VIEW, KEYS).rows == [row(1, key) for key in KEYS]
        until(lambda: succeeds(lambda: store.write_rows(VIEW, KEYS, [row(2)] * len(KEYS))))
        assert store.mark(VIEW).life != begun.life
        with pytest.raises(StoreChanged):
            store.raise_floor(VIEW, Floor(sequence=2, end=NOON), Mark(life=begun.life, ticket=1, settled=0))
        replica.close()
        store.close()


def test_rows_are_forgotten_and_views_dropped_in_every_bucket(store: RedisClusterStore) -> None:
    tombstone = (2).to_bytes(8, "big") + bytes(16)
    store.write_rows(VIEW, KEYS[:100], [tombstone] * 100)
    assert store.forget_rows(VIEW, 2, None) == 100
    assert store.read_rows(VIEW, KEYS[:100]) == [None] * 100
    assert store.write_rows(VIEW, KEYS[:1], [row(2, b"older than what was forgotten")]) == 0
    store.write_rows(VIEW, KEYS, [row(3, bytes(20))] * len(KEYS))
    assert store.drop_view(VIEW) == len(KEYS)
    assert (store.floor(VIEW), store.read_rows(VIEW, KEYS[:2])) == (None, [None, None])


def test_a_single_server_is_no_cluster_and_a_cluster_no_single_server(cluster: list[RunningServer]) -> None:
    with redis_server() as single:
        alone = RedisClusterStore(single.url.replace("redis://", "redis+cluster://"), "shop")
        with pytest.raises(StoreError, match="cluster support disabled"):
            alone.create("id-1")
        alone.close()
    node = RedisStore(cluster[0].url.replace("redis+cluster://", "redis://"), "shop")
    with pytest.raises(StoreError, match=r"is a node of a Redis Cluster.*redis\+cluster://"):
        node.create("id-1")
    node.close()


@pytest.mark.parametrize("url", ["redis+cluster://", "redis+cluster://h:x", "redis+cluster://h:1,:2",
                                 "redis+cluster://h:1/3", "redis+cluster://h?socket_timeout=soon"])  # fmt: skip
def test_a_wrong_url_is_a_settings_error(url: str) -> None:
    with pytest.raises(SettingsError, match="is not a Redis URL"):
        RedisClusterStore(url, "shop")
