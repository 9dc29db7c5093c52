from __future__ import annotations

import itertools
import time
from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st

from fstore.registry.overlay import overlay
from tests.registry.examples import day

RANGES = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=12)


def days_of(ranges: list[tuple[int, int]]) -> list[tuple[datetime, datetime]]:
    return [(day(start), day(end)) for start, end in ranges]


def naive(ranges: list[tuple[int, int]], ranks: list[int]) -> dict[int, int]:
    """For every day, the range of highest rank that covers it."""
    top: dict[int, int] = {}
    for number in range(21):
        covering = [index for index, (start, end) in enumerate(ranges) if start <= number < end]
        if covering:
            top[number] = max(covering, key=lambda index: ranks[index])
    return top


@given(RANGES.flatmap(lambda ranges: st.tuples(st.just(ranges), st.permutations(range(len(ranges))))))
def test_the_range_of_highest_rank_is_seen(case: tuple[list[tuple[int, int]], list[int]]) -> None:
    ranges, ranks = case
    pieces = overlay(days_of(ranges), ranks)
    by_day = {number: index for start, end, index in pieces for number in range((start - day(0)).days, (end - day(0)).days)}
    assert by_day == naive(ranges, ranks)
    assert all(left[1] <= right[0] for left, right in itertools.pairwise(pieces))
    assert not any(left[1] == right[0] and left[2] == right[2] for left, right in itertools.pairwise(pieces)), (
        "neighbouring pieces of one range are one"
    )


def test_a_range_that_another_splits_is_seen_on_both_sides() -> None:
    assert overlay(days_of([(0, 10), (3, 5)]), [1, 2]) == [
        (day(0), day(3), 0),
        (day(3), day(5), 1),
        (day(5), day(10), 0),
    ]


def test_nothing_gives_nothing() -> None:
    assert overlay([], []) == []
    assert overlay(days_of([(4, 4), (5, 2)]), [1, 2]) == []


def test_many_ranges_take_no_quadratic_time() -> None:
    nested = [(day(0, n), day(0, 40_000 - n)) for n in range(10_000)]
    started = time.perf_counter()
    assert len(overlay(nested, list(range(10_000)))) == 19_999
    assert time.perf_counter() - started < 5, "quadratic work would take minutes"
