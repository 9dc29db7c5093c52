"""Run one step over intervals in one process: compute, validate and materialize, chunk by chunk.

What the command line does; Airflow runs the same three in tasks of their own. A chunk is published before the next one
begins, so a run that is stopped loses one chunk at most.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fstore.backends import Backends
from fstore.errors import InputsChanged
from fstore.interval import Interval
from fstore.lineage.run import ParentRun
from fstore.plan.steps import Step
from fstore.runtime.batches import (
    BatchRun,
    ComputedBatch,
    Progress,
    join_materialized,
    join_reports,
    validate_chunk,
)
from fstore.runtime.holding import holding
from fstore.runtime.materialize import Materialized, materialize_attempt
from fstore.runtime.validate import ValidationReport


class StepResult(msgspec.Struct, frozen=True, kw_only=True):
    """What running a step came to."""

    view: str
    computed: ComputedBatch
    report: ValidationReport
    materialized: Materialized


@holding
def run_step(
    backends: Backends, step: Step, intervals: Sequence[Interval], run_id: str, *,
    parent: ParentRun | None = None, progress: Progress | None = None,
) -> StepResult:  # fmt: skip
    """Compute, validate and materialize a prepared step; raise the first error, ValidationFailed when nothing passed."""
    run = BatchRun(backends, step, intervals, run_id, parent=parent, progress=progress)
    reports: list[ValidationReport] = []
    published: list[Materialized] = []
    for attempt in run.chunks():
        report = validate_chunk(backends, attempt, parent=parent)
        reports.append(report)
        if len(report.blocked) < len(report.verdicts):
            published.append(materialize_attempt(backends, attempt, parent=parent))
    joined = join_reports(reports)
    return StepResult(view=step.view, computed=run.result(), report=joined, materialized=join_materialized(published))


def run_settled(
    backends: Backends, step: Step, intervals: Sequence[Interval], run_id: str, *,
    parent: ParentRun | None = None, progress: Progress | None = None, tries: int = 3,
) -> StepResult:  # fmt: skip
    """Run a step as :func:`run_step` does, and again where an input was republished while it was computed.

    What was finished and still holds is taken over. Raises InputsChanged when that happens every time.
    """
    for left in reversed(range(tries)):
        try:
            return run_step(backends, step, intervals, run_id, parent=parent, progress=progress)
        except InputsChanged:
            if not left:
                raise
    raise AssertionError("the loop returns or raises")
