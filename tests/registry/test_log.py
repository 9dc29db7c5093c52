from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fstore.interval import Interval, Schedule
from fstore.registry.ledger import Pin
from fstore.registry.registry import Registry
from fstore.registry.staleness import affected_intervals
from tests.registry.examples import aggregate, day, days, dependent, example_plan, hours, published, seen, validated


def test_heads_are_clipped_to_the_range_asked_for(registry: Registry) -> None:
    published(registry, aggregate(), days(0, 10), "run")
    published(registry, aggregate(), days(4, 6), "run-2")
    assert seen(registry, start=day(3), end=day(5)) == [(3, 4, 1), (4, 5, 2)]
    assert seen(registry, start=day(9)) == [(9, 10, 1)]
    assert seen(registry, end=day(0)) == []
    assert seen(registry, start=day(10)) == []


def test_the_log_remembers_every_state(registry: Registry) -> None:
    for number in range(4):
        published(registry, aggregate(), days(number, number + 2), f"run-{number}")
    log = registry.ledger.publications("purchases_of_user")
    assert [p.sequence for p in log] == [1, 2, 3, 4]
    assert [p.sequence for p in registry.ledger.publications(limit=2)] == [3, 4]
    assert [p.published_at for p in log] == sorted({p.published_at for p in log})
    states = [[], [(0, 2, 1)], [(0, 1, 1), (1, 3, 2)], [(0, 1, 1), (1, 2, 2), (2, 4, 3)]]
    for sequence, state in enumerate(states):
        assert seen(registry, as_of=sequence) == state
    for publication, state in zip(log, states[1:], strict=False):
        assert seen(registry, as_of=publication.published_at) == state
    assert seen(registry, as_of=day(0)) == []


def test_a_head_names_what_made_it(registry: Registry) -> None:
    (publication,) = published(registry, aggregate(), days(0, 2), "run").publications
    (head,) = registry.ledger.heads("purchases_of_user")
    assert (head.sequence, head.attempt, head.fingerprint) == (1, 1, "fp-1")
    assert head.published_at == publication.published_at


def test_the_newest_head_has_the_greatest_end(registry: Registry) -> None:
    assert registry.ledger.newest("purchases_of_user") is None
    published(registry, aggregate(), days(0, 9), "run")
    published(registry, aggregate(), days(2, 5), "backfill")
    newest = registry.ledger.newest("purchases_of_user")
    assert newest is not None
    assert (newest.start, newest.end, newest.sequence) == (day(5), day(9), 1)


def test_an_interval_is_blocked_while_its_newest_verdict_blocks_it(registry: Registry) -> None:
    validated(registry, aggregate(), days(0, 3), "run-1", blocked=days(0, 3))
    published(registry, aggregate(), days(1, 2), "run-2")
    registry.ledger.begin(aggregate(), days(0, 3), "running now")
    assert registry.ledger.blocked("purchases_of_user") == [*days(0, 1), *days(2, 3)]
    validated(registry, aggregate(), days(1, 2), "run-3", blocked=days(1, 2))
    assert registry.ledger.blocked("purchases_of_user") == days(0, 3)
    assert seen(registry) == [(1, 2, 2)]
    assert registry.ledger.blocked("profile") == []


def test_dependents_of_a_republished_interval_are_stale(registry: Registry) -> None:
    published(registry, aggregate(), days(0, 5), "up")
    pins = [Pin(view="purchases_of_user", start=day(0), end=day(5), sequence=1)]
    published(registry, dependent(), days(0, 5), "down", pins=pins)
    assert registry.ledger.stale("profile") == []
    published(registry, aggregate(), days(2, 3), "up again")
    assert registry.ledger.stale("profile") == days(2, 3)
    assert registry.ledger.stale("purchases_of_user") == []
    pins = [Pin(view="purchases_of_user", start=day(2), end=day(3), sequence=3)]
    published(registry, dependent(), days(2, 3), "down again", pins=pins)
    assert registry.ledger.stale("profile") == []


