"""Pauses, outages and trouble on a simulated clock: the real timetable and the real operators, and in the end no hole.

Two pipelines of one project run day by day as Airflow would run them, on files that land day by day. For ten days nothing
runs, while data goes on landing, also for days that are long published. Then runs happen again, with a small ``max_catch_up``.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import msgspec
import pytest
from airflow.sdk.exceptions import TaskDeferred
from airflow.timetables.base import TimeRestriction
from pendulum import instance

from fstore.airflow import operators
from fstore.airflow import timetable as timetable_module
from fstore.airflow.assets import view_asset
from fstore.airflow.maintenance import MaintenanceOperator
from fstore.airflow.operators import ComputeOperator, MaterializeOperator, ValidateOperator, WaitForInputsOperator
from fstore.airflow.timetable import FeatureTimetable
from fstore.errors import InjectedFault
from fstore.failpoints import arm, at_hit, disarm, fail
from fstore.runtime.due import due_intervals
from fstore.runtime.standing import project_status
from tests.projects import SmallProject, utc
from tests.runtime.daily_orders import HEAD, events_of, view, write_day

SUMMARY = """
    from fstore import FeatureView, feature

    from .shop import Orders, user


    class Summary(FeatureView):
        '''Reads another pipeline.'''

        entity, schedule, start = user, "@daily", "2026-01-01"
        inputs = {"o": Orders}
        sql = "SELECT user_id, o.orders_3d * 10 AS tens FROM o"
        tens = feature("int64")
"""
FRAGILE = """
    from fstore import FeatureView, feature

    from .shop import Orders, user


    class Summary(FeatureView):
        '''Cannot be computed where somebody ordered poison.'''

        entity, schedule, start = user, "@daily", "2026-01-01"
        inputs = {"o": Orders}
        sql = "SELECT user_id, CASE WHEN o.last_item_3d = 'late' THEN error('poison') ELSE 10 * o.orders_3d END AS tens FROM o"
        tens = feature("int64")
"""
START, OUTAGE, BACK = utc("2026-01-01"), utc("2026-01-06"), utc("2026-01-16")
CATCH_UP = 4
FAILPOINTS = ("attempt.begun", "tiles.written", "compute.recorded", "validate.recorded", "publish.enqueued", "publish.committed",
              "online.applied", "outbox.applied")  # fmt: skip


class Event:
    """What a task tells Airflow about its asset."""

    def __init__(self) -> None:
        self.extra: dict[str, object] = {}

    def add_partitions(self, keys: list[str]) -> None:
        """Take the partitions."""


class Pipeline:
    """A DAG of one view, and Airflow's scheduler for it: the next run is planned when one is made."""

    def __init__(self, world: World, view: str, *, waits: bool, end: datetime | None = None) -> None:
        self.world, self.view, self.waits = world, view, waits
        self.timetable = FeatureTimetable("0 0 * * *", "UTC", timedelta(0), START, end)
        self.restriction = TimeRestriction(earliest=instance(START), latest=None, catchup=False)
        self.planned = self._plan(None)
        self.made = 0

    def _plan(self, last):
        return self.timetable.next_dagrun_info(last_automated_data_interval=last, restriction=self.restriction)

    def due_runs(self):
        """Yield the runs that the scheduler makes now."""
        while self.planned and self.planned.run_after <= self.world.clock:
            yield self.planned
            self.made += 1
            self.planned = self._plan(self.planned.data_interval)

    def run(self, info, retries: int = 1) -> None:
        """Run the tasks of a DAG run, each tried again once; a run that fails or waits leaves the rest to later ones."""
        pushed: dict[str, object] = {}
        settings, step = self.world.settings, self.world.project.step(self.view)
        asset = view_asset("small", self.view)
        tasks = [
            *([WaitForInputsOperator(task_id="wait", step=step, settings=settings)] if self.waits else []),
            ComputeOperator(task_id="compute", step=step, settings=settings),
            ValidateOperator(task_id="validate", compute_task_id="compute", step=step, settings=settings),
            MaterializeOperator(task_id="materialize", compute_task_id="compute", step=step, settings=settings, asset=asset),
        ]
        run = SimpleNamespace(
            dag_id=f"small.{self.view}.daily", run_id=f"scheduled__{info.run_after}", run_type="scheduled",
            run_after=info.run_after, data_interval_start=info.data_interval.start,
            data_interval_end=info.data_interval.end, partition_key=None,
        )  # fmt: skip
        ti = SimpleNamespace(xcom_pull=lambda task_ids: pushed.get(task_ids))  # noqa: PLW0108  (called by keyword)
        context = {"dag_run": run, "params": {}, "ti": ti, "outlet_events": {asset: Event()}}
        for task in tasks:
            for left in reversed(range(retries + 1)):
                try:
                    pushed[task.task_id] = task.execute(context)
                    break
                except TaskDeferred:
                    return
                except InjectedFault:
                    if not left:
                        return


