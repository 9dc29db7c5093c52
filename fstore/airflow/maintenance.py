"""The maintenance DAG of a project: what must still happen when the last retry of a task was killed.

Every ten minutes it brings publications online that are not online yet. It computes nothing and keeps no state of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import DAG, BaseOperator, Context, CronTriggerTimetable

from fstore.airflow.environment import open_project
from fstore.airflow.operators import airflow_errors
from fstore.errors import StoreUnavailable
from fstore.settings import Settings

_SINCE = datetime(2020, 1, 1, tzinfo=UTC)


def maintenance_dag_id(project: str) -> str:
    """Return the id of a project's maintenance DAG; no pipeline can have it, because theirs end with a schedule."""
    return f"{project}.maintenance"


class ApplyOutboxOperator(BaseOperator):
    """Brings online what was published and is not online yet."""

    def __init__(self, *, settings: Settings, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._settings = settings

    def execute(self, context: Context) -> None:  # noqa: ARG002  (the interface's signature)
        """Apply pending work until none is left; fail, to be retried, when some of it could not be applied."""
        # Imported here: the stores' drivers are needed by the running task only.
        from fstore.runtime.delivery import apply_outbox  # noqa: PLC0415

        with airflow_errors(), open_project(self._settings) as backends:
            delivered = apply_outbox(backends)
        self.log.info("%d publication(s) brought online, %d row(s) written", delivered.entries, delivered.rows)
        if delivered.failed:
            raise StoreUnavailable(
                f"{delivered.failed} publication(s) could not be brought online; the outbox in the registry says why "
                "(`fstore status`), and the next run tries again"
            )


def maintenance_dag(settings: Settings, default_args: Mapping[str, Any], problems: Sequence[str]) -> DAG:
    """Return the maintenance DAG; it also shows the definitions that are broken, for who has no list of import errors."""
    broken = "\n".join(f"- {problem}" for problem in problems)
    with DAG(
        maintenance_dag_id(settings.project),
        description="Brings published features online that are not online yet.",
        doc_md=f"Definitions that cannot be planned, so that their views have no DAG:\n\n{broken}" if broken else None,
        schedule=CronTriggerTimetable("*/10 * * * *", timezone="UTC"),
        start_date=_SINCE,
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        tags=["fstore", settings.project, *(["broken definitions"] if broken else [])],
        default_args=dict(default_args),
    ) as dag:
        ApplyOutboxOperator(task_id="apply_outbox", settings=settings)
    return dag
