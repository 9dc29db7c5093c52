"""Resolving feature services: from references to full feature names.

Takes the services and the planned steps, and gives for each service the features that it reads, in order and each once. A
reference that names nothing, or a view that could not be planned, is reported, and its service is left out.
"""

from __future__ import annotations

from collections.abc import Mapping

from fstore.definitions.feature_view import View, feature_names
from fstore.definitions.problems import Reporter
from fstore.definitions.project import FeatureName, Project, Service
from fstore.plan.steps import PlannedService, Step


def resolve_service(
    service: Service, project: Project, steps: Mapping[str, Step], report: Reporter
) -> PlannedService | None:
    """Return a service with its references resolved; None when one of them has a problem."""
    before = len(report.problems)
    features: dict[str, None] = {}
    for name in dict.fromkeys(reference.view for reference in service.features):
        if name not in steps:
            report_blocked(name, project, report)
    for reference in service.features:
        if reference.view in steps:
            names = _resolve(reference, project.views[reference.view], steps[reference.view], report)
            features.update(dict.fromkeys(f"{reference.view}:{name}" for name in names))
    if len(report.problems) > before:
        return None
    return PlannedService(name=service.name, features=tuple(features), owner=service.owner,
                          description=service.description, tags=service.tags)  # fmt: skip


def report_blocked(name: str, project: Project, report: Reporter) -> None:
    """Report a view that is referred to and has no step."""
    place = project.views[name].location if name in project.views else project.broken.get(name)
    if place is None:
        report.unknown("reads feature view", name, sorted(project.views), "the project's")
    else:
        report.add(f"is blocked by {place}: feature view {name!r} has a problem.", "Solve that one first.")


def _resolve(reference: FeatureName, view: View, step: Step, report: Reporter) -> list[str]:
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
