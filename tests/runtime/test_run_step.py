"""Running steps of every kind: what is published, offline and online, and what never is."""

from __future__ import annotations

import math
from typing import cast

import pyarrow as pa
import pytest

from fstore import Client
from fstore.errors import (
    DefinitionErrors,
    Fenced,
    InputsNotReady,
    OutputMismatch,
    SourceMissing,
    SourceSchemaDrift,
    ValidationFailed,
)
from fstore.runtime.compute import compute_attempt
from fstore.runtime.due import due_intervals
from fstore.runtime.inputs import input_readiness
from fstore.runtime.materialize import materialize_attempt
from fstore.runtime.validate import ValidationReport, validate_attempt
from tests.projects import SmallProject, utc
from tests.runtime.conftest import ORDERS, write_orders

VIEWS = ["user_orders", "user_profile", "user_risk", "order_events"]


def run_all(project: SmallProject, start: str, end: str, run_id: str = "test") -> None:
    for view in VIEWS:
        project.run(view, start, end, run_id)


def test_aggregates_follow_half_open_windows(project: SmallProject) -> None:
    result = project.run("user_orders", "2026-01-01", "2026-01-05")
    rows = {(row["event_timestamp"], row["user_id"]): row for row in project.published("user_orders")}
    day = [utc(f"2026-01-0{number}") for number in range(1, 6)]
    assert list(rows) == [
        (day[1], "a"), (day[2], "a"), (day[2], "b"), (day[3], "a"), (day[3], "b"), (day[4], "a"), (day[4], "b")
    ]  # fmt: skip
    assert rows[day[1], "a"]["orders_1d"] == 1, "the order at midnight belongs to the next day"
    assert rows[day[2], "a"] == {
        "user_id": "a", "event_timestamp": day[2], "orders_1d": 1, "orders_3d": 2, "amount_sum_3d": 30.0,
        "amount_avg_3d": 15.0, "last_item_3d": "ink", "share": 0.5,
    }  # fmt: skip
    assert rows[day[4], "b"]["orders_3d"] == 2
    assert result.computed.ignored_rows == 1, "the order without a user"


def test_sql_views_see_only_what_existed_before_the_end(project: SmallProject) -> None:
    run_all(project, "2026-01-01", "2026-01-04")
    rows = {(str(row["event_timestamp"])[:10], row["user_id"]): row for row in project.published("user_profile")}
    assert rows["2026-01-02", "a"]["country"] == "DE", "the move to FR came on January 2 at 08:00"
    assert rows["2026-01-03", "a"]["country"] == "FR"
    assert [rows[f"2026-01-0{day}", "a"]["regular"] for day in (2, 3, 4)] == [False, True, True]
    risks = {str(row["event_timestamp"])[:10]: row["risk"] for row in project.published("user_risk")}
    assert risks == {"2026-01-02": 1.0, "2026-01-03": 2.0, "2026-01-04": 3.0}


def test_event_views_keep_the_rows_of_their_interval(project: SmallProject) -> None:
    project.run("order_events", "2026-01-01", "2026-01-05")
    rows = project.published("order_events")
    assert [(row["event_timestamp"], row["doubled"]) for row in rows] == [
        (utc("2026-01-01T10:00"), 20.0),
        (utc("2026-01-02T00:00"), 40.0),
        (utc("2026-01-02T12:00"), 10.0),
        (utc("2026-01-04T23:59"), 12.0),
    ]


def test_a_range_run_equals_single_runs(project: SmallProject) -> None:
    run_all(project, "2026-01-01", "2026-01-06", "range")
    at_once = {view: project.published(view) for view in VIEWS}
    for day in range(1, 6):
        run_all(project, f"2026-01-0{day}", f"2026-01-0{day + 1}", f"day {day}")
    one_by_one = {view: project.published(view) for view in VIEWS}
    assert one_by_one == at_once
    assert all(at_once.values())


def test_online_and_offline_agree(project: SmallProject) -> None:
    run_all(project, "2026-01-01", "2026-01-06")
    features = ["user_orders:*", "user_profile:*", "user_risk:*", "order_events:*"]
    with Client(project.settings, clock=lambda: utc("2026-01-06T01:00")) as client:
        online = client.get_online_features(features=features, entities={"user_id": ["a", "b", "nobody"]}).to_dict()
        labels = pa.table(
            {
                "user_id": ["a", "b", "nobody"],
                "event_timestamp": pa.array([utc("2026-01-06T01:00")] * 3, pa.timestamp("us", tz="UTC")),
            }
        )
        offline = client.get_historical_features(labels, features=features).to_arrow().drop(["event_timestamp"]).to_pydict()
    assert online == offline
    assert online["orders_1d"] == [0, 0, 0], "nobody ordered on January 5: an empty window counts 0"
    assert online["amount_avg_3d"] == [0.0, 6.0, 0.0]
    assert online["regular"] == [False, False, None]
    assert online["doubled"] == [40.0, 12.0, None]


