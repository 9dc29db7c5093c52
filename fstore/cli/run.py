"""The command ``run``: compute, validate and materialize views in dependency order, in this process."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import msgspec
from rich.markup import escape
from rich.progress import Progress, TaskID

from fstore.backends import Backends, open_backends
from fstore.cli.output import console, errors, print_failure, print_json, progress_display
from fstore.definitions.project import Project
from fstore.errors import DefinitionErrors, FStoreError, InputsNotReady, SettingsError
from fstore.interval import Interval, format_instant, parse_instant
from fstore.plan.selection import select_steps
from fstore.plan.steps import Plan, Step
from fstore.runtime.batches import BatchProgress
from fstore.runtime.due import due_intervals, due_range, intervals_within
from fstore.runtime.flipping import Filled, fill_next
from fstore.runtime.plan_cache import load_plan
from fstore.runtime.preparation import prepare_steps
from fstore.runtime.runner import StepResult, run_step
from fstore.runtime.versions import BeingFilled, is_borrowed
from fstore.settings import load_settings


class Fill(msgspec.Struct, frozen=True, kw_only=True):
    """How far a new generation is: intervals filled now, and those that it lacks of the ones that are live."""

    generation: int
    filled: int
    lacking: int
    required: int
    live: bool
    message: str


class ViewOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one view in a run. ``fill`` is that of a new generation which is filled beside the live one.

    The state is ``filled`` when there was nothing else to do for the view than that. ``code`` is that of the error that
    stopped it.
    """

    view: str
    state: str
    intervals: int = 0
    rows: int = 0
    online_rows: int = 0
    blocked: int = 0
    quarantined_rows: int = 0
    warnings: int = 0
    ignored_rows: int = 0
    missing: int = 0
    early: int = 0
    remaining: int = 0
    seconds: float = 0.0
    code: str = ""
    message: str = ""
    fill: Fill | None = None


def run_views(selectors: Sequence[str], start: str | None, end: str | None, *, as_json: bool) -> int:
    """Run the selected views and print what became of each; return 1 if any of them failed or was blocked in part."""
    span = _span(start, end)
    settings = load_settings()
    loaded = load_plan(settings)
    steps = select_steps(loaded.plan.steps, selectors)
    _refuse_broken(loaded.plan, selectors)
    outcomes: list[ViewOutcome] = []
    filled = Filled()
    fills = span is None and not settings.environment
    with open_backends(settings) as backends, progress_display(quiet=as_json) as display:
        for step in steps:
            outcome = _run_view(backends, loaded.project, step, span, display)
            outcomes.append(outcome if fills else _without_fill(outcome))
            if not as_json:
                _print_outcome(outcomes[-1])
        if fills:
            filled = fill_next(backends, limit=settings.max_catch_up)
            if not as_json:
                print_filled(filled)
    outcomes = with_fill(outcomes, filled)
    if as_json:
        print_json(outcomes)
    failed = any(outcome.state in ("failed", "partly blocked") for outcome in outcomes)
    return 1 if failed or filled.failed else 0


def _without_fill(outcome: ViewOutcome) -> ViewOutcome:
    """Return what became of a view in a run that fills no new generation: nothing, if that is all it needs."""
    return msgspec.structs.replace(outcome, state="failed") if outcome.state == "filled" else outcome


def with_fill(outcomes: Sequence[ViewOutcome], filled: Filled) -> list[ViewOutcome]:
    """Return outcomes together with what became of new generations; those of further views come last."""
    live = {flip.view for flip in filled.flipped}
    fills = {
        view.view: Fill(generation=view.generation, filled=view.filled, lacking=view.lacking, required=view.required,
                        live=view.view in live, message=view.message)
        for view in filled.views
    }  # fmt: skip
    known = {outcome.view for outcome in outcomes}
    further = [ViewOutcome(view=view, state="filled") for view in fills if view not in known]
    return [msgspec.structs.replace(outcome, fill=fills.get(outcome.view)) for outcome in (*outcomes, *further)]


def print_filled(filled: Filled) -> None:
    """Print how far new generations are, and what became live."""
    for view in filled.views:
        mark = "[red]✗[/]" if view.message else "[green]✓[/]" if not view.lacking else "[yellow]…[/]"
        console.print(
            f"{mark} {view.view}: generation {view.generation} has {view.required - view.lacking:,} of {view.required:,} "
            f"intervals that are live, {view.filled:,} of them filled now"
        )
        if view.message:
            print_failure(view.code, view.message)
    if filled.flipped:
        names = ", ".join(flip.view for flip in filled.flipped)
        console.print(f"[green]✓[/] the new generations of {names} are live now; `fstore rollback all` takes them back")
    elif filled.held and not any(view.lacking for view in filled.views):
        console.print("The new generations are complete: `fstore diff` compares them, `fstore flip` makes them live.")


