"""What only the Redis store has to get right: the server's states, its URL, its configuration."""

from __future__ import annotations

import builtins
import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence

import pytest
import redis

from fstore.connections import masked_url
from fstore.errors import SettingsError, StoreError, StoreFull, StoreMissing, StoreReadOnly, StoreUnavailable
from fstore.stores.online import Floor
from fstore.stores.redis import RedisStore
from scripts.servers import RunningServer, ServerMissing, free_port, redis_server
from tests.contracts.online_writers import VIEW, row
from tests.contracts.test_online_store import NOON

pytestmark = pytest.mark.integration


@contextlib.contextmanager
def server(*arguments: str, port: int | None = None) -> Iterator[RunningServer]:
    try:
        with redis_server(*arguments, port=port) as running:
            yield running
    except ServerMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture
def store(redis_database: str) -> Iterator[RedisStore]:
    store = RedisStore(redis_database, "shop")
    store.create("id-1")
    yield store
    store.close()


def test_keys_are_readable_and_apart_by_project(store: RedisStore, redis_database: str) -> None:
    store.write_rows(VIEW, [b"u1"], [row(1)])
    store.raise_floor(VIEW, Floor(sequence=1, end=NOON))
    with redis.Redis.from_url(redis_database) as client:
        assert sorted(client.keys("*")) == [
            b"fstore:shop:floor:user_purchases:1", b"fstore:shop:id", b"fstore:shop:life",
            b"fstore:shop:row:user_purchases:1:u1",
        ]  # fmt: skip
    other = RedisStore(redis_database, "bank")
    assert other.store_id() is None
    other.close()


def test_a_flushed_database_has_no_floor_and_gives_no_nulls(store: RedisStore, redis_database: str) -> None:
    store.write_rows(VIEW, [b"u1"], [row(1)])
    store.raise_floor(VIEW, Floor(sequence=1, end=NOON))
    with redis.Redis.from_url(redis_database) as client:
        client.flushdb()
    assert store.floor(VIEW) is None
    with pytest.raises(StoreMissing) as caught:
        store.read_rows(VIEW, [b"u1"])
    assert str(caught.value) == (
        f"there is no online store of project 'shop' at {redis_database}: it was never created, or has lost everything. "
        "Run `fstore repair --online` to fill it again, `fstore apply` to create it, or correct FSTORE_ONLINE_URL."
    )
    store.create("id-1")
    assert store.read_view(VIEW, [b"u1"]).floor is None


def test_a_server_that_forgets_scripts_is_taught_again(store: RedisStore, redis_database: str) -> None:
    with redis.Redis.from_url(redis_database) as client:
        for sequence in (1, 2):
            client.script_flush()
            assert store.write_rows(VIEW, [b"a"], [row(sequence)]) == 1


def test_a_server_that_is_gone_is_unavailable_and_comes_back() -> None:
    port = free_port()
    with server(port=port) as running:
        store = RedisStore(running.url, "shop")
        store.create("id-1")
        running.kill()
        with pytest.raises(
            StoreUnavailable, match=f"^the online store at redis://127.0.0.1:{port}/0 cannot be reached now: "
        ):
            store.read_rows(VIEW, [b"a"])
        with pytest.raises(StoreUnavailable):
            store.write_rows(VIEW, [b"a"], [row(1)])
    with server(port=port):
        store.create("id-1")
        assert store.write_rows(VIEW, [b"a"], [row(1)]) == 1
    store.close()
    assert StoreUnavailable.retryable


def test_a_server_that_does_not_answer_is_unavailable_after_the_timeout_of_the_url() -> None:
    with server() as running:
        store = RedisStore(f"{running.url}?socket_timeout=0.3", "shop")
        store.create("id-1")
        running.freeze()
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="TimeoutError"):
            store.floor(VIEW)
        assert time.monotonic() - began < 10
        running.thaw()
        assert store.floor(VIEW) is None
        store.close()


def test_a_replica_refuses_writes() -> None:
    with server() as primary, server("--replicaof", "127.0.0.1", str(primary.port)) as replica:
        first, second = RedisStore(primary.url, "shop"), RedisStore(replica.url, "shop")
        first.create("id-1")
        first.write_rows(VIEW, [b"a"], [row(1)])
        with redis.Redis.from_url(primary.url) as client:
            assert client.wait(1, 20_000) == 1
        assert second.read_rows(VIEW, [b"a"]) == [row(1)]
        for write in (lambda: second.write_rows(VIEW, [b"a"], [row(2)]), lambda: second.create("id-1")):
            with pytest.raises(StoreReadOnly) as caught:
                write()
            assert str(caught.value) == (
                f"the online store at {replica.url} refuses writes: it is a replica. FSTORE_ONLINE_URL must name the primary."
            )
        first.close()
        second.close()


