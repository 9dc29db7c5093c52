"""Time travel against an oracle that keeps a copy of every read: publishes, republishes, flips, rollbacks, pins and sweeps.

A read as of a moment gives what a read gave at that moment, or SnapshotExpired. It may be expired only if something of it
was superseded before the horizon of a sweep, and never if a pin or the horizon covers it.
"""

from __future__ import annotations

import random
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fstore import Client
from fstore.backends import create_backends
from fstore.errors import IncompleteHistory, NotComplete, SnapshotExpired, UnknownFeature
from fstore.interval import Interval
from fstore.registry.overlays import NEXT
from fstore.runtime.retention import sweep_superseded
from fstore.settings import Settings
from tests.retrieval.publishing import DAY, T0, Publisher, Rows, day, make_step

DAYS = 3
ROWS = {
    "user_id": [user for user in "abc" for _ in range(DAYS + 1)],
    "event_timestamp": [T0 + number * DAY for _ in "abc" for number in range(DAYS + 1)],
}
HORIZON = timedelta(days=14)
Read = list[list[object]]


class World:
    """A project with a snapshot and an event view, what each read gave, and a clock for the sweeps."""

    def __init__(self, publisher: Publisher, random_: random.Random) -> None:
        self.publisher, self.random = publisher, random_
        self.client = Client(publisher.backends)
        events = make_step("clicks", kind="event", online=False)
        self.steps = {"orders": make_step("orders", online=False), "clicks": events}
        publisher.register(*self.steps.values())
        self.given: dict[int, Read] = {}
        self.moments: dict[int, datetime] = {}
        self.pinned: set[int] = set()
        self.lowest = 0  # the sequence as of which the last sweep had to keep everything from
        self.renamed = 0
        self.remember()

    def sequence(self) -> int:
        return self.publisher.backends.registry.state().sequence

    def read(self, as_of: int | datetime | None = None) -> Read:
        frame = self.client.get_historical_features(
            ROWS, ["orders:n", "clicks:amount"], as_of=as_of, missing="allow"
        ).to_arrow()
        return [frame[name].to_pylist() for name in ("n", "amount")]

    def remember(self) -> None:
        sequence = self.sequence()
        self.given.setdefault(sequence, self.read())
        self.moments.setdefault(sequence, datetime.now(UTC))

    def rows(self, view: str, interval: Interval) -> Rows:
        users = [user for user in "abc" if self.random.random() < 0.6]
        value = {"n": self.random.randrange(100), "amount": float(self.random.randrange(100))}
        stamp = {} if view == "orders" else {"event_timestamp": interval.start + timedelta(hours=self.random.randrange(24))}
        return [{"user_id": user, **value, **stamp} for user in users]

    def publish(self, publisher: Publisher | None = None, view: str | None = None) -> None:
        view = view or self.random.choice(sorted(self.steps))
        first = self.random.randrange(DAYS)
        span = [day(first)] if publisher is None else [day(number) for number in range(DAYS)]
        if publisher is None and first + 1 < DAYS and self.random.random() < 0.4:
            span.append(day(first + 1))
        rows = {interval: self.rows(view, interval) for interval in span}
        (publisher or self.publisher).publish(self.steps[view], rows)

    def flip(self) -> None:
        view = self.random.choice(sorted(self.steps))
        self.renamed += 1
        old = self.steps[view]
        changed = {"fingerprint": f"fp-{view}-{self.renamed}", "sql": f"SELECT {self.renamed}"}
        self.steps[view] = msgspec.structs.replace(old, **changed)
        backends = self.publisher.backends
        backends.registry.overlays.stage(NEXT, [self.steps[view]], renewed=[view])
        self.publish(Publisher(backends.on_overlay(NEXT)), view)
        try:
            backends.registry.overlays.flip({})
        except NotComplete:
            backends.registry.overlays.drop(NEXT)
            self.steps[view] = old

    def roll_back(self) -> None:
        overlays = self.publisher.backends.registry.overlays
        standing = [flip for flip in overlays.flips() if flip.rolled_back_at is None and flip.old_version]
        if standing:
            try:
                overlays.roll_back([standing[0].view], standing[0].version)
            except NotComplete:
                return  # its files are gone
            self.steps[standing[0].view] = self.publisher.backends.registry.view(standing[0].view).step

    def pin(self) -> None:
        sequence = self.random.choice(sorted(self.given))
        if sequence >= self.lowest or sequence in self.pinned:
            self.client.pin(f"p{sequence}", until=datetime.now(UTC) + 100 * HORIZON, as_of=sequence)
            self.pinned.add(sequence)

    def sweep(self) -> None:
        """Sweep so that the horizon begins at the moment of some sequence."""
        kept = self.random.choice(sorted(self.given))
        now = self.moments[kept] + HORIZON
        sweep_superseded(self.publisher.backends, now, horizon=HORIZON)
        self.lowest = max(self.lowest, kept)

    def check(self) -> int:
        """Compare all reads, and return how many are expired."""
        expired = 0
        for sequence, given_then in self.given.items():
            for as_of in (sequence, self.moments[sequence]):
                try:
                    assert self.read(as_of) == given_then, f"as of {as_of}"
                except SnapshotExpired:
                    assert sequence < self.lowest, f"as of {as_of} is within the horizon"
                    assert sequence not in self.pinned, f"as of {as_of} is pinned"
                    expired += 1
        return expired


