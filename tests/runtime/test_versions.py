"""Breaking changes: what waits, what is filled beside the live views, flipped and rolled back."""

from __future__ import annotations

import msgspec
import pytest

from fstore.backends import Backends
from fstore.errors import DefinitionErrors, NotComplete, UnknownFeature
from fstore.plan.steps import Step
from fstore.registry.overlays import NEXT
from fstore.runtime.flipping import fill_next, flip_next, roll_back
from fstore.runtime.plan_cache import load_plan
from fstore.runtime.preparation import compile_with_types, prepare_steps, read_schemas
from fstore.runtime.runner import run_step
from fstore.runtime.versions import Applied, apply_plan, is_borrowed
from fstore.stores.online import OnlineView
from tests.projects import SmallProject

MODULE = """
    from fstore import FeatureView, agg, feature

    from .shop import orders, user


    class Spent(FeatureView):
        '''What a user spent.'''

        entity, source, schedule, start = user, orders, "@daily", "2026-01-01"
        spent = agg.sum("amount").over("1d")
        orders = agg.count().over("1d")


    class Level(FeatureView):
        '''Whether a user spent much.'''

        entity, schedule = user, "@daily"
        inputs = {"s": Spent}
        sql = "SELECT user_id, spent_1d > 15 AS high FROM s"
        high = feature("bool")
"""
BREAKING = MODULE.replace('agg.sum("amount")', 'agg.max("amount")')


def compiled(project: SmallProject, module: str | None = None):
    if module is not None:
        project.define("spending", module)
    loaded = load_plan(project.settings).project
    schemas = read_schemas(project.backends.engine, list(loaded.sources.values())).schemas
    project.backends.registry.record_source_schemas(schemas)
    return compile_with_types(project.backends.engine, loaded, schemas)


def applied(project: SmallProject, module: str | None = None, **options: object) -> Applied:
    return apply_plan(project.backends, compiled(project, module), complete=True, **options)  # type: ignore[arg-type]


def prepared(project: SmallProject, view: str) -> tuple[Step, list[str]]:
    notices: list[str] = []
    (step,) = prepare_steps(project.backends, load_plan(project.settings).project, [view], notice=notices.append)
    return step, notices


def run(project: SmallProject, view: str, first: int = 1, last: int = 4) -> None:
    project.run(view, f"2026-01-{first:02}", f"2026-01-{last:02}", f"run of {view} from {first}")


def published(project: SmallProject, view: str, column: str) -> dict[tuple[str, int], object]:
    rows = project.published(view)
    return {(str(row["user_id"]), row["event_timestamp"].day): row[column] for row in rows}  # type: ignore[attr-defined]


@pytest.fixture
def live(project: SmallProject) -> SmallProject:
    """A project whose views are registered and published for three days."""
    applied(project, MODULE)
    run(project, "spent")
    run(project, "level")
    return project


SUMS = {("a", 2): 10.0, ("a", 3): 20.0, ("b", 3): 5.0}


def test_a_breaking_change_waits_and_runs_go_on_as_registered(live: SmallProject) -> None:
    live.define("spending", BREAKING)
    step, notices = prepared(live, "spent")
    assert step == live.backends.registry.view("spent").step
    assert notices == [
        "spent: its definition changed (redefined: spent_1d), which waits for `fstore apply`. Until then it runs as "
        "registered: `fstore plan` shows what applying means."
    ]
    _, notices = prepared(live, "level")
    assert notices == [
        "level: its definition changed (redefined: high), which waits for `fstore apply`. Until then it runs as "
        "registered: `fstore plan` shows what applying means."
    ]
    assert live.backends.registry.overlays.all() == []


def test_a_new_generation_is_filled_beside_the_live_one_and_takes_its_place(live: SmallProject) -> None:
    registry = live.backends.registry
    before = registry.version()
    found = applied(live, BREAKING)
    assert [(view.view, view.generation, view.adopted) for view in found.staged] == [
        ("spent", 2, False),
        ("level", 2, False),
    ]
    assert published(live, "spent", "spent_1d") == SUMS, "what is live stays as it is"
    assert registry.version() == before, "nothing that readers see has changed"
    _, notices = prepared(live, "spent")
    assert notices[0].startswith("spent: its new definition (redefined: spent_1d) is being filled beside the live one, as ")

    first = fill_next(live.backends, limit=2)
    assert [(view.view, view.filled, view.lacking, view.required) for view in first.views] == [
        ("spent", 2, 1, 3), ("level", 2, 1, 3),
    ]  # fmt: skip
    assert first.flipped == ()
    second = fill_next(live.backends, limit=2)
    assert [(flip.view, flip.old_generation, flip.new_generation) for flip in second.flipped] == [
        ("level", 1, 2),
        ("spent", 1, 2),
    ]
    assert registry.view("spent").generation == 2
    assert published(live, "spent", "spent_1d") == SUMS | {("a", 3): 20.0}
    assert registry.overlays.get(NEXT) is None
    assert prepared(live, "spent")[1] == []
    floor = live.backends.online.floor(OnlineView(project="small", view="spent", generation=2))
    assert floor is not None
    assert floor.end.day == 4


