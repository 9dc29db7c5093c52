"""What changes between the services, and the on-demand features, of two plans."""

from __future__ import annotations

import msgspec

from fstore.definitions.references import ResolvedFeature
from fstore.plan.service_diff import diff_on_demand, diff_services
from fstore.plan.steps import PlannedOnDemand, PlannedService


def service(name: str, *features: str, alias: str | None = None, owner: str = "") -> PlannedService:
    references = tuple(
        ResolvedFeature(view=view, feature=feature, alias=alias) for view, feature in (text.split(":") for text in features)
    )
    return PlannedService(name=name, references=references, owner=owner)


CHURN = service("churn", "orders:n_7d", "orders:trend")
NEAR = PlannedOnDemand(
    name="near", type="bool", request=(), features={}, fingerprint="1", module="feature_defs/shop.py", line=3, sql="TRUE"
)


def test_services_are_added_changed_and_removed() -> None:
    assert diff_services([CHURN], [CHURN]) == ()
    now = [service("churn", "orders:n_7d", "users:age", owner="growth"), service("fraud", "orders:n_7d")]
    assert [change.describe() for change in diff_services([CHURN, service("old")], now)] == [
        "~ service churn: added: users:age; removed: orders:trend; owner changed",
        "+ service fraud: 1 feature",
        "- service old",
    ]


def test_the_order_and_the_aliases_of_a_service_count() -> None:
    for other in (service("churn", "orders:trend", "orders:n_7d"), service("churn", *CHURN.features, alias="buyer")):
        (change,) = diff_services([CHURN], [other])
        assert change.describe() == "~ service churn: order or aliases of features changed"


def test_on_demand_features_change_with_what_they_give_and_not_with_their_place() -> None:
    assert diff_on_demand([NEAR], [msgspec.structs.replace(NEAR, line=30, module="feature_defs/other.py")]) == ()
    other = msgspec.structs.replace(NEAR, fingerprint="2", type="int64", description="How near.")
    assert [change.describe() for change in diff_on_demand([NEAR], [other])] == [
        "~ on-demand feature near: redefined; type: bool to int64; described anew"
    ]
    assert [change.describe() for change in diff_on_demand([], [NEAR])] == ["+ on-demand feature near"]
    assert [change.describe() for change in diff_on_demand([NEAR], [])] == ["- on-demand feature near"]