def test_a_rebuilt_upstream_makes_every_dependent_stale(registry: Registry) -> None:
    published(registry, aggregate(), days(0, 2), "up")
    pins = [Pin(view="purchases_of_user", start=day(0), end=day(2), sequence=1)]
    published(registry, dependent(), days(0, 2), "down", pins=pins)
    registry.register(example_plan(), rebuild=["purchases_of_user"])
    assert registry.ledger.stale("profile") == days(0, 2)


@pytest.mark.parametrize(
    ("schedule", "upstream", "history", "changed", "stale"),
    [
        ("0 0 * * *", "0 0 * * *", False, (2, 3), [2]),
        ("0 0 * * *", "0 0 * * *", True, (2, 4), [2, 3]),
        ("0 0 * * *", "0 0 * * 0", False, (-4, 3), [2, 3, 4, 5, 6]),
        ("0 0 * * *", "0 0 * * 0", False, (3, 10), []),
        ("0 0 * * *", "0 * * * *", False, (2, 3), [2]),
    ],
)
def test_staleness_follows_the_schedules(
    schedule: str, upstream: str, history: bool, changed: tuple[int, int], stale: list[int]
) -> None:
    """Of a weekly upstream, the days that end on Sunday, January 4 and later read the week that ends there."""
    step = dependent(history=history, schedule=Schedule(schedule), upstream_schedule=Schedule(upstream))
    ranges = {"purchases_of_user": [Interval(day(changed[0]), day(changed[1]))]}
    expected = [interval for number in stale for interval in days(number, number + 1)]
    assert affected_intervals(step, days(0, 7), ranges) == expected


def test_an_hourly_reader_of_one_changed_hour() -> None:
    hourly = Schedule("0 * * * *")
    step = dependent(schedule=hourly, upstream_schedule=hourly)
    changed = {"purchases_of_user": [hours(10)[7]]}
    assert affected_intervals(step, hours(24), changed) == [hours(24)[7]]
    assert affected_intervals(step, hours(24), {"another": [hours(10)[7]]}) == []
    assert affected_intervals(step, [], changed) == []


RUNS = st.lists(
    st.tuples(st.integers(0, 8), st.integers(1, 6), st.sets(st.integers(0, 13), max_size=4), st.booleans()), max_size=6
)


@pytest.fixture
def fresh_views(registry: Registry) -> Iterator[str]:
    """New names of views, one for each example that Hypothesis tries."""

    def names() -> Iterator[str]:
        for number in range(100_000):
            name = f"v{number}"
            registry.register(example_plan(steps=(aggregate(name),)))
            yield name

    return names()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(runs=RUNS)
def test_the_log_agrees_with_a_naive_book(registry: Registry, fresh_views: Iterator[str], runs: list[object]) -> None:
    """Attempts begin in order; some publish at once, the others at the end, oldest first."""
    view = next(fresh_views)
    book: dict[int, int] = {}
    late: list[tuple[int, list[int]]] = []

    def publish(attempt: int, passed: list[int]) -> None:
        result = registry.ledger.publish(attempt)
        won = [number for number in passed if book.get(number, 0) < attempt]
        book.update(dict.fromkeys(won, attempt))
        assert result.overtaken == tuple(i for n in passed if n not in won for i in days(n, n + 1))

    for run, (first, count, bad, at_once) in enumerate(runs):  # type: ignore[misc]
        numbers = range(first, first + count)
        passed = [number for number in numbers if number not in bad]
        blocked = [interval for number in bad for interval in days(number, number + 1)]
        attempt = validated(registry, aggregate(view), days(first, first + count), f"run-{run}", blocked=blocked)
        if passed and at_once:
            publish(attempt, passed)
        elif passed:
            late.append((attempt, passed))
    for attempt, passed in late:
        publish(attempt, passed)
    assert {n: attempt for start, end, attempt in seen(registry, view) for n in range(start, end)} == book
