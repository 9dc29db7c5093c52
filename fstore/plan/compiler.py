"""Compile a project into a plan.

Takes the definitions loaded from feature_defs/ and the recorded schemas of the sources, and gives the steps that compute,
validate and materialize the views, in dependency order. Every problem is reported at once; a view that has one, and whatever
reads it, has no step, and all other views do. Pure: reads no data and opens no connection, so the same project always gives
the same plan.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import TypedDict

import msgspec

from fstore.definitions.feature_view import Input, View
from fstore.definitions.project import Problem, Project
from fstore.definitions.source import Source
from fstore.errors import DefinitionError, did_you_mean, listing
from fstore.interval import Schedule, parse_duration
from fstore.plan.aggregates import AggregateMembers, compile_empty_row
from fstore.plan.audits import compile_audits
from fstore.plan.columns import Schemas, check_key_columns, check_source, compile_keys, find_column, source_columns
from fstore.plan.fingerprint import ViewIdentity, input_identity, view_fingerprint
from fstore.plan.graph import order_views, upstream_views, with_upstream
from fstore.plan.outputs import (
    DeclaredFields,
    Outputs,
    SqlOutputs,
    compile_python_outputs,
    declared_fields,
    relation_columns,
)
from fstore.plan.problems import Reporter
from fstore.plan.services import blocking_place, resolve_service
from fstore.plan.steps import (
    AggregateStep,
    Audit,
    ColumnEdge,
    DimensionInput,
    EventInput,
    Feature,
    HistoryInput,
    Plan,
    PlannedEntity,
    PythonStep,
    SnapshotInput,
    SqlStep,
    Step,
    StepInput,
)
from fstore.plan.timing import Timing, compile_timing
from fstore.plan.windows import compile_windows
from fstore.types import Column

UNKNOWN_TYPE = "unknown"
"""The type text of an upstream column as long as no schema says what it is."""


class _Shared(TypedDict):
    """The fields that every step has."""

    project: str
    view: str
    entity: str
    keys: tuple[Column, ...]
    features: tuple[Feature, ...]
    schedule: Schedule
    start: datetime
    end: datetime | None
    lag: timedelta
    ttl: timedelta | None
    online: bool
    pipeline: str
    audits: tuple[Audit, ...]
    lineage: tuple[ColumnEdge, ...]
    fingerprint: str
    module: str
    line: int
    description: str
    owner: str
    tags: dict[str, str]


def compile_plan(project: Project, schemas: Schemas, *, views: Collection[str] | None = None) -> Plan:
    """Return the plan of a project, with every problem that its definitions have.

    ``schemas`` maps sources to columns and types; of a source that is absent nothing is known, so that its columns are not
    checked and features have no type. ``views`` limits the plan to those views, what is upstream of them, and the services
    that read nothing else. Raises DefinitionError when it names a view that does not exist.
    """
    return _Compiler(project, schemas).compile(views)


class _Compiler:
    """Holds what is known while one project is compiled."""

    def __init__(self, project: Project, schemas: Schemas) -> None:
        self.project, self.schemas = project, schemas
        self.problems: list[Problem] = list(project.problems)
        self.steps: dict[str, Step] = {}
        self.entities: dict[str, tuple[Column, ...]] = {}
        self.lags: dict[str, timedelta | None] = {}

    def compile(self, views: Collection[str] | None) -> Plan:
        project = self.project
        chosen = dict(project.views) if views is None else self._choose(views)
        self._check_entities_and_sources()
        order, _ = order_views(chosen, self.problems)
        for view in order:
            step = self._step(view)
            if step is not None:
                self.steps[view.name] = step
        services = [
            resolved
            for service in project.services.values()
            if views is None or all(reference.view in chosen for reference in service.features)
            if (resolved := resolve_service(service, project, self.steps, self._reporter("feature service", service)))
        ]
        return Plan(
            project=project.project,
            entities=tuple(
                PlannedEntity(name=name, keys=keys, description=project.entities[name].description)
                for name, keys in sorted(self.entities.items())
            ),
            steps=tuple(self.steps.values()),
            services=tuple(sorted(services, key=lambda service: service.name)),
            problems=tuple(sorted(self.problems, key=lambda item: (item.file, item.line, item.subject, item.problem))),
        )

    def _choose(self, names: Collection[str]) -> dict[str, View]:
        for name in sorted(names):
            if name not in self.project.views and name not in self.project.broken:
                raise DefinitionError(
                    f"there is no feature view {name!r} in {self.project.directory}.",
                    fix=did_you_mean(name, self.project.views).strip(),
                )
        chosen = with_upstream(self.project.views, names)
        return {name: view for name, view in self.project.views.items() if name in chosen}

    def _reporter(self, kind: str, item: object) -> Reporter:
        location = getattr(item, "location", None)
        return Reporter(self.problems, f"{kind} {getattr(item, 'name', '')!r}", location)

    def _check_entities_and_sources(self) -> None:
        for name, entity in self.project.entities.items():
            if keys := compile_keys(entity, self._reporter("entity", entity)):
                self.entities[name] = keys
        for name, source in self.project.sources.items():
            self.lags[name] = check_source(source, self.schemas, self._reporter("source", source))

    # -- one view -----------------------------------------------------------------------------------------------------

    def _step(self, view: View) -> Step | None:
        """Return the step of a view whose upstream is compiled; None when it has a problem."""
        report = self._reporter("feature view", view)
        if self._is_blocked(view, report):
            return None
        before = len(self.problems)
        keys = self._keys(view, report)
        inputs = self._inputs(view, report)
        timing = self._timing(view, report)
        self._check_kind(view, report)
        if len(self.problems) > before or timing is None or keys is None:
            return None
        identity = ViewIdentity(name=view.name, keys=keys, schedule=timing.schedule, kind="snapshot")
        if view.source is not None:
            return self._aggregate_step(view, identity, timing, report)
        return self._output_step(view, identity, timing, inputs, report)

    def _is_blocked(self, view: View, report: Reporter) -> bool:
        """Report upstream views that could not be planned, unless they are missing altogether."""
        blockers = [name for name in upstream_views(view) if name not in self.steps]
        places = {name: place for name in blockers if (place := blocking_place(name, self.project))}
        for name, place in places.items():
            report.add(f"is blocked by {place.file}: feature view {name!r} has a problem.")
        return bool(places)

    def _keys(self, view: View, report: Reporter) -> tuple[Column, ...] | None:
        if view.entity in self.entities:
            return self.entities[view.entity]
        if view.entity in self.project.entities:
            report.add(f"is about entity {view.entity!r}, which has a problem.")
        else:
            report.unknown("is about entity", view.entity, sorted(self.project.entities), "the project's entities")
        return None

    def _timing(self, view: View, report: Reporter) -> Timing | None:
        names = [view.source] if view.source is not None else [item.name for item in view.inputs if item.kind == "source"]
        lags = [lag for name in names if (lag := self.lags.get(name)) is not None]
        upstream = [self.steps[name] for name in upstream_views(view) if name in self.steps]
        lags.extend(step.lag for step in upstream)
        return compile_timing(view, lags, [step.start for step in upstream], report)

    def _check_kind(self, view: View, report: Reporter) -> None:
        ways = [name for name, value in (("source", view.source), ("sql", view.sql), ("compute", view.function)) if value]
        if len(ways) != 1:
            report.add(f"is computed by {listing(ways)}.", "Set exactly one of source (for aggregates), sql and compute.")
        elif view.source is not None and view.inputs:
            report.add("has inputs, which views of aggregates do not read.", "Remove inputs, or compute the view with sql.")
        elif view.source is None and not view.inputs:
            report.add("has no inputs.", 'Add inputs = {"u": users}.')

    def _inputs(self, view: View, report: Reporter) -> tuple[StepInput, ...]:
        compiled = [self._input(item, report) for item in view.inputs]
        return tuple(item for item in compiled if item is not None)

    def _source(self, name: str, report: Reporter) -> Source | None:
        source = self.project.sources.get(name)
        if source is None:
            report.unknown("reads source", name, sorted(self.project.sources), "the project's sources")
        elif self.lags.get(name) is None:
            report.add(f"reads source {name!r}, which has a problem.")
            return None
        return source

    def _input(self, item: Input, report: Reporter) -> StepInput | None:
        if item.kind == "view":
            return self._view_input(item, report)
        source = self._source(item.name, report)
        if source is None:
            return None
        if source.is_dimension:
            if item.window is not None:
                report.add(f"bounds the input {item.alias!r} with a window, and source {source.name!r} is a dimension.",
                           f"Write {source.name} instead of {source.name}.window(…).")  # fmt: skip
            return DimensionInput(alias=item.alias, source=source)
        if item.window is None:
            report.add(f"reads the events of source {source.name!r} as {item.alias!r} without a bound.",
                       f'Write {source.name}.window("30d"), or .window("all").')  # fmt: skip
            return None
        return self._event_input(item, source, item.window, report)

    def _event_input(self, item: Input, source: Source, window: str, report: Reporter) -> EventInput | None:
        try:
            bound = None if window == "all" else parse_duration(window)
        except ValueError as error:
            report.add(f"has the input {item.alias!r} with a window that cannot be used: {error}.")
            return None
        if bound is not None and bound <= timedelta():
            report.add(f"has the input {item.alias!r} with the window {window!r}, which is empty.", 'Use one such as "30d".')
            return None
        return EventInput(alias=item.alias, source=source, window=bound)

    def _view_input(self, item: Input, report: Reporter) -> StepInput | None:
        step = self.steps.get(item.name)
        if step is None:
            report.unknown("reads feature view", item.name, sorted(self.project.views), "the project's")
            return None
        kind = HistoryInput if item.history else SnapshotInput
        features = tuple(Column(name=feature.name, type=feature.type or UNKNOWN_TYPE) for feature in step.features)
        return kind(alias=item.alias, view=step.view, keys=step.keys, features=features, schedule=step.schedule,
                    start=step.start, end=step.end, pipeline=step.pipeline)  # fmt: skip

    # -- the three kinds of step --------------------------------------------------------------------------------------

    def _aggregate_step(self, view: View, identity: ViewIdentity, timing: Timing, report: Reporter) -> Step | None:
        before = len(self.problems)
        source = self._source(view.source or "", report)
        if source is None:
            return None
        if source.is_dimension:
            report.add(f"aggregates source {source.name!r}, which is a dimension without event_time.",
                       "Give the source an event_time, or read it in a SQL view.")  # fmt: skip
            return None
        columns = source_columns(source, self.schemas)
        if columns is not None:
            check_key_columns(identity.keys, columns, f"source {source.name!r}", report)
        compiled = AggregateMembers(view, identity, source, columns, report).compile()
        if compiled is None or len(self.problems) > before:
            return None
        shared = self._shared(view, identity, timing, compiled.features, compiled.lineage, report)
        if shared is None:
            return None
        names = columns or {}
        time = source.event_time or ""
        read = [find_column(name, names) or name for name in [*(key.name for key in identity.keys), time]]
        events = EventInput(alias="events", source=source, window=compiled.window,
                            columns=tuple(dict.fromkeys([*read, *compiled.columns])))  # fmt: skip
        sql = compile_windows(
            keys=[key.name for key in identity.keys], event_time=time, features=compiled.windows,
            expressions=compiled.expressions, columns=[feature.name for feature in compiled.features],
            schedule=timing.schedule,
        )  # fmt: skip
        return AggregateStep(**shared, kind="snapshot", inputs=(events,), sql=sql, empty_sql=compile_empty_row(compiled))

    def _output_step(
        self, view: View, identity: ViewIdentity, timing: Timing, inputs: tuple[StepInput, ...], report: Reporter
    ) -> Step | None:
        declared = declared_fields(view, identity.keys, report)
        columns = {name: source_columns(source, self.schemas) for name, source in self.project.sources.items()}
        relations = {item.alias: relation_columns(item, columns) for item in inputs}
        upstream = {name: step.fingerprint for name, step in self.steps.items()}
        identities = [input_identity(item, upstream) for item in inputs]
        outputs = self._outputs(view, identity, inputs, relations, declared, identities, report) if declared else None
        if outputs is None:
            return None
        identity = msgspec.structs.replace(identity, kind=outputs.kind)
        shared = self._shared(view, identity, timing, outputs.features, outputs.lineage, report)
        if shared is None:
            return None
        if view.function is not None:
            return PythonStep(**shared, kind=outputs.kind, inputs=inputs, function=view.function)
        return SqlStep(**shared, kind=outputs.kind, inputs=inputs, sql=outputs.sql)

    def _outputs(
        self, view: View, identity: ViewIdentity, inputs: tuple[StepInput, ...],
        relations: Mapping[str, tuple[str, ...] | None], declared: DeclaredFields, identities: list[list[object]],
        report: Reporter,
    ) -> Outputs | None:  # fmt: skip
        if view.function is not None:
            return compile_python_outputs(view, identity, inputs, relations, declared, identities, report)
        return SqlOutputs(view, identity, inputs, relations, report).compile(declared, identities)

    def _shared(
        self, view: View, identity: ViewIdentity, timing: Timing, features: tuple[Feature, ...],
        lineage: tuple[ColumnEdge, ...], report: Reporter,
    ) -> _Shared | None:  # fmt: skip
        """Return the fields that every step has; None when a check has a problem."""
        before = len(self.problems)
        types: dict[str, str | None] = {key.name: key.type for key in identity.keys}
        types.update({feature.name: feature.type for feature in features})
        audits = compile_audits(view.checks, types, report)
        pipeline = view.pipeline or module_pipeline(view.module, self.project.directory)
        if not pipeline.replace("_", "").replace("-", "").replace(".", "").isalnum() or not pipeline.isascii():
            report.add(f"has the pipeline {pipeline!r}.", "Use letters, digits, dots, dashes and underscores.")
        if len(self.problems) > before:
            return None
        return _Shared(
            project=self.project.project, view=view.name, entity=view.entity, keys=identity.keys, features=features,
            schedule=timing.schedule, start=timing.start, end=timing.end, lag=timing.lag, ttl=timing.ttl, online=view.online,
            pipeline=pipeline, audits=audits, lineage=lineage,
            fingerprint=view_fingerprint(identity, {feature.name: feature.fingerprint for feature in features}),
            module=view.module, line=view.location.line, description=view.description, owner=view.owner, tags=view.tags,
        )  # fmt: skip


def module_pipeline(module: str, directory: str) -> str:
    """Return the pipeline that a module's views belong to: its path without directory and suffix, joined by underscores."""
    path = module.removeprefix(f"{directory}/").removesuffix(".py").removesuffix("/__init__")
    return path.replace("/", "_").replace(".", "_")
