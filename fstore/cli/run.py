"""The command ``run``: compute, validate and materialize views in dependency order, in this process."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import msgspec
from rich.markup import escape
from rich.progress import Progress

from fstore.backends import Backends, open_backends
from fstore.cli.output import console, errors, print_json, progress_display
from fstore.definitions.project import Project
from fstore.errors import DefinitionErrors, FStoreError, InputsNotReady, SettingsError
from fstore.interval import Interval, parse_instant
from fstore.plan.selection import select_steps
from fstore.plan.steps import Plan, Step
from fstore.runtime.due import due_intervals, due_range, intervals_within
from fstore.runtime.plan_cache import load_plan
from fstore.runtime.preparation import prepare_steps
from fstore.runtime.runner import StepResult, run_step
from fstore.settings import load_settings


class ViewOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one view in a run."""

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
    message: str = ""


def run_views(selectors: Sequence[str], start: str | None, end: str | None, *, as_json: bool) -> int:
    """Run the selected views and print what became of each; return 1 if any of them failed or was blocked in part."""
    span = _span(start, end)
    settings = load_settings()
    loaded = load_plan(settings)
    steps = select_steps(loaded.plan.steps, selectors)
    _refuse_broken(loaded.plan, selectors)
    outcomes: list[ViewOutcome] = []
    with open_backends(settings) as backends, progress_display(quiet=as_json) as display:
        for step in steps:
            outcome = _run_view(backends, loaded.project, step, span, display)
            outcomes.append(outcome)
            if not as_json:
                _print_outcome(outcome)
    if as_json:
        print_json(outcomes)
    return 1 if any(outcome.state in ("failed", "partly blocked") for outcome in outcomes) else 0


def _run_view(
    backends: Backends, project: Project, planned: Step, span: tuple[datetime, datetime] | None, display: Progress
) -> ViewOutcome:
    began = datetime.now(UTC)
    remaining = early = 0
    try:
        (step,) = prepare_steps(backends, project, [planned.view])
        if span is None:
            due = due_intervals(backends.registry, step, now=began, limit=backends.settings.max_catch_up)
            intervals: Sequence[Interval] = due.intervals
            remaining = due.remaining
        else:
            asked, due_by_now = intervals_within(step, *span), due_range(step, began)
            intervals = [interval for interval in asked if due_by_now and due_by_now.contains(interval)]
            early = len(asked) - len(intervals)
        if not intervals:
            return ViewOutcome(view=planned.view, state="nothing to do", early=early)
        task = display.add_task(planned.view, total=len(intervals))
        result = run_step(
            backends, step, intervals, f"cli-{uuid.uuid4().hex[:12]}", progress=_advance(display, task, planned.view)
        )
        display.remove_task(task)
    except FStoreError as error:
        state = "waiting" if isinstance(error, InputsNotReady) and span is None else "failed"
        return ViewOutcome(view=planned.view, state=state, message=str(error), seconds=_seconds_since(began))
    return msgspec.structs.replace(_outcome(result, remaining, _seconds_since(began)), early=early)


def _advance(display: Progress, task: object, view: str) -> Callable[[str, int, int], None]:
    def advance(phase: str, done: int, total: int) -> None:
        display.update(task, description=f"{view} [dim]{phase}[/]", completed=done, total=total)  # type: ignore[arg-type]

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
            console.print(f"[dim]·[/] {outcome.view}: nothing is due{early}")
        case "failed":
            console.print(f"[red]✗[/] {outcome.view}: failed")
            errors.print(outcome.message, markup=False)
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
