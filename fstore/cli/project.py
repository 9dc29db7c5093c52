"""The commands about definitions: check, plan and apply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec
from rich.markup import escape

from fstore.backends import Backends, create_backends, open_backends
from fstore.cli.output import console, errors, print_json, print_table, text_of
from fstore.definitions.project import Problem
from fstore.engines.engine import Engine
from fstore.errors import DefinitionErrors, SourceError, StoreMissing
from fstore.interval import Interval, merge_intervals
from fstore.plan.diff import PlanDiff, diff_plans
from fstore.plan.selection import select_steps
from fstore.plan.steps import AggregateStep, Plan, PythonStep, SqlStep, Step
from fstore.runtime.due import Due, due_intervals, due_range
from fstore.runtime.plan_cache import load_plan
from fstore.runtime.preparation import Schemas, check_drift, compile_with_types, read_schemas, replaced_views
from fstore.settings import Settings, load_settings

NOTHING_TO_COMPUTE, SOMETHING_TO_COMPUTE = 0, 2


class CheckedProject(msgspec.Struct, frozen=True, kw_only=True):
    """A project compiled against its sources as they are now, and everything that is wrong with it."""

    plan: Plan
    schemas: dict[str, dict[str, str]]
    problems: tuple[Problem, ...]


def compile_project(settings: Settings, engine: Engine, recorded: Schemas) -> CheckedProject:
    """Load the definitions, read the schemas of all sources and compile; collect problems instead of raising.

    ``recorded`` are schemas that the sources are held against (empty to accept whatever they are).
    """
    project = load_plan(settings).project
    read = read_schemas(engine, list(project.sources.values()))
    problems = [_as_problem(error) for error in read.errors]
    try:
        check_drift(recorded, read.schemas, project.sources)
    except SourceError as error:
        problems.append(_as_problem(error))
    plan = compile_with_types(engine, project, read.schemas)
    return CheckedProject(plan=plan, schemas=read.schemas, problems=(*plan.problems, *problems))


def check_project(*, as_json: bool) -> int:
    """Print every problem of the definitions and their sources; return the exit code."""
    settings = load_settings()
    backends = open_backends(settings)
    try:
        recorded: Mapping[str, Mapping[str, str]] = backends.registry.source_schemas()
    except StoreMissing:
        recorded = {}
    with backends:
        checked = compile_project(settings, backends.engine, recorded)
    if as_json:
        print_json({"views": [step.view for step in checked.plan.steps], "problems": checked.problems})
        return 1 if checked.problems else 0
    if checked.problems:
        raise DefinitionErrors([problem.as_error() for problem in checked.problems])
    features = sum(len(step.features) for step in checked.plan.steps)
    views, sources = len(checked.plan.steps), len(checked.schemas)
    console.print(f"[green]✓[/] {views} views with {features} features over {sources} sources: no problems.")
    return 0


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """One view's line in a plan: what would be computed next, and how much more is due."""

    view: str
    kind: str
    pipeline: str
    due: int
    ranges: tuple[Interval, ...]
    rows_estimate: int | None
    seconds_estimate: float | None


def show_plan(selectors: Sequence[str], *, sql: bool, as_json: bool) -> int:
    """Print what is added, changed or removed against the registry, and what would be computed."""
    settings = load_settings()
    now = datetime.now(UTC)
    with open_backends(settings) as backends:
        registered = _registered_steps(backends)
        checked = compile_project(settings, backends.engine, {})
        steps = select_steps(checked.plan.steps, selectors)
        diff = diff_plans(registered or [], checked.plan.steps)
        planned = [_planned(backends if registered is not None else None, step, now) for step in steps]
    code = SOMETHING_TO_COMPUTE if any(line.due for line in planned) else NOTHING_TO_COMPUTE
    if as_json:
        print_json({"changes": diff, "compute": planned, "problems": checked.problems})
        return code
    _print_changes(diff)
    print_table(
        "To compute",
        ("view", "kind", "pipeline", "intervals", "from", "to", "rows ≈", "seconds ≈"),
        [
            (line.view, line.kind, line.pipeline, line.due, *_span(line.ranges), line.rows_estimate, line.seconds_estimate)
            for line in planned
        ],
        numbers=("intervals", "rows ≈", "seconds ≈"),
    )
    for step in steps if sql else ():
        _print_sql(step)
    for problem in checked.problems:
        errors.print(f"[red]problem[/] {escape(str(problem))}")
    total = sum(line.due for line in planned)
    console.print(
        f"\n{total:,} intervals are due; `fstore run` computes them, or the DAGs do." if total else "\nNothing is due."
    )
    return code


