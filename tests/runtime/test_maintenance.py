"""Maintenance: killed at every step and then run twice at once, it leaves nothing undone."""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fstore import Client
from fstore.errors import InjectedFault, StoreUnavailable
from fstore.failpoints import arm, disarm, fail, kill
from fstore.lineage.delivery import LineageDelivery
from fstore.runtime import maintenance
from fstore.runtime.compute import compute_attempt
from fstore.runtime.maintenance import Maintained, maintain
from fstore.runtime.repair import lost_views
from fstore.stores.online import OnlineView
from tests.lineage.backend import UnreliableBackend, unreliable_backend
from tests.projects import SmallProject, utc
from tests.runtime.conftest import MODULE, ORDERS, write_orders

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

STEPS = [
    "online.begun", "online.written", "online.applied", "online.issued", "online.floor", "outbox.applied", "outbox.done", "repair.entered", "repair.applied",
    "sweep.abandoned", "sweep.deleted", "sweep.marked", "lineage.sent", "lineage.settled",
]  # fmt: skip
FEATURES = ["user_orders:orders_3d", "order_events:doubled"]
LATER = datetime.now(UTC) + timedelta(days=3)


@pytest.fixture(scope="module")
def neglected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project with all that maintenance is for: a flushed online store, pending work, a dead attempt, lineage events."""
    small = SmallProject(tmp_path_factory.mktemp("neglected") / "small")
    small.define("shop", MODULE)
    write_orders(small, ORDERS)
    small.run("order_events", "2026-01-01", "2026-01-05")
    small.run("user_orders", "2026-01-01", "2026-01-04")
    small.close()
    shutil.rmtree(small.settings.online_url.removeprefix("lmdb:"))
    small.backends.online.floor(OnlineView(project="small", view="user_orders", generation=1))  # what `fstore apply` does
    arm("publish.committed", fail)
    with pytest.raises(InjectedFault):
        small.run("user_orders", "2026-01-04", "2026-01-05", "killed")
    disarm()
    step, days = small.step("user_orders"), small.intervals("user_orders", "2026-01-02", "2026-01-03")
    compute_attempt(small.backends, step, days, "dead")
    assert small.backends.registry.outbox.depth().pending == 1
    assert "order_events" in lost_views(small.backends)
    small.close()
    yield small.root
    small.close()


@pytest.fixture
def project(neglected: Path, tmp_path: Path) -> Iterator[SmallProject]:
    shutil.copytree(neglected, tmp_path / "small")
    small = SmallProject(tmp_path / "small")
    yield small
    disarm()
    small.close()


@pytest.fixture
def backend() -> Iterator[UnreliableBackend]:
    with unreliable_backend() as server:
        yield server


def maintain_once(project: SmallProject, url: str) -> Maintained:
    sender = LineageDelivery(url, timeout=2)
    try:
        return maintain(project.backends, LATER, sender=sender)
    finally:
        sender.close()


def start(project: SmallProject, url: str, killed_at: str = "") -> multiprocessing.process.BaseProcess:
    """Maintain in a process of its own, which opens the stores by itself."""

    def work() -> None:
        if killed_at:
            arm(killed_at, kill)
        assert maintain_once(project, url).problems == ()
        project.close()

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


def check_done(project: SmallProject, backend: UnreliableBackend) -> None:
    registry = project.backends.registry
    assert registry.outbox.depth().pending == 0
    assert lost_views(project.backends) == []
    assert {attempt.run_id: attempt.state for attempt in registry.ledger.history("user_orders")}["dead"] == "swept"
    heads = [head for view in ("user_orders", "order_events") for head in registry.ledger.heads(view)]
    files = [file for each in registry.ledger.files({head.attempt for head in heads}).values() for file in each]
    assert files
    assert all(project.backends.offline.exists(file.path) for file in files), "what is published is there"
    assert registry.lineage_outbox.depth().pending == 0
    recorded = [(event.run_id, event.event_type) for event in registry.lineage.events(limit=1000)]
    assert sorted(backend.seen()) == sorted(recorded)
    for run in {run for run, _ in recorded}:
        kinds = [kind for each, kind in backend.seen() if each == run]
        assert kinds == sorted(kinds, key=["START", "RUNNING", "COMPLETE"].index)
    with Client(project.settings, clock=lambda: utc("2026-01-05T02:00")) as client:
        read = client.get_online_features(features=FEATURES, entities={"user_id": ["a", "b"]}).to_dict()
    assert (read["orders_3d"], read["doubled"]) == ([1, 2], [40.0, 12.0])


@pytest.mark.parametrize("step", STEPS)
def test_killed_anywhere_and_run_twice_at_once_it_leaves_nothing_undone(
    project: SmallProject, backend: UnreliableBackend, step: str
) -> None:
    killed = start(project, backend.url, killed_at=step)
    killed.join(120)
    assert killed.exitcode == -9, f"{step} was never reached"
    both = [start(project, backend.url) for _ in range(2)]
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    check_done(project, backend)
    again = maintain_once(project, backend.url)
    assert (again.delivered.entries, again.repaired.views, again.swept, again.forwarded) == (
        0, (), 0, maintenance.Forwarded(),
    )  # fmt: skip


def test_a_part_that_fails_does_not_stop_the_others(
    project: SmallProject, backend: UnreliableBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.script = [503]

    def away(*_: object) -> None:
        raise StoreUnavailable("the online store is away")

    with monkeypatch.context() as patched:
        patched.setattr(maintenance, "repair_online", away)
        done = maintain_once(project, backend.url)
    assert [(problem.part, problem.code) for problem in done.problems] == [
        ("online", "store_unavailable"), ("lineage", "store_unavailable"),
    ]  # fmt: skip
    assert (done.delivered.entries, done.swept, done.retryable) == (1, 1, True)
    assert maintain_once(project, backend.url).problems == ()
    check_done(project, backend)


def test_many_entries_that_fail_do_not_hold_up_those_behind_them(
    project: SmallProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fstore.runtime import delivery

    small_pages = delivery.apply_outbox
    original, failed = delivery.apply_work, [0]
    write_orders(project, [{**ORDERS[0], "amount": 11.0}, *ORDERS[1:]])
    arm("publish.committed", fail)
    with pytest.raises(InjectedFault):
        project.run("order_events", "2026-01-01", "2026-01-05", "second")
    disarm()

    def poisoned(backends: object, work: object) -> int:
        if work.view == "user_orders":  # type: ignore[attr-defined]
            failed[0] += 1
            raise StoreUnavailable("not this one")
        return original(backends, work)  # type: ignore[arg-type]

    monkeypatch.setattr(delivery, "apply_work", poisoned)
    done = small_pages(project.backends, limit=1)
    assert (done.failed, done.entries, failed[0]) == (1, 1, 1)
    assert [entry.payload.view for entry in project.backends.registry.outbox.pending()] == ["user_orders"]
