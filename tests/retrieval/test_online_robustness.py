"""Online reads while things go wrong: deadlines, the circuit breaker, the cache, last known values, the offline store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from fstore import AsyncClient, Client, OnlineCache
from fstore.backends import Backends, create_backends
from fstore.errors import EntityColumnError, FloorMissing, RetrievalError, StoreUnavailable
from fstore.retrieval.breaker import CircuitBreaker
from fstore.retrieval.online_response import OnlineResponse
from fstore.settings import Settings
from scripts.servers import RunningServer, ServerMissing, free_port, redis_server
from tests.retrieval.publishing import DAY, T0, Publisher, day, features, make_step

NOW = T0 + 2 * DAY
USERS = make_step("users", features=features(("n", "int64", 0), ("country", "string", "??")), ttl=3 * DAY)
EVENTS = make_step("events", kind="event", features=features(("amount", "float64", None)))
COLD = make_step("cold", online=False, features=features(("size", "int64", -1)))
WANTED = ["users:n", "events:amount"]


class Clock:
    """Time that passes when it is told to, in seconds."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    try:
        with redis_server() as running:
            yield running
    except ServerMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def backends(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backends]:
    with create_backends(settings_for(tmp_path_factory.mktemp("shop"), server.url)) as backends:
        fill(Publisher(backends))
        yield backends


def settings_for(root: Path, online_url: str) -> Settings:
    return Settings(
        root=str(root), project="shop", registry_url=f"sqlite:///{root}/registry.db", offline_url=f"file:{root}/offline",
        online_url=online_url, spill_dir=str(root / "spill"), cache_dir=str(root / "cache"), threads=1, memory_limit="1GB",
    )  # fmt: skip


def fill(publisher: Publisher) -> None:
    publisher.register(USERS, EVENTS, COLD)
    users = {day(1): [{"user_id": "a", "n": 1, "country": "DE"}, {"user_id": "b", "n": 2, "country": "FR"}]}
    publisher.bring_online(USERS, users, publisher.publish(USERS, users) or 0)
    events = {day(0): [{"user_id": "a", "event_timestamp": T0 + DAY / 2, "amount": 0.5}]}
    publisher.bring_online(EVENTS, events, publisher.publish(EVENTS, events) or 0)
    publisher.publish(COLD, {day(0): [{"user_id": "a", "size": 1}], day(1): [{"user_id": "a", "size": 7}]})


def ask(client: Client, **options: object) -> OnlineResponse:
    return client.get_online_features(WANTED, {"user_id": ["a", "c"]}, **options)  # type: ignore[arg-type]


VALUES = {"user_id": ["a", "c"], "n": [1, 0], "amount": [0.5, None]}


# -- deadlines -----------------------------------------------------------------------------------------------------------


def test_a_deadline_ends_a_read_of_a_store_that_does_not_answer(server: RunningServer, backends: Backends) -> None:
    client = Client(backends, clock=lambda: NOW)
    assert ask(client, timeout=5.0).to_dict() == VALUES
    server.freeze()
    try:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable) as caught:
            ask(client, timeout=0.2)
        assert 0.15 < time.monotonic() - began < 1.5
        assert caught.value.retry_after == 1.0
    finally:
        server.thaw()
    assert ask(client).to_dict() == VALUES


def test_a_deadline_ends_a_connection_that_is_not_answered(server: RunningServer, backends: Backends) -> None:
    client = Client(backends, clock=lambda: NOW)
    ask(client)
    backends.online.close()  # so that the read begins with a connection
    server.freeze()
    try:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            ask(client, timeout=0.2)
        assert time.monotonic() - began < 1.5
    finally:
        server.thaw()
    assert ask(client).to_dict() == VALUES


