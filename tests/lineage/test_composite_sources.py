"""Events of steps that read tables of PostgreSQL and sources made of others: by their physical names, without credentials."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from fstore.definitions.source import ParquetSource, PostgresSource, SqlSource, UnionSource
from fstore.interval import Interval, Schedule
from fstore.lineage.events import LineageRun, run_event
from fstore.plan.steps import ColumnEdge, EventInput, SqlStep
from fstore.types import Column

START = datetime(2026, 1, 1, tzinfo=UTC)
WEB = ParquetSource("web", path="data/web/", event_time="at", keys={"user_id": "uid"})
SHOP = PostgresSource("shop_orders", connection="shop", table="sales.orders", event_time="at")
BOTH = UnionSource([WEB, SHOP], name="both")
PAID = SqlSource("paid", inputs={"b": BOTH}, sql="SELECT * FROM b", event_time="at")


def event(**changes: object) -> dict[str, object]:
    step = SqlStep(
        project="shop", view="spending", entity="user", keys=(Column(name="user_id", type="string"),), features=(),
        kind="snapshot", schedule=Schedule("0 0 * * *"), start=START, end=None, lag=timedelta(), ttl=None, online=True,
        pipeline="p", audits=(), fingerprint="0" * 16, module="feature_defs/p.py", line=1, sql="SELECT 1",
        inputs=(EventInput(alias="e", source=PAID, window=None),),
        lineage=(
            ColumnEdge(feature="user_id", kind="source", dataset="web", column="uid", transformation="IDENTITY"),
            ColumnEdge(feature="user_id", kind="source", dataset="shop_orders", column="user_id", transformation="IDENTITY"),
        ),
    )  # fmt: skip
    run = LineageRun(
        step=step, attempt=1, intervals=(Interval(START, START + timedelta(days=1)),), at=START, root="/project",
        engine="DuckDB", source_columns={"web": (Column(name="user_id", type="string"), Column(name="at", type="timestamp"))},
        **changes,  # type: ignore[arg-type]
    )  # fmt: skip
    return json.loads(run_event("START", run))


def test_inputs_are_the_files_and_tables_that_a_source_is_made_of() -> None:
    found = event(table_addresses={"shop_orders": ("postgres://db:5432", "shop.sales.orders")})
    inputs = {(item["namespace"], item["name"]): item["facets"] for item in found["inputs"]}  # type: ignore[index, attr-defined]
    assert list(inputs) == [("file", "/project/data/web"), ("postgres://db:5432", "shop.sales.orders")]
    assert [field["name"] for field in inputs["file", "/project/data/web"]["schema"]["fields"]] == ["uid", "at"]
    table = inputs["postgres://db:5432", "shop.sales.orders"]
    assert (table["datasetType"]["datasetType"], table["storage"]["storageLayer"]) == ("TABLE", "postgres")
    (output,) = found["outputs"]  # type: ignore[misc]
    fields = output["facets"]["columnLineage"]["fields"]["user_id"]["inputFields"]  # type: ignore[index]
    assert [(item["namespace"], item["name"], item["field"]) for item in fields] == [
        ("file", "/project/data/web", "uid"), ("postgres://db:5432", "shop.sales.orders", "user_id"),
    ]  # fmt: skip


def test_a_connection_that_is_not_known_is_named() -> None:
    found = event()
    assert [(item["namespace"], item["name"]) for item in found["inputs"]][1] == ("postgres://shop", "sales.orders")  # type: ignore[index, attr-defined]
