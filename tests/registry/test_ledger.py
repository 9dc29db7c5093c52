from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from fstore.errors import AttemptUnknown, Fenced, InputsChanged, PublishError
from fstore.interval import Interval
from fstore.registry.ledger import Pin
from fstore.registry.records import OnlineWork
from fstore.registry.registry import Registry, open_registry
from tests.registry.examples import (
    PROJECT,
    aggregate,
    data_file,
    day,
    days,
    dependent,
    example_plan,
    published,
    seen,
    validated,
    verdict,
)


def test_an_attempt_keeps_all_that_was_recorded(registry: Registry, registry_url: str) -> None:
    pins = [Pin(view="purchases_of_user", start=day(0), end=day(2), sequence=7)]
    begun = registry.ledger.begin(dependent(), days(0, 3), "run-1", pins=pins)
    assert (begun.id, begun.generation, begun.state) == (1, 1, "begun")
    files, verdicts = [data_file("b"), data_file("a", 1, 3)], [verdict(i, passed=i != days(1, 2)[0]) for i in days(0, 3)]
    registry.ledger.record_files(begun.id, [data_file("replaced")])
    registry.ledger.record_files(begun.id, files)
    registry.ledger.record_verdicts(begun.id, verdicts)
    with open_registry(registry_url, PROJECT) as elsewhere:
        attempt = elsewhere.ledger.attempt(begun.id)
        assert attempt == msgspec.structs.replace(
            begun, pins=tuple(pins), files=tuple(files), verdicts=tuple(verdicts), state="validated"
        )
        assert elsewhere.ledger.files([begun.id, 99]) == {begun.id: tuple(files)}
        assert elsewhere.ledger.verdicts(begun.id) == tuple(verdicts)


def test_the_attempt_keeps_the_step_that_it_began_with(registry: Registry) -> None:
    begun = registry.ledger.begin(aggregate(), days(0, 1), "run")
    registry.register(example_plan(steps=(aggregate(fingerprint="fp-new", sql="SELECT 3"),)))
    assert registry.ledger.attempt(begun.id).step == aggregate()


def test_epochs_grow_and_are_never_given_twice(registry: Registry) -> None:
    ids = [registry.ledger.begin(aggregate(), days(0, 1), f"run-{n}").id for n in range(5)]
    assert ids == sorted(set(ids))


def test_only_passed_intervals_are_published_in_whole_ranges(registry: Registry) -> None:
    result = published(registry, aggregate(), days(0, 7), "run", blocked=days(3, 4))
    assert [(p.sequence, p.start, p.end) for p in result.publications] == [(1, day(0), day(3)), (2, day(4), day(7))]
    assert (result.sequence, result.overtaken, result.blocked) == (2, (), tuple(days(3, 4)))
    assert seen(registry) == [(0, 3, 1), (4, 7, 1)]
    assert registry.ledger.blocked("purchases_of_user") == days(3, 4)
    assert registry.ledger.unpublished("purchases_of_user", days(2, 9)) == [*days(3, 4), *days(7, 9)]
    assert registry.ledger.attempt(1).state == "published"


def test_publishing_again_gives_the_same_and_writes_nothing(registry: Registry) -> None:
    attempt = validated(registry, aggregate(), days(0, 4), "run", blocked=days(1, 2))
    first = registry.ledger.publish(attempt)
    validated(registry, aggregate(), days(0, 4), "run")
    assert registry.ledger.publish(attempt) == first, "also after a retry of the run has begun"
    assert registry.state().sequence == 2
    assert len(registry.outbox.pending()) == 1


def test_a_zombie_of_the_same_run_publishes_nothing(registry: Registry) -> None:
    zombie = validated(registry, aggregate(), days(0, 2), "run")
    retry = validated(registry, aggregate(), days(0, 2), "run")
    with pytest.raises(Fenced) as fenced:
        registry.ledger.publish(zombie)
    assert (fenced.value.attempt, fenced.value.newer, fenced.value.view) == (zombie, retry, "purchases_of_user")
    assert not fenced.value.retryable
    assert seen(registry) == []
    registry.ledger.publish(retry)
    with pytest.raises(Fenced):
        registry.ledger.publish(zombie)
    assert seen(registry) == [(0, 2, retry)]


