"""The commands registry upgrade, backup and restore."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.cli.test_commands import fstore


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A project laid out by ``init`` and run once."""
    fstore("init", "--project", "shop", cwd=tmp_path)
    fstore("run", cwd=tmp_path)
    return tmp_path


def test_from_backup_to_a_registry_that_goes_on(shop: Path) -> None:
    assert "nothing to do" in fstore("registry", "upgrade", cwd=shop)
    backup = json.loads(fstore("registry", "backup", "b.db", "--json", cwd=shop))
    assert backup["projects"] == [{"project": "shop", "sequence": backup["projects"][0]["sequence"], "version": 1}]
    assert backup["bytes"] > 10_000
    assert "b.db exists already; a backup never replaces a file" in fstore("registry", "backup", "b.db", cwd=shop, expect=1)
    assert "--replace shop" in fstore("registry", "restore", "b.db", cwd=shop, expect=1)
    assert "name the backup to restore" in fstore("registry", "restore", cwd=shop, expect=1)
    assert "Nothing is written until" in fstore("registry", "restore", "b.db", "--replace", "shop", cwd=shop)
    status = json.loads(fstore("status", "--json", cwd=shop))
    (advice,) = [each for each in status["advice"] if "restored" in each["problem"]]
    assert advice["command"] == "fstore registry restore --adopt"
    assert "✗ registry registry sqlite://" in fstore("doctor", cwd=shop, expect=1)
    today = datetime.now(UTC).date()
    span = ("--start", str(today - timedelta(days=4)), "--end", str(today - timedelta(days=2)))
    refused = fstore("run", "--json", *span, cwd=shop, expect=1)
    assert "was restored from a backup" in refused
    assert {view["code"] for view in json.loads(refused)} == {"registry_restored"}
    assert "error registry_restored registry sqlite://" in fstore("run", *span, cwd=shop, expect=1)
    adopted = json.loads(fstore("registry", "restore", "--adopt", "--json", cwd=shop))["adopted"]
    assert (adopted["sequence"], adopted["attempt"], adopted["views"]) == (1_000_000, 1_000_000, ["user_purchases"])
    assert adopted["rows"] > 0
    fstore("run", cwd=shop)
    assert json.loads(fstore("status", "--json", cwd=shop))["views"][0]["missing"] == 0
    assert not any("restored" in each["problem"] for each in json.loads(fstore("status", "--json", cwd=shop))["advice"])
    assert "✓ registry" in fstore("doctor", cwd=shop)


def test_versions_do_not_change_in_a_registry_that_its_stores_do_not_take(shop: Path) -> None:
    module = shop / "feature_defs" / "purchases.py"
    module.write_text(module.read_text().replace('agg.avg("amount")', 'agg.max("amount")'))
    fstore("apply", "--hold", cwd=shop)
    fstore("run", cwd=shop)
    fstore("flip", cwd=shop)
    fstore("rollback", "user_purchases", cwd=shop)
    fstore("apply", "--hold", cwd=shop)
    fstore("registry", "backup", "b.db", cwd=shop)
    fstore("registry", "restore", "b.db", "--replace", "shop", cwd=shop)
    before = json.loads(fstore("status", "--json", cwd=shop))
    for command in (("apply",), ("apply", "--env", "dev"), ("flip",), ("rollback", "user_purchases")):
        refused = fstore(*command, "--json", cwd=shop, expect=1)
        assert json.loads(refused)["error"]["code"] == "registry_restored", refused
        assert "it was restored from a backup. Nothing is written until `fstore registry restore --adopt`" in refused
    after = json.loads(fstore("status", "--json", cwd=shop))
    assert (after["registry_version"], after["sequence"]) == (before["registry_version"], before["sequence"])
    fstore("registry", "restore", "--adopt", cwd=shop)
    assert "user_purchases: generation 2 is live, in place of generation 1" in fstore("flip", cwd=shop)


def test_a_registry_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.fstore]\nproject = "shop"\n')
    assert "was never created" in fstore("registry", "upgrade", cwd=tmp_path, expect=1)
    assert "was never created" in fstore("registry", "backup", "b.db", cwd=tmp_path, expect=1)
