"""Resolving feature services: from references to full feature names.

Takes the services and the planned steps, and gives for each service the features that it reads, in order and each once. A
reference that names nothing, or a view that could not be planned, is reported, and its service is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fstore.definitions.feature_view import View, feature_names
from fstore.definitions.problems import Reporter
from fstore.definitions.project import FeatureName, Project, Service
from fstore.definitions.references import ON_DEMAND, ResolvedFeature
from fstore.errors import did_you_mean, listing
from fstore.plan.steps import PlannedOnDemand, PlannedService, Step


def resolve_service(
    service: Service, project: Project, steps: Mapping[str, Step], on_demand: Mapping[str, PlannedOnDemand], report: Reporter
) -> PlannedService | None:
    """Return a service with its references resolved; None when one of them has a problem."""
    before = len(report.problems)
    features: dict[str, ResolvedFeature] = {}
    for name in dict.fromkeys(reference.view for reference in service.features if reference.view):
        if name not in steps:
            report_blocked(name, project, report)
    for reference in service.features:
        found: list[ResolvedFeature] = []
        if not reference.view:
            found = _resolve_on_demand(reference, project, on_demand, report)
        elif reference.view in steps:
            found = resolve_feature(reference, project.views[reference.view], steps[reference.view], report)
        features.update((str(item), item) for item in found)
    _refuse_clashes(list(features.values()), report)
    if len(report.problems) > before:
        return None
    return PlannedService(name=service.name, references=tuple(features.values()), owner=service.owner,
                          description=service.description, tags=service.tags)  # fmt: skip


def _refuse_clashes(features: Sequence[ResolvedFeature], report: Reporter) -> None:
    """Report columns under an alias that something else has: no way of naming columns tells these apart."""
    owners: dict[str, ResolvedFeature] = {}
    for item in features:
        column = item.column(full_names=True)
        if column in owners and (item.alias or owners[column].alias):
            report.add(f"lists '{owners[column]}' and '{item}', which are both named {column!r}.", "Use another alias.")
        owners.setdefault(column, item)


def _resolve_on_demand(
    reference: FeatureName, project: Project, planned: Mapping[str, PlannedOnDemand], report: Reporter
) -> list[ResolvedFeature]:
    name = reference.attribute or ""
    if name in planned:
        return [ResolvedFeature(view=ON_DEMAND, feature=name)]
    declared = project.on_demand.get(name)
    if declared is None:
        report.unknown("lists on-demand feature", name, sorted(project.on_demand), "the project's")
    else:
        report.add(f"is blocked by {declared.location}: on-demand feature {name!r} has a problem.", "Solve that one first.")
    return []


def report_blocked(name: str, project: Project, report: Reporter) -> None:
    """Report a view that is referred to and has no step."""
    place = project.views[name].location if name in project.views else project.broken.get(name)
    if place is None:
        report.unknown("reads feature view", name, sorted(project.views), "the project's")
    else:
        report.add(f"is blocked by {place}: feature view {name!r} has a problem.", "Solve that one first.")


def resolve_feature(reference: FeatureName, view: View, step: Step, report: Reporter) -> list[ResolvedFeature]:
    """Return the features that a reference to a view with a step means; reports what the view does not have."""
    keys = [key.name for key in step.keys]
    if unknown := [key for key in reference.join_keys if key not in keys]:
        report.add(f"joins feature view {view.name!r} by key {unknown[0]!r}, which is none of its keys: {listing(keys)}.",
                   did_you_mean(unknown[0], keys))  # fmt: skip
        return []
    return [
        ResolvedFeature(view=view.name, feature=name, alias=reference.alias, join_keys=reference.join_keys)
        for name in _names(reference, view, step, report)
    ]


def _names(reference: FeatureName, view: View, step: Step, report: Reporter) -> list[str]:
    """Return the short names of the features that a reference means."""
    if reference.attribute is None:
        return [feature.name for feature in step.features]
    member = view.members.get(reference.attribute)
    if member is None:
        report.unknown(f"reads of feature view {view.name!r}", reference.attribute, view.members, "its features")
        return []
    names = feature_names(reference.attribute, member)
    if reference.window is None:
        return list(names.values())
    if reference.window not in names:
        windows = [window for window in names if window is not None]
        report.unknown(f"reads of '{view.name}:{reference.attribute}' the window", reference.window, windows, "its windows")
        return []
    return [names[reference.window]]
