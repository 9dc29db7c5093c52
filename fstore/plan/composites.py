"""Planning a view whose expressions read features of other views: what it joins, and the SQL over it.

Takes the view, the step of its own aggregates (if it has a source) and the steps of the views it reads, and gives features
with types and fingerprints, the snapshots to join, and one query for any number of intervals. Rows: every key of the own
aggregates and of each joined view that has all the keys; views with some of the keys are looked up. A key that a view does
not have reads as that view's empty row. Reports every mistake; runs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

import msgspec

from fstore.definitions.expression import Expression
from fstore.definitions.feature_view import View, feature_names
from fstore.definitions.problems import Reporter
from fstore.definitions.project import Project
from fstore.definitions.references import FeatureName, ResolvedFeature
from fstore.errors import listing
from fstore.plan.comparisons import check_comparisons
from fstore.plan.composite_sql import JoinedValue, JoinedView, OwnValues, composite_sql, empty_row_sql
from fstore.plan.fingerprint import ViewIdentity, expression_fingerprint
from fstore.plan.inference import Untyped, infer_type
from fstore.plan.services import resolve_feature
from fstore.plan.sql import ScalarSql, SqlProblem, parse_scalar, render_scalar
from fstore.plan.steps import AggregateStep, ColumnEdge, Feature, SnapshotInput, Step, fingerprint_of
from fstore.plan.window_features import WindowExpression
from fstore.types import Column

UNKNOWN_TYPE = "unknown"
"""The type text of an upstream column as long as no schema says what it is."""


class Composite(msgspec.Struct, frozen=True, kw_only=True):
    """The compiled members of a composite view; ``features`` are in the order of the class body.

    ``expressions`` are over the columns in ``types``: the view's features, and values of joined views.
    """

    features: tuple[Feature, ...]
    expressions: tuple[WindowExpression, ...]
    types: dict[str, str | None]
    inputs: tuple[SnapshotInput, ...]
    sql: str
    empty_sql: str
    lineage: tuple[ColumnEdge, ...]


class _Bound(msgspec.Struct, frozen=True, kw_only=True):
    """A feature of another view that an expression names: the column it has in the joined rows, and its feature."""

    column: str
    feature: Feature
    resolved: ResolvedFeature

    @property
    def fingerprint(self) -> str:
        return fingerprint_of("bound", self.feature.fingerprint, sorted(self.resolved.join_keys.items()))


def is_composite(view: View) -> bool:
    """Whether a view reads features of other views by expressions."""
    return any(isinstance(member, Expression) and member.features for member in view.members.values())


class CompositeMembers:
    """Compiles the expressions of one composite view."""

    def __init__(self, view: View, identity: ViewIdentity, own: AggregateStep | None, project: Project,
                 steps: Mapping[str, Step], report: Reporter) -> None:  # fmt: skip
        self.view, self.identity, self.own, self.report = view, identity, own, report
        self.project, self.steps = project, steps
        self.features = {feature.name: feature for feature in (own.features if own else ())}
        self.edges = {
            name: [edge for edge in (own.lineage if own else ()) if edge.feature == name] for name in self.features
        }
        self.joins: dict[tuple[object, ...], JoinedView] = {}
        self.bound: dict[str, _Bound] = {}
        self.expressions: dict[str, WindowExpression] = {}

    def compile(self) -> Composite | None:
        """Return the compiled members; None when one has a problem (all of them are reported)."""
        before = len(self.report.problems)
        declared = {m.name or a: m for a, m in self.view.members.items() if isinstance(m, Expression)}
        names = {name: self._bind(name, member) for name, member in declared.items()}
        if len(self.report.problems) == before:
            self._compile_expressions(declared, names)
        keyed = [join for join in self.joins.values() if join.has_all_keys]
        if not keyed and self.own is None and len(self.report.problems) == before:
            read = listing(dict.fromkeys(join.step.view for join in self.joins.values()))
            wanted = listing(key.name for key in self.identity.keys)
            self.report.add(f"has no rows: none of the views that it reads ({read}) has all of its keys, {wanted}.",
                            "Give it a source, or read a feature of a view about the same entity.")  # fmt: skip
        if len(self.report.problems) > before:
            return None
        order = [name for a, member in self.view.members.items() for name in feature_names(a, member).values()]
        joins = list(self.joins.values())
        own = OwnValues(features=self.own.features, empty_sql=self.own.empty_sql) if self.own else None
        keys = [key.name for key in self.identity.keys]
        expressions = list(self.expressions.values())
        return Composite(
            features=tuple(self.features[name] for name in order),
            expressions=tuple(expressions),
            types={
                **{name: feature.type for name, feature in self.features.items()},
                **{item.column: item.feature.type for item in self.bound.values()},
            },
            inputs=tuple(_snapshot_input(join) for join in joins),
            sql=composite_sql(keys, own, joins, expressions, order),
            empty_sql=empty_row_sql(own, joins, expressions, order),
            lineage=(*self._key_edges(keyed), *(edge for name in order for edge in self.edges[name])),
        )

    def _reporter(self, name: str, member: Expression) -> Reporter:
        return self.report.about(f"feature '{self.view.name}:{name}'", member.location)

    # -- features of other views --------------------------------------------------------------------------------------

    def _bind(self, name: str, member: Expression) -> dict[str, _Bound]:
        """Resolve what an expression binds, by lower-case name."""
        report = self._reporter(name, member)
        own = {feature.lower() for attribute, item in self.view.members.items()
               for feature in feature_names(attribute, item).values()}  # fmt: skip
        found: dict[str, _Bound] = {}
        for keyword, reference in member.features.items():
            if keyword.lower() in own:
                report.add(f"binds {keyword!r}, which is a feature of the same view.", "Use another name for it.")
            bound = self._resolve(reference, report)
            if bound is not None:
                found[keyword.lower()] = bound
        return found

    def _resolve(self, reference: FeatureName, report: Reporter) -> _Bound | None:
        step = self.steps[reference.view]
        if step.kind == "event":
            report.add(f"reads feature view {step.view!r}, whose rows have times of their own.",
                       "Read it in a SQL view through inputs; expr(…) takes features of snapshot views.")  # fmt: skip
            return None
        resolved = resolve_feature(reference, self.project.views[reference.view], step, report)
        if len(resolved) != 1:
            return None
        item = resolved[0]
        if str(item) in self.bound:
            return self.bound[str(item)]
        join = self._join(item, step, report)
        if join is None:
            return None
        feature = next(feature for feature in step.features if feature.name == item.feature)
        value = JoinedValue(feature=feature.name, column=f"_value{len(self.bound)}", type=feature.type)
        self.joins[item.join] = msgspec.structs.replace(join, values=(*join.values, value))
        self.bound[str(item)] = _Bound(column=value.column, feature=feature, resolved=item)
        return self.bound[str(item)]

    def _join(self, item: ResolvedFeature, step: Step, report: Reporter) -> JoinedView | None:
        """Return the join of a view, or report why its keys are not among those of the reader."""
        if item.join in self.joins:
            return self.joins[item.join]
        own = {key.name: key.type for key in self.identity.keys}
        before = len(report.problems)
        on: dict[str, str] = {}
        for key in step.keys:
            column = item.join_keys.get(key.name, key.name)
            on[key.name] = column
            if column not in own:
                report.add(
                    f"reads feature view {step.view!r} by its key {key.name!r}, but has no key {column!r}, "
                    f"only {listing(own)}.",
                    f'Say which key it is: {_class_name(step.view)}.as_("…", {key.name}="…").',
                )
            elif own[column] != key.type:
                report.add(f"reads feature view {step.view!r} by its key {key.name!r} of type {key.type}, and its own key "
                           f"{column!r} is {own[column]}.", "Give both entities the same type.")  # fmt: skip
        if twice := sorted({column for column in on.values() if list(on.values()).count(column) > 1}):
            report.add(f"joins two keys of feature view {step.view!r} to {twice[0]!r}.", "Join each key to another column.")
        if len(report.problems) > before:
            return None
        return JoinedView(index=len(self.joins), step=step, on=on, has_all_keys=set(on.values()) == set(own))

    # -- expressions --------------------------------------------------------------------------------------------------

    def _compile_expressions(self, declared: Mapping[str, Expression], bound: Mapping[str, Mapping[str, _Bound]]) -> None:
        """Compile expressions in an order in which each reads only what is there."""
        own = {name.lower(): name for name in [*self.features, *declared]}
        parsed: dict[str, ScalarSql] = {}
        for name, member in declared.items():
            scalar = self._parse(name, member, own, bound[name])
            if scalar is not None:
                parsed[name] = scalar
        edges = {
            name: sorted({own[column.lower()] for column in scalar.columns if column.lower() in own} & parsed.keys())
            for name, scalar in parsed.items()
        }
        try:
            order = list(TopologicalSorter(edges).static_order())
        except CycleError as error:
            chain = " -> ".join(reversed(error.args[1]))
            first = error.args[1][0]
            self._reporter(first, declared[first]).add(f"is computed from itself: {chain}.", "Remove one of the references.")
            return
        for name in order:
            self._expression(name, declared[name], parsed[name], own, bound[name])

    def _parse(self, name: str, member: Expression, own: Mapping[str, str], bound: Mapping[str, _Bound]) -> ScalarSql | None:
        """Parse an expression and check every name in it."""
        report = self._reporter(name, member)
        try:
            scalar = parse_scalar(member.sql)
        except SqlProblem as problem:
            report.add(problem.problem, problem.fix)
            return None
        before = len(report.problems)
        read = {column.lower() for column in scalar.columns}
        for column in scalar.columns:
            if column.lower() not in own and column.lower() not in bound:
                report.unknown("reads", column, [*own.values(), *member.features], "the view's features and what it binds")
        for keyword in member.features:
            if keyword.lower() not in read:
                report.add(f"binds {keyword!r}, which its SQL does not read.", "Remove it, or read it.")
        return None if len(report.problems) > before else scalar

    def _expression(
        self, name: str, member: Expression, scalar: ScalarSql, own: Mapping[str, str], bound: Mapping[str, _Bound]
    ) -> None:
        mine = [own[column.lower()] for column in scalar.columns if column.lower() in own]
        others = {column: bound[column.lower()] for column in scalar.columns if column.lower() in bound}
        if any(reference not in self.features for reference in mine):
            return  # reads one that has a problem
        types = {reference.lower(): self.features[reference].type for reference in mine}
        types |= {column.lower(): item.feature.type for column, item in others.items()}
        check_comparisons(scalar.tree, types, self._reporter(name, member))
        try:
            result = infer_type(scalar.tree, types)
        except Untyped as error:
            self._reporter(name, member).add(f"has {scalar.text!r}, and the type of {error.part} cannot be told.",
                                             f"Write CAST({error.part} AS DOUBLE), or whatever its type is.")  # fmt: skip
            return
        columns = {**own, **{column.lower(): item.column for column, item in others.items()}}
        fingerprints = {reference: self.features[reference].fingerprint for reference in mine}
        fingerprints |= {column.lower(): item.fingerprint for column, item in others.items()}
        text = None if result is None else str(result)
        self.expressions[name] = WindowExpression(name=name, sql=render_scalar(scalar, columns), type=text)
        self.features[name] = Feature(
            name=name, type=text, fingerprint=expression_fingerprint(self.identity, name, scalar.text, fingerprints),
            description=member.description, pii=member.pii,
        )  # fmt: skip
        inherited = [msgspec.structs.replace(edge, feature=name) for reference in mine for edge in self.edges[reference]]
        plain = scalar.tree.unnest().key == "column"
        joined = [
            ColumnEdge(feature=name, kind="view", dataset=item.resolved.view, column=item.resolved.feature,
                       transformation="IDENTITY" if plain else "TRANSFORMATION")
            for item in others.values()
        ]  # fmt: skip
        self.edges[name] = list({(edge.kind, edge.dataset, edge.column): edge for edge in [*inherited, *joined]}.values())

    def _key_edges(self, keyed: Sequence[JoinedView]) -> list[ColumnEdge]:
        keys = [key.name for key in self.identity.keys]
        own = [edge for edge in (self.own.lineage if self.own else ()) if edge.feature in keys]
        joined = [
            ColumnEdge(feature=column, kind="view", dataset=join.step.view, column=key, transformation="IDENTITY")
            for join in keyed
            for key, column in join.on.items()
        ]
        return list(dict.fromkeys([*own, *joined]))


def _snapshot_input(join: JoinedView) -> SnapshotInput:
    step = join.step
    features = tuple(Column(name=value.feature, type=value.type or UNKNOWN_TYPE) for value in join.values)
    return SnapshotInput(alias=join.relation, view=step.view, keys=step.keys, features=features, schedule=step.schedule,
                         start=step.start, end=step.end, pipeline=step.pipeline)  # fmt: skip


def _class_name(view: str) -> str:
    return "".join(part.capitalize() for part in view.split("_"))
