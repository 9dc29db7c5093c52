"""Views over features of other views, through the real compiler, engine, ledger and stores."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from tests.projects import SmallProject, utc

INSTANT = pa.timestamp("us", tz="UTC")
EVENTS = {"user_id": pa.string(), "city": pa.string(), "at": INSTANT, "amount": pa.int64()}

VIEWS = """
    from fstore import Entity, FeatureView, ParquetSource, agg, expr, feature

    user = Entity("user", join_keys={"user_id": "string"})
    city = Entity("city", join_keys={"city": "string"})
    trip = Entity("trip", join_keys={"user_id": "string", "city": "string"})
    leg = Entity("leg", join_keys={"origin": "string", "dest": "string"})
    buys = ParquetSource("buys", path="data/buys.parquet", event_time="at")
    visits = ParquetSource("visits", path="data/visits.parquet", event_time="at", lag="1h")

    class Buys(FeatureView):
        entity, source, schedule, start = user, buys, "@daily", "2026-01-01"
        n = agg.count().over("2d")
        total = agg.sum("amount").over("2d")

    class Visits(FeatureView):
        entity, source, schedule, start = user, visits, "0 */8 * * *", "2026-01-02"
        n = agg.count().over("1d", "2d")
        spent = agg.sum("amount").over("1d").fill(7)

    class Cities(FeatureView):
        entity, source, schedule, start = city, visits, "@daily", "2026-01-01"
        n = agg.count().over("3d")

    class Conversion(FeatureView):
        entity, schedule = user, "@daily"
        rate = expr("b / v", b=Buys.n["2d"], v=Visits.n["1d"])
        doubled = expr("rate * 2")
        spent = expr("s", s=Visits.spent)

    class Trips(FeatureView):
        entity, source, schedule, start = trip, visits, "0 */12 * * *", "2026-01-01"
        here = agg.count().over("1d")
        share = expr("here_1d / everywhere", everywhere=Visits.n["1d"])
        of_city = expr("here_1d + total", total=Cities.n["3d"])

    class Legs(FeatureView):
        entity, schedule = leg, "@daily"
        inputs = {"c": Cities}
        sql = "SELECT a.city AS origin, b.city AS dest, a.n_3d - b.n_3d AS gap FROM c a CROSS JOIN c b"
        gap = feature("int64")

    class LegDemand(FeatureView):
        entity, schedule = leg, "@daily"
        both = expr("o * 10 + d + coalesce(gap, 0)", o=Cities.as_("origin", city="origin").n, gap=Legs.gap,
                    d=Cities.as_("dest", city="dest").n)
