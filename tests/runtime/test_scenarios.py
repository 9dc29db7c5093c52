"""Runs that meet trouble: what stays due, and what is refused."""

from __future__ import annotations

import datetime as dt
from typing import cast

import pytest

from fstore import Client
from fstore.errors import AttemptUnknown, OutputMismatch, ValidationFailed
from fstore.runtime.compute import compute_attempt
from fstore.runtime.due import due_intervals
from fstore.runtime.materialize import materialize_attempt
from fstore.runtime.plan_cache import load_plan
from fstore.runtime.preparation import prepare_steps
from fstore.runtime.validate import ValidationReport, validate_attempt
from tests.projects import SmallProject, utc
from tests.runtime.conftest import MODULE


def test_an_attempt_without_intervals_is_refused(project: SmallProject) -> None:
    with pytest.raises(ValueError, match="at least one interval"):
        compute_attempt(project.backends, project.step("user_orders"), [], "run")


CHECKED = """
    from fstore import FeatureView, check, feature

    from .shop import UserOrders, user


    class Checked(FeatureView):
        '''Blocked when somebody ordered much.'''

        entity, schedule, start = user, "@daily", "2026-01-01"
        inputs = {"o": UserOrders}
        sql = "SELECT user_id, o.orders_3d AS orders FROM o"
        orders = feature("int64")
        checks = [check.in_range("orders", 0, 1)]
"""


def due_days(project: SmallProject, view: str, limit: int = 10) -> list[int]:
    due = due_intervals(project.backends.registry, project.step(view), now=utc("2026-01-05T12:00"), limit=limit)
    return [interval.start.day for interval in due.intervals]


def test_a_stale_interval_that_was_blocked_since_is_not_tried_for_ever(project: SmallProject) -> None:
    project.define("checked", CHECKED.replace("0, 1)", "0, 9)"))
    project.run("user_orders", "2026-01-01", "2026-01-05")
    project.run("checked", "2026-01-01", "2026-01-05")
    project.define("checked", CHECKED)
    project.run("user_orders", "2026-01-02", "2026-01-03", "again")
    assert due_days(project, "checked") == [2]
    with pytest.raises(ValidationFailed):
        project.run("checked", "2026-01-02", "2026-01-03", "stale")
    assert due_days(project, "checked") == [], "the same inputs would be blocked again"
    project.run("user_orders", "2026-01-02", "2026-01-03", "repaired")
    assert due_days(project, "checked") == [2], "other inputs may pass"


def test_a_blocked_interval_is_due_when_its_input_was_republished(project: SmallProject) -> None:
    project.define("checked", CHECKED)
    project.run("user_orders", "2026-01-01", "2026-01-05")
    project.run("checked", "2026-01-01", "2026-01-05")
    assert due_days(project, "checked") == []
    project.run("user_orders", "2026-01-02", "2026-01-03", "again")
    assert due_days(project, "checked") == [2]


def test_a_blocked_interval_is_due_when_the_checks_are_others(project: SmallProject) -> None:
    project.define("checked", CHECKED)
    project.run("user_orders", "2026-01-01", "2026-01-05")
    project.run("checked", "2026-01-01", "2026-01-05")
    assert due_days(project, "checked") == []
    project.define("checked", CHECKED.replace("0, 1)", "0, 9)"))
    assert due_days(project, "checked") == [2, 3, 4]


def test_intervals_without_inputs_do_not_use_up_the_catch_up(project: SmallProject) -> None:
    project.define("checked", CHECKED)
    project.run("user_orders", "2026-01-03", "2026-01-05")
    assert due_days(project, "checked", limit=2) == [3, 4]


def test_validation_killed_after_its_verdicts_fails_again(project: SmallProject) -> None:
    project.define("checked", CHECKED)
    project.run("user_orders", "2026-01-02", "2026-01-03")
    step, days = project.step("checked"), project.intervals("checked", "2026-01-02", "2026-01-03")
    attempt = compute_attempt(project.backends, step, days, "run").attempt
    ledger = project.backends.registry.ledger
    fail = ledger.fail
    try:
        ledger.fail = lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            validate_attempt(project.backends, attempt)
    finally:
        ledger.fail = fail  # type: ignore[method-assign]
    with pytest.raises(ValidationFailed):
        validate_attempt(project.backends, attempt)
    assert ledger.attempt(attempt).state == "failed"


def test_an_attempt_that_was_swept_while_it_ran_never_publishes(project: SmallProject) -> None:
    step, days = project.step("user_orders"), project.intervals("user_orders", "2026-01-02", "2026-01-03")
    attempt = compute_attempt(project.backends, step, days, "run").attempt
    ledger = project.backends.registry.ledger
    assert [dead.id for dead in ledger.abandon(dt.datetime.now(dt.UTC) + dt.timedelta(days=1))] == [attempt]
    with pytest.raises(AttemptUnknown, match="it is abandoned"):
        validate_attempt(project.backends, attempt)
    with pytest.raises(AttemptUnknown, match="its files were deleted"):
        ledger.record_files(attempt, [])
    with pytest.raises(AttemptUnknown, match="its files were deleted"):
        materialize_attempt(project.backends, attempt)
    assert ledger.attempt(attempt).state == "abandoned"


