"""Changing a definition: what becomes due again, and what is refused."""

from __future__ import annotations

import pytest

from fstore.errors import DefinitionErrors
from fstore.runtime.due import due_intervals
from fstore.runtime.plan_cache import load_plan
from fstore.runtime.preparation import compile_with_types, read_schemas, replaced_views
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


def test_another_grid_is_refused_until_it_is_applied(project: SmallProject) -> None:
    project.define("changing", VIEW)
    project.run("changing", "2026-01-01", "2026-01-04")
    project.define("changing", VIEW.replace('"@daily"', '"@hourly"'))
    with pytest.raises(DefinitionErrors) as caught:
        project.step("changing")
    assert str(caught.value) == (
        "1 definition error:\n  feature view 'changing' (feature_defs/changing.py:7) has changed so that what it has published "
        "no longer fits (schedule: 0 0 * * * UTC to 0 * * * * UTC). Run `fstore apply`, which begins a new and empty generation "
        "of it, or give the view another name."
    )
    loaded = load_plan(project.settings).project
    plan = compile_with_types(
        project.backends.engine, loaded, project.backends.registry.source_schemas(), views={"changing"}
    )
    replaced = [step.view for step, _ in replaced_views(project.backends, plan.steps)]
    assert replaced == ["changing"]
    project.backends.registry.register(plan, rebuild=replaced)
    assert project.backends.registry.ledger.heads("changing") == []
    project.run("changing", "2026-01-01", "2026-01-02", "hours")
    assert len(project.backends.registry.ledger.heads("changing")) == 1
