"""The ledger does what a naive model of it does, on both databases."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.ledger_model import LedgerModel
from tests.chaos.stateful import machine_at, run_test


def test_the_ledger_is_what_its_model_says_on_sqlite(tmp_path: Path) -> None:
    run_test(machine_at(LedgerModel, url=f"sqlite:///{tmp_path}/registry.db"), examples=4, steps=40)


@pytest.mark.integration
def test_the_ledger_is_what_its_model_says_on_postgresql(postgres_database: str) -> None:
    run_test(machine_at(LedgerModel, url=postgres_database), examples=3, steps=40)
