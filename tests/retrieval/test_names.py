"""Keys, features and columns of sources that are called as reads call something of their own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pyarrow as pa
import pytest

from fstore import Client
from fstore.retrieval import event_join
from fstore.retrieval.event_plans import EVENT_JOINS, EventJoin
from fstore.types import Column
from tests.projects import SmallProject, utc
from tests.retrieval.publishing import DAY, HOUR, T0, Publisher, day, features, make_step

DEFINITIONS = """
    from fstore import Entity, FeatureView, ParquetSource, agg, expr

    user = Entity("user", join_keys={"position": "string"})
    events = ParquetSource("events", path="data/events.parquet", event_time="at")

    class Named(FeatureView):
        entity, source, schedule, start = user, events, "@daily", "2026-01-01"
        mark = agg.sum("mark").over("7d")
        k = agg.sum("k").over("7d")
        k0 = agg.distinct("k0").over("7d")
        label = expr("mark_7d * 100")
        position_of = expr("label + 1")
        is_end = expr("len(k0_7d)")
"""
INTEGERS = ("mark", "k", "k0", "label", "is_end", "until")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallProject]:
    made = SmallProject(tmp_path_factory.mktemp("names"))
    made.define("named", DEFINITIONS)
    rows = [
        {"position": user, "at": utc("2026-01-01T00:00") + timedelta(hours=n), **dict.fromkeys(INTEGERS, n)}
        for n, user in enumerate("abab", start=1)
    ]
    types = {"position": pa.string(), "at": pa.timestamp("us", tz="UTC"), **dict.fromkeys(INTEGERS, pa.int64())}
    made.write("events", rows, types)
    made.run("named", "2026-01-01", "2026-01-02")
    yield made
    made.close()


@pytest.mark.parametrize("accuracy", ["snapshot", "exact"])
def test_columns_and_features_called_as_those_of_queries(project: SmallProject, accuracy: str) -> None:
    with Client(project.backends, clock=lambda: utc("2026-01-02")) as client:
        rows = {"position": ["b", "a", "x"], "event_timestamp": [utc("2026-01-02")] * 3}
        frame = client.get_historical_features(rows, ["named:*"], accuracy=accuracy)  # type: ignore[arg-type]
    found = frame.to_arrow().drop_columns(["position", "event_timestamp"]).to_pylist()
    names = ("mark_7d", "k_7d", "k0_7d", "label", "position_of", "is_end")
    assert found == [
        dict(zip(names, values, strict=True))
        for values in ((6, 6, [2, 4], 600, 601, 2), (4, 4, [1, 3], 400, 401, 2), (None,) * 6)
    ]


def test_a_key_called_as_a_value_of_a_snapshot_join(publisher: Publisher) -> None:
    step = make_step("value_keys", keys=(Column(name="value0", type="int64"),), features=features(("n", "int64", 0)))
    publisher.register(step)
    publisher.publish(step, {day(0): [{"value0": 3, "n": 30}, {"value0": 30, "n": 300}]})
    for count in (1, 50):  # the smaller side is hashed
        rows = {"value0": [3, 30, 300] * count, "event_timestamp": [T0 + DAY] * 3 * count}
        frame = Client(publisher.backends).get_historical_features(rows, ["value_keys:n"])
        assert frame.to_arrow()["n"].to_pylist() == [30, 300, 0] * count


@pytest.mark.parametrize("way", EVENT_JOINS, ids=lambda way: way.sql.__name__)
def test_a_key_called_as_a_value_of_an_event_join(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch, way: EventJoin
) -> None:
    keys = (Column(name="value0", type="int64"), Column(name="found_at", type="string"), Column(name="packed", type="bool"))
    step = make_step(f"key_{way.sql.__name__}", kind="event", keys=keys, features=features(("n", "int64", None)))
    publisher.register(step)
    events = [
        {"value0": key, "found_at": "x", "packed": True, "n": key * 10, "event_timestamp": T0 + HOUR} for key in (3, 30)
    ]
    publisher.publish(step, {day(0): events})
    monkeypatch.setattr(event_join, "choose_event_join", lambda sizes: way)
    rows = [{"value0": key, "found_at": "x", "packed": True, "event_timestamp": T0 + DAY} for key in (300, 30, 3)]
    frame = Client(publisher.backends).get_historical_features(rows, [f"{step.view}:n"])
    assert frame.to_arrow()["n"].to_pylist() == [None, 300, 30]
