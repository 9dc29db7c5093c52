"""A new project with every store on local disk, whose views tests publish by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fstore.backends import create_backends
from fstore.settings import Settings
from tests.retrieval.publishing import Publisher


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Publisher]:
    """A publisher over a new project with every store on local disk."""
    root: Path = tmp_path_factory.mktemp("shop")
    settings = Settings(
        root=str(root), project="shop", registry_url=f"sqlite:///{root}/registry.db", offline_url=f"file:{root}/offline",
        online_url=f"lmdb:{root}/online", spill_dir=str(root / "spill"), cache_dir=str(root / "cache"), threads=1,
        memory_limit="1GB",
    )  # fmt: skip
    with create_backends(settings) as backends:
        yield Publisher(backends)
