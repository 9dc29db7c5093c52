"""A run that meets a damaged file fails, and records it: so it is computed again without anybody looking for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fstore import Client
from fstore.errors import FileDamaged, StoreCorrupt
from tests.cli.test_commands import fstore
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


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def zeroed(content: bytes) -> bytes:
    """Keep size and footer, and lose every row."""
    footer = 8 + int.from_bytes(content[-8:-4], "little")
    return content[:4] + bytes(len(content) - footer - 4) + content[-footer:]


def without_footer(content: bytes) -> bytes:
    return content[:-100] + bytes(100)


@pytest.mark.parametrize("damage", [cut, zeroed, without_footer])
def test_from_corrupt_bytes_on_disk_to_the_same_values_again(
    project: SmallProject, damage: Callable[[bytes], bytes]
) -> None:
    """As a team meets it: a read names the file, verify finds it, repair computes just its intervals, and the read is well."""
    project.run("user_orders", "2026-01-01", "2026-01-03", "first")
    project.run("user_orders", "2026-01-03", "2026-01-05", "second")
    newest = project.backends.registry.ledger.newest("user_orders")
    assert newest is not None
    (file,) = project.backends.registry.ledger.files([newest.attempt])[newest.attempt]
    project.close()

    def read(*days: int) -> list[dict[str, object]]:
        at = [utc(f"2026-01-{day:02}T02:00") for day in days for _ in "ab"]
        with Client(project.settings) as client:
            frame = client.get_historical_features(
                {"user_id": ["a", "b"] * len(days), "event_timestamp": at},
                ["user_orders:orders_3d", "user_orders:amount_avg_3d"],
            )
            rows: list[dict[str, object]] = frame.to_arrow().to_pylist()
        return rows

    early, every = read(2, 3), read(2, 3, 4, 5)
    path = Path(project.settings.offline_url.removeprefix("file:")) / file.path
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(FileDamaged, match=rf"{file.path}.*2026-01-03T00:00Z to 2026-01-05T00:00Z of view 'user_orders'"):
        read(2, 3, 4, 5)
    assert read(2, 3) == early, "what rests on other files stays readable"

    told = fstore("verify", cwd=project.root, expect=1)
    assert file.path in told
    assert "1 damaged" in told
    (status,) = [view for view in json.loads(fstore("status", "--json", cwd=project.root))["views"]
                 if view["view"] == "user_orders"]  # fmt: skip
    assert (status["damaged"], status["published"]) == (2, 4)
    assert "user_orders: 2 damaged; 2 published" in fstore("repair", "user_orders", cwd=project.root)
    assert "0 damaged" in fstore("verify", cwd=project.root)
    assert read(2, 3, 4, 5) == every
    assert path.exists(), "what is superseded goes with the horizon"
