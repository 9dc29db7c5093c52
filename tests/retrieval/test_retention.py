"""What stays readable, for how long, and what a read says of what is gone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from fstore import Client
from fstore.backends import create_backends
from fstore.errors import FileDamaged, RetrievalError, SnapshotExpired
from fstore.failpoints import arm, at_hit, disarm, fail
from fstore.retrieval import row_pieces, snapshot_gather, snapshot_hash_join, snapshot_join
from fstore.retrieval.snapshot_join import GATHER, HASH_JOIN, SnapshotJoin
from fstore.runtime.retention import sweep_superseded, verify
from fstore.settings import Settings
from tests.retrieval.publishing import DAY, T0, Publisher, day, make_step

ROWS = {"user_id": ["a", "b"], "event_timestamp": [T0 + 2 * DAY, T0 + 2 * DAY]}
HORIZON = timedelta(days=14)


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[Publisher]:
    """A project of its own with a view of which two days are published."""
    settings = Settings(
        root=str(tmp_path), project="shop", registry_url=f"sqlite:///{tmp_path}/registry.db",
        offline_url=f"file:{tmp_path}/offline", online_url=f"lmdb:{tmp_path}/online", spill_dir=str(tmp_path / "spill"),
        cache_dir=str(tmp_path / "cache"), threads=1, memory_limit="1GB",
    )  # fmt: skip
    with create_backends(settings) as backends:
        publisher = Publisher(backends)
        publisher.register(make_step("orders", online=False))
        yield publisher
    disarm()


def later(horizons: float = 1.1) -> datetime:
    return datetime.now(UTC) + horizons * HORIZON


def publish(publisher: Publisher, number: int, n: int) -> int:
    sequence = publisher.publish(make_step("orders", online=False), {day(number): [{"user_id": "a", "n": n}]})
    assert sequence is not None
    return sequence


def read(publisher: Publisher, as_of: int | None = None) -> list[object]:
    with_client = Client(publisher.backends)
    frame = with_client.get_historical_features(ROWS, ["orders:n"], as_of=as_of, missing="allow")
    values: list[object] = frame.to_arrow()["n"].to_pylist()
    return values


def files(publisher: Publisher) -> list[str]:
    return sorted(file.path for file in publisher.backends.offline.list_directory("shop/orders"))


def test_superseded_files_go_after_the_horizon_and_reads_say_so(publisher: Publisher) -> None:
    publish(publisher, 0, 1)
    first = publish(publisher, 1, 2)
    second = publish(publisher, 1, 3)
    assert (read(publisher, first), read(publisher)) == ([2, 0], [3, 0])
    assert sweep_superseded(publisher.backends, later(0.9)) == 0
    assert read(publisher, first) == [2, 0]
    assert sweep_superseded(publisher.backends, later()) == 1
    assert len(files(publisher)) == 2
    with pytest.raises(
        SnapshotExpired,
        match=rf"view 'orders' as of sequence {first} cannot be read any more: it was superseded at .*pin it",
    ):
        read(publisher, first)
    assert (read(publisher, second), read(publisher)) == ([3, 0], [3, 0])
    assert sweep_superseded(publisher.backends, later()) == 0
    with pytest.raises(RetrievalError, match=r"sequence 2 cannot be pinned: files of view 'orders' .* are deleted"):
        publisher.backends.registry.retention.pin("late", first, later(9))


def test_a_pin_keeps_a_moment_until_it_expires(publisher: Publisher) -> None:
    first = publish(publisher, 1, 2)
    frame = Client(publisher.backends).get_historical_features(ROWS, ["orders:n"])
    pin = Client(publisher.backends).pin("model-7", until=later(2), manifest=frame.manifest)
    assert pin.sequence == first
    publish(publisher, 1, 3)
    publish(publisher, 1, 4)
    assert sweep_superseded(publisher.backends, later()) == 1, "of the three, the pin and the head keep one each"
    rebuilt = Client(publisher.backends).reproduce(frame.manifest, pa.table(ROWS))
    assert rebuilt.to_arrow().equals(frame.to_arrow())
    assert rebuilt.manifest.content_checksum == frame.manifest.content_checksum != ""
    assert sweep_superseded(publisher.backends, later(2.1)) == 1
    assert publisher.backends.registry.retention.pins() == []
    with pytest.raises(SnapshotExpired):
        Client(publisher.backends).reproduce(frame.manifest, pa.table(ROWS))


def test_what_a_running_attempt_may_read_stays(publisher: Publisher) -> None:
    step = make_step("orders", online=False)
    publish(publisher, 1, 2)
    publisher.backends.registry.ledger.begin(step, [day(3)], "running")
    publish(publisher, 1, 3)
    now = datetime.now(UTC) + timedelta(days=1)
    assert sweep_superseded(publisher.backends, now, horizon=timedelta(hours=1)) == 0
    now = datetime.now(UTC) + timedelta(days=3)
    assert sweep_superseded(publisher.backends, now, horizon=timedelta(hours=1)) == 1, "nothing runs for three days"


@pytest.mark.parametrize("name", ["retain.marked", "retain.deleted", "retain.recorded"])
def test_a_sweep_that_is_stopped_goes_on(publisher: Publisher, name: str) -> None:
    sequences = [publish(publisher, 1, n) for n in range(3)]
    arm(name, at_hit(1, fail))
    with pytest.raises(Exception, match="is armed to fail"):
        sweep_superseded(publisher.backends, later())
    for sequence in sequences[:2]:  # from the moment that they are marked, whether or not their files are there
        with pytest.raises(SnapshotExpired):
            read(publisher, sequence)
    disarm()
    sweep_superseded(publisher.backends, later())
    assert (len(files(publisher)), read(publisher)) == (1, [2, 0])
    assert publisher.backends.registry.retention.undeleted() == []


@pytest.mark.parametrize(
    ("way", "before"),
    [(GATHER, "cut_pieces"), (GATHER, "find_addresses"), (GATHER, "gathered_column"), (HASH_JOIN, "read_joined")],
)
def test_a_reader_that_began_before_the_sweep_is_told_what_happened(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch, way: SnapshotJoin, before: str
) -> None:
    first = publish(publisher, 1, 2)
    publish(publisher, 1, 3)
    module = snapshot_gather if way is GATHER else snapshot_hash_join
    going_on = getattr(module, before)

    def late(*given: object, **named: object) -> object:
        monkeypatch.setattr(module, before, going_on)
        sweep_superseded(publisher.backends, later())
        return going_on(*given, **named)

    monkeypatch.setattr(snapshot_join, "choose_snapshot_join", lambda sizes, filesystem: way)
    monkeypatch.setattr(row_pieces, "SMALL_ROWS", 0)  # features are read after keys
    monkeypatch.setattr(module, before, late)
    with pytest.raises(SnapshotExpired):
        read(publisher, first)


@pytest.mark.parametrize("problem", ["missing", "changed"])
def test_a_damaged_file_is_named_and_the_others_stay_readable(publisher: Publisher, problem: str) -> None:
    publish(publisher, 0, 1)
    publish(publisher, 1, 2)
    root = Path(publisher.backends.settings.offline_url.removeprefix("file:"))
    damaged = files(publisher)[1]
    if problem == "missing":
        (root / damaged).unlink()
    else:
        (root / damaged).write_bytes((root / damaged).read_bytes()[:100])
    what = "is missing" if problem == "missing" else "is damaged"
    with pytest.raises(FileDamaged, match=rf"{damaged}.*{what}.*2026-01-02T00:00Z to 2026-01-03T00:00Z of view 'orders'"):
        read(publisher)
    ledger = publisher.backends.registry.ledger
    assert ledger.damaged("orders") == [], "a client records nothing"
    found = verify(publisher.backends, None)
    assert [(part.path, part.problem, part.ranges) for part in found.damaged] == [(damaged, problem, (day(1),))]
    assert ledger.damaged("orders") == [day(1)]
    with pytest.raises(FileDamaged, match="fstore repair orders"):
        read(publisher)
    earlier = {"user_id": ["a"], "event_timestamp": [T0 + DAY]}
    frame = Client(publisher.backends).get_historical_features(earlier, ["orders:n"])
    assert frame.to_arrow()["n"].to_pylist() == [1]
    publish(publisher, 1, 5)  # what `fstore repair` does
    assert (ledger.damaged("orders"), read(publisher)) == ([], [5, 0])
    assert verify(publisher.backends, None).damaged == ()