def test_what_is_published_meanwhile_is_needed_too(live: SmallProject) -> None:
    applied(live, BREAKING, held=True)
    assert fill_next(live.backends, limit=10).held
    run(live, "spent", 4, 5)
    with pytest.raises(NotComplete, match=r"the new generations lack intervals that are live: spent \(1\)"):
        flip_next(live.backends)
    fill_next(live.backends, limit=10)
    assert {flip.view for flip in flip_next(live.backends)} == {"spent", "level"}


def test_a_view_and_what_hangs_on_it_are_rolled_back_together(live: SmallProject) -> None:
    applied(live, BREAKING)
    fill_next(live.backends, limit=10)
    undone = roll_back(live.backends, "level")
    assert {flip.view for flip in undone} == {"level", "spent"}
    assert {view.name: view.generation for view in live.backends.registry.views()}["spent"] == 1
    assert published(live, "level", "high") == {("a", 2): False, ("a", 3): True, ("b", 3): False}
    assert prepared(live, "spent")[1] != [], "the definition is still the new one, and waits"
    with pytest.raises(UnknownFeature, match="view 'spent' was never flipped, or was rolled back already"):
        roll_back(live.backends, "spent")
    again = applied(live)
    assert [(view.view, view.generation, view.adopted) for view in again.staged] == [("spent", 2, True), ("level", 2, True)]
    assert len(fill_next(live.backends, limit=10).flipped) == 2, "what was filled before is not filled again"


def test_a_change_that_is_taken_back_leaves_nothing(live: SmallProject) -> None:
    applied(live, BREAKING)
    fill_next(live.backends, limit=1)
    assert applied(live, MODULE).staged == ()
    assert live.backends.registry.overlays.all() == []
    assert prepared(live, "spent")[1] == []


def test_removing_a_column_recomputes_nothing(live: SmallProject) -> None:
    from datetime import UTC, datetime

    from fstore.runtime.due import due_intervals

    live.define("spending", MODULE.replace('        orders = agg.count().over("1d")\n', ""))
    assert prepared(live, "spent")[1][0].startswith("spent: its definition changed (removed: orders_1d)")
    assert applied(live).staged == ()
    step, _ = prepared(live, "spent")
    assert [feature.name for feature in step.features] == ["spent_1d"]
    due = due_intervals(live.backends.registry, step, now=datetime(2026, 1, 4, 2, tzinfo=UTC), limit=10)
    assert due.intervals == ()


def test_python_code_that_is_gone_cannot_go_on(project: SmallProject) -> None:
    module = """
        from fstore import FeatureView, feature, transform

        from .shop import UserOrders, user


        def double(o):
            import pyarrow as pa

            return pa.table({"user_id": o["user_id"], "twice": [2.0 for _ in range(o.num_rows)]})


        class Twice(FeatureView):
            '''A Python view.'''

            entity, inputs, schedule = user, {"o": UserOrders}, "@daily"
            twice = feature("float64")
            compute = transform(double)
    """
    applied(project, module)
    run(project, "user_orders")
    run(project, "twice")
    project.define("spending", module.replace("2.0", "3.0"))
    with pytest.raises(DefinitionErrors, match="what it has published was made by code that is not there any more"):
        prepared(project, "twice")
    applied(project)
    assert {flip.view for flip in fill_next(project.backends, limit=10).flipped} == {"twice"}
    assert {row["twice"] for row in project.published("twice")} == {3.0}


def test_a_run_that_was_prepared_before_a_flip_publishes_nothing(live: SmallProject) -> None:
    from fstore.errors import DefinitionChanged

    old = live.step("spent")
    applied(live, BREAKING)
    fill_next(live.backends, limit=10)
    intervals = old.schedule.intervals(
        *(live.intervals("spent", "2026-01-01", "2026-01-02")[0].start, old.start.replace(day=2))
    )
    with pytest.raises(DefinitionChanged, match="view 'spent' was registered with another definition"):
        run_step(live.backends, old, intervals, "late")


