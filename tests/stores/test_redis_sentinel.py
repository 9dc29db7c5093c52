"""The Redis store behind Sentinels: a real primary, a real replica, a real Sentinel, and a failover between them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator

import pytest
import redis

from fstore.errors import SettingsError, StoreError
from fstore.stores.online import Floor, Mark, ViewKeys
from fstore.stores.redis import RedisStore
from scripts.servers import RunningServer, ServerMissing, redis_sentinel, redis_server
from tests.contracts.online_writers import VIEW, row
from tests.contracts.test_online_store import NOON

pytestmark = pytest.mark.integration


@contextlib.contextmanager
def pair() -> Iterator[tuple[RunningServer, RunningServer, RunningServer]]:
    """A primary, its replica, and a Sentinel that knows both."""
    try:
        with (
            redis_server() as primary,
            redis_server("--replicaof", "127.0.0.1", str(primary.port)) as replica,
            redis_sentinel(primary.port) as sentinel,
        ):
            with redis.Redis(port=primary.port) as client, redis.Redis(port=sentinel.port) as watching:
                client.set("here", 1)
                assert client.wait(1, 20_000) == 1
                until(lambda: watching.sentinel_master("main")["num-slaves"] == 1)
            yield primary, replica, sentinel
    except ServerMissing as missing:
        pytest.skip(str(missing))


def until(done: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def fails_over(sentinel: RunningServer) -> bool:
    """Tell a Sentinel to fail over, and return whether it does: it first wants to know the replica better."""
    with redis.Redis(port=sentinel.port) as watching:
        try:
            watching.execute_command("SENTINEL", "FAILOVER", "main")
        except redis.ResponseError as error:
            if "NOGOODSLAVE" not in str(error):
                raise
            return False
    return True


def eventually(work: Callable[[], object]) -> None:
    """Do what a store may refuse during a failover, until it succeeds; an error that says not to try again is one."""

    def done() -> bool:
        try:
            work()
        except StoreError as error:
            if not error.retryable:
                raise
            return False
        return True

    until(done)


@pytest.mark.parametrize("kill", [True, False], ids=["killed", "told to"])
def test_reads_and_writes_follow_a_failover(kill: bool) -> None:
    with pair() as (primary, replica, sentinel):
        store = RedisStore(sentinel.url, "shop")
        store.create("id-1")
        store.write_rows(VIEW, [b"a"], [row(1)])
        begun = store.mark(VIEW)
        store.raise_floor(VIEW, Floor(sequence=1, end=NOON), Mark(life=begun.life, ticket=1, settled=0))
        with redis.Redis(port=primary.port) as client:
            assert client.wait(1, 20_000) == 1
        if kill:
            primary.kill()
        else:
            until(lambda: fails_over(sentinel))
        with redis.Redis(port=replica.port) as client:
            until(lambda: client.info("replication")["role"] == "master")
        if not kill:  # what is written to it until then is lost, as the store's mark will tell
            with redis.Redis(port=primary.port) as client:
                until(lambda: client.info("replication")["role"] == "slave")
        eventually(lambda: store.write_rows(VIEW, [b"a", b"b"], [row(2)] * 2))
        assert store.read_rows(VIEW, [b"a", b"b"]) == [row(2)] * 2
        assert store.store_id() == "id-1"
        assert store.mark(VIEW).life != begun.life
        with redis.Redis(port=replica.port) as client:
            assert client.get("fstore:shop:row:user_purchases:1:b") == row(2)
        store.close()


def test_an_event_loop_reads_behind_a_sentinel() -> None:
    with pair() as (primary, replica, sentinel):
        store = RedisStore(f"{sentinel.url}/0?socket_timeout=2", "shop")
        store.create("id-1")
        store.write_rows(VIEW, [b"a"], [row(1)])
        with redis.Redis(port=primary.port) as client:
            assert client.wait(1, 20_000) == 1

        async def read() -> None:
            reads = store.async_reads()
            (found,) = await reads.read_views([ViewKeys(VIEW, [b"a", b"b"])])
            assert found.rows == [row(1), None]
            primary.kill()
            with redis.Redis(port=replica.port) as client:
                await asyncio.to_thread(until, lambda: client.info("replication")["role"] == "master")
            (found,) = await reads.read_views([ViewKeys(VIEW, [b"a", b"b"])])
            assert found.rows == [row(1), None]
            await reads.close()

        asyncio.run(read())
        store.close()


def test_a_service_that_no_sentinel_knows_is_unavailable() -> None:
    with pair() as (_, _, sentinel):
        store = RedisStore(sentinel.url.replace("/main", "/other"), "shop")
        with pytest.raises(StoreError, match="No master found for 'other'") as caught:
            store.store_id()
        assert caught.value.retryable
        store.close()


@pytest.mark.parametrize("url", ["redis+sentinel://host:1", "redis+sentinel:///service", "redis+sentinel://h:x/service",
                                 "redis+sentinel://h/service/0/1", "redis+sentinel://h/service?socket_timeout=soon"])  # fmt: skip
def test_a_wrong_url_is_a_settings_error(url: str) -> None:
    with pytest.raises(SettingsError, match="is not a Redis URL"):
        RedisStore(url, "shop")


def test_passwords_of_sentinel_urls_are_masked() -> None:
    store = RedisStore("redis+sentinel://me:s3cret@h1:1,h2:2/service", "shop")
    assert store._where == "the online store at redis+sentinel://me:***@h1:1,h2:2/service"
