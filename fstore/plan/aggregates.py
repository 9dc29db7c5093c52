"""Planning an aggregate view: windowed aggregates of one event source, and expressions over them.

Takes the view, its source and the source's columns as far as they are known, and gives what the members become: features
with types and fingerprints, and the SQL that computes all of them. Reports every mistake; compiles no window itself (that is
``windows``).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from graphlib import CycleError, TopologicalSorter
from typing import Literal

import msgspec

from fstore.definitions.aggregation import COUNTS, LIFETIME, Aggregation, Scalar
from fstore.definitions.expression import Expression
from fstore.definitions.feature_view import View, feature_names
from fstore.definitions.location import Located
from fstore.definitions.problems import Reporter
from fstore.definitions.source import Source
from fstore.interval import parse_duration
from fstore.plan.aggregate_types import Operands
from fstore.plan.audits import fits_type
from fstore.plan.columns import find_column
from fstore.plan.comparisons import check_comparisons
from fstore.plan.fingerprint import ViewIdentity, aggregate_fingerprint, expression_fingerprint
from fstore.plan.inference import Untyped, infer_type, typed
from fstore.plan.parts import value_over_nothing
from fstore.plan.sql import ScalarSql, SqlProblem, parse_scalar, quoted, render_scalar
from fstore.plan.steps import ColumnEdge, Feature
from fstore.plan.window_features import WindowExpression, WindowFeature
from fstore.types import parse_type


class Aggregates(msgspec.Struct, frozen=True, kw_only=True):
    """The compiled members of an aggregate view.

    ``features`` are in the order of the class body, ``expressions`` in an order in which each reads only what is before it.
    """

    features: tuple[Feature, ...]
    windows: tuple[WindowFeature, ...]
    expressions: tuple[WindowExpression, ...]
    lineage: tuple[ColumnEdge, ...]


class AggregateMembers:
    """Compiles the members of one aggregate view."""

    def __init__(self, view: View, identity: ViewIdentity, source: Source, columns: Mapping[str, str] | None,
                 report: Reporter) -> None:  # fmt: skip
        self.view, self.identity, self.source, self.columns, self.report = view, identity, source, columns, report
        self.features: dict[str, Feature] = {}
        self.windows: dict[str, WindowFeature] = {}
        self.expressions: dict[str, WindowExpression] = {}
        self.edges: dict[str, dict[str, ColumnEdge]] = {}

    def compile(self) -> Aggregates | None:
        """Return the compiled members; None when one has a problem (all of them are reported)."""
        before = len(self.report.problems)
        members = self.view.members.items()
        for attribute, member in members:
            if isinstance(member, Aggregation):
                self._aggregation(attribute, member, self._reporter(attribute, member))
        if not self.windows and len(self.report.problems) == before:
            self.report.add("has no aggregates.", 'Add one, such as n = agg.count().over("7d").')
        self._compile_expressions({m.name or attribute: m for attribute, m in members if isinstance(m, Expression)})
        if len(self.report.problems) > before:
            return None
        order = [name for attribute, member in members for name in feature_names(attribute, member).values()]
        return Aggregates(
            features=tuple(self.features[name] for name in order),
            windows=tuple(self.windows.values()),
            expressions=tuple(self.expressions.values()),
            lineage=tuple(self._all_edges(order)),
        )

    def _reporter(self, name: str, member: Located) -> Reporter:
        return self.report.about(f"feature '{self.view.name}:{name}'", member.location)

    # -- aggregates ---------------------------------------------------------------------------------------------------

    def _aggregation(self, attribute: str, member: Aggregation, report: Reporter) -> None:
        """Compile an aggregate over all of its windows."""
        read = Operands(member, self.source, self.columns, report)
        result = read.result_type()
        fill = self._fill(member, result, report)
        argument = read.argument
        columns = tuple(dict.fromkeys(column for operand in read.every for column in operand.columns))
        for text, name in feature_names(attribute, member).items():
            compiled = WindowFeature(
                name=name,
                function=member.function,
                argument=None if argument is None else argument.sql,
                argument_type=None if argument is None or argument.type is None else str(argument.type),
                where=None if read.where is None else read.where.sql,
                by=None if read.by is None else read.by.sql,
                order_by=None if read.order_by is None else read.order_by.sql,
                limit=member.limit,
                edges=tuple(float(edge) for edge in member.edges),
                percentile=member.percentile,
                half_life=None if member.half_life is None else parse_duration(member.half_life),
                window=None if text == LIFETIME else parse_duration(str(text)),
                offset=timedelta() if member.offset is None else parse_duration(member.offset),
                fill=fill,
                type=result,
                columns=columns,
            )
            self.windows[name] = compiled
            self.features[name] = Feature(
                name=name,
                type=result,
                fingerprint=aggregate_fingerprint(self.identity, self.source, name, member, compiled.window),
                description=member.description,
                pii=member.pii,
            )
            self.edges[name] = self._source_edges(name, read)

    def _fill(self, member: Aggregation, type: str | None, report: Reporter) -> Scalar:
        """Return the value that replaces null, as a value of the feature's type."""
        fill = member.fill_value
        if fill is None or type is None or member.function in COUNTS:
            return fill
        parsed = parse_type(type)
        if parsed.is_integer and isinstance(fill, float) and fill.is_integer():
            fill = int(fill)
        if parsed.is_float and isinstance(fill, int) and not isinstance(fill, bool):
            fill = float(fill)
        if not fits_type(fill, type):
            report.add(f"fills with {fill!r}, and its type is {type}.", f"Use a value of type {type}.")
        return fill

    def _source_edges(self, feature: str, read: Operands) -> dict[str, ColumnEdge]:
        """Return the columns that a feature is made of; those that only choose or order events are indirect."""
        time = find_column(self.source.event_time or "", self.columns or {}) or self.source.event_time or ""
        direct = [time] if read.argument is None else read.argument.columns
        edges = {name: self._edge(feature, name, "TRANSFORMATION") for item in read.every for name in item.columns}
        return edges | {name: self._edge(feature, name) for name in direct}

    def _edge(
        self, feature: str, column: str, transformation: Literal["TRANSFORMATION", "AGGREGATION"] = "AGGREGATION"
    ) -> ColumnEdge:
        return ColumnEdge(
            feature=feature, kind="source", dataset=self.source.name, column=column, transformation=transformation
        )

    # -- expressions --------------------------------------------------------------------------------------------------

    def _compile_expressions(self, declared: Mapping[str, Expression]) -> None:
        """Compile expressions in an order in which each reads only what is there."""
        parsed: dict[str, ScalarSql] = {}
        for name, member in declared.items():
            report = self._reporter(name, member)
            try:
                scalar = parse_scalar(member.sql)
            except SqlProblem as problem:
                report.add(problem.problem, problem.fix)
                continue
            known = [*self.features, *declared]
            unknown = [column for column in scalar.columns if find_column(column, dict.fromkeys(known)) is None]
            for column in unknown:
                report.unknown("reads", column, known, "the view's features")
            if not unknown:
                parsed[name] = scalar
        names = {name.lower(): name for name in [*self.features, *declared]}
        edges = {
            name: sorted({names[item.lower()] for item in scalar.columns} & parsed.keys()) for name, scalar in parsed.items()
        }
        try:
            order = list(TopologicalSorter(edges).static_order())
        except CycleError as error:
            chain = " -> ".join(reversed(error.args[1]))
            first = error.args[1][0]
            self._reporter(first, declared[first]).add(f"is computed from itself: {chain}.", "Remove one of the references.")
            return
        for name in order:
            self._expression(name, declared[name], parsed[name], names)

    def _expression(self, name: str, member: Expression, scalar: ScalarSql, names: Mapping[str, str]) -> None:
        references = [names[column.lower()] for column in scalar.columns]
        if any(reference not in self.features for reference in references):
            return  # reads one that has a problem
        types = {reference.lower(): self.features[reference].type for reference in references}
        check_comparisons(scalar.tree, types, self._reporter(name, member))
        try:
            result = infer_type(scalar.tree, types)
        except Untyped as error:
            report = self._reporter(name, member)
            report.add(f"has {scalar.text!r}, and the type of {error.part} cannot be told.",
                       f"Write CAST({error.part} AS DOUBLE), or whatever its type is.")  # fmt: skip
            return
        sql = render_scalar(scalar, names)
        text = None if result is None else str(result)
        fingerprints = {reference: self.features[reference].fingerprint for reference in references}
        self.expressions[name] = WindowExpression(name=name, sql=sql, type=text)
        self.features[name] = Feature(
            name=name,
            type=text,
            fingerprint=expression_fingerprint(self.identity, name, scalar.text, fingerprints),
            description=member.description,
            pii=member.pii,
        )
        columns = sorted({column for reference in references for column in self.edges[reference]})
        self.edges[name] = {column: self._edge(name, column) for column in columns}

    def _all_edges(self, order: list[str]) -> list[ColumnEdge]:
        keys = [
            ColumnEdge(feature=key.name, kind="source", dataset=self.source.name, column=key.name, transformation="IDENTITY")
            for key in self.identity.keys
        ]
        return [*keys, *(edge for name in order for edge in self.edges[name].values())]


def compile_empty_row(aggregates: Aggregates) -> str:
    """Return a SELECT without FROM that gives every feature's value for a key without any event."""
    values = [
        f"{typed(value_over_nothing(feature), feature.type)} AS {quoted(feature.name)}" for feature in aggregates.windows
    ]
    sql = f"SELECT {', '.join(values)}"
    for expression in aggregates.expressions:
        sql = f"SELECT *, {typed(f'({expression.sql})', expression.type)} AS {quoted(expression.name)}\nFROM ({sql})"
    return f"SELECT {', '.join(quoted(feature.name) for feature in aggregates.features)}\nFROM ({sql})"