ADDITIVE = MODULE.replace("        orders = agg", '        largest = agg.max("amount").over("1d")\n        orders = agg')


def test_an_added_column_republishes_and_leaves_the_others_as_they_are(live: SmallProject) -> None:
    live.define("spending", ADDITIVE)
    assert prepared(live, "spent")[1] == [], "an additive change registers itself"
    run(live, "spent")
    assert live.backends.registry.view("spent").generation == 1
    assert published(live, "spent", "spent_1d") == SUMS
    assert published(live, "spent", "largest_1d") == SUMS


@pytest.mark.parametrize(
    ("column", "value"), [("spent_1d", "spent_1d + 1"), ("spent_1d", "CAST(NULL AS DOUBLE)"), ("orders_1d", "orders_1d + 1")]
)
def test_an_added_column_that_comes_with_other_values_is_refused(live: SmallProject, column: str, value: str) -> None:
    from fstore.errors import ColumnsChanged

    live.define("spending", ADDITIVE)
    step = live.step("spent")
    forged = msgspec.structs.replace(step, sql=f"SELECT * REPLACE ({value} AS {column}) FROM ({step.sql})",
                                     single_sql=f"SELECT * REPLACE ({value} AS {column}) FROM ({step.single_sql})")  # fmt: skip
    with pytest.raises(ColumnsChanged) as caught:
        run_step(live.backends, forged, live.intervals("spent", "2026-01-02", "2026-01-04"), "forged")
    assert str(caught.value) == (
        f"adding features to view 'spent' (feature_defs/spending.py:7) may not change the others, but '{column}' differs in 2 "
        "row(s) of what is published for [2026-01-02T00:00:00Z, 2026-01-03T00:00:00Z) and after, although nothing that it is "
        "made from is known to have changed. If that is right, fill a new generation instead: `fstore apply --rebuild spent`."
    )
    assert published(live, "spent", "spent_1d") == SUMS


def test_an_environment_is_read_online_and_for_training_beside_production(live: SmallProject) -> None:
    from datetime import UTC, datetime

    from fstore.retrieval.client import Client
    from fstore.runtime.due import intervals_within

    def read(backends: Backends) -> tuple[object, object]:
        client = Client(backends, clock=lambda: datetime(2026, 1, 4, 6, tzinfo=UTC))
        rows = [{"user_id": "b", "event_timestamp": datetime(2026, 1, 3, 6, tzinfo=UTC)}]
        features = ["spent:spent_1d", "level:high"]
        frame = client.get_historical_features(rows, features).to_arrow().to_pylist()[0]
        online = client.get_online_features(features, {"user_id": ["b"]}).to_dict()
        return (frame["spent_1d"], frame["high"]), (online["spent_1d"], online["high"])

    production = read(live.backends)
    live.define("spending", MODULE.replace('agg.sum("amount")', 'agg.sum("amount * 10")'))
    dev = live.backends.on_overlay("dev")
    for view in ("spent", "level"):
        (step,) = prepare_steps(dev, load_plan(live.settings).project, [view])
        span = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 4, tzinfo=UTC)
        run_step(dev, step, intervals_within(step, *span), "dev")
    assert production[0] == (5.0, False)
    assert read(dev)[0] == (50.0, True)
    assert read(live.backends) == production
    assert not is_borrowed(dev.registry, "spent")
    assert is_borrowed(dev.registry, "user_orders")


def test_a_flip_between_the_parts_of_preparing_a_run_is_not_undone_by_it(
    live: SmallProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    applied(live, BREAKING, held=True)
    fill_next(live.backends, limit=10)
    live.define("spending", MODULE)  # what a worker still has that reads the new module a little later
    registry, flipped = live.backends.registry, list[object]()
    register = registry.register

    def overtaken(*args: object, **options: object) -> object:
        if not flipped:
            flipped.append(flip_next(live.backends))
        return register(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(registry, "register", overtaken)
    new = {view.name: view.fingerprint for view in registry.overlays.get(NEXT).views}  # type: ignore[union-attr]
    step, notices = prepared(live, "spent")
    assert registry.view("spent").fingerprint == new["spent"] == step.fingerprint
    assert notices != []
