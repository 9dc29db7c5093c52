"""What changes from one plan to another.

Takes the steps that are registered and those that the definitions give now, and says view by view whether nothing has to be
recomputed (*metadata*: descriptions, ttl, lag, checks, start and end, …), whether columns were only added (*additive*), or
whether values that exist mean something else or are gone (*breaking*: another schedule, zone, key, source or meaning of a
column, or a column removed). A breaking change that leaves some value with another meaning *renews* the view: it calls for
a new generation; one that only removes columns does not. Says who is touched: features, views downstream, services and
their owners, DAGs that others replace. Decides nothing: ``apply`` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from fstore.interval import format_instant
from fstore.plan.service_diff import ReadingChange
from fstore.plan.steps import EventInput, Feature, PlannedService, Step

ChangeKind = Literal["metadata", "additive", "breaking"]

_METADATA = ("entity", "lag", "ttl", "online", "pipeline", "audits", "description", "owner", "tags")
"""Fields of a step whose change leaves every value as it is; so do ``start`` and ``end``, which choose intervals."""


class Consumer(msgspec.Struct, frozen=True, kw_only=True):
    """Who reads features that a change touches: a feature service with its owner, and which ones it reads."""

    service: str
    owner: str
    features: tuple[str, ...]


class ReplacedDag(msgspec.Struct, frozen=True, kw_only=True):
    """A DAG that is gone, the views that it ran, and the DAGs that run them now (none: nothing does)."""

    dag: str
    views: tuple[str, ...]
    replaced_by: tuple[str, ...]


class AddedView(msgspec.Struct, frozen=True, kw_only=True):
    """A view that is new, with the names of its features."""

    view: str
    features: tuple[str, ...]


class RemovedView(msgspec.Struct, frozen=True, kw_only=True):
    """A view that is gone, with the names of its features, of the views that were derived from it, and who reads it."""

    view: str
    features: tuple[str, ...]
    downstream: tuple[str, ...]
    consumers: tuple[Consumer, ...] = ()


class ChangedView(msgspec.Struct, frozen=True, kw_only=True):
    """A view that is not what it was.

    ``reasons`` says what changed, in words. ``added``, ``removed`` and ``redefined`` are names of features;
    ``downstream`` names the views that are derived from it now, ``consumers`` who reads what was removed or redefined.
    ``renews`` says whether values that are published mean something else, so that a new generation is needed.
    """

    view: str
    kind: ChangeKind
    reasons: tuple[str, ...]
    renews: bool = False
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    redefined: tuple[str, ...] = ()
    downstream: tuple[str, ...] = ()
    consumers: tuple[Consumer, ...] = ()


class PlanDiff(msgspec.Struct, frozen=True, kw_only=True):
    """The views that were added, changed and removed, the DAGs that are gone, and how what reads features changes.

    Each is sorted by name. ``readings`` are feature services and on-demand features.
    """

    added: tuple[AddedView, ...] = ()
    changed: tuple[ChangedView, ...] = ()
    removed: tuple[RemovedView, ...] = ()
    dags: tuple[ReplacedDag, ...] = ()
    readings: tuple[ReadingChange, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether both plans are the same."""
        return not (self.added or self.changed or self.removed or self.dags or self.readings)

    def describe(self) -> list[str]:
        """Return a line for every view, service and on-demand feature: ``+`` added, ``~`` changed, ``-`` removed."""
        added = [f"+ {item.view}: {_counted(item.features)}" for item in self.added]
        changed = [
            f"~ {item.view} ({item.kind}): {'; '.join(item.reasons)}{_derived(item.downstream, item.kind)}"
            f"{_read_by(item.consumers)}"
            for item in self.changed
        ]
        removed = [
            f"- {item.view}: {_counted(item.features)}{_derived(item.downstream, 'removed')}{_read_by(item.consumers)}"
            for item in self.removed
        ]
        readings = [item.describe() for item in self.readings]
        return [*added, *changed, *removed, *map(_replaced, self.dags), *readings]


def _counted(features: Sequence[str]) -> str:
    return f"{len(features)} feature{'' if len(features) == 1 else 's'} ({', '.join(features)})"


def _derived(downstream: Sequence[str], kind: str) -> str:
    """Name the views derived from one whose values change or vanish."""
    return f"; {', '.join(downstream)} derived from it" if downstream and kind in ("breaking", "removed") else ""


