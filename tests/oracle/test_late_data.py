"""Source files that change, appear or vanish: exactly what overlaps them is computed again, and is right then."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from fstore.interval import Interval
from fstore.plan.steps import Step
from fstore.runtime.due import due_intervals
from fstore.runtime.inputs import observe_step
from tests.oracle.cases import Case, Event, Grid, at, event, seeds
from tests.oracle.language import CONDITIONS, NUMBER, Aggregate, ViewCase, column
from tests.oracle.projects import OracleProject, check

GRID = Grid("0 0 * * *", "UTC", at("2026-01-01"), 40)
DAY = timedelta(days=1)
NOW = at("2026-02-10T01:00")


def view(name: str, *windows: str) -> ViewCase:
    """A count, a sum and a last value over the same windows."""
    return ViewCase(
        name, ("user",), "@daily", "UTC", "2026-01-01",
        (
            Aggregate("n", "count", None, windows),
            Aggregate("i", "sum", column("i", NUMBER), windows, where=CONDITIONS[1]),
            Aggregate("s", "last", column("s"), windows),
        ),
    )  # fmt: skip


def events_of(r: random.Random, days: Sequence[int], count: int = 12) -> list[Event]:
    """Events in the hours of some days counted from the start, the first instant and the last one among them."""
    times = [GRID.start + day * DAY + timedelta(hours=r.randrange(24), seconds=r.randrange(3600)) for day in days]
    times += [GRID.start + days[0] * DAY, GRID.start + (days[-1] + 1) * DAY - timedelta(microseconds=1)]
    made = [event(r.randrange(10**9), times) for _ in range(count)]
    return [{**row, "at": row["at"] or times[0]} for row in made]


class Source:
    """The files of a view's source: what is in each, and when each was."""

    def __init__(self, project: OracleProject, case: ViewCase) -> None:
        self.project, self.case = project, case
        self.files: dict[str, list[Event]] = {}

    def write(self, name: str, events: list[Event]) -> list[tuple[datetime, datetime]]:
        """Write a file, and return the spans of its events before and now."""
        spans = self.span(name)
        self.files[name] = events
        self.project.write(self.case, events, name)
        return [*spans, *self.span(name)]

    def remove(self, name: str) -> list[tuple[datetime, datetime]]:
        spans = self.span(name)
        del self.files[name]
        (self.project.small.root / "data" / self.case.name / f"{name}.parquet").unlink()
        return spans

    def span(self, name: str) -> list[tuple[datetime, datetime]]:
        times = [row["at"] for row in self.files.get(name, ())]
        return [(min(times), max(times))] if times else []

    @property
    def events(self) -> list[Event]:
        return [row for rows in self.files.values() for row in rows]


def touched(
    intervals: Sequence[Interval], spans: Sequence[tuple[datetime, datetime]], reach: timedelta | None
) -> list[Interval]:
    """The intervals that see an instant of the spans."""
    return [
        interval
        for interval in intervals
        if any(first < interval.end and (reach is None or last >= interval.end - reach) for first, last in spans)
    ]


def due(project: OracleProject, step: Step) -> list[Interval]:
    observe_step(project.small.backends, step)
    return list(due_intervals(project.small.backends.registry, step, now=NOW, limit=1000).intervals)


def scheduled(project: OracleProject, name: str, run_id: str) -> list[Interval]:
    """Do what a scheduled run does: prepare, look at the sources, see what is due, and run it. Returns what was due."""
    step = project.small.step(name)
    intervals = due(project, step)
    if intervals:
        project.run(step, intervals, run_id)
    return intervals


