"""What a plan would compute: for every view the intervals, and what that takes by what it took before.

Takes the steps of a plan and the registry, asks the log once for all of them, and follows what is recomputed downstream:
an interval that reads one to be computed again is computed again too. Changes nothing and reads no source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from fstore.interval import Interval, merge_intervals
from fstore.plan.diff import dag_id
from fstore.plan.steps import Step
from fstore.registry.completeness import Lacking, required_intervals
from fstore.registry.outlook import Outlook, Rate
from fstore.registry.overlays import NEXT
from fstore.registry.reads import affected_intervals
from fstore.registry.records import RegisteredView
from fstore.registry.registry import Registry
from fstore.runtime.due import due_range, wanted_intervals
from fstore.runtime.versions import HeldStep, decide_changes


class PlannedView(msgspec.Struct, frozen=True, kw_only=True):
    """What would be computed of one view.

    ``due`` counts the intervals that are computed where readers see them: ``missing`` ones, and those that are computed
    ``again`` because their definition or what they read changed. ``beside`` counts the intervals of a new generation that is
    filled beside the live one. Estimates are None where the view was never computed.
    """

    view: str
    kind: str
    dag: str
    due: int
    missing: int
    again: int
    ranges: tuple[Interval, ...]
    beside: int
    beside_ranges: tuple[Interval, ...]
    rows_estimate: int | None
    bytes_estimate: int | None
    seconds_estimate: float | None

    @property
    def total(self) -> int:
        """All intervals that would be computed."""
        return self.due + self.beside


def plan_views(registry: Registry | None, steps: Sequence[Step], now: datetime) -> list[PlannedView]:
    """Return what would be computed of each step, given in dependency order; without a registry that is all that is due."""
    if registry is None:
        return [_planned(step, _every(step, now), set(), [], None) for step in steps]
    registered = {view.name: view for view in registry.views()}
    known = {name: view.step for name, view in registered.items()}
    own = _own_views(registry)
    held = {} if own is not None else _held(registry, steps, registered)
    running = [held[step.view].registered or step if step.view in held else step for step in steps]
    outlook = registry.outlook([step for step in running if step.view in known])
    lacking = {} if own is not None else registry.overlays.lacking()
    staged = _staged_fingerprints(registry) if lacking else {}
    again: dict[str, list[Interval]] = {}
    found: list[PlannedView] = []
    for planned, step in zip(steps, running, strict=True):
        if own is not None and step.view in known and _is_production(planned, known, own):
            found.append(_planned(planned, [], set(), [], None))
            continue
        seen = outlook.get(step.view, Outlook())
        if own is not None and step.view not in own:
            seen = Outlook(rate=seen.rate)  # what production has published is of another definition
        wanted = _wanted(registry, step, seen, now)
        covered = [Interval(head.start, head.end) for head in seen.heads]
        published = (
            {each for span in covered for each in step.schedule.intervals(span.start, span.end)} if covered else set()
        )
        changed = {name: again[name] for name in step.upstream if name in again}
        if changed and published:
            wanted = sorted({*wanted, *affected_intervals(step, sorted(published), changed)})
        again[step.view] = [each for each in wanted if each in published]
        waiting = held.get(step.view)
        beside = _beside(registry, waiting, seen, lacking, staged) if waiting is not None else []
        found.append(_planned(planned, wanted, published, beside, seen.rate))
    return found


def _own_views(registry: Registry) -> set[str] | None:
    """Return the views of the environment that the registry is opened on; None in production."""
    if not registry.overlay:
        return None
    overlay = registry.overlays.get(registry.overlay)
    return {view.name for view in overlay.views} if overlay else set()


def _is_production(step: Step, known: Mapping[str, Step], own: set[str]) -> bool:
    """Whether an environment reads a view's rows from production."""
    return step.view not in own and known[step.view].fingerprint == step.fingerprint


def _held(registry: Registry, steps: Sequence[Step], live: Mapping[str, RegisteredView]) -> dict[str, HeldStep]:
    """Return the steps that are filled beside what is live."""
    return {item.step.view: item for item in decide_changes(registry, steps, applying=True, live=live).held}


def _staged_fingerprints(registry: Registry) -> dict[str, str]:
    overlay = registry.overlays.get(NEXT)
    return {view.name: view.fingerprint for view in overlay.views} if overlay else {}


def _beside(
    registry: Registry, item: HeldStep, seen: Outlook, lacking: Mapping[str, Lacking], staged: Mapping[str, str]
) -> Sequence[Interval]:
    """Return the intervals that a new generation still needs: all that are live, or those not yet filled.

    A generation that was filled before, in an environment or ahead of a rollback, is taken up again.
    """
    if staged.get(item.step.view) == item.step.fingerprint:
        return lacking[item.step.view].intervals
    filled = registry.overlays.adoptable(item.step)
    return required_intervals(item.step, seen.heads) if filled is None else filled.intervals


def _wanted(registry: Registry, step: Step, seen: Outlook, now: datetime) -> list[Interval]:
    whole = due_range(step, now)
    if whole is None:
        return []
    serving = {step.fingerprint}
    if any(head.fingerprint != step.fingerprint for head in seen.heads):
        serving |= registry.serving_fingerprints(step)
    return wanted_intervals(step, whole, seen.heads, stale=seen.stale, blocked_again=seen.blocked_again, serving=serving)


def _every(step: Step, now: datetime) -> list[Interval]:
    whole = due_range(step, now)
    return step.schedule.intervals(whole.start, whole.end) if whole else []


def _planned(
    step: Step, wanted: Sequence[Interval], published: set[Interval], beside: Sequence[Interval], rate: Rate | None
) -> PlannedView:
    again = sum(1 for each in wanted if each in published)
    count = len(wanted) + len(beside)
    return PlannedView(
        view=step.view,
        kind=type(step).__struct_config__.tag,  # type: ignore[arg-type]
        dag=dag_id(step),
        due=len(wanted),
        missing=len(wanted) - again,
        again=again,
        ranges=tuple(merge_intervals(wanted)),
        beside=len(beside),
        beside_ranges=tuple(merge_intervals(beside)),
        rows_estimate=None if rate is None else round(rate.rows * count),
        bytes_estimate=None if rate is None else round(rate.bytes * count),
        seconds_estimate=None if rate is None else round(rate.seconds * count, 1),
    )
