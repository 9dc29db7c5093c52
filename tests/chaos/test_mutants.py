"""Every planted mutant of the product is killed by its check, which the product passes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos import directed
from tests.chaos.interleavings import opened_market
from tests.chaos.market import Market
from tests.chaos.mutants import MUTANTS, Mutant, survives


@pytest.fixture(scope="module")
def market() -> Iterator[Market]:
    with opened_market(recorded=False) as opened:
        yield opened


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name.replace(" ", "-").replace(",", "") for mutant in MUTANTS])
def test_killed(market: Market, mutant: Mutant) -> None:
    assert survives(market, mutant) is None


def test_a_publication_of_somebody_else_is_no_restore(market: Market) -> None:
    assert directed.others_publish_is_no_restore(market) == []


def test_there_are_enough() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 15