def test_a_full_server_says_so_and_keeps_what_it_has() -> None:
    with server("--maxmemory", "4mb", "--maxmemory-policy", "noeviction") as running:
        store = RedisStore(running.url, "shop")
        store.create("id-1")
        store.write_rows(VIEW, [b"first"], [row(1)])

        def fill() -> None:
            for n in range(100):
                store.write_rows(VIEW, [b"%d" % n], [row(1, b"x" * 100_000)])

        with pytest.raises(StoreFull) as caught:
            fill()
        assert str(caught.value) == (
            f"the online store at {running.url} is out of memory. Raise its maxmemory; then this can be repeated."
        )
        assert store.read_rows(VIEW, [b"first"]) == [row(1)]
        store.close()


def test_a_server_that_evicts_is_refused() -> None:
    with server("--maxmemory-policy", "allkeys-lru") as running:
        store = RedisStore(running.url, "shop")
        with pytest.raises(StoreError, match=r"evicts rows when its memory is full \(maxmemory-policy allkeys-lru\)"):
            store.create("id-1")
        assert store.store_id() is None
        store.close()


def test_a_password_is_checked_and_never_shown() -> None:
    with server("--requirepass", "s3cret") as running:
        store = RedisStore(f"redis://:s3cret@127.0.0.1:{running.port}/0", "shop")
        store.create("id-1")
        store.close()
        for user in (":wr0ng@", ""):
            wrong = RedisStore(f"redis://{user}127.0.0.1:{running.port}/0", "shop")
            with pytest.raises(StoreError, match="does not let this user in") as caught:
                wrong.store_id()
            assert "wr0ng" not in str(caught.value)
            assert not caught.value.retryable
            wrong.close()


def test_keys_are_not_in_messages() -> None:
    """Keys are people's ids: redis-py puts the whole command into its message."""
    with server("--maxmemory", "4mb") as running:
        store = RedisStore(running.url, "shop")
        store.create("id-1")
        with redis.Redis.from_url(running.url) as client:
            client.set("fstore:shop:row:user_purchases:1:alice@example.org", b"short")
        with pytest.raises(StoreError) as caught:
            store.write_rows(VIEW, [b"alice@example.org"], [row(1)])
        assert "alice" not in str(caught.value)
        store.close()


def test_bytes_are_compared_as_bytes_in_every_locale() -> None:
    """Redis takes the collation of its environment, and Lua compares strings by it."""
    with server() as running:
        store = RedisStore(running.url, "shop")
        store.create("id-1")
        for sequence in range(1, 2000, 37):
            assert store.write_rows(VIEW, [b"a"], [row(sequence)]) == 1
        store.close()


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://:secret@host/1", "redis://:***@host/1"),
        ("rediss://me:p%40ss@host:1/1?socket_timeout=1", "rediss://me:***@host:1/1?socket_timeout=1"),
        ("unix://me:secret@/run/redis.sock?db=1", "unix://me:***@/run/redis.sock?db=1"),
        ("redis://host/0?db=1&password=secret&socket_timeout=1", "redis://host/0?db=1&password=***&socket_timeout=1"),
        ("redis+sentinel://me:s@h/main?sentinel_password=secret", "redis+sentinel://me:***@h/main?sentinel_password=***"),
    ],
)
def test_passwords_are_masked(url: str, masked: str) -> None:
    assert masked_url(url) == masked


def test_a_wrong_url_is_a_settings_error() -> None:
    with pytest.raises(SettingsError, match=r"^redis://host:port/0 is not a Redis URL"):
        RedisStore("redis://host:port/0", "shop")
    with pytest.raises(SettingsError, match=r"^redis://h/0\?socket_timeout=soon is not a Redis URL"):
        RedisStore("redis://h/0?socket_timeout=soon", "shop")


def test_a_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without_redis(
        name: str, globals: Mapping[str, object] | None = None, locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] = (), level: int = 0,
    ) -> object:  # fmt: skip
        if name == "redis" and not level:
            raise ImportError(name)
        return original(name, globals, locals, fromlist, level)

    monkeypatch.setattr(builtins, "__import__", without_redis)
    with pytest.raises(SettingsError) as caught:
        RedisStore("redis://:secret@host/0", "shop")
    assert str(caught.value) == (
        "the online store at redis://:***@host/0 needs redis-py, which is not installed: pip install 'fstore[redis]'"
    )
