"""Overlays: generations beside the live ones, the flip, the rollback, and who sees what meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest
from sqlalchemy.engine import Connection

from fstore.errors import DefinitionChanged, NotComplete, UnknownFeature
from fstore.plan.steps import AggregateStep, Feature, Plan, PlannedOnDemand, SqlStep
from fstore.registry.completeness import required_intervals
from fstore.registry.overlays import NEXT
from fstore.registry.registry import Registry, open_registry
from fstore.types import Column
from tests.registry.examples import (
    DAILY,
    PROJECT,
    aggregate,
    day,
    days,
    dependent,
    hours,
    planned_service,
    published,
    seen,
)
from tests.registry.test_concurrency import run_all

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

BASE, BELOW = "purchases_of_user", "profile"


def changed(mark: str = "2") -> tuple[AggregateStep, SqlStep]:
    """The two views of the example with another meaning."""
    base = aggregate(
        fingerprint=f"fp-1-{mark}", features=(Feature(name="count_7d", type="int64", fingerprint=f"f-count-{mark}"),)
    )
    below = msgspec.structs.replace(
        dependent(), fingerprint=f"fp-2-{mark}", features=(Feature(name="regular", type="bool", fingerprint=f"f-{mark}"),)
    )
    return base, below


def fill(
    registry: Registry, steps: tuple[AggregateStep | SqlStep, ...], first: int, last: int, run_id: str = "fill"
) -> None:
    over = registry.on_overlay(NEXT)
    for step in steps:
        published(over, step, days(first, last), f"{run_id} {step.view}")


def online(registry: Registry) -> dict[str, int]:
    heads = registry.on_overlay(NEXT).ledger.heads(BASE)
    return {BASE: heads[-1].sequence} if heads else {}


@pytest.fixture
def staged(registry: Registry) -> Registry:
    """Both views live for two days, and staged with another meaning."""
    published(registry, aggregate(), days(0, 2), "live")
    published(registry, dependent(), days(0, 2), "live below")
    registry.overlays.stage(NEXT, changed())
    return registry


def test_an_overlay_changes_nothing_for_readers(staged: Registry) -> None:
    before = staged.state()
    fill(staged, changed(), 0, 2)
    assert (staged.version(), staged.view(BASE).generation) == (before.version, 1)
    assert staged.view(BASE).fingerprint == "fp-1"
    assert [first for first, *_ in seen(staged)] == [0]
    over = staged.on_overlay(NEXT)
    assert (over.view(BASE).generation, over.view(BASE).fingerprint) == (2, "fp-1-2")
    assert {view.name: view.generation for view in over.views()} == {BASE: 2, BELOW: 2}


def test_a_flip_needs_every_live_interval_of_every_view(staged: Registry) -> None:
    base, below = changed()
    fill(staged, (base,), 0, 2)
    with pytest.raises(NotComplete) as caught:
        staged.overlays.flip(online(staged))
    assert caught.value.missing == {BELOW: 2}
    assert staged.overlays.lacking(views=[BELOW, "another"]).keys() == {BELOW}
    fill(staged, (below,), 0, 2)
    published(staged, aggregate(), days(2, 3), "published while filling")
    with pytest.raises(NotComplete) as caught:
        staged.overlays.flip(online(staged))
    assert caught.value.missing == {BASE: 1}
    fill(staged, (base,), 2, 3, "late")
    flipped = staged.overlays.flip(online(staged))
    assert [(flip.view, flip.old_generation, flip.new_generation) for flip in flipped] == [(BELOW, 1, 2), (BASE, 1, 2)]
    assert staged.view(BASE).fingerprint == "fp-1-2"
    assert staged.overlays.all() == []
    assert [step.fingerprint for step in staged.versions(BASE)] == ["fp-1-2", "fp-1"]


def test_a_flip_needs_the_newest_publication_online(staged: Registry) -> None:
    fill(staged, changed(), 0, 2)
    with pytest.raises(NotComplete, match=f"the online store has not the newest publication of {BASE} yet"):
        staged.overlays.flip({})


def test_what_was_filled_from_inputs_that_changed_is_not_complete(staged: Registry) -> None:
    from fstore.registry.records import Pin

    base, below = changed()
    fill(staged, (base,), 0, 2)
    over = staged.on_overlay(NEXT)
    (head,) = over.ledger.heads(BASE)
    published(over, below, days(0, 2), "below", pins=[Pin(view=BASE, start=day(0), end=day(2), sequence=head.sequence)])
    fill(staged, (base,), 1, 2, "again")
    assert staged.overlays.lacking()[BELOW].intervals == tuple(days(1, 2))


def test_the_required_intervals_lie_on_the_grid_of_the_new_schedule() -> None:
    from fstore.interval import Schedule
    from fstore.registry.records import Head

    def head(first: float, last: float) -> Head:
        return Head(start=day(0, first), end=day(0, last), sequence=1, attempt=1, published_at=day(9), fingerprint="f")

    hourly = aggregate(schedule=Schedule("0 * * * *"))
    assert required_intervals(hourly, [head(0, 24)]) == hours(24)
    daily = aggregate(schedule=DAILY)
    assert required_intervals(daily, [head(0, 10), head(10, 47)]) == days(0, 1), "the second day is not over"
    assert required_intervals(aggregate(start=day(1)), [head(0, 48)]) == days(1, 2)
    assert required_intervals(aggregate(end=day(1)), [head(0, 48)]) == days(0, 1)


def test_readers_see_all_views_of_a_flip_or_none(staged: Registry, registry_url: str) -> None:
    fill(staged, changed(), 0, 2)

    def watch() -> None:
        with open_registry(registry_url, PROJECT) as own:
            deadline = time.monotonic() + 60
            states = set()
            while ("fp-1-2", "fp-2-2") not in states and time.monotonic() < deadline:
                states.add(tuple(view.fingerprint for view in own.views_at_once([BASE, BELOW])))
            assert states <= {("fp-1", "fp-2"), ("fp-1-2", "fp-2-2")}
            assert ("fp-1-2", "fp-2-2") in states

    def flip() -> None:
        with open_registry(registry_url, PROJECT) as own:
            own.overlays.flip(online(own))

    run_all([watch, watch, flip])


def test_a_flip_that_is_cut_off_changes_nothing_and_can_be_repeated(
    staged: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(staged, changed(), 0, 2)
    database = staged.overlays._database
    writing = database.writing

    class Killed(Exception):
        pass

    @contextmanager
    def cut_off() -> Iterator[Connection]:
        with writing() as connection:
            yield connection
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(database, "writing", cut_off)
        with pytest.raises(Killed):
            staged.overlays.flip(online(staged))
    assert (staged.view(BASE).fingerprint, staged.overlays.flips()) == ("fp-1", [])
    assert len(staged.overlays.flip(online(staged))) == 2


def test_a_rollback_makes_the_earlier_versions_live_again(staged: Registry) -> None:
    staged.overlays.stage(NEXT, changed(), services=[planned_service("churn", f"{BASE}:count_7d")])
    fill(staged, changed(), 0, 2)
    version = staged.overlays.flip(online(staged))[0].version
    assert [str(item) for item in staged.service("churn").references] == [f"{BASE}:count_7d"]
    staged.overlays.roll_back([BASE, BELOW], version)
    assert {view.name: (view.generation, view.fingerprint) for view in staged.views()} == {
        BASE: (1, "fp-1"), BELOW: (1, "fp-2"),
    }  # fmt: skip
    assert [str(item) for item in staged.service("churn").references] == ["profile:regular", f"{BASE}:count_7d"]
    assert staged.version() == version + 1
    with pytest.raises(UnknownFeature, match="nothing of version"):
        staged.overlays.roll_back([BASE], version)


def test_staging_the_same_definition_again_goes_on_where_it_was(staged: Registry) -> None:
    fill(staged, changed(), 0, 1)
    assert [view.generation for view in staged.overlays.stage(NEXT, changed())] == [2, 2]
    assert [view.generation for view in staged.overlays.stage(NEXT, changed("3"))] == [3, 3], "another meaning begins anew"
    adopted = staged.overlays.stage(NEXT, changed())
    assert [(view.generation, view.adopted) for view in adopted] == [(2, True), (2, True)]
    assert staged.overlays.stage(NEXT, []) == []
    assert staged.overlays.all() == []


def test_what_is_filled_counts_for_its_own_definition_only(staged: Registry) -> None:
    """A feature that is added while a generation is filled goes on in it, and needs every interval again."""
    base, below = changed()
    fill(staged, (base,), 0, 2)
    assert staged.overlays.lacking()[BASE].intervals == ()
    added = Feature(name="sum_7d", type="int64", fingerprint="f-sum")
    wider = msgspec.structs.replace(base, fingerprint="fp-1-wider", features=(*base.features, added))
    assert [view.generation for view in staged.overlays.stage(NEXT, [wider, below])] == [2, 2]
    assert staged.overlays.lacking()[BASE].intervals == tuple(days(0, 2))
    fill(staged, (wider,), 0, 1, "wider")
    assert staged.overlays.lacking()[BASE].intervals == tuple(days(1, 2))


def test_an_environment_is_adopted_with_the_same_checks_only(registry: Registry) -> None:
    published(registry, aggregate(), days(0, 2), "live")
    base, _ = changed()
    registry.overlays.stage("dev", [base])
    published(registry.on_overlay("dev"), base, days(0, 2), "dev")
    assert registry.overlays.adoptable(base).intervals == ()
    from fstore.plan.steps import Audit

    strict = msgspec.structs.replace(base, audits=(Audit(label="x", kind="not_null", severity="error"),))
    assert registry.overlays.adoptable(strict) is None
    (view,) = registry.overlays.stage(NEXT, [strict])
    assert (view.generation, view.adopted) == (3, False)
    (view,) = registry.overlays.stage(NEXT, [base], renewed=[BASE])
    assert (view.generation, view.adopted) == (4, False)
    registry.overlays.drop(NEXT)
    (view,) = registry.overlays.stage(NEXT, [base])
    assert (view.generation, view.adopted) == (2, True)
    registry.overlays.flip(online(registry))
    dev = registry.overlays.get("dev")
    assert dev is not None
    assert dev.views == (), "it reads what is live now"


def test_an_environment_publishes_nothing_into_production(registry: Registry) -> None:
    registry.overlays.stage("dev", [changed()[0]])
    dev = registry.on_overlay("dev")
    with pytest.raises(DefinitionChanged, match="view 'profile' is not of environment 'dev'"):
        dev.ledger.begin(dependent(), days(0, 1), "dev")
    with pytest.raises(DefinitionChanged, match="was registered with another definition"):
        registry.ledger.begin(changed()[0], days(0, 1), "live")


def test_a_new_view_takes_over_what_an_environment_filled(registry: Registry) -> None:
    fresh = aggregate("fresh", fingerprint="fp-fresh")
    registry.overlays.stage("dev", [fresh])
    published(registry.on_overlay("dev"), fresh, days(0, 3), "dev")
    registry.register(Plan(project=PROJECT, steps=(fresh,)))
    assert seen(registry, "fresh")[0][:2] == (0, 3)


def test_many_apply_at_once_and_one_of_them_wins(staged: Registry, registry_url: str) -> None:
    def apply(mark: str) -> None:
        with open_registry(registry_url, PROJECT) as own:
            for _ in range(5):
                own.overlays.stage(NEXT, changed(mark))

    run_all([lambda mark=mark: apply(mark) for mark in "abcd"])
    overlay = staged.overlays.get(NEXT)
    assert overlay is not None
    assert len({view.fingerprint[-1] for view in overlay.views}) == 1, "all views are of one apply"
    with pytest.raises(DefinitionChanged):
        staged.overlays.stage(NEXT, changed(), expected=staged.version() - 1)


def test_readers_of_an_environment_notice_that_it_changed(registry: Registry) -> None:
    dev = registry.on_overlay("dev")
    before = dev.version()
    registry.overlays.stage("dev", [changed()[0]])
    assert dev.version() > before
    assert registry.version() == before


def test_a_rollback_keeps_the_services_that_list_on_demand_features(staged: Registry) -> None:
    near = PlannedOnDemand(
        name="near",
        type="float64",
        request=(Column(name="km", type="float64"),),
        features={},
        fingerprint="fp-near",
        module="feature_defs/trips.py",
        line=1,
        sql="km",
    )
    service = planned_service("trips", "profile:regular", "on_demand:near")
    staged.register(Plan(project=PROJECT, steps=(), services=(service,), on_demand=(near,)))
    fill(staged, changed(), 0, 2)
    version = staged.overlays.flip(online(staged))[0].version
    staged.overlays.roll_back([BASE, BELOW], version)
    assert staged.service("trips") == service


def test_two_overlays_share_a_generation_only_while_they_mean_the_same(registry: Registry) -> None:
    published(registry, aggregate(), days(0, 2), "live")
    base, _ = changed()
    more = msgspec.structs.replace(
        base, fingerprint="fp-1-more", features=(*base.features, Feature(name="sum_7d", type="int64", fingerprint="f-sum"))
    )
    registry.overlays.stage(NEXT, [base])
    fill(registry, (base,), 0, 2)
    (view,) = registry.overlays.stage("dev", [base])
    assert (view.generation, view.adopted) == (2, True)
    (view,) = registry.overlays.stage(NEXT, [more])
    assert view.generation == 3, "the environment publishes rows without the new column into generation 2"
    (view,) = registry.overlays.stage("dev", [base])
    assert view.generation == 2


def test_a_staged_definition_of_other_types_begins_anew(staged: Registry) -> None:
    base, below = changed()
    wider = msgspec.structs.replace(base, features=(msgspec.structs.replace(base.features[0], type="float64"),))
    fill(staged, (base,), 0, 1)
    assert [view.generation for view in staged.overlays.stage(NEXT, [wider, below])] == [3, 2]


def test_two_tasks_stage_their_views_in_an_environment_at_once(registry: Registry) -> None:
    base, below = changed()
    registry.overlays.stage("dev", [base], among=[BASE])
    registry.overlays.stage("dev", [below], among=[BELOW])
    dev = registry.overlays.get("dev")
    assert dev is not None
    assert [view.name for view in dev.views] == [BELOW, BASE]
    registry.overlays.stage("dev", [], among=[BASE])
    dev = registry.overlays.get("dev")
    assert dev is not None
    assert [view.name for view in dev.views] == [BELOW]


def test_an_environment_leaves_what_a_rollback_would_bring_back_as_it_is(staged: Registry) -> None:
    fill(staged, changed(), 0, 2)
    version = staged.overlays.flip(online(staged))[0].version
    (view,) = staged.overlays.stage("dev", [aggregate()])
    assert (view.generation, view.adopted) == (1, True)
    more = aggregate(
        fingerprint="fp-1-more", features=(*aggregate().features, Feature(name="s", type="int64", fingerprint="f-s"))
    )
    (view,) = staged.overlays.stage("dev", [more])
    assert view.generation == 3
    staged.overlays.roll_back([BASE, BELOW], version)
    assert staged.view(BASE).generation == 1
