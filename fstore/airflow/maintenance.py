"""The maintenance DAG of a project: what must still happen when the last retry of a task was killed.

Every ten minutes it brings publications online that are not online yet, or not any more, deletes the files of attempts that
will never publish, and forwards lineage events to the OpenLineage backend that OPENLINEAGE_URL names. It also fills the new
generations of views whose definition changed in a breaking way, and makes them live when they are complete. It keeps no
state of its own, and may be killed anywhere, or run twice at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, BaseOperator, Context, CronTriggerTimetable
from airflow.sdk.exceptions import AirflowFailException

from fstore.airflow.environment import open_project
from fstore.airflow.operators import airflow_errors
from fstore.errors import StoreUnavailable
from fstore.settings import Settings

_FILL_BUDGET = timedelta(minutes=5)
"""After how long a run begins to fill no further view: the next one goes on."""

_SINCE = datetime(2020, 1, 1, tzinfo=UTC)


def maintenance_dag_id(project: str) -> str:
    """Return the id of a project's maintenance DAG; no pipeline can have it, because theirs end with a schedule."""
    return f"{project}.maintenance"


class MaintenanceOperator(BaseOperator):
    """Brings online what is published and not online, deletes what will never be published, and forwards lineage events."""

    def __init__(self, *, settings: Settings, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._settings = settings

    def execute(self, context: Context) -> None:  # noqa: ARG002  (the interface's signature)
        """Do all parts; fail when one of them could not be done, to be retried if that can help."""
        # Imported here: the stores' drivers are needed by the running task only.
        from fstore.lineage.delivery import open_delivery  # noqa: PLC0415
        from fstore.runtime.maintenance import describe, maintain  # noqa: PLC0415

        sender = open_delivery()
        try:
            with airflow_errors(), open_project(self._settings) as backends:
                done = maintain(backends, datetime.now(UTC), sender=sender)
        finally:
            if sender is not None:
                sender.close()
        for line in describe(done):
            self.log.info("%s", line)
        if done.problems:
            shown = "; ".join(f"{problem.part}: {problem.message}" for problem in done.problems)
            if done.retryable:
                raise StoreUnavailable(shown)
            raise AirflowFailException(shown)


class FillOperator(BaseOperator):
    """Fills the new generations of changed views, a bounded part at a time, and makes them live once they are complete."""

    def __init__(self, *, settings: Settings, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._settings = settings

    def execute(self, context: Context) -> None:  # noqa: ARG002  (the interface's signature)
        """Fill what there is room for; fail for good where a view cannot be filled."""
        # Imported here: the engine and the stores are needed by the running task only.
        from fstore.runtime.flipping import fill_next  # noqa: PLC0415

        with airflow_errors(), open_project(self._settings) as backends:
            filled = fill_next(backends, limit=backends.settings.max_catch_up, budget=_FILL_BUDGET)
        for view in filled.views:
            self.log.info(
                "%s: generation %d has %d of %d intervals that are live, %d of them filled now",
                view.view, view.generation, view.required - view.lacking, view.required, view.filled,
            )  # fmt: skip
        if filled.flipped:
            self.log.info("The new generations of %s are live now", ", ".join(flip.view for flip in filled.flipped))
        if filled.failed:
            shown = "; ".join(f"{view.view}: {view.message}" for view in filled.failed)
            raise AirflowFailException(f"new generations cannot be filled: {shown}")


def maintenance_dag(settings: Settings, default_args: Mapping[str, Any], problems: Sequence[str]) -> DAG:
    """Return the maintenance DAG; it also shows the definitions that are broken, for who has no list of import errors."""
    broken = "\n".join(f"- {problem}" for problem in problems)
    with DAG(
        maintenance_dag_id(settings.project),
        description="Brings features online that are not, and sweeps what was never published.",
        doc_md=f"Definitions that cannot be planned, so that their views have no DAG:\n\n{broken}" if broken else None,
        schedule=CronTriggerTimetable("*/10 * * * *", timezone="UTC"),
        start_date=_SINCE,
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        tags=["fstore", settings.project, *(["broken definitions"] if broken else [])],
        default_args=dict(default_args),
    ) as dag:
        MaintenanceOperator(task_id="maintain", settings=settings)
        FillOperator(task_id="fill_new_generations", settings=settings)
    return dag