class World:
    """A project whose data lands day by day, and a clock."""

    def __init__(self, root, monkeypatch, catch_up: int = CATCH_UP) -> None:
        self.clock = START
        self.project = SmallProject(root)
        self.project.define("shop", HEAD + view("Orders", "3d"))
        self.project.define("summary", SUMMARY)
        self.rows: dict[datetime, list[dict[str, object]]] = {}
        self.settings = msgspec.structs.replace(self.project.settings, max_catch_up=catch_up)
        world = self

        class Clock(datetime):
            @classmethod
            def now(cls, tz=None):
                return world.clock

        monkeypatch.setattr(operators, "datetime", Clock)
        monkeypatch.setattr(operators, "parent_run", lambda _: None)
        monkeypatch.setattr(timetable_module, "_now", lambda: self.clock)

    def land(self, day: datetime, rows: list[dict[str, object]]) -> None:
        """Write a day's file, anew if it is there."""
        self.rows[day] = [*self.rows.get(day, []), *rows]
        write_day(self.project, day, self.rows[day])

    def pass_day(self, pipelines, *, runs: bool = True) -> None:
        """Let a day's data land and its night come, and make the runs that are due then."""
        self.land(self.clock, events_of(self.clock))
        self.clock += timedelta(days=1)
        for pipeline in pipelines if runs else ():
            for info in pipeline.due_runs():
                pipeline.run(info)

    def assert_whole(self, name: str, until: datetime) -> None:
        """Nothing is missing, stale or waiting, and the rows are those of a project that was never disturbed."""
        MaintenanceOperator(task_id="maintain", settings=self.settings).execute({})
        registry = self.project.backends.registry
        for each in ("orders", "summary"):
            due = due_intervals(registry, self.project.step(each), now=self.clock, limit=100)
            assert due.intervals == (), f"seed or case {name}: {each} lacks {due.intervals}"
            (head, *others) = registry.ledger.heads(each)
            ends = [head.end, *(other.end for other in others)]
            starts = [head.start, *(other.start for other in others)]
            assert (starts, ends[-1]) == ([START, *ends[:-1]], until)
            assert registry.ledger.stale(each) == []
        status = project_status(self.project.backends, [], self.clock)
        assert [(v.missing, v.stale, v.blocked, v.online) for v in status.views] == [(0, 0, 0, "current")] * 2
        assert status.outbox_pending == 0
        calm = SmallProject(self.project.root.parent / f"calm-{name}")
        calm.define("shop", HEAD + view("Orders", "3d"))
        calm.define("summary", SUMMARY)
        for day, rows in self.rows.items():
            write_day(calm, day, rows)
        for each in ("orders", "summary"):
            calm.run(each, f"{START:%Y-%m-%d}", f"{until:%Y-%m-%d}")
            assert self.project.published(each) == calm.published(each)
        calm.close()


@pytest.fixture
def world(tmp_path, monkeypatch):
    made = World(tmp_path / "small", monkeypatch)
    yield made
    disarm()
    made.project.close()


def late(world: World, day: datetime) -> None:
    world.land(day, [{"user_id": "u9", "ordered_at": day + timedelta(hours=23), "amount": 5, "item": "late"}])


