"""Features over every kind of source, through the whole path: loaded, planned, computed, published, and kept fresh."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest

from fstore.interval import Interval
from fstore.runtime.sources import observe_sources
from tests.projects import SmallProject, utc

STAMP = pa.timestamp("us", tz="UTC")
TYPES = {"customer": pa.string(), "at_time": STAMP, "cents": pa.int64()}
ORDERS = [
    {"customer": "a", "at_time": utc("2026-01-01T10:00"), "cents": 100},
    {"customer": "a", "at_time": utc("2026-01-01T20:00"), "cents": 300},
    {"customer": "b", "at_time": utc("2026-01-02T12:00"), "cents": 50},
    {"customer": "a", "at_time": utc("2026-01-03T00:00"), "cents": 700},
]

MODULE = """
    from fstore import CsvSource, Entity, FeatureView, ParquetSource, SqlSource, UnionSource, agg, feature

    user = Entity("user", join_keys={"user_id": "string"})
    web = ParquetSource("web", path="data/web.parquet", event_time="at_time", keys={"user_id": "customer"})
    app = CsvSource("app", path="data/app.csv", event_time="seen", lag="1h")
    every = UnionSource([web, app], name="every", columns={"user_id": {}, "cents": {"app": "euros * 100"}})
    paid = SqlSource("paid", inputs={"e": every}, event_time="paid_at",
                     sql="SELECT user_id, event_time AS paid_at, cents / 100.0 AS euros FROM e WHERE cents > 50")
    firsts = SqlSource("firsts", inputs={"e": every.window("1d")}, event_time="happened",
                       sql='''SELECT user_id, event_time AS happened, count(*) OVER (PARTITION BY user_id ORDER BY event_time
                              ROWS UNBOUNDED PRECEDING) AS number FROM e''')


    class Spending(FeatureView):
        entity, source, schedule, start = user, paid, "@daily", "2026-01-01"
        spent = agg.sum("euros").over("1d", "3d")


    class Paces(FeatureView):
        entity, source, schedule, start = user, firsts, "@daily", "2026-01-01"
        pace = agg.max("number").over("1d")


    class Seen(FeatureView):
        entity, schedule, start = user, "@daily", "2026-01-01"
        inputs = {"p": paid.window("2d")}
        sql = "SELECT user_id, count(*) AS n FROM p GROUP BY user_id"
        n = feature("int64")
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[SmallProject]:
    small = SmallProject(tmp_path / "small")
    small.define("shop", MODULE)
    small.write("web", ORDERS, TYPES)
    (small.root / "data" / "app.csv").write_text("user_id,seen,euros\nb,2026-01-01T05:00:00Z,2\nc,2026-01-02T23:59:59Z,9\n")
    yield small
    small.close()


def table(project: SmallProject, view: str) -> list[tuple[object, ...]]:
    """Published rows as (day of the interval's end, key, features…)."""
    return [
        (row["event_timestamp"].day, row["user_id"], *list(row.values())[2:])  # type: ignore[attr-defined]
        for row in project.published(view)
    ]


def stale(project: SmallProject, view: str) -> list[Interval]:
    observe_sources(project.backends, [item.source for item in project.step(view).inputs])  # type: ignore[union-attr]
    return list(project.backends.registry.ledger.stale(view))


SPENDING = [
    (2, "a", 4.0, 4.0), (2, "b", 2.0, 2.0), (3, "a", None, 4.0), (3, "b", None, 2.0), (3, "c", 9.0, 9.0),
    (4, "a", 7.0, 11.0), (4, "b", None, 2.0), (4, "c", None, 9.0),
]  # fmt: skip


def test_aggregates_over_a_transform_of_a_union(project: SmallProject) -> None:
    project.run("spending", "2026-01-01", "2026-01-04")
    assert sorted(table(project, "spending")) == SPENDING
    step = project.step("spending")
    assert {(edge.dataset, edge.column) for edge in step.lineage if edge.feature == "spent_1d"} == {
        ("web", "cents"), ("app", "euros"),
    }  # fmt: skip
    assert step.lag.total_seconds() == 3600


def test_single_runs_equal_a_range_run(project: SmallProject) -> None:
    for day in (1, 2, 3):
        project.run("paces", f"2026-01-0{day}", f"2026-01-0{day + 1}", run_id=f"day-{day}")
    single = table(project, "paces")
    assert sorted(single) == [(2, "a", 2), (2, "b", 1), (3, "b", 2), (3, "c", 1), (4, "a", 1)]
    project.run("paces", "2026-01-01", "2026-01-04", run_id="range")
    assert table(project, "paces") == single


def test_sql_views_read_a_source_of_sql(project: SmallProject) -> None:
    project.run("seen", "2026-01-02", "2026-01-04")
    assert sorted(table(project, "seen")) == [(3, "a", 2), (3, "b", 1), (3, "c", 1), (4, "a", 1), (4, "c", 1)]


def test_late_data_of_a_member_makes_stale_what_saw_its_times(project: SmallProject) -> None:
    for view in ("spending", "paces", "seen"):
        project.run(view, "2026-01-01", "2026-01-04")
        assert stale(project, view) == []
    (project.root / "data" / "app.csv").write_text("user_id,seen,euros\nb,2026-01-02T05:00:00Z,2\n")
    days = [Interval(utc(f"2026-01-0{day}"), utc(f"2026-01-0{day + 1}")) for day in (1, 2, 3)]
    assert stale(project, "spending") == days
    project.run("spending", "2026-01-01", "2026-01-04", run_id="again")
    assert stale(project, "spending") == []
    assert [row for row in table(project, "spending") if row[1] == "b"] == [(3, "b", 2.0, 2.0), (4, "b", None, 2.0)]


@pytest.mark.integration
def test_a_table_of_postgres_through_the_whole_path(
    tmp_path: Path, postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FSTORE_CONNECTION_SHOP", postgres_database)
    execute: Callable[[str], None]
    with psycopg.connect(postgres_database, autocommit=True) as database:
        execute = database.execute  # type: ignore[assignment]
        execute("CREATE TABLE orders (id int, customer text, cents int, at_time timestamptz, changed timestamptz)")
        execute("INSERT INTO orders VALUES (1, 'a', 100, '2026-01-01 10:00Z', '2026-01-01'), "
                "(2, 'b', 200, '2026-01-02 10:00Z', '2026-01-02')")  # fmt: skip
        small = SmallProject(tmp_path / "small")
        small.define(
            "shop",
            """
            from fstore import Entity, FeatureView, PostgresSource, agg

            user = Entity("user", join_keys={"user_id": "string"})
            orders = PostgresSource("orders", connection="shop", table="orders", event_time="at_time", cursor="changed",
                                    keys={"user_id": "customer"}, unique_key=["id"])


            class Spending(FeatureView):
                entity, source, schedule, start = user, orders, "@daily", "2026-01-01"
                spent = agg.sum("cents").over("1d")
            """,
        )
        try:
            small.run("spending", "2026-01-01", "2026-01-04")
            assert sorted(table(small, "spending")) == [(2, "a", 100), (3, "b", 200)]
            execute("UPDATE orders SET cents = 50, changed = '2026-01-05' WHERE id = 2")
            assert stale(small, "spending") == [Interval(utc("2026-01-02"), utc("2026-01-03"))]
            small.run("spending", "2026-01-02", "2026-01-03", run_id="late")
            assert sorted(table(small, "spending")) == [(2, "a", 100), (3, "b", 50)]
            assert stale(small, "spending") == []
        finally:
            small.close()
