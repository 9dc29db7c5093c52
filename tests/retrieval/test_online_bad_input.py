"""What a reader can get wrong online: each is an error with a code that names the thing and the fix, in both clients."""

from __future__ import annotations

import asyncio
import math
import shutil
from datetime import date

import numpy as np
import pyarrow as pa
import pytest

from fstore import AsyncClient, Client
from fstore.errors import EntityColumnError, FStoreError, RetrievalError, StoreMissing, UnknownFeature
from fstore.plan.steps import Step
from fstore.retrieval.online_response import OnlineResponse
from fstore.types import Column
from tests.retrieval.publishing import DAY, KEYS, T0, Publisher, Rows, day, features, make_step

USERS = make_step("users", features=features(("n", "int64", 0)))
SHOPS = make_step("shops", entity="shop", keys=(Column(name="shop", type="int16"),), features=features(("size", "int64", 0)))
DAYS = make_step("days", entity="day", keys=(Column(name="on", type="date"),), features=features(("holiday", "bool", False)))
VISITS = make_step(
    "visits", entity="visit", keys=(*KEYS, Column(name="shop", type="int16")), features=features(("count", "int64", 0))
)
NOW = T0 + DAY


@pytest.fixture(scope="module", params=["client", "async client"])
def read(request: pytest.FixtureRequest, publisher: Publisher) -> object:
    """Read with one of the clients."""
    publisher.register(USERS, SHOPS, DAYS, VISITS)
    rows: list[tuple[Step, Rows]] = [
        (USERS, [{"user_id": "a", "n": 1}, {"user_id": "é\0", "n": 2}]),
        (SHOPS, [{"shop": -7, "size": 5}, {"shop": 32_767, "size": 6}]),
        (DAYS, [{"on": date(2026, 1, 1), "holiday": True}]),
        (VISITS, [{"user_id": "a", "shop": 7, "count": 3}]),
    ]
    for step, own in rows:
        publisher.bring_online(step, {day(0): own}, publisher.publish(step, {day(0): own}) or 0)
    blocking = Client(publisher.backends, clock=lambda: NOW)

    def by_asyncio(*arguments: object, **options: object) -> OnlineResponse:
        async def ask() -> OnlineResponse:
            client = AsyncClient(publisher.backends, clock=lambda: NOW)
            return await client.get_online_features(*arguments, **options)  # type: ignore[arg-type]

        return asyncio.run(ask())

    return blocking.get_online_features if request.param == "client" else by_asyncio


@pytest.mark.parametrize(
    ("feature", "entities", "values"),
    [
        ("users:n", {"user_id": ["é\0", "a", "a", "zoe"]}, [2, 1, 1, 0]),
        ("users:n", [{"user_id": "a"}, {"user_id": None}], [1, None]),
        ("users:n", [{"user_id": "a"}, {"user_id": None, "note": "x"}], [1, None]),
        ("users:n", {"user_id": np.array(["a", "zoe"], dtype=object)}, [1, 0]),
        ("users:n", pa.table({"user_id": pa.array(["a"]).dictionary_encode()}), [1]),
        ("users:n", {"user_id": []}, []),
        ("shops:size", {"shop": [-7, 32_767, 0]}, [5, 6, 0]),
        ("shops:size", {"shop": (-7, None)}, [5, None]),
        ("shops:size", {"shop": [-7.0, 0.0]}, [5, 0]),
        ("shops:size", {"shop": np.array([-7], dtype=np.int8)}, [5]),
        ("days:holiday", {"on": [date(2026, 1, 1), date(2026, 1, 2)]}, [True, False]),
        ("visits:count", {"user_id": ["a", "a", None], "shop": [7, 8, 7]}, [3, 0, None]),
    ],
)  # fmt: skip
def test_keys_in_every_form_find_their_rows(read: object, feature: str, entities: object, values: list[object]) -> None:
    found = read([feature], entities)  # type: ignore[operator]
    assert list(found.to_dict().values())[-1] == values
    assert found.to_arrow().column(-1).to_pylist() == values


