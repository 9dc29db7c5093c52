from __future__ import annotations

import msgspec
import pytest

from fstore.definitions.location import Location
from fstore.errors import StoreMismatch, UnknownFeature
from fstore.plan.steps import Plan, PlannedEntity
from fstore.registry.records import Change
from fstore.registry.registry import Registry, create_registry, open_registry
from fstore.types import Column
from tests.registry.examples import (
    PROJECT,
    PURCHASES,
    USER,
    aggregate,
    day,
    days,
    dependent,
    example_plan,
    planned_service,
    published,
    seen,
)


def test_registering_gives_back_what_was_declared(registry_url: str) -> None:
    with open_registry(registry_url, PROJECT) as registry:
        registration = registry.register(example_plan())
        assert registration.version == 1
        assert registration.changes == (
            Change("entity", "user", "added"),
            Change("view", "purchases_of_user", "added"),
            Change("view", "profile", "added"),
            Change("service", "churn", "added"),
        )
        view = registry.view("purchases_of_user")
        assert (view.step, view.generation, view.fingerprint, view.version) == (aggregate(), 1, "fp-1", 1)
        assert [view.name for view in registry.views()] == ["profile", "purchases_of_user"]
        assert registry.entities() == [USER]
        assert registry.services() == [registry.service("churn")] == list(example_plan().services)


def test_registering_the_same_again_changes_nothing(registry: Registry) -> None:
    before = (registry.state(), registry.views(), registry.services())
    registration = registry.register(example_plan())
    assert (registration.version, registration.changes) == (1, ())
    assert (registry.state(), registry.views(), registry.services()) == before


def test_code_that_merely_moved_is_no_new_version(registry: Registry) -> None:
    source = msgspec.structs.replace(PURCHASES, location=Location("a.py", 99))
    moved = aggregate(line=77, inputs=(msgspec.structs.replace(aggregate().inputs[0], source=source),))
    assert registry.register(example_plan(steps=(moved, dependent()))).changes == ()
    assert registry.version() == 1
    assert registry.view("purchases_of_user").step == moved


def test_a_change_makes_a_version_and_keeps_the_earlier_ones(registry: Registry) -> None:
    changed = aggregate(fingerprint="fp-9", owner="fraud")
    registration = registry.register(Plan(project=PROJECT, steps=(changed,)))
    assert (registration.version, registration.changes) == (2, (Change("view", "purchases_of_user", "changed"),))
    assert registry.view("purchases_of_user").step == changed
    assert registry.view("purchases_of_user").version == 2
    assert registry.versions("purchases_of_user") == [changed, aggregate()]
    assert registry.versions("never") == []
    assert registry.view("profile").version == 1, "what a plan leaves out stays"
    assert [service.name for service in registry.services()] == ["churn"]


def test_entities_and_services_change_too(registry: Registry) -> None:
    user = PlannedEntity(name="user", keys=(*USER.keys, Column(name="shop_id", type="int32")))
    churn = msgspec.structs.replace(planned_service("churn", "profile:regular"), tags={"tier": "1"})
    registration = registry.register(example_plan(entities=(user,), services=(churn,)))
    assert registration.changes == (Change("entity", "user", "changed"), Change("service", "churn", "changed"))
    assert registry.entities() == [user]
    assert registry.service("churn") == churn


def test_a_retired_view_is_unknown_but_its_log_stays(registry: Registry) -> None:
    published(registry, aggregate(), days(0, 2), "run")
    assert registry.retire("purchases_of_user").changes == (Change("view", "purchases_of_user", "retired"),)
    assert registry.version() == 2
    assert registry.is_retired("purchases_of_user")
    assert not registry.is_retired("profile")
    assert not registry.is_retired("never")
    assert [view.name for view in registry.views()] == ["profile"]
    assert seen(registry) == [(0, 2, 1)]
    with pytest.raises(UnknownFeature) as gone:
        registry.view("purchases_of_user")
    assert str(gone.value) == "view 'purchases_of_user' of project 'shop' was removed from the definitions"
    with pytest.raises(UnknownFeature):
        registry.retire("purchases_of_user")
    assert registry.version() == 2


def test_a_view_that_returns_is_live_again(registry: Registry) -> None:
    registry.retire("profile")
    assert registry.register(example_plan()).changes == (Change("view", "profile", "added"),)
    assert registry.view("profile").step == dependent()


