"""A real Airflow whose tasks, workers, scheduler and stores are killed at random while it backfills; part of ``--long``.

The project of the end-to-end tests with its registry in PostgreSQL and its online store in Redis, both of which keep what
they acknowledged. Two pipelines, of which one waits for the other, are backfilled at once. Meanwhile the seed chooses what
is killed: the process of a task, the worker that watches over one (so that the task goes on as a zombie), the scheduler,
Redis, the registry. Servers come back after a while. Nobody touches anything else: Airflow's retries and the maintenance
DAG must bring every view to the content of an undisturbed run, offline and online.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psutil
import pyarrow as pa
import pyarrow.compute as pc

from fstore.airflow.local import LocalAirflow
from fstore.airflow.rest import AirflowClient, AirflowError
from fstore.airflow.rest_values import DagRun
from fstore.backends import Backends, create_backends, open_backends
from fstore.plan.steps import EVENT_TIMESTAMP
from fstore.runtime.due import intervals_within
from fstore.runtime.plan_cache import load_plan
from fstore.runtime.preparation import prepare_steps
from fstore.runtime.runner import run_step
from fstore.settings import Settings, load_settings
from fstore.stores.encoding import RowCodec
from fstore.stores.online import OnlineView
from scripts.servers import RunningServer, ServerMissing, airflow_database, free_port, postgres_server, redis_server
from tests.chaos.options import Options
from tests.end_to_end.conftest import write_purchases

NAME = "airflow"
KILLS = 25
VIEWS = ("user_purchases", "big_spenders", "user_profile")
DAGS = ("shop.purchases.daily", "shop.activity.daily")
MAINTENANCE = "shop.maintenance"
FIRST, DAYS = datetime(2026, 1, 1, tzinfo=UTC), 10
WEIGHTS = {"task": 45, "worker": 15, "scheduler": 8, "redis": 16, "registry": 16}
"""What is killed how often, once each of them was."""

PATIENCE = 1200
USERS = [f"u{number:02}" for number in range(40)]

DAG_FILE = '''"""The DAGs of the project, which retry soon and often."""

from datetime import timedelta
from pathlib import Path

from fstore.airflow.dag_builder import build_dags

again = {"retries": 100, "retry_delay": timedelta(seconds=2), "retry_exponential_backoff": False}
globals().update(build_dags(Path(__file__).parents[1], default_args=again))
'''

QUICK = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "3",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "60",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "10",
}
"""How soon Airflow finds out that something died: minutes by default, which would only be waited for."""


class State(NamedTuple):
    """What readers see of every view: a hash of the rows of every published file, and the rows online without sequences."""

    offline: dict[str, str]
    online: dict[str, list[str | None]]


class Outcome(NamedTuple):
    """What became of it."""

    kills: Counter[str]
    seconds: float
    tries: int
    violations: list[str]


class Server:
    """A server that can be killed with all of its processes, and started again where it was."""

    def __init__(self, start: Callable[[], AbstractContextManager[RunningServer]], lock: Path | None = None) -> None:
        self._start, self._lock = start, lock
        self._context: AbstractContextManager[RunningServer] | None = None
        self.start()

    def start(self) -> None:
        self._context = self._start()
        self._running = self._context.__enter__()

    def kill(self) -> None:
        main = psutil.Process(self._running.process.pid)
        every = [main, *main.children(recursive=True)]
        for process in every:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        self._running.process.wait()
        psutil.wait_procs(every, timeout=10)
        self.stop()
        if self._lock is not None:
            self._lock.unlink(missing_ok=True)

    def stop(self) -> None:
        if self._context is not None:
            self._context.__exit__(None, None, None)
            self._context = None


def run(options: Options) -> tuple[int, int]:
    """Run the part of ``python -m tests.chaos --long``: one backfill under kills."""
    try:
        outcome = run_disturbed(options, kills=min(options.scenarios or KILLS, KILLS))
    except ServerMissing as reason:
        print(f"{NAME}: skipped: {reason}", flush=True)
        return 0, 0
    for text in outcome.violations:
        options.violation(NAME, options.only or str(options.seed), text)
    kills = ", ".join(f"{number} x {what}" for what, number in outcome.kills.most_common())
    print(f"{NAME}: killed {kills} in {outcome.seconds:.0f} s; the tasks took {outcome.tries} tries", flush=True)
    return sum(outcome.kills.values()), len(outcome.violations)


def run_disturbed(options: Options, *, kills: int, days: int = DAYS) -> Outcome:
    """Backfill both pipelines while things are killed; return what differs from an undisturbed run afterwards."""
    place = Path(tempfile.mkdtemp(prefix="fs-chaos-airflow-", dir="/tmp"))
    place.chmod(0o755)  # PostgreSQL may run as another user
    try:
        end = FIRST + timedelta(days=days)
        undisturbed = load_settings(_project(place / "undisturbed", end), environ={})
        wanted = _run_undisturbed(undisturbed, end)
        with contextlib.ExitStack() as stack:
            servers = _servers(place)
            for server in servers.values():
                stack.callback(server.stop)
            urls = {
                "registry_url": servers["registry"]._running.url, "online_url": servers["redis"]._running.url,
            }  # fmt: skip
            root = _project(place / "shop", end)
            settings = load_settings(root, environ={}, **urls)
            create_backends(settings).close()
            database = stack.enter_context(airflow_database(place / "airflow"))
            environ = {f"FSTORE_{name.upper()}": url for name, url in urls.items()} | QUICK
            airflow = stack.enter_context(LocalAirflow(root, database_url=database, environ=environ))
            client = stack.enter_context(contextlib.closing(airflow.client()))
            _wait_for_dags(client)
            return _Disturbance(options, airflow, client, servers, settings, end).run(kills, wanted)
    finally:
        shutil.rmtree(place, ignore_errors=True)


class _Disturbance:
    def __init__(
        self, options: Options, airflow: LocalAirflow, client: AirflowClient, servers: dict[str, Server], settings: Settings,
        end: datetime,
    ) -> None:  # fmt: skip
        self.options, self.airflow, self.client, self.servers = options, airflow, client, servers
        self.settings, self.last = settings, end - timedelta(days=1)
        self.random = random.Random(int(options.only or options.seed))
        self.killed: Counter[str] = Counter()
        self.first = self.random.sample(list(WEIGHTS), len(WEIGHTS))
        self.schedulers: list[subprocess.Popen[bytes]] = []

    def run(self, kills: int, wanted: State) -> Outcome:
        began = time.monotonic()
        for dag in DAGS:
            self.client.backfill(dag, FIRST, self.last, max_active_runs=4)
        runs = self._kill_until_finished(kills)
        violations = [f"run {run.dag_run_id} of {run.dag_id} is {run.state}" for run in runs if run.state != "success"]
        tries = sum(self._tries(run) for run in runs)
        violations += self._maintain()
        violations += self._differences(wanted)
        for scheduler in self.schedulers:
            with contextlib.suppress(ProcessLookupError):
                scheduler.kill()
            scheduler.wait()
        return Outcome(self.killed, time.monotonic() - began, tries, violations)

    # -- what is killed -----------------------------------------------------------------------------------------------

    def _kill_until_finished(self, kills: int) -> list[DagRun]:
        deadline = time.monotonic() + PATIENCE
        while (runs := self._runs()) is None or any(not run.finished for run in runs):
            if time.monotonic() > deadline:
                return runs or []
            if sum(self.killed.values()) < kills:
                left = [what for what in self.first if not self.killed[what]]
                self._kill(left[0] if left else self.random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0])
                self.options.progress(NAME, sum(self.killed.values()), kills)
                time.sleep(self.random.uniform(1, 6))
            else:
                time.sleep(1)
        return runs

    def _kill(self, what: str) -> None:
        if what in self.servers:
            self.servers[what].kill()
            time.sleep(self.random.uniform(0.5, 5))
            self.servers[what].start()
            self.killed[what] += 1
            return
        found = sorted(self._processes(what), key=lambda process: process.pid)
        for process in found if what == "scheduler" else self.random.sample(found, min(1, len(found))):
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
                self.killed[what] += 1
        if what == "scheduler" and found:
            time.sleep(self.random.uniform(0.5, 3))
            self._start_scheduler()

    def _processes(self, what: str) -> Iterator[psutil.Process]:
        """Yield the processes that are a running task, that watch over one, or that are the scheduler."""
        for process in self.airflow._processes():
            with contextlib.suppress(psutil.Error):
                if what == "scheduler":
                    found = process if process.cmdline()[-1:] == [what] else None
                elif _is_worker(process) and (parent := process.parent()) is not None and _is_worker(parent):
                    found = process if what == "task" else parent
                else:
                    found = None
                if found is not None:
                    yield found

    def _start_scheduler(self) -> None:
        """Do what whoever runs a scheduler does when it ends: start it again."""
        with (self.airflow.home / "scheduler.log").open("ab") as log:
            self.schedulers.append(
                subprocess.Popen(
                    [sys.executable, "-m", "airflow", "scheduler"],
                    cwd=self.airflow.root,
                    env=self.airflow.environment(self.airflow.home / "passwords.json"),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )

    # -- what is there afterwards -------------------------------------------------------------------------------------

    def _runs(self) -> list[DagRun] | None:
        """Return the runs, those of the schedule too; None while backfilled ones are missing or Airflow does not answer."""
        try:
            runs = [run for dag in DAGS for run in self.client.runs(dag)]
        except AirflowError:
            return None
        backfilled = sum(run.run_type == "backfill" for run in runs)
        return runs if backfilled == len(DAGS) * ((self.last - FIRST).days + 1) else None

    def _tries(self, run: DagRun) -> int:
        return sum(task.try_number for task in self.client.task_instances(run.dag_id, run.dag_run_id).values())

    def _maintain(self) -> Iterator[str]:
        """Let the maintenance DAG run, as its schedule does every ten minutes."""
        run_id = self.client.trigger(MAINTENANCE)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(AirflowError):
                if (run := self.client.run(MAINTENANCE, run_id)).finished:
                    if run.state != "success":
                        yield f"the maintenance is {run.state}: {self.client.log(MAINTENANCE, run_id, 'maintain')[-2000:]}"
                    return
            time.sleep(1)
        yield "the maintenance did not end"

    def _differences(self, wanted: State) -> Iterator[str]:
        with open_backends(self.settings) as backends:
            found = _state(backends)
            if pending := backends.registry.outbox.pending(limit=10):
                yield f"the outbox still has {[entry.payload for entry in pending]}"
        for view in VIEWS:
            if found.offline[view] != wanted.offline[view]:
                yield f"offline, {view} is {found.offline[view]}, undisturbed {wanted.offline[view]}"
            for user, row, other in zip(USERS, found.online[view], wanted.online[view], strict=True):
                if row != other:
                    yield f"online, {view} of {user} is {row}, undisturbed {other}"


def _wait_for_dags(client: AirflowClient) -> None:
    """Wait until Airflow knows the DAGs, however slowly it answers."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return client.wait_for_dags([*DAGS, MAINTENANCE])
        except AirflowError:
            if time.monotonic() > deadline:
                raise


