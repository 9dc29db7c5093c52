from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from tests.projects import SmallProject, utc

MODULE = """
    from fstore import CsvSource, Entity, FeatureView, ParquetSource, agg, check, expr, feature, transform

    user = Entity("user", join_keys={"user_id": "string"})
    orders = ParquetSource("orders", path="data/orders.parquet", event_time="ordered_at", lag="1h")
    users = ParquetSource("users", path="data/users.parquet", keys=["user_id"], updated_at="updated_at")


    class UserOrders(FeatureView):
        '''Orders of a user.'''

        entity, source, schedule, start, ttl = user, orders, "@daily", "2026-01-01", "3d"
        orders = agg.count().over("1d", "3d")
        amount_sum = agg.sum("amount").over("3d")
        amount_avg = agg.avg("amount").over("3d").fill(0.0)
        last_item = agg.last("item").over("3d")
        share = expr("orders_1d / orders_3d")
        checks = [check.not_null("orders_1d"), check.in_range("amount_sum_3d", 0, 1000, severity="quarantine")]


    class UserProfile(FeatureView):
        '''Who a user is.'''

        entity, schedule, start = user, "@daily", "2026-01-01"
        inputs = {"u": users, "o": UserOrders}
        sql = '''SELECT u.user_id, u.country, coalesce(o.orders_3d, 0) > 1 AS regular FROM u LEFT JOIN o USING (user_id)'''
        country = feature("string")
        regular = feature("bool")


    def score_risk(p, interval):
        import pyarrow as pa

        return pa.table({"user_id": p["user_id"], "risk": [float(interval.start.day) for _ in range(p.num_rows)]})


    class UserRisk(FeatureView):
        '''A Python view.'''

        entity, schedule = user, "@daily"
        inputs = {"p": UserProfile}
        risk = feature("float64")
        compute = transform(score_risk)


    class OrderEvents(FeatureView):
        '''An event view: every order with its amount doubled.'''

        entity, schedule, start = user, "@daily", "2026-01-01"
        inputs = {"o": orders.window("1d")}
        sql = "SELECT user_id, ordered_at AS event_timestamp, 2 * amount AS doubled FROM o WHERE user_id IS NOT NULL"
        doubled = feature("float64")
"""

ORDERS = [
    {"user_id": "a", "ordered_at": "2026-01-01T10:00", "amount": 10.0, "item": "pen"},
    {"user_id": "a", "ordered_at": "2026-01-02T00:00", "amount": 20.0, "item": "ink"},  # at the very end of an interval
    {"user_id": "b", "ordered_at": "2026-01-02T12:00", "amount": 5.0, "item": "cup"},
    {"user_id": None, "ordered_at": "2026-01-02T12:00", "amount": 7.0, "item": "lid"},
    {"user_id": "b", "ordered_at": "2026-01-04T23:59", "amount": 6.0, "item": "jug"},
]
USERS = [
    {"user_id": "a", "updated_at": "2025-12-01T00:00", "country": "DE"},
    {"user_id": "a", "updated_at": "2026-01-02T08:00", "country": "FR"},
    {"user_id": "b", "updated_at": "2026-01-01T08:00", "country": "IT"},
]
STAMP = pa.timestamp("us", tz="UTC")


def write_orders(project: SmallProject, rows: list[dict[str, object]]) -> None:
    types = {"user_id": pa.string(), "ordered_at": STAMP, "amount": pa.float64(), "item": pa.string()}
    project.write("orders", [row | {"ordered_at": utc(str(row["ordered_at"]))} for row in rows], types)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[SmallProject]:
    """A project with one view of each kind over a few orders."""
    yield from laid_out(SmallProject(tmp_path / "small"))


def laid_out(small: SmallProject) -> Iterator[SmallProject]:
    """Give a project the definitions and rows above, and close it in the end."""
    small.define("shop", MODULE)
    write_orders(small, ORDERS)
    users = [row | {"updated_at": utc(row["updated_at"])} for row in USERS]
    small.write("users", users, {"user_id": pa.string(), "updated_at": STAMP, "country": pa.string()})
    yield small
    small.close()
