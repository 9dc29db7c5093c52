"""Every read over HTTP gives what the Python client gives, bit for bit: as JSON, as Arrow, and through the HTTP clients."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from fstore import AsyncHttpClient, Client, HttpClient
from fstore.errors import ImmatureLabels
from tests.retrieval.publishing import DAY, HOUR, T0
from tests.serving.plain_json import send, table
from tests.serving.project import LAT, TypedProject
from tests.serving.running import RunningApp

USERS = ["edges", "more", "safe", "nulls", "nobody", None, "safe"]
TIMES = [T0 + 3 * DAY, T0 + 2 * DAY, T0 + DAY + HOUR, T0 + 2 * DAY, T0 + 2 * DAY, T0 + 2 * DAY, T0]
ONLINE: list[dict[str, Any]] = [
    {"features": ["typed:*"], "entities": {"user_id": USERS}},
    {"features": ["typed:*", "old:*", "events:*"], "entities": {"user_id": USERS}, "full_names": True},
    {"service": "scoring", "entities": [{"user_id": "safe", "extra": 1.5}, {"user_id": "nobody"}]},
    {"features": ["typed:whole"], "entities": {"user_id": []}},
    {"features": ["typed:text@a(user_id=from)", "typed:text@b(user_id=to)"],
     "entities": {"from": ["safe", "more"], "to": ["edges", None], "label": [True, None]}},
    {"features": ["on_demand:shifted", "typed:whole"], "entities": {"user_id": ["safe", "nobody"]},
     "request": {"lat": [0.5, None]}},
]  # fmt: skip


@pytest.fixture(scope="module")
def local(project: TypedProject) -> Iterator[Client]:
    with Client(project.settings) as client:
        yield client


@pytest.fixture(scope="module")
def remote(server: RunningApp) -> Iterator[HttpClient]:
    with HttpClient(server.url) as client:
        yield client


def bits(value: object) -> object:
    """Return a value as something that is equal only if every bit is (NaN is one value)."""
    if isinstance(value, float):
        return "NaN" if value != value else struct.pack(">d", value)
    if isinstance(value, Mapping):
        return [(key, bits(item)) for key, item in value.items()]
    if isinstance(value, list):
        return [bits(item) for item in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return type(value).__name__, value


def same(one: Mapping[str, Sequence[object]], other: Mapping[str, Sequence[object]]) -> bool:
    return list(one) == list(other) and all(bits(list(one[name])) == bits(list(other[name])) for name in one)


@pytest.mark.parametrize("asked", ONLINE, ids=lambda asked: str(asked.get("features", "service")))
def test_online_reads_are_those_of_the_python_client(
    local: Client, remote: HttpClient, server: RunningApp, asked: dict[str, Any]
) -> None:
    expected = local.get_online_features(**asked)
    answer = send(f"{server.url}/v1/online-features", {**asked, "statuses": True, "event_timestamps": True})
    assert answer.status == 200, answer.body
    assert same(table(answer.json), expected.to_dict())
    assert answer.json["statuses"] == expected.statuses
    times = {name: [None if at is None else datetime.fromisoformat(at) for at in given]
             for name, given in answer.json["event_timestamps"].items()}  # fmt: skip
    assert times == expected.event_timestamps
    received = remote.get_online_features(**asked)
    assert received.to_arrow().equals(expected.to_arrow()) or same(received.to_dict(), expected.to_dict())
    assert received.to_arrow().schema == expected.to_arrow().schema
    assert same(received.to_dict(), expected.to_dict())
    assert received.statuses == expected.statuses
    assert received.event_timestamps == expected.event_timestamps
    assert set(map(tuple, received.cache_hits.values())) <= {(False,) * len(received)}
    mine, its = received.to_numpy(), expected.to_numpy()
    assert list(mine.values) == list(its.values)
    for name in mine.values:
        assert mine.nulls[name].tolist() == its.nulls[name].tolist()
        assert mine.values[name].dtype == its.values[name].dtype


def test_statuses_and_times_come_only_when_asked_for(server: RunningApp) -> None:
    answer = send(f"{server.url}/v1/online-features", {"features": ["old:stale"], "entities": {"user_id": ["safe"]}})
    assert answer.json == {
        "columns": [{"name": "user_id", "type": "string"}, {"name": "stale", "type": "int64"}],
        "rows": 1,
        "values": {"user_id": ["safe"], "stale": [None]},
    }


@pytest.mark.parametrize(
    ("features", "entities", "types"),
    [
        (["by_day:sales"], {"on": ["2026-01-02", "2026-01-03", None]}, {}),
        (["by_day:sales"], {"on": ["2026-01-02", "2026-01-03", None]}, {"on": "date"}),
        (["by_number:visits"], {"shop": [str(2**53 + 1), -1, "-1"], "open": [True, False, True]}, {}),
        (["by_number:visits"], {"shop": [2**53 + 1, -1, -1], "open": [True, False, True]}, {}),
        (["on_demand:year"], {"since": ["1999-12-31T23:59:59.999999Z", "2000-01-01T00:30:00+01:00", None]}, {}),
    ],
)
def test_values_that_json_has_no_form_for_are_read_as_declared(
    local: Client, server: RunningApp, features: list[str], entities: dict[str, list[Any]], types: dict[str, str]
) -> None:
    def native(name: str, value: Any) -> object:
        if value is None or not isinstance(value, str):
            return value
        return {"on": date.fromisoformat, "shop": int, "since": datetime.fromisoformat}[name](value)

    given = {name: [native(name, value) for value in values] for name, values in entities.items()}
    answer = send(f"{server.url}/v1/online-features", {"features": features, "entities": entities, "types": types})
    assert answer.status == 200, answer.body
    assert same(table(answer.json), local.get_online_features(features, given).to_dict())


def test_historical_reads_are_those_of_the_python_client(local: Client, remote: HttpClient, server: RunningApp) -> None:
    rows = {"user_id": USERS, "event_timestamp": TIMES, "label": [1, 2, 3, None, 5, 6, 7]}
    asked = {"features": ["typed:*", "offline:cold", "events:last"], "missing": "allow"}
    expected = local.get_historical_features(rows, asked["features"], missing="allow")
    body = {**asked, "entity_rows": {**rows, "event_timestamp": [at.isoformat() for at in TIMES]}}
    answer = send(f"{server.url}/v1/historical-features", body)
    assert answer.status == 200, answer.body
    assert same(table(answer.json), expected.to_arrow().to_pydict(maps_as_pydicts="strict"))
    assert answer.json["manifest"]["content_checksum"] == expected.manifest.content_checksum
    frame = remote.get_historical_features(rows, asked["features"], missing="allow")
    assert same(
        frame.to_arrow().to_pydict(maps_as_pydicts="strict"), expected.to_arrow().to_pydict(maps_as_pydicts="strict")
    )
    assert frame.to_arrow().schema.equals(expected.to_arrow().schema)
    assert frame.manifest.definitions == expected.manifest.definitions
    assert frame.manifest.content_checksum == expected.manifest.content_checksum
    assert local.reproduce(frame.manifest, rows).manifest.content_checksum == frame.manifest.content_checksum


def test_historical_reads_take_their_options(local: Client, remote: HttpClient, server: RunningApp) -> None:
    rows = [{"user_id": "safe", "seen": T0 + 2 * DAY}]
    url = f"{server.url}/v1/historical-features"
    sent = {"features": ["typed:whole"], "entity_rows": [{"user_id": "safe", "seen": "2026-01-03T00:00:00Z"}],
            "timestamp_column": "seen", "full_names": True}  # fmt: skip
    answer = send(url, sent)
    assert table(answer.json)["typed__whole"] == [2**53 - 1]
    for as_of in (1, "2999-01-01T00:00:00Z"):
        assert send(url, {**sent, "as_of": as_of}).json["values"] == answer.json["values"]
    assert send(url, {**sent, "as_of": 0}).json["code"] == "incomplete_history"
    frame = remote.get_historical_features(
        rows, ["typed:whole"], timestamp_column="seen", full_names=True, as_of=datetime(2999, 1, 1, tzinfo=UTC)
    )
    assert frame.to_pandas()["typed__whole"].tolist() == [2**53 - 1]
    assert send(url, {**sent, "matures_after": "1d"}).json["values"] == answer.json["values"]
    assert send(url, {**sent, "matures_after": "90y"}).json["code"] == "immature_labels"
    with pytest.raises(ImmatureLabels):
        remote.get_historical_features(rows, ["typed:whole"], timestamp_column="seen", matures_after=90 * 365 * DAY)


def test_batch_reads_give_the_newest_values(local: Client, remote: HttpClient, server: RunningApp) -> None:
    rows = {"user_id": ["safe", "nobody", None]}
    features = ["typed:*", "offline:cold"]
    expected = local.get_batch_features(rows, features).to_arrow().drop_columns(["event_timestamp"])
    assert expected["whole"].to_pylist() == [2**53 - 1, -5, None]
    values = table(send(f"{server.url}/v1/batch-features", {"features": features, "entity_rows": rows}).json)
    assert {at.tzinfo for at in values.pop("event_timestamp") if isinstance(at, datetime)} == {UTC}
    assert same(values, expected.to_pydict(maps_as_pydicts="strict"))
    found = remote.get_batch_features(rows, features).to_arrow().drop_columns(["event_timestamp"])
    assert same(found.to_pydict(maps_as_pydicts="strict"), expected.to_pydict(maps_as_pydicts="strict"))


def test_either_form_in_and_either_form_out(local: Client, server: RunningApp) -> None:
    arrow = "application/vnd.apache.arrow.stream"
    asked = {"features": ["typed:text"], "entities": {"user_id": ["safe"]}}
    answer = send(f"{server.url}/v1/online-features", asked, headers={"Accept": arrow})
    assert answer.headers["content-type"] == arrow
    expected = local.get_online_features(**asked).to_arrow()
    assert pa.ipc.open_stream(answer.body).read_all().equals(expected)
    rows = pa.table({"user_id": ["safe"]}).replace_schema_metadata(
        {"fstore.request": '{"features":["typed:text"]}', "mine": "1"}
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    body = sink.getvalue().to_pybytes()
    for accept, kind in (("", arrow), (arrow, arrow), ("*/*", arrow), ("application/json", "application/json"),
                         (f"application/json;q=0.4, {arrow};q=0.5", arrow), (f"{arrow};q=0, */*", "application/json")):  # fmt: skip
        answer = send(f"{server.url}/v1/online-features", body, headers={"Content-Type": arrow, "Accept": accept})
        assert (answer.status, answer.headers["content-type"]) == (200, kind), accept
    answer = send(f"{server.url}/v1/online-features", body, headers={"Content-Type": arrow, "Accept": arrow})
    found = pa.ipc.open_stream(answer.body).read_all()
    assert found.schema.metadata == {b"mine": b"1"}
    assert found.to_pydict() == expected.to_pydict()


def test_entities_may_be_any_frame(local: Client, remote: HttpClient) -> None:
    frame = pd.DataFrame(
        {"user_id": ["safe", "edges"], "event_timestamp": pd.to_datetime(TIMES[1:3], utc=True), "n": [1, 2]}
    )
    features = ["typed:whole", "typed:scores"]
    for rows in (frame, pl.from_pandas(frame), pa.Table.from_pandas(frame)):
        expected = local.get_historical_features(rows, features).to_arrow()
        found = remote.get_historical_features(rows, features).to_arrow()
        assert same(found.to_pydict(), expected.to_pydict())
        assert found.schema == expected.schema


def test_the_asyncio_client_gives_the_same(local: Client, server: RunningApp) -> None:
    async def read() -> tuple[object, object, object]:
        async with AsyncHttpClient(server.url) as client:
            many = await asyncio.gather(
                *(client.get_online_features(["typed:whole"], {"user_id": ["safe", "more"]}) for _ in range(20))
            )
            rows = {"user_id": ["safe"], "event_timestamp": [T0 + 2 * DAY]}
            frame = await client.get_historical_features(rows, ["typed:whole"])
            batch = await client.get_batch_features({"user_id": ["safe"]}, ["typed:whole"])
            return [one.to_dict() for one in many], frame.to_arrow().to_pydict(), batch.to_arrow()["whole"].to_pylist()

    online, frame, batch = asyncio.run(read())
    assert online == [local.get_online_features(["typed:whole"], {"user_id": ["safe", "more"]}).to_dict()] * 20
    assert frame == {"user_id": ["safe"], "event_timestamp": [T0 + 2 * DAY], "whole": [2**53 - 1]}
    assert batch == [2**53 - 1]


def test_what_there_is_can_be_listed(server: RunningApp) -> None:
    assert send(f"{server.url}/v1/services").json == {
        "services": [{"name": "scoring", "features": ["typed:whole", "typed:score", "old:stale"], "owner": "ml",
                      "description": "Scores users.", "tags": {"tier": "1"}}]
    }  # fmt: skip
    features = {feature["name"]: feature for feature in send(f"{server.url}/v1/features").json["features"]}
    assert features["by_number:visits"] == {
        "name": "by_number:visits", "type": "int32", "view": "by_number", "description": "", "online": True, "pii": False,
        "keys": [{"name": "shop", "type": "int64"}, {"name": "open", "type": "bool"}], "request": [],
    }  # fmt: skip
    assert features["offline:cold"]["online"] is False
    assert features["on_demand:shifted"]["request"] == [{"name": LAT.name, "type": LAT.type}]
    assert sum(name.startswith("typed:") for name in features) == 18
