"""The operators of a view: wait for inputs, compute, validate, materialize.

Each is a thin call of :mod:`fstore.runtime`: it resolves the run's intervals, opens the project's parts, and turns the
outcome into what Airflow shows and does. An error that trying again cannot mend fails the task at once; the others are
retried. Compute hands one number to the tasks after it, the batch of attempts; they read the steps from the registry, not
from a DAG file that may have been edited meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from fstore.airflow.assets import announce
from fstore.airflow.environment import open_project, parent_run, run_facts
from fstore.airflow.intervals import on_grid_of, own_intervals
from fstore.errors import FStoreError, InputsChanged
from fstore.interval import Interval, merge_intervals
from fstore.plan.steps import Step
from fstore.settings import Settings

if TYPE_CHECKING:
    from airflow.providers.common.compat.openlineage.facet import Dataset, RunFacet
    from airflow.providers.openlineage.extractors import OperatorLineage

    from fstore.airflow.intervals import RunFacts
    from fstore.backends import Backends
    from fstore.lineage.run import ParentRun
    from fstore.runtime.batches import BatchProgress, ComputedBatch
    from fstore.runtime.inputs import Readiness
    from fstore.runtime.materialize import Materialized

# The runtime and its drivers cost seconds to import and are needed by running tasks only: every task process, the DAG
# processor and the scheduler import this module.
# ruff: noqa: PLC0415

WAIT_TIMEOUT = timedelta(days=1)
"""How long a view waits for another pipeline. A later scheduled run catches up with what was given up."""


@contextmanager
def airflow_errors() -> Iterator[None]:
    """Fail the task for good on an error of fstore that trying again cannot mend; let the others be retried."""
    try:
        yield
    except FStoreError as error:
        if error.retryable:
            raise
        raise AirflowFailException(f"{error.code}: {error}") from error


class ViewOperator(BaseOperator):
    """What the operators of a view share."""

    template_fields: Sequence[str] = ("view", "fingerprint")
    ui_color = "#eef3f8"

    def __init__(self, *, step: Step, settings: Settings, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.view, self.fingerprint = step.view, step.fingerprint
        self._step, self._settings = step, settings

    def get_openlineage_facets_on_start(self) -> OperatorLineage[Dataset, RunFacet]:
        """Tell Airflow's OpenLineage provider which datasets the task reads and writes."""
        return self._lineage()

    def get_openlineage_facets_on_complete(self, _task_instance: object) -> OperatorLineage[Dataset, RunFacet]:
        """Tell the same at the end; the full record of the attempt is our own, written by the task itself."""
        return self._lineage()

    def get_openlineage_facets_on_failure(self, _task_instance: object) -> OperatorLineage[Dataset, RunFacet]:
        """Tell the same of a failed task."""
        return self._lineage()

    def _lineage(self) -> OperatorLineage[Dataset, RunFacet]:
        from airflow.providers.common.compat.openlineage.facet import Dataset
        from airflow.providers.openlineage.extractors import OperatorLineage

        from fstore.lineage.run import view_namespace

        namespace = view_namespace(self._step.project)
        return OperatorLineage(
            inputs=[Dataset(namespace=namespace, name=name) for name in sorted(set(self._step.upstream))],
            outputs=[Dataset(namespace=namespace, name=self._step.view)],
        )