def _is_worker(process: psutil.Process) -> bool:
    """Whether a process runs a task, or watches over one: the child of such a process runs it."""
    return " ".join(process.cmdline()).startswith("airflow worker -- ")


def _project(root: Path, end: datetime) -> Path:
    """Copy the project of the end-to-end tests, without what is broken on purpose; its views end with the backfill."""
    source = Path(__file__).parents[1] / "end_to_end" / "project"
    ignored = shutil.ignore_patterns(
        "__pycache__", "broken.py", "strict.py", "gifts.py", "consumer.py", "feature_problems.py"
    )
    shutil.copytree(source, root, ignore=ignored)
    (root / "dags" / "feature_pipelines.py").write_text(DAG_FILE, encoding="utf-8")
    for module in (root / "feature_defs").glob("*.py"):
        text = module.read_text(encoding="utf-8").replace('end = "2026-02-01"', f'end = "{end:%Y-%m-%d}"')
        module.write_text(text, encoding="utf-8")
    write_purchases(root / "data")
    return root


def _servers(place: Path) -> dict[str, Server]:
    kept, data = place / "redis", place / "postgres"
    kept.mkdir()
    durable = ("--appendonly", "yes", "--appendfsync", "always", "--dir", str(kept))
    redis = Server(partial(redis_server, *durable, port=free_port()))
    settings = {"synchronous_commit": "on", "fsync": "on"}
    try:
        postgres = partial(postgres_server, data, port=free_port(), settings=settings)
        return {"redis": redis, "registry": Server(postgres, data / "postmaster.pid")}
    except BaseException:
        redis.stop()
        raise


