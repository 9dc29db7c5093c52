"""Maps and lists from definitions to every reader: SQL, Python and event views, offline, online, JSON and the terminal."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from fstore import Client
from fstore.cli.status import show_view
from fstore.errors import OutputMismatch
from tests.projects import SmallProject, utc

NESTED = """
    from fstore import FeatureView, feature, transform

    from .shop import orders, user


    class Basket(FeatureView):
        '''A snapshot view in SQL.'''

        entity, schedule, start, ttl = user, "@daily", "2026-01-01", "10d"
        inputs = {"o": orders.window("10d")}
        sql = '''SELECT user_id, map_from_entries(list({'k': 'item ' || item, 'v': amount} ORDER BY ordered_at DESC)) AS spent,
                   CAST(list(amount ORDER BY ordered_at) AS DOUBLE[]) AS amounts
                 FROM (SELECT user_id, item, max(ordered_at) AS ordered_at, sum(amount) AS amount FROM o
                       WHERE user_id IS NOT NULL GROUP BY ALL)
                 GROUP BY user_id'''
        spent = feature("map<string,float64>")
        amounts = feature("list<float64>")


    class Seen(FeatureView):
        '''An event view that joins it.'''

        entity, schedule, start = user, "@daily", "2026-01-01"
        inputs = {"o": orders.window("1d"), "b": Basket}
        sql = '''SELECT DISTINCT ON (user_id, ordered_at) user_id, ordered_at AS event_timestamp, spent, amounts
                 FROM o LEFT JOIN b USING (user_id) WHERE user_id IS NOT NULL'''
        spent = feature("map<string,float32>")
        amounts = feature("list<float64>")


    def turn(b):
        import pyarrow as pa

        spent = [None if m is None else [(key, str(value)) for key, value in reversed(m)] for m in b["spent"].to_pylist()]
        return pa.table({"user_id": b["user_id"], "spent": pa.array(spent, pa.map_(pa.string(), pa.string()))})


    class Turned(FeatureView):
        '''A Python view whose maps come in another order.'''

        entity, schedule, start, inputs = user, "@daily", "2026-01-01", {"b": Basket}
        spent = feature("map<string,string>")
        compute = transform(turn)


    def double(b):
        import pyarrow as pa

        entries = [[("a", 1), ("a", 2)]] * b.num_rows
        return pa.table({"user_id": b["user_id"], "spent": pa.array(entries, pa.map_(pa.string(), pa.int64()))})


    class Doubled(FeatureView):
        '''A Python view whose maps are none.'''

        entity, schedule, start, inputs = user, "@daily", "2026-01-01", {"b": Basket}
        spent = feature("map<string,int64>")
        compute = transform(double)
