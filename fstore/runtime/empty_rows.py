"""What a key without rows reads as: the empty row of every view, evaluated by the engine.

Takes compiled steps; gives them with the values of their empty rows, and a problem for each view with an expression that has
none, such as a cast of a fill that is no number. Reads nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pyarrow as pa

from fstore.definitions.feature_view import View, feature_names
from fstore.definitions.problems import Reporter
from fstore.definitions.project import Problem, Project
from fstore.engines.engine import Engine, Query
from fstore.errors import ComputeError
from fstore.plan.binding import first_lines
from fstore.plan.sql import quoted
from fstore.plan.steps import AggregateStep, CompositeStep, Step, with_empty_row


class EmptyRows(msgspec.Struct, frozen=True):
    """Steps that know their empty rows, and the problems of those that have none."""

    steps: tuple[Step, ...]
    problems: dict[str, Problem]


def evaluate_empty_rows(engine: Engine, project: Project, steps: Sequence[Step]) -> EmptyRows:
    """Return steps with their empty rows; ``problems`` has one for each view whose row has no value.

    Raises OutOfSpace and Interrupted, which say nothing about a view.
    """
    evaluator = _Evaluator(engine)
    found: list[Step] = []
    problems: dict[str, Problem] = {}
    for step in steps:
        if problem := evaluator.problem(project.views[step.view], step):
            problems[step.view] = problem
        else:
            found.append(evaluator.with_row(step))
    return EmptyRows(tuple(found), problems)


class _Evaluator:
    """Runs the SQL of empty rows, each text once."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.rows: dict[str, pa.Table] = {}

    def with_row(self, step: Step) -> Step:
        if not isinstance(step, AggregateStep | CompositeStep):
            return step
        (row,) = self._read(step.empty_sql).to_pylist()
        return with_empty_row(step, row)

    def problem(self, view: View, step: Step) -> Problem | None:
        """Say which feature has no value: the first, in the order of the view, that cannot be computed alone."""
        if not isinstance(step, AggregateStep | CompositeStep) or not (reason := self._refusal(step.empty_sql)):
            return None
        subject, place = f"feature view {view.name!r}", view.location
        for feature in step.features:
            if alone := self._refusal(f"SELECT {quoted(feature.name)} FROM (\n{step.empty_sql}\n)"):
                attribute, member = next(
                    (attribute, member) for attribute, member in view.members.items()
                    if feature.name in feature_names(attribute, member).values()
                )  # fmt: skip
                subject, place, reason = f"feature '{view.name}:{attribute}'", member.location or place, alone
                break
        problems: list[Problem] = []
        Reporter(problems, subject, place).add(
            f"has no value for a key without rows, for which counts are 0 and fills apply: {first_lines(str(reason))}",
            "Say what it is then, as in CASE WHEN n_7d > 0 THEN … END or TRY_CAST(…).",
        )
        return problems[0]

    def _refusal(self, sql: str) -> ComputeError | None:
        """Return why the values of SQL cannot be computed, ever; raise what may pass, such as memory that ran out."""
        try:
            self._read(sql)
        except ComputeError as error:
            if error.retryable:
                raise
            return error
        return None

    def _read(self, sql: str) -> pa.Table:
        if sql not in self.rows:
            with self.engine.read(Query(sql=sql, relations={})) as reader:
                self.rows[sql] = reader.read_all()
        return self.rows[sql]
