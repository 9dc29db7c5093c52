"""What Airflow's REST API answers, as plain values: DAGs, runs, tasks, import errors, planned backfills.

Fields that nobody here reads are left out; unknown ones are ignored when an answer is decoded.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

FINISHED = ("success", "failed")
"""States that a DAG run does not leave by itself."""


class DagSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A DAG as Airflow lists it."""

    dag_id: str
    is_paused: bool
    has_import_errors: bool = False
    description: str | None = None
    timetable_description: str | None = None
    timetable_summary: str | None = None
    next_dagrun_logical_date: datetime | None = None
    next_dagrun_run_after: datetime | None = None


class DagRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a DAG."""

    dag_id: str
    dag_run_id: str
    run_type: str
    state: str
    logical_date: datetime | None = None
    data_interval_start: datetime | None = None
    data_interval_end: datetime | None = None
    partition_key: str | None = None
    conf: dict[str, object] | None = None

    @property
    def finished(self) -> bool:
        """Whether the run has ended."""
        return self.state in FINISHED


class TaskState(msgspec.Struct, frozen=True, kw_only=True):
    """One task of a run."""

    task_id: str
    state: str | None
    try_number: int
    dag_run_id: str = ""
    start_date: datetime | None = None
    end_date: datetime | None = None


class DagImportError(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of Airflow's list of import errors."""

    filename: str
    stack_trace: str
