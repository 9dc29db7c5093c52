"""OpenLineage events: every kind, for every kind of step, judged by the official spec and by value."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from fstore.definitions.feature_view import PythonFunction
from fstore.definitions.source import CsvSource, ParquetSource
from fstore.interval import Interval, Schedule
from fstore.lineage.events import (
    CheckOutcome,
    LineageRun,
    ParentRun,
    Quality,
    lineage_run_id,
    run_event,
)
from fstore.plan.steps import (
    AggregateStep,
    ColumnEdge,
    DimensionInput,
    EventInput,
    Feature,
    PythonStep,
    SnapshotInput,
    SqlStep,
    Step,
)
from fstore.types import Column, DataFile

SPEC = Path(__file__).resolve().parents[3] / "shared" / "bin" / "validate-openlineage"
UTC_DAY = datetime(2026, 1, 2, tzinfo=UTC)
DAY = timedelta(days=1)
KEYS = (Column(name="user_id", type="string"),)
PURCHASES = ParquetSource(name="purchases", path="data/purchases/", event_time="at", description="What was bought.")
USERS = CsvSource(name="users", path="s3://lake/raw/users.csv", keys=["user_id"], updated_at="updated_at")
SHARED = {
    "project": "shop",
    "entity": "user",
    "keys": KEYS,
    "kind": "snapshot",
    "schedule": Schedule("0 0 * * *"),
    "start": datetime(2026, 1, 1, tzinfo=UTC),
    "end": None,
    "lag": timedelta(hours=2),
    "ttl": None,
    "online": True,
    "pipeline": "purchases",
    "audits": (),
    "fingerprint": "00112233aabbccdd",
    "module": "feature_defs/purchases.py",
    "line": 14,
}


def aggregate_step() -> Step:
    return AggregateStep(
        view="user_purchases",
        features=(
            Feature(name="purchase_count_7d", type="int64", fingerprint="f1", empty=0, description="Purchases in a week."),
            Feature(name="amount_avg_7d", type="float64", fingerprint="f2", pii=True),
            Feature(name="untyped", type=None, fingerprint="f3"),
        ),
        inputs=(EventInput(alias="events", source=PURCHASES, window=7 * DAY),),
        lineage=(
            ColumnEdge(
                feature="amount_avg_7d", kind="source", dataset="purchases", column="amount", transformation="AGGREGATION"
            ),
        ),
        sql="SELECT 1",
        description="Recent buying behaviour.",
        owner="growth",
        tags={"domain": "shop"},
        **SHARED,
    )


def sql_step() -> Step:
    upstream = SnapshotInput(
        alias="p", view="user_purchases", keys=KEYS, features=(Column(name="amount_avg_7d", type="float64"),),
        schedule=Schedule("0 0 * * *"), start=UTC_DAY, end=None, pipeline="purchases",
    )  # fmt: skip
    return SqlStep(
        view="user_profile",
        features=(Feature(name="country", type="string", fingerprint="f4"),),
        inputs=(DimensionInput(alias="u", source=USERS), upstream, msgspec.structs.replace(upstream, alias="again")),
        lineage=(
            ColumnEdge(feature="country", kind="source", dataset="users", column="country", transformation="IDENTITY"),
            ColumnEdge(
                feature="country", kind="view", dataset="user_purchases", column="amount_avg_7d",
                transformation="TRANSFORMATION",
            ),
        ),
        sql="SELECT user_id, country FROM u JOIN p USING (user_id)",
        **SHARED,
    )  # fmt: skip


def python_step() -> Step:
    return PythonStep(
        view="user_risk",
        features=(Feature(name="score", type="float64", fingerprint="f5"),),
        inputs=(EventInput(alias="events", source=PURCHASES, window=None),),
        lineage=(),
        function=PythonFunction(module="risk", name="risk", parameters=("p",), source="def risk(p): return p"),
        **SHARED,
    )


PARENT = ParentRun(
    namespace="airflow", job="shop.purchases.daily.user_purchases.compute", run_id="019b0000-0000-7000-8000-000000000001",
    root_namespace="airflow", root_job="shop.purchases.daily", root_run_id="019b0000-0000-7000-8000-000000000002",
)  # fmt: skip
QUALITY = Quality(
    rows=30,
    checks=(
        CheckOutcome(
            label="not_null(amount_avg_7d)", kind="not_null", severity="error", columns=("amount_avg_7d",), violations=0
        ),
        CheckOutcome(label="row_count(100, None)", kind="row_count", severity="warn", columns=(), violations=1),
    ),
    null_counts={"amount_avg_7d": 4},
)
FILES = (
    DataFile(path="a.parquet", rows=20, bytes=2000, start=UTC_DAY, end=UTC_DAY + DAY, schema_id="s"),
    DataFile(path="b.parquet", rows=10, bytes=1000, start=UTC_DAY + DAY, end=UTC_DAY + 2 * DAY, schema_id="s"),
)


def lineage_run(step: Step, **changes: object) -> LineageRun:
    run = LineageRun(
        step=step,
        attempt=41,
        intervals=(Interval(UTC_DAY + DAY, UTC_DAY + 2 * DAY), Interval(UTC_DAY, UTC_DAY + DAY)),
        at=datetime(2026, 1, 4, 2, 0, 0, 250_000, tzinfo=UTC),
        root="/srv/shop",
        engine="DuckDB 2.0.0",
        versions={"user_purchases": 17},
        source_columns={"purchases": (Column(name="user_id", type="string"), Column(name="amount", type="float64"))},
        location="file:/srv/shop/.fstore/offline/user_purchases/1",
    )
    return msgspec.structs.replace(run, **changes)


def everything() -> list[str]:
    complete = {"parent": PARENT, "files": FILES, "quality": QUALITY, "sequence": 18}
    events = []
    for step in (aggregate_step(), sql_step(), python_step()):
        events.append(run_event("START", lineage_run(step)))
        events.append(run_event("RUNNING", lineage_run(step, parent=PARENT)))
        events.append(run_event("COMPLETE", lineage_run(step, **complete)))
        events.append(run_event("FAIL", lineage_run(step, error="no interval passed", stack_trace="line\nline")))
        events.append(run_event("ABORT", lineage_run(step, intervals=(), location="s3://lake/offline/x", source_columns={})))
    return events


@pytest.mark.skipif(not SPEC.exists(), reason="the OpenLineage spec is not beside the repository")
def test_every_event_conforms_to_the_spec() -> None:
    events = everything()
    done = subprocess.run([sys.executable, str(SPEC)], input="\n".join(events), capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [f"{len(events)} events, 0 invalid"]


def test_a_complete_event_says_what_was_read_and_written() -> None:
    event = json.loads(
        run_event("COMPLETE", lineage_run(aggregate_step(), parent=PARENT, files=FILES, quality=QUALITY, sequence=18))
    )
    assert event["eventType"] == "COMPLETE"
    assert event["eventTime"] == "2026-01-04T02:00:00.250000Z"
    assert (event["job"]["namespace"], event["job"]["name"]) == ("fstore.shop", "user_purchases")
    assert event["job"]["facets"]["sql"]["query"] == "SELECT 1"
    assert event["job"]["facets"]["sql"]["dialect"] == "duckdb"
    assert event["job"]["facets"]["sourceCodeLocation"]["url"] == "file:///srv/shop/feature_defs/purchases.py#L14"
    assert event["job"]["facets"]["ownership"]["owners"] == [{"name": "growth", "type": "OWNER"}]
    nominal = event["run"]["facets"]["nominalTime"]
    assert (nominal["nominalStartTime"], nominal["nominalEndTime"]) == ("2026-01-02T00:00:00Z", "2026-01-04T00:00:00Z")
    engine = event["run"]["facets"]["processing_engine"]
    assert (engine["name"], engine["version"]) == ("DuckDB", "2.0.0")

    source, audited = event["inputs"]
    assert (source["namespace"], source["name"]) == ("file", "/srv/shop/data/purchases")
    assert [field["name"] for field in source["facets"]["schema"]["fields"]] == ["user_id", "amount"]
    assert (audited["namespace"], audited["name"]) == ("fstore.shop", "user_purchases")
    assertions = audited["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert [(item["assertion"], item.get("column"), item["success"], item["severity"]) for item in assertions] == [
        ("not_null", "amount_avg_7d", True, "error"),
        ("row_count", None, False, "warn"),
    ]
    assert audited["inputFacets"]["dataQualityMetrics"]["rowCount"] == 30

    (output,) = event["outputs"]
    assert (output["namespace"], output["name"]) == ("fstore.shop", "user_purchases")
    assert [(field["name"], field.get("type")) for field in output["facets"]["schema"]["fields"]] == [
        ("user_id", "string"),
        ("event_timestamp", "timestamp"),
        ("purchase_count_7d", "int64"),
        ("amount_avg_7d", "float64"),
        ("untyped", None),
    ]
    assert output["facets"]["symlinks"]["identifiers"] == [
        {"namespace": "file", "name": "/srv/shop/.fstore/offline/user_purchases/1", "type": "LOCATION"}
    ]
    assert output["facets"]["version"]["datasetVersion"] == "18"
    assert output["facets"]["columnLineage"]["fields"] == {
        "amount_avg_7d": {
            "inputFields": [
                {
                    "namespace": "file",
                    "name": "/srv/shop/data/purchases",
                    "field": "amount",
                    "transformations": [{"type": "DIRECT", "subtype": "AGGREGATION", "masking": False}],
                }
            ]
        }
    }
    statistics = output["outputFacets"]["outputStatistics"]
    assert (statistics["rowCount"], statistics["size"], statistics["fileCount"]) == (30, 3000, 2)


def test_upstream_views_carry_the_version_that_was_pinned_and_appear_once() -> None:
    event = json.loads(run_event("START", lineage_run(sql_step())))
    assert [(item["namespace"], item["name"]) for item in event["inputs"]] == [
        ("s3://lake", "raw/users.csv"),
        ("fstore.shop", "user_purchases"),
    ]
    assert event["inputs"][1]["facets"]["version"]["datasetVersion"] == "17"
    fields = event["outputs"][0]["facets"]["columnLineage"]["fields"]["country"]["inputFields"]
    assert [(item["namespace"], item["name"], item["field"]) for item in fields] == [
        ("s3://lake", "raw/users.csv", "country"),
        ("fstore.shop", "user_purchases", "amount_avg_7d"),
    ]


def test_a_failure_carries_its_message_and_the_parent_its_root() -> None:
    event = json.loads(run_event("FAIL", lineage_run(python_step(), parent=PARENT, error="boom")))
    assert event["run"]["facets"]["errorMessage"]["message"] == "boom"
    assert event["job"]["facets"]["sourceCode"]["sourceCode"] == "def risk(p): return p"
    parent = event["run"]["facets"]["parent"]
    assert parent["job"]["name"] == "shop.purchases.daily.user_purchases.compute"
    assert parent["root"]["job"]["name"] == "shop.purchases.daily"
    assert parent["root"]["run"]["runId"] == "019b0000-0000-7000-8000-000000000002"


def test_all_events_of_an_attempt_share_one_run_and_no_other_does() -> None:
    start, complete = (json.loads(run_event(kind, lineage_run(aggregate_step()))) for kind in ("START", "COMPLETE"))
    assert start["run"]["runId"] == complete["run"]["runId"] == lineage_run_id("shop", 41)
    assert lineage_run_id("shop", 41) == "b6b1170d-c484-5d35-a054-b4b6608e7795"
    assert len({lineage_run_id("shop", 41), lineage_run_id("shop", 42), lineage_run_id("other", 41)}) == 3


def test_every_facet_names_fstore_as_its_producer() -> None:
    def producers(node: object) -> set[str]:
        if isinstance(node, dict):
            own = {value for key, value in node.items() if key in ("_producer", "producer")}
            return own.union(*(producers(value) for value in node.values()))
        return set().union(*(producers(item) for item in node)) if isinstance(node, list) else set()

    for event in everything():
        assert all(name.startswith("https://github.com/fstore/fstore/tree/v") for name in producers(json.loads(event)))


def test_importing_events_does_not_import_openlineage() -> None:
    code = "import sys; import fstore.lineage.events; print([m for m in sys.modules if m.startswith('openlineage')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
