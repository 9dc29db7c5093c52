"""Run one step over intervals: compute, validate, materialize, in one process.

What the command line does; Airflow runs the same three in tasks of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from fstore.backends import Backends
from fstore.interval import Interval
from fstore.lineage.run import ParentRun
from fstore.plan.steps import Step
from fstore.runtime.compute import Computed, compute_attempt
from fstore.runtime.materialize import Materialized, materialize_attempt
from fstore.runtime.validate import ValidationReport, validate_attempt

Progress = Callable[[str, int, int], None]
"""Told the phase, and how many of how many intervals are through it."""


class StepResult(msgspec.Struct, frozen=True, kw_only=True):
    """What running a step came to."""

    view: str
    computed: Computed
    report: ValidationReport
    materialized: Materialized


def run_step(
    backends: Backends, step: Step, intervals: Sequence[Interval], run_id: str, *,
    parent: ParentRun | None = None, progress: Progress | None = None,
) -> StepResult:  # fmt: skip
    """Compute, validate and materialize a prepared step; raise the first error of the three."""

    def report_progress(phase: str, done: int, total: int) -> None:
        if progress:
            progress(phase, done, total)

    computed = compute_attempt(
        backends,
        step,
        intervals,
        run_id,
        parent=parent,
        progress=lambda done, total: report_progress("compute", done, total),
    )
    report_progress("validate", 0, len(computed.intervals))
    report = validate_attempt(backends, computed.attempt, parent=parent)
    report_progress("materialize", 0, len(computed.intervals))
    materialized = materialize_attempt(backends, computed.attempt, parent=parent)
    report_progress("done", len(computed.intervals), len(computed.intervals))
    return StepResult(view=step.view, computed=computed, report=report, materialized=materialized)
