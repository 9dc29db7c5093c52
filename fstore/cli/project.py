"""The command ``check``, and what plan and apply have in common with it: a project compiled against its sources."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from fstore.backends import open_backends
from fstore.cli.output import console, print_json
from fstore.definitions.project import Problem
from fstore.engines.engine import Engine
from fstore.errors import DefinitionErrors, SourceError, SourceSqlError, StoreMissing
from fstore.plan.steps import Plan
from fstore.runtime.plan_cache import load_definitions, load_typed_plan
from fstore.runtime.preparation import ReadSchemas, Schemas, check_drift, compile_with_types, read_schemas
from fstore.settings import Settings, load_settings


class CheckedProject(msgspec.Struct, frozen=True, kw_only=True):
    """A project compiled against its sources as they are now, and everything that is wrong with it."""

    plan: Plan
    schemas: dict[str, dict[str, str]]
    problems: tuple[Problem, ...]


def compile_project(settings: Settings, engine: Engine, recorded: Schemas) -> CheckedProject:
    """Load the definitions, read the schemas of all sources and compile; collect problems instead of raising.

    ``recorded`` are schemas that the sources are held against (empty to accept whatever they are).
    """
    project = load_definitions(settings)
    read = read_schemas(engine, list(project.sources.values()))
    drift: list[Problem] = []
    try:
        check_drift(recorded, read.schemas, project.sources)
    except SourceError as error:
        drift.append(_as_problem(error))
    plan = load_typed_plan(
        settings, project, read.schemas, lambda known: compile_with_types(engine, project, read.schemas, known=known)
    )
    return CheckedProject(plan=plan, schemas=read.schemas, problems=(*plan.problems, *_unreadable(read, plan), *drift))


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


def _unreadable(read: ReadSchemas, plan: Plan) -> list[Problem]:
    """Return the problems of sources that could not be read, each once; of SQL only those that the plan did not see."""
    seen = {problem.subject for problem in plan.problems}
    found = [(error, _as_problem(error)) for error in read.errors]
    kept = [problem for error, problem in found if not (isinstance(error, SourceSqlError) and problem.subject in seen)]
    return list(dict.fromkeys(kept))


def _as_problem(error: SourceError) -> Problem:
    return Problem(problem=error.problem, subject=f"source {error.source!r}", file=error.file, line=error.line)
