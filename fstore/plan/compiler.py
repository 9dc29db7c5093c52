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

from fstore.definitions.aggregation import Aggregation
from fstore.definitions.feature_view import Input, View
from fstore.definitions.files import TWIN_SUFFIXES
from fstore.definitions.on_demand import OnDemandFeature
from fstore.definitions.problems import Reporter
from fstore.definitions.project import Problem, Project, Service
from fstore.definitions.source import Source, member_sources, source_lag, with_members
from fstore.errors import DefinitionError, did_you_mean
from fstore.interval import Schedule, format_duration, parse_duration
from fstore.plan.aggregates import AggregateMembers, compile_empty_row
from fstore.plan.audits import compile_audits
from fstore.plan.binding import Bind
from fstore.plan.columns import (
    Schemas,
    check_join_keys,
    check_source,
    key_columns,
    relation_columns,
    source_columns,
)
from fstore.plan.composite_sources import physical_edges
from fstore.plan.composites import UNKNOWN_TYPE, CompositeMembers, is_composite
from fstore.plan.fingerprint import ViewIdentity, view_fingerprint
from fstore.plan.graph import order_views, upstream_views, with_upstream
from fstore.plan.on_demand import OnDemandCompiler
from fstore.plan.outputs import SqlOutputs, compile_python_outputs, declared_fields
from fstore.plan.scalar_binding import aggregate_scalars, expression_scalars, refuse_scalars, source_scalar_types
from fstore.plan.services import report_blocked, resolve_service
from fstore.plan.source_pieces import alignment
from fstore.plan.step_keys import KnownSteps, StepKeys
from fstore.plan.steps import (
    AggregateStep,
    Audit,
    ColumnEdge,
    CompositeStep,
    DimensionInput,
    EventInput,
    Feature,
    HistoryInput,
    Plan,
    PlannedEntity,
    PlannedOnDemand,
    PythonStep,
    SnapshotInput,
    SqlStep,
    Step,
    StepInput,
)
from fstore.plan.tile_grid import tile_length
from fstore.plan.timing import Timing, compile_timing
from fstore.plan.windows import all_events, compile_windows, draft_tiles
from fstore.types import Column

UNBOUNDED = "all"
"""The window of an input that reads every event there is."""


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


def compile_plan(
    project: Project, schemas: Schemas, *, views: Collection[str] | None = None, bind: Bind | None = None,
    known: KnownSteps | None = None,
) -> Plan:  # fmt: skip
    """Return the plan of a project, with every problem that its definitions have.

    ``schemas`` maps sources to columns and types; of a source that is absent nothing is known, so that its columns are not
    checked and features have no type. ``views`` limits the plan to those views, what is upstream of them, and the services
    that read nothing else. ``bind`` asks an engine what SQL gives: with it, SQL that the engine refuses and types that do
    not fit are problems too, and columns without a declared type get the one that they have. ``known`` are steps of an
    earlier compilation by the same code: a view whose key is among them is not compiled again. Raises DefinitionError when
    ``views`` names one that does not exist.
    """
    return _Compiler(project, schemas, bind, known).compile(views)


