"""What the processes of a kill scenario do: the real work, and the marks that they leave in the history on the way.

A piece of work begins in a state of the world and is what a task, the maintenance DAG or ``fstore apply`` would do. It says
in the history which batches it began and when it took the project's lock to publish, so that the order of things between
processes can be judged afterwards; it is told nothing of faults.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from fstore import failpoints
from fstore.backends import Backends, create_backends, open_backends
from fstore.errors import FStoreError
from fstore.failpoints import FAILPOINTS
from fstore.registry.backups import back_up, restore
from fstore.registry.database import Database
from fstore.registry.ledger import Ledger
from fstore.registry.records import Batch, Published
from fstore.runtime.delivery import apply_outbox
from fstore.runtime.due import due_intervals
from fstore.runtime.forwarding import forward_lineage
from fstore.runtime.incarnation import adopt_stores
from fstore.runtime.inputs import observe_step
from fstore.runtime.plan_cache import load_plan
from fstore.runtime.preparation import prepare_steps
from fstore.runtime.repair import repair_online, sweep
from fstore.runtime.retention import sweep_online, sweep_superseded
from fstore.runtime.runner import run_step
from tests.chaos.history import History
from tests.chaos.world import BACKUP, VIEWS, World

ROUNDS = 6


class Work(NamedTuple):
    """A piece of work: its name, the state of the world that it begins in, the variant of the source, and days."""

    name: str
    state: str
    variant: str = "A"
    first: int = 0
    last: int = 5
    weight: int = 1

    @property
    def views(self) -> tuple[str, ...]:
        """The views that it runs."""
        return VIEWS if self.name == "all" else (self.name,) if self.name in VIEWS else ()


WORKS = [
    Work("purchases", "no-purchases", "A", 3, 5, weight=20),
    Work("purchases", "full", "B", 2, 3, weight=2),
    Work("purchases", "full", "A", 2, 5, weight=8),
    Work("ranks", "no-ranks", "A", 3, 5, weight=12),
    Work("ranks", "full", "A", 3, 5, weight=6),
    Work("totals", "no-totals", "A", 3, 5, weight=6),
    Work("totals", "full", "B", 2, 5, weight=2),
    Work("all", "part", "A", 3, 5, weight=1),
    Work("deliver", "pending", weight=12),
    Work("repair", "lost", weight=12),
    Work("maintain", "pending", weight=1),
    Work("sweep", "orphans", weight=12),
    Work("retain", "superseded", weight=12),
    Work("forward", "full", weight=12),
    Work("backup", "full", weight=12),
    Work("restore", "restorable", weight=3),
    Work("restore", "restorable-one", weight=12),
    Work("create", "void", weight=12),
]


def do(world: World, backends: Backends, work: Work, run_id: str) -> None:
    """Do a piece of work, as run ``run_id``. Raises what the product raises."""
    for view in work.views:
        world.run(backends, view, work.first, work.last, f"{run_id}/{view}")
    match work.name:
        case "deliver":
            apply_outbox(backends)
        case "repair":
            repair_online(backends)
        case "backup":
            with contextlib.closing(Database(world.settings.registry_url, "chaos")) as database:
                back_up(database, world.place / f"backup-{time.monotonic_ns()}")
        case "restore":
            with contextlib.closing(Database(world.settings.registry_url, "chaos")) as database:
                restore(database, world.root / BACKUP, replace={"chaos"})
            with open_backends(world.settings) as restored:
                adopt_stores(restored)
        case "forward":
            forward_lineage(backends.registry, Inbox(world.place / "inbox"))
        case "sweep":
            sweep(backends, datetime.now(UTC), after=timedelta(0))
        case "retain":
            sweep_online(backends, datetime.now(UTC), horizon=timedelta(microseconds=1))
            sweep_superseded(backends, datetime.now(UTC), horizon=timedelta(microseconds=1))
        case "maintain":
            maintain(backends)
        case "create":
            create_backends(world.settings).close()


class Inbox:
    """An OpenLineage backend: a file of the events that it was sent."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def send(self, event: str) -> None:
        with self.path.open("ab") as file:
            file.write(event.encode() + b"\n")

    def events(self) -> set[str]:
        return set(self.path.read_text(encoding="utf-8").splitlines()) if self.path.exists() else set()


def maintain(backends: Backends) -> None:
    """Do what the maintenance DAG does, with nothing too young to be swept."""
    apply_outbox(backends)
    repair_online(backends)
    sweep(backends, datetime.now(UTC), after=timedelta(0))