def new_settings(root: Path) -> Settings:
    return Settings(
        root=str(root), project="shop", registry_url=f"sqlite:///{root}/registry.db", offline_url=f"file:{root}/offline",
        online_url=f"lmdb:{root}/online", spill_dir=str(root / "spill"), cache_dir=str(root / "cache"), threads=1,
        memory_limit="1GB",
    )  # fmt: skip


ACTIONS = ["publish", "publish", "publish", "flip", "roll_back", "pin", "sweep"]


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), actions=st.lists(st.sampled_from(ACTIONS), min_size=4, max_size=10))
def test_every_moment_reads_as_it_did_or_is_expired(seed: int, actions: list[str]) -> None:
    with tempfile.TemporaryDirectory() as root, create_backends(new_settings(Path(root))) as backends:
        world = World(Publisher(backends), random.Random(seed))
        for action in ["publish", *actions]:
            getattr(world, action)()
            world.remember()
        world.check()


def test_reads_before_a_flip_see_the_version_of_then(tmp_path: Path) -> None:
    with create_backends(new_settings(tmp_path)) as backends:
        world = World(Publisher(backends), random.Random(1))
        backends.registry.overlays.stage(NEXT, [make_step("fresh", online=False)])
        world.publish()
        world.remember()
        backends.registry.overlays.flip({})
        with pytest.raises(UnknownFeature, match="view 'fresh' was not there as of sequence 1"):
            world.client.get_historical_features(ROWS, ["fresh:n"], as_of=1)
        world.flip()
        world.remember()
        world.roll_back()
        world.remember()
        assert len(world.given) == 4
        assert world.check() == 0


def test_a_sweep_really_expires_what_it_may(tmp_path: Path) -> None:
    with create_backends(new_settings(tmp_path)) as backends:
        world = World(Publisher(backends), random.Random(3))
        for _ in range(6):
            world.publish()
            world.remember()
        world.client.pin("p2", until=datetime.now(UTC) + 100 * HORIZON, as_of=2)
        world.pinned.add(2)
        sweep_superseded(backends, datetime.now(UTC) + 2 * HORIZON, horizon=HORIZON)
        world.lowest = 6
        assert world.check() > 0


def test_an_interval_that_was_blocked_then_is_no_missing_one_as_of_then(publisher: Publisher) -> None:
    """A read fell back to the day before; as of that moment it still does, although the day was published since."""
    step = make_step("blocked_then")
    publisher.register(step)
    client = Client(publisher.backends)
    rows = {"user_id": ["u"], "event_timestamp": [T0 + 2 * DAY]}

    def publish(number: int, n: int, *blocked: Interval) -> int | None:
        return publisher.publish(step, {day(number): [{"user_id": "u", "n": n}]}, blocked)

    def read(as_of: int | None = None) -> tuple[list[object], dict[str, int]]:
        frame = client.get_historical_features(rows, ["blocked_then:n"], as_of=as_of)
        return frame.to_arrow()["n"].to_pylist(), frame.manifest.fallback_rows

    before = publish(0, 0)
    blocked = publish(0, 1)
    assert publish(1, -5, day(1)) is None
    given = read()
    assert given == ([1], {"blocked_then": 1})
    after = publish(1, 2)
    assert read() == read(after) == ([2], {"blocked_then": 0})
    assert read(blocked) == given
    with pytest.raises(IncompleteHistory):
        read(before)  # nothing was known of the day yet