class WaitForInputsOperator(ViewOperator):
    """Waits, deferred, until what the run's intervals read of other pipelines is published.

    Fails at once when it can never be; gives up after ``wait_timeout``. Never looks at another DAG's state.
    """

    def __init__(self, *, wait_timeout: timedelta = WAIT_TIMEOUT, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._wait_timeout = wait_timeout

    def execute(self, context: Context) -> None:
        """Return when everything is there; else defer."""
        with airflow_errors():
            self._wait(context, datetime.now(UTC) + self._wait_timeout)

    def resume(self, context: Context, event: Mapping[str, str], until: str) -> None:
        """Look again after the trigger fired, because only the registry knows whether an input is there."""
        with airflow_errors():
            if event["state"] == "error":
                raise AirflowFailException(f"waiting for the inputs of {self.view!r} failed: {event['message']}")
            self._wait(context, datetime.fromisoformat(until))

    def _wait(self, context: Context, until: datetime) -> None:
        from fstore.airflow.waiting import PublicationTrigger
        from fstore.runtime.inputs import input_readiness

        intervals = own_intervals(self._step, run_facts(context))
        with open_project(self._settings) as backends:
            readiness = input_readiness(backends.registry, self._step, intervals)
        if readiness.impossible:
            raise AirflowFailException("inputs_impossible: " + "; ".join(readiness.impossible))
        if readiness.ready:
            self.log.info("All inputs of %s are published for %s", self.view, _spans(intervals))
            return
        waiting = _needs(readiness)
        listing = "; ".join(f"{view} of {_spans(spans)}" for view, spans in waiting.items())
        if datetime.now(UTC) >= until:
            raise AirflowFailException(
                f"inputs_not_ready: {self.view!r} waited {self._wait_timeout} and these are still not published: {listing}. "
                "Compute them, then clear this task; a later scheduled run catches up by itself."
            )
        self.log.info("Waiting for %s", listing)
        self.defer(
            trigger=PublicationTrigger.of(self._settings, waiting, until),
            method_name="resume",
            kwargs={"until": until.isoformat()},
        )


class ComputeOperator(ViewOperator):
    """Computes the run's intervals, and in a scheduled run also those that are unpublished or stale; gives the batch.

    A retry takes over the chunks that an earlier try finished. Skipped when the view has no interval there, such as before
    its start.
    """

    def execute(self, context: Context) -> int:
        """Return the id of the batch."""
        from fstore.runtime.plan_cache import load_plan
        from fstore.runtime.preparation import prepare_steps

        run = run_facts(context)
        with airflow_errors(), open_project(self._settings) as backends:
            intervals = own_intervals(self._step, run)
            if not intervals and not run.is_scheduled:
                raise AirflowSkipException(_nothing_to_do(self._step, run))
            project = load_plan(backends.settings).project
            (step,) = prepare_steps(backends, project, [self.view], notice=self.log.warning)
            own = on_grid_of(step, self._step, intervals)
            intervals = self._with_catch_up(backends, step, own) if run.is_scheduled else own
            if not intervals:
                raise AirflowSkipException(_nothing_to_do(self._step, run))
            sql = getattr(step, "sql", "")
            self.log.info("Computing %d interval(s) of %s: %s\n%s", len(intervals), self.view, _spans(intervals), sql)
            computed = self._compute(backends, step, intervals, own, context)
        for missing in computed.missing:
            self.log.warning("Left out %s: %s of %s is not published", missing.interval, missing.view, missing.upstream)
        if computed.ignored_rows:
            self.log.warning("%d source row(s) without a key or a time were ignored", computed.ignored_rows)
        if computed.reused:
            self.log.info("Took over %d chunk(s) that an earlier try of this run had finished", len(computed.reused))
        self.log.info(
            "Batch %d: %d chunk(s), %d row(s) of %s",
            computed.batch, len(computed.attempts), computed.rows, _spans(computed.intervals),
        )  # fmt: skip
        return computed.batch

    def _compute(
        self, backends: Backends, step: Step, intervals: Sequence[Interval], own: Sequence[Interval], context: Context
    ) -> ComputedBatch:
        """Compute all of the intervals; where late ones can never be computed, at least the run's own."""
        from fstore.runtime.batches import compute_batch

        run, parent = run_facts(context), parent_run(context)
        run_id = f"{run.dag_id}/{run.run_id}"
        try:
            return compute_batch(backends, step, intervals, run_id, parent=parent, progress=self._log_progress)
        except FStoreError as error:
            if error.retryable or not own or len(own) == len(intervals):
                raise
            self.log.error("Late intervals cannot be computed, so only the run's own are: %s: %s", error.code, error)  # noqa: TRY400
            return compute_batch(backends, step, own, run_id, parent=parent, progress=self._log_progress)

    def _log_progress(self, progress: BatchProgress) -> None:
        """Log a line whenever a chunk begins or ends, and every tenth of the intervals."""
        if progress.done in (0, progress.total) or progress.done % max(1, progress.total // 10) == 0:
            self.log.info(
                "Chunk %d of about %d: %d of %d interval(s), %d row(s)",
                progress.chunk, progress.chunks, progress.done, progress.total, progress.rows,
            )  # fmt: skip

    def _with_catch_up(self, backends: Backends, step: Step, own: Sequence[Interval]) -> list[Interval]:
        from fstore.runtime.due import due_intervals

        limit = backends.settings.max_catch_up
        due = due_intervals(backends.registry, step, now=datetime.now(UTC), limit=limit)
        late = [interval for interval in due.intervals if interval not in own]
        if late:
            self.log.info("Also computing %d unpublished or stale interval(s): %s", len(late), _spans(late))
        if due.remaining:
            self.log.warning("%d more interval(s) are due beyond max_catch_up = %d", due.remaining, limit)
        return sorted({*own, *late})


class _BatchOperator(ViewOperator):
    """What the operators share that go on with a batch."""

    def __init__(self, *, compute_task_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._compute_task_id = compute_task_id

    def _batch(self, context: Context) -> int:
        batch = context["ti"].xcom_pull(task_ids=self._compute_task_id)
        if not isinstance(batch, int):
            raise AirflowFailException(
                f"attempt_unknown: this run has no batch of view {self.view!r} to go on with; clear "
                f"{self._compute_task_id!r} instead, and its downstream tasks"
            )
        return batch


class ValidateOperator(_BatchOperator):
    """Audits the files of a batch; fails for good when no interval passes."""

    def execute(self, context: Context) -> None:
        """Record a verdict per interval."""
        from fstore.runtime.batches import validate_batch

        with airflow_errors(), open_project(self._settings) as backends:
            report = validate_batch(backends, self._batch(context), parent=parent_run(context))
        passed = len(report.verdicts) - len(report.blocked)
        self.log.info(
            "%d of %d interval(s) passed: %d row(s), %d set aside, %d warning(s)",
            passed, len(report.verdicts), report.rows, report.quarantined_rows, report.warnings,
        )  # fmt: skip
        for line in report.describe():
            self.log.warning("%s", line)


class MaterializeOperator(_BatchOperator):
    """Publishes what passed and brings it online; repeating it re-applies what was published and changes nothing else."""

    def __init__(self, *, asset: Asset, **kwargs: Any) -> None:
        super().__init__(outlets=[asset], **kwargs)
        self._asset = asset

    def execute(self, context: Context) -> None:
        """Publish chunk by chunk, apply the online work, and announce what was published as asset events."""
        from fstore.runtime.batches import join_materialized, publishable

        parts: list[Materialized] = []
        with airflow_errors(), open_project(self._settings) as backends:
            for attempt in publishable(backends, self._batch(context)):
                part = self._materialize(backends, attempt, parent_run(context))
                parts.append(part)
                if part.overtaken:
                    self.log.info("A newer attempt of another run had already published %s", _spans(part.overtaken))
                self.log.info(
                    "Published %s as sequence %s: %d row(s), %d written online",
                    _spans(part.intervals), part.sequence, part.rows, part.online_rows,
                )  # fmt: skip
            done = join_materialized(parts)
            generation = backends.registry.ledger.attempt(done.attempt).generation
            directory = backends.offline.attempt_directory(self.view, generation, done.attempt)
        if len(parts) > 1:
            directory = directory.rpartition("/")[0]
        extra: dict[str, str | int] = {
            "sequence": done.sequence or 0,
            "rows": done.rows,
            "attempt": done.attempt,
            "location": f"{self._settings.offline_url.rstrip('/')}/{directory}",
        }
        announce(context, self._asset, self._step, done.intervals, extra)

    def _materialize(self, backends: Backends, attempt: int, parent: ParentRun | None) -> Materialized:
        """Publish an attempt, or new ones of the same intervals when its inputs were republished meanwhile.

        The new ones count as another run's: when this task is cleared later they have overtaken the first, and are no
        zombies.
        """
        from fstore.runtime.materialize import materialize_attempt
        from fstore.runtime.runner import run_step

        try:
            return materialize_attempt(backends, attempt, parent=parent)
        except InputsChanged as error:
            self.log.warning("Computing again, because %s", error)
        first = backends.registry.ledger.attempt(attempt)
        again = run_step(backends, first.step, first.intervals, f"{first.run_id} (inputs changed)", parent=parent)
        return again.materialized


def _needs(readiness: Readiness) -> dict[str, tuple[Interval, ...]]:
    needs: dict[str, list[Interval]] = {}
    for missing in readiness.waiting:
        needs.setdefault(missing.view, []).append(missing.upstream)
    return {view: tuple(merge_intervals(spans)) for view, spans in sorted(needs.items())}


def _nothing_to_do(step: Step, run: RunFacts) -> str:
    asked = (
        f"`start` {run.start} to `end` {run.end}"
        if run.is_range
        else str(run.interval or run.partition_key or run.run_after)
    )
    life = f"from {step.start:%Y-%m-%dT%H:%MZ}" + (f" to {step.end:%Y-%m-%dT%H:%MZ}" if step.end else "")
    return (
        f"view {step.view!r} has no interval in {asked} that is due: it lives {life}, its data is complete after {step.lag}"
    )


def _spans(intervals: Sequence[Interval]) -> str:
    merged = merge_intervals(intervals)
    shown = ", ".join(str(span) for span in merged[:5])
    return (shown or "nothing") + (f" and {len(merged) - 5} more ranges" if len(merged) > 5 else "")