"""

Rows = Sequence[Mapping[str, object]]
START = utc("2026-01-01T00:00")


def make_rows(seed: int, count: int = 22) -> list[dict[str, object]]:
    rng = random.Random(seed)
    return [
        {"user_id": rng.choice("abc"), "city": rng.choice("xyz"), "amount": rng.randint(1, 9),
         "at": START + timedelta(hours=rng.randint(-30, 150))}
        for _ in range(count)
    ]  # fmt: skip


BUYS, VISITS = make_rows(1), make_rows(2)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallProject]:
    root: Path = tmp_path_factory.mktemp("composites")
    made = SmallProject(root / "range")
    made.define("views", VIEWS)
    made.write("buys", BUYS, EVENTS)
    made.write("visits", VISITS, EVENTS)
    for view in ("buys", "visits", "cities"):
        made.run(view, "2026-01-01T00:00", "2026-01-06T00:00")
    yield made
    made.close()


def within(rows: Rows, end: datetime, days: int, **keys: str) -> list[int]:
    """The amounts of the rows of a key in the days before an instant."""
    return [
        int(str(row["amount"]))
        for row in rows
        if end - timedelta(days=days) <= row["at"] < end and all(row[key] == value for key, value in keys.items())  # type: ignore[operator]
    ]


def of_view(rows: Rows, end: datetime, days: int, begins: str, hours: int, **keys: str) -> list[int]:
    """The same as the newest snapshot of a view shows it: on its grid of hours, and nothing before its start."""
    newest = end - (end - START) % timedelta(hours=hours)
    return within(rows, newest, days, **keys) if newest - timedelta(hours=hours) >= utc(begins) else []


def ends(first: str, last: str, hours: int) -> list[datetime]:
    found, end = [], utc(first) + timedelta(hours=hours)
    while end <= utc(last):
        found.append(end)
        end += timedelta(hours=hours)
    return found


def divided(one: float, other: float) -> float | None:
    return one / other if other else None


def test_expressions_over_two_views_of_other_schedules(project: SmallProject) -> None:
    project.run("conversion", "2026-01-01T00:00", "2026-01-06T00:00")
    expected = []
    for end in ends("2026-01-02T00:00", "2026-01-06T00:00", 24):  # it starts where the later of its inputs does
        for user in "abc":
            visits = of_view(VISITS, end, 1, "2026-01-02T00:00", 8, user_id=user)
            buys = of_view(BUYS, end, 2, "2026-01-01T00:00", 24, user_id=user)
            longer = of_view(VISITS, end, 2, "2026-01-02T00:00", 8, user_id=user)
            if buys or longer:
                rate = divided(len(buys), len(visits))
                expected.append({"user_id": user, "event_timestamp": end, "rate": rate,
                                 "doubled": None if rate is None else rate * 2,
                                 "spent": sum(visits) if visits else 7})  # fmt: skip
    assert project.published("conversion") == sorted(expected, key=lambda row: [str(row["event_timestamp"]), row["user_id"]])
    assert {row["rate"] is None for row in expected} == {True, False}


def test_own_aggregates_beside_views_with_some_of_the_keys(project: SmallProject) -> None:
    project.run("trips", "2026-01-01T00:00", "2026-01-05T00:00")
    expected = []
    for end in ends("2026-01-01T00:00", "2026-01-05T00:00", 12):
        for user in "abc":
            for city in "xyz":
                here = within(VISITS, end, 1, user_id=user, city=city)
                if here:
                    visits = of_view(VISITS, end, 1, "2026-01-02T00:00", 8, user_id=user)
                    cities = of_view(VISITS, end, 3, "2026-01-01T00:00", 24, city=city)
                    expected.append({"user_id": user, "city": city, "event_timestamp": end, "here_1d": len(here),
                                     "share": divided(len(here), len(visits)),
                                     "of_city": len(here) + len(cities)})  # fmt: skip
    order = lambda row: [str(row["event_timestamp"]), row["user_id"], row["city"]]  # noqa: E731
    assert project.published("trips") == sorted(expected, key=order)


def test_one_view_joined_twice_by_other_keys(project: SmallProject) -> None:
    for view in ("legs", "leg_demand"):
        project.run(view, "2026-01-01T00:00", "2026-01-04T00:00")
    expected = []
    for end in ends("2026-01-01T00:00", "2026-01-04T00:00", 24):
        counts = {city: len(within(VISITS, end, 3, city=city)) for city in "xyz"}
        known = [city for city, count in counts.items() if count]
        expected += [
            {"origin": o, "dest": d, "event_timestamp": end, "both": counts[o] * 10 + counts[d] + counts[o] - counts[d]}
            for o in known
            for d in known
        ]
    order = lambda row: [str(row["event_timestamp"]), row["origin"], row["dest"]]  # noqa: E731
    assert project.published("leg_demand") == sorted(expected, key=order)


@pytest.mark.parametrize("view", ["conversion", "trips"])
def test_single_runs_equal_a_range_run(project: SmallProject, view: str) -> None:
    project.run(view, "2026-01-01T00:00", "2026-01-05T00:00", "range")
    in_range = project.published(view)
    for number, interval in enumerate(project.intervals(view, "2026-01-01T00:00", "2026-01-05T00:00")):
        project.run(view, f"{interval.start:%Y-%m-%dT%H:%M}", f"{interval.end:%Y-%m-%dT%H:%M}", f"single-{number}")
    assert project.published(view) == in_range
    assert in_range


def test_an_upstream_republication_makes_the_interval_stale(project: SmallProject) -> None:
    project.run("conversion", "2026-01-02T00:00", "2026-01-05T00:00", "before")
    stale = project.backends.registry.ledger.stale("conversion")
    assert list(stale) == []
    project.run("buys", "2026-01-03T00:00", "2026-01-04T00:00", "again")
    assert [(interval.start, interval.end) for interval in project.backends.registry.ledger.stale("conversion")] == [
        (utc("2026-01-03T00:00"), utc("2026-01-04T00:00"))
    ]


def test_what_the_plan_says_of_it(project: SmallProject) -> None:
    step = project.step("conversion")
    assert step.start == utc("2026-01-02T00:00")
    assert step.lag == timedelta(hours=1)
    assert step.upstream == ("buys", "visits")
    assert [(edge.feature, edge.kind, edge.dataset, edge.column, edge.transformation) for edge in step.lineage] == [
        ("user_id", "view", "buys", "user_id", "IDENTITY"),
        ("user_id", "view", "visits", "user_id", "IDENTITY"),
        ("rate", "view", "buys", "n_2d", "TRANSFORMATION"),
        ("rate", "view", "visits", "n_1d", "TRANSFORMATION"),
        ("doubled", "view", "buys", "n_2d", "TRANSFORMATION"),
        ("doubled", "view", "visits", "n_1d", "TRANSFORMATION"),
        ("spent", "view", "visits", "spent_1d", "IDENTITY"),
    ]
    assert [(feature.name, feature.type, feature.empty) for feature in step.features] == [
        ("rate", "float64", None),
        ("doubled", "float64", None),
        ("spent", "int64", 7),
    ]
