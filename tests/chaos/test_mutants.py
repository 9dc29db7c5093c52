"""Every planted mutant of the product is killed by its check, which the product passes."""

from __future__ import annotations

from collections.abc import Iterator
from unittest import mock

import pytest

from fstore.registry import publishing
from tests.chaos import directed
from tests.chaos.directed import killed_after_publishing
from tests.chaos.interleavings import opened_market
from tests.chaos.market import Market
from tests.chaos.mutants import MUTANTS, Mutant, by, survives


@pytest.fixture(scope="module")
def market() -> Iterator[Market]:
    with opened_market(recorded=False) as opened:
        yield opened


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name.replace(" ", "-").replace(",", "") for mutant in MUTANTS])
def test_killed(market: Market, mutant: Mutant) -> None:
    assert survives(market, mutant) is None


def test_a_mutant_that_does_not_fit_any_more_kills_nothing(market: Market) -> None:
    outdated = Mutant("outdated", lambda: mock.patch.object(publishing, "_append", object), *by(killed_after_publishing))
    assert "'outdated' does not fit the product any more: TypeError" in (survives(market, outdated) or "")


def test_a_publication_of_somebody_else_is_no_restore(market: Market) -> None:
    assert directed.others_publish_is_no_restore(market) == []


def test_there_are_enough() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 15
