"""How a project stands: what is published, missing, blocked, stale, damaged or not online, and what to do about it.

Questions to the publication log and to the online store; files of sources are looked at, so that what changed in them
counts. Computes and repairs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import msgspec

from fstore.backends import Backends
from fstore.errors import FStoreError, StoreMissing
from fstore.interval import Interval, format_duration, format_instant
from fstore.plan.selection import select_steps
from fstore.plan.steps import Step
from fstore.registry.lineage_outbox import LineageDepth
from fstore.registry.overlays import NEXT
from fstore.registry.records import Head, OutboxEntry
from fstore.runtime.advice import Advice
from fstore.runtime.delivery import online_view
from fstore.runtime.due import due_range, subtract
from fstore.runtime.incarnation import find_restored
from fstore.runtime.inputs import look_at_files
from fstore.runtime.recomputation import outdated_intervals
from fstore.runtime.repair import is_behind
from fstore.runtime.versions import is_borrowed

_MANY = 10_000
"""Outbox entries that are looked at."""


class ViewStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How one view stands. ``behind`` is the time between the newest due interval's end and the newest published one.

    ``online`` is off, empty, current, pending (the outbox has work for it), behind, lost, or the code of an error.
    """

    view: str
    pipeline: str
    published: int
    newest_end: datetime | None
    missing: int
    blocked: int
    stale: int
    damaged: int
    behind: timedelta | None
    landing_p95: timedelta | None
    lag: timedelta
    online: str
    last_state: str
    last_message: str
    advice: tuple[Advice, ...] = ()


class Filling(msgspec.Struct, frozen=True, kw_only=True):
    """How far the new generation of a view is: how many of the intervals that are live it has."""

    view: str
    generation: int
    filled: int
    required: int
    held: bool


class ProjectStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a project stands."""

    project: str
    registry_version: int
    sequence: int
    outbox_pending: int
    outbox_failing: int
    lineage: LineageDepth
    views: tuple[ViewStatus, ...]
    filling: tuple[Filling, ...]
    warnings: tuple[str, ...]
    advice: tuple[Advice, ...]


def project_status(backends: Backends, selectors: Sequence[str], now: datetime) -> ProjectStatus:
    """Return how the selected views stand at an instant."""
    registry = backends.registry
    steps = select_steps([view.step for view in registry.views()], selectors)
    unseen = look_at_files(backends, steps)
    state, depth, lineage = registry.state(), registry.outbox.depth(), registry.lineage_outbox.depth()
    pending = registry.outbox.pending(kind="online", limit=_MANY) if depth.pending else []
    views = tuple(_view_status(backends, step, now, pending) for step in steps)
    late = (warning for view in views for warning in _landing_warnings(view))
    return ProjectStatus(
        project=backends.settings.project,
        registry_version=state.version,
        sequence=state.sequence,
        outbox_pending=depth.pending,
        outbox_failing=depth.failing,
        lineage=lineage,
        views=views,
        filling=_filling(backends),
        warnings=(*unknown_environment(backends), *late, *unseen),
        advice=(*(advice for view in views for advice in view.advice), *_project_advice(backends, pending, lineage)),
    )


def unknown_environment(backends: Backends) -> tuple[str, ...]:
    """Return a warning where the environment that is named has nothing of its own, as one whose name is misspelt."""
    name = backends.registry.overlay
    if not name or backends.registry.overlays.get(name) is not None:
        return ()
    return (f"environment {name!r} has nothing of its own, so this is production; `fstore env list` names those that have",)


def _filling(backends: Backends) -> tuple[Filling, ...]:
    """Return the new generations that are filled beside the live ones."""
    overlays = backends.registry.overlays
    overlay = overlays.get(NEXT)
    if overlay is None:
        return ()
    lacking = overlays.lacking()
    return tuple(
        Filling(
            view=view.name, generation=view.generation, required=lacking[view.name].required, held=overlay.held,
            filled=lacking[view.name].required - len(lacking[view.name].intervals),
        )
        for view in overlay.views
        if view.name in lacking
    )  # fmt: skip


# -- one view ---------------------------------------------------------------------------------------------------------


def _view_status(backends: Backends, step: Step, now: datetime, pending: Sequence[OutboxEntry]) -> ViewStatus:
    ledger = backends.registry.ledger
    heads = ledger.heads(step.view)
    due = due_range(step, now)
    gaps = subtract(due, [Interval(head.start, head.end) for head in heads]) if due else []
    newest = heads[-1].end if heads else None
    history = ledger.history(step.view, limit=1)
    borrowed = is_borrowed(backends.registry, step.view)
    stale = set() if borrowed else {*ledger.stale(step.view), *outdated_intervals(backends.registry, step, heads)}
    blocked = ledger.blocked(step.view)
    missing = [interval for gap in gaps for interval in step.schedule.intervals(gap.start, gap.end)]
    status = ViewStatus(
        view=step.view,
        pipeline=f"{step.project}.{step.pipeline}.{step.schedule.label}",
        published=sum(len(step.schedule.intervals(head.start, head.end)) for head in heads),
        newest_end=newest,
        missing=len(missing),
        blocked=len(blocked),
        stale=len(stale),
        damaged=len(ledger.damaged(step.view)),
        behind=due.end - newest if due and newest else None,
        landing_p95=landing_p95(heads, step),
        lag=step.lag,
        online=_online_state(backends, step, heads, pending),
        last_state=history[0].state if history else "",
        last_message=history[0].message if history else "",
    )
    computable, limit = len(set(missing).difference(blocked)), f"{backends.settings.max_catch_up:,}"
    return msgspec.structs.replace(status, advice=tuple(_advice(status, blocked, computable, limit)))


def _advice(view: ViewStatus, blocked: Sequence[Interval], unpublished: int, limit: str) -> Iterator[Advice]:
    """Yield what to do about a view; ``unpublished`` intervals are due and not blocked, ``limit`` is how many a run does."""
    if unpublished:
        yield Advice.about(view.view, "missing", unpublished, detail=limit)
    if view.stale:
        yield Advice.about(view.view, "stale", view.stale, detail=limit)
    if view.damaged:
        yield Advice.about(view.view, "damaged", view.damaged)
    if blocked:
        first, last = format_instant(blocked[0].start), format_instant(blocked[-1].end)
        yield Advice.about(view.view, "blocked", view.blocked, rest=f" --start {first} --end {last}")
    if view.last_state == "failed":
        yield Advice.about(view.view, "failed", 1, detail=view.last_message.splitlines()[0])
    match view.online:
        case "off" | "empty" | "current":
            return
        case "pending" | "lost" | "behind" as kind:
            yield Advice.about(view.view, kind, 1)
        case code:
            yield Advice.about(view.view, "unknown", 1, detail=code)


def landing_p95(heads: Sequence[Head], step: Step) -> timedelta | None:
    """Return the 95th percentile of ``published - end`` over recent publications of single intervals.

    Backfills do not count: ranges, intervals that had ended before anything of the view was published, and what is more
    than 30 days behind. None without any other.
    """
    begun = min((head.published_at for head in heads), default=None)
    recent = sorted(
        head.published_at - head.end
        for head in heads[-100:]
        if begun is not None and head.end >= begun and head.published_at - head.end < timedelta(days=30)
        and len(step.schedule.intervals(head.start, head.end)) == 1
    )  # fmt: skip
    return recent[int(len(recent) * 0.95)] if recent else None


def _online_state(backends: Backends, step: Step, heads: Sequence[Head], pending: Sequence[OutboxEntry]) -> str:
    if not step.online:
        return "off"
    if not heads:
        return "empty"
    registered = backends.registry.view(step.view)
    waits = any((e.payload.view, e.payload.generation) == (step.view, registered.generation) for e in pending)
    try:
        floor = backends.online.floor(online_view(backends, step.view, registered.generation))
        behind = is_behind(backends, registered, list(heads), pending=waits)
    except FStoreError as error:
        return "lost" if isinstance(error, StoreMissing) and backends.knows_online() else error.code
    if behind:
        return "lost" if floor is None else "behind"
    return "pending" if waits else "current"


def _landing_warnings(view: ViewStatus) -> list[str]:
    if view.landing_p95 is None or view.landing_p95 <= view.lag:
        return []
    landed = format_duration(timedelta(seconds=round(view.landing_p95.total_seconds())))
    return [
        f"{view.view}: publications land {landed} after their interval's end (95th percentile), more than the lag of "
        f"{format_duration(view.lag)}: training frames see values that serving did not have yet"
    ]


# -- the project ------------------------------------------------------------------------------------------------------


def _project_advice(backends: Backends, pending: Sequence[OutboxEntry], lineage: LineageDepth) -> Iterator[Advice]:
    """Yield what to do about a registry that was restored, about the outbox and about lineage events."""
    if (restored := find_restored(backends)) is not None:
        yield Advice(problem=str(restored), command="fstore registry restore --adopt")
    failing = [entry for entry in pending if entry.tries]
    if pending:
        problem = f"{len(pending):,} publication(s) wait to go online; the maintenance DAG applies them"
        if failing:
            problem += f"; {len(failing):,} have failed before, the first because {failing[0].last_error}"
        yield Advice(problem=problem, command="fstore maintain")
    if lineage.pending and lineage.last_error:
        problem = f"{lineage.pending:,} lineage event(s) are not forwarded: {lineage.last_error}"
        yield Advice(problem=problem, command="fstore maintain")
    if lineage.refused:
        newest = backends.registry.lineage_outbox.refusals(limit=1)[0]
        problem = (
            f"{lineage.refused:,} lineage event(s) were refused, the newest ({newest.event_type} of {newest.job_name}) "
            f"because {newest.error}"
        )
        yield Advice(problem=problem, command="fstore maintain --resend")