def _read_by(consumers: Sequence[Consumer]) -> str:
    shown = [f"{item.service} ({item.owner})" if item.owner else item.service for item in consumers]
    return f"; read by service{'' if len(shown) == 1 else 's'} {', '.join(shown)}" if shown else ""


def _replaced(item: ReplacedDag) -> str:
    if not item.replaced_by:
        return f"- DAG {item.dag}: it ran {', '.join(item.views)}"
    return f"~ DAG {item.dag} is replaced by {', '.join(item.replaced_by)}: {', '.join(item.views)}"


def diff_plans(old: Sequence[Step], new: Sequence[Step], services: Sequence[PlannedService] = ()) -> PlanDiff:
    """Return what changes from the old steps to the new ones; ``services`` are those that read the old features."""
    before, after = {step.view: step for step in old}, {step.view: step for step in new}
    names = sorted({*before, *after})
    readers, former = _readers(new), _readers(old)
    reading = _reading(services)
    changed: list[ChangedView] = []
    for name in names:
        change = compare_steps(before[name], after[name]) if name in before and name in after else None
        if change is not None:
            touched = (*change.removed, *change.redefined)
            changed.append(
                msgspec.structs.replace(
                    change, downstream=_reachable(name, readers), consumers=_consumers(name, touched, reading)
                )
            )
    return PlanDiff(
        added=tuple(AddedView(view=name, features=_features(after[name])) for name in names if name not in before),
        changed=tuple(changed),
        removed=tuple(
            RemovedView(
                view=name,
                features=_features(before[name]),
                downstream=_reachable(name, former),
                consumers=_consumers(name, _features(before[name]), reading),
            )
            for name in names
            if name not in after
        ),
        dags=_replaced_dags(old, new),
    )


def dag_id(step: Step) -> str:
    """Return the id of the DAG that runs a step."""
    return f"{step.project}.{step.pipeline}.{step.schedule.label}"


def _replaced_dags(old: Sequence[Step], new: Sequence[Step]) -> tuple[ReplacedDag, ...]:
    """Return the DAGs that no view has any more, because views, pipelines or schedules went or changed."""
    now = {step.view: dag_id(step) for step in new}
    living = set(now.values())
    ran: dict[str, list[str]] = {}
    for step in old:
        if (dag := dag_id(step)) not in living:
            ran.setdefault(dag, []).append(step.view)
    return tuple(
        ReplacedDag(
            dag=dag,
            views=tuple(sorted(views)),
            replaced_by=tuple(sorted({now[view] for view in views if view in now})),
        )
        for dag, views in sorted(ran.items())
    )


def _reading(services: Sequence[PlannedService]) -> dict[str, list[tuple[PlannedService, set[str]]]]:
    """Return, by view, the services that read it and the features they read of it."""
    found: dict[str, list[tuple[PlannedService, set[str]]]] = {}
    for service in services:
        by_view: dict[str, set[str]] = {}
        for reference in service.features:
            view, _, feature = reference.rpartition(":")
            by_view.setdefault(view, set()).add(feature)
        for view, features in by_view.items():
            found.setdefault(view, []).append((service, features))
    return found


def _consumers(
    view: str, touched: Sequence[str], reading: Mapping[str, Sequence[tuple[PlannedService, set[str]]]]
) -> tuple[Consumer, ...]:
    found = [
        Consumer(service=service.name, owner=service.owner, features=tuple(sorted(features & set(touched))))
        for service, features in reading.get(view, ())
        if features & set(touched)
    ]
    return tuple(sorted(found, key=lambda item: item.service))


def downstream_views(view: str, steps: Iterable[Step]) -> tuple[str, ...]:
    """Return the views that are derived from a view, directly or through others, sorted."""
    return _reachable(view, _readers(steps))


def _readers(steps: Iterable[Step]) -> dict[str, list[str]]:
    """Return, by view, the views that read it directly."""
    readers: dict[str, list[str]] = {}
    for step in steps:
        for name in step.upstream:
            readers.setdefault(name, []).append(step.view)
    return readers


