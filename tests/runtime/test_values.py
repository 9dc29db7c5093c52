"""Values and times as they pass through views, stores and readers: keys, decimals, vectors, zones, views over views."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pyarrow as pa
import pytest

from fstore import Client
from tests.projects import SmallProject, utc
from tests.runtime.conftest import STAMP

ITEMS = 5000

HOURLY = """
    from fstore import FeatureView, agg, expr, feature

    from .shop import orders, user


    class Hourly(FeatureView):
        '''Every hour.'''

        entity, source, schedule, start = user, orders, "@hourly", "2026-01-01"
        orders = agg.count().over("1h")


    class Daily(FeatureView):
        '''The day's hours beside the last hour.'''

        entity, schedule, start = user, "@daily", "2026-01-01"
        inputs = {"h": Hourly.history, "last": Hourly}
        sql = '''SELECT h.user_id, CAST(sum(h.orders_1h) AS BIGINT) AS total, CAST(max(last.orders_1h) AS BIGINT) AS newest
                 FROM h LEFT JOIN last USING (user_id) GROUP BY h.user_id'''
        total = feature("int64")
        newest = feature("int64")
"""


def test_a_view_read_whole_and_as_its_newest_snapshot(project: SmallProject) -> None:
    project.define("hourly", HOURLY)
    project.run("hourly", "2026-01-04", "2026-01-06")
    project.run("daily", "2026-01-04", "2026-01-06")
    rows = [(row["event_timestamp"], row["user_id"], row["total"], row["newest"]) for row in project.published("daily")]
    assert rows == [(utc("2026-01-05"), "b", 1, 1)]


VECTORS = """
    from fstore import Entity, FeatureView, ParquetSource, agg, check, feature

    seat = Entity("seat", join_keys={"day": "date", "place": "int32", "name": "string"})
    scans = ParquetSource("scans", path="data/scans.parquet", event_time="seen_at")


    class Scans(FeatureView):
        '''An event view with vectors and decimals, by a composite key.'''

        entity, schedule, start, ttl = seat, "@daily", "2026-01-01", "10d"
        inputs = {"s": scans.window("1d")}
        sql = "SELECT day, place, name, seen_at AS event_timestamp, vector, price FROM s WHERE seen_at >= $start"
        vector = feature("float32[3]")
        price = feature("decimal(9,2)")
        checks = [check.in_range("price", 0, 100, severity="quarantine")]


    class ScanSums(FeatureView):
        '''Windows by the same key.'''

        entity, source, schedule, start, ttl = seat, scans, "@daily", "2026-01-01", "10d"
        price = agg.sum("price").over("2d")
        newest = agg.last("price").over("2d")
        spent = agg.sum("price").over("1d").fill(0)
