"""The command ``plan``: what applying the definitions would change, and what would be computed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from rich.markup import escape

from fstore.backends import Backends, open_backends
from fstore.cli.output import console, errors, print_json, print_table
from fstore.cli.plan_markdown import markdown, size_text, time_text
from fstore.cli.project import CheckedProject, compile_project
from fstore.definitions.project import Problem
from fstore.errors import StoreMissing
from fstore.interval import Interval
from fstore.plan.diff import PlanDiff, diff_plans
from fstore.plan.selection import select_steps
from fstore.plan.service_diff import diff_on_demand, diff_services
from fstore.plan.steps import Plan, PythonStep, Step
from fstore.runtime.garbage import rarely_collected
from fstore.runtime.inputs import look_at_files
from fstore.runtime.outlook import PlannedView, plan_views
from fstore.settings import Settings, load_settings

NOTHING_TO_COMPUTE, PROBLEMS, SOMETHING_TO_COMPUTE = 0, 1, 2


class ProjectPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan says: the changes, what would be computed of the selected views, and the problems.

    ``warnings`` name sources that could not be looked at: what changed in them is not counted.
    """

    project: str
    environment: str
    changes: PlanDiff
    compute: tuple[PlannedView, ...]
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """0: nothing would be computed, 1: there are problems, 2: something would be computed."""
        if self.problems:
            return PROBLEMS
        return SOMETHING_TO_COMPUTE if any(line.total for line in self.compute) else NOTHING_TO_COMPUTE


def show_plan(selectors: Sequence[str], *, sql: bool, as_json: bool, as_markdown: bool) -> int:
    """Print what is added, changed or removed against the registry, and what would be computed; return the exit code."""
    settings = load_settings()
    plan, steps = make_plan(settings, selectors, datetime.now(UTC))
    for warning in plan.warnings:
        errors.print(f"[yellow]warning[/] {escape(warning)}")
    if as_json:
        print_json(plan)
    elif as_markdown:
        console.print(markdown(plan.project, plan.environment, plan.changes, plan.compute, plan.problems), markup=False)
    else:
        _print_plan(plan, steps if sql else ())
    return plan.exit_code


def make_plan(settings: Settings, selectors: Sequence[str], now: datetime) -> tuple[ProjectPlan, list[Step]]:
    """Return the plan of a project at an instant, and the selected steps."""
    with rarely_collected(), open_backends(settings) as backends:
        checked = compile_project(settings, backends.engine, {})
        steps = select_steps(checked.plan.steps, selectors)
        registered = registered_plan(backends)
        diff = plan_changes(registered or Plan(project=settings.project), checked)
        unseen = look_at_files(backends, registered.steps) if registered else []
        planned = plan_views(None if registered is None else backends.registry, checked.plan.steps, now)
    chosen = {step.view for step in steps}
    lines = tuple(line for line in planned if line.view in chosen)
    # Where the definitions have problems, their sources may be what they are about: those are said alone.
    plan = ProjectPlan(project=settings.project, environment=settings.environment, changes=diff, compute=lines,
                       problems=checked.problems, warnings=() if checked.problems else tuple(unseen))  # fmt: skip
    return plan, steps


def registered_plan(backends: Backends) -> Plan | None:
    """Return the views, services and on-demand features that are registered; None when there is no registry yet."""
    registry = backends.registry
    try:
        return Plan(
            project=backends.settings.project, steps=tuple(view.step for view in registry.views()),
            services=tuple(registry.services()), on_demand=tuple(registry.on_demand_features()),
        )  # fmt: skip
    except StoreMissing:
        return None


def plan_changes(registered: Plan, checked: CheckedProject) -> PlanDiff:
    """Return what applying a project would change.

    While there are problems nothing counts as removed: it may be what the broken modules declare.
    """
    plan = checked.plan
    if checked.problems:
        registered = _remaining(registered, plan)
    return msgspec.structs.replace(
        diff_plans(registered.steps, plan.steps, registered.services),
        readings=(
            *diff_services(registered.services, plan.services), *diff_on_demand(registered.on_demand, plan.on_demand),
        ),
    )  # fmt: skip


def _remaining(registered: Plan, plan: Plan) -> Plan:
    """Return that part of what is registered which a plan has as well."""
    steps, services = {step.view for step in plan.steps}, {item.name for item in plan.services}
    on_demand = {item.name for item in plan.on_demand}
    return msgspec.structs.replace(
        registered,
        steps=tuple(step for step in registered.steps if step.view in steps),
        services=tuple(item for item in registered.services if item.name in services),
        on_demand=tuple(item for item in registered.on_demand if item.name in on_demand),
    )


def print_changes(diff: PlanDiff) -> None:
    """Print a line for every view, service and on-demand feature that is added, changed or removed."""
    for line in diff.describe():
        colour = {"+": "green", "-": "red", "~": "yellow"}.get(line[:1], "")
        console.print(f"[{colour}]{escape(line)}[/]" if colour else escape(line))


def _print_plan(plan: ProjectPlan, shown_sql: Sequence[Step]) -> None:
    print_changes(plan.changes)
    working = [line for line in plan.compute if line.total]
    if working:
        print_table(
            "To compute",
            ("view", "kind", "DAG", "missing", "again", "beside", "from", "to", "rows ≈", "bytes ≈", "time ≈"),
            [
                (line.view, line.kind, line.dag, line.missing, line.again, line.beside,
                 *_span([*line.ranges, *line.beside_ranges]),
                 line.rows_estimate, size_text(line.bytes_estimate), time_text(line.seconds_estimate))
                for line in working
            ],
            numbers=("missing", "again", "beside", "rows ≈", "bytes ≈", "time ≈"),
            optional=("DAG", "kind", "bytes ≈", "rows ≈", "time ≈"),
        )  # fmt: skip
    for step in shown_sql:
        _print_sql(step)
    for problem in plan.problems:
        errors.print(f"[red]problem[/] {escape(str(problem))}")
    due, beside = sum(line.due for line in plan.compute), sum(line.beside for line in plan.compute)
    said = f"{due:,} intervals are due" if due else "Nothing is due"
    if plan.problems:
        said += (
            " of what has no problems. Until they are solved nothing can be applied, `fstore run` takes only views that "
            "--select names, and what the definitions no longer have is not listed"
        )
    elif due:
        said += "; `fstore run` computes them, or the DAGs do"
    shown_above = not plan.changes.is_empty or working or shown_sql or plan.problems
    console.print(("\n" if shown_above else "") + f"{said}.")
    if plan.changes.readings and not plan.problems:
        console.print("`fstore apply` records services and on-demand features.")
    if beside:
        console.print(
            f"{beside:,} intervals of new generations are filled beside the live ones once `fstore apply` is run; readers "
            "see the live ones until the new ones are complete."
        )


def _span(ranges: Sequence[Interval]) -> tuple[datetime | None, datetime | None]:
    return (min(r.start for r in ranges), max(r.end for r in ranges)) if ranges else (None, None)


def _print_sql(step: Step) -> None:
    body = step.function.source if isinstance(step, PythonStep) else step.sql
    console.print(f"\n[bold]{step.view}[/]")
    console.print(body.strip(), markup=False)