def _run_view(
    backends: Backends, project: Project, planned: Step, span: tuple[datetime, datetime] | None, display: Progress
) -> ViewOutcome:
    began = datetime.now(UTC)
    remaining = early = 0
    try:
        notices: list[str] = []
        (step,) = prepare_steps(backends, project, [planned.view], notice=notices.append)
        for notice in notices:
            errors.print(f"[yellow]![/] {escape(notice)}")
        if is_borrowed(backends.registry, planned.view):
            return ViewOutcome(view=planned.view, state="unchanged", message="as in production, whose rows are read")
        if span is None:
            due = due_intervals(backends.registry, step, now=began, limit=backends.settings.max_catch_up)
            intervals: Sequence[Interval] = due.intervals
            remaining = due.remaining
        else:
            asked, due_by_now = intervals_within(step, *span), due_range(step, began)
            intervals = [interval for interval in asked if due_by_now and due_by_now.contains(interval)]
            early = len(asked) - len(intervals)
        if not intervals:
            outside = "" if span is None or early else _outside(step, *span)
            return ViewOutcome(view=planned.view, state="nothing to do", early=early, message=outside)
        task = display.add_task(planned.view, total=len(intervals))
        result = run_step(
            backends, step, intervals, f"cli-{uuid.uuid4().hex[:12]}", progress=_advance(display, task, planned.view)
        )
        display.remove_task(task)
    except BeingFilled as error:
        return ViewOutcome(view=planned.view, state="filled", message=str(error))
    except FStoreError as error:
        state = "waiting" if isinstance(error, InputsNotReady) and span is None else "failed"
        return ViewOutcome(
            view=planned.view, state=state, code=error.code, message=str(error), seconds=_seconds_since(began)
        )
    return msgspec.structs.replace(_outcome(result, remaining, _seconds_since(began)), early=early)


def _outside(step: Step, start: datetime, end: datetime) -> str:
    """Say why a range has no interval of a view."""
    life = f"begins {format_instant(step.start)}" + (f" and ends {format_instant(step.end)}" if step.end else "")
    return (
        f"no interval lies within {format_instant(start)} and {format_instant(end)}: the view {life}, "
        f"and its intervals are {step.schedule.label}"
    )


def _advance(display: Progress, task: TaskID, view: str) -> Callable[[BatchProgress], None]:
    began = time.monotonic()

    def advance(progress: BatchProgress) -> None:
        chunk = f"chunk {progress.chunk} of {progress.chunks}" if progress.chunks > 1 else "computing"
        rate = progress.rows / max(1e-3, time.monotonic() - began)
        rows = f", {progress.rows:,} rows, {rate:,.0f}/s" if progress.rows else ""
        display.update(task, description=f"{view} [dim]{chunk}{rows}[/]", completed=progress.done, total=progress.total)

    return advance


def _outcome(result: StepResult, remaining: int, seconds: float) -> ViewOutcome:
    blocked = len(result.report.blocked)
    return ViewOutcome(
        view=result.view,
        state="published" if not blocked else "partly blocked",
        intervals=len(result.materialized.intervals),
        rows=result.materialized.rows,
        online_rows=result.materialized.online_rows,
        blocked=blocked,
        quarantined_rows=result.report.quarantined_rows,
        warnings=result.report.warnings,
        ignored_rows=result.computed.ignored_rows,
        missing=len({missing.interval for missing in result.computed.missing}),
        remaining=remaining,
        seconds=seconds,
        message="\n".join(result.report.describe()),
    )


def _print_outcome(outcome: ViewOutcome) -> None:
    match outcome.state:
        case "nothing to do":
            early = f" ({outcome.early:,} interval(s) are not yet: their data is not complete)" if outcome.early else ""
            console.print(f"[dim]·[/] {outcome.view}: {outcome.message or f'nothing is due{early}'}")
        case "filled":
            console.print(f"[dim]·[/] {outcome.view}: its new definition is filled, as the registered one cannot run")
        case "unchanged":
            console.print(f"[dim]·[/] {outcome.view}: {outcome.message}")
        case "failed":
            console.print(f"[red]✗[/] {outcome.view}: failed")
            print_failure(outcome.code, outcome.message)
        case "waiting":
            console.print(f"[yellow]…[/] {outcome.view}: {escape(outcome.message)}")
        case _:
            mark = "[green]✓[/]" if outcome.state == "published" else "[yellow]![/]"
            parts = [f"{outcome.intervals:,} interval(s)", f"{outcome.rows:,} rows", f"{outcome.online_rows:,} online"]
            parts += [f"{outcome.blocked:,} blocked"] if outcome.blocked else []
            parts += [f"{outcome.quarantined_rows:,} rows quarantined"] if outcome.quarantined_rows else []
            parts += [f"{outcome.ignored_rows:,} source rows without a key ignored"] if outcome.ignored_rows else []
            parts += [f"{outcome.missing:,} waiting for inputs"] if outcome.missing else []
            parts += [f"{outcome.early:,} not due yet: their data is not complete"] if outcome.early else []
            parts += [f"{outcome.remaining:,} more due: run again"] if outcome.remaining else []
            console.print(f"{mark} {outcome.view}: {', '.join(parts)} in {outcome.seconds:.1f} s")
            for line in outcome.message.splitlines():
                console.print(f"  [dim]{escape(line)}[/]")


def _span(start: str | None, end: str | None) -> tuple[datetime, datetime] | None:
    if start is None and end is None:
        return None
    if start is None or end is None:
        raise SettingsError("give both --start and --end, or neither (then whatever is due is computed)")
    try:
        first, last = parse_instant(start), parse_instant(end)
    except ValueError as error:
        raise SettingsError(
            f"--start and --end are ISO dates or times such as 2026-01-31 or 2026-01-31T06:00Z: {error}"
        ) from None
    if last <= first:
        raise SettingsError(f"--end {end} is not after --start {start}; the end is exclusive")
    return first, last


def _refuse_broken(plan: Plan, selectors: Sequence[str]) -> None:
    """Without a selection every view is meant, so any problem stops the run; a selection runs what it can."""
    if plan.problems and not selectors:
        raise DefinitionErrors([problem.as_error() for problem in plan.problems])


def _seconds_since(began: datetime) -> float:
    return round((datetime.now(UTC) - began).total_seconds(), 3)