@pytest.mark.parametrize("windows", [("1d", "7d", "30d"), ("90m", "lifetime")])
@pytest.mark.parametrize("seed", seeds(1))
def test_a_changed_file_makes_due_what_overlaps_it(tmp_path: Path, seed: int, windows: tuple[str, ...]) -> None:
    r = random.Random(seed)
    project = OracleProject(tmp_path / "small")
    case = view("late", *windows)
    step = project.declare(case, events_of(r, [0, 39]))
    source = Source(project, case)
    (project.small.root / "data" / "late" / "events.parquet").unlink()
    for day in range(0, 40, 4):
        source.write(f"file{day:02}", events_of(r, range(day, day + 4)))
    every = project.small.intervals("late", "2026-01-01", "2026-02-10")
    reach = max((item.reach() for item in case.aggregates), key=lambda reach: (reach is None, reach))
    reach = None if any(item.reach() is None for item in case.aggregates) else reach
    assert scheduled(project, "late", "history") == every
    changes = [
        lambda: source.write("file12", events_of(r, [13])),
        lambda: source.write("late", events_of(r, [20], 3)),
        lambda: source.write("file04", events_of(r, [30, 31])),
        lambda: source.remove("file16"),
        lambda: source.write("late", events_of(r, [2], 2)),
        lambda: [*source.remove("late"), *source.write("file36", events_of(r, [39], 2))],
        list,
    ]  # fmt: skip
    for number, change in enumerate(changes):
        wanted = touched(every, change(), reach)
        assert scheduled(project, "late", f"after-{number}") == wanted, number
        check(step, project.rows(step), Case(case, GRID, tuple(every), ()), source.events)
        assert due(project, project.small.step("late")) == []
    project.small.close()


KINDS = """
    from fstore import Entity, FeatureView, ParquetSource, feature

    thing = Entity("thing", join_keys={"user": "string"})
    events = ParquetSource("events", path="data/late/", event_time="at")
    versions = ParquetSource("versions", path="data/versions/", keys=["user"], updated_at="at")


    class Recent(FeatureView):
        entity, schedule, start = thing, "@daily", "2026-01-01"
        inputs = {"e": events.window("3d")}
        sql = "SELECT user, count(*) AS n FROM e WHERE user IS NOT NULL GROUP BY user"
        n = feature("int64")


    class Known(FeatureView):
        entity, schedule, start = thing, "@daily", "2026-01-01"
        inputs = {"v": versions}
        sql = "SELECT user, c FROM v WHERE user IS NOT NULL"
        c = feature("string")


    class Both(FeatureView):
        entity, schedule, start = thing, "@daily", "2026-01-01"
        inputs = {"r": Recent, "k": Known}
        sql = "SELECT user, r.n, k.c FROM r FULL JOIN k USING (user)"
        n, c = feature("int64"), feature("string")
"""


def test_sql_views_dimensions_and_what_reads_them(tmp_path: Path) -> None:
    r = random.Random(5)
    project = OracleProject(tmp_path / "small")
    project.small.define("cases", KINDS)
    source, versions = Source(project, view("late", "1d")), Source(project, view("versions", "1d"))
    for day in range(0, 40, 4):
        source.write(f"file{day:02}", events_of(r, range(day, day + 4)))
        versions.write(f"file{day:02}", one_at_a_time(events_of(r, range(day, day + 4))))
    every = project.small.intervals("recent", "2026-01-01", "2026-02-10")
    for name in ("recent", "known", "both"):
        assert scheduled(project, name, "history") == every
    assert [scheduled(project, name, "nothing") for name in ("recent", "known", "both")] == [[], [], []]
    events_changed = touched(every, source.write("file12", events_of(r, [13])), timedelta(days=3))
    assert scheduled(project, "recent", "events") == events_changed
    assert scheduled(project, "known", "events") == []
    assert scheduled(project, "both", "events") == events_changed
    versions_changed = touched(every, versions.write("file20", one_at_a_time(events_of(r, [22]))), None)
    assert scheduled(project, "recent", "versions") == []
    assert scheduled(project, "known", "versions") == versions_changed
    assert scheduled(project, "both", "versions") == versions_changed
    for interval in every:
        mine = {row["user"]: row["n"] for row in project.small.published("recent") if row["event_timestamp"] == interval.end}
        seen = [
            row["user"]
            for row in source.events
            if interval.end - 3 * DAY <= row["at"] < interval.end and row["user"] is not None
        ]
        assert mine == {user: seen.count(user) for user in seen}
        newest = sorted((row for row in versions.events if row["at"] < interval.end), key=lambda row: row["at"])
        wanted = {row["user"]: row["c"] for row in newest if row["user"] is not None}
        found = {row["user"]: row["c"] for row in project.small.published("known") if row["event_timestamp"] == interval.end}
        assert found == wanted
    project.small.close()


def one_at_a_time(events: list[Event]) -> list[Event]:
    return list({(row["user"], row["at"]): row for row in events}.values())