"""


def write_scans(project: SmallProject, rows: list[tuple[str, int, str, str, list[float] | None, str | None]]) -> None:
    project.write(
        "scans",
        [
            {"day": dt.date.fromisoformat(day), "place": place, "name": name, "seen_at": utc(at), "vector": vector,
             "price": None if price is None else Decimal(price)}
            for day, place, name, at, vector, price in rows
        ],
        {"day": pa.date32(), "place": pa.int32(), "name": pa.string(), "seen_at": STAMP, "vector": pa.list_(pa.float32(), 3),
         "price": pa.decimal128(9, 2)},
    )  # fmt: skip


SCANS: list[tuple[str, int, str, str, list[float] | None, str | None]] = [
    ("2026-01-01", 1, "a", "2026-01-01T10:00", [1.0, 2.0, 3.0], "1.50"),
    ("2026-01-01", 1, "a", "2026-01-02T10:00", None, "2.50"),
    ("2026-01-01", -1, "a", "2026-01-02T11:00", [4.0, 5.0, 6.0], None),
    ("1960-05-05", 1, "", "2026-01-02T12:00", [7.0, 8.0, 9.0], "99.99"),
    ("1960-05-05", 1, "", "2026-01-03T12:00", [7.0, 7.0, 7.0], "100.01"),  # set aside
    ("2026-01-09", 2, "gone", "2026-01-03T13:00", None, "3.00"),
]


def read_both(project: SmallProject, features: list[str], now: str) -> dict[str, list[object]]:
    keys = [("2026-01-01", 1, "a"), ("2026-01-01", -1, "a"), ("1960-05-05", 1, ""), ("2026-01-09", 2, "gone"),
            ("2026-01-01", 9, "never")]  # fmt: skip
    spine = pa.table({
        "day": pa.array([dt.date.fromisoformat(day) for day, _, _ in keys]), "place": [place for _, place, _ in keys],
        "name": [name for _, _, name in keys],
    })  # fmt: skip
    times = pa.array([utc(now)] * len(keys), STAMP)
    with Client(project.settings, clock=lambda: utc(now)) as client:
        online = client.get_online_features(features, spine.to_pydict()).to_dict()
        labelled = spine.append_column("event_timestamp", times)
        offline = client.get_historical_features(labelled, features).to_arrow().drop(["event_timestamp"]).to_pydict()
    assert online == offline
    return {name: values for name, values in online.items() if name not in ("day", "place", "name")}


def test_composite_keys_dates_decimals_and_vectors(project: SmallProject) -> None:
    project.define("scans", VECTORS)
    write_scans(project, SCANS)
    for view in ("scans", "scan_sums"):
        project.run(view, "2026-01-01", "2026-01-04")
    assert read_both(project, ["scans:*"], "2026-01-04") == {
        "vector": [None, [4.0, 5.0, 6.0], [7.0, 8.0, 9.0], None, None],
        "price": [Decimal("2.50"), None, Decimal("99.99"), Decimal("3.00"), None],
    }
    assert read_both(project, ["scan_sums:*"], "2026-01-04") == {
        "price_2d": [Decimal("2.50"), None, Decimal("200.00"), Decimal("3.00"), None],
        "newest_2d": [Decimal("2.50"), None, Decimal("100.01"), Decimal("3.00"), None],
        "spent_1d": [Decimal(0), Decimal(0), Decimal("100.01"), Decimal("3.00"), Decimal(0)],
    }
    write_scans(project, SCANS[:-1])
    project.run("scans", "2026-01-03", "2026-01-04", "withdrawn")
    assert read_both(project, ["scans:*"], "2026-01-04")["price"] == [
        Decimal("2.50"), None, Decimal("99.99"), None, None
    ]  # fmt: skip


EMBEDDINGS = """
    from fstore import Entity, FeatureView, ParquetSource, feature

    item = Entity("item", join_keys={"item_id": "int64"})
    vectors = ParquetSource("vectors", path="data/vectors.parquet", event_time="made_at")


    class Embeddings(FeatureView):
        '''An event view with vectors, some of them null.'''

        entity, schedule, start = item, "@daily", "2026-01-01"
        inputs = {"v": vectors.window("1d")}
        sql = "SELECT item_id, made_at AS event_timestamp, vector FROM v WHERE made_at >= $start"
        vector = feature("float32[16]")


    class Latest(FeatureView):
        '''A snapshot view that joins them.'''

        entity, schedule, start = item, "@daily", "2026-01-01"
        inputs = {"v": vectors.window("10d"), "e": Embeddings}
        sql = "SELECT v.item_id, any_value(e.vector) AS vector FROM v LEFT JOIN e USING (item_id) GROUP BY v.item_id"
        vector = feature("float32[16]")
