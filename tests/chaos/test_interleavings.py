"""Interleavings of attempts: all of a retry and its zombie, some of the other pairs, and random ones of more writers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.interleavings import ALL, PAIRS, explore, follow, opened_market, planned, play, shrunk
from tests.chaos.market import Market

WAYS = ("AAAAAAAABBBBBBBB", "AAAABBBBBBBBAAAA", "AAAAABBBBBBBBAAA", "AAAAAABBBBBBBBAA", "ABABABABABABABAB")


@pytest.fixture(scope="module")
def market() -> Iterator[Market]:
    with opened_market() as opened:
        yield opened


def test_all_interleavings_of_a_retry_and_its_zombie(market: Market) -> None:
    found = explore(market, PAIRS["retry"])
    assert found.ways == ALL == 12_870
    assert found.violations == []
    assert sum(found.ends.values()) == ALL
    assert found.ends.keys() == {"Fenced, succeeded", "succeeded, Fenced", "succeeded, succeeded"}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("pair", [name for name in PAIRS if name != "retry"])
def test_chosen_interleavings(market: Market, pair: str, way: str) -> None:
    assert follow(market, PAIRS[pair], way) == []


@pytest.mark.parametrize("seed", range(3))
def test_random_interleavings_of_many_writers(market: Market, seed: int) -> None:
    assert play(market, planned(seed)) == []


def test_a_plan_that_breaks_something_is_made_smaller(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(2)
    monkeypatch.setattr(
        "tests.chaos.interleavings.play", lambda _, played: ["broken"] if ("prices", "run") in played.writers else []
    )
    assert shrunk(market, plan).writers == (("prices", "run"),)
