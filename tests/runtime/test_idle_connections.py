"""A step has many transactions in a row and computes for long between them: nothing is open on the registry's server then."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from fstore.backends import _online_store
from fstore.engines.duckdb import DuckDBEngine
from fstore.runtime.maintenance import maintain
from tests.projects import SmallProject
from tests.runtime.conftest import laid_out

pytestmark = pytest.mark.integration

SOURCE = """
    from fstore import Entity, FeatureView, PostgresSource, feature

    user = Entity("user", join_keys={"user_id": "string"})
    orders = PostgresSource("orders", connection="shop", table="orders", event_time="ordered_at")


    class OrderEvents(FeatureView):
        '''How many sessions the registry had while each order was read.'''

        entity, schedule, start = user, "@daily", "2026-01-01"
        inputs = {"o": orders.window("1d")}
        sql = "SELECT user_id, ordered_at AS event_timestamp, sessions FROM o"
        sessions = feature("int64")
"""


class Sessions:
    """What is open on the server in the registry's database."""

    def __init__(self, url: str) -> None:
        self._name = urlsplit(url).path[1:]
        self._connection = psycopg.connect(urlsplit(url)._replace(path="/postgres").geturl(), autocommit=True)

    def close(self) -> None:
        self._connection.close()

    def left(self) -> int:
        """Return how many there are, those not counted that have just been closed and take their time to end."""
        deadline = time.monotonic() + 5
        while (open_now := self._count()) and time.monotonic() < deadline:
            time.sleep(0.005)
        return open_now

    def _count(self) -> int:
        asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
        ((found,),) = self._connection.execute(asked, (self._name,)).fetchall()
        return int(found)


@pytest.fixture
def sessions(postgres_database: str) -> Iterator[Sessions]:
    with contextlib.closing(Sessions(postgres_database)) as sessions:
        yield sessions


@pytest.fixture
def project(tmp_path: Path, postgres_database: str) -> Iterator[SmallProject]:
    """A project with one view of each kind, whose registry is on a server."""
    yield from laid_out(SmallProject(tmp_path / "small", registry_url=postgres_database))


@pytest.fixture
def seen(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many sessions there were during each query since."""
    found: list[int] = []
    connect = DuckDBEngine._connection

    @contextlib.contextmanager
    def watched(*arguments: object, **named: object) -> Iterator[object]:
        with connect(*arguments, **named) as connection:  # type: ignore[arg-type]
            found.append(sessions.left())
            yield connection

    monkeypatch.setattr(DuckDBEngine, "_connection", watched)
    return found


@pytest.mark.parametrize("view", ["user_orders", "user_profile", "user_risk", "order_events"])
def test_nothing_is_open_while_a_step_computes(
    project: SmallProject, sessions: Sessions, seen: list[int], view: str
) -> None:
    upstream = ["user_orders", "user_profile"][: {"user_profile": 1, "user_risk": 2}.get(view, 0)]
    for name in upstream:
        project.run(name, "2026-01-01", "2026-01-05")
    seen.clear()
    project.run(view, "2026-01-01", "2026-01-05")
    assert len(seen) > 4
    assert seen == [0] * len(seen)
    assert sessions.left() == 0


def test_nothing_is_open_while_the_maintenance_writes_online(
    project: SmallProject, sessions: Sessions, seen: list[int]
) -> None:
    project.run("user_orders", "2026-01-01", "2026-01-05")
    identity = project.backends.registry.store_id("online") or ""
    project.close()
    shutil.rmtree(project.settings.online_url.removeprefix("lmdb:"))
    with contextlib.closing(_online_store(project.settings)) as emptied:
        emptied.create(identity)
    seen.clear()
    done = maintain(project.backends, datetime.now(UTC))
    assert done.repaired.views == ("user_orders",)
    assert seen != []
    assert seen == [0] * len(seen)
    assert sessions.left() == 0


def test_nothing_is_open_while_a_table_is_copied(
    tmp_path: Path, postgres_database: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table counts the sessions of the registry itself, while it is read."""
    name = urlsplit(postgres_database).path[1:]
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}_shop"')
    shop = urlsplit(postgres_database)._replace(path=f"/{name}_shop").geturl()
    try:
        with psycopg.connect(shop, autocommit=True) as connection:
            connection.execute(_COUNTING.replace("REGISTRY", name))
        monkeypatch.setenv("FSTORE_CONNECTION_SHOP", shop)
        small = SmallProject(tmp_path / "small", registry_url=postgres_database)
        small.define("shop", SOURCE)
        small.run("order_events", "2026-01-01", "2026-01-03")
        assert [row["sessions"] for row in small.published("order_events")] == [0, 0]
        small.close()
    finally:
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}_shop" WITH (FORCE)')


_COUNTING = """
    CREATE FUNCTION sessions() RETURNS bigint LANGUAGE plpgsql AS $$
        DECLARE found bigint;
        BEGIN
            FOR tries IN 1 .. 500 LOOP
                PERFORM pg_stat_clear_snapshot();
                SELECT count(*) INTO found FROM pg_stat_activity WHERE datname = 'REGISTRY';
                EXIT WHEN found = 0;
                PERFORM pg_sleep(0.01);
            END LOOP;
            RETURN found;
        END $$;
    CREATE VIEW orders AS
        SELECT user_id, ordered_at::timestamptz, sessions() AS sessions
        FROM (VALUES ('a', '2026-01-01T10:00Z'), ('b', '2026-01-02T10:00Z')) AS o (user_id, ordered_at)
"""
