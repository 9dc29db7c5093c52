"""Checks of feature services, which are values already when they are declared.

Takes a service as its author made it, with any values in its fields, and gives it with its references by name, or the
problems with it.
"""

from __future__ import annotations

from collections.abc import Sequence

from fstore.definitions.feature_references import read_listed, referred_view
from fstore.definitions.feature_service import FeatureService
from fstore.definitions.feature_view import FeatureView
from fstore.definitions.location import Location
from fstore.definitions.on_demand import OnDemand
from fstore.definitions.problems import Reporter
from fstore.definitions.project import FeatureName, Problem, Service
from fstore.definitions.validation import kind_of, read_name, read_optional_text, read_tags


def collect_service(service: FeatureService) -> tuple[Service | None, list[Problem]]:
    """Return a service with its references by name, or what is wrong with it."""
    report = Reporter([], f"feature service {service.name!r}", service.location)
    read_name(report, "name", service.name)
    owner = read_optional_text(report, "owner", service.owner)
    description = read_optional_text(report, "description", service.description)
    tags = read_tags(report, service.tags)
    names = _service_features(report, service.features)
    if report.problems:
        return None, report.problems
    location = service.location or Location("", 0)
    return (
        Service(
            name=service.name, features=tuple(names), location=location, owner=owner, description=description, tags=tags
        ),
        [],
    )


def service_views(service: FeatureService) -> list[type[FeatureView] | OnDemand]:
    """Return the classes of the views, and the on-demand features, that a service refers to, in order."""
    items: object = service.features
    found: list[type[FeatureView] | OnDemand] = []
    for item in items if isinstance(items, Sequence) else ():
        view = referred_view(item)
        if view is not None:
            found.append(view)
        elif isinstance(item, OnDemand):
            found.append(item)
    return found


def _service_features(report: Reporter, features: object) -> list[FeatureName]:
    if not isinstance(features, list | tuple) or not features:
        got = "an empty one" if isinstance(features, list | tuple) else kind_of(features)
        report.add(f'has wrong features: expected a list such as [Orders.amount["7d"]], got {got}.')
        return []
    names: list[FeatureName] = []
    for item in features:
        name = read_listed(report, item)
        if name is not None and name in names:
            report.add(f"lists {item.__name__ if isinstance(item, type) else repr(item)} twice.", "Remove one.")
        elif name is not None:
            names.append(name)
    return names
