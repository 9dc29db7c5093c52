"""Every test that asks for ``registry`` runs on SQLite and on PostgreSQL, each time on an empty registry."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from fstore.registry.registry import Registry, create_registry, open_registry
from fstore.registry.tables import metadata
from tests.registry.examples import PROJECT, example_plan

BOTH = [pytest.param("sqlite"), pytest.param("postgresql", marks=pytest.mark.integration)]


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("registry") / "template.db"
    create_registry(f"sqlite:///{path}", PROJECT).close()
    return path


@pytest.fixture(scope="session")
def postgres_registry(postgres_url: str) -> Iterator[str]:
    name = f"fstore_registry_{uuid.uuid4().hex[:8]}"
    url = urlunsplit(urlsplit(postgres_url)._replace(path=f"/{name}"))
    _execute(postgres_url, f'CREATE DATABASE "{name}"')
    create_registry(url, PROJECT).close()
    yield url
    _execute(postgres_url, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(params=BOTH)
def registry_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty registry that exists."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "registry.db")
        return f"sqlite:///{tmp_path / 'registry.db'}"
    url: str = request.getfixturevalue("postgres_registry")
    tables = ", ".join(table.name for table in metadata.sorted_tables)
    _execute(url, f"TRUNCATE {tables} RESTART IDENTITY")
    create_registry(url, PROJECT).close()
    return url


@pytest.fixture(params=BOTH)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a registry that was never created."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'new' / 'registry.db'}"
    url: str = request.getfixturevalue("postgres_database")
    return url


@pytest.fixture
def registry(registry_url: str) -> Iterator[Registry]:
    """A registry with the example's definitions."""
    with open_registry(registry_url, PROJECT) as opened:
        opened.register(example_plan())
        yield opened


def _execute(url: str, statement: str) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)
