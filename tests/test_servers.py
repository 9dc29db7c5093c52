"""The servers that the suite starts are real, fresh per test, and leave nothing behind."""

from __future__ import annotations

import psycopg
import pytest
import redis

from scripts.servers import postgres_server, redis_server


@pytest.mark.integration
def test_redis_database_is_empty_and_writable(redis_database: str) -> None:
    with redis.Redis.from_url(redis_database) as client:
        assert client.dbsize() == 0
        client.set("key", "value")
        assert client.get("key") == b"value"


@pytest.mark.integration
def test_postgres_database_is_new_and_writable(postgres_database: str) -> None:
    with psycopg.connect(postgres_database) as connection:
        connection.execute("CREATE TABLE numbers (n int)")
        connection.execute("INSERT INTO numbers VALUES (1), (2)")
        assert connection.execute("SELECT sum(n) FROM numbers").fetchone() == (3,)


@pytest.mark.integration
@pytest.mark.parametrize("start", [redis_server, postgres_server])
def test_a_server_is_gone_with_its_files_when_its_block_ends(start: object) -> None:
    assert callable(start)
    with start() as server:
        assert server.process.poll() is None
        assert server.directory.is_dir()
    assert server.process.poll() is not None
    assert not server.directory.exists()
