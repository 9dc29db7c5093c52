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
    today = datetime.now(UTC).date()
    span = ("--start", str(today - timedelta(days=4)), "--end", str(today - timedelta(days=2)))
    refused = fstore("run", "--json", *span, cwd=shop, expect=1)
    assert "was restored from a backup" in refused
    adopted = json.loads(fstore("registry", "restore", "--adopt", "--json", cwd=shop))["adopted"]
    assert (adopted["sequence"], adopted["attempt"], adopted["views"]) == (1_000_000, 1_000_000, ["user_purchases"])
    assert adopted["rows"] > 0
    fstore("run", cwd=shop)
    assert json.loads(fstore("status", "--json", cwd=shop))["views"][0]["missing"] == 0


def test_a_registry_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.fstore]\nproject = "shop"\n')
    assert "was never created" in fstore("registry", "upgrade", cwd=tmp_path, expect=1)
    assert "was never created" in fstore("registry", "backup", "b.db", cwd=tmp_path, expect=1)
