"""Operators one by one: what they refuse, defer and hand on. The whole chain runs in tests/end_to_end."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pyarrow as pa
import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from fstore.airflow import operators
from fstore.airflow.assets import MAX_PARTITIONS, announce, view_asset
from fstore.airflow.maintenance import maintenance_dag
from fstore.airflow.operators import MaterializeOperator, ValidateOperator, WaitForInputsOperator, airflow_errors
from fstore.errors import InputsChanged, StoreUnavailable, ValidationFailed
from fstore.interval import Schedule
from fstore.plan.steps import Plan, PlannedEntity
from fstore.registry.records import Verdict
from fstore.registry.registry import create_registry
from fstore.runtime.batches import compute_batch, validate_batch
from fstore.settings import Settings
from tests.airflow.steps import KEY, aggregate, at, day, reading
from tests.projects import SmallProject
from tests.runtime.conftest import MODULE, ORDERS, STAMP, write_orders

UPSTREAM = aggregate()
STEP = reading(UPSTREAM, pipeline="routes")


@pytest.fixture
def settings(tmp_path):
    return Settings(root=str(tmp_path), project="flights", registry_url=f"sqlite:///{tmp_path}/registry.db")


@pytest.fixture
def registry(settings):
    with create_registry(settings.registry_url, settings.project) as registry:
        entity = PlannedEntity(name="carrier", keys=(KEY,))
        registry.register(Plan(project="flights", entities=(entity,), steps=(UPSTREAM, STEP)))
        yield registry


def context(*, batch=None, **run):
    facts = {
        "dag_id": "flights.routes.daily", "run_id": "manual__1", "run_type": "manual", "run_after": at(2026, 8, 1),
        "data_interval_start": None, "data_interval_end": None, "partition_key": None,
    }  # fmt: skip
    params = {"start": run.pop("start", None), "end": run.pop("end", None)}
    ti = SimpleNamespace(xcom_pull=lambda task_ids: batch)
    return {"dag_run": SimpleNamespace(**{**facts, **run}), "params": params, "ti": ti}


def publish(registry, *intervals):
    attempt = registry.ledger.begin(UPSTREAM, intervals, "test")
    registry.ledger.record_files(attempt.id, [])
    registry.ledger.record_verdicts(attempt.id, [Verdict(interval=i, passed=True, rows=0) for i in intervals])
    registry.ledger.publish(attempt.id)


def test_errors_fail_for_good_or_are_retried_as_they_say():
    with pytest.raises(AirflowFailException) as caught, airflow_errors():
        raise ValidationFailed("3 rows broke not_null(x)", report=None)
    assert str(caught.value) == "validation_failed: 3 rows broke not_null(x)"
    for error in (StoreUnavailable("the store is away"), InputsChanged("an input changed")):
        with pytest.raises(type(error)), airflow_errors():
            raise error


@pytest.mark.parametrize("operator", [ValidateOperator, MaterializeOperator])
def test_without_a_batch_the_task_says_what_to_clear(settings, operator):
    extra = {"asset": view_asset("flights", "risk")} if operator is MaterializeOperator else {}
    task = operator(task_id="risk.x", compute_task_id="risk.compute", step=STEP, settings=settings, **extra)
    with pytest.raises(AirflowFailException) as caught:
        task.execute(context())
    assert str(caught.value) == (
        "attempt_unknown: this run has no batch of view 'risk' to go on with; clear 'risk.compute' instead, and its "
        "downstream tasks"
    )


def test_an_input_that_changed_is_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(operators, "parent_run", lambda _: None)
    project = SmallProject(tmp_path / "small")
    project.define("shop", MODULE)
    write_orders(project, ORDERS)
    project.write("users", [], {"user_id": pa.string(), "updated_at": STAMP, "country": pa.string()})
    project.run("user_orders", "2026-01-01", "2026-01-03")
    step, days = project.step("user_profile"), project.intervals("user_profile", "2026-01-01", "2026-01-03")
    batch = compute_batch(project.backends, step, days, "run")
    validate_batch(project.backends, batch.batch)
    first = batch.attempts[-1]
    project.run("user_orders", "2026-01-02", "2026-01-03", "meanwhile")
    asset = view_asset("small", step.view)
    task = MaterializeOperator(task_id="m", compute_task_id="compute", step=step, settings=project.settings, asset=asset)
    event = Event()
    task.execute(context(batch=batch.batch) | {"outlet_events": {asset: event}})
    ledger = project.backends.registry.ledger
    (second,) = {head.attempt for head in ledger.heads(step.view)}
    assert second > first
    assert (event.extra["attempt"], event.keys) == (second, ["2026-01-01", "2026-01-02"])
    assert ledger.stale(step.view) == []
    task.execute(context(batch=batch.batch) | {"outlet_events": {asset: Event()}})
    assert {head.attempt for head in ledger.heads(step.view)} == {second}, "clearing the task changes nothing"
    project.close()


def wait(settings, **options):
    return WaitForInputsOperator(task_id="wait", step=STEP, settings=settings, **options)


def test_a_wait_defers_for_exactly_what_is_missing(settings, registry):
    publish(registry, day(2013, 1, 2))
    with pytest.raises(TaskDeferred) as caught:
        wait(settings).execute(context(start="2013-01-01", end="2013-01-04"))
    trigger = caught.value.trigger
    assert trigger.needs == {
        "delays": [["2013-01-01T00:00:00Z", "2013-01-02T00:00:00Z"], ["2013-01-03T00:00:00Z", "2013-01-05T00:00:00Z"]]
    }
    left = datetime.fromisoformat(caught.value.kwargs["until"]) - datetime.now(UTC)
    assert timedelta(hours=23, minutes=59) < left <= timedelta(days=1)


def test_a_wait_ends_when_all_is_published_and_looks_again_after_the_trigger(settings, registry):
    asked = context(start="2013-01-01", end="2013-01-02")
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    with pytest.raises(TaskDeferred):
        wait(settings).resume(asked, {"state": "ready"}, until)
    publish(registry, day(2013, 1, 1), day(2013, 1, 2))
    assert wait(settings).resume(asked, {"state": "ready"}, until) is None
    assert wait(settings).execute(asked) is None
    assert wait(settings).execute(context(start="2012-01-01", end="2012-02-01")) is None  # nothing to wait for


def test_a_wait_gives_up_in_time_and_names_what_is_missing(settings, registry):
    past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    with pytest.raises(AirflowFailException) as caught:
        wait(settings).resume(context(start="2013-01-01", end="2013-01-02"), {"state": "timeout"}, past)
    assert str(caught.value) == (
        "inputs_not_ready: 'risk' waited 1 day, 0:00:00 and these are still not published: delays of "
        "[2013-01-01T00:00:00Z, 2013-01-03T00:00:00Z). Compute them, then clear this task; a later scheduled run catches up "
        "by "
        "itself."
    )


def test_a_wait_for_what_can_never_come_fails_at_once(settings, registry):
    registry.retire("delays")
    with pytest.raises(AirflowFailException) as caught:
        wait(settings).execute(context(start="2013-01-01", end="2013-01-02"))
    assert str(caught.value).startswith("inputs_impossible: view 'delays' was removed from the definitions; 'risk'")
    with pytest.raises(AirflowFailException, match="waiting for the inputs of 'risk' failed: no such table"):
        wait(settings).resume(context(), {"state": "error", "message": "no such table"}, "2026-01-01T00:00:00+00:00")


def test_operators_tell_lineage_what_they_read_and_write(settings):
    lineage = wait(settings).get_openlineage_facets_on_start()
    assert [(dataset.namespace, dataset.name) for dataset in lineage.inputs] == [("fstore.flights", "delays")]
    assert [(dataset.namespace, dataset.name) for dataset in lineage.outputs] == [("fstore.flights", "risk")]


class Event:
    def __init__(self):
        self.extra, self.keys = {}, []

    def add_partitions(self, keys):
        self.keys = keys


def test_a_publication_is_announced_per_interval_up_to_a_bound():
    asset, event = view_asset("flights", "delays"), Event()
    announce(
        {"outlet_events": {asset: event}}, asset, UPSTREAM, [day(2013, 1, 1), day(2013, 1, 2)], {"sequence": 7, "rows": 3}
    )
    assert event.keys == ["2013-01-01", "2013-01-02"]
    assert event.extra == {
        "sequence": 7, "rows": 3, "start": "2013-01-01T00:00:00Z", "end": "2013-01-03T00:00:00Z", "intervals": 2,
    }  # fmt: skip
    hours = Schedule("0 * * * *").intervals(at(2013, 1, 1), at(2013, 3, 1))
    event = Event()
    announce({"outlet_events": {asset: event}}, asset, aggregate(schedule=Schedule("0 * * * *")), hours, {"sequence": 8})
    assert len(hours) > MAX_PARTITIONS
    assert event.keys == []
    assert event.extra["intervals"] == len(hours)
    event = Event()
    announce({"outlet_events": {asset: event}}, asset, UPSTREAM, [], {"sequence": 9})
    assert (event.keys, event.extra) == ([], {})


def test_the_maintenance_dag_shows_what_is_broken(settings):
    dag = maintenance_dag(settings, {"retries": 3}, ["defs/x.py:3: oops"])
    assert (dag.dag_id, dag.tags) == ("flights.maintenance", {"fstore", "flights", "broken definitions"})
    assert dag.doc_md == "Definitions that cannot be planned, so that their views have no DAG:\n\n- defs/x.py:3: oops"
    assert maintenance_dag(settings, {}, []).tags == {"fstore", "flights"}
    assert (dag.is_paused_upon_creation, dag.catchup, dag.max_active_runs) == (False, False, 1)
