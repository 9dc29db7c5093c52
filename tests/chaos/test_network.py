"""Every fault of the network once, to Redis and to PostgreSQL; ``python -m tests.chaos --long`` goes through them again and again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from fstore.errors import StoreUnavailable
from fstore.runtime.delivery import apply_outbox
from scripts.proxy import Faults, Mode
from scripts.servers import ServerMissing
from tests.chaos import network
from tests.chaos.network import MODULE, POSTGRES_FAULTS, REDIS_FAULTS, STAMP, VIEWS, World, check, expected, orders
from tests.projects import SmallProject, utc

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def on_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    try:
        with network.on_redis(tmp_path_factory.mktemp("redis") / "small") as made:
            yield made
    except ServerMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def on_postgres(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> Iterator[World]:
    with network.on_postgres(tmp_path_factory.mktemp("postgres") / "small", postgres_url) as made:
        yield made


@pytest.mark.parametrize("name", REDIS_FAULTS)
def test_redis_behind_a_broken_network(on_redis: World, name: str) -> None:
    check(on_redis, REDIS_FAULTS[name], name)


def test_a_publication_stands_when_redis_cannot_be_reached(on_redis: World) -> None:
    with on_redis.proxy.broken(Faults(mode=Mode.REFUSE)), pytest.raises(StoreUnavailable, match="cannot be reached now"):
        on_redis.next_day("refused")
    assert apply_outbox(on_redis.project.backends).entries >= 1
    on_redis.converge("refused")
    assert on_redis.read() == expected(on_redis.days)


@pytest.mark.parametrize("name", POSTGRES_FAULTS)
def test_postgres_behind_a_broken_network(on_postgres: World, name: str) -> None:
    check(on_postgres, POSTGRES_FAULTS[name], name)


def test_everything_is_published_as_without_faults(on_redis: World, on_postgres: World, tmp_path: Path) -> None:
    undisturbed = SmallProject(tmp_path / "undisturbed")
    undisturbed.define("shop", MODULE)
    undisturbed.write("orders", orders(), {"user_id": pa.string(), "ordered_at": STAMP, "amount": pa.float64()})
    for made in (on_redis, on_postgres):
        last = f"{utc('2026-01-01') + timedelta(days=made.days):%Y-%m-%d}"
        for view in VIEWS:
            undisturbed.run(view, "2026-01-01", last, f"until {last}")
            rows = [row for row in undisturbed.published(view) if row["event_timestamp"] <= utc(last)]  # type: ignore[operator]
            assert made.project.published(view) == rows
    undisturbed.close()