@pytest.mark.parametrize(
    ("features", "entities", "kind", "text"),
    [
        (["users:m"], {"user_id": ["a"]}, UnknownFeature, "view 'users' has no feature 'm'; it has 'n'."),
        (["user:n"], {"user_id": ["a"]}, UnknownFeature, "Did you mean 'users'?"),
        (["users:n"], None, RetrievalError, "entities is missing: pass the join keys"),
        (["users:n"], {"user": ["a"]}, EntityColumnError, "have no column 'user_id', a join key of view 'users'"),
        (["users:n"], [{"user_id": "a"}, {"user_id": "a"}, {"user": "a"}], EntityColumnError,
         "the entity row at position 2 has no 'user_id', a join key of view 'users', and others have. Give None where there"),
        (["visits:count"], [{"user_id": "a"}, {"user_id": "a", "shop": 7}], EntityColumnError,
         "the entity row at position 0 has no 'shop', a join key of view 'visits', and others have"),
        (["users:n"], {"user_id": [1]}, EntityColumnError, "holds int64, but the join key of view 'users' is string"),
        (["users:n"], {"user_id": ["a", 1]}, EntityColumnError, "the entity rows have a column of mixed types"),
        (["users:n"], {"user_id": ["a", math.nan]}, EntityColumnError,
         "column 'user_id', a join key of view 'users', holds NaN at position 1, which names no entity. Give None where"),
        (["users:n"], {"user_id": ["a\ud800"]}, EntityColumnError, "a join key holds half a surrogate pair"),
        (["users:n"], {"user_id": ["a"], "x": [1, 2]}, EntityColumnError, "the entity columns differ in length: {'user_id': 1"),
        (["users:n"], {"user_id": ["a"], "n": [1]}, FStoreError, "feature 'users:n' would be column 'n'"),
        (["users:n"], "a", RetrievalError, ""),
        (["users:n"], {"user_id": "abc"}, RetrievalError, ""),
        (["users:n"], {"user_id": ["a"] * 100_001}, RetrievalError,
         "the request has 100001 entities, more than the 100000 of one online read"),
        (["shops:size"], {"shop": [32_768]}, EntityColumnError, "column 'shop' cannot become int16, the join key of view"),
        (["shops:size"], {"shop": [10**30]}, EntityColumnError, ""),
        (["shops:size"], {"shop": [7.5]}, EntityColumnError, "without loss"),
        (["shops:size"], {"shop": [math.nan, 7.0]}, EntityColumnError, "holds NaN at position 0"),
        (["shops:size"], {"shop": [True]}, EntityColumnError, "holds bool, but the join key of view 'shops' is int16"),
        (["shops:size"], {"shop": ["7"]}, EntityColumnError, "holds"),
        (["visits:count"], {"user_id": ["a"]}, EntityColumnError, "have no column 'shop', a join key of view 'visits'"),
    ],
)  # fmt: skip
def test_mistakes_are_errors_that_say_what_and_where(
    read: object, features: list[str], entities: object, kind: type[FStoreError], text: str
) -> None:
    with pytest.raises(kind) as caught:
        read(features, entities)  # type: ignore[operator]
    assert text in str(caught.value)
    assert caught.value.code != FStoreError.code


def test_a_retired_view_and_a_flushed_store_are_errors(publisher: Publisher) -> None:
    gone = make_step("gone", features=features(("n", "int64", 0)))
    publisher.register(USERS, SHOPS, DAYS, VISITS, gone)
    publisher.bring_online(gone, {day(0): []}, publisher.publish(gone, {day(0): []}) or 0)
    client = Client(publisher.backends, clock=lambda: NOW)
    entities = {"user_id": ["a"]}
    assert client.get_online_features(["gone:n"], entities).to_dict()["n"] == [0]
    publisher.backends.registry.retire("gone")
    with pytest.raises(UnknownFeature, match="'gone'"):
        Client(publisher.backends, clock=lambda: NOW).get_online_features(["gone:n"], entities)
    publisher.backends.online.close()
    shutil.rmtree(publisher.backends.settings.online_url.removeprefix("lmdb:"))
    with pytest.raises(StoreMissing, match=r"`fstore apply` to create it"):
        client.get_online_features(["users:n"], entities)
