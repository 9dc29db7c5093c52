"""Run a step over many intervals as a batch: chunk by chunk, each an attempt of its own that is published by itself.

A batch can be stopped anywhere: what was published stays, and a retry of the same run takes over the chunks that were
finished, as long as the definition and everything that they read are unchanged. Computing, validating and materializing are
three functions over a batch's id, as Airflow's tasks need them; the command line runs them chunk by chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec

from fstore.backends import Backends
from fstore.errors import AttemptUnknown, InputsNotReady, StoreCorrupt, ValidationFailed
from fstore.failpoints import failpoint
from fstore.interval import Interval
from fstore.lineage.run import ParentRun
from fstore.plan.steps import Step
from fstore.registry.records import Attempt, Batch
from fstore.runtime.chunks import ChunkSizes
from fstore.runtime.compute import Chunk, Computed, compute_attempt, not_ready
from fstore.runtime.holding import holding
from fstore.runtime.incarnation import check_incarnation
from fstore.runtime.inputs import MissingInput, ResolvedInputs, observe_step, resolve_inputs
from fstore.runtime.materialize import Materialized, materialize_attempt
from fstore.runtime.retention import verify
from fstore.runtime.validate import ValidationReport, all_blocked, validate_attempt


class BatchProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a batch is: intervals computed of all, chunk (from 1) of about how many, and the rows of finished chunks."""

    done: int
    total: int
    chunk: int
    chunks: int
    rows: int


Progress = Callable[[BatchProgress], None]
"""Told whenever a batch gets on."""


class ComputedBatch(msgspec.Struct, frozen=True, kw_only=True):
    """What was computed: the batch, its chunks, and the intervals left out because an input is not published.

    ``reused`` are the attempts of an earlier try of the run that were taken over.
    """

    batch: int
    intervals: tuple[Interval, ...]
    missing: tuple[MissingInput, ...]
    attempts: tuple[int, ...]
    reused: tuple[int, ...]
    rows: int
    ignored_rows: int


class BatchRun:
    """One batch while it is computed. Iterating over :meth:`chunks` begins and computes one chunk after the other."""

    def __init__(
        self, backends: Backends, step: Step, intervals: Sequence[Interval], run_id: str, *,
        parent: ParentRun | None = None, progress: Progress | None = None,
    ) -> None:  # fmt: skip
        """Begin a batch over the intervals whose inputs are published. Raises InputsNotReady when that is none of them."""
        if not intervals:
            raise ValueError("computing takes at least one interval")
        self._backends, self._step, self._run_id, self._parent = backends, step, run_id, parent
        check_incarnation(backends, online=False)
        self._report = progress
        self._known = observe_step(backends, step)
        self._resolved: ResolvedInputs = resolve_inputs(backends.registry, step, intervals)
        if not self._resolved.ready:
            raise InputsNotReady(not_ready(step, self._resolved.missing))
        self.batch: Batch = backends.registry.ledger.begin_batch(step, self._resolved.ready, run_id)
        failpoint("batch.begun")
        self.reused: tuple[Attempt, ...] = self._take_over()
        self._attempts = [attempt.id for attempt in self.reused]
        self._rows = sum(file.rows for attempt in self.reused for file in attempt.files)
        self._ignored_rows = 0
        self._done = [interval for attempt in self.reused for interval in attempt.intervals]
        self._chunk = (0, 0)

    def chunks(self) -> Iterator[int]:
        """Compute chunk after chunk and yield the attempt of each, those that were taken over first."""
        yield from (attempt.id for attempt in self.reused)
        finished = set(self._done)
        left = [interval for interval in self._resolved.ready if interval not in finished]
        sizes = ChunkSizes(_rows_per_interval(self._backends, self._step))
        number = 0
        while left:
            number += 1
            taken = sizes.take(left)
            self._chunk = (number, number - 1 + sizes.count(left))
            self._tell(len(self._done))
            computed = self._compute(taken)
            sizes.measured(len(computed.intervals), computed.rows)
            left = left[len(taken) :]
            self._chunk = (number, number + (sizes.count(left) if left else 0))
            self._tell(len(self._done))
            yield computed.attempt

    def result(self) -> ComputedBatch:
        """Return what was computed so far."""
        return ComputedBatch(
            batch=self.batch.id,
            intervals=tuple(sorted(self._done)),
            missing=self._resolved.missing,
            attempts=tuple(self._attempts),
            reused=tuple(attempt.id for attempt in self.reused),
            rows=self._rows,
            ignored_rows=self._ignored_rows,
        )

    def _compute(self, intervals: Sequence[Interval]) -> Computed:
        before = len(self._done)
        try:
            computed = compute_attempt(
                self._backends, self._step, intervals, self._run_id, parent=self._parent,
                progress=lambda done, _: self._tell(before + done),
                chunk=Chunk(batch=self.batch.id, among=self._resolved.ready, known=self._known),
            )  # fmt: skip
        except StoreCorrupt:  # what it read is recorded as damaged, so that it is made again before the next try
            verify(self._backends, set(self._step.upstream), tiles=True)
            raise
        self._attempts.append(computed.attempt)
        self._rows += computed.rows
        self._ignored_rows += computed.ignored_rows
        self._done.extend(computed.intervals)
        return computed

    def _take_over(self) -> tuple[Attempt, ...]:
        """Make the chunks that an earlier try of the run has finished part of this batch; their files must be there."""
        ledger, offline = self._backends.registry.ledger, self._backends.offline
        found = [
            attempt
            for attempt in ledger.finished(self._step, self.batch)
            if set(attempt.intervals) <= set(self._resolved.ready) and all(offline.exists(f.path) for f in attempt.files)
        ]
        if found:
            ledger.take_over(self.batch, [attempt.id for attempt in found])
        return tuple(found)

    def _tell(self, done: int) -> None:
        if self._report:
            chunk, chunks = self._chunk
            total = len(self._resolved.ready)
            self._report(BatchProgress(done=done, total=total, chunk=chunk, chunks=chunks, rows=self._rows))