def test_a_retired_service_is_gone(registry: Registry) -> None:
    assert registry.retire_service("churn").changes == (Change("service", "churn", "retired"),)
    assert registry.services() == []
    with pytest.raises(UnknownFeature):
        registry.retire_service("churn")


def test_a_rebuilt_view_begins_an_empty_generation(registry: Registry) -> None:
    published(registry, aggregate(), days(0, 3), "run")
    again = registry.register(example_plan(), rebuild=["purchases_of_user"])
    assert again.changes == (Change("view", "purchases_of_user", "changed"),)
    assert registry.view("purchases_of_user").generation == 2
    assert seen(registry) == []
    assert seen(registry, generation=1) == [(0, 3, 1)]
    assert registry.ledger.begin(aggregate(), days(0, 1), "next").generation == 2
    assert registry.register(example_plan()).changes == (), "a generation is begun once"


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda r: r.view("purchases_of_users"),
         "no view 'purchases_of_users' in registry {}. Did you mean 'purchases_of_user'?"),
        (lambda r: r.service("chrun"), "no feature service 'chrun' in registry {}. Did you mean 'churn'?"),
        (lambda r: r.ledger.heads("zzz"), "no view 'zzz' in registry {}."),
        (lambda r: r.ledger.begin(aggregate("zzz"), days(0, 1), "run"), "no view 'zzz' in registry {}."),
    ],
)  # fmt: skip
def test_unknown_names_suggest_the_closest(registry: Registry, ask: object, message: str) -> None:
    with pytest.raises(UnknownFeature) as unknown:
        ask(registry)  # type: ignore[operator]
    new = " If it is new, `fstore apply` records it."
    assert str(unknown.value) == "project 'shop' has " + message.format(registry.url) + new


def test_an_empty_registry_says_how_to_fill_it(registry_url: str) -> None:
    with open_registry(registry_url, PROJECT) as registry, pytest.raises(UnknownFeature) as unknown:
        registry.view("a")
    assert str(unknown.value).endswith(" It has none yet: run `fstore apply`.")


def test_projects_of_one_registry_do_not_meet(registry: Registry, registry_url: str) -> None:
    published(registry, aggregate(), days(0, 2), "run")
    with create_registry(registry_url, "other") as other:
        assert other.views() == []
        assert other.state().sequence == 0
        other.register(example_plan())
        assert seen(other) == []
        assert published(other, aggregate(), days(0, 1), "run").sequence == 1
        assert [entry.payload.sequence for entry in other.outbox.pending()] == [1]
        assert other.ledger.files([1]) == {}
    assert seen(registry) == [(0, 2, 1)]
    assert len(registry.ledger.history()) == 1


def test_source_schemas_are_kept_in_order(registry: Registry) -> None:
    assert registry.source_schemas() == {}
    registry.record_source_schemas({"purchases": {"user_id": "string", "amount": "float64"}, "users": {"id": "int64"}})
    registry.record_source_schemas({"purchases": {"amount": "float64", "user_id": "string"}})
    assert {name: list(columns) for name, columns in registry.source_schemas().items()} == {
        "purchases": ["amount", "user_id"],
        "users": ["id"],
    }
    assert registry.version() == 1


def test_a_store_is_recorded_once(registry: Registry) -> None:
    assert registry.store_id("online") is None
    registry.record_store("online", "redis://fs:secret@cache:6379/0", "id-1")
    registry.record_store("online", "redis://fs:secret@cache-2:6379/0", "id-1")
    assert registry.store_id("online") == "id-1"
    assert [store.url for store in registry.stores()] == ["redis://fs:***@cache-2:6379/0"]
    with pytest.raises(StoreMismatch) as mismatch:
        registry.record_store("online", "lmdb:/var/other", "id-2")
    assert str(mismatch.value) == (
        "project 'shop' has its online store id-1 at redis://fs:***@cache-2:6379/0, and lmdb:/var/other is another one "
        "(id-2). Set the URL back, or use a project of another name."
    )


def test_the_state_tells_whether_anything_is_new(registry: Registry) -> None:
    before = registry.state()
    assert (before.version, before.sequence, before.published_at) == (1, 0, None)
    published(registry, aggregate(), days(0, 1), "run")
    after = registry.state()
    assert (after.version, after.sequence, after.incarnation) == (1, 1, before.incarnation)
    assert after.published_at is not None
    assert after.published_at > before.created_at > day(0)
