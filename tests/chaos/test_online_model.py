"""Both online stores do what a dictionary does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.online_model import lmdb_at, redis_at
from tests.chaos.stateful import run_test


def test_lmdb_is_what_its_model_says(tmp_path: Path) -> None:
    run_test(lmdb_at(tmp_path), examples=10, steps=40)


@pytest.mark.integration
def test_redis_is_what_its_model_says(redis_database: str) -> None:
    run_test(redis_at(redis_database), examples=10, steps=40)