def test_quarantined_keys_are_published_as_nulls_and_kept_aside(project: SmallProject) -> None:
    write_orders(project, [*ORDERS, {"user_id": "a", "ordered_at": "2026-01-02T09:00", "amount": 5000.0, "item": "car"}])
    result = project.run("user_orders", "2026-01-02", "2026-01-03")
    rows = {row["user_id"]: row for row in project.published("user_orders")}
    assert rows["a"]["orders_1d"] is None
    assert rows["b"]["orders_1d"] == 1
    assert result.report.quarantined_rows == 1
    assert result.report.quarantine_file is not None
    kept = project.backends.offline.read(result.report.quarantine_file).to_pylist()
    assert [(row["user_id"], row["amount_sum_3d"]) for row in kept] == [("a", 5030.0)]


BLOCKING = """
    from fstore import FeatureView, agg, check

    from .shop import orders, user


    class Checked(FeatureView):
        '''Blocked where there are too few rows.'''

        entity, source, schedule, start = user, orders, "@daily", "2026-01-01"
        orders = agg.count().over("1d")
        checks = [check.row_count(1, None)]
"""


def test_a_blocked_interval_is_not_published_and_its_neighbours_are(project: SmallProject) -> None:
    project.define("checked", BLOCKING)
    result = project.run("checked", "2026-01-02", "2026-01-05")
    assert [str(verdict.interval) for verdict in result.report.blocked] == ["[2026-01-03T00:00:00Z, 2026-01-04T00:00:00Z)"]
    assert result.report.describe() == [
        "error row_count(1, None): 1 violation(s) (0 rows, expected at least 1) in "
        "[2026-01-03T00:00:00Z, 2026-01-04T00:00:00Z)"
    ]
    ends = {row["event_timestamp"] for row in project.published("checked")}
    assert ends == {utc("2026-01-03"), utc("2026-01-05")}
    ledger = project.backends.registry.ledger
    assert [interval.start for interval in ledger.blocked("checked")] == [utc("2026-01-03")]
    due = due_intervals(project.backends.registry, project.step("checked"), now=utc("2026-01-05T12:00"), limit=10)
    assert [interval.start for interval in due.intervals] == [utc("2026-01-01")], "nobody asks for the blocked one again"


def test_validation_fails_when_nothing_passes(project: SmallProject) -> None:
    project.define("checked", BLOCKING)
    with pytest.raises(ValidationFailed) as caught:
        project.run("checked", "2026-01-03", "2026-01-04")
    report = cast("ValidationReport", caught.value.report)
    assert caught.value.retryable is False
    assert report.verdicts[0].results[0].message == "0 rows, expected at least 1"
    assert project.backends.registry.ledger.heads("checked") == []


def test_a_zombie_of_a_retry_publishes_nothing(project: SmallProject) -> None:
    step, intervals = project.step("user_orders"), project.intervals("user_orders", "2026-01-01", "2026-01-03")
    first = compute_attempt(project.backends, step, intervals, "run")
    validate_attempt(project.backends, first.attempt)
    second = compute_attempt(project.backends, step, intervals, "run")
    with pytest.raises(Fenced):
        materialize_attempt(project.backends, first.attempt)
    validate_attempt(project.backends, second.attempt)
    done = materialize_attempt(project.backends, second.attempt)
    assert {head.attempt for head in project.backends.registry.ledger.heads("user_orders")} == {second.attempt}
    again = materialize_attempt(project.backends, second.attempt)
    assert (again.sequence, again.intervals) == (done.sequence, done.intervals), "clearing the task re-applies it"


def test_an_older_backfill_does_not_overwrite_a_newer_one(project: SmallProject) -> None:
    step, intervals = project.step("user_orders"), project.intervals("user_orders", "2026-01-01", "2026-01-03")
    older = compute_attempt(project.backends, step, intervals, "older")
    validate_attempt(project.backends, older.attempt)
    project.run("user_orders", "2026-01-02", "2026-01-03", "newer")
    done = materialize_attempt(project.backends, older.attempt)
    assert [interval.start for interval in done.overtaken] == [utc("2026-01-02")]
    assert [interval.start for interval in done.intervals] == [utc("2026-01-01")]