"""


def read_both(project: SmallProject, features: list[str], now: str) -> dict[str, list[object]]:
    """Read features of users a, b and nobody, online and offline, which must agree bit for bit."""
    with Client(project.settings, clock=lambda: utc(now)) as client:
        online = client.get_online_features(features, {"user_id": ["a", "b", "nobody"]})
        spine = pa.table({"user_id": ["a", "b", "nobody"]}).append_column(
            "event_timestamp", pa.array([utc(now)] * 3, pa.timestamp("us", tz="UTC"))
        )
        offline = client.get_historical_features(spine, features).to_arrow().drop(["event_timestamp"])
        assert online.to_arrow().to_pylist() == offline.to_pylist()
        assert online.to_arrow().schema.types == offline.schema.types
    return {name: values for name, values in online.to_dict().items() if name != "user_id"}


def test_maps_and_lists_from_sql_to_every_reader(project: SmallProject) -> None:
    project.define("nested", NESTED)
    for view in ("basket", "seen", "turned"):
        project.run(view, "2026-01-01", "2026-01-06")
    baskets = [row for row in project.published("basket") if row["event_timestamp"] == utc("2026-01-06")]
    spent = {row["user_id"]: row["spent"] for row in baskets}
    assert all(entries == sorted(entries) and entries for entries in spent.values())
    values = read_both(project, ["basket:*"], "2026-01-06T02:00")
    assert values["spent"] == [dict(spent["a"]), dict(spent["b"]), None]
    assert values["amounts"][2] is None
    turned = read_both(project, ["turned:spent"], "2026-01-06T02:00")["spent"]
    assert turned == [{key: str(value) for key, value in spent[user]} for user in "ab"] + [None]
    seen = read_both(project, ["seen:spent"], "2026-01-06T02:00")["spent"]
    assert seen[:2] == [dict(spent["a"]), dict(spent["b"])]

    with pytest.raises(OutputMismatch, match="a map has the same key twice"):
        project.run("doubled", "2026-01-05", "2026-01-06")


def test_the_command_line_shows_them(
    project: SmallProject, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    project.define("nested", NESTED)
    project.run("basket", "2026-01-05", "2026-01-06")
    monkeypatch.chdir(project.root)
    show_view("basket", "2026-01-07", 10, as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert [(row["user_id"], row["spent"], row["amounts"]) for row in document["rows"]] == [
        ("a", {"item ink": 20.0, "item pen": 10.0}, [10.0, 20.0]),
        ("b", {"item cup": 5.0, "item jug": 6.0}, [5.0, 6.0]),
    ]
    show_view("basket", "2026-01-07", 10, as_json=False)
    assert "{item ink: 20, item pe…}  [10, 20]" in capsys.readouterr().out, "a long map shows how it begins"


AGGREGATES = """
    from fstore import FeatureView, agg, expr

    from .shop import orders, user


    class Tastes(FeatureView):
        '''Aggregates that split the events of a key.'''

        entity, source, schedule, start, ttl = user, orders, "@daily", "2026-01-01", "10d"
        spent = agg.sum("amount", by="item").over("3d", "lifetime")
        bought = agg.count(by="item", max_categories=1).over("lifetime")
        items = agg.distinct("item").over("lifetime")
        favourites = agg.top_k("item", 2, where="amount > 5").over("3d")
        kinds = agg.count_distinct("item").over("3d", offset="1d")
        roughly = agg.approx_count_distinct("amount").over("lifetime")
        median = agg.approx_percentile("amount", 0.5).over("lifetime")
        buckets = agg.histogram("amount", edges=[6, 12]).over("3d")
        double = expr("kinds_3d_offset_1d * 2")
"""


def test_aggregates_over_sub_keys_from_events_to_every_reader(project: SmallProject) -> None:
    project.define("tastes", AGGREGATES)
    project.run("tastes", "2026-01-01", "2026-01-06")
    (last,) = [
        row for row in project.published("tastes") if (row["event_timestamp"], row["user_id"]) == (utc("2026-01-06"), "b")
    ]
    assert last == {
        "user_id": "b", "event_timestamp": utc("2026-01-06"), "spent_3d": [("jug", 6.0)],
        "spent_lifetime": [("cup", 5.0), ("jug", 6.0)], "bought_lifetime": [("cup", 1)], "items_lifetime": ["cup", "jug"],
        "favourites_3d": ["jug"], "kinds_3d_offset_1d": 2, "roughly_lifetime": 2,
        "median_lifetime": pytest.approx(5, rel=0.01), "buckets_3d": [0, 1, 0], "double": 4,
    }  # fmt: skip
    many = project.published("tastes")
    for day in range(1, 6):
        project.run("tastes", f"2026-01-0{day}", f"2026-01-0{day + 1}", f"day {day}")
    assert project.published("tastes") == many, "single intervals give what the range gave"
    values = read_both(project, ["tastes:*"], "2026-01-06T02:00")
    assert values["spent_lifetime"] == [{"ink": 20.0, "pen": 10.0}, {"cup": 5.0, "jug": 6.0}, None]
    assert (values["buckets_3d"][2], values["kinds_3d_offset_1d"][2], values["items_lifetime"][2]) == ([0, 0, 0], 0, None)
