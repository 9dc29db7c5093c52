"""A project with values of every type, published by hand, with its stores in LMDB or Redis; and a server over it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fstore.backends import create_backends
from tests.serving.project import TypedProject, settings_of, typed_project
from tests.serving.running import RunningApp, serving


@pytest.fixture(scope="session", params=["lmdb", "redis"])
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TypedProject]:
    """The project in each of the online stores."""
    root = tmp_path_factory.mktemp("serving")
    online = f"lmdb:{root}/online"
    if request.param == "redis":
        online = request.getfixturevalue("redis_url").rpartition("/")[0] + "/9"
    settings = settings_of(root, online)
    with create_backends(settings) as backends:
        yield typed_project(backends)


@pytest.fixture(scope="session")
def server(project: TypedProject) -> Iterator[RunningApp]:
    """A server of one worker over the project."""
    with serving(project.settings, max_keys=1000, max_rows=2000, max_body_bytes=1_000_000) as running:
        yield running
