"""Repairing: what is stale, missing in between or damaged is computed again, upstream first, until nothing is left."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

import pytest

from fstore import Client
from fstore.failpoints import arm, at_hit, disarm, fail
from fstore.interval import Interval
from fstore.plan.selection import select_steps
from fstore.runtime.due import due_intervals
from fstore.runtime.flipping import in_order
from fstore.runtime.plan_cache import load_plan
from fstore.runtime.recomputation import RecomputedView, find_needs, plan_recomputation, recompute
from fstore.runtime.runner import run_settled
from tests.projects import SmallProject, utc
from tests.runtime.conftest import ORDERS, write_orders

LATE: dict[str, object] = {"user_id": "b", "ordered_at": "2026-01-02T13:00", "amount": 30.0, "item": "map"}
VIEWS = ["user_orders", "user_profile", "user_risk", "order_events"]


def run_all(project: SmallProject, start: str = "2026-01-01", end: str = "2026-01-05") -> None:
    for view in VIEWS:
        project.run(view, start, end)


def repair(project: SmallProject, selectors: Sequence[str] = (), run_id: str = "repair") -> list[RecomputedView]:
    backends = project.backends
    steps = in_order(select_steps([view.step for view in backends.registry.views()], selectors))
    return recompute(backends, load_plan(project.settings).project, steps, run_id)


def plan(project: SmallProject) -> list[RecomputedView]:
    return plan_recomputation(project.backends, in_order([view.step for view in project.backends.registry.views()]))


def days(intervals: Sequence[Interval]) -> list[int]:
    return [interval.start.day for interval in intervals]


def fresh(project: SmallProject, tmp_name: str) -> dict[str, list[dict[str, object]]]:
    """Return what an undisturbed project with the same data publishes."""
    other = SmallProject(project.root.parent / tmp_name)
    for folder in ("feature_defs", "data"):
        shutil.rmtree(other.root / folder)
        shutil.copytree(project.root / folder, other.root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    run_all(other)
    rows = {view: other.published(view) for view in VIEWS}
    other.close()
    return rows


def test_late_data_is_repaired_all_the_way_down_and_equals_a_fresh_run(project: SmallProject) -> None:
    run_all(project)
    assert repair(project) == []
    write_orders(project, [*ORDERS, LATE])
    foreseen = plan(project)
    assert {view.view: days(view.needs.stale) for view in foreseen} == {
        "user_orders": [1, 2, 3, 4], "user_profile": [1, 2, 3, 4], "user_risk": [1, 2, 3, 4], "order_events": [1, 2, 3, 4],
    }, "what is known of a file is the span of its times"  # fmt: skip
    done = repair(project)
    assert [(view.view, view.needs) for view in done] == [(view.view, view.needs) for view in foreseen]
    assert not any(view.failed for view in done)
    assert [view.published for view in done] == [4] * 4
    assert repair(project, run_id="again") == plan(project) == []
    assert {view: project.published(view) for view in VIEWS} == fresh(project, "fresh")


def test_holes_are_filled_and_what_comes_after_the_newest_is_left_to_scheduled_runs(project: SmallProject) -> None:
    for start, end in (("2026-01-01", "2026-01-02"), ("2026-01-03", "2026-01-04")):
        project.run("user_orders", start, end)
    (view,) = repair(project)
    assert (view.view, days(view.needs.missing), view.published) == ("user_orders", [2], 1)
    assert repair(project, run_id="again") == []
    due = due_intervals(project.backends.registry, project.step("user_orders"), now=utc("2026-01-05T02:00"), limit=10)
    assert days(due.intervals) == [4]


def test_damaged_intervals_are_computed_again(project: SmallProject, monkeypatch: pytest.MonkeyPatch) -> None:
    run_all(project)
    ledger = project.backends.registry.ledger
    before = {view: project.published(view) for view in VIEWS}
    bad = project.intervals("user_profile", "2026-01-02", "2026-01-03")
    attempt = ledger.heads("user_profile")[0].attempt

    def damaged(view: str) -> list[Interval]:
        heads = ledger.heads("user_profile", start=bad[0].start, end=bad[0].end)
        return bad if view == "user_profile" and heads[0].attempt == attempt else []

    monkeypatch.setattr(ledger, "damaged", damaged)
    now = utc("2026-01-05T02:00")
    assert list(due_intervals(project.backends.registry, project.step("user_profile"), now=now, limit=9).intervals) == bad
    assert {view.view: (days(view.needs.damaged), days(view.needs.stale)) for view in plan(project)} == {
        "user_profile": ([2], []), "user_risk": ([], [2]),
    }  # fmt: skip
    done = repair(project)
    assert [(view.view, view.published) for view in done] == [("user_profile", 1), ("user_risk", 1)]
    assert {view: project.published(view) for view in VIEWS} == before


def test_only_what_is_selected_is_repaired(project: SmallProject) -> None:
    run_all(project)
    write_orders(project, [*ORDERS, LATE])
    assert [view.view for view in repair(project, ["order_events"])] == ["order_events"]
    assert [view.view for view in repair(project, ["user_orders"], "second")] == ["user_orders"]
    assert days(find_needs(project.backends.registry, project.step("user_profile")).stale) == [1, 2, 3, 4]
    assert [view.view for view in repair(project, ["user_orders+"], "third")] == ["user_profile", "user_risk"]


def test_an_error_of_one_view_is_told_and_the_others_are_repaired(project: SmallProject) -> None:
    run_all(project)
    write_orders(project, [*ORDERS, LATE])
    arm("attempt.begun", at_hit(2, fail))
    done = {view.view: view for view in repair(project)}
    disarm()
    assert (done["user_orders"].code, done["user_orders"].failed) == ("injected_fault", True)
    assert {view: found.published for view, found in done.items()} == {
        "order_events": 4, "user_orders": 0,
    }, "nothing else is stale as long as orders are not republished"  # fmt: skip
    assert [view.view for view in repair(project, run_id="again")] == ["user_orders", "user_profile", "user_risk"]
    assert plan(project) == []


def test_late_data_during_a_run_is_repaired_by_the_next_look(project: SmallProject) -> None:
    """The run has listed its source, and rows arrive before it reads: whichever it saw, the next look knows."""
    run_all(project, "2026-01-01", "2026-01-04")
    arm("attempt.begun", lambda _: (disarm(), write_orders(project, [*ORDERS, LATE])))
    run_all(project, "2026-01-04", "2026-01-05")
    disarm()
    repair(project)
    assert {view: project.published(view) for view in VIEWS} == fresh(project, "fresh")


def test_an_upstream_republished_while_its_dependent_computes_is_read_again(project: SmallProject) -> None:
    project.run("user_orders", "2026-01-01", "2026-01-05")
    step, wanted = project.step("user_profile"), project.intervals("user_profile", "2026-01-01", "2026-01-05")

    def meanwhile(_: str) -> None:
        disarm()
        write_orders(project, [*ORDERS, LATE])
        project.run("user_orders", "2026-01-02", "2026-01-05", "meanwhile")

    arm("compute.written", meanwhile)
    result = run_settled(project.backends, step, wanted, "run")
    ledger = project.backends.registry.ledger
    assert result.materialized.intervals == tuple(wanted)
    assert ledger.stale("user_profile") == []
    states = [(attempt.state, attempt.run_id) for attempt in ledger.history("user_profile")]
    assert states == [("published", "run"), ("validated", "run")], "the first try published nothing"
    assert project.published("user_profile")[-1]["regular"] is True


def test_a_republish_of_an_old_interval_does_no_online_work(project: SmallProject) -> None:
    project.run("user_orders", "2026-01-01", "2026-01-05")
    (newest,) = project.backends.registry.ledger.heads("user_orders", start=utc("2026-01-04"))
    write_orders(project, [{**ORDERS[0], "amount": 11.0}, *ORDERS[1:]])
    result = project.run("user_orders", "2026-01-01", "2026-01-02", "old")
    assert (result.materialized.online_rows, len(result.materialized.intervals)) == (0, 1)
    assert project.backends.registry.outbox.depth().pending == 0
    assert newest == project.backends.registry.ledger.heads("user_orders", start=utc("2026-01-04"))[0]


def read_both(project: SmallProject, feature: str, at: str) -> tuple[list[object], list[object]]:
    """Return a feature of users a and b, read online and offline at the same instant."""
    name = feature.partition(":")[2]
    with Client(project.settings, clock=lambda: utc(at)) as client:
        online = client.get_online_features([feature], {"user_id": ["a", "b"]}).to_dict()[name]
        spine = {"user_id": ["a", "b"], "event_timestamp": [utc(at)] * 2}
        import pyarrow as pa

        table = pa.table(spine, schema=pa.schema([("user_id", pa.string()), ("event_timestamp", pa.timestamp("us", "UTC"))]))
        offline = client.get_historical_features(table, features=[feature], missing="allow").to_arrow()[name].to_pylist()
    return online, offline


def test_a_key_that_vanishes_from_a_republished_snapshot_is_gone_offline_and_online(project: SmallProject) -> None:
    run_all(project)
    at = "2026-01-05T01:30"
    assert read_both(project, "user_orders:orders_3d", at) == ([1, 2], [1, 2])
    assert read_both(project, "order_events:doubled", at) == ([40.0, 12.0], [40.0, 12.0])
    write_orders(project, [row for row in ORDERS if row["user_id"] != "b"])
    repair(project)
    assert read_both(project, "user_orders:orders_3d", at) == ([1, 0], [1, 0])
    assert read_both(project, "order_events:doubled", at) == ([40.0, None], [40.0, None])