def test_a_key_that_a_republished_snapshot_no_longer_has_is_gone_online(project: SmallProject) -> None:
    project.run("user_orders", "2026-01-01", "2026-01-03")
    write_orders(project, [row for row in ORDERS if row["user_id"] == "b"])
    project.run("user_orders", "2026-01-02", "2026-01-03", "again")
    with Client(project.settings, clock=lambda: utc("2026-01-03T02:00")) as client:
        values = client.get_online_features(features=["user_orders:orders_3d"], entities={"user_id": ["a", "b"]}).to_dict()
    assert values["orders_3d"] == [0, 1]


def test_a_withdrawn_event_leaves_the_one_before_it_online(project: SmallProject) -> None:
    project.run("order_events", "2026-01-01", "2026-01-05")
    write_orders(project, [row for row in ORDERS if row["item"] not in ("jug", "pen", "ink")])
    project.run("order_events", "2026-01-04", "2026-01-05", "again")
    with Client(project.settings, clock=lambda: utc("2026-01-06")) as client:
        read = client.get_online_features(features=["order_events:doubled"], entities={"user_id": ["a", "b"]})
        assert read.to_dict()["doubled"] == [40.0, 10.0]
        project.run("order_events", "2026-01-01", "2026-01-03", "all of a's are gone")
        read = client.get_online_features(features=["order_events:doubled"], entities={"user_id": ["a", "b"]})
        assert read.to_dict()["doubled"] == [None, 10.0]


def test_backfilling_an_old_interval_leaves_the_online_store_alone(project: SmallProject) -> None:
    project.run("user_orders", "2026-01-04", "2026-01-05")
    result = project.run("user_orders", "2026-01-01", "2026-01-02", "old")
    assert result.materialized.online_rows == 0
    assert result.materialized.sequence is not None


def test_a_view_waits_for_what_it_reads(project: SmallProject) -> None:
    with pytest.raises(InputsNotReady) as caught:
        project.run("user_profile", "2026-01-01", "2026-01-02")
    step = project.step("user_profile")
    assert str(caught.value) == (
        f"view 'user_profile' (feature_defs/shop.py:{step.line}) cannot be computed for [2026-01-01T00:00:00Z, "
        "2026-01-02T00:00:00Z): it reads 'user_orders' of [2026-01-01T00:00:00Z, 2026-01-02T00:00:00Z), which is not "
        "published. Compute that first: `fstore run --select user_orders`, or select `+user_profile`."
    )
    assert caught.value.retryable is True


def test_a_range_computes_what_is_ready_and_names_the_rest(project: SmallProject) -> None:
    project.run("user_orders", "2026-01-01", "2026-01-03")
    result = project.run("user_profile", "2026-01-01", "2026-01-05")
    assert [interval.start.day for interval in result.materialized.intervals] == [1, 2]
    assert [missing.interval.start.day for missing in result.computed.missing] == [3, 4]


def test_a_republished_input_makes_its_dependents_stale_and_due(project: SmallProject) -> None:
    run_all(project, "2026-01-01", "2026-01-04")
    project.run("user_orders", "2026-01-02", "2026-01-03", "again")
    registry = project.backends.registry
    assert [interval.start for interval in registry.ledger.stale("user_profile")] == [utc("2026-01-02")]
    due = due_intervals(registry, project.step("user_profile"), now=utc("2026-01-04T06:00"), limit=10)
    assert [interval.start for interval in due.intervals] == [utc("2026-01-02")]


def test_lineage_reaches_from_an_expression_to_the_source(project: SmallProject) -> None:
    from fstore.registry.records import Dataset

    run_all(project, "2026-01-01", "2026-01-04")
    log = project.backends.registry.lineage
    upstream = {(edge.input.name.rpartition("/")[2], edge.input_column) for edge in
                log.upstream(Dataset("fstore.small", "user_profile"), "regular")}  # fmt: skip
    assert ("user_orders", "orders_3d") in upstream
    down = {edge.output.name for edge in log.downstream(Dataset("fstore.small", "user_orders"))}
    assert {"user_profile", "user_risk"} <= down


BROKEN_FUNCTION = """
    from fstore import FeatureView, feature, transform

    from .shop import UserOrders, user


    def fail(o):
        return 1 / 0


    class Broken(FeatureView):
        '''A function that raises.'''

        entity, schedule = user, "@daily"
        inputs = {"o": UserOrders}
        score = feature("float64")
        compute = transform(fail)
"""