def test_a_retry_fences_only_its_own_view_and_run(registry: Registry) -> None:
    attempt = validated(registry, aggregate(), days(0, 1), "run")
    registry.ledger.begin(dependent(), days(0, 1), "run")
    registry.ledger.begin(aggregate(), days(0, 1), "another")
    assert registry.ledger.publish(attempt).sequence == 1


def test_an_older_backfill_that_ends_last_does_not_undo_a_newer_run(registry: Registry) -> None:
    backfill = validated(registry, aggregate(), days(0, 5), "backfill")
    published(registry, aggregate(), days(2, 3), "scheduled")
    result = registry.ledger.publish(backfill)
    assert result.overtaken == tuple(days(2, 3))
    assert [(p.start, p.end) for p in result.publications] == [(day(0), day(2)), (day(3), day(5))]
    assert registry.ledger.publish(backfill) == result
    assert seen(registry) == [(0, 2, 1), (2, 3, 2), (3, 5, 1)]


def test_all_overtaken_is_a_success_without_publications(registry: Registry) -> None:
    older = validated(registry, aggregate(), days(0, 2), "older")
    published(registry, aggregate(), days(0, 3), "newer")
    result = registry.ledger.publish(older)
    assert (result.publications, result.overtaken, result.sequence) == ((), tuple(days(0, 2)), None)
    assert registry.ledger.publish(older) == result
    assert registry.ledger.attempt(older).state == "published"


def test_a_newer_attempt_replaces_an_older_one(registry: Registry) -> None:
    published(registry, aggregate(), days(0, 5), "first")
    published(registry, aggregate(), days(1, 2), "second")
    assert seen(registry) == [(0, 1, 1), (1, 2, 2), (2, 5, 1)]


def test_inputs_that_were_republished_are_noticed(registry: Registry) -> None:
    published(registry, aggregate(), days(0, 4), "up")
    pins = [Pin(view="purchases_of_user", start=day(0), end=day(3), sequence=1)]
    attempt = validated(registry, dependent(), days(0, 3), "down", pins=pins)
    published(registry, aggregate(), days(3, 4), "elsewhere")
    beside = validated(registry, dependent(), days(0, 3), "beside", pins=pins)
    assert registry.ledger.publish(beside).sequence == 3, "a change beside the pinned range does not matter"
    late = validated(registry, dependent(), days(0, 3), "late", pins=pins)
    published(registry, aggregate(), days(1, 2), "again")
    with pytest.raises(InputsChanged) as changed:
        registry.ledger.publish(late)
    assert changed.value.retryable
    assert str(changed.value) == (
        f"attempt {late} read publication 1 of view 'purchases_of_user' for [2026-01-02T00:00:00Z, 2026-01-03T00:00:00Z), "
        "which was republished meanwhile. Computing it again reads the new one."
    )
    assert registry.state().sequence == 4
    overtaken = registry.ledger.publish(attempt)
    assert overtaken.overtaken == tuple(days(0, 3)), "what a newer attempt published needs no inputs any more"


def test_a_flip_of_the_upstream_changes_the_inputs(registry: Registry) -> None:
    published(registry, aggregate(), days(0, 2), "up")
    pins = [Pin(view="purchases_of_user", start=day(0), end=day(2), sequence=1)]
    attempt = validated(registry, dependent(), days(0, 2), "down", pins=pins)
    registry.register(example_plan(), rebuild=["purchases_of_user"])
    with pytest.raises(InputsChanged):
        registry.ledger.publish(attempt)


