"""Servers for the tests that need one: started on first use, one of each per run, and gone when the run ends.

A URL in FSTORE_TEST_REDIS_URL or FSTORE_TEST_POSTGRES_URL is used instead of starting a server. Without either the test is
skipped with the reason; FSTORE_TEST_REQUIRE_SERVERS=1 makes it fail instead, so that a build cannot skip them unnoticed.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from urllib.parse import urlsplit, urlunsplit

import pytest

from scripts.servers import RunningServer, ServerMissing, postgres_server, redis_server

pytest_plugins = ["pytester", "fstore.testing.plugin"]

LONG = (
    "tests/end_to_end/test_airflow.py",
    "tests/airflow/test_outage.py",
    "tests/chaos/",
    "tests/oracle/",
    "tests/end_to_end/",
)
"""Files of few tests that take long, in the order in which workers begin them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long, so that no worker waits in the end for the other's."""
    if os.environ.get("PYTEST_XDIST_WORKER"):
        places = {item: [item.nodeid.startswith(name) for name in (*LONG, "")].index(True) for item in items}
        items.sort(key=places.__getitem__)


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The URL of a Redis server that tests share; its databases belong to whoever asks for ``redis_database``."""
    yield from _server("FSTORE_TEST_REDIS_URL", redis_server)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a PostgreSQL server that tests share, as a user who may create databases."""
    yield from _server("FSTORE_TEST_POSTGRES_URL", postgres_server)


@pytest.fixture
def redis_database(redis_url: str) -> Iterator[str]:
    """The URL of an empty Redis database."""
    import redis

    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
        yield redis_url
        client.flushdb()


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[str]:
    """The URL of a new, empty PostgreSQL database, dropped afterwards."""
    import psycopg

    name = f"fstore_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    yield urlunsplit(urlsplit(postgres_url)._replace(path=f"/{name}"))
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def _server(variable: str, start: Callable[[], AbstractContextManager[RunningServer]]) -> Iterator[str]:
    if os.environ.get(variable):
        yield os.environ[variable]
        return
    try:
        with start() as server:
            yield server.url
    except ServerMissing as missing:
        if os.environ.get("FSTORE_TEST_REQUIRE_SERVERS"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))
