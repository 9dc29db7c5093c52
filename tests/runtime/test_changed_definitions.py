"""Changing a definition: what becomes due again, and what is refused."""

from __future__ import annotations

import datetime as dt

import msgspec
import pytest

from fstore.errors import DefinitionErrors
from fstore.runtime.due import due_intervals
from fstore.runtime.flipping import fill_next, roll_back
from fstore.runtime.plan_cache import load_plan
from fstore.runtime.preparation import compile_with_types, read_schemas
from fstore.runtime.versions import apply_plan
from tests.projects import SmallProject, utc

VIEW = """
    from fstore import FeatureView, agg

    from .shop import orders, user


    class Changing(FeatureView):
        '''A view that is edited.'''

        entity, source, schedule, start = user, orders, "@daily", "2026-01-01"
        orders = agg.count().over("1d")
"""


def due_days(project: SmallProject, view: str) -> list[int]:
    due = due_intervals(project.backends.registry, project.step(view), now=utc("2026-01-04T02:00"), limit=10)
    return [interval.start.day for interval in due.intervals]


def test_what_another_definition_published_is_due_again(project: SmallProject) -> None:
    project.define("changing", VIEW)
    project.run("changing", "2026-01-01", "2026-01-04")
    assert due_days(project, "changing") == []
    project.define("changing", VIEW.replace("A view that is edited.", "Described anew.").replace('"@daily"', '"0 0 * * *"'))
    assert due_days(project, "changing") == [], "neither a description nor another way to write the schedule changes a value"
    project.define("changing", VIEW.replace('.over("1d")', '.over("1d", "2d")'))
    assert due_days(project, "changing") == [1, 2, 3]
    project.run("changing", "2026-01-01", "2026-01-04", "again")
    assert due_days(project, "changing") == []
    assert {row["orders_2d"] for row in project.published("changing")} == {1, 2}


def test_a_view_that_is_not_registered_is_due_from_its_start(project: SmallProject) -> None:
    project.define("changing", VIEW)
    loaded = load_plan(project.settings).project
    schemas = read_schemas(project.backends.engine, list(loaded.sources.values())).schemas
    plan = compile_with_types(project.backends.engine, loaded, schemas, views={"changing"})
    due = due_intervals(project.backends.registry, plan.steps[0], now=utc("2026-01-04T02:00"), limit=2)
    assert ([interval.start.day for interval in due.intervals], due.remaining) == ([1, 2], 1)


def test_another_grid_waits_until_it_is_applied_and_filled(project: SmallProject) -> None:
    project.define("changing", VIEW)
    project.run("changing", "2026-01-01", "2026-01-03")
    project.define("changing", VIEW.replace('"@daily"', '"@hourly"'))
    assert project.step("changing").schedule.label == "daily", "runs go on with the registered definition"
    loaded = load_plan(project.settings).project
    plan = compile_with_types(project.backends.engine, loaded, project.backends.registry.source_schemas())
    apply_plan(project.backends, plan)
    first = fill_next(project.backends, limit=30)
    assert [(view.filled, view.required) for view in first.views] == [(30, 48)]
    assert len(fill_next(project.backends, limit=30).flipped) == 1
    assert project.step("changing").schedule.label == "hourly"
    heads = project.backends.registry.ledger.heads("changing")
    assert (heads[0].start, heads[-1].end) == (utc("2026-01-01"), utc("2026-01-03"))
    assert len({row["event_timestamp"] for row in project.published("changing")}) > 2


def test_a_view_that_comes_back_as_what_was_rolled_back_does_not_get_the_rows_of_the_other(project: SmallProject) -> None:
    registry = project.backends.registry
    project.define("changing", VIEW)
    project.run("changing", "2026-01-01", "2026-01-03")
    project.define("changing", VIEW.replace('"@daily"', '"@hourly"'))
    loaded = load_plan(project.settings).project
    apply_plan(project.backends, compile_with_types(project.backends.engine, loaded, registry.source_schemas()))
    fill_next(project.backends, limit=48)
    roll_back(project.backends, "changing")
    registry.retire("changing")
    assert project.step("changing").schedule.label == "hourly"
    assert all(head.end - head.start < dt.timedelta(days=1) for head in registry.ledger.heads("changing"))
    project.define("changing", VIEW)
    registry.retire("changing")
    assert project.step("changing").schedule.label == "daily"
    assert registry.ledger.heads("changing") == []


def test_a_setting_makes_runs_begin_the_new_generation(project: SmallProject) -> None:
    project.define("changing", VIEW)
    project.run("changing", "2026-01-01", "2026-01-03")
    project.backends.settings = msgspec.structs.replace(project.settings, breaking_changes="run")
    project.define("changing", VIEW.replace("agg.count()", 'agg.sum("amount")'))
    assert project.step("changing").fingerprint == project.backends.registry.view("changing").fingerprint
    fill_next(project.backends, limit=10)
    assert project.backends.registry.view("changing").generation == 2
    roll_back(project.backends, "changing")
    project.step("changing")
    assert project.backends.registry.overlays.all() == [], "what was rolled back is not begun again by itself"


READER = """

    class Reader(FeatureView):
        '''A view that is new.'''

        entity, schedule = user, "@daily"
        inputs = {"c": Changing}
        sql = "SELECT user_id, orders_1d AS same FROM c"
        same = feature("float64")
"""


def test_a_new_view_waits_with_the_changed_one_that_it_reads(project: SmallProject) -> None:
    project.define("changing", VIEW)
    project.run("changing", "2026-01-01", "2026-01-03")
    changed = VIEW.replace("agg.count()", 'agg.sum("amount")').replace("FeatureView, agg", "FeatureView, agg, feature")
    project.define("changing", changed + READER)
    with pytest.raises(
        DefinitionErrors, match="is new and reads changing, whose changed definition waits for `fstore apply`"
    ):
        project.step("reader")
