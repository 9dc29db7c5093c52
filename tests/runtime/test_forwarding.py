"""Lineage events on their way to a real HTTP server that drops, delays, fails and refuses."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fstore.failpoints import arm, at_hit, disarm, fail
from fstore.lineage.delivery import LineageDelivery
from fstore.registry.registry import Registry, create_registry
from fstore.runtime.forwarding import Forwarded, forward_lineage
from tests.lineage.backend import UnreliableBackend, unreliable_backend

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def backend() -> Iterator[UnreliableBackend]:
    with unreliable_backend() as server:
        yield server


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with create_registry(f"sqlite:///{tmp_path}/registry.db", "small") as opened:
        yield opened
    disarm()


def record(registry: Registry, runs: int, first: int = 0) -> list[tuple[str, str]]:
    """Record a beginning and an end of some runs, as tasks that work side by side do."""
    events = [(f"run-{first + number}", kind) for kind in ("START", "COMPLETE") for number in range(runs)]
    for number, (run, kind) in enumerate(events):
        at = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number)).isoformat()
        text = {"eventTime": at, "eventType": kind, "run": {"runId": run}, "job": {"namespace": "n", "name": "j"}}
        registry.lineage.record(json.dumps(text))
    return events


def forward(registry: Registry, backend: UnreliableBackend, timeout: float = 0.3) -> Forwarded:
    sender = LineageDelivery(backend.url, timeout=timeout)
    try:
        return forward_lineage(registry, sender)
    finally:
        sender.close()


def test_events_arrive_once_each_in_the_order_in_which_they_were_recorded(
    registry: Registry, backend: UnreliableBackend
) -> None:
    events = record(registry, 5)
    assert forward(registry, backend) == Forwarded(sent=10)
    assert backend.seen() == events
    assert len(backend.received) == 10
    assert forward(registry, backend) == Forwarded()
    more = record(registry, 1, first=5)
    assert forward(registry, backend).sent == 2
    assert backend.seen() == [*events, *more]


@pytest.mark.parametrize("seed", range(12))
def test_whatever_the_backend_does_every_event_arrives_and_none_before_an_earlier_one(
    registry: Registry, backend: UnreliableBackend, seed: int
) -> None:
    random_ = random.Random(seed)
    events = record(registry, 6)
    faults: list[int | str] = [500, 503, 429, 401, "drop", "cut", "late", 201, 201, 201]
    backend.script = random_.choices(faults, k=15)
    for _ in range(40):
        done = forward(registry, backend)
        assert not done.refused
        depth = registry.lineage_outbox.depth()
        assert (depth.pending == 0) == (not done.problem), "only a problem leaves events behind"
        if not depth.pending:
            break
        assert depth.last_error == done.problem != ""
    assert backend.seen() == events


def test_a_backend_that_is_away_loses_nothing_and_is_tried_once_a_call(
    registry: Registry, backend: UnreliableBackend
) -> None:
    events = record(registry, 3)
    for tries in (1, 2):
        backend.script = [503]
        done = forward(registry, backend)
        assert (done.sent, done.problem) == (
            0, f"the OpenLineage backend at {backend.url} answered 503 Service Unavailable; the event is kept"
        )  # fmt: skip
        assert [event.tries for event in registry.lineage_outbox.pending()] == [tries, 0, 0, 0, 0, 0]
    assert forward(registry, backend).sent == 6
    assert backend.seen() == events


def test_a_refused_event_is_set_aside_with_the_answer_and_can_be_sent_again(
    registry: Registry, backend: UnreliableBackend
) -> None:
    events = record(registry, 3)
    backend.refuses = {"run-1"}
    assert forward(registry, backend) == Forwarded(sent=4, refused=2)
    assert backend.seen() == [event for event in events if event[0] != "run-1"]
    depth = registry.lineage_outbox.depth()
    assert (depth.pending, depth.refused) == (0, 2)
    assert {(each.run_id, each.event_type) for each in registry.lineage_outbox.refusals()} == {
        ("run-1", "START"), ("run-1", "COMPLETE"),
    }  # fmt: skip
    assert all("it answered 422 Unprocessable" in each.error for each in registry.lineage_outbox.refusals())
    backend.refuses = set()
    assert registry.lineage_outbox.resend() == 2
    assert forward(registry, backend).sent == 2
    assert backend.seen()[-2:] == [("run-1", "START"), ("run-1", "COMPLETE")]
    assert registry.lineage_outbox.depth().refused == 0


@pytest.mark.parametrize(("name", "twice"), [("lineage.sent", 1), ("lineage.settled", 0)])
def test_what_is_stopped_between_sending_and_settling_goes_on_with_the_same_event(
    registry: Registry, backend: UnreliableBackend, name: str, twice: int
) -> None:
    events = record(registry, 3)
    arm(name, at_hit(3, fail))
    with pytest.raises(Exception, match="is armed to fail"):
        forward(registry, backend)
    disarm()
    forward(registry, backend)
    assert backend.seen() == events
    assert len(backend.received) == len(events) + twice


def test_several_may_forward_at_once(registry: Registry, backend: UnreliableBackend) -> None:
    events = record(registry, 8)
    backend.script = [500, 201, "cut", 201, 503, 201, 201]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: forward(registry, backend), range(3)))
    for _ in range(3):
        forward(registry, backend)
    assert backend.seen() == events
    assert registry.lineage_outbox.depth().pending == 0


FORWARD = """
import sys
from fstore.lineage.delivery import LineageDelivery
from fstore.registry.registry import open_registry
from fstore.runtime.forwarding import forward_lineage
forward_lineage(open_registry(sys.argv[1], "small"), LineageDelivery(sys.argv[2]))
"""


def test_a_killed_process_loses_no_event(registry: Registry, backend: UnreliableBackend) -> None:
    events = record(registry, 4)
    for hit, name in enumerate(("lineage.sent", "lineage.settled"), start=2):
        done = subprocess.run(
            [sys.executable, "-c", FORWARD, registry.url, backend.url],
            env=os.environ | {"FSTORE_FAILPOINTS": f"{name}=kill@{hit}", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=False,
        )
        assert done.returncode == -9, done.stderr
    assert len(backend.seen()) == 4
    assert forward(registry, backend).sent == 4
    assert backend.seen() == events
