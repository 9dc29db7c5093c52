"""A run that meets a damaged file fails, and records it: so it is computed again without anybody looking for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fstore.errors import StoreCorrupt
from tests.projects import SmallProject, utc


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_a_run_that_meets_a_damaged_input_records_it(project: SmallProject, damage: str) -> None:
    project.run("user_orders", "2026-01-01", "2026-01-03")
    root = Path(project.settings.offline_url.removeprefix("file:"))
    (file,) = root.rglob("user_orders/**/*.parquet")
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:50])
    ledger = project.backends.registry.ledger
    with pytest.raises(StoreCorrupt, match="is gone or damaged"):
        project.run("user_profile", "2026-01-01", "2026-01-03")
    assert ledger.damaged("user_orders") == project.intervals("user_orders", "2026-01-01", "2026-01-03")
    project.run("user_orders", "2026-01-01", "2026-01-03")
    assert ledger.damaged("user_orders") == []
    project.run("user_profile", "2026-01-01", "2026-01-03")
    assert len(project.published("user_profile")) > 0


def test_damaged_tiles_are_made_again(project: SmallProject) -> None:
    project.run("user_orders", "2026-01-01", "2026-01-03")
    root = Path(project.settings.offline_url.removeprefix("file:"))
    for file in root.rglob("tiles/**/*.parquet"):
        file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(StoreCorrupt):
        project.run("user_orders", "2026-01-03", "2026-01-04")
    assert len(project.backends.registry.retention.damage()) > 0
    project.run("user_orders", "2026-01-03", "2026-01-04")
    (last,) = [row for row in project.published("user_orders") if row["event_timestamp"] == utc("2026-01-04")
               and row["user_id"] == "a"]  # fmt: skip
    assert last["orders_3d"] == 2
