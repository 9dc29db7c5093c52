"""What the registry keeps, on both databases: pins, attempts that are retired, generations that nobody reaches, damage."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from fstore.errors import NotComplete, RetrievalError, UnknownFeature
from fstore.registry.overlays import NEXT
from fstore.registry.registry import Registry
from fstore.registry.retention_records import DamagedFile
from tests.registry.examples import aggregate, data_file, day, days, example_plan, published, validated

LONG = timedelta(days=30)
VIEW = "purchases_of_user"


def retire(registry: Registry, ahead: timedelta = LONG, horizon: timedelta = timedelta(days=14)) -> list[int]:
    now = datetime.now(UTC) + ahead
    registry.retention.retire(now - horizon, now, running_since=now - timedelta(days=2))
    return [item.attempt for item in registry.retention.undeleted()]


def publish(registry: Registry, first: int, last: int, run_id: str) -> tuple[int, int]:
    """Publish days, settle the online work, and return attempt and sequence."""
    attempt = validated(registry, aggregate(), days(first, last), run_id)
    sequence = registry.ledger.publish(attempt).sequence
    registry.outbox.done([entry.id for entry in registry.outbox.pending()])
    assert sequence is not None
    return attempt, sequence


def test_only_what_is_wholly_superseded_is_retired(registry: Registry) -> None:
    both, _ = publish(registry, 0, 2, "a")
    publish(registry, 0, 1, "b")
    assert retire(registry) == [], "its second day is seen"
    _, last = publish(registry, 1, 2, "c")
    assert retire(registry, timedelta(days=13)) == [], "superseded a moment ago"
    assert retire(registry) == [both]
    (item,) = registry.retention.lost([both]).retired.values()
    assert (item.reason, item.first_sequence, item.gone_sequence) == ("superseded", 1, last)
    registry.retention.mark_deleted([both])
    assert retire(registry) == []


def test_pending_online_work_and_pins_keep_what_they_need(registry: Registry) -> None:
    first, sequence = publish(registry, 0, 1, "a")
    until = datetime.now(UTC) + 3 * LONG
    assert registry.retention.pin("p", sequence, until).sequence == sequence
    second = validated(registry, aggregate(), days(0, 1), "b")
    registry.ledger.publish(second)
    assert retire(registry) == []
    registry.retention.unpin("p")
    assert retire(registry) == [], "what was replaced is read to bring the pending publication online"
    registry.outbox.done([entry.id for entry in registry.outbox.pending()])
    assert retire(registry) == [first]
    with pytest.raises(RetrievalError, match="sequence 1 cannot be pinned"):
        registry.retention.pin("p", sequence, until)
    with pytest.raises(UnknownFeature, match="has no pin 'p'"):
        registry.retention.unpin("p")


def test_a_generation_that_was_replaced_long_ago_is_retired_and_cannot_come_back(registry: Registry) -> None:
    attempt, before = publish(registry, 0, 1, "a")
    step = aggregate(fingerprint="fp-1-2", sql="SELECT 3")
    registry.overlays.stage(NEXT, [step], renewed=[VIEW])
    newest = published(registry.on_overlay(NEXT), step, days(0, 1), "fill").sequence
    registry.outbox.done([entry.id for entry in registry.outbox.pending()])
    assert newest is not None
    (flip,) = registry.overlays.flip({VIEW: newest})
    assert flip.sequence == newest + 1
    assert registry.retention.steps_as_of([VIEW], before)[VIEW] == (aggregate(), 1)
    assert registry.retention.steps_as_of([VIEW], flip.sequence) == {}
    assert retire(registry, timedelta(days=13)) == [], "a rollback can still bring it back"
    assert retire(registry) == [], "it was found unreachable only now"
    assert retire(registry, 2 * LONG) == [attempt]
    with pytest.raises(NotComplete, match="generation 1 of view 'purchases_of_user' cannot become live again"):
        registry.overlays.roll_back([VIEW], flip.version)
    (dead,) = registry.retention.dead_generations(datetime.now(UTC) + 2 * LONG)
    assert (dead.view, dead.generation) == (VIEW, 1)
    registry.retention.mark_dead(dead)
    assert registry.retention.dead_generations(datetime.now(UTC) + 2 * LONG) == []
    assert registry.retention.sequence_at(datetime.now(UTC)) == flip.sequence


def test_what_is_removed_for_long_begins_anew(registry: Registry) -> None:
    publish(registry, 0, 1, "a")
    plan = example_plan()
    registry.retire(VIEW)
    retire(registry)
    retire(registry, 2 * LONG)
    registry.register(msgspec.structs.replace(plan))
    assert registry.view(VIEW).generation == 2
    assert registry.ledger.heads(VIEW) == []


def test_damaged_files_count_as_not_computed(registry: Registry) -> None:
    attempt, _ = publish(registry, 0, 1, "a")
    (file,) = registry.ledger.files([attempt])[attempt]
    found = DamagedFile(attempt=attempt, path=file.path, problem="missing", found_at=datetime.now(UTC))
    registry.retention.record_damage([found])
    registry.retention.record_damage([found])
    assert registry.ledger.damaged(VIEW) == days(0, 1)
    assert registry.retention.lost([attempt]).damaged == {file.path: found}
    assert registry.ledger.finished(aggregate(), registry.ledger.begin_batch(aggregate(), days(0, 1), "a")) == []
    registry.retention.record_damage([], sound=[file.path])
    assert registry.ledger.damaged(VIEW) == []
    assert len(registry.ledger.finished(aggregate(), registry.ledger.begin_batch(aggregate(), days(0, 1), "a"))) == 1
    assert data_file().end == day(1)
