"""Resolving feature services: from references to full feature names.

Takes the services and the planned steps, and gives for each service the features that it reads, in order and each once. A
reference that names nothing, or a view that could not be planned, is reported, and its service is left out.
"""

from __future__ import annotations

from collections.abc import Mapping

from fstore.definitions.feature_view import View, feature_names
from fstore.definitions.location import Location
from fstore.definitions.project import FeatureName, Project, Service
from fstore.errors import did_you_mean, listing
from fstore.plan.problems import Reporter
from fstore.plan.steps import PlannedService, Step


def resolve_service(
    service: Service, project: Project, steps: Mapping[str, Step], report: Reporter
) -> PlannedService | None:
    """Return a service with its references resolved; None when one of them has a problem."""
    before = len(report.problems)
    features: dict[str, None] = {}
    for reference in service.features:
        view = project.views.get(reference.view)
        if view is None or reference.view not in steps:
            _report_missing(reference.view, project, report)
            continue
        for name in _resolve(reference, view, steps[reference.view], report):
            features[f"{reference.view}:{name}"] = None
    if not service.features:
        report.add("lists no features.", "Add features=[…].")
    if len(report.problems) > before:
        return None
    return PlannedService(name=service.name, features=tuple(features), owner=service.owner,
                          description=service.description, tags=service.tags)  # fmt: skip


def _report_missing(name: str, project: Project, report: Reporter) -> None:
    place = blocking_place(name, project)
    if place is None:
        report.unknown("reads feature view", name, sorted(project.views), "the project's")
    else:
        report.add(f"is blocked by {place.file}: feature view {name!r} has a problem.")


def blocking_place(name: str, project: Project) -> Location | None:
    """Return where a view that could not be planned was declared; None for one that does not exist."""
    if name in project.views:
        return project.views[name].location
    return project.broken.get(name)


def _resolve(reference: FeatureName, view: View, step: Step, report: Reporter) -> list[str]:
    """Return the short names of the features that a reference means."""
    every = [feature.name for feature in step.features]
    if reference.attribute is None:
        return every
    member = view.members.get(reference.attribute)
    if member is None:
        report.add(f"reads {reference.attribute!r} of feature view {view.name!r}, which has {listing(view.members)}.",
                   did_you_mean(reference.attribute, view.members))  # fmt: skip
        return []
    names = feature_names(reference.attribute, member)
    if reference.window is None:
        return [name for name in names.values() if name in every]
    if reference.window not in names:
        windows = [window for window in names if window is not None]
        report.add(
            f"reads window {reference.window!r} of '{view.name}:{reference.attribute}', which has {listing(windows)}.",
            did_you_mean(reference.window, windows),
        )
        return []
    return [names[reference.window]]