def test_what_never_got_that_far_cannot_be_published(registry: Registry) -> None:
    with pytest.raises(AttemptUnknown) as unknown:
        registry.ledger.publish(42)
    assert str(unknown.value) == f"project 'shop' has no attempt 42 in registry {registry.url}: compute it first"
    begun = registry.ledger.begin(aggregate(), days(0, 2), "run")
    with pytest.raises(AttemptUnknown) as pending:
        registry.ledger.publish(begun.id)
    assert str(pending.value) == (
        "attempt 1 of view 'purchases_of_user' has 2 interval(s) without a verdict, the first [2026-01-01T00:00:00Z, "
        "2026-01-02T00:00:00Z): validate it first"
    )
    registry.ledger.record_verdicts(begun.id, [verdict(i, passed=False) for i in days(0, 2)])
    with pytest.raises(AttemptUnknown) as blocked:
        registry.ledger.publish(begun.id)
    assert str(blocked.value) == (
        "attempt 1 of view 'purchases_of_user' has nothing to publish: validation blocked all of it"
    )
    assert registry.ledger.blocked("purchases_of_user") == days(0, 2)
    for call in (
        registry.ledger.attempt,
        lambda n: registry.ledger.fail(n, "x"),
        lambda n: registry.ledger.record_files(n, []),
    ):
        with pytest.raises(AttemptUnknown):
            call(42)


def test_a_published_attempt_is_never_changed(registry: Registry) -> None:
    attempt = validated(registry, aggregate(), days(0, 1), "run")
    registry.ledger.publish(attempt)
    for change in (
        lambda: registry.ledger.record_files(attempt, []),
        lambda: registry.ledger.record_verdicts(attempt, [verdict(days(0, 1)[0], passed=False)]),
    ):
        with pytest.raises(PublishError) as refused:
            change()
        assert str(refused.value) == (
            "attempt 1 of view 'purchases_of_user' is published already and cannot be changed: begin a new one (in "
            "Airflow: clear compute)"
        )
    registry.ledger.fail(attempt, "the task died afterwards")
    assert registry.ledger.attempt(attempt).state == "published"


def test_a_failure_is_recorded_and_a_late_publication_still_counts(registry: Registry) -> None:
    attempt = validated(registry, aggregate(), days(0, 1), "run")
    registry.ledger.fail(attempt, "connection reset")
    assert [(s.state, s.message) for s in registry.ledger.history()] == [("failed", "connection reset")]
    assert registry.ledger.publish(attempt).sequence == 1
    assert [(s.state, s.message) for s in registry.ledger.history()] == [("published", "")]


def test_chunks_of_an_attempt_are_published_one_by_one(registry: Registry) -> None:
    attempt = validated(registry, aggregate(), days(0, 6), "run", blocked=days(4, 5))
    first = registry.ledger.publish(attempt, intervals=days(0, 2))
    assert [(p.start, p.end) for p in first.publications] == [(day(0), day(2))]
    assert registry.ledger.attempt(attempt).state == "validated"
    assert registry.ledger.publish(attempt, intervals=days(0, 2)) == first
    rest = registry.ledger.publish(attempt)
    assert [(p.sequence, p.start, p.end) for p in rest.publications] == [
        (1, day(0), day(2)), (2, day(2), day(4)), (3, day(5), day(6)),
    ]  # fmt: skip
    assert registry.ledger.attempt(attempt).state == "published"
    with pytest.raises(AttemptUnknown) as foreign:
        registry.ledger.publish(attempt, intervals=days(8, 9))
    assert str(foreign.value).endswith("does not cover [2026-01-09T00:00:00Z, 2026-01-10T00:00:00Z)")


