"""Eight processes that publish at once, in a form of seconds; ``python -m tests.chaos --long`` has 400 publishes each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.publishers import publish_at_once

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def test_eight_processes_on_sqlite(tmp_path: Path) -> None:
    assert publish_at_once(f"sqlite:///{tmp_path / 'registry.db'}", 8, 10) == []


@pytest.mark.integration
def test_eight_processes_on_postgresql(postgres_database: str) -> None:
    assert publish_at_once(postgres_database, 8, 10) == []
