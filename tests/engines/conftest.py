from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fstore.engines.duckdb import DuckDBEngine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[DuckDBEngine]:
    opened = DuckDBEngine(memory_limit="500MB", threads=2, spill_dir=str(tmp_path / "spill"), root=str(tmp_path))
    yield opened
    opened.close()