def test_an_exception_in_user_code_names_the_line(project: SmallProject) -> None:
    project.define("broken", BROKEN_FUNCTION)
    project.run("user_orders", "2026-01-01", "2026-01-02")
    with pytest.raises(Exception, match="division by zero") as caught:
        project.run("broken", "2026-01-01", "2026-01-02")
    assert str(caught.value) == (
        "function 'fail' (feature_defs/broken.py:8) of view 'broken' raised ZeroDivisionError for interval "
        "[2026-01-01T00:00:00Z, 2026-01-02T00:00:00Z): division by zero"
    )
    (attempt,) = project.backends.registry.ledger.history("broken")
    assert (attempt.state, attempt.message) == ("failed", str(caught.value))


def test_a_null_key_from_user_code_is_an_error(project: SmallProject) -> None:
    project.define("broken", BROKEN_FUNCTION.replace("return 1 / 0", "\n".join([
        "import pyarrow as pa", "        return pa.table({'user_id': pa.array([None], pa.string()), 'score': [1.0]})"])))  # fmt: skip
    project.run("user_orders", "2026-01-01", "2026-01-02")
    with pytest.raises(OutputMismatch, match=r"gave 1 row\(s\) with a null in key 'user_id'"):
        project.run("broken", "2026-01-01", "2026-01-02")


def test_duplicate_keys_block_the_interval(project: SmallProject) -> None:
    project.define("broken", BROKEN_FUNCTION.replace("return 1 / 0", "\n".join([
        "import pyarrow as pa", "        return pa.table({'user_id': ['a', 'a'], 'score': [1.0, 2.0]})"])))  # fmt: skip
    project.run("user_orders", "2026-01-01", "2026-01-02")
    with pytest.raises(ValidationFailed) as caught:
        project.run("broken", "2026-01-01", "2026-01-02")
    assert str(caught.value) == (
        "no interval of view 'broken' passed its checks:\n  error one row per key (user_id): 1 violation(s) (a view gives at "
        "most one row per key and time) in [2026-01-01T00:00:00Z, 2026-01-02T00:00:00Z); keys a"
    )


def test_a_missing_source_is_named_with_its_place(project: SmallProject) -> None:
    (project.root / "data" / "orders.parquet").unlink()
    with pytest.raises(SourceMissing) as caught:
        project.step("user_orders")
    assert "source 'orders' (feature_defs/shop.py:5)" in str(caught.value)


def test_a_drifted_source_is_refused_until_it_is_accepted(project: SmallProject) -> None:
    project.step("user_orders")
    rows = [{"user_id": "a", "ordered_at": utc("2026-01-01T10:00"), "amount": "ten", "item": "pen"}]
    project.write(
        "orders", rows,
        {"user_id": pa.string(), "ordered_at": pa.timestamp("us", tz="UTC"), "amount": pa.string(), "item": pa.string()},
    )  # fmt: skip
    with pytest.raises(SourceSchemaDrift) as caught:
        project.step("user_orders")
    assert str(caught.value) == (
        "source 'orders' (feature_defs/shop.py:5) drifted: column 'amount' was float64 and is now string. If that is meant, "
        "accept it with `fstore apply`: views that read the column are checked against the new schema then."
    )


def test_definition_problems_are_raised_with_their_place(project: SmallProject) -> None:
    project.define("wrong", BLOCKING.replace("agg.count()", 'agg.sum("amonut")'))
    with pytest.raises(DefinitionErrors, match=r"amonut.*Did you mean 'amount'"):
        project.step("checked")


def test_nan_is_not_null(project: SmallProject) -> None:
    write_orders(project, [{"user_id": "a", "ordered_at": "2026-01-01T10:00", "amount": math.nan, "item": "pen"}])
    result = project.run("user_orders", "2026-01-01", "2026-01-02")
    assert result.report.quarantined_rows == 1, "NaN fails a range"


DOWNSTREAM = """
    from fstore import FeatureView, feature

    from .checked import Checked
    from .shop import user


    class Downstream(FeatureView):
        '''Reads a view whose checks may block it.'''

        entity, schedule = user, "@daily"
        inputs = {"c": Checked}
        sql = "SELECT user_id, orders_1d + 1 AS more FROM c"
        more = feature("int64")
"""


def test_nobody_waits_for_an_interval_that_its_checks_blocked(project: SmallProject) -> None:
    project.define("checked", BLOCKING)
    project.define("downstream", DOWNSTREAM)
    registry, step = project.backends.registry, project.step("downstream")
    days = project.intervals("downstream", "2026-01-01", "2026-01-05")
    assert not input_readiness(registry, step, days).ready
    project.run("checked", "2026-01-01", "2026-01-05")
    assert input_readiness(registry, step, days).ready
    result = project.run("downstream", "2026-01-01", "2026-01-05")
    assert [interval.start.day for interval in result.materialized.intervals] == [1, 2, 4]