class _Compiler:
    """Holds what is known while one project is compiled."""

    def __init__(self, project: Project, schemas: Schemas, bind: Bind | None, known: KnownSteps | None) -> None:
        self.project, self.schemas, self.bind, self.known = project, schemas, bind, known
        self.keys = StepKeys(project, schemas, bound=bind is not None)
        self.key_of: dict[str, str] = {}
        self.problems: list[Problem] = list(project.problems)
        self.steps: dict[str, Step] = {}
        self.sources: dict[str, Source] = {}

    def compile(self, views: Collection[str] | None) -> Plan:
        project = self.project
        chosen = dict(project.views) if views is None else self._choose(views)
        self._check_sources()
        order, _ = order_views(chosen, self.problems)
        for view in order:
            step = self._step(view)
            if step is not None:
                self.steps[view.name] = step
        on_demand = self._on_demand(chosen, complete=views is None)
        services = [
            resolved
            for service in project.services.values()
            if views is None or self._reads_only(service, chosen)
            if (resolved := resolve_service(service, project, self.steps, on_demand,
                                            self._reporter("feature service", service)))
        ]  # fmt: skip
        return Plan(
            project=project.project,
            entities=tuple(
                PlannedEntity(name=name, keys=key_columns(entity), description=entity.description)
                for name, entity in sorted(project.entities.items())
            ),
            steps=tuple(self.steps.values()),
            services=tuple(sorted(services, key=lambda service: service.name)),
            on_demand=tuple(on_demand[name] for name in sorted(on_demand)),
            problems=tuple(sorted(self.problems, key=lambda item: (item.file, item.line, item.subject, item.problem))),
        )

    def _on_demand(self, chosen: Mapping[str, View], *, complete: bool) -> dict[str, PlannedOnDemand]:
        """Compile the on-demand features, or those that read only the chosen views."""
        compiler = OnDemandCompiler(self.project, self.steps, self.bind)
        compiled = [
            compiler.compile(item, self._reporter("on-demand feature", item))
            for item in self.project.on_demand.values()
            if complete or all(reference.view in chosen for reference in item.features.values())
        ]
        return {item.name: item for item in compiled if item is not None}

    def _reads_only(self, service: Service, chosen: Mapping[str, View]) -> bool:
        on_demand = [self.project.on_demand.get(reference.attribute or "") for reference in service.features
                     if not reference.view]  # fmt: skip
        views = [reference.view for reference in service.features if reference.view]
        views += [reference.view for item in on_demand if item for reference in item.features.values()]
        return all(view in chosen for view in views)

    def _choose(self, names: Collection[str]) -> dict[str, View]:
        for name in sorted(names):
            if name not in self.project.views and name not in self.project.broken:
                raise DefinitionError(
                    f"there is no feature view {name!r} in {self.project.directory}.",
                    fix=did_you_mean(name, self.project.views).strip(),
                )
        chosen = with_upstream(self.project.views, names)
        return {name: view for name, view in self.project.views.items() if name in chosen}

    def _reporter(self, kind: str, item: View | Source | Service | OnDemandFeature) -> Reporter:
        return Reporter(self.problems, f"{kind} {item.name!r}", item.location)

    def _check_sources(self) -> None:
        checked: dict[str, bool] = {}
        for source in self.project.sources.values():
            for each in with_members(source):
                if each.name not in checked:
                    checked[each.name] = self._check_source(each, checked)
        self.sources = {name: source for name, source in self.project.sources.items() if checked[name]}

    def _check_source(self, source: Source, checked: Mapping[str, bool]) -> bool:
        report = self._reporter("source", source)
        broken = [member for member in member_sources(source) if not checked[member.name]]
        for member in broken:
            report.add(f"is blocked by {member.location}: source {member.name!r} has a problem.", "Solve that one first.")
        return not broken and check_source(source, self.schemas, report)

    # -- one view -----------------------------------------------------------------------------------------------------

    def _step(self, view: View) -> Step | None:
        """Return the step of a view whose upstream is compiled; None when it has a problem."""
        report = self._reporter("feature view", view)
        if self._is_blocked(view, report):
            return None
        if self.known is None:
            return self._compiled(view, report)
        sources = [self.sources[name] for name in _source_names(view)]
        key = self.keys.key(view, sources, [self.key_of[name] for name in upstream_views(view)])
        self.key_of[view.name] = key
        step = self.known.find(key)
        if step is None:
            before = len(self.problems)
            step = self._compiled(view, report)
            if step is not None and len(self.problems) == before:
                self.known.keep(key, step)
        return step

    def _compiled(self, view: View, report: Reporter) -> Step | None:
        timing = self._timing(view, report)
        if timing is None or not self._is_aligned(view, timing, report):
            return None
        keys = key_columns(self.project.entities[view.entity])
        identity = ViewIdentity(name=view.name, keys=keys, schedule=timing.schedule, kind="snapshot")
        if is_composite(view):
            return self._composite_step(view, identity, timing, report)
        if view.source is not None:
            return self._aggregate_step(view, self.sources[view.source], identity, timing, report)
        return self._output_step(view, identity, timing, report)

    def _is_blocked(self, view: View, report: Reporter) -> bool:
        """Report everything that the view refers to and that has a problem or does not exist."""
        before = len(self.problems)
        for name in upstream_views(view):
            if name not in self.steps:
                report_blocked(name, self.project, report)
        if view.entity not in self.project.entities:
            report.unknown("is about entity", view.entity, sorted(self.project.entities), "the project's")
        for name in _source_names(view):
            if name in self.project.sources and name not in self.sources:
                location = self.project.sources[name].location
                report.add(f"is blocked by {location}: source {name!r} has a problem.", "Solve that one first.")
            elif name not in self.sources:
                report.unknown("reads source", name, sorted(self.project.sources), "the project's")
        return len(self.problems) > before

    def _timing(self, view: View, report: Reporter) -> Timing | None:
        upstream = [self.steps[name] for name in upstream_views(view)]
        lags = [source_lag(self.sources[name]) for name in _source_names(view)]
        return compile_timing(view, [*lags, *(step.lag for step in upstream)], [step.start for step in upstream], report)

    def _is_aligned(self, view: View, timing: Timing, report: Reporter) -> bool:
        """Report sources that are made in pieces of time within which intervals of the view end."""
        step = tile_length(timing.schedule, timing.start, ())
        before = len(self.problems)
        for name in _source_names(view):
            piece = alignment(self.sources[name])
            if piece is not None and step % piece:
                report.add(
                    f"reads source {name!r}, whose SQL runs in pieces of {format_duration(piece)} (UTC), and its intervals "
                    "end within them.",
                    "Let the SQL work row by row, shorten its pieces (docs/reference/sources.md), or choose "
                    "another schedule.",
                )
        return len(self.problems) == before

    def _input(self, item: Input) -> StepInput:
        if item.kind == "view":
            return self._view_input(item)
        source = self.sources[item.name]
        if source.is_dimension:
            return DimensionInput(alias=item.alias, source=source)
        window = None if item.window is None or item.window == UNBOUNDED else parse_duration(item.window)
        return EventInput(alias=item.alias, source=source, window=window)

    def _view_input(self, item: Input) -> SnapshotInput | HistoryInput:
        step = self.steps[item.name]
        kind = HistoryInput if item.history else SnapshotInput
        features = tuple(Column(name=feature.name, type=feature.type or UNKNOWN_TYPE) for feature in step.features)
        return kind(alias=item.alias, view=step.view, keys=step.keys, features=features, schedule=step.schedule,
                    start=step.start, end=step.end, pipeline=step.pipeline)  # fmt: skip

    # -- the three kinds of step --------------------------------------------------------------------------------------

    def _composite_step(self, view: View, identity: ViewIdentity, timing: Timing, report: Reporter) -> Step | None:
        own: AggregateStep | None = None
        if view.source is not None:
            members = {name: member for name, member in view.members.items() if isinstance(member, Aggregation)}
            aggregates = msgspec.structs.replace(view, members=members, checks=())
            own = self._aggregate_step(aggregates, self.sources[view.source], identity, timing, report)
            if own is None:
                return None
        compiled = CompositeMembers(view, identity, own, self.project, self.steps, report).compile()
        if compiled is None:
            return None
        before = len(self.problems)
        refuse_scalars(self.bind, view, expression_scalars(compiled.expressions), compiled.types, report)
        if len(self.problems) > before:
            return None
        shared = self._shared(view, identity, timing, compiled.features, compiled.lineage, report)
        if shared is None:
            return None
        return CompositeStep(**shared, kind="snapshot", inputs=(*(own.inputs if own else ()), *compiled.inputs), own=own,
                             sql=compiled.sql, empty_sql=compiled.empty_sql)  # fmt: skip

    def _aggregate_step(
        self, view: View, source: Source, identity: ViewIdentity, timing: Timing, report: Reporter
    ) -> AggregateStep | None:
        before = len(self.problems)
        columns = source_columns(source, self.schemas)
        if columns is not None:
            check_join_keys(identity.keys, columns, source, report)
        compiled = AggregateMembers(view, identity, source, columns, report).compile()
        if compiled is None:
            return None
        if columns is not None:
            read = source_scalar_types(source, columns, compiled.windows)
            refuse_scalars(self.bind, view, aggregate_scalars(compiled.windows), read, report)
        types = {feature.name: feature.type for feature in compiled.features}
        refuse_scalars(self.bind, view, expression_scalars(compiled.expressions), types, report)
        if len(self.problems) > before:
            return None
        shared = self._shared(view, identity, timing, compiled.features, compiled.lineage, report)
        if shared is None:
            return None
        draft = draft_tiles(source, identity.keys, columns or {}, timing, compiled.windows)
        names = [feature.name for feature in compiled.features]
        windows = compile_windows(draft, compiled.windows, compiled.expressions, names)
        return AggregateStep(
            **shared, kind="snapshot", inputs=(all_events(windows.tiles),), tiles=windows.tiles, sql=windows.range,
            single_sql=windows.single, empty_sql=compile_empty_row(compiled), windows=compiled.windows,
            expressions=compiled.expressions,
        )  # fmt: skip

    def _output_step(self, view: View, identity: ViewIdentity, timing: Timing, report: Reporter) -> Step | None:
        declared = declared_fields(view)
        inputs = tuple(self._input(item) for item in view.inputs)
        relations = {item.alias: relation_columns(item, self.schemas) for item in inputs}
        if view.function is not None:
            outputs = compile_python_outputs(view.function, identity, inputs, relations, declared, self.steps)
        else:
            compiled = SqlOutputs(view, identity, inputs, self.schemas, self.bind, report).compile(declared, self.steps)
            if compiled is None:
                return None
            outputs = compiled
        identity = msgspec.structs.replace(identity, kind=outputs.kind)
        shared = self._shared(view, identity, timing, outputs.features, outputs.lineage, report)
        if shared is None:
            return None
        if view.function is not None:
            return PythonStep(**shared, kind=outputs.kind, inputs=inputs, function=view.function)
        return SqlStep(**shared, kind=outputs.kind, inputs=inputs, sql=outputs.sql, parameters=outputs.parameters)

    def _shared(
        self, view: View, identity: ViewIdentity, timing: Timing, features: tuple[Feature, ...],
        lineage: tuple[ColumnEdge, ...], report: Reporter,
    ) -> _Shared | None:  # fmt: skip
        """Return the fields that every step has; None when a check has a problem."""
        before = len(self.problems)
        audits = compile_audits(view.checks, {feature.name: feature.type for feature in features}, report)
        if len(self.problems) > before:
            return None
        return _Shared(
            project=self.project.project, view=view.name, entity=view.entity, keys=identity.keys, features=features,
            schedule=timing.schedule, start=timing.start, end=timing.end, lag=timing.lag, ttl=timing.ttl, online=view.online,
            pipeline=view.pipeline or module_pipeline(view.module, self.project.directory), audits=audits,
            lineage=physical_edges(lineage, self.sources, lambda source: source_columns(source, self.schemas)),
            fingerprint=view_fingerprint(identity, {feature.name: feature.fingerprint for feature in features}),
            module=view.module, line=view.location.line, description=view.description, owner=view.owner, tags=view.tags,
        )  # fmt: skip


def _source_names(view: View) -> list[str]:
    """Return the names of the sources that a view reads."""
    if view.source is not None:
        return [view.source]
    return list(dict.fromkeys(item.name for item in view.inputs if item.kind == "source"))


def module_pipeline(module: str, directory: str) -> str:
    """Return the pipeline that a module's views belong to: its path without directory and suffix, joined by underscores."""
    path = module.removeprefix(f"{directory}/")
    for suffix in (".py", *TWIN_SUFFIXES):
        path = path.removesuffix(suffix)
    path = path.removesuffix("/__init__")
    return path.replace("/", "_").replace(".", "_")
