"""A small client of Airflow's REST API: what a script needs to start runs and backfills and to wait for them.

Takes the address and a login; gives plain values. Retries what is temporary (a server that is starting, 503 under load, a
backfill that Airflow has not closed yet) up to a deadline, and says what Airflow answered to everything else. It knows no
feature views and reads no database.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import quote

import httpx
import msgspec

from fstore.airflow.rest_values import DagImportError, DagRun, DagSummary, TaskState
from fstore.decoding import decode_json
from fstore.errors import FStoreError
from fstore.interval import format_instant

Progress = Callable[[int, int], None]
"""Told how many of how many runs are finished."""

_Answer = TypeVar("_Answer")


class AirflowError(FStoreError):
    """Airflow refused a request, or did not do what was asked in time."""

    code = "airflow_error"

    def __init__(self, message: str, *, status: int = 0) -> None:
        self.status = status
        super().__init__(message)


class _Component(msgspec.Struct):
    status: str | None = None
    latest_scheduler_heartbeat: str | None = None


class _Health(msgspec.Struct):
    scheduler: _Component


class PlannedRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run that a backfill would create."""

    logical_date: datetime | None


class _Dags(msgspec.Struct):
    dags: list[DagSummary]


class _Runs(msgspec.Struct):
    dag_runs: list[DagRun]


class _Tasks(msgspec.Struct):
    task_instances: list[TaskState]


class _ImportErrors(msgspec.Struct):
    import_errors: list[DagImportError]


class _Backfill(msgspec.Struct):
    id: int
    dag_id: str
    from_date: datetime
    to_date: datetime
    completed_at: datetime | None = None


class _Backfills(msgspec.Struct):
    backfills: list[_Backfill]


class _DryRun(msgspec.Struct):
    backfills: list[PlannedRun]


class _Token(msgspec.Struct):
    access_token: str


