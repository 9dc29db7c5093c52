"""One real Airflow for all end-to-end tests: a small project in a temporary directory, started once.

The project is in ``project/`` beside this file. Its definitions are served twice: as project ``shop`` with the embedded
stores, and as project ``outlet`` with an online store in Redis, which tests can make unreachable.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scripts.servers import RunningServer, ServerMissing, airflow_database, redis_server

SHOP = (
    "shop.activity.daily", "shop.activity.hourly", "shop.gifts.daily", "shop.live.daily", "shop.maintenance",
    "shop.purchases.daily", "shop.strict.daily",
)  # fmt: skip

LIVE = '''"""A view that is still being computed: its newest interval ended last midnight."""

from fstore import FeatureView, agg

from .sources import purchases, user


class LivePurchases(FeatureView):
    """Purchases of a user."""

    entity = user
    source = purchases
    schedule = "@daily"
    start = "{start}"

    purchase_count = agg.count().over("365d")
'''


@dataclass(frozen=True, kw_only=True)
class Shop:
    """The running project: clients of its Airflow, its settings, and the Redis of the second project."""

    airflow: object
    admin: object
    viewer: object
    settings: object
    redis: RunningServer | None
    live_since: datetime


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Start Airflow on a copy of the project, and stop all of it afterwards."""
    from fstore.airflow.local import LocalAirflow
    from fstore.settings import load_settings

    root = tmp_path_factory.mktemp("end-to-end") / "shop"
    shutil.copytree(Path(__file__).parent / "project", root, ignore=shutil.ignore_patterns("__pycache__"))
    write_purchases(root / "data")
    live_since = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=5)
    (root / "feature_defs" / "live.py").write_text(LIVE.format(start=live_since.date()))
    settings = load_settings(root, environ={})
    create(settings)
    with optional_redis() as redis:
        environ = {"FSTORE_PROJECT": ""}
        if redis is not None:
            url = f"{redis.url}?socket_timeout=1"
            outlet = load_settings(root, environ={}, project="outlet", online_url=url)
            create(outlet)
            registry = {"conn_type": "generic", "extra": {"url": outlet.registry_url}}
            environ |= {"AIRFLOW_CONN_OUTLET_ONLINE": url, "AIRFLOW_CONN_OUTLET_REGISTRY": json.dumps(registry)}
        users = {"admin": "admin", "viewer": "viewer"}
        with (
            airflow_database(root / ".airflow") as database,
            LocalAirflow(root, database_url=database, environ=environ, users=users) as airflow,
        ):
            admin, viewer = airflow.client(), airflow.client("viewer")
            admin.wait_for_dags([*SHOP, "consumer"])
            yield Shop(airflow=airflow, admin=admin, viewer=viewer, settings=settings, redis=redis, live_since=live_since)
            admin.close()
            viewer.close()


def create(settings: object) -> None:
    """Do what ``fstore apply`` does to the stores."""
    from fstore.backends import create_backends

    with create_backends(settings):
        pass


class optional_redis:
    """A Redis server, or None where none is installed."""

    def __enter__(self) -> RunningServer | None:
        self._server = redis_server()
        try:
            return self._server.__enter__()
        except ServerMissing:
            self._server = None
            return None

    def __exit__(self, *exception: object) -> None:
        if self._server is not None:
            self._server.__exit__(*exception)


def write_purchases(directory: Path) -> None:
    """Write 40 users who buy every so many hours, from December 2025 to January 2026."""
    directory.mkdir()
    first, rows = datetime(2025, 12, 1, tzinfo=UTC), []
    for number in range(40):
        for step in range(0, 62 * 24, 5 + number):
            rows.append((f"u{number:02}", first + timedelta(hours=step, minutes=number), float((step + number) % 17)))
    users, times, amounts = zip(*rows, strict=True)
    table = pa.table(
        {"user_id": users, "purchased_at": pa.array(times, pa.timestamp("us", tz="UTC")), "amount": pa.array(amounts)}
    )
    pq.write_table(table, directory / "purchases.parquet")
