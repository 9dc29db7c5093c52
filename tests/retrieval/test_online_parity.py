"""On every key, offline and online agree bit for bit, on every store and through both clients."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fstore import AsyncClient, Client
from fstore.backends import Backends, create_backends
from fstore.settings import Settings
from scripts.servers import ServerMissing, redis_cluster, redis_sentinel, redis_server
from tests.retrieval.publishing import DAY, T0, Publisher, Rows, day, features, make_step

TYPES = ("float64", "float32", "int64", "uint8", "bool", "string", "binary", "date", "timestamp", "decimal(18,2)",
         "float32[2]", "list<int32>", "map<string,float64>")  # fmt: skip
FEATURES = tuple((f"f{number}", kind, None) for number, kind in enumerate(TYPES))
SNAPSHOT = make_step("state", features=features(*FEATURES, ("count", "int64", 0)), ttl=5 * DAY)
EVENT = make_step("event", kind="event", features=features(*FEATURES))
KEYS = [f"user-{number}" for number in range(400)] + ["é", "\0", ""]
NOW = T0 + 2 * DAY


def row_of(walk: random.Random, key: str) -> dict[str, object]:
    """A row of random values, a fifth of them null, and of the floats that are easily lost."""
    floats = [math.nan, -0.0, 0.0, math.inf, 5e-324, walk.random()]
    values = [
        walk.choice(floats), float(np.float32(walk.random())), walk.choice([-(2**63), 2**63 - 1, walk.randrange(100)]),
        walk.randrange(256), walk.random() < 0.5, walk.choice(["", "é\0", "x" * 300]), walk.choice([b"", b"\xff\0"]),
        date(1, 1, 1) + timedelta(days=walk.randrange(3_000_000)), T0 + timedelta(microseconds=walk.randrange(10**12)),
        Decimal(walk.randrange(-(10**9), 10**9)) / 100, [-0.0, walk.random()], [walk.randrange(9), None][: walk.randrange(3)],
        {"a": walk.choice(floats), "b": None},
    ]  # fmt: skip
    nullable = {f"f{number}": None if walk.random() < 0.2 else value for number, value in enumerate(values)}
    return {"user_id": key, **nullable}


@contextlib.contextmanager
def store_url(kind: str, root: Path) -> Iterator[str]:
    with contextlib.ExitStack() as stack:
        try:
            match kind:
                case "lmdb":
                    yield f"lmdb:{root}/online"
                case "redis":
                    yield stack.enter_context(redis_server()).url
                case "sentinel":
                    yield stack.enter_context(redis_sentinel(stack.enter_context(redis_server()).port)).url
                case _:
                    yield stack.enter_context(redis_cluster())[0].url
        except ServerMissing as missing:
            pytest.skip(str(missing))


def publish(publisher: Publisher) -> None:
    """Two days of both views; the second replaces some keys and withdraws others."""
    walk = random.Random(7)
    publisher.register(SNAPSHOT, EVENT)
    for number in range(2):
        chosen = walk.sample(KEYS, 300)
        state: Rows = [row_of(walk, key) | {"count": number + 1} for key in chosen]
        sequence = publisher.publish(SNAPSHOT, {day(number): state})
        publisher.bring_online(SNAPSHOT, {day(number): state}, sequence or 0)
        events: Rows = [
            row_of(walk, key) | {"event_timestamp": T0 + number * DAY + timedelta(seconds=walk.randrange(86_400))}
            for key in walk.sample(KEYS, 300)
        ]
        sequence = publisher.publish(EVENT, {day(number): events})
        publisher.bring_online(EVENT, {day(number): events}, sequence or 0)


def bits(column: pa.ChunkedArray) -> list[object]:
    """Values whose equality is that of their bits."""
    array = column.combine_chunks()
    if pa.types.is_floating(array.type):
        plain = array.to_numpy(zero_copy_only=False)
        return [value.tobytes() if there else None for value, there in zip(plain, array.is_valid().to_pylist(), strict=True)]
    return [repr(value) for value in array.to_pylist(maps_as_pydicts="strict")]


@pytest.mark.parametrize(
    "kind", ["lmdb", *(pytest.param(name, marks=pytest.mark.integration) for name in ("redis", "sentinel", "cluster"))]
)
def test_offline_and_online_agree_on_every_key(kind: str, tmp_path: Path) -> None:
    with store_url(kind, tmp_path) as url:
        settings = Settings(
            root=str(tmp_path), project="shop", registry_url=f"sqlite:///{tmp_path}/registry.db", threads=1,
            offline_url=f"file:{tmp_path}/offline", online_url=url, spill_dir=str(tmp_path / "spill"),
            cache_dir=str(tmp_path / "cache"), memory_limit="1GB",
        )  # fmt: skip
        with create_backends(settings) as backends:
            publish(Publisher(backends))
            compare(backends)


def compare(backends: Backends) -> None:
    wanted = ["state:*", "event:*"]
    client = Client(backends, clock=lambda: NOW)
    entities: dict[str, list[object]] = {"user_id": [*KEYS, None, "nobody"]}
    offline = client.get_historical_features(
        entities | {"event_timestamp": [NOW] * (len(KEYS) + 2)}, wanted, full_names=True
    ).to_arrow()  # fmt: skip

    async def by_asyncio() -> pa.Table:
        other = AsyncClient(backends, clock=lambda: NOW)
        found = await other.get_online_features(wanted, entities, full_names=True)
        await other._store.close()  # type: ignore[union-attr]
        return found.to_arrow()

    for online in (client.get_online_features(wanted, entities, full_names=True).to_arrow(), asyncio.run(by_asyncio())):
        assert online.column_names == [name for name in offline.column_names if name != "event_timestamp"]
        for name in online.column_names:
            assert online[name].type == offline[name].type
            assert bits(online[name]) == bits(offline[name]), name
