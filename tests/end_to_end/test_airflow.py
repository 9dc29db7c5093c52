"""Pipelines in a real Airflow, through its REST API: what a user does in the UI."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from fstore.airflow.rest import AirflowError
from fstore.backends import open_backends
from fstore.engines.engine import Query
from fstore.errors import UnknownFeature
from fstore.interval import Interval, merge_intervals

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(420)]

PURCHASES, ACTIVITY, HOURLY, STRICT, GIFTS = (
    "shop.purchases.daily", "shop.activity.daily", "shop.activity.hourly", "shop.strict.daily", "shop.gifts.daily",
)  # fmt: skip


def at(*parts):
    return datetime(*parts, tzinfo=UTC)


def published(shop, view):
    with open_backends(shop.settings) as backends:
        try:
            heads = backends.registry.ledger.heads(view)
        except UnknownFeature:  # no task has registered it yet
            return []
    return merge_intervals(Interval(head.start, head.end) for head in heads)


def newest_sequence(shop, view):
    with open_backends(shop.settings) as backends:
        return max(head.sequence for head in backends.registry.ledger.heads(view))


def wait_for_state(client, dag_id, run_id, task_id, states, *, timeout=60):
    deadline = time.monotonic() + timeout
    while (task := client.task_instances(dag_id, run_id)[task_id]).state not in states:
        assert time.monotonic() < deadline, f"{task_id} is {task.state}, not one of {states}"
        time.sleep(0.3)
    return task


def backfill(client, dag_id, first, last, **options):
    return client.wait_backfill(client.backfill(dag_id, first, last, **options), timeout=150)


def succeed(client, dag_id, *run_ids, timeout=120):
    """Wait for runs to succeed; show the logs of failed tasks where one does not."""
    for run_id in run_ids:
        if client.wait_run(dag_id, run_id, timeout=timeout).state != "success":
            tasks = client.task_instances(dag_id, run_id).values()
            logs = [client.log(dag_id, run_id, task.task_id, task.try_number) for task in tasks if task.state == "failed"]
            pytest.fail(f"{dag_id} {run_id}: {[(task.task_id, task.state) for task in tasks]}\n" + "\n".join(logs)[-5000:])


def test_dags_appear_unpaused_with_their_schedule(shop):
    dags = {dag.dag_id: dag for dag in shop.admin.dags()}
    assert not any(dags[name].is_paused for name in (PURCHASES, ACTIVITY, HOURLY, STRICT, "shop.maintenance"))
    assert dags[PURCHASES].timetable_summary == "0 0 * * *"
    assert dags[PURCHASES].description == "Feature views user_purchases, big_spenders"
    assert dags[PURCHASES].next_dagrun_logical_date is None  # closed: after the end nothing is due


def test_a_broken_module_is_an_import_error_with_its_line_and_leaves_the_others_alone(shop):
    errors = shop.admin.import_errors()
    assert [error.filename for error in errors] == ["feature_problems.py"]
    assert "feature_defs/broken.py:13" in errors[0].stack_trace
    assert "'@dayly'" in errors[0].stack_trace
    assert not any(dag.has_import_errors for dag in shop.admin.dags())


def test_backfill_dry_run_lists_the_intervals_of_the_schedule(shop):
    planned = shop.admin.backfill_dry_run(PURCHASES, at(2025, 12, 20), at(2026, 1, 5))
    assert [run.logical_date for run in planned] == [at(2026, 1, day) for day in range(1, 6)]
    hours = shop.admin.backfill_dry_run(HOURLY, at(2026, 1, 1), at(2026, 1, 1, 23))
    assert len(hours) == 24


def test_the_backfill_button_publishes_every_interval_once(shop):
    runs = backfill(shop.admin, PURCHASES, at(2026, 1, 1), at(2026, 1, 4))
    assert [run.logical_date for run in runs] == [at(2026, 1, day) for day in range(1, 5)]
    succeed(shop.admin, PURCHASES, *[run.dag_run_id for run in runs])
    assert published(shop, "user_purchases") == [Interval(at(2026, 1, 1), at(2026, 1, 5))]
    assert published(shop, "big_spenders") == [Interval(at(2026, 1, 3), at(2026, 1, 5))]
    first = shop.admin.task_instances(PURCHASES, runs[0].dag_run_id)
    assert {task: first[f"big_spenders.{task}"].state for task in ("compute", "validate", "materialize")} == {
        "compute": "skipped", "validate": "skipped", "materialize": "skipped",
    }  # fmt: skip
    with open_backends(shop.settings) as backends:  # a backfilled run computes its own interval and no other
        history = [head.attempt for head in backends.registry.ledger.heads("user_purchases")]
        attempts = [backends.registry.ledger.attempt(number) for number in history]
        assert all(len(attempt.intervals) == 1 for attempt in attempts)


def test_another_teams_dag_runs_once_per_published_day(shop):
    deadline = time.monotonic() + 60
    while len(keys := {run.partition_key for run in shop.admin.runs("consumer")}) < 4:
        assert time.monotonic() < deadline, keys
        time.sleep(0.5)
    assert {"2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04"} <= keys


def test_a_view_waits_for_another_pipeline_deferred_and_goes_on_when_it_is_published(shop):
    run_id = shop.admin.trigger(ACTIVITY, {"start": "2026-01-08", "end": "2026-01-10"})
    wait_for_state(shop.admin, ACTIVITY, run_id, "user_profile.wait_for_inputs", ("deferred",))
    assert published(shop, "user_profile") == []
    upstream = shop.admin.trigger(PURCHASES, {"start": "2026-01-05", "end": "2026-01-12"})
    succeed(shop.admin, PURCHASES, upstream, timeout=120)
    succeed(shop.admin, ACTIVITY, run_id, timeout=60)
    assert published(shop, "user_profile") == [Interval(at(2026, 1, 8), at(2026, 1, 11))]


def test_a_range_run_computes_many_intervals_in_one_attempt(shop):
    run_id = shop.admin.trigger(PURCHASES, {"start": "2026-01-13", "end": "2026-01-31"})
    succeed(shop.admin, PURCHASES, run_id, timeout=120)
    with open_backends(shop.settings) as backends:
        (head,) = backends.registry.ledger.heads("user_purchases", start=at(2026, 1, 13), end=at(2026, 2, 1))
        assert (head.start, head.end) == (at(2026, 1, 13), at(2026, 2, 1))
        assert len(backends.registry.ledger.attempt(head.attempt).intervals) == 19
    assert published(shop, "big_spenders")[-1].end == at(2026, 2, 1)


def test_short_intervals_take_times(shop):
    run_id = shop.admin.trigger(HOURLY, {"start": "2026-01-01T05:00:00Z", "end": "2026-01-01T07:00:00Z"})
    succeed(shop.admin, HOURLY, run_id, timeout=120)
    assert published(shop, "user_activity") == [Interval(at(2026, 1, 1, 5), at(2026, 1, 1, 8))]
    with pytest.raises(AirflowError, match="is not a 'date-time'"):
        shop.admin.trigger(HOURLY, {"start": "soon"})


def test_a_backfill_that_carries_a_range_fails_at_once(shop):
    runs = backfill(shop.admin, HOURLY, at(2026, 1, 2), at(2026, 1, 2), conf={"start": "2026-01-01T00:00:00Z"})
    assert [run.state for run in runs] == ["failed"]
    task = shop.admin.task_instances(HOURLY, runs[0].dag_run_id)["user_activity.compute"]
    assert (task.state, task.try_number) == ("failed", 1)
    log = shop.admin.log(HOURLY, runs[0].dag_run_id, "user_activity.compute")
    assert "is a backfill run and has its own interval, so it cannot carry the params" in log


def test_a_blocked_validation_fails_without_retry_and_publishes_nothing(shop):
    run_id = shop.admin.trigger(STRICT, {"start": "2026-01-01", "end": "2026-01-02"})
    assert shop.admin.wait_run(STRICT, run_id, timeout=120).state == "failed"
    tasks = shop.admin.task_instances(STRICT, run_id)
    assert (tasks["strict_purchases.validate"].state, tasks["strict_purchases.validate"].try_number) == ("failed", 1)
    assert tasks["strict_purchases.materialize"].state == "upstream_failed"
    assert "validation_failed" in shop.admin.log(STRICT, run_id, "strict_purchases.validate")
    assert published(shop, "strict_purchases") == []


def test_clearing_materialize_applies_a_published_attempt_again(shop):
    run_id = shop.admin.trigger(PURCHASES, {"start": "2026-01-01", "end": "2026-01-01"})
    succeed(shop.admin, PURCHASES, run_id, timeout=120)
    before = newest_sequence(shop, "user_purchases")
    shop.admin.clear(PURCHASES, run_id, ["user_purchases.materialize"])
    wait_for_state(shop.admin, PURCHASES, run_id, "user_purchases.materialize", ("queued", "running", "scheduled", None))
    succeed(shop.admin, PURCHASES, run_id, timeout=60)
    assert shop.admin.task_instances(PURCHASES, run_id)["user_purchases.materialize"].try_number == 2
    assert newest_sequence(shop, "user_purchases") == before


def test_an_unreachable_store_is_retried_until_it_is_back(shop):
    """In the second project, whose stores are Airflow connections: tasks and the triggerer look them up."""
    if shop.redis is None:
        pytest.skip("no Redis is installed")
    upstream, reader = "outlet.purchases.daily", "outlet.activity.daily"
    shop.admin.wait_for_dags([upstream, reader])
    range_ = {"start": "2026-01-31", "end": "2026-01-31"}
    reading = shop.admin.trigger(reader, range_)
    wait_for_state(shop.admin, reader, reading, "user_profile.wait_for_inputs", ("deferred",))
    shop.redis.freeze()
    try:
        run_id = shop.admin.trigger(upstream, range_)
        task_id = "user_purchases.materialize"
        task = wait_for_state(shop.admin, upstream, run_id, task_id, ("up_for_retry", "failed", "success"))
        assert task.state == "up_for_retry"
        assert "store_unavailable" not in (log := shop.admin.log(upstream, run_id, task_id))  # not failed for good
        assert "StoreUnavailable" in log
    finally:
        shop.redis.thaw()
    succeed(shop.admin, upstream, run_id)
    succeed(shop.admin, reader, reading)
    assert shop.admin.task_instances(upstream, run_id)[task_id].try_number >= 2


def test_airflows_own_lineage_events_and_ours_name_the_same_parents(shop):
    with open_backends(shop.settings) as backends:
        log = backends.registry.lineage
        airflow_events = log.events(job_name=f"{PURCHASES}.user_purchases.materialize")
        ours = [
            json.loads(event.payload) for event in log.events(job_name="user_purchases") if event.event_type == "COMPLETE"
        ]
    runs = {event.run_id for event in airflow_events}
    parents = {event["run"]["facets"]["parent"]["run"]["runId"] for event in ours}
    assert parents & runs
    roots = {event["run"]["facets"]["parent"]["root"]["job"]["name"] for event in ours}
    assert roots == {PURCHASES}


def test_the_maintenance_dag_runs(shop):
    run_id = shop.admin.trigger("shop.maintenance")
    succeed(shop.admin, "shop.maintenance", run_id, timeout=60)


@contextmanager
def without_mistakes(shop):
    """Put the broken module aside: nothing is applied of a project with a mistake."""
    broken = shop.settings.definitions_dir / "broken.py"
    aside = broken.rename(broken.with_suffix(".txt"))
    yield
    aside.rename(broken)


def amounts(shop, day):
    """Return what is published of user_gifts at the end of a day of January."""
    with open_backends(shop.settings) as backends:
        heads = backends.registry.ledger.heads("user_gifts", start=at(2026, 1, day), end=at(2026, 1, day + 1))
        relation = backends.published(backends.registry.view("user_gifts").step, heads)
        sql = "SELECT user_id, amount_2d FROM published ORDER BY user_id"
        with backends.engine.read(Query(sql=sql, relations={"published": relation})) as reader:
            return {row["user_id"]: row["amount_2d"] for row in reader.read_all().to_pylist()}


def test_a_range_run_is_a_batch_of_chunks_whose_number_the_tasks_hand_on(shop):
    run_id = shop.admin.trigger(GIFTS, {"start": "2026-01-01", "end": "2026-01-15"})
    succeed(shop.admin, GIFTS, run_id)
    path = f"/api/v2/dags/{GIFTS}/dagRuns/{run_id}/taskInstances/user_gifts.compute/xcomEntries/return_value"
    with open_backends(shop.settings) as backends:
        ledger = backends.registry.ledger
        batch = ledger.batch(int(shop.admin._request("GET", path).json()["value"]))
        assert (batch.view, batch.run_id) == ("user_gifts", f"{GIFTS}/{run_id}")
        assert [len(ledger.attempt(attempt).intervals) for attempt in batch.attempts] == [1, 14]
        assert {head.attempt for head in ledger.heads("user_gifts")} == set(batch.attempts)
    assert published(shop, "user_gifts") == [Interval(at(2026, 1, 1), at(2026, 1, 16))]


def test_maintenance_fills_a_new_generation_beside_the_live_one_and_makes_it_live(shop):
    sums = amounts(shop, 5)
    module = shop.settings.definitions_dir / "gifts.py"
    module.write_text(module.read_text().replace('agg.sum("amount")', 'agg.max("amount")'))
    run_id = shop.admin.trigger(GIFTS, {"start": "2026-01-05", "end": "2026-01-05"})
    succeed(shop.admin, GIFTS, run_id)
    log = shop.admin.log(GIFTS, run_id, "user_gifts.compute")
    assert "its definition changed (redefined: amount_2d), which waits for `fstore apply`" in log
    assert amounts(shop, 5) == sums, "runs go on with the registered definition"
    environ = {**os.environ, "FSTORE_PROJECT": "shop"}
    with without_mistakes(shop):
        command = [str(Path(sys.executable).with_name("fstore")), "apply"]
        subprocess.run(command, cwd=shop.settings.root, env=environ, check=True)
    run_id = shop.admin.trigger("shop.maintenance")
    succeed(shop.admin, "shop.maintenance", run_id)
    assert "The new generations of user_gifts are live now" in shop.admin.log(
        "shop.maintenance", run_id, "fill_new_generations"
    )
    with open_backends(shop.settings) as backends:
        assert backends.registry.view("user_gifts").generation == 2
    assert published(shop, "user_gifts") == [Interval(at(2026, 1, 1), at(2026, 1, 16))]
    largest = amounts(shop, 5)
    assert largest.keys() == sums.keys()
    assert largest != sums
    assert all(largest[user] <= sums[user] for user in sums)


def test_parsing_again_makes_no_new_version(shop):
    answer = shop.admin._request("GET", f"/api/v2/dags/{PURCHASES}/dagVersions")
    assert [version["version_number"] for version in answer.json()["dag_versions"]] == [1]


def test_who_is_not_logged_in_sees_nothing_and_a_viewer_starts_nothing(shop):
    with httpx.Client(base_url=shop.airflow.url) as anonymous:
        assert anonymous.get("/api/v2/dags").status_code == 401
        assert anonymous.post("/api/v2/backfills", json={}).status_code == 401
    assert {dag.dag_id for dag in shop.viewer.dags()} >= {PURCHASES}
    with pytest.raises(AirflowError) as caught:
        shop.viewer.trigger(PURCHASES)
    assert caught.value.status == 403
    plugins = {plugin["name"]: plugin for plugin in shop.admin._request("GET", "/api/v2/plugins").json()["plugins"]}
    assert [plugins["fstore"][routes] for routes in ("fastapi_apps", "fastapi_root_middlewares", "external_views")] == [
        []
    ] * 3
    assert plugins["fstore"]["timetables"] == ["fstore.airflow.timetable.FeatureTimetable"]


def test_a_manual_run_without_params_computes_the_newest_interval(shop):
    run_id = shop.admin.trigger(HOURLY)
    succeed(shop.admin, HOURLY, run_id, timeout=60)
    assert published(shop, "user_activity")[-1] == Interval(at(2026, 1, 2, 23), at(2026, 1, 3))


def test_the_schedule_runs_by_itself_and_catches_up_what_was_never_computed(shop):
    deadline = time.monotonic() + 60
    while not (runs := [run for run in shop.admin.runs("shop.live.daily") if run.finished]):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert [run.run_type for run in runs] == ["scheduled"]
    succeed(shop.admin, "shop.live.daily", runs[0].dag_run_id)
    whole = Interval(shop.live_since, runs[0].data_interval_end)
    assert published(shop, "live_purchases") == [whole]
    assert (whole.end - whole.start) >= timedelta(days=5)
