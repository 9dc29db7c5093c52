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
    root = tmp_path_factory.mktemp("shop")
    with create_backends(settings_of(root, f"lmdb:{root}/online")) as backends:
        yield Publisher(backends)


@pytest.fixture(scope="module", params=["lmdb", "redis"])
def online_publisher(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Publisher]:
    """The same over each of the online stores."""
    root = tmp_path_factory.mktemp("online")
    online = f"lmdb:{root}/online"
    if request.param == "redis":
        online = request.getfixturevalue("redis_url").rpartition("/")[0] + "/7"
    with create_backends(settings_of(root, online)) as backends:
        yield Publisher(backends)


def settings_of(root: Path, online_url: str) -> Settings:
    """Settings of a project that has everything but its online store under a directory."""
    return Settings(
        root=str(root), project="shop", registry_url=f"sqlite:///{root}/registry.db", offline_url=f"file:{root}/offline",
        online_url=online_url, spill_dir=str(root / "spill"), cache_dir=str(root / "cache"), threads=1,
        memory_limit="1GB",
    )  # fmt: skip
