"""What depends on how Airflow is set up: executors, connections, run facts and lineage parents."""

from types import SimpleNamespace

import pytest
from airflow.sdk import Connection

from fstore.airflow.connections import connection_url, resolve_settings, resolve_url, source_connection
from fstore.airflow.environment import configured_executors, parent_run, refuse_local_stores, run_facts
from fstore.airflow.intervals import RunFacts
from fstore.errors import SettingsError
from fstore.settings import Settings
from tests.airflow.steps import at, day

LOCAL = Settings(
    root="/p", project="flights", registry_url="sqlite:////p/r.db", offline_url="file:/p/o", online_url="lmdb:/p/l"
)
SHARED = Settings(
    root="/p", project="flights", registry_url="postgresql://h/d", offline_url="s3://b", online_url="redis://h"
)


@pytest.mark.parametrize(
    "executors", [["LocalExecutor"], ["airflow.executors.local_executor.LocalExecutor"], ["SequentialExecutor"]]
)
def test_local_stores_go_with_executors_on_one_host(executors):
    refuse_local_stores(LOCAL, executors)


def test_local_stores_are_refused_with_an_executor_that_spans_hosts():
    refuse_local_stores(SHARED, ["CeleryExecutor"])
    with pytest.raises(SettingsError) as caught:
        refuse_local_stores(LOCAL, ["LocalExecutor", "CeleryExecutor"])
    assert str(caught.value) == (
        "project 'flights' keeps its registry (sqlite:////p/r.db) and offline (file:/p/o) and online (lmdb:/p/l) on the "
        "disk of "
        "one host, but tasks of CeleryExecutor run on several hosts: each would read and write its own copy. Use "
        "postgresql://, "
        "s3:// and redis:// URLs (FSTORE_REGISTRY_URL, FSTORE_OFFLINE_URL, FSTORE_ONLINE_URL), or the LocalExecutor."
    )


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("LocalExecutor", ["LocalExecutor"]),
        ("LocalExecutor,KubernetesExecutor", ["LocalExecutor", "KubernetesExecutor"]),
        ("LocalExecutor, big:my.module.Executor", ["LocalExecutor", "my.module.Executor"]),
    ],
)
def test_executors_are_read_as_airflow_reads_them(monkeypatch, setting, expected):
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", setting)
    assert configured_executors() == expected


def test_sources_can_name_airflow_connections(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", "postgres://me:secret@db:5433/shop")
    monkeypatch.setenv("FSTORE_CONNECTION_DEPOT", "postgresql://depot/db")
    assert source_connection("airflow://shop") == "postgresql://me:secret@db:5433/shop"
    assert source_connection("airflow://depot") == source_connection("depot") == "postgresql://depot/db"


def test_urls_can_name_airflow_connections(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_REGISTRY", "postgresql://fs:p%40ss@db:5432/features?sslmode=require")
    monkeypatch.setenv("AIRFLOW_CONN_CACHE", "redis://:secret@cache:6379/1")
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", '{"conn_type": "aws", "extra": {"url": "s3://lake"}}')
    settings = Settings(
        root="/p", project="flights", registry_url="airflow://registry", offline_url="airflow://lake/features/v1",
        online_url="airflow://cache",
    )  # fmt: skip
    resolved = resolve_settings(settings)
    assert resolved.registry_url == "postgresql://fs:p%40ss@db:5432/features?sslmode=require"
    assert resolved.offline_url == "s3://lake/features/v1"
    assert resolved.online_url == "redis://:secret@cache:6379/1"
    assert resolve_url("redis://other") == "redis://other"


def test_a_connection_that_is_missing_or_no_store_says_so():
    with pytest.raises(
        SettingsError, match="airflow://nowhere names the Airflow connection 'nowhere', which cannot be read"
    ):
        resolve_url("airflow://nowhere")
    with pytest.raises(SettingsError) as caught:
        connection_url(Connection(conn_id="x", conn_type="generic"))
    assert str(caught.value) == (
        "Airflow connection 'x' has type 'generic', which says no store; use postgres or redis, or give the whole URL as extra "
        '{"url": "s3://bucket/prefix"} (credentials come from AWS_*)'
    )


def _context(**run):
    facts = {
        "dag_id": "flights.carriers.daily", "run_id": "manual__1", "run_type": "manual", "run_after": at(2026, 8, 1),
        "data_interval_start": None, "data_interval_end": None, "partition_key": None, "logical_date": None,
        "clear_number": 0, "conf": {},
    }  # fmt: skip
    return {"dag_run": SimpleNamespace(**{**facts, **run}), "params": {"start": None, "end": None}}


def test_run_facts_of_a_run_with_and_without_a_data_interval():
    expected = {"dag_id": "flights.carriers.daily", "run_id": "manual__1", "run_type": "manual", "run_after": at(2026, 8, 1)}
    assert run_facts(_context()) == RunFacts(**expected)
    with_interval = _context(data_interval_start=at(2013, 1, 1), data_interval_end=at(2013, 1, 2), partition_key="k")
    assert run_facts(with_interval) == RunFacts(**expected, interval=day(2013, 1, 1), partition_key="k")
    assert run_facts(_context(data_interval_start=at(2013, 1, 1), data_interval_end=at(2013, 1, 1))) == RunFacts(**expected)


def test_the_lineage_parent_is_the_one_of_airflows_own_events():
    from airflow.providers.openlineage.plugins.adapter import OpenLineageAdapter

    run = _context(logical_date=at(2013, 1, 1), data_interval_start=at(2013, 1, 1), data_interval_end=at(2013, 1, 2))[
        "dag_run"
    ]
    task = SimpleNamespace(
        dag_id=run.dag_id, task_id="delays.compute", run_id=run.run_id, try_number=2, map_index=-1, dag_run=run,
        logical_date=run.logical_date, get_template_context=lambda: {"dag_run": run},
        task=SimpleNamespace(dag=SimpleNamespace(dag_id=run.dag_id), task_id="delays.compute"),
    )  # fmt: skip
    parent = parent_run({"ti": task})
    assert parent.job == "flights.carriers.daily.delays.compute"
    assert parent.root_job == "flights.carriers.daily"
    assert parent.run_id == OpenLineageAdapter.build_task_instance_run_id(
        dag_id=run.dag_id, task_id="delays.compute", try_number=2, logical_date=at(2013, 1, 1), map_index=-1
    )
    assert parent.root_run_id == OpenLineageAdapter.build_dag_run_id(
        dag_id=run.dag_id, logical_date=at(2013, 1, 1), clear_number=0
    )