def test_a_deadline_ends_an_asyncio_read(server: RunningServer, backends: Backends) -> None:
    async def read() -> float:
        client = AsyncClient(backends, clock=lambda: NOW)
        arguments = (WANTED, {"user_id": ["a", "c"]})
        assert (await client.get_online_features(*arguments)).to_dict() == VALUES
        server.freeze()
        began = time.monotonic()
        try:
            with pytest.raises(StoreUnavailable, match=r"did not answer by the deadline of this read"):
                await client.get_online_features(*arguments, timeout=0.2)
            took = time.monotonic() - began
        finally:
            server.thaw()
        assert (await client.get_online_features(*arguments, timeout=5.0)).to_dict() == VALUES
        await client._store.close()  # type: ignore[union-attr]
        return took

    assert 0.15 < asyncio.run(read()) < 1.5


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"timeout": 0}, "timeout must be more than 0 seconds, got 0"),
        ({"timeout": float("nan")}, "timeout must be more than 0 seconds, got nan"),
        ({"on_unavailable": "nulls"}, 'on_unavailable must be "error" or "last_known", got \'nulls\''),
        ({"on_unavailable": "last_known"},
         'on_unavailable="last_known" needs a cache to remember values in: Client(…, cache=OnlineCache(ttl=…))'),
        ({"offline": "yes"}, 'offline must be "error" or "allow", got \'yes\''),
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(backends: Backends, options: dict[str, object], text: str) -> None:
    with pytest.raises(RetrievalError) as caught:
        ask(Client(backends, clock=lambda: NOW), **options)
    assert str(caught.value) == text


# -- the circuit breaker ---------------------------------------------------------------------------------------------------


def fail(breaker: CircuitBreaker, text: str = "gone") -> StoreUnavailable:
    with pytest.raises(StoreUnavailable) as caught, breaker:
        raise StoreUnavailable(text)
    return caught.value


def test_a_breaker_opens_probes_and_closes() -> None:
    clock = Clock()
    breaker = CircuitBreaker(failures=3, pause=timedelta(seconds=2), clock=clock)
    for _ in range(2):
        assert fail(breaker).retry_after == 2.0
    with breaker:
        pass  # an answer: counting begins again
    for _ in range(3):
        fail(breaker)
    clock.now += 0.5
    refused = fail(breaker, "not reached")
    assert refused.retry_after == pytest.approx(1.5)
    assert str(refused) == (
        "the online store is not asked now, because the last 3 reads found it unavailable; the next try is in 1.50 s. The "
        "last answer: gone"
    )
    clock.now += 1.5
    with breaker:  # the probe
        assert "is not asked now" in str(fail(breaker))  # and no other one beside it
    with breaker:
        pass


def test_a_probe_that_fails_opens_the_breaker_again() -> None:
    clock = Clock()
    breaker = CircuitBreaker(failures=1, pause=timedelta(seconds=2), clock=clock)
    fail(breaker, "first")
    clock.now += 2
    assert str(fail(breaker, "second")) == "second"
    assert str(fail(breaker)).endswith("The last answer: second")


def test_a_probe_that_is_cancelled_leaves_the_next_one_to_others() -> None:
    clock = Clock()
    breaker = CircuitBreaker(failures=1, pause=timedelta(seconds=2), clock=clock)
    fail(breaker)
    clock.now += 2
    with pytest.raises(asyncio.CancelledError), breaker:
        raise asyncio.CancelledError
    assert breaker.is_open
    with breaker:
        pass
    assert not breaker.is_open


def test_a_store_that_answers_with_an_error_is_not_unavailable() -> None:
    breaker = CircuitBreaker(failures=2)
    for _ in range(3):
        fail_once = StoreUnavailable("gone")
        with pytest.raises(StoreUnavailable), breaker:
            raise fail_once
        with pytest.raises(FloorMissing), breaker:
            raise FloorMissing("nothing there")
    assert not breaker.is_open