@holding
def compute_batch(
    backends: Backends, step: Step, intervals: Sequence[Interval], run_id: str, *,
    parent: ParentRun | None = None, progress: Progress | None = None,
) -> ComputedBatch:  # fmt: skip
    """Compute all chunks of a new batch. Raises what computing raises; chunks before it are kept for a retry of the run."""
    run = BatchRun(backends, step, intervals, run_id, parent=parent, progress=progress)
    for _ in run.chunks():
        pass
    return run.result()


def validate_batch(backends: Backends, batch_id: int, *, parent: ParentRun | None = None) -> ValidationReport:
    """Audit every chunk of a batch. Raises ValidationFailed, with the report, when no interval of any chunk passed."""
    attempts = batch_attempts(backends, batch_id)
    return join_reports([validate_chunk(backends, attempt, parent=parent) for attempt in attempts])


@holding
def validate_chunk(backends: Backends, attempt_id: int, *, parent: ParentRun | None = None) -> ValidationReport:
    """Audit a chunk; one of which nothing passed is a verdict like others, because other chunks may pass."""
    try:
        return validate_attempt(backends, attempt_id, parent=parent)
    except ValidationFailed as failed:
        report = failed.report
        assert isinstance(report, ValidationReport)
        return report


def join_reports(reports: Sequence[ValidationReport]) -> ValidationReport:
    """Return the reports of chunks as one. Raises ValidationFailed, with it, when all of them are blocked."""
    verdicts = tuple(sorted((v for report in reports for v in report.verdicts), key=lambda verdict: verdict.interval))
    asides = [report.quarantine_file for report in reports if report.quarantine_file]
    joined = ValidationReport(
        attempt=reports[-1].attempt, view=reports[-1].view, verdicts=verdicts, quarantine_file=asides[0] if asides else None
    )
    if len(joined.blocked) == len(joined.verdicts):
        raise ValidationFailed(all_blocked(joined), joined)
    return joined


def materialize_batch(backends: Backends, batch_id: int, *, parent: ParentRun | None = None) -> list[Materialized]:
    """Publish the chunks of a batch one by one, those of which something passed, and bring them online.

    Repeating it re-applies what was published. Raises as ``materialize_attempt`` does; chunks before that stay published.
    """
    return [materialize_attempt(backends, attempt, parent=parent) for attempt in publishable(backends, batch_id)]


def publishable(backends: Backends, batch_id: int) -> list[int]:
    """Return the attempts of a batch of which something passed, ascending by interval. Raises AttemptUnknown for none."""
    ledger = backends.registry.ledger
    attempts = batch_attempts(backends, batch_id)
    passed = [id_ for id_ in attempts if not (found := ledger.verdicts(id_)) or any(verdict.passed for verdict in found)]
    if not passed:
        raise AttemptUnknown(f"batch {batch_id} has nothing to publish: validation blocked all of it")
    return passed


def batch_attempts(backends: Backends, batch_id: int) -> tuple[int, ...]:
    """Return the attempts of a batch. Raises AttemptUnknown when it has none."""
    batch = backends.registry.ledger.batch(batch_id)
    if not batch.attempts:
        raise AttemptUnknown(
            f"batch {batch_id} of view {batch.view!r} has no attempts: its compute step failed, or a later try of the run "
            "took them over. Clear compute."
        )
    return batch.attempts


def join_materialized(parts: Sequence[Materialized]) -> Materialized:
    """Return what became of all chunks as one; its attempt is the newest."""
    return Materialized(
        attempt=max(part.attempt for part in parts),
        view=parts[0].view,
        intervals=tuple(sorted(interval for part in parts for interval in part.intervals)),
        overtaken=tuple(sorted(interval for part in parts for interval in part.overtaken)),
        sequence=max((part.sequence for part in parts if part.sequence is not None), default=None),
        rows=sum(part.rows for part in parts),
        online_rows=sum(part.online_rows for part in parts),
    )


def _rows_per_interval(backends: Backends, step: Step) -> float | None:
    """Return the rows of an interval as the newest validated attempts of the view had them, None when there was none."""
    known = [each for each in backends.registry.ledger.history(step.view, limit=5) if each.rows]
    intervals = sum(each.intervals for each in known)
    return sum(each.rows for each in known) / intervals if intervals else None
