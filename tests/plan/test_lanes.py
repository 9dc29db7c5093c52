"""Counts that share a number, against the naive loop: many sub-keys of every key and day, few of them, and great counts."""

from datetime import timedelta

import pytest

from fstore.plan import lanes
from tests.plan.test_subkeys import check, naive, sub
from tests.plan.test_windows import DAY, T0, compute, daily, event, from_events, queries

NAMES = [f"{place:02}" for place in range(40)]
FEATURES = [
    *(
        sub(function, argument, window, **more)
        for function, argument, more in [
            ("count", None, {"by": '"s"'}),
            ("count", None, {"by": '"s"', "limit": 5, "where": '"i" > 0'}),
            ("top_k", "s", {"limit": 3}),
            ("top_k", "s", {"limit": 30}),
            ("distinct", "s", {"limit": 35}),
        ]
        for window in ("1d", "3d", "lifetime")
    ),
    sub("top_k", "s", "2d", offset="1d", limit=4),
]


def full(repeated):
    """Every key has every sub-key on every day, so that lanes are shared; a count fills its lane to the last bit."""
    for day in range(7):
        for place, name in enumerate(NAMES):
            for number in range(1 + place * day % 4 + repeated * (place in (0, 11, 39))):
                yield event(T0 + day * DAY, s=name, i=number % 2)


def scattered():
    """Every key has few sub-keys, and each on one day."""
    for place, name in enumerate(NAMES):
        for number in range(1 + place % 3):
            yield event(
                T0 + place % 7 * DAY + place * timedelta(minutes=15), user=f"u{place % 9}", s=name, i=place % 2 + number
            )


@pytest.mark.parametrize(
    "events",
    [[*full(0)], [*full(150)], [*scattered()], [*full(0), *scattered()]],
    ids=["full", "great", "scattered", "both"],
)
def test_counts_that_share_a_number_equal_the_naive_loop(events):
    intervals = daily(10)
    expected = naive(events, intervals, FEATURES)
    check(compute(from_events(queries(FEATURES))[0], events, intervals), expected, FEATURES)


@pytest.mark.parametrize("room", [0, 40])
def test_keys_without_room_for_arrays_equal_the_naive_loop(room, monkeypatch):
    """Of three keys with two numbers for each of seven instants, and one before, in two arrays, none or one is packed."""
    events = [event | {"user": user} for user in "abc" for event in full(0)]
    intervals = daily(10)
    monkeypatch.setattr(lanes, "MOST_NUMBERS", room)
    check(compute(from_events(queries(FEATURES))[0], events, intervals), naive(events, intervals, FEATURES), FEATURES)


@pytest.mark.parametrize("number", [126, 127, 128])
def test_a_count_may_use_all_bits_of_its_lane(number):
    """One key has one sub-key only, as often as lanes are wide; the other has all, so that lanes are shared."""
    events = [event(T0, s=NAMES[20])] * number + [event(T0, user="b", s=name) for name in NAMES]
    features = [sub("count", None, "1d", by='"s"'), sub("top_k", "s", "2d", limit=2)]
    check(compute(from_events(queries(features))[0], events, daily(3)), naive(events, daily(3), features), features)