def apply_project(*, as_json: bool) -> None:
    """Create stores and registry where missing, and record all definitions. Raises DefinitionErrors without recording."""
    settings = load_settings()
    with create_backends(settings) as backends:
        checked = compile_project(settings, backends.engine, {})
        if checked.problems:
            raise DefinitionErrors([problem.as_error() for problem in checked.problems])
        backends.registry.record_source_schemas(checked.schemas)
        diff = diff_plans(_registered_steps(backends) or [], checked.plan.steps)
        replaced = [step.view for step, _ in replaced_views(backends, checked.plan.steps)]
        backends.registry.register(checked.plan, rebuild=replaced)
        retired = _retire_removed(backends, checked.plan)
        version = backends.registry.version()
    if as_json:
        print_json(
            {"project": settings.project, "changes": diff, "version": version, "replaced": replaced, "retired": retired}
        )
        return
    _print_changes(diff)
    console.print(
        f"[green]✓[/] {len(checked.plan.steps)} views and {len(checked.plan.services)} services of project "
        f"[bold]{settings.project}[/] are registered (version {version})."
    )
    for view in replaced:
        console.print(f"[yellow]![/] {view} begins a new generation, which is empty until it is computed.")
    console.print("Next: `fstore run` computes what is due, or start Airflow and let the DAGs do it.")


def _retire_removed(backends: Backends, plan: Plan) -> list[str]:
    """Retire the views and services that the definitions no longer have; return their names."""
    registry = backends.registry
    services = {service.name for service in plan.services}
    views = {step.view for step in plan.steps}
    gone_services = [service.name for service in registry.services() if service.name not in services]
    gone_views = [view.name for view in registry.views() if view.name not in views]
    for name in gone_services:
        registry.retire_service(name)
    for name in gone_views:
        registry.retire(name)
    return [*gone_views, *gone_services]


def _registered_steps(backends: Backends) -> list[Step] | None:
    """Return the registered steps; None when there is no registry yet."""
    try:
        return [view.step for view in backends.registry.views()]
    except StoreMissing:
        return None


def _planned(backends: Backends | None, step: Step, now: datetime) -> Planned:
    whole = due_range(step, now)
    if backends is None:
        every = step.schedule.intervals(whole.start, whole.end) if whole else []
        due, rows, seconds = Due(intervals=tuple(every)), None, None
    else:
        due = due_intervals(backends.registry, step, now=now, limit=1_000_000)
        rows, seconds = _estimate(backends, step, len(due.intervals))
    return Planned(
        view=step.view,
        kind=_kind(step),
        pipeline=f"{step.project}.{step.pipeline}.{step.schedule.label}",
        due=len(due.intervals),
        ranges=tuple(merge_intervals(due.intervals)),
        rows_estimate=rows,
        seconds_estimate=seconds,
    )


def _estimate(backends: Backends, step: Step, intervals: int) -> tuple[int | None, float | None]:
    """Extrapolate rows and seconds from the newest published attempt; None without history."""
    for past in backends.registry.ledger.history(step.view, limit=20):
        if past.state == "published" and past.intervals and past.duration is not None and intervals:
            share = intervals / past.intervals
            return round(past.rows * share), round(past.duration.total_seconds() * share, 1)
    return None, None


def _kind(step: Step) -> str:
    match step:
        case AggregateStep():
            return "aggregates"
        case SqlStep():
            return "SQL"
        case PythonStep():
            return "Python"


def _span(ranges: Sequence[Interval]) -> tuple[str, str]:
    return (text_of(ranges[0].start), text_of(ranges[-1].end)) if ranges else ("", "")


def _print_sql(step: Step) -> None:
    body = step.function.source if isinstance(step, PythonStep) else step.sql
    console.print(f"\n[bold]{step.view}[/]")
    console.print(body.strip(), markup=False)


def _print_changes(diff: PlanDiff) -> None:
    for line in diff.describe():
        colour = {"+": "green", "-": "red", "~": "yellow"}.get(line[:1], "")
        console.print(f"[{colour}]{escape(line)}[/]" if colour else escape(line))


def _as_problem(error: SourceError) -> Problem:
    return Problem(problem=error.problem, subject=f"source {error.source!r}", file=error.file, line=error.line)
