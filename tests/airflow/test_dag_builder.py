"""The DAGs of a plan: ids, groups, order, parameters, determinism."""

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from airflow.serialization.serialized_objects import DagSerialization

from fstore.airflow.dag_builder import pipeline_dag, pipeline_id
from fstore.airflow.documentation import view_doc
from fstore.interval import Schedule
from fstore.settings import Settings
from tests.airflow.steps import aggregate, at, reading

SETTINGS = Settings(root="/p", project="flights")
DELAYS = aggregate()
RISK = reading(DELAYS, owner="ml@example.com", end=None, start=at(2013, 2, 1), lag=timedelta(hours=2))
WEATHER = aggregate("weather", pipeline="origins", schedule=Schedule("0 * * * *"))


def build(*steps, **default_args):
    dag_id = pipeline_id("flights", steps[0])
    return pipeline_dag(dag_id, steps, SETTINGS, {"retries": 3, **default_args})


def test_a_dag_is_named_by_project_pipeline_and_schedule():
    assert pipeline_id("flights", DELAYS) == "flights.carriers.daily"
    assert pipeline_id("flights", WEATHER) == "flights.origins.hourly"
    assert pipeline_id("flights", RISK.inputs[0]) == "flights.carriers.daily"
    berlin = aggregate(schedule=Schedule("30 6 * * *", "Europe/Berlin"))
    assert pipeline_id("flights", berlin) == "flights.carriers.30_6_x_x_x_Europe_Berlin"


def test_views_are_groups_in_the_order_of_their_dependencies():
    dag = build(DELAYS, RISK)
    edges = {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks}
    assert edges == {
        "delays.compute": ["delays.validate"],
        "delays.validate": ["delays.materialize"],
        "delays.materialize": ["risk.compute"],
        "risk.compute": ["risk.validate"],
        "risk.validate": ["risk.materialize"],
        "risk.materialize": [],
    }
    assert dag.task_group.children["delays"].tooltip == "Delays of an airline."


def test_a_view_waits_only_for_other_pipelines():
    other = reading(WEATHER, "weather_day", pipeline="carriers", schedule=DELAYS.schedule)
    dag = build(DELAYS, other)
    assert sorted(dag.task_ids) == [
        "delays.compute", "delays.materialize", "delays.validate",
        "weather_day.compute", "weather_day.materialize", "weather_day.validate", "weather_day.wait_for_inputs",
    ]  # fmt: skip
    assert dag.get_task("weather_day.wait_for_inputs").downstream_task_ids == {"weather_day.compute"}
    assert "wait_for_inputs" not in "".join(build(DELAYS, RISK).task_ids)


def test_the_dag_is_ready_to_run_when_it_appears():
    dag = build(DELAYS, RISK)
    assert (dag.is_paused_upon_creation, dag.catchup, dag.max_active_runs) == (False, False, 16)
    assert dag.tags == {"fstore", "flights", "domain:ops"}
    assert dag.owner_links == {"ml@example.com": "mailto:ml@example.com"}
    assert (dag.get_task("delays.compute").owner, dag.get_task("risk.compute").owner) == ("ops-ml", "ml@example.com")
    assert dag.end_date is None  # a task whose logical date lies after it would never run
    timetable = dag.timetable
    assert (timetable.start, timetable.end, timetable.lag) == (at(2013, 1, 1), None, timedelta(hours=2))
    assert build(DELAYS).timetable.end == at(2014, 1, 1)
    assert build(DELAYS, pool="small").get_task("delays.compute").pool == "small"


def test_a_view_without_intervals_in_a_run_does_not_skip_its_dependents():
    dag = build(DELAYS, RISK)
    assert {task_id.rpartition(".")[2]: dag.get_task(task_id).trigger_rule for task_id in dag.task_ids} == {
        "compute": "none_failed", "validate": "all_success", "materialize": "all_success",
    }  # fmt: skip


def test_the_range_is_asked_for_with_date_pickers_or_times_where_intervals_are_short():
    daily, hourly = build(DELAYS).params, build(WEATHER).params
    assert daily.dump() == {"start": None, "end": None}
    assert daily.get_param("start").schema["format"] == "date"
    assert hourly.get_param("end").schema["format"] == "date-time"
    daily.update({"start": "2013-01-01", "end": "2013-12-31"})
    daily.validate()
    hourly.update({"start": "2013-01-01T00:00:00Z"})
    hourly.validate()
    with pytest.raises(ValueError, match="'tomorrow' is not a 'date'"):
        daily["start"] = "tomorrow"


def test_only_names_are_templated_and_every_view_is_an_asset():
    dag = build(DELAYS)
    compute, materialize = dag.get_task("delays.compute"), dag.get_task("delays.materialize")
    assert (compute.template_fields, compute.view, compute.fingerprint) == (
        ("view", "fingerprint"),
        "delays",
        "0123456789abcdef",
    )
    (asset,) = materialize.outlets
    assert (asset.name, asset.uri) == ("flights.delays", "x-fstore://flights/delays")


def test_serialization_keeps_the_timetable_and_carries_no_sql_but_the_documentation():
    text = json.dumps(DagSerialization.to_dict(build(DELAYS, RISK)))
    assert "fstore.airflow.timetable.FeatureTimetable" in text
    assert text.count("SELECT carrier, 1 AS flights_7d FROM u") == 1  # in the documentation of the compute task
    again = DagSerialization.from_dict(json.loads(text))
    assert again.timetable == build(DELAYS, RISK).timetable


_SERIALIZE = """
import warnings
warnings.simplefilter("ignore")
from airflow.models.serialized_dag import SerializedDagModel
from airflow.serialization.serialized_objects import DagSerialization
from tests.airflow.test_dag_builder import DELAYS, RISK, build
print(SerializedDagModel.hash(DagSerialization.to_dict(build(DELAYS, RISK))))
"""


def test_every_process_serializes_the_same_dag():
    """The hash is Airflow's: where it differs from the last parse, a new version of the DAG is stored."""
    repository = Path(__file__).parents[2]
    found = [
        subprocess.run(
            [sys.executable, "-c", _SERIALIZE], check=True, capture_output=True, text=True, cwd=repository,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout.split()[-1]
        for seed in ("1", "2")
    ]  # fmt: skip
    assert found[0] == found[1]


def test_the_documentation_of_a_view():
    assert view_doc(RISK) == (
        "### risk\n\n"
        "Delays of an airline.\n\n"
        "defined in `feature_defs/carriers.py:10`; keys `carrier`; from 2013-02-01T00:00:00Z; complete 2h after an "
        "interval's "
        "end; valid for 3d.\n\n"
        "| feature | type | |\n"
        "|---|---|---|\n"
        "| `flights_7d` | int64 | Flights \\| a week. |\n\n"
        "- `u`: view `delays` of pipeline `carriers`\n\n"
        "```sql\nSELECT carrier, 1 AS flights_7d FROM u\n```"
    )
