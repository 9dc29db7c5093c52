"""Planning on-demand features: what they read, their type and their fingerprint.

Takes the declared features and the planned steps, and gives for each the expression to evaluate over named columns, or the
function to call. A feature with a problem is left out, and so are the services that list it.
"""

from __future__ import annotations

from collections.abc import Mapping

from fstore.definitions.on_demand import OnDemandFeature
from fstore.definitions.problems import Reporter
from fstore.definitions.project import Project
from fstore.definitions.references import ResolvedFeature
from fstore.plan.binding import Bind, bound_columns, bound_type, check_declared
from fstore.plan.comparisons import check_comparisons
from fstore.plan.inference import Untyped, infer_type, sql_type
from fstore.plan.services import report_blocked, resolve_feature
from fstore.plan.sql import ScalarSql, SqlProblem, canonical_sql, parse_scalar, quoted, render_scalar
from fstore.plan.steps import PlannedOnDemand, Step, fingerprint_of, request_column
from fstore.types import Column, parse_type


class OnDemandCompiler:
    """Compiles the on-demand features of a project over its steps."""

    def __init__(self, project: Project, steps: Mapping[str, Step], bind: Bind | None) -> None:
        self.project, self.steps, self.bind = project, steps, bind

    def compile(self, item: OnDemandFeature, report: Reporter) -> PlannedOnDemand | None:
        """Return a planned feature; None when it has a problem (all of them are reported)."""
        before = len(report.problems)
        features = self._features(item, report)
        request = tuple(Column(name=name, type=str(parse_type(text))) for name, text in item.request.items())
        if len(report.problems) > before:
            return None
        found = {name: self._type_of(feature) for name, feature in features.items()}
        types = {**{column.name: column.type for column in request}, **found}
        declared = None if item.type is None else str(parse_type(item.type))
        meaning: list[object] = [item.function.source, item.function.parameters] if item.function else []
        sql, type_ = None, declared
        if item.sql is not None:
            try:
                scalar = parse_scalar(item.sql)
            except SqlProblem as problem:
                report.add(problem.problem, problem.fix)
                return None
            if not _check_names(scalar, types, report):
                return None
            columns = {**{name: str(feature) for name, feature in features.items()},
                       **{column.name: request_column(column) for column in request}}  # fmt: skip
            sql = render_scalar(scalar, {name.lower(): column for name, column in columns.items()})
            type_ = self._type(scalar, sql, types, columns, declared, report)
            if len(report.problems) == before:
                check_comparisons(scalar.tree, {name.lower(): text for name, text in types.items()}, report)
            sql = sql if type_ is None else f"CAST(({sql}) AS {sql_type(parse_type(type_))})"
            meaning = [canonical_sql(item.sql)]
        if len(report.problems) > before:
            return None
        read = [[name, str(feature), self._fingerprint_of(feature)] for name, feature in sorted(features.items())]
        asked = sorted([column.name, column.type] for column in request)
        return PlannedOnDemand(
            name=item.name, type=type_, request=request, features=features, sql=sql, function=item.function,
            fingerprint=fingerprint_of("on_demand", item.name, declared, meaning, asked, read),
            module=item.location.file, line=item.location.line, description=item.description, pii=item.pii,
        )  # fmt: skip

    def _features(self, item: OnDemandFeature, report: Reporter) -> dict[str, ResolvedFeature]:
        """Resolve the stored features that it reads."""
        found: dict[str, ResolvedFeature] = {}
        for name, reference in item.features.items():
            step = self.steps.get(reference.view)
            if step is None:
                report_blocked(reference.view, self.project, report)
                continue
            resolved = resolve_feature(reference, self.project.views[reference.view], step, report)
            if len(resolved) == 1:
                found[name] = resolved[0]
        return found

    def _type_of(self, feature: ResolvedFeature) -> str | None:
        return next(item.type for item in self.steps[feature.view].features if item.name == feature.feature)

    def _fingerprint_of(self, feature: ResolvedFeature) -> str:
        return next(item.fingerprint for item in self.steps[feature.view].features if item.name == feature.feature)

    def _type(
        self, scalar: ScalarSql, sql: str, types: Mapping[str, str | None], columns: Mapping[str, str],
        declared: str | None, report: Reporter,
    ) -> str | None:  # fmt: skip
        """Return the type of an expression: declared, bound by the engine, or inferred; None while it is not known."""
        known = {columns[name]: text for name, text in types.items() if text is not None}
        if self.bind is not None and len(known) == len(types):
            relations = {"rows": known or {"row:": "bool"}}
            bound = bound_columns(self.bind, f"SELECT ({sql}) AS {quoted('value')} FROM rows", relations, (), report)
            if bound is None:
                return None
            if declared is None:
                return bound_type("", bound["value"], report)
            check_declared("", declared, bound["value"], report)
        if declared is not None:
            return declared
        try:
            found = infer_type(scalar.tree, {name.lower(): text for name, text in types.items()})
        except Untyped:
            return None  # the engine will say
        return None if found is None else str(found)


def _check_names(scalar: ScalarSql, types: Mapping[str, object], report: Reporter) -> bool:
    """Report columns that are nothing the feature is given, and what it is given and does not read."""
    before = len(report.problems)
    known = {name.lower() for name in types}
    for column in scalar.columns:
        if column.lower() not in known:
            report.unknown("reads", column, types, "its request values and features")
    read = {column.lower() for column in scalar.columns}
    for name in types:
        if name.lower() not in read:
            report.add(f"is given {name!r}, which its SQL does not read.", "Remove it, or read it.")
    return len(report.problems) == before
