"""The commands status, repair and maintain as a user meets them: late data, a lost online store, lineage events."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.lineage.backend import unreliable_backend


def fstore(*arguments: str, cwd: Path, expect: int = 0, **variables: str) -> str:
    """Run a command in a process of its own and return what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FSTORE_", "OPENLINEAGE_"))}
    done = subprocess.run(
        [sys.executable, "-m", "fstore.cli", *arguments],
        cwd=cwd, env=environment | {"COLUMNS": "200"} | variables, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout if "--json" in arguments else done.stdout + done.stderr


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project laid out by ``init`` and run once."""
    root = tmp_path_factory.mktemp("repairs") / "shop"
    root.mkdir()
    fstore("init", cwd=root)
    fstore("run", cwd=root)
    return root


def test_late_data_is_shown_planned_and_repaired(shop: Path) -> None:
    assert fstore("repair", cwd=shop) == "✓ nothing to repair\n"
    (file,) = (shop / "data").rglob("*.parquet")
    table = pq.read_table(file)
    pq.write_table(table.slice(0, table.num_rows - 3), file)
    status = json.loads(fstore("status", "--json", cwd=shop))
    stale = status["views"][0]["stale"]
    assert stale > 0
    (advice,) = [each for each in status["advice"] if "changed" in each["problem"]]
    assert (advice["view"], advice["command"]) == ("user_purchases", "fstore repair user_purchases")
    assert "next user_purchases: " in fstore("status", cwd=shop)
    planned = json.loads(fstore("repair", "--dry-run", "--json", cwd=shop))
    assert len(planned["recomputed"][0]["needs"]["stale"]) == stale
    assert f"would compute {stale} stale" in fstore("repair", "--dry-run", "user_purchases", cwd=shop)
    done = json.loads(fstore("repair", "--stale", "--json", cwd=shop))
    assert (done["recomputed"][0]["published"], done["dry_run"]) == (stale, False)
    status = json.loads(fstore("status", "--json", cwd=shop))
    assert [(view["stale"], view["damaged"], view["online"]) for view in status["views"]] == [(0, 0, "current")]
    assert fstore("repair", cwd=shop) == "✓ nothing to repair\n"


def test_a_lost_online_store_is_shown_and_filled_again(shop: Path) -> None:
    shutil.rmtree(shop / ".fstore" / "online")
    status = json.loads(fstore("status", "--json", cwd=shop))
    assert status["views"][0]["online"] == "lost"
    (advice,) = [each for each in status["advice"] if each["kind"] == "lost"]
    assert (advice["view"], advice["problem"]) == ("user_purchases", "the online store has lost it")
    assert advice["command"] == "fstore repair user_purchases --online"
    assert "user_purchases would be brought online again" in fstore("repair", "--online", "--dry-run", cwd=shop)
    assert "user_purchases were brought online again" in fstore("repair", "user_purchases", "--online", cwd=shop)
    assert json.loads(fstore("status", "--json", cwd=shop))["views"][0]["online"] == "current"


def test_maintain_forwards_lineage_events_and_tells_what_is_refused(shop: Path) -> None:
    assert "OPENLINEAGE_URL names no backend" in fstore("maintain", cwd=shop)
    with unreliable_backend() as backend:
        backend.script = [503]
        said = fstore("maintain", cwd=shop, expect=1, OPENLINEAGE_URL=backend.url)
        assert "answered 503 Service Unavailable; the event is kept" in said
        assert "lineage event(s) are not forwarded" in fstore("status", cwd=shop)
        backend.script = [422]
        done = json.loads(fstore("maintain", "--json", cwd=shop, OPENLINEAGE_URL=backend.url))
        assert done["done"]["forwarded"]["refused"] == 1
        assert done["done"]["forwarded"]["sent"] == len(backend.received) > 2
        assert "1 lineage event(s) were refused" in fstore("status", cwd=shop)
        again = json.loads(fstore("maintain", "--resend", "--json", cwd=shop, OPENLINEAGE_URL=backend.url))
        assert (again["resent"], again["done"]["forwarded"]["sent"]) == (1, 1)


@pytest.mark.parametrize("command", ["repair", "maintain"])
def test_the_commands_have_help(command: str, tmp_path: Path) -> None:
    assert "Usage" in fstore(command, "--help", cwd=tmp_path)
