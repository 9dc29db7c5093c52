"""Lists, maps and vectors in frames, online, in expressions over other views and on demand."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from fstore import Client
from fstore.runtime.plan_cache import load_plan
from fstore.runtime.preparation import compile_with_types, read_schemas, sources_of
from tests.projects import SmallProject, utc

INSTANT = pa.timestamp("us", tz="UTC")

DEFINITIONS = """
    from fstore import Entity, FeatureService, FeatureView, ParquetSource, agg, expr, feature, on_demand

    user = Entity("user", join_keys={"user_id": "string"})
    buys = ParquetSource("buys", path="data/buys.parquet", event_time="at")

    class Habits(FeatureView):
        entity, source, schedule, start = user, buys, "@daily", "2026-01-01"
        spread = agg.histogram("n", [2, 5]).over("7d")
        kinds = agg.distinct("kind").over("7d")
        by_kind = agg.sum("n", by="kind").over("7d")

    class Vectors(FeatureView):
        entity, inputs, schedule, start = user, {"b": buys.window("7d")}, "@daily", "2026-01-01"
        sql = '''SELECT user_id, [sum(n), count(*)]::FLOAT[2] AS place, list(n ORDER BY n) AS every
                 FROM b WHERE user_id <> 'b' GROUP BY user_id'''
        place = feature("float32[2]")
        every = feature()

    class Mixed(FeatureView):
        entity, schedule = user, "@daily"
        smallest = expr("CAST(list_min(e) AS INTEGER)", e=Vectors.every)
        x = expr("CAST(p[1] AS DOUBLE)", p=Vectors.place)
        low = expr("CAST(s[1] AS BIGINT)", s=Habits.spread)

    near = on_demand("near", "array_distance(place, here)", request={"here": "float32[2]"}, place=Vectors.place)
    of_kind = on_demand("of_kind", "amounts[kind]", request={"kind": "string"}, amounts=Habits.by_kind)
    nested = FeatureService("nested", features=[Habits, Vectors, Mixed, near, of_kind])
"""

ROWS = [("a", "x", 1), ("a", "y", 4), ("a", "x", 9), ("b", "y", 2), ("c", None, 3)]
USERS = ["a", "b", "c", "nobody"]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    root: Path = tmp_path_factory.mktemp("nested")
    project = SmallProject(root)
    project.define("habits", DEFINITIONS)
    rows = [
        {"user_id": user, "kind": kind, "n": n, "at": utc("2026-01-01T00:00") + timedelta(hours=n)} for user, kind, n in ROWS
    ]
    project.write("buys", rows, {"user_id": pa.string(), "kind": pa.string(), "n": pa.int32(), "at": INSTANT})
    loaded = load_plan(project.settings).project
    schemas = read_schemas(project.backends.engine, sources_of(loaded)).schemas
    plan = compile_with_types(project.backends.engine, loaded, schemas)
    assert [str(problem) for problem in plan.problems] == []
    project.backends.registry.register(plan)
    for view in ("habits", "vectors", "mixed"):
        project.run(view, "2026-01-01T00:00", "2026-01-02T00:00")
    yield Client(project.backends, clock=lambda: datetime(2026, 1, 2, 1, tzinfo=UTC))
    project.close()


def test_they_come_back_whole_from_both_stores(client: Client) -> None:
    asked = {"user_id": USERS, "here": [[0.0, 0.0]] * 4, "kind": ["x", "y", "x", "x"]}
    online = client.get_online_features(service="nested", entities=asked).to_arrow()
    found = online.to_pydict()
    assert {name: found[name] for name in online.column_names[3:]} == {
        "spread_7d": [[1, 1, 1], [0, 1, 0], [0, 1, 0], [0, 0, 0]],
        "kinds_7d": [["x", "y"], ["y"], None, None],
        "by_kind_7d": [[("x", 10), ("y", 4)], [("y", 2)], None, None],
        "place": [[14.0, 3.0], None, [3.0, 1.0], None],
        "every": [[1, 4, 9], None, [3], None],
        "smallest": [1, None, 3, None],
        "x": [14.0, None, 3.0, None],
        "low": [1, 0, 0, 0],
        "near": [pytest.approx((14.0**2 + 9) ** 0.5, rel=1e-6), None, pytest.approx(10**0.5, rel=1e-6), None],
        "of_kind": [10, 2, None, None],
    }
    now = pa.array([datetime(2026, 1, 2, 1, tzinfo=UTC)] * 4, INSTANT)
    frame = client.get_historical_features(pa.table({**asked, "event_timestamp": now}), service="nested").to_arrow()
    for name in online.column_names[3:]:
        assert frame[name].type == online[name].type, name
        assert frame[name].to_pylist() == online[name].to_pylist(), name
