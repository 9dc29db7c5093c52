"""On-demand features in the registry."""

from __future__ import annotations

import msgspec
import pytest

from fstore.definitions.references import ResolvedFeature
from fstore.errors import UnknownFeature
from fstore.plan.steps import PlannedOnDemand
from fstore.registry.records import Change
from fstore.registry.registry import Registry
from fstore.types import Column
from tests.registry.examples import example_plan

DISTANCE = PlannedOnDemand(
    name="distance", type="float64", request=(Column(name="lat", type="float64"),), fingerprint="f-1",
    features={"home": ResolvedFeature(view="profile", feature="regular", alias="x", join_keys={"user_id": "id"})},
    module="feature_defs/shop.py", line=9, sql='CAST(("a") AS DOUBLE)', description="Far.",
)  # fmt: skip


def test_it_is_kept_whole_changed_and_retired(registry: Registry) -> None:
    registered = registry.register(example_plan(on_demand=(DISTANCE,)))
    assert Change("on_demand", "distance", "added") in registered.changes
    assert registry.on_demand("distance") == DISTANCE
    assert registry.register(example_plan(on_demand=(DISTANCE,))).changes == ()
    moved = msgspec.structs.replace(DISTANCE, fingerprint="f-2", sql="1")
    assert registry.register(example_plan(on_demand=(moved,))).changes == (Change("on_demand", "distance", "changed"),)
    assert registry.on_demand_features() == [moved]
    version = registry.version()
    assert registry.retire_on_demand("distance").version == version + 1
    assert registry.on_demand_features() == []


def test_one_whose_type_is_not_known_waits(registry: Registry) -> None:
    untyped = msgspec.structs.replace(DISTANCE, type=None)
    registry.register(example_plan(on_demand=(untyped,)))
    assert registry.on_demand_features() == []


def test_an_unknown_one_is_named(registry: Registry) -> None:
    registry.register(example_plan(on_demand=(DISTANCE,)))
    with pytest.raises(UnknownFeature, match=r"has no on-demand feature 'distanse' in registry .* Did you mean 'distance'"):
        registry.on_demand("distanse")
    with pytest.raises(UnknownFeature, match="has no on-demand feature 'other'"):
        registry.retire_on_demand("other")


def test_an_environment_has_its_own(registry: Registry) -> None:
    registry.register(example_plan(on_demand=(DISTANCE,)))
    mine = msgspec.structs.replace(DISTANCE, sql="1", fingerprint="f-2")
    environment = registry.on_overlay("dev")
    environment.overlays.stage("dev", [], on_demand=[mine])
    assert environment.on_demand("distance") == mine
    assert registry.on_demand("distance") == DISTANCE
    environment.overlays.stage("dev", [])
    assert environment.on_demand("distance") == DISTANCE