class AirflowClient:
    """Talks to one Airflow.

    ``url`` is the address of the API server without a path. Logs in on the first request, and again when the token expires.
    """

    def __init__(self, url: str, user: str = "admin", password: str = "admin", *, timeout: float = 30) -> None:  # noqa: S107
        self.url = url.rstrip("/")
        self._login = {"username": user, "password": password}
        self._timeout = timeout
        self._http = httpx.Client(base_url=self.url, timeout=timeout)
        self._token: str | None = None

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # -- DAGs ---------------------------------------------------------------------------------------------------------

    def dags(self) -> list[DagSummary]:
        """Return the DAGs that Airflow knows and that still exist, by id."""
        return sorted(self._get("/api/v2/dags", _Dags, limit=100).dags, key=lambda dag: dag.dag_id)

    def wait_for_dags(self, dag_ids: Collection[str], *, timeout: float = 180, progress: Progress | None = None) -> None:
        """Wait until all of the DAGs are there. Raises AirflowError with those missing and the import errors."""
        deadline = time.monotonic() + timeout
        while True:
            known = {dag.dag_id for dag in self.dags()}
            missing = sorted(set(dag_ids) - known)
            if progress:
                progress(len(dag_ids) - len(missing), len(dag_ids))
            if not missing:
                return
            if time.monotonic() > deadline:
                errors = "".join(f"\n{error.filename}: {error.stack_trace}" for error in self.import_errors())
                raise AirflowError(f"after {timeout:.0f} s Airflow does not know the DAGs {missing}.{errors}")
            time.sleep(0.5)

    def import_errors(self) -> list[DagImportError]:
        """Return the import errors that the UI shows."""
        return self._get("/api/v2/importErrors", _ImportErrors, limit=100).import_errors

    # -- runs ---------------------------------------------------------------------------------------------------------

    def trigger(self, dag_id: str, conf: Mapping[str, object] | None = None, *, logical_date: datetime | None = None) -> str:
        """Start a manual run and return its id; ``conf`` overrides the DAG's params."""
        run_id = f"manual__{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}+00:00"
        when = format_instant(logical_date) if logical_date else None
        body = {"dag_run_id": run_id, "logical_date": when, "conf": dict(conf or {})}
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                return self._send("POST", f"/api/v2/dags/{quote(dag_id)}/dagRuns", DagRun, body).dag_run_id
            except AirflowError as error:
                if error.status != 500 or time.monotonic() > deadline:
                    raise
                if any(run.dag_run_id == run_id for run in self.runs(dag_id)):  # made, although the answer was an error
                    return run_id
            time.sleep(0.5)

    def run(self, dag_id: str, run_id: str) -> DagRun:
        """Return one run."""
        return self._get(f"/api/v2/dags/{quote(dag_id)}/dagRuns/{quote(run_id)}", DagRun)

    def runs(self, dag_id: str, **filters: str | int) -> list[DagRun]:
        """Return the runs of a DAG in order of creation; ``filters`` are those of the REST API."""
        found: list[DagRun] = []
        while True:
            page = self._get(
                f"/api/v2/dags/{quote(dag_id)}/dagRuns", _Runs, limit=100, offset=len(found), order_by="id", **filters
            ).dag_runs
            found += page
            if len(page) < 100:
                return found

    def wait_run(self, dag_id: str, run_id: str, *, timeout: float = 600) -> DagRun:
        """Wait until a run has ended, and return it whatever its state. Raises AirflowError when it takes too long."""
        deadline = time.monotonic() + timeout
        while not (run := self.run(dag_id, run_id)).finished:
            if time.monotonic() > deadline:
                raise AirflowError(f"run {run_id!r} of {dag_id!r} is still {run.state!r} after {timeout:.0f} s")
            self.check_scheduler()
            time.sleep(0.5)
        return run

    def check_scheduler(self) -> None:
        """Raise AirflowError when the scheduler has stopped, so that nobody waits for it."""
        scheduler = self._get("/api/v2/monitor/health", _Health).scheduler
        if scheduler.status == "unhealthy":
            since = scheduler.latest_scheduler_heartbeat
            raise AirflowError(
                f"Airflow's scheduler has stopped; its last heartbeat was at {since}. Its log (standalone.log in the "
                "Airflow home) says why."
            )

    def task_instances(self, dag_id: str, run_id: str) -> dict[str, TaskState]:
        """Return the tasks of a run by task id."""
        path = f"/api/v2/dags/{quote(dag_id)}/dagRuns/{quote(run_id)}/taskInstances"
        return {task.task_id: task for task in self._get(path, _Tasks, limit=1000).task_instances}

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1) -> str:
        """Return the log of one try of a task as text."""
        path = f"/api/v2/dags/{quote(dag_id)}/dagRuns/{quote(run_id)}/taskInstances/{quote(task_id)}/logs/{try_number}"
        return self._request("GET", path, headers={"Accept": "application/x-ndjson"}).text

    def clear(self, dag_id: str, run_id: str, task_ids: Collection[str], *, downstream: bool = False) -> None:
        """Clear tasks of a run so that they run again."""
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": sorted(task_ids),
            "only_failed": False,
            "reset_dag_runs": True,
            "include_downstream": downstream,
        }
        self._request("POST", f"/api/v2/dags/{quote(dag_id)}/clearTaskInstances", json=body)

    # -- backfills ----------------------------------------------------------------------------------------------------

    def backfill_dry_run(self, dag_id: str, from_date: datetime, to_date: datetime) -> list[PlannedRun]:
        """Return the runs that a backfill would create, without creating any; both dates are inclusive."""
        body = _backfill_body(dag_id, from_date, to_date, max_active_runs=1)
        return self._send("POST", "/api/v2/backfills/dry_run", _DryRun, body).backfills

    def backfill(
        self, dag_id: str, from_date: datetime, to_date: datetime, *, max_active_runs: int = 16, reprocess: str = "none",
        conf: Mapping[str, object] | None = None, timeout: float = 120,
    ) -> int:  # fmt: skip
        """Create a backfill of the intervals that start between two inclusive dates, and return its id.

        Airflow allows one active backfill per DAG and closes a finished one up to 30 s later, so a conflict is tried again
        until ``timeout`` seconds have passed. ``reprocess`` is ``none``, ``failed`` or ``completed``.
        """
        body = _backfill_body(dag_id, from_date, to_date, max_active_runs=max_active_runs)
        body |= {"reprocess_behavior": reprocess, "dag_run_conf": dict(conf or {})}
        deadline = time.monotonic() + timeout
        while True:
            try:
                with self._paused(dag_id):
                    return self._send("POST", "/api/v2/backfills", _Backfill, body).id
            except AirflowError as error:
                if error.status not in (409, 500) or time.monotonic() > deadline:
                    raise
                if error.status == 500 and (made := self._active_backfill(dag_id, from_date, to_date)) is not None:
                    return made
            time.sleep(1)

    def _active_backfill(self, dag_id: str, from_date: datetime, to_date: datetime) -> int | None:
        """Return the backfill that a request made although its answer was an error, as a busy SQLite may give it."""
        for backfill in self._get("/api/v2/backfills", _Backfills, dag_id=dag_id).backfills:
            if backfill.completed_at is None and (backfill.from_date, backfill.to_date) == (from_date, to_date):
                return backfill.id
        return None

    def set_paused(self, dag_id: str, *, paused: bool) -> None:
        """Pause a DAG or let it go on: a paused DAG starts no task."""
        self._request(
            "PATCH", f"/api/v2/dags/{quote(dag_id)}", params={"update_mask": "is_paused"}, json={"is_paused": paused}
        )

    @contextmanager
    def _paused(self, dag_id: str) -> Iterator[None]:
        """Keep a DAG paused while a backfill of it is being created.

        On SQLite Airflow may meet a locked database half way; it then deletes the runs it has created, and a scheduler that
        has begun to schedule them stops. It does not touch the runs of a paused DAG.
        """
        before = self._get(f"/api/v2/dags/{quote(dag_id)}", DagSummary).is_paused
        self.set_paused(dag_id, paused=True)
        try:
            yield
        finally:
            self.set_paused(dag_id, paused=before)

    def wait_backfill(
        self, backfill_id: int, *, timeout: float = 1800, progress: Progress | None = None
    ) -> list[DagRun]:  # fmt: skip
        """Wait until every run of a backfill has ended, and return the runs by logical date.

        Judged by the runs themselves: Airflow marks the backfill as completed only up to 30 s later.
        """
        backfill = self._get(f"/api/v2/backfills/{backfill_id}", _Backfill)
        deadline = time.monotonic() + timeout
        while True:
            runs = self.runs(
                backfill.dag_id,
                run_type="backfill",
                logical_date_gte=format_instant(backfill.from_date),
                logical_date_lte=format_instant(backfill.to_date),
            )
            finished = sum(run.finished for run in runs)
            if progress:
                progress(finished, len(runs))
            if runs and finished == len(runs):
                return sorted(runs, key=lambda run: (run.logical_date is None, run.logical_date, run.dag_run_id))
            if time.monotonic() > deadline:
                raise AirflowError(
                    f"backfill {backfill_id} of {backfill.dag_id!r}: {finished} of {len(runs)} runs ended in {timeout:.0f} s"
                )
            self.check_scheduler()
            time.sleep(0.5)

    # -- requests -----------------------------------------------------------------------------------------------------

    def _get(self, path: str, answer: type[_Answer], **params: str | int) -> _Answer:
        return decode_json(self._request("GET", path, params=params).content, answer)

    def _send(self, method: str, path: str, answer: type[_Answer], body: Mapping[str, object]) -> _Answer:
        return decode_json(self._request(method, path, json=body).content, answer)

    def _request(
        self, method: str, path: str, *, params: Mapping[str, str | int] | None = None,
        json: Mapping[str, object] | None = None, headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:  # fmt: skip
        """Send one request; tries again while the server is busy, and once with a new login."""
        deadline = time.monotonic() + self._timeout
        logged_in = self._token is None
        while True:
            try:
                bearer = {"Authorization": f"Bearer {self._bearer()}", **(headers or {})}
                response = self._http.request(method, path, params=dict(params or {}), json=json, headers=bearer)
            except httpx.TransportError as error:
                if time.monotonic() > deadline:
                    raise AirflowError(f"Airflow at {self.url} does not answer: {error}") from error
                time.sleep(0.5)
                continue
            if response.status_code == 401 and not logged_in:
                self._token, logged_in = None, True
            elif _is_temporary(method, path, response.status_code) and time.monotonic() < deadline:
                time.sleep(0.5)
            elif response.is_success:
                return response
            else:
                raise AirflowError(
                    f"Airflow at {self.url} answered {response.status_code} to {method} {path}: {response.text[:2000]}",
                    status=response.status_code,
                )

    def _bearer(self) -> str:
        if self._token is None:
            response = self._http.post("/auth/token", json=self._login)
            if not response.is_success:
                raise AirflowError(
                    f"Airflow at {self.url} refused the login of {self._login['username']!r}: "
                    f"{response.status_code} {response.text[:500]}",
                    status=response.status_code,
                )
            self._token = decode_json(response.content, _Token).access_token
        return self._token


def _is_temporary(method: str, path: str, status: int) -> bool:
    """Whether a request may be sent again: a busy SQLite answers 503, or 500 where Airflow does not expect it."""
    repeatable = method in ("GET", "PATCH") or path.endswith(("/clearTaskInstances", "/dry_run"))
    return status == 503 or (status == 500 and repeatable)


def _backfill_body(dag_id: str, from_date: datetime, to_date: datetime, *, max_active_runs: int) -> dict[str, object]:
    return {
        "dag_id": dag_id,
        "from_date": format_instant(from_date),
        "to_date": format_instant(to_date),
        "max_active_runs": max_active_runs,
        "run_backwards": False,
        "dag_run_conf": {},
        "reprocess_behavior": "none",
    }
