"""A complete Airflow of one project on this machine, for trying things out, the demo and the tests.

Takes a project directory; starts ``airflow standalone`` with its home in ``.airflow/`` there, on a port of its own, with a
known login, and stops every process of it again. Nothing outside the home is touched, and no setting of another Airflow in
the environment is inherited. Not for production: one machine. On SQLite, which it uses where it is given no database,
backfills of many runs can stop a component: give it a PostgreSQL server for more than a few runs.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import httpx
import msgspec
import psutil

from fstore.airflow.rest import AirflowClient, AirflowError
from fstore.decoding import decode_json

_PRELOADED = (
    "airflow.executors.local_executor", "airflow.sdk.execution_time.supervisor", "airflow.sdk.execution_time.task_runner",
    "airflow.dag_processing.dagbag", "airflow.timetables.interval", "airflow.providers.openlineage.plugins.listener",
    "airflow.providers.openlineage.plugins.macros", "fstore.airflow.dag_builder", "fstore.airflow.transport",
    "fstore.airflow.waiting", "fstore.engines.duckdb", "fstore.lineage.openlineage", "fstore.registry.registry",
    "fstore.runtime.preparation", "fstore.runtime.runner", "fstore.stores.lmdb", "fstore.stores.offline",
)  # fmt: skip
"""What every task imports. A fork server imports it once and tasks are forked from it, which halves their time."""

_COMPONENTS = ("scheduler", "dag_processor", "triggerer")


class _Component(msgspec.Struct):
    status: str | None = None
    latest_scheduler_heartbeat: datetime | None = None
    latest_dag_processor_heartbeat: datetime | None = None
    latest_triggerer_heartbeat: datetime | None = None

    @property
    def heartbeat(self) -> datetime | None:
        return self.latest_scheduler_heartbeat or self.latest_dag_processor_heartbeat or self.latest_triggerer_heartbeat


def free_port() -> int:
    """Return a TCP port on the loopback interface that nothing listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class LocalAirflow:
    """Starts and stops one Airflow; a context manager.

    ``root`` is the project with its ``dags/`` and ``plugins/``. ``database_url`` is a database of PostgreSQL, ``postgresql://…``,
    for what Airflow itself remembers; without it that is SQLite in the home. ``users`` maps a name to its role, and each
    name is its own password. ``environ`` is added to the environment of every process and wins over what is set here.
    """

    def __init__(
        self, root: Path, *, port: int | None = None, home: Path | None = None, database_url: str | None = None,
        environ: Mapping[str, str] | None = None, users: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.root = root.resolve()
        self.home = (home or self.root / ".airflow").resolve()
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_file = self.home / "standalone.log"
        self._users = dict(users or {"admin": "admin"})
        self._database_url = database_url
        self._environ = dict(environ or {})
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> LocalAirflow:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def client(self, user: str = "admin") -> AirflowClient:
        """Return a client that is logged in as one of the users."""
        return AirflowClient(self.url, user, user)

    def start(self, *, timeout: float = 240) -> None:
        """Start every component and return when all of them are healthy.

        Stops what an interrupted earlier start left behind in this home. Raises AirflowError when the port is taken, when
        Airflow ends by itself, or when it is not healthy in time; the message ends with the last lines of its log.
        """
        self.stop()
        self._check_port()
        self.home.mkdir(parents=True, exist_ok=True)
        passwords = self.home / "passwords.json"
        passwords.write_text(json.dumps({user: user for user in self._users}), encoding="utf-8")
        started_at = datetime.now(UTC)
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "airflow", "standalone"],
                cwd=self.root,
                env=self.environment(passwords),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_healthy(started_at, timeout)
        except BaseException:
            self.stop()
            raise

    def stop(self, *, timeout: float = 15) -> None:
        """Stop every process of this Airflow, also those whose parent is gone; does nothing when there is none.

        Asks first and kills what is left after ``timeout`` seconds. ``airflow standalone`` itself handles no SIGTERM and a
        background process may ignore SIGINT, so the components are told one by one.
        """
        deadline = time.monotonic() + timeout
        told: set[int] = set()
        while running := list(self._processes()):
            for process in running:
                if time.monotonic() > deadline:
                    _signal(process, signal.SIGKILL)
                elif process.pid not in told:
                    _signal(process, signal.SIGTERM)
                    told.add(process.pid)
            psutil.wait_procs(running, timeout=0.3)  # type: ignore[no-untyped-call]
        if self._process is not None:
            self._process.wait()
            self._process = None

    def environment(self, passwords: Path) -> dict[str, str]:
        """Return the environment of the processes."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        transport = {"type": "fstore.airflow.transport.RegistryTransport", "root": str(self.root)}
        return {
            **kept,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}",
            "FSTORE_ROOT": str(self.root),
            "AIRFLOW_HOME": str(self.home),
            "SPT_NOENV": "1",  # process titles leave the environment readable, by which stop() finds every process
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.root / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(self.root / "plugins"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "16",  # fewer throttles task starts with the processor idle
            "AIRFLOW__CORE__MP_START_METHOD": "forkserver",
            "AIRFLOW__CORE__MP_FORKSERVER_PRELOAD": ",".join(_PRELOADED),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:{role}" for user, role in self._users.items()),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "5",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
            "AIRFLOW__WORKERS__EXECUTION_API_RETRIES": "12",  # tasks start before the API server does
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
            **self._database(),
            **self._environ,
        }

    def _database(self) -> dict[str, str]:
        if self._database_url is None:
            return {}
        driver = self._database_url.replace("postgresql://", "postgresql+psycopg2://", 1)
        return {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": driver}

    def _check_port(self) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", self.port))
            except OSError as error:
                raise AirflowError(
                    f"port {self.port} is taken by another program ({error.strerror}); stop it or choose another port"
                ) from None

    def _processes(self) -> Iterator[psutil.Process]:
        """Yield the live processes whose AIRFLOW_HOME is this home, except the current one."""
        for process in psutil.process_iter():  # type: ignore[no-untyped-call]
            try:
                mine = process.pid != os.getpid() and process.environ().get("AIRFLOW_HOME") == str(self.home)
                if mine and process.status() != psutil.STATUS_ZOMBIE:
                    yield process
            except (psutil.Error, OSError):
                continue

    def _wait_until_healthy(self, started_at: datetime, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        missing: list[str] = ["api_server"]
        while missing:
            if self._process is not None and self._process.poll() is not None:
                raise AirflowError(f"Airflow ended with code {self._process.returncode}:\n{self._log_tail()}")
            if time.monotonic() > deadline:
                raise AirflowError(f"Airflow is not healthy after {timeout:.0f} s, missing {missing}:\n{self._log_tail()}")
            time.sleep(0.3)
            missing = self._unhealthy(started_at)

    def _unhealthy(self, started_at: datetime) -> list[str]:
        """Return the components that have not reported since the start: health is read from the database."""
        try:
            answer = httpx.get(f"{self.url}/api/v2/monitor/health", timeout=5)
            health = decode_json(answer.content, dict[str, _Component | None])
        except (httpx.HTTPError, msgspec.MsgspecError):
            return ["api_server"]
        found = {name: health.get(name) or _Component() for name in _COMPONENTS}
        return [
            name
            for name, component in found.items()
            if component.status != "healthy" or component.heartbeat is None or component.heartbeat < started_at
        ]

    def _log_tail(self, lines: int = 30) -> str:
        text = self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)  # type: ignore[no-untyped-call]
    except psutil.Error:
        return
