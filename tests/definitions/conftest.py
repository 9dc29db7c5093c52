"""A definitions directory that tests fill with modules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

Write = Callable[[dict[str, str]], Path]

SHOP = """
from fstore import Entity, ParquetSource

user = Entity("user", join_keys={"user_id": "string"})
orders = ParquetSource("orders", path="data/orders/", event_time="ordered_at")
users = ParquetSource("users", path="data/users/", keys=["user_id"], updated_at="updated_at")
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write modules, given by path, below ``feature_defs/`` beside ``shop.py``; returns the directory."""
    directory = tmp_path.resolve() / "feature_defs"
    directory.mkdir()
    (directory / "shop.py").write_text(SHOP)

    def write(modules: dict[str, str]) -> Path:
        for path, text in modules.items():
            file = directory / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(dedent(text))
        return directory

    return write
