"""What there is to read: the routes that list services and features, as the registry has them."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from fstore.backends import Backends
from fstore.plan.steps import PlannedOnDemand
from fstore.registry.records import RegisteredView
from fstore.registry.registry import Registry
from fstore.serving.exchange import Answer
from fstore.serving.media import JSON_TYPE
from fstore.types import Column


class ServiceDescription(msgspec.Struct, frozen=True, kw_only=True):
    """A feature service; ``features`` are references, in order."""

    name: str
    features: list[str]
    owner: str
    description: str
    tags: dict[str, str]


class FeatureDescription(msgspec.Struct, frozen=True, kw_only=True):
    """A feature: its reference, type (None: not known yet), what a reader brings, and whether it is kept online.

    ``keys`` are the join keys of its view; ``request`` the request values of an on-demand feature, whose view is empty.
    """

    name: str
    type: str | None
    view: str
    description: str
    keys: list[Column]
    request: list[Column]
    online: bool
    pii: bool


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """Every feature service, by name."""

    services: list[ServiceDescription]


class Features(msgspec.Struct, frozen=True, kw_only=True):
    """Every feature that is live, by view; then those computed on demand."""

    features: list[FeatureDescription]


def list_services(registry: Registry) -> Services:
    """Return all services."""
    return Services(
        services=[
            ServiceDescription(
                name=service.name, features=[str(reference) for reference in service.references], owner=service.owner,
                description=service.description, tags=service.tags,
            )
            for service in sorted(registry.services(), key=lambda service: service.name)
        ]
    )  # fmt: skip


def list_features(registry: Registry) -> Features:
    """Return all features."""
    views = sorted(registry.views(), key=lambda view: view.name)
    listed = [described for view in views for described in _of_view(view)]
    on_demand = sorted(registry.on_demand_features(), key=lambda feature: feature.name)
    return Features(features=[*listed, *(_on_demand(feature) for feature in on_demand)])


def listing_answer(read: Callable[[Registry], msgspec.Struct], backends: Backends) -> Answer:
    """Return what a listing gives as an answer."""
    return Answer(body=[msgspec.json.encode(read(backends.registry))], content_type=JSON_TYPE)


def _of_view(view: RegisteredView) -> list[FeatureDescription]:
    return [
        FeatureDescription(
            name=f"{view.name}:{feature.name}", type=feature.type, view=view.name, description=feature.description,
            keys=list(view.step.keys), request=[], online=view.step.online, pii=feature.pii,
        )
        for feature in view.step.features
    ]  # fmt: skip


def _on_demand(feature: PlannedOnDemand) -> FeatureDescription:
    return FeatureDescription(
        name=f"on_demand:{feature.name}", type=feature.type, view="", description=feature.description, keys=[],
        request=list(feature.request), online=True, pii=feature.pii,
    )  # fmt: skip
