"""Which interval answers for which instant: edges, closed views, zones, gaps and the heads that hold what is read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from fstore.errors import IncompleteHistory
from fstore.interval import Interval, Schedule, from_micros, to_micros
from fstore.plan.steps import Step
from fstore.registry.records import Head
from fstore.retrieval.history import BEFORE_ALL, find_answers, lay_grid, overlapping_heads, used_heads
from tests.retrieval.publishing import DAY, HOUR, T0, day, make_step

MICRO = timedelta(microseconds=1)


def head(first: int, last: int, sequence: int = 1) -> Head:
    """A publication of the days from ``first`` to before ``last``."""
    return Head(
        start=day(first).start, end=day(last).start, sequence=sequence, attempt=sequence, published_at=T0, fingerprint="f"
    )


def snapshots(
    step: Step, heads: Sequence[Head], instants: Sequence[datetime], blocked: Sequence[Interval] = ()
) -> list[datetime | None]:
    micros = np.array([to_micros(t) for t in instants], dtype=np.int64)
    grid = lay_grid(step, heads, blocked, max(instants))
    answer = find_answers(step, grid, micros, counts=np.ones(len(micros), np.bool_), strict=True)
    return [None if end == BEFORE_ALL else from_micros(end) for end in answer.snapshot.tolist()]


def test_an_interval_counts_from_its_end_plus_lag_and_holds_through_ttl() -> None:
    step = make_step("v", lag=2 * HOUR, ttl=DAY + 2 * HOUR, end=T0 + DAY)
    first = T0 + DAY
    moments = [first + 2 * HOUR - MICRO, first + 2 * HOUR, first + 99 * DAY]
    assert snapshots(step, [head(0, 1)], moments) == [None, first, first]
    open_view = make_step("v", lag=2 * HOUR, ttl=DAY + 2 * HOUR)
    assert snapshots(open_view, [head(0, 1)], [first + DAY + 2 * HOUR - MICRO]) == [first]
    assert snapshots(open_view, [head(0, 1)], [first + DAY + 2 * HOUR], [day(1)]) == [first]
    assert snapshots(open_view, [head(0, 1)], [first + DAY + 2 * HOUR + MICRO], [day(1)]) == [None]


def test_a_view_that_closed_has_no_due_interval_after_its_end() -> None:
    step = make_step("v", end=T0 + 3 * DAY, ttl=DAY)
    assert snapshots(step, [head(0, 3)], [T0 + 3 * DAY, T0 + 300 * DAY]) == [T0 + 3 * DAY] * 2


def test_a_view_that_opened_later_still_reads_what_it_published_before() -> None:
    step = make_step("v", start=T0 + 2 * DAY)
    assert snapshots(step, [head(0, 1)], [T0 + DAY, T0 + 2 * DAY]) == [T0 + DAY, T0 + DAY]


def test_a_start_that_is_off_the_grid_begins_at_the_next_boundary() -> None:
    step = make_step("v", start=T0 + HOUR)
    assert snapshots(step, [head(1, 2)], [T0 + DAY, T0 + 2 * DAY]) == [None, T0 + 2 * DAY]


def test_intervals_follow_the_days_of_their_zone() -> None:
    step = make_step("v", schedule=Schedule("0 0 * * *", "Europe/Berlin"), start=datetime(2026, 3, 27, 23, tzinfo=UTC))
    spring = [datetime(2026, 3, 28, 23, tzinfo=UTC), datetime(2026, 3, 29, 22, tzinfo=UTC)]
    published = Head(start=step.start, end=spring[1], sequence=1, attempt=1, published_at=T0, fingerprint="f")
    assert snapshots(step, [published], [spring[0], spring[1] - MICRO, spring[1]]) == [spring[0], spring[0], spring[1]]


def test_missing_intervals_are_named_together_and_blocked_ones_are_not() -> None:
    step = make_step("v")
    heads = [head(0, 1), head(5, 6, 2)]
    moments = [T0 + number * DAY for number in range(1, 7)]
    with pytest.raises(IncompleteHistory) as raised:
        snapshots(step, heads, moments, [day(3)])
    assert raised.value.ranges == ((day(1).start, day(2).end), (day(4).start, day(4).end))
    assert raised.value.rows == 3


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
@pytest.mark.parametrize("last", [None, 300])
def test_instants_far_behind_all_that_is_published_need_no_grid_up_to_them(zone: str, last: int | None) -> None:
    schedule = Schedule("0 0 * * *", zone)
    days = schedule.intervals(schedule.floor(T0), T0 + 320 * DAY)
    step = make_step("v", schedule=schedule, start=days[0].start, end=None if last is None else days[last].end)
    heads = [Head(start=days[0].start, end=days[1].end, sequence=1, attempt=1, published_at=T0, fingerprint="f")]
    far = datetime(9999, 12, 1, tzinfo=UTC)
    for published, blocked, most in (([], [], 2), (heads, [], 4), (heads, [days[6]], 9)):
        assert len(lay_grid(step, published, blocked, far).ends) <= most
    for numbers in ([2], [3, 200], [2, 4, 5, 6, 100, 298, 299, 300]):
        instants = [days[number].end + nudge for number in numbers for nudge in (timedelta(), 5 * HOUR)]
        with pytest.raises(IncompleteHistory) as raised:
            snapshots(step, heads, instants, [days[6]])
        assert raised.value.rows == len([number for number in numbers if number != 6]) * 2
        named = {number for number, day in enumerate(days) for start, end in raised.value.ranges if start <= day.start < end}
        assert named == set(numbers) - {6}
    with pytest.raises(IncompleteHistory) as raised:
        snapshots(step, heads, [far])
    wanted = days[last] if last is not None else schedule.interval_ending_by(far)
    assert raised.value.ranges == ((wanted.start, wanted.end),)


def test_only_heads_in_use_are_read_and_cut_to_what_is_used() -> None:
    step = make_step("v")
    heads = [head(0, 4, 1), head(4, 5, 2), head(5, 9, 3)]
    grid = lay_grid(step, heads, [], T0 + 9 * DAY)
    micros = np.array([to_micros(T0 + number * DAY) for number in (2, 3, 7)], dtype=np.int64)
    answer = find_answers(step, grid, micros, counts=np.ones(3, np.bool_), strict=True)
    assert [(item.sequence, item.start, item.end) for item in used_heads(heads, answer)] == [
        (1, day(1).start, day(2).end),
        (3, day(6).start, day(6).end),
    ]
    assert [(item.sequence, item.start, item.end) for item in overlapping_heads(heads, T0 + 3 * DAY, T0 + 5 * DAY)] == [
        (1, day(3).start, day(3).end),
        (2, day(4).start, day(4).end),
    ]
    assert [item.sequence for item in overlapping_heads(heads, None, T0 + 5 * DAY)] == [1, 2]
