"""Batches in the ledger: what fences, and what a retry takes over."""

from __future__ import annotations

import pytest

from fstore.errors import AttemptUnknown, Fenced
from fstore.interval import Interval
from fstore.plan.steps import Audit
from fstore.registry.records import Pin
from fstore.registry.registry import Registry
from tests.registry.examples import aggregate, data_file, day, days, dependent, published, seen, verdict


def chunk(registry: Registry, batch: int, first: int, last: int, run: str = "run") -> int:
    """Begin, fill and validate an attempt of a batch over some days."""
    attempt = registry.ledger.begin(aggregate(), days(first, last), run, batch=batch)
    registry.ledger.record_files(attempt.id, [data_file(f"{attempt.id}.parquet", first, last)])
    registry.ledger.record_verdicts(attempt.id, [verdict(interval) for interval in days(first, last)])
    return attempt.id


def test_a_batch_has_chunks_that_are_published_one_by_one(registry: Registry) -> None:
    batch = registry.ledger.begin_batch(aggregate(), days(0, 6), "run")
    assert (batch.ranges, batch.attempts) == ((Interval(day(0), day(6)),), ())
    second, first = chunk(registry, batch.id, 3, 6), chunk(registry, batch.id, 0, 3)
    assert registry.ledger.batch(batch.id).attempts == (first, second)
    for attempt in (second, first):
        registry.ledger.publish(attempt)
    assert seen(registry) == [(0, 3, first), (3, 6, second)]


def test_a_later_batch_fences_what_begins_and_what_publishes(registry: Registry) -> None:
    zombie = registry.ledger.begin_batch(aggregate(), days(0, 6), "run")
    begun = chunk(registry, zombie.id, 0, 3)
    retry = registry.ledger.begin_batch(aggregate(), days(0, 6), "run")
    with pytest.raises(Fenced) as fenced:
        registry.ledger.publish(begun)
    assert str(fenced.value) == (
        f"attempt {begun} of view 'purchases_of_user' was overtaken by a later try of the same run; it publishes nothing and "
        "its files are left for the sweeper. Nothing needs to be done."
    )
    with pytest.raises(Fenced):
        chunk(registry, zombie.id, 3, 6)
    registry.ledger.publish(chunk(registry, retry.id, 0, 3))
    with pytest.raises(Fenced):
        registry.ledger.take_over(zombie, [begun])


def test_batches_of_other_runs_views_and_intervals_fence_nothing(registry: Registry) -> None:
    batch = registry.ledger.begin_batch(aggregate(), days(0, 3), "run")
    begun = chunk(registry, batch.id, 0, 3)
    registry.ledger.begin_batch(aggregate(), days(0, 3), "another run")
    registry.ledger.begin_batch(dependent(), days(0, 3), "run")
    registry.ledger.begin_batch(aggregate(), days(3, 6), "run")
    assert registry.ledger.publish(begun).sequence == 1


def test_a_retry_takes_over_what_is_finished_and_unchanged(registry: Registry) -> None:
    first = registry.ledger.begin_batch(aggregate(), days(0, 9), "run")
    whole, audited = chunk(registry, first.id, 0, 3), chunk(registry, first.id, 3, 6)
    registry.ledger.publish(whole)
    registry.ledger.begin(aggregate(), days(6, 9), "run", batch=first.id)  # killed before it wrote a file
    retry = registry.ledger.begin_batch(aggregate(), days(0, 9), "run")
    finished = registry.ledger.finished(aggregate(), retry)
    assert [attempt.id for attempt in finished] == [whole, audited]
    registry.ledger.take_over(retry, [attempt.id for attempt in finished])
    assert registry.ledger.batch(retry.id).attempts == (whole, audited)
    registry.ledger.publish(audited)
    assert seen(registry) == [(0, 3, whole), (3, 6, audited)]


def test_a_retry_does_not_take_over_another_definition_checks_or_range(registry: Registry) -> None:
    chunk(registry, registry.ledger.begin_batch(aggregate(), days(0, 3), "run").id, 0, 3)
    retry = registry.ledger.begin_batch(aggregate(), days(0, 3), "run")
    checked = aggregate(audits=(Audit(label="row_count(1)", kind="row_count", severity="error", minimum=1),))
    assert registry.ledger.finished(checked, retry) == []
    assert registry.ledger.finished(aggregate(fingerprint="fp-other"), retry) == []
    assert [attempt.id for attempt in registry.ledger.finished(aggregate(), retry)] == [1]
    shorter = registry.ledger.begin_batch(aggregate(), days(0, 2), "run")
    assert registry.ledger.finished(aggregate(), shorter) == []
    other = registry.ledger.begin_batch(aggregate(), days(0, 3), "another run")
    assert registry.ledger.finished(aggregate(), other) == []


def test_a_retry_does_not_take_over_what_was_blocked_or_read_what_changed(registry: Registry) -> None:
    step = dependent()
    sequence = published(registry, aggregate(), days(0, 3), "upstream").sequence or 0
    batch = registry.ledger.begin_batch(step, days(0, 3), "run")
    for number, interval in enumerate(days(0, 3)):
        pin = Pin(view="purchases_of_user", start=interval.start, end=interval.end, sequence=sequence)
        attempt = registry.ledger.begin(step, [interval], "run", [pin], batch=batch.id)
        registry.ledger.record_files(attempt.id, [data_file(f"{attempt.id}.parquet", number, number + 1)])
        registry.ledger.record_verdicts(attempt.id, [verdict(interval, passed=number != 2)])
    published(registry, aggregate(), days(1, 2), "meanwhile")
    retry = registry.ledger.begin_batch(step, days(0, 3), "run")
    assert [attempt.intervals for attempt in registry.ledger.finished(step, retry)] == [tuple(days(0, 1))]


def test_an_unknown_batch_says_so(registry: Registry) -> None:
    with pytest.raises(AttemptUnknown, match="has no batch 7 in registry"):
        registry.ledger.batch(7)