def test_a_client_stops_asking_a_dead_store_and_comes_back_with_it(tmp_path: Path) -> None:
    port = free_port()
    with redis_server(port=port) as server, create_backends(settings_for(tmp_path, server.url)) as backends:
        fill(Publisher(backends))
        client = Client(backends, clock=lambda: NOW)
        assert ask(client).to_dict() == VALUES
        server.kill()
        for _ in range(5):
            with pytest.raises(StoreUnavailable, match="cannot be reached now"):
                ask(client, timeout=0.05)
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="is not asked now") as caught:
            ask(client)
        assert time.monotonic() - began < 0.5
        assert caught.value.retry_after is not None
        with redis_server(port=port) as again:
            assert again.port == port
            backends.online.create(backends.registry.store_id("online") or "")
            time.sleep(caught.value.retry_after)
            with pytest.raises(FloorMissing):  # it answers again, and lost everything: no nulls
                ask(client)


# -- the cache, and last known values ----------------------------------------------------------------------------------------


def test_a_cache_answers_for_its_ttl_and_says_so(backends: Backends) -> None:
    clock = Clock()
    client = Client(backends, clock=lambda: NOW, cache=OnlineCache(ttl=timedelta(seconds=5), clock=clock))
    first = ask(client)
    assert (first.cache_hits, first.ages) == (
        {"n": [False] * 2, "amount": [False] * 2}, {"n": [timedelta()] * 2, "amount": [timedelta()] * 2},
    )  # fmt: skip
    clock.now += 4.5
    second = client.get_online_features(WANTED, {"user_id": ["b", "a", None, "c"]})
    assert second.to_dict() == {"user_id": ["b", "a", None, "c"], "n": [2, 1, None, 0], "amount": [None, 0.5, None, None]}
    assert second.cache_hits["n"] == [False, True, False, True]
    assert second.ages["amount"] == [timedelta(), timedelta(seconds=4.5), timedelta(), timedelta(seconds=4.5)]
    assert second.statuses == {
        "n": ["value", "value", "null_key", "empty"], "amount": ["absent", "value", "null_key", "absent"],
    }  # fmt: skip
    clock.now += 0.6
    assert ask(client).cache_hits["n"] == [False, False]


def test_a_cached_row_is_judged_by_the_ttl_of_its_view_at_the_time_of_the_read(backends: Backends) -> None:
    moments = [NOW]
    client = Client(backends, clock=lambda: moments[-1], cache=OnlineCache(ttl=timedelta(days=30)))
    assert ask(client).statuses["n"] == ["value", "empty"]
    moments.append(NOW + 4 * DAY)
    later = ask(client)
    assert (later.statuses["n"], later.to_dict()["n"], later.cache_hits["n"]) == (["expired"] * 2, [None] * 2, [True] * 2)


def test_a_cached_row_outlives_a_floor_that_rises(backends: Backends) -> None:
    """Its publication was complete when it was read, so it is neither below the new floor nor gone."""
    clock = Clock()
    step = make_step("moving", features=features(("n", "int64", 0)))
    publisher = Publisher(backends)
    publisher.register(USERS, EVENTS, COLD, step)
    first = {day(0): [{"user_id": "a", "n": 1}]}
    publisher.bring_online(step, first, publisher.publish(step, first) or 0)
    client = Client(backends, clock=lambda: NOW, cache=OnlineCache(ttl=timedelta(seconds=5), clock=clock))
    entities = {"user_id": ["a", "b"]}
    assert client.get_online_features(["moving:n"], entities).to_dict()["n"] == [1, 0]
    second = {day(1): [{"user_id": "b", "n": 2}]}
    publisher.bring_online(step, second, publisher.publish(step, second) or 0)
    cached = client.get_online_features(["moving:n"], {"user_id": ["a", "b", "c"]})
    assert (cached.to_dict()["n"], cached.cache_hits["n"]) == ([1, 0, 0], [True, True, False])
    assert cached.event_timestamps["n"] == [T0 + DAY, T0 + DAY, T0 + 2 * DAY]
    clock.now += 6
    assert client.get_online_features(["moving:n"], entities).to_dict()["n"] == [0, 2]


def test_a_cache_keeps_the_rows_read_last() -> None:
    cache = OnlineCache(ttl=timedelta(seconds=5), max_rows=2)
    cache.keep("v", [b"a", b"b"], [b"A", b"B"])
    cache.keep("v", [b"a", b"c"], [b"A2", b"C"])
    assert [row and row.row for row in cache.find("v", [b"a", b"b", b"c"])] == [b"A2", None, b"C"]
    assert cache.find("w", [b"a"]) == [None]
    cache.clear()
    assert len(cache) == 0


