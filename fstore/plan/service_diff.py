"""What changes of that by which features are read: feature services, and on-demand features.

Takes those that are registered and those that the definitions give now. Nothing has to be computed for any of it: applying
records it. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from fstore.plan.steps import PlannedOnDemand, PlannedService

Subject = Literal["service", "on-demand feature"]
Kind = Literal["added", "changed", "removed"]

_ON_DEMAND: Subject = "on-demand feature"
_SERVICE_SETTINGS = ("owner", "description", "tags")


class ReadingChange(msgspec.Struct, frozen=True, kw_only=True):
    """A feature service or an on-demand feature that is new, gone, or not what it was; ``detail`` says how, in words."""

    subject: Subject
    name: str
    kind: Kind
    detail: str = ""

    def describe(self) -> str:
        """Return a line: ``+`` added, ``~`` changed, ``-`` removed."""
        sign = {"added": "+", "changed": "~", "removed": "-"}[self.kind]
        return f"{sign} {self.subject} {self.name}" + (f": {self.detail}" if self.detail else "")


def diff_services(old: Sequence[PlannedService], new: Sequence[PlannedService]) -> tuple[ReadingChange, ...]:
    """Return how feature services change, sorted by name."""
    before, after = {item.name: item for item in old}, {item.name: item for item in new}
    changes = [
        *(_change(name, "added", _counted(after[name].features)) for name in after if name not in before),
        *(_change(name, "removed") for name in before if name not in after),
        *(
            _change(name, "changed", "; ".join(_of_service(before[name], after[name])))
            for name in after
            if name in before and before[name] != after[name]
        ),
    ]
    return tuple(sorted(changes, key=lambda change: change.name))


def diff_on_demand(old: Sequence[PlannedOnDemand], new: Sequence[PlannedOnDemand]) -> tuple[ReadingChange, ...]:
    """Return how on-demand features change, sorted by name; one that only moved in its file does not."""
    before, after = {item.name: item for item in old}, {item.name: item for item in new}
    reasons = {name: _of_on_demand(before[name], after[name]) for name in after if name in before}
    changes = [
        *(_change(name, "added", subject=_ON_DEMAND) for name in after if name not in before),
        *(_change(name, "removed", subject=_ON_DEMAND) for name in before if name not in after),
        *(_change(name, "changed", "; ".join(why), subject=_ON_DEMAND) for name, why in reasons.items() if why),
    ]
    return tuple(sorted(changes, key=lambda change: change.name))


def _change(name: str, kind: Kind, detail: str = "", *, subject: Subject = "service") -> ReadingChange:
    return ReadingChange(subject=subject, name=name, kind=kind, detail=detail)


def _of_service(before: PlannedService, after: PlannedService) -> Iterator[str]:
    for what, some, others in (("added", after, before), ("removed", before, after)):
        if features := [feature for feature in some.features if feature not in others.features]:
            yield f"{what}: {', '.join(features)}"
    if before.references != after.references and set(before.features) == set(after.features):
        yield "order or aliases of features changed"
    yield from (f"{name} changed" for name in _SERVICE_SETTINGS if getattr(before, name) != getattr(after, name))


def _of_on_demand(before: PlannedOnDemand, after: PlannedOnDemand) -> list[str]:
    reasons = ["redefined"] if before.fingerprint != after.fingerprint else []
    if before.type != after.type:
        reasons.append(f"type: {before.type} to {after.type}")
    if (before.description, before.pii) != (after.description, after.pii):
        reasons.append("described anew")
    return reasons


def _counted(features: Sequence[str]) -> str:
    return f"{len(features)} feature{'' if len(features) == 1 else 's'}"
