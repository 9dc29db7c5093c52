"""Entries of the outbox may be lost, doubled, late and out of order: the online content ends as the log says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.outbox_model import OutboxModel, Site
from tests.chaos.stateful import machine_at, run_test


def test_delivery_converges_on_lmdb(tmp_path: Path) -> None:
    run_test(machine_at(OutboxModel, site=Site(tmp_path)), examples=3, steps=20)


@pytest.mark.integration
def test_delivery_converges_on_redis(tmp_path: Path, redis_database: str) -> None:
    run_test(machine_at(OutboxModel, site=Site(tmp_path, redis_database)), examples=2, steps=20)
