"""Orders of some months in a file per day, views over them, and a naive loop that knows the answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fstore.engines.duckdb import DuckDBEngine
from fstore.plan.tile_step import is_tiles
from tests.projects import SmallProject, utc

HEAD = """
    from fstore import Entity, FeatureView, ParquetSource, agg

    user = Entity("user", join_keys={"user_id": "string"})
    orders = ParquetSource("orders", path="data/orders/", event_time="ordered_at")
"""

VIEW = """

    class {name}(FeatureView):
        entity, source, schedule, start = user, orders, "{schedule}", "2026-01-01"
        timezone = "{timezone}"
        orders = agg.count().over({windows})
        amount_sum = agg.sum("amount").over({windows})
        amount_max = agg.max("amount").over({windows})
        last_item = agg.last("item").over({windows})
"""

TYPES = pa.schema([
    ("user_id", pa.string()), ("ordered_at", pa.timestamp("us", tz="UTC")), ("amount", pa.int64()), ("item", pa.string()),
])  # fmt: skip


def view(name: str, *windows: str, schedule: str = "@daily", timezone: str = "UTC") -> str:
    return VIEW.format(name=name, windows=", ".join(f'"{w}"' for w in windows), schedule=schedule, timezone=timezone)


def events_of(day: datetime) -> list[dict[str, object]]:
    """A few orders of a day, by five users, at uneven times."""
    number = (day - utc("2025-01-01")).days
    return [
        {
            "user_id": f"u{(number * 7 + n * 3) % 5}", "ordered_at": day + timedelta(hours=(n * 5 + number) % 24, minutes=n),
            "amount": (number * 31 + n * 17) % 101 - 20, "item": f"i{(number + n) % 4}",
        }
        for n in range(number % 4 + 1)
    ]  # fmt: skip


def write_day(project: SmallProject, day: datetime, rows: Sequence[dict[str, object]] | None = None) -> Path:
    path = project.root / "data" / "orders" / f"{day:%Y-%m-%d}.parquet"
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(events_of(day) if rows is None else rows), schema=TYPES), path)
    return path


def write_days(project: SmallProject, first: str, last: str) -> None:
    day = utc(first)
    while day < utc(last):
        write_day(project, day)
        day += timedelta(days=1)


def blank_rows(project: SmallProject) -> None:
    """Overwrite the rows of every source file but keep its footer, size and time of change: who reads rows will fail."""
    for path in (project.root / "data" / "orders").iterdir():
        status, content = path.stat(), path.read_bytes()
        footer = 8 + int.from_bytes(content[-8:-4], "little")
        path.write_bytes(content[:4] + bytes(len(content) - footer - 4) + content[-footer:])
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def naive(rows: Sequence[dict[str, object]], end: datetime, window: timedelta | None) -> dict[str, tuple[object, ...]]:
    """Count, sum, max and last per user, by looking at every order."""
    found: dict[str, tuple[object, ...]] = {}
    for user in sorted({str(row["user_id"]) for row in rows}):
        mine = [
            row for row in rows
            if row["user_id"] == user and row["ordered_at"] < end and (window is None or row["ordered_at"] >= end - window)  # type: ignore[operator]
        ]  # fmt: skip
        if mine:
            last = max(mine, key=lambda row: (row["ordered_at"], row["item"]))  # type: ignore[arg-type, return-value]
            amounts = [int(str(row["amount"])) for row in mine]
            found[user] = (len(mine), sum(amounts), max(amounts), last["item"])
    return found


def check(project: SmallProject, name: str, rows: Sequence[dict[str, object]], **windows: timedelta | None) -> int:
    """Compare every published row with the naive loop; return how many there are."""
    published = project.published(name)
    for suffix, window in windows.items():
        ends = sorted({row["event_timestamp"] for row in published})  # type: ignore[type-var]
        for end in ends:
            got = {
                str(row["user_id"]): tuple(row[f"{f}_{suffix}"] for f in ("orders", "amount_sum", "amount_max", "last_item"))
                for row in published
                if row["event_timestamp"] == end and row[f"orders_{suffix}"]
            }
            assert got == naive(rows, end, window), (suffix, end)  # type: ignore[arg-type]
    return len(published)


def all_events(first: str = "2025-10-01", last: str = "2026-02-10") -> list[dict[str, object]]:
    days = (utc(last) - utc(first)).days
    return [row for n in range(days) for row in events_of(utc(first) + timedelta(days=n))]


WINDOWS = {"7d": timedelta(days=7), "30d": timedelta(days=30), "90d": timedelta(days=90), "lifetime": None}


def tile_log(project: SmallProject) -> list[tuple[str, datetime, datetime, int]]:
    """Every publication of tiles: data set, range, attempt."""
    return [
        (p.view, p.start, p.end, p.attempt)
        for p in project.backends.registry.ledger.publications(limit=100_000)
        if is_tiles(p.view)
    ]


def fail_at(patched: pytest.MonkeyPatch, write: int) -> None:
    """Make the n-th write of a file raise, after the file was written."""
    left = [write]

    def killing(original: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*args: object, **options: object) -> object:
            result = original(*args, **options)
            if not left[0]:
                raise RuntimeError("killed")
            left[0] -= 1
            return result

        return wrapped

    patched.setattr(DuckDBEngine, "write", killing(DuckDBEngine.write))
    patched.setattr(DuckDBEngine, "write_raw", killing(DuckDBEngine.write_raw))