"""


@pytest.mark.parametrize("withdrawn", [False, True])
def test_many_vectors_some_of_them_null(project: SmallProject, withdrawn: bool) -> None:
    def write(*, whole: bool) -> None:
        rows = [
            {"item_id": number, "made_at": utc(f"2026-01-0{day}") + dt.timedelta(seconds=number),
             "vector": None if number % 5 == 0 else [float(number + day)] * 16}
            for number in range(ITEMS) for day in (1, 2)
            if not (day == 1 and number % 2 == 0) and (whole or not (day == 2 and number % 3 == 0))
        ]  # fmt: skip
        project.write("vectors", rows, {"item_id": pa.int64(), "made_at": STAMP, "vector": pa.list_(pa.float32(), 16)})

    def expected(number: int) -> list[float] | None:
        day = 2 if not (withdrawn and number % 3 == 0) else 1 if number % 2 else None
        return None if day is None or number % 5 == 0 else [float(number + day)] * 16

    project.define("embeddings", EMBEDDINGS)
    write(whole=True)
    project.run("embeddings", "2026-01-01", "2026-01-03")
    if withdrawn:
        write(whole=False)
        project.run("embeddings", "2026-01-02", "2026-01-03", "withdrawn")
    wanted = [expected(number) for number in range(ITEMS)]
    items = pa.table({"item_id": range(ITEMS), "event_timestamp": pa.array([utc("2026-01-03")] * ITEMS, STAMP)})
    with Client(project.settings, clock=lambda: utc("2026-01-03")) as client:
        online = client.get_online_features(["embeddings:vector"], items.select(["item_id"]).to_pydict())
        assert online.to_dict()["vector"] == wanted
        assert client.get_historical_features(items, ["embeddings:vector"]).to_arrow()["vector"].to_pylist() == wanted
    project.run("latest", "2026-01-01", "2026-01-03")
    seconds = {
        row["item_id"]: row["vector"] for row in project.published("latest") if row["event_timestamp"] == utc("2026-01-03")
    }
    assert [seconds.get(number) for number in range(ITEMS)] == [
        None if withdrawn and number % 3 == 0 else vector for number, vector in enumerate(wanted)
    ]


ZONES = """
    from fstore import FeatureView, agg, feature

    from .shop import orders, user


    class Berlin(FeatureView):
        '''Days of Berlin.'''

        entity, source, schedule, timezone, start = user, orders, "@daily", "Europe/Berlin", "2026-03-01T05:00"
        end = "2026-03-31T12:00"
        orders = agg.count().over("1d")


    class Overview(FeatureView):
        '''Hours that read days of another zone, which close earlier.'''

        entity, schedule, start = user, "@hourly", "2026-02-28"
        inputs = {"b": Berlin}
        sql = "SELECT user_id, orders_1d AS orders, b.event_timestamp AS seen FROM b"
        orders = feature("int64")
        seen = feature("timestamp")
"""


def test_hours_over_days_of_another_zone(project: SmallProject) -> None:
    project.define("zones", ZONES)
    project.write(
        "orders",
        [{"user_id": "a", "ordered_at": utc("2026-02-28T23:30") + dt.timedelta(hours=hour), "amount": 1.0, "item": "x"}
         for hour in range(24 * 35)],
        {"user_id": pa.string(), "ordered_at": STAMP, "amount": pa.float64(), "item": pa.string()},
    )  # fmt: skip
    project.run("berlin", "2026-02-01", "2026-05-01")
    ends = [row["event_timestamp"] for row in project.published("berlin")]
    assert (ends[0], ends[-1], len(ends)) == (utc("2026-03-02T23:00"), utc("2026-03-30T22:00"), 29)
    result = project.run("overview", "2026-03-28", "2026-04-02")
    assert result.computed.missing == ()
    seen = {row["event_timestamp"]: row["seen"] for row in project.published("overview")}
    assert seen[utc("2026-03-28T22:00")] == utc("2026-03-27T23:00")
    assert seen[utc("2026-03-28T23:00")] == utc("2026-03-28T23:00")
    assert seen[utc("2026-03-29T21:00")] == utc("2026-03-28T23:00")
    assert seen[utc("2026-03-29T22:00")] == utc("2026-03-29T22:00"), "a day of 23 hours"
    assert seen[utc("2026-04-01T00:00")] == utc("2026-03-30T22:00"), "the last whole day before the end"
    before = project.run("overview", "2026-03-01", "2026-03-03", "before")
    assert before.computed.missing == ()
    assert before.computed.rows == 1 + 1, "empty before the upstream's first interval"


def test_an_event_view_goes_online_without_reading_its_history(project: SmallProject) -> None:
    project.run("order_events", "2026-01-01", "2026-01-03")
    ledger = project.backends.registry.ledger
    (head,) = ledger.heads("order_events")
    for file in ledger.files([head.attempt])[head.attempt]:
        (project.root / ".fstore" / "offline" / file.path).unlink()
    project.run("order_events", "2026-01-04", "2026-01-05", "next")
    with Client(project.settings, clock=lambda: utc("2026-01-05T01:00")) as client:
        read = client.get_online_features(["order_events:doubled"], {"user_id": ["a", "b"]})
    assert read.to_dict()["doubled"] == [40.0, 12.0]
