"""What changes from one plan to another.

Takes the steps that are registered and those that the definitions give now, and says view by view whether nothing has to be
recomputed (*metadata*: descriptions, ttl, lag, checks, …), whether columns were only added (*additive*), or whether values
that exist mean something else or are gone (*breaking*: another schedule, zone, key, source or meaning of a column, or a
column removed), which calls for a new generation. Decides nothing: ``apply`` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from fstore.plan.steps import Feature, Step

ChangeKind = Literal["metadata", "additive", "breaking"]

_METADATA = ("entity", "start", "end", "lag", "ttl", "online", "pipeline", "audits", "description", "owner", "tags")
"""Fields of a step whose change leaves every value as it is."""


class AddedView(msgspec.Struct, frozen=True, kw_only=True):
    """A view that is new, with the names of its features."""

    view: str
    features: tuple[str, ...]


class RemovedView(msgspec.Struct, frozen=True, kw_only=True):
    """A view that is gone, with the names of its features and of the views that were derived from it."""

    view: str
    features: tuple[str, ...]
    downstream: tuple[str, ...]


class ChangedView(msgspec.Struct, frozen=True, kw_only=True):
    """A view that is not what it was.

    ``reasons`` says what changed, in words. ``added``, ``removed`` and ``redefined`` are names of features;
    ``downstream`` names the views that are derived from it now.
    """

    view: str
    kind: ChangeKind
    reasons: tuple[str, ...]
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    redefined: tuple[str, ...] = ()
    downstream: tuple[str, ...] = ()


class PlanDiff(msgspec.Struct, frozen=True, kw_only=True):
    """The views that were added, changed and removed, each sorted by name."""

    added: tuple[AddedView, ...] = ()
    changed: tuple[ChangedView, ...] = ()
    removed: tuple[RemovedView, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether both plans are the same."""
        return not (self.added or self.changed or self.removed)

    def describe(self) -> list[str]:
        """Return a line for every view: ``+`` added, ``~`` changed, ``-`` removed."""
        added = [f"+ {item.view}: {_counted(item.features)}" for item in self.added]
        changed = [
            f"~ {item.view} ({item.kind}): {'; '.join(item.reasons)}{_derived(item.downstream, item.kind)}"
            for item in self.changed
        ]
        removed = [
            f"- {item.view}: {_counted(item.features)}{_derived(item.downstream, 'removed')}" for item in self.removed
        ]
        return [*added, *changed, *removed]


def _counted(features: Sequence[str]) -> str:
    return f"{len(features)} feature{'' if len(features) == 1 else 's'} ({', '.join(features)})"


def _derived(downstream: Sequence[str], kind: str) -> str:
    """Name the views derived from one whose values change or vanish."""
    return f"; {', '.join(downstream)} derived from it" if downstream and kind in ("breaking", "removed") else ""


def diff_plans(old: Sequence[Step], new: Sequence[Step]) -> PlanDiff:
    """Return what changes from the old steps to the new ones."""
    before, after = {step.view: step for step in old}, {step.view: step for step in new}
    names = sorted({*before, *after})
    compared = [_compare(before[name], after[name], new) for name in names if name in before and name in after]
    return PlanDiff(
        added=tuple(AddedView(view=name, features=_features(after[name])) for name in names if name not in before),
        changed=tuple(change for change in compared if change is not None),
        removed=tuple(
            RemovedView(view=name, features=_features(before[name]), downstream=downstream_views(name, old))
            for name in names
            if name not in after
        ),
    )


def downstream_views(view: str, steps: Iterable[Step]) -> tuple[str, ...]:
    """Return the views that are derived from a view, directly or through others, sorted."""
    readers: dict[str, list[str]] = {}
    for step in steps:
        for name in step.upstream:
            readers.setdefault(name, []).append(step.view)
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


def _compare(old: Step, new: Step, steps: Sequence[Step]) -> ChangedView | None:
    """Return how a view changed, or None when it did not."""
    before = {feature.name: feature for feature in old.features}
    after = {feature.name: feature for feature in new.features}
    added = tuple(name for name in after if name not in before)
    removed = tuple(name for name in before if name not in after)
    redefined = tuple(name for name in after if name in before and _is_redefined(before[name], after[name]))
    breaking = [*identity_changes(old, new), *_about("redefined", redefined), *_about("removed", removed)]
    metadata = [f"{field} changed" for field in _METADATA if getattr(old, field) != getattr(new, field)]
    metadata += _described_anew(old, new)
    if not (breaking or added or metadata):
        return None
    kind: ChangeKind = "breaking" if breaking else "additive" if added else "metadata"
    return ChangedView(
        view=new.view,
        kind=kind,
        reasons=(*breaking, *_about("added", added), *metadata),
        added=added,
        removed=removed,
        redefined=redefined,
        downstream=downstream_views(new.view, steps),
    )


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
