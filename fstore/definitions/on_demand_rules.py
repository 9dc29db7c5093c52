"""Checks of on-demand features, which are values already when they are declared.

Takes a feature as its author made it, with any values in its fields, and gives it with its references by name, or the
problems with it. SQL is not parsed here: the compiler does that.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import FunctionType

from fstore.definitions.feature_references import read_reference, referred_view
from fstore.definitions.feature_view import FeatureView
from fstore.definitions.functions import read_function
from fstore.definitions.location import Location
from fstore.definitions.on_demand import OnDemand, OnDemandFeature
from fstore.definitions.problems import Reporter
from fstore.definitions.project import Problem
from fstore.definitions.references import FeatureName
from fstore.definitions.validation import (
    kind_of,
    read_column,
    read_flag,
    read_name,
    read_optional_text,
    read_text,
    read_type,
)


def collect_on_demand(item: OnDemand) -> tuple[OnDemandFeature | None, list[Problem]]:
    """Return an on-demand feature with its references by name, or what is wrong with it."""
    report = Reporter([], f"on-demand feature {item.name!r}", item.location)
    read_name(report, "name", item.name)
    description = read_optional_text(report, "description", item.description)
    pii = read_flag(report, "pii", item.pii)
    request = _read_request(report, item.request)
    features = _read_features(report, item.features, request)
    declared: object = item.type
    if declared is not None:
        read_type(report, "type", declared)
    sql, function = None, None
    if isinstance(item.how, FunctionType):
        if declared is None:
            report.add("is computed by a Python function and has no type.", 'Say what it returns: type="float64".')
        function = read_function(report, item.how, [*request, *features], at=item.location, columns=True)
    else:
        sql = read_text(report, "expression", item.how, example='"lat - home_lat", or a function')
    if not item.request and not item.features:
        report.add("is computed from nothing.", 'Give it request={"lat": "float64"}, or features such as lat=UserHome.lat.')
    if report.problems:
        return None, report.problems
    location = item.location or Location("", 0)
    return (
        OnDemandFeature(
            name=item.name, location=location, sql=sql, function=function, request=request, type=item.type,
            features=features, description=description, pii=pii,
        ),
        [],
    )  # fmt: skip


def on_demand_views(item: OnDemand) -> list[type[FeatureView]]:
    """Return the classes of the views that an on-demand feature reads, in order."""
    features: object = item.features
    values = features.values() if isinstance(features, Mapping) else ()
    return [view for value in values if (view := referred_view(value)) is not None]


def _read_request(report: Reporter, request: object) -> dict[str, str]:
    if not isinstance(request, Mapping):
        report.add(f'has a wrong request: expected a mapping such as {{"lat": "float64"}}, got {kind_of(request)}.')
        return {}
    found: dict[str, str] = {}
    for name, type_text in request.items():
        if read_column(report, "request value", name) is None:
            continue
        parsed = read_type(report, f"type of request value {name!r}", type_text)
        if name.lower() in {known.lower() for known in found}:
            report.add(f"has two request values called {name!r} (case does not count).", "Rename one.")
        if parsed is not None:
            found[name] = str(parsed)
    return found


def _read_features(report: Reporter, features: Mapping[str, object], request: Mapping[str, str]) -> dict[str, FeatureName]:
    taken = {name.lower() for name in request}
    found: dict[str, FeatureName] = {}
    for name, value in features.items():
        if name.lower() in taken:
            report.add(f"has two inputs called {name!r} (case does not count).", "Rename one.")
        taken.add(name.lower())
        reference = read_reference(report, f"binds {name!r} to", value)
        if reference is not None:
            found[name] = reference
    return found
