"""Recompute what does not hold any more: stale, damaged and missing intervals between published ones, upstream first.

Scheduled runs do this for a bounded number of intervals; this does all of it for the views that are asked for. A view is
looked at after those that it reads, because computing them again is what makes it stale. Intervals after the newest
published one are left to scheduled runs and ``fstore run``, and blocked ones that would be blocked again to people.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec

from fstore.backends import Backends
from fstore.definitions.project import Project
from fstore.errors import FStoreError, InputsNotReady
from fstore.interval import Interval
from fstore.plan.steps import Step
from fstore.registry.reads import affected_intervals
from fstore.registry.records import Head
from fstore.registry.registry import Registry
from fstore.runtime.batches import BatchProgress
from fstore.runtime.due import subtract
from fstore.runtime.inputs import look_at_files
from fstore.runtime.preparation import prepare_steps
from fstore.runtime.runner import StepResult, run_settled
from fstore.runtime.versions import BeingFilled, is_borrowed

_ROUNDS = 3
"""How often a view is looked at again because something it reads changed while it was computed."""

Report = Callable[[str, BatchProgress], None]
"""Told how far a view is."""


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """The intervals of a view to compute, by reason: one that is damaged or missing counts as that, not as stale."""

    stale: tuple[Interval, ...] = ()
    missing: tuple[Interval, ...] = ()
    damaged: tuple[Interval, ...] = ()

    @property
    def intervals(self) -> list[Interval]:
        """All of them, ascending."""
        return sorted({*self.stale, *self.missing, *self.damaged})


class RecomputedView(msgspec.Struct, frozen=True, kw_only=True):
    """What a view needed and what became of it.

    ``waiting`` intervals lack an input; ``blocked`` ones did not pass their checks; ``message`` says why, or what
    stopped it.
    """

    view: str
    needs: Needs
    published: int = 0
    waiting: int = 0
    blocked: int = 0
    rows: int = 0
    online_rows: int = 0
    code: str = ""
    message: str = ""

    @property
    def failed(self) -> bool:
        """Whether something of it could not be repaired."""
        return bool(self.code or self.waiting or self.blocked)


def find_needs(registry: Registry, step: Step, *, only_stale: bool = False) -> Needs:
    """Return what is to be computed of a view within what it has published.

    Published by a definition whose values do not hold for this step counts as stale.
    """
    ledger = registry.ledger
    heads = ledger.heads(step.view)
    if not heads:
        return Needs()
    blocked = set(ledger.blocked_again(step))
    damaged = set() if only_stale else set(ledger.damaged(step.view)) - blocked
    missing = set() if only_stale else set(missing_between(step, heads)) - blocked
    stale = {*ledger.stale(step.view), *outdated_intervals(registry, step, heads)} - blocked - damaged - missing
    return Needs(stale=tuple(sorted(stale)), missing=tuple(sorted(missing)), damaged=tuple(sorted(damaged)))


def missing_between(step: Step, heads: Sequence[Head]) -> list[Interval]:
    """Return the intervals between the first and the last published one that are not published, ascending. Pure."""
    whole = Interval(max(heads[0].start, step.start), heads[-1].end)
    gaps = subtract(whole, [Interval(head.start, head.end) for head in heads]) if whole.start < whole.end else []
    return [interval for gap in gaps for interval in step.schedule.intervals(gap.start, gap.end)]


def outdated_intervals(registry: Registry, step: Step, heads: Sequence[Head]) -> list[Interval]:
    """Return the intervals that another definition has published whose values do not hold for this one."""
    old = [head for head in heads if head.fingerprint != step.fingerprint]
    serving = registry.serving_fingerprints(step) if old else frozenset[str]()
    return [
        interval
        for head in old
        if head.fingerprint not in serving
        for interval in step.schedule.intervals(head.start, head.end)
    ]


def plan_recomputation(backends: Backends, steps: Sequence[Step], *, only_stale: bool = False) -> list[RecomputedView]:
    """Return what :func:`recompute` would do, and change nothing: also what is stale only once its inputs are renewed.

    ``steps`` are registered ones in dependency order.
    """
    look_at_files(backends, steps)
    renewed: dict[str, list[Interval]] = {}
    found: list[RecomputedView] = []
    for step in steps:
        if is_borrowed(backends.registry, step.view):
            continue
        needs = find_needs(backends.registry, step, only_stale=only_stale)
        stale = {*needs.stale, *_will_be_stale(backends, step, needs, renewed)}
        needs = msgspec.structs.replace(needs, stale=tuple(sorted(stale)))
        if needs.intervals:
            renewed[step.view] = needs.intervals
            found.append(RecomputedView(view=step.view, needs=needs))
    return found


def recompute(
    backends: Backends, project: Project, steps: Sequence[Step], run_id: str, *, only_stale: bool = False,
    report: Report | None = None,
) -> list[RecomputedView]:  # fmt: skip
    """Compute what each step needs, in the given (dependency) order, and return the views that needed anything.

    What fails in one view is recorded with it, and the others go on.
    """
    found = (_recompute_view(backends, project, step, run_id, only_stale=only_stale, report=report) for step in steps)
    return [view for view in found if view.needs.intervals or view.code]


def _recompute_view(
    backends: Backends, project: Project, registered: Step, run_id: str, *, only_stale: bool, report: Report | None
) -> RecomputedView:
    view = RecomputedView(view=registered.view, needs=Needs())
    waiting: set[Interval] = set()
    try:
        if is_borrowed(backends.registry, registered.view):
            return view
        (step,) = prepare_steps(backends, project, [registered.view])
        for _ in range(_ROUNDS):
            needs = find_needs(backends.registry, step, only_stale=only_stale)
            wanted = [interval for interval in needs.intervals if interval not in waiting]
            if not wanted:
                break
            view = _with_needs(view, needs)
            progress = None if report is None else _progress(report, step.view)
            result = run_settled(backends, step, wanted, run_id, progress=progress)
            waiting.update(missing.interval for missing in result.computed.missing)
            view = _with_result(view, result, len(waiting))
    except BeingFilled:
        return view
    except InputsNotReady as error:
        return msgspec.structs.replace(view, waiting=len(view.needs.intervals), message=str(error))
    except FStoreError as error:
        return msgspec.structs.replace(view, code=error.code, message=str(error))
    return view


def _with_needs(view: RecomputedView, needs: Needs) -> RecomputedView:
    """Return a view with what a further look found."""
    missing, damaged = {*view.needs.missing, *needs.missing}, {*view.needs.damaged, *needs.damaged}
    stale = {*view.needs.stale, *needs.stale} - missing - damaged
    found = Needs(stale=tuple(sorted(stale)), missing=tuple(sorted(missing)), damaged=tuple(sorted(damaged)))
    return msgspec.structs.replace(view, needs=found)


def _with_result(view: RecomputedView, result: StepResult, waiting: int) -> RecomputedView:
    return msgspec.structs.replace(
        view,
        published=view.published + len(result.materialized.intervals),
        waiting=waiting,
        blocked=view.blocked + len(result.report.blocked),
        rows=view.rows + result.materialized.rows,
        online_rows=view.online_rows + result.materialized.online_rows,
        message="\n".join(filter(None, (view.message, *result.report.describe()))),
    )


def _progress(report: Report, view: str) -> Callable[[BatchProgress], None]:
    return lambda progress: report(view, progress)


def _will_be_stale(
    backends: Backends, step: Step, needs: Needs, renewed: Mapping[str, Sequence[Interval]]
) -> Collection[Interval]:
    """Return the published intervals that read what would be renewed, apart from those that are needed anyway."""
    heads = backends.registry.ledger.heads(step.view) if renewed and set(step.upstream) & renewed.keys() else []
    published = [interval for head in heads for interval in step.schedule.intervals(head.start, head.end)]
    return set(affected_intervals(step, published, renewed)) - set(needs.intervals)