def test_a_reader_that_was_there_before_a_feature_was_added(project: SmallProject) -> None:
    project.define("checked", CHECKED)
    project.run("user_orders", "2026-01-01", "2026-01-03")
    project.run("checked", "2026-01-01", "2026-01-02")
    with Client(project.settings, clock=lambda: utc("2026-01-02T02:00")) as client:
        assert client.get_online_features(["checked:orders"], {"user_id": ["a"]}).to_dict()["orders"] == [1]
        added = CHECKED.replace("orders = feature", 'more = feature("int64")\n        orders = feature')
        project.define("checked", added.replace("AS orders FROM", "AS orders, CAST(7 AS BIGINT) AS more FROM"))
        project.run("checked", "2026-01-01", "2026-01-02", "again")
        assert client.get_online_features(["checked:orders"], {"user_id": ["a"]}).to_dict()["orders"] == [1]


def test_many_duplicates_are_counted_and_a_few_are_named(project: SmallProject) -> None:
    sql = "SELECT 'u' || r.n AS user_id, o.orders_3d AS orders FROM o, range(1000) r(n), range(3)"
    project.define("checked", CHECKED.replace("SELECT user_id, o.orders_3d AS orders FROM o", sql))
    project.run("user_orders", "2026-01-01", "2026-01-03")
    with pytest.raises(ValidationFailed) as caught:
        project.run("checked", "2026-01-01", "2026-01-03")
    report = cast("ValidationReport", caught.value.report)
    assert [(found.violations, len(found.samples)) for verdict in report.verdicts for found in verdict.results][::2] == [
        (1000, 5), (1000, 5)
    ]  # fmt: skip


def test_a_run_after_values_changed_their_type_publishes_the_registered_type(project: SmallProject) -> None:
    project.run("order_events", "2026-01-01", "2026-01-03")
    text = MODULE.replace("2 * amount AS doubled", "item AS doubled")
    project.define("shop", text.replace('doubled = feature("float64")', 'doubled = feature("string")'))
    notices: list[str] = []
    prepare_steps(project.backends, load_plan(project.settings).project, ["order_events"], notice=notices.append)
    assert notices == [
        "order_events: its definition changed (redefined: doubled), which waits for `fstore apply`. Until then it runs as "
        "registered: `fstore plan` shows what applying means."
    ]
    project.run("order_events", "2026-01-03", "2026-01-05", "later")
    assert [row["doubled"] for row in project.published("order_events")] == [20.0, 40.0, 10.0, 12.0]


def test_a_view_that_comes_back_on_another_grid_begins_anew(project: SmallProject) -> None:
    registry = project.backends.registry
    project.define("checked", CHECKED)
    project.run("user_orders", "2026-01-01", "2026-01-03")
    project.run("checked", "2026-01-01", "2026-01-02")
    registry.retire("checked")
    project.step("checked")
    assert [head.start for head in registry.ledger.heads("checked")] == [utc("2026-01-01")], "the same one has its rows back"
    registry.retire("checked")
    project.define("checked", CHECKED.replace('"@daily"', '"@hourly"'))
    assert project.step("checked").schedule.label == "hourly"
    assert (registry.view("checked").generation, registry.ledger.heads("checked")) == (2, [])
    project.run("checked", "2026-01-02T00:00", "2026-01-02T02:00", "hourly")
    assert {row["event_timestamp"] for row in project.published("checked")} == {
        utc("2026-01-02T01:00"),
        utc("2026-01-02T02:00"),
    }


OWN_TIME = """
    import datetime

    from fstore import FeatureView, feature, transform

    from .shop import UserOrders, user


    def stamp(o, interval):
        import pyarrow as pa

        noon = interval.start + datetime.timedelta(hours=12)
        return pa.table({
            "user_id": o["user_id"], "event_timestamp": pa.array([noon] * o.num_rows, pa.timestamp("us", tz="UTC")),
            "one": [1] * o.num_rows,
        })


    class Stamped(FeatureView):
        '''A snapshot view whose function returns times of its own.'''

        entity, schedule, start = user, "@daily", "2026-01-01"
        inputs = {"o": UserOrders}
        one = feature("int64")
        compute = transform(stamp)
"""


def test_a_snapshot_view_cannot_have_times_of_its_own(project: SmallProject) -> None:
    project.define("stamped", OWN_TIME)
    project.run("user_orders", "2026-01-02", "2026-01-03")
    with pytest.raises(OutputMismatch, match="event_timestamp"):
        project.run("stamped", "2026-01-02", "2026-01-03")


def test_times_without_a_zone_are_refused(project: SmallProject) -> None:
    own = OWN_TIME.replace(', tz="UTC"', "").replace(
        "one = feature", 'event_timestamp = feature("timestamp")\n        one = feature'
    )
    project.define("stamped", own)
    project.run("user_orders", "2026-01-02", "2026-01-03")
    with pytest.raises(OutputMismatch, match=r"'event_timestamp' as timestamp\[us\], times without a zone"):
        project.run("stamped", "2026-01-02", "2026-01-03")