def test_ten_days_without_runs_end_without_a_hole(world, capsys):
    pipelines = [Pipeline(world, "orders", waits=False), Pipeline(world, "summary", waits=True)]
    while world.clock < OUTAGE:
        world.pass_day(pipelines)
    made = [pipeline.made for pipeline in pipelines]
    while world.clock < BACK:
        world.pass_day(pipelines, runs=False)
        if world.clock == utc("2026-01-10"):
            late(world, utc("2026-01-03"))
    world.pass_day(pipelines)
    assert [p.made - before for p, before in zip(pipelines, made, strict=True)] == [2, 2], "the planned run, and the newest"
    registry = world.project.backends.registry
    lacking = due_intervals(registry, world.project.step("orders"), now=world.clock, limit=100).intervals
    done = {i.start.day for head in registry.ledger.heads("orders") for i in world.project.step("orders").schedule.intervals(
        head.start, head.end)} - {i.start.day for i in lacking}  # fmt: skip
    assert done == {*range(1, 11), 16}, "two runs: the oldest four, stale ones among them, and the newest"
    assert f"more interval(s) are due beyond max_catch_up = {CATCH_UP}" in capsys.readouterr().out
    for _ in range(3):
        world.pass_day(pipelines)
    world.assert_whole("after", world.clock)


def test_an_outage_over_the_end_of_a_pipeline_leaves_no_hole(tmp_path, monkeypatch):
    world = World(tmp_path / "small", monkeypatch, catch_up=50)
    end = utc("2026-01-12")
    for module, text in (("shop", HEAD + view("Orders", "3d")), ("summary", SUMMARY)):
        world.project.define(module, text.replace('"2026-01-01"', '"2026-01-01"\n        end = "2026-01-12"'))
    pipelines = [Pipeline(world, "orders", waits=False, end=end), Pipeline(world, "summary", waits=True, end=end)]
    while world.clock < OUTAGE:
        world.pass_day(pipelines)
    while world.clock < BACK:
        world.pass_day(pipelines, runs=False)
    world.pass_day(pipelines)
    assert [pipeline.planned for pipeline in pipelines] == [None, None]
    world.assert_whole("ended", end)
    world.project.close()


def test_late_intervals_that_cannot_be_computed_do_not_hold_up_new_ones(world, capsys):
    world.project.define("summary", FRAGILE)
    pipelines = [Pipeline(world, "orders", waits=False), Pipeline(world, "summary", waits=True)]
    while world.clock < OUTAGE:
        world.pass_day(pipelines)
    before = world.rows[utc("2026-01-01")]
    late(world, utc("2026-01-01"))
    for _ in range(2):
        world.pass_day(pipelines)
    assert "Late intervals cannot be computed, so only the run's own are: compute_error: " in capsys.readouterr().out
    ledger = world.project.backends.registry.ledger
    assert ledger.heads("summary")[-1].end == world.clock
    assert [interval.start.day for interval in ledger.stale("summary")] == [1, 2, 3]
    world.rows[utc("2026-01-01")] = []
    world.land(utc("2026-01-01"), before)
    for _ in range(2):
        world.pass_day(pipelines)
    world.project.define("summary", FRAGILE)
    assert ledger.stale("summary") == []


@pytest.mark.parametrize("seed", range(2))
def test_random_outages_failing_tasks_and_late_data_end_without_a_hole(world, seed):
    random_ = random.Random(seed)
    pipelines = [Pipeline(world, "orders", waits=False), Pipeline(world, "summary", waits=True)]
    while world.clock < utc("2026-01-09"):
        if random_.random() < 0.5:
            arm(random_.choice(FAILPOINTS), at_hit(random_.randint(1, 3), fail))
        if random_.random() < 0.3 and world.rows:
            late(world, random_.choice(sorted(world.rows)))
        world.pass_day(pipelines, runs=random_.random() < 0.6)
    disarm()
    for _ in range(4):
        world.pass_day(pipelines)
    world.assert_whole(str(seed), world.clock)


def test_the_clock_of_the_tests_is_the_one_that_the_operators_see(world):
    assert operators.datetime.now(UTC) == START
