"""Pins and damaged files from the command line."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.test_commands import fstore


def test_verify_finds_a_damaged_file_and_repair_mends_it(tmp_path: Path) -> None:
    fstore("init", "--project", "shop", cwd=tmp_path)
    fstore("run", cwd=tmp_path)
    assert "0 damaged" in fstore("verify", cwd=tmp_path)
    root = tmp_path / ".fstore/offline"
    for kind in ("user_purchases", "tiles"):
        file = max(root.glob(f"shop/{kind}/**/*.parquet"), key=lambda path: path.stat().st_size)
        file.write_bytes(file.read_bytes()[:-1] + b"?")
    found = json.loads(fstore("verify", "--json", cwd=tmp_path, expect=1))
    assert {part["view"] for part in found["damaged"]} == {"user_purchases", "tiles"}
    assert {part["problem"] for part in found["damaged"]} == {"changed"}
    assert "damaged" in fstore("repair", cwd=tmp_path)
    assert "0 damaged" in fstore("verify", cwd=tmp_path)


def test_pins_are_added_listed_and_dropped(tmp_path: Path) -> None:
    fstore("init", "--project", "shop", cwd=tmp_path)
    assert "There are no pins" in fstore("pin", "list", cwd=tmp_path)
    assert "readable as of sequence 0 until" in fstore("pin", "add", "m", "--until", "90d", "--as-of", "0", cwd=tmp_path)
    assert [pin["name"] for pin in json.loads(fstore("pin", "list", "--json", cwd=tmp_path))] == ["m"]
    assert "has no pin 'n'" in fstore("pin", "drop", "n", cwd=tmp_path, expect=1)
    fstore("pin", "drop", "m", cwd=tmp_path)
    assert "that is past" in fstore("pin", "add", "m", "--until", "2020-01-01", cwd=tmp_path, expect=1)