def _reachable(view: str, readers: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    found: set[str] = set()
    waiting = [view]
    while waiting:
        for name in readers.get(waiting.pop(), ()):
            if name not in found:
                found.add(name)
                waiting.append(name)
    return tuple(sorted(found - {view}))


def _features(step: Step) -> tuple[str, ...]:
    return tuple(feature.name for feature in step.features)


def compare_steps(old: Step, new: Step) -> ChangedView | None:
    """Return how a view changed (without whom it touches), or None when it did not."""
    before = {feature.name: feature for feature in old.features}
    after = {feature.name: feature for feature in new.features}
    added = tuple(name for name in after if name not in before)
    removed = tuple(name for name in before if name not in after)
    redefined = tuple(name for name in after if name in before and _is_redefined(before[name], after[name]))
    renewing = [*identity_changes(old, new), *_about("redefined", redefined)]
    metadata = [*_life_changes(old, new), *(f"{field} changed" for field in _METADATA if _differs(field, old, new))]
    metadata += _described_anew(old, new)
    if not (renewing or removed or added or metadata):
        return None
    kind: ChangeKind = "breaking" if renewing or removed else "additive" if added else "metadata"
    return ChangedView(
        view=new.view,
        kind=kind,
        reasons=(*renewing, *_about("removed", removed), *_about("added", added), *metadata),
        renews=bool(renewing),
        added=added,
        removed=removed,
        redefined=redefined,
    )


def serves(old: Step, new: Step) -> bool:
    """Whether rows that an old step published are those that a new one gives, but for columns that are of no use now.

    That is: the same keys, grid and reach, and every feature of the new step with the same meaning and type.
    """
    if old.fingerprint == new.fingerprint:
        return not type_changes(old, new)
    before = {feature.name: feature for feature in old.features}
    return (
        not identity_changes(old, new)
        and _reach(old) == _reach(new)
        and all(item.name in before and not _is_redefined(before[item.name], item) for item in new.features)
    )


def _reach(step: Step) -> object:
    """Return how far back a step looks, which decides the keys that have a row."""
    return [item.window for item in step.inputs if isinstance(item, EventInput)]


def _differs(field: str, old: Step, new: Step) -> bool:
    return bool(getattr(old, field) != getattr(new, field))


def _life_changes(old: Step, new: Step) -> list[str]:
    """Return how the view's life changed: intervals come or go, and those that stay keep their values."""
    shown = [(None if at is None else format_instant(at)) for at in (old.start, new.start, old.end, new.end)]
    changes = [f"start: {shown[0]} to {shown[1]}"] if old.start != new.start else []
    return [*changes, f"end: {shown[2] or 'open'} to {shown[3] or 'open'}"] if old.end != new.end else changes


def _is_redefined(old: Feature, new: Feature) -> bool:
    """Whether a feature means something else, or its source gives it another type (one that becomes known is no change)."""
    return old.fingerprint != new.fingerprint or (None not in (old.type, new.type) and old.type != new.type)


def _about(what: str, features: Sequence[str]) -> list[str]:
    return [f"{what}: {', '.join(features)}"] if features else []


def identity_changes(old: Step, new: Step) -> list[str]:
    """Return what changed of that which decides the meaning of all rows at once: published ones no longer fit then."""
    changes: list[str] = []
    if old.keys != new.keys:
        before, after = (", ".join(f"{key.name} {key.type}" for key in step.keys) for step in (old, new))
        changes.append(f"join keys: {before} to {after}")
    if old.schedule != new.schedule:
        before, after = (f"{step.schedule.cron} {step.schedule.timezone}" for step in (old, new))
        changes.append(f"schedule: {before} to {after}")
    if old.kind != new.kind:
        changes.append(f"kind: {old.kind} view to {new.kind} view")
    return changes


def type_changes(old: Step, new: Step) -> list[str]:
    """Return the features whose published values are of another type; one that becomes known is no change."""
    before = {feature.name: feature.type for feature in old.features}
    return [
        f"type of {feature.name}: {before[feature.name]} to {feature.type}"
        for feature in new.features
        if None not in (before.get(feature.name), feature.type) and before[feature.name] != feature.type
    ]


def _described_anew(old: Step, new: Step) -> list[str]:
    """Return whether descriptions or marks of features that stayed changed."""
    before = {feature.name: (feature.description, feature.pii) for feature in old.features}
    changed = [
        item.name
        for item in new.features
        if before.get(item.name, (item.description, item.pii)) != (item.description, item.pii)
    ]
    return _about("described anew", changed)