def task(
    world: World, history: History, work: Work, run_id: str, backends: Backends | None = None, *, tries: int = 3
) -> bool:
    """Do a piece of work as a task: again while the error says that it may help; note every error. Whether it succeeded."""
    history.add("began", run=run_id, work=work.name)
    opened = backends or open_backends(world.settings)
    try:
        for _ in range(tries):
            try:
                do(world, opened, work, run_id)
            except FStoreError as error:
                history.add(
                    "failed",
                    run=run_id,
                    error=type(error).__name__,
                    code=error.code,
                    retryable=error.retryable,
                    text=str(error),
                )
                if not error.retryable:
                    return False
            except Exception as error:  # noqa: BLE001 (it has no code: a violation)
                history.add("failed", run=run_id, error=type(error).__name__, code=None, retryable=None, text=repr(error))
                return False
            else:
                history.add("succeeded", run=run_id, work=work.name)
                return True
        return False
    finally:
        if backends is None:
            opened.close()


def converge(world: World, backends: Backends, views: tuple[str, ...] = VIEWS) -> int | None:
    """Do what scheduled runs and the maintenance DAG do until nothing is left; return the rounds, None for too many."""
    for view in views:  # as preparing a step does
        observe_step(backends, world.steps[view])
    for number in range(ROUNDS):
        left = False
        for view in views:
            step = world.steps[view]
            due = due_intervals(backends.registry, step, now=datetime.now(UTC), limit=1000)
            if due.intervals:
                left = True
                with contextlib.suppress(FStoreError):  # the next round does it, or this was one too many
                    run_step(backends, step, due.intervals, f"scheduled-{time.monotonic_ns()}")
        if left or not number:  # whose last round left nothing behind has been maintained
            maintain(backends)
        if not left and not backends.registry.outbox.pending(limit=1):
            return number + 1
    return None


def register(world: World) -> None:
    """Create what is missing and register the views, as ``fstore apply`` does."""
    with contextlib.closing(create_backends(world.settings)) as backends:
        prepare_steps(backends, load_plan(world.settings).project, VIEWS)


# -- marks and faults -------------------------------------------------------------------------------------------------


class Fault(NamedTuple):
    """What happens where: ``kill``, ``pause``, ``fail`` or ``delay`` at the n-th time that a failpoint is reached."""

    failpoint: str
    hit: int
    action: str
    seconds: float = 0.0


_begin_batch, _publish = Ledger.begin_batch, Ledger.publish


def mark(history: History) -> None:
    """Let this process say in the history which batches it begins and when it locks the project to publish."""
    publishing = [0]

    def begin_batch(self: Ledger, *arguments: object, **named: object) -> Batch:
        batch = _begin_batch(self, *arguments, **named)
        history.add("begun", batch=batch.id, view=batch.view, run=batch.run_id)
        return batch

    def publish(self: Ledger, attempt_id: int, **named: object) -> Published:
        publishing[0] = attempt_id
        published = _publish(self, attempt_id, **named)
        history.add("published", attempt=attempt_id, sequence=published.sequence)
        return published

    Ledger.begin_batch, Ledger.publish = begin_batch, publish
    failpoints.arm("publish.locked", lambda _: history.add("locked", attempt=publishing[0]))


def unmark() -> None:
    """Disarm everything, and say nothing any more."""
    Ledger.begin_batch, Ledger.publish = _begin_batch, _publish
    failpoints.disarm()


def arm(world: World, history: History, fault: Fault) -> None:
    """Arm the fault in this process; reaching it is noted first."""
    does = {"kill": failpoints.kill, "pause": failpoints.pause, "fail": failpoints.fail}
    action = does.get(fault.action) or failpoints.delay(fault.seconds)
    also = failpoints._armed.get(fault.failpoint)

    def reached(name: str) -> None:
        history.add("reached", failpoint=name, locked=fault.action == "pause" and _is_locked(world))
        action(name)

    counted = failpoints.at_hit(fault.hit, reached)

    def both(name: str) -> None:
        if also is not None:
            also(name)
        counted(name)

    failpoints.arm(fault.failpoint, both)


def _is_locked(world: World) -> bool:
    """Whether somebody holds the write lock of the registry, were it SQLite."""
    if world.stores.postgres:
        return False
    path = world.settings.registry_url.removeprefix("sqlite:///")
    with contextlib.closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        connection.execute("ROLLBACK")
        return False


@contextlib.contextmanager
def counted_hits() -> Iterator[Counter[str]]:
    """Count how often each failpoint is reached within the block."""
    hits: Counter[str] = Counter()
    count: Callable[[str], None] = lambda name: hits.update([name])  # noqa: E731
    for name in FAILPOINTS:
        failpoints.arm(name, count)
    try:
        yield hits
    finally:
        failpoints.disarm()