def test_verdicts_may_come_in_chunks_and_again(registry: Registry) -> None:
    attempt = registry.ledger.begin(aggregate(), days(0, 4), "run").id
    registry.ledger.record_verdicts(attempt, [verdict(i) for i in days(0, 2)])
    assert registry.ledger.attempt(attempt).state == "begun"
    with pytest.raises(AttemptUnknown):
        registry.ledger.publish(attempt)
    registry.ledger.record_verdicts(attempt, [verdict(i, passed=False) for i in days(2, 4)])
    registry.ledger.record_verdicts(attempt, [verdict(i, rows=8) for i in days(2, 4)], files=[data_file("rewritten")])
    kept = registry.ledger.attempt(attempt)
    assert kept.verdicts == tuple([verdict(i) for i in days(0, 2)] + [verdict(i, rows=8) for i in days(2, 4)])
    assert (kept.state, kept.files) == ("validated", (data_file("rewritten"),))
    with pytest.raises(ValueError, match="does not cover"):
        registry.ledger.record_verdicts(attempt, [verdict(days(7, 8)[0])])


@pytest.mark.parametrize("intervals", [[], [Interval(day(0), day(2)), Interval(day(1), day(3))]])
def test_an_attempt_needs_disjoint_intervals(registry: Registry, intervals: list[Interval]) -> None:
    with pytest.raises(ValueError, match="at least one interval, and none that overlap"):
        registry.ledger.begin(aggregate(), intervals, "run")


def test_of_a_snapshot_view_only_the_newest_interval_goes_online(registry: Registry) -> None:
    published(registry, aggregate(), days(3, 6), "run", blocked=days(4, 5))
    published(registry, aggregate(), days(0, 3), "backfill")
    published(registry, dependent(), days(0, 9), "offline only")
    assert [entry.payload for entry in registry.outbox.pending()] == [
        OnlineWork(view="purchases_of_user", generation=1, sequence=2, start=day(5), end=day(6), attempt=1)
    ]
    published(registry, aggregate(), days(5, 6), "again")
    assert [entry.payload.sequence for entry in registry.outbox.pending()] == [2, 5]


def test_every_publication_of_an_event_view_goes_online(registry: Registry) -> None:
    step = aggregate(kind="event")
    registry.register(example_plan(steps=(step, dependent())))
    published(registry, step, days(3, 6), "run", blocked=days(4, 5))
    published(registry, step, days(0, 1), "backfill")
    assert [(e.payload.sequence, e.payload.start, e.payload.end) for e in registry.outbox.pending()] == [
        (1, day(3), day(4)), (2, day(5), day(6)), (3, day(0), day(1)),
    ]  # fmt: skip


def test_history_counts_intervals_rows_and_time(registry: Registry) -> None:
    published(registry, aggregate(), days(0, 4), "run-1", blocked=days(1, 2))
    registry.ledger.begin(dependent(), days(0, 1), "run-2")
    newest, oldest = registry.ledger.history()
    assert (oldest.state, oldest.intervals, oldest.blocked, oldest.rows) == ("published", 4, 1, 9)
    assert (oldest.start, oldest.end, oldest.run_id) == (day(0), day(4), "run-1")
    assert oldest.duration is not None
    assert timedelta(0) < oldest.duration < timedelta(minutes=1)
    assert (newest.view, newest.state, newest.duration, newest.rows) == ("profile", "begun", None, 0)
    assert [s.run_id for s in registry.ledger.history(limit=1)] == ["run-2"]
    assert [s.run_id for s in registry.ledger.history("purchases_of_user")] == ["run-1"]
    assert registry.ledger.history("never") == []


def test_a_swept_attempt_that_fails_afterwards_is_not_brought_back(registry: Registry) -> None:
    """A task that wakes up after the sweep fails on its missing files; clearing materialize must not publish them."""
    attempt = validated(registry, aggregate(), days(0, 2), "run")
    assert [each.id for each in registry.ledger.abandon(day(400))] == [attempt]
    registry.ledger.fail(attempt, "file 'part-00000.parquet' is gone")
    with pytest.raises(AttemptUnknown):
        registry.ledger.publish(attempt)
    registry.ledger.mark_swept([attempt])
    registry.ledger.fail(attempt, "file 'part-00000.parquet' is gone")
    with pytest.raises(AttemptUnknown):
        registry.ledger.publish(attempt)
    assert registry.ledger.attempt(attempt).state == "swept"
    assert seen(registry) == []
