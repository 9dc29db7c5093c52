"""Prepare steps to run: read what the plan could not know, and register what is new.

Takes the cached project; reads the schemas of the sources that the chosen views need, compiles their steps with types,
evaluates their empty rows, and records schemas and definitions in the registry. This is what ``check``, ``apply``, ``run``
and the first task of every Airflow run have in common; it computes no features.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec

from fstore.backends import Backends
from fstore.definitions.project import Problem, Project
from fstore.definitions.source import Source, with_members
from fstore.engines.engine import Engine
from fstore.errors import DefinitionErrors, SourceError, SourceSchemaDrift
from fstore.plan.compiler import compile_plan
from fstore.plan.graph import upstream_views
from fstore.plan.step_keys import KnownSteps
from fstore.plan.steps import Plan, Step
from fstore.runtime.empty_rows import evaluate_empty_rows
from fstore.runtime.inputs import observe_step
from fstore.runtime.versions import Notice, register_steps

Schemas = Mapping[str, Mapping[str, str]]


class ReadSchemas(msgspec.Struct, frozen=True, kw_only=True):
    """The schemas of sources by name, and the errors of those that could not be read."""

    schemas: dict[str, dict[str, str]]
    errors: tuple[SourceError, ...] = ()


def read_schemas(engine: Engine, sources: Collection[Source]) -> ReadSchemas:
    """Read the schema of each source from its files' metadata; collect errors rather than stop at the first."""
    schemas: dict[str, dict[str, str]] = {}
    errors: list[SourceError] = []
    for source in sources:
        try:
            schemas[source.name] = engine.source_schema(source)
        except SourceError as error:
            errors.append(error)
    return ReadSchemas(schemas=schemas, errors=tuple(errors))


def compile_with_types(
    engine: Engine, project: Project, schemas: Schemas, *, views: Collection[str] | None = None,
    known: KnownSteps | None = None,
) -> Plan:  # fmt: skip
    """Compile a project whose schemas are known, with the empty row of every view evaluated.

    ``known`` are steps of an earlier compilation by the same code; they are not compiled again.
    """
    plan = compile_plan(project, schemas, views=views, bind=engine.bind, known=known)
    rows = evaluate_empty_rows(engine, project, plan.steps)
    if rows.problems:  # again without those views, so that their dependents are told what blocks them
        plan = compile_plan(_without(project, rows.problems), schemas, views=views, bind=engine.bind, known=known)
        rows = evaluate_empty_rows(engine, project, plan.steps)
    return msgspec.structs.replace(plan, steps=rows.steps)


def prepare_steps(backends: Backends, project: Project, views: Sequence[str], *, notice: Notice | None = None) -> list[Step]:
    """Return runnable steps of the given views, in the order given, after registering them and all that they read.

    Where a breaking change waits that is the registered step, and ``notice`` is told so. Raises DefinitionErrors when one of
    them has a problem, SourceError when a source cannot be read, and SourceSchemaDrift when a recorded column vanished or
    changed its type (``fstore apply`` accepts the new schema).
    """
    sources = sources_of(project, views)
    read = read_schemas(backends.engine, sources)
    if read.errors:
        raise read.errors[0]
    check_drift(backends.registry.source_schemas(), read.schemas, {source.name: source for source in sources})
    backends.registry.record_source_schemas(read.schemas)
    plan = compile_with_types(backends.engine, project, read.schemas, views=set(views))
    steps = {step.view: step for step in plan.steps}
    if lacking := [view for view in views if view not in steps]:
        raise DefinitionErrors([problem.as_error() for problem in problems_of(plan, lacking)])
    prepared = register_steps(backends, plan, views, notice)
    for step in prepared:
        observe_step(backends, step)  # what has changed in its sources is stale from now on
    return prepared


def sources_of(project: Project, views: Collection[str] | None = None) -> list[Source]:
    """Return the sources that some views and everything upstream of them read (None: every source of the project)."""
    if views is None:
        return list(project.sources.values())
    names: set[str] = set()
    waiting, seen = [view for view in views if view in project.views], set[str]()
    while waiting:
        view = project.views[waiting.pop()]
        if view.name in seen:
            continue
        seen.add(view.name)
        names |= {view.source} if view.source else set()
        names |= {item.name for item in view.inputs if item.kind == "source"}
        waiting.extend(name for name in upstream_views(view) if name in project.views)
    names |= {member.name for name in names & project.sources.keys() for member in with_members(project.sources[name])}
    return [source for name, source in project.sources.items() if name in names]


def check_drift(recorded: Schemas, found: Schemas, sources: Mapping[str, Source]) -> None:
    """Raise SourceSchemaDrift for the first source whose recorded columns vanished or changed their type."""
    for name, columns in found.items():
        for column, type_ in recorded.get(name, {}).items():
            if columns.get(column) != type_:
                now = f"is now {columns[column]}" if column in columns else "is gone"
                location = sources[name].location
                raise SourceSchemaDrift(
                    name,
                    f"drifted: column {column!r} was {type_} and {now}. If that is meant, accept it with `fstore apply`: "
                    "views that read the column are checked against the new schema then.",
                    file=location.file if location else "",
                    line=location.line if location else 0,
                )


def problems_of(plan: Plan, views: Collection[str]) -> list[Problem]:
    """Return the problems that keep some views from being planned: all of the plan's, those of the views first."""
    about = [problem for problem in plan.problems if any(f"'{view}'" in problem.subject for view in views)]
    return about or list(plan.problems)


def _without(project: Project, problems: Mapping[str, Problem]) -> Project:
    """Return a project in which some views are broken."""
    kept = {name: view for name, view in project.views.items() if name not in problems}
    broken = {name: project.views[name].location for name in problems}
    return msgspec.structs.replace(
        project, views=kept, broken={**project.broken, **broken}, problems=(*project.problems, *problems.values())
    )
