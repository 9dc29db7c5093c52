"""Small views, intervals and verdicts for tests of the registry."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from fstore.definitions.location import Location
from fstore.definitions.references import ResolvedFeature
from fstore.definitions.source import ParquetSource
from fstore.interval import Interval, Schedule
from fstore.plan.steps import (
    AggregateStep,
    EventInput,
    Feature,
    HistoryInput,
    Plan,
    PlannedEntity,
    PlannedService,
    SnapshotInput,
    SqlStep,
)
from fstore.registry.records import CheckResult, Published, Verdict
from fstore.registry.registry import Registry
from fstore.types import Column, DataFile

PROJECT = "shop"
DAILY = Schedule("0 0 * * *")
KEYS = (Column(name="user_id", type="string"),)
USER = PlannedEntity(name="user", keys=KEYS, description="A shopper.")
PURCHASES = ParquetSource("purchases", path="data/purchases/", event_time="bought_at", location=Location("a.py", 3))


def day(number: int, hours: float = 0) -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number, hours=hours)


def days(first: int, last: int) -> list[Interval]:
    """The daily intervals from one day up to, and without, another."""
    return [Interval(day(number), day(number + 1)) for number in range(first, last)]


def hours(count: int) -> list[Interval]:
    return [Interval(day(0, n), day(0, n + 1)) for n in range(count)]


def aggregate(view: str = "purchases_of_user", **changes: object) -> AggregateStep:
    step = AggregateStep(
        project=PROJECT, view=view, entity="user", keys=KEYS, kind="snapshot", schedule=DAILY, start=day(0), end=None,
        features=(Feature(name="count_7d", type="int64", fingerprint="f-count", empty=0, description="Purchases."),),
        lag=timedelta(hours=2), ttl=timedelta(days=3), online=True, pipeline="shop",
        inputs=(EventInput(alias="events", source=PURCHASES, window=timedelta(days=7)),), audits=(), lineage=(),
        fingerprint="fp-1", module="feature_defs/shop.py", line=10, description="Buying behaviour.", owner="growth",
        tags={"domain": "shop"}, sql="SELECT 1",
    )  # fmt: skip
    return msgspec.structs.replace(step, **changes)


def dependent(view: str = "profile", *, upstream: str = "purchases_of_user", history: bool = False,
              schedule: Schedule = DAILY, upstream_schedule: Schedule = DAILY) -> SqlStep:  # fmt: skip
    kind = HistoryInput if history else SnapshotInput
    item = kind(
        alias="p", view=upstream, keys=KEYS, features=(Column(name="count_7d", type="int64"),), start=day(0), end=None,
        schedule=upstream_schedule, pipeline="shop",
    )  # fmt: skip
    return SqlStep(
        project=PROJECT, view=view, entity="user", keys=KEYS, kind="snapshot", schedule=schedule, start=day(0), end=None,
        features=(Feature(name="regular", type="bool", fingerprint="f-regular", pii=True),), lag=timedelta(0), ttl=None,
        online=False, pipeline="shop", inputs=(item,), audits=(), lineage=(), fingerprint="fp-2",
        module="feature_defs/shop.py", line=30, sql="SELECT 2",
    )  # fmt: skip


def planned_service(name: str, *features: str, owner: str = "") -> PlannedService:
    pairs = (feature.split(":") for feature in features)
    references = tuple(ResolvedFeature(view=view, feature=feature) for view, feature in pairs)
    return PlannedService(name=name, references=references, owner=owner)


def example_plan(**changes: object) -> Plan:
    service = planned_service("churn", "profile:regular", "purchases_of_user:count_7d", owner="ml")
    plan = Plan(project=PROJECT, entities=(USER,), steps=(aggregate(), dependent()), services=(service,))
    return msgspec.structs.replace(plan, **changes)


def data_file(path: str = "a.parquet", first: int = 0, last: int = 1) -> DataFile:
    return DataFile(path=path, rows=3, bytes=40, start=day(first), end=day(last), schema_id="s1")


def verdict(interval: Interval, *, passed: bool = True, rows: int = 3) -> Verdict:
    results = (
        CheckResult(label="not_null(count_7d)", kind="not_null", severity="warn", columns=("count_7d",)),
        CheckResult(
            label="in_range(count_7d, 0, 9)", kind="in_range", severity="error", columns=("count_7d",),
            violations=0 if passed else 2, samples=() if passed else ("u1", "u2"),
            message="" if passed else "2 rows out of range", sql="" if passed else "SELECT * FROM rows WHERE count_7d > 9",
        ),
    )  # fmt: skip
    return Verdict(interval=interval, passed=passed, rows=rows, results=results)


def validated(registry: Registry, step: AggregateStep | SqlStep, intervals: Sequence[Interval], run_id: str,
              *, blocked: Sequence[Interval] = (), pins: Sequence[object] = ()) -> int:  # fmt: skip
    """Begin an attempt, record a file and verdicts; return its id."""
    attempt = registry.ledger.begin(step, intervals, run_id, pins=pins)  # type: ignore[arg-type]
    registry.ledger.record_files(attempt.id, [data_file(f"{attempt.id}.parquet")])
    registry.ledger.record_verdicts(attempt.id, [verdict(i, passed=i not in blocked) for i in intervals])
    return attempt.id


def published(registry: Registry, step: AggregateStep | SqlStep, intervals: Sequence[Interval], run_id: str,
              *, blocked: Sequence[Interval] = (), pins: Sequence[object] = ()) -> Published:  # fmt: skip
    return registry.ledger.publish(validated(registry, step, intervals, run_id, blocked=blocked, pins=pins))


def seen(registry: Registry, view: str = "purchases_of_user", **scope: object) -> list[tuple[int, int, int]]:
    """The heads of a daily view as (first day, last day, attempt)."""
    heads = registry.ledger.heads(view, **scope)  # type: ignore[arg-type]
    return [((h.start - day(0)).days, (h.end - day(0)).days, h.attempt) for h in heads]