@pytest.mark.parametrize("arguments", [{"ttl": 5}, {"ttl": timedelta(seconds=-1)}, {"ttl": timedelta(), "max_rows": 0}])
def test_a_cache_that_makes_no_sense_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(RetrievalError, match="a cache needs a ttl"):
        OnlineCache(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_last_known_values_come_with_their_age(server: RunningServer, backends: Backends, kind: str) -> None:
    clock = Clock()
    cache = OnlineCache(ttl=timedelta(), clock=clock)
    entities = {"user_id": ["a", "c"]}

    async def by_asyncio() -> tuple[OnlineResponse, StoreUnavailable]:
        client = AsyncClient(backends, clock=lambda: NOW, cache=cache)
        await client.get_online_features(WANTED, entities)
        server.freeze()
        try:
            clock.now += 90
            found = await client.get_online_features(WANTED, entities, timeout=0.1, on_unavailable="last_known")
            with pytest.raises(StoreUnavailable) as caught:
                await client.get_online_features(WANTED, {"user_id": ["a", "zoe"]}, timeout=0.1, on_unavailable="last_known")
        finally:
            server.thaw()
        await client._store.close()  # type: ignore[union-attr]
        return found, caught.value

    def blocking() -> tuple[OnlineResponse, StoreUnavailable]:
        client = Client(backends, clock=lambda: NOW, cache=cache)
        client.get_online_features(WANTED, entities)
        server.freeze()
        try:
            clock.now += 90
            found = client.get_online_features(WANTED, entities, timeout=0.1, on_unavailable="last_known")
            with pytest.raises(StoreUnavailable) as caught:
                client.get_online_features(WANTED, {"user_id": ["a", "zoe"]}, timeout=0.1, on_unavailable="last_known")
        finally:
            server.thaw()
        return found, caught.value

    found, refused = blocking() if kind == "sync" else asyncio.run(by_asyncio())
    assert found.to_dict() == VALUES
    assert found.ages == {"n": [timedelta(seconds=90)] * 2, "amount": [timedelta(seconds=90)] * 2}
    assert str(refused).endswith("Of 2 of 4 rows no last known values are in this client's cache.")
    assert refused.retry_after == 1.0


# -- the offline store -------------------------------------------------------------------------------------------------------


def test_views_that_are_not_online_are_read_offline_if_allowed(backends: Backends) -> None:
    client = Client(backends, clock=lambda: NOW)
    wanted = ["cold:size", "users:n"]
    entities = {"user_id": ["a", "zoe", None], "event_timestamp": [1, 2, 3]}
    with pytest.raises(RetrievalError, match=r'pass offline="allow"'):
        client.get_online_features(wanted, entities)
    found = client.get_online_features(wanted, entities, offline="allow")
    assert found.to_dict() == entities | {"size": [7, -1, None], "n": [1, 0, None]}
    assert found.statuses == {"size": ["offline"] * 3, "n": ["value", "empty", "null_key"]}
    assert found.to_numpy().nulls["size"].tolist() == [False, False, True]
    assert found.to_arrow().column_names == ["user_id", "event_timestamp", "size", "n"]
    with pytest.raises(EntityColumnError, match="have no column 'user_id'"):
        client.get_online_features(["cold:size"], {"user": ["a"]}, offline="allow")


def test_an_event_loop_reads_offline_as_well(backends: Backends) -> None:
    async def read() -> dict[str, list[object]]:
        client = AsyncClient(backends, clock=lambda: NOW)
        found = await client.get_online_features(["cold:size"], {"user_id": ["a", "zoe"]}, offline="allow")
        await client._store.close()  # type: ignore[union-attr]
        return found.to_dict()

    assert asyncio.run(read()) == {"user_id": ["a", "zoe"], "size": [7, -1]}