def _run_undisturbed(settings: Settings, end: datetime) -> State:
    with create_backends(settings) as backends:
        for step in prepare_steps(backends, load_plan(settings).project, VIEWS):
            intervals = intervals_within(step, FIRST, end)
            run_step(backends, step, intervals, "undisturbed")
        return _state(backends)


def _state(backends: Backends) -> State:
    """Return what readers see, found through the ledger."""
    steps = {step.view: step for step in prepare_steps(backends, load_plan(backends.settings).project, VIEWS)}
    offline: dict[str, str] = {}
    online: dict[str, list[str | None]] = {}
    for view, step in steps.items():
        heads = backends.registry.ledger.heads(view)
        files = backends.registry.ledger.files([head.attempt for head in heads])
        lines: list[str] = []
        for head in heads:
            for file in files.get(head.attempt, ()):
                table = backends.offline.read(file.path)
                times = table[EVENT_TIMESTAMP]
                after, until = (pa.scalar(instant, times.type) for instant in (head.start, head.end))
                kept = table.filter(pc.and_(pc.greater(times, after), pc.less_equal(times, until)))
                lines += [repr(sorted(row.items())) for row in kept.to_pylist()]
        digest = hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]
        offline[view] = f"{digest}/{len(lines)}"
        columns = [column for column in step.columns() if column.name != EVENT_TIMESTAMP and column not in step.keys]
        keys = RowCodec(keys=step.keys, features=columns).encode_keys(pa.table({"user_id": USERS}))
        stored = backends.online.read_view(OnlineView(project="shop", view=view, generation=1), keys)
        online[view] = [row[8:].hex() if row is not None else None for row in stored.rows]
    return State(offline, online)
