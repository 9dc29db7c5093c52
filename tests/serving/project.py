"""A project with a view of every type of value and key, whose rows are published by hand and brought online."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

from fstore.backends import Backends
from fstore.interval import Interval
from fstore.plan.steps import Plan, PlannedEntity, PlannedOnDemand, PlannedService, Step, request_column
from fstore.settings import Settings
from fstore.types import Column
from tests.retrieval.publishing import DAY, T0, Publisher, Rows, day, features, make_step, references

TYPED = make_step("typed", features=features(
    ("small", "int8", 7), ("whole", "int64", -5), ("unsigned", "uint64", 0), ("ratio", "float32", 0.1),
    ("score", "float64", None), ("exact", "decimal(38,10)", None), ("text", "string", "none"), ("raw", "binary", None),
    ("born", "date", None), ("at", "timestamp", None), ("yes", "bool", False), ("vector", "float64[2]", None),
    ("texts", "list<string>", None), ("wholes", "list<int64>", None), ("scores", "list<float64>", None),
    ("times", "list<timestamp>", None), ("prices", "map<string,decimal(20,4)>", None), ("counts", "map<string,int64>", None),
))  # fmt: skip
BY_DAY = make_step("by_day", entity="day", keys=(Column(name="on", type="date"),), features=features(("sales", "int64", 0)))
BY_NUMBER = make_step(
    "by_number", entity="shop", keys=(Column(name="shop", type="int64"), Column(name="open", type="bool")),
    features=features(("visits", "int32", None)),
)  # fmt: skip
OLD = make_step("old", ttl=2 * DAY, features=features(("stale", "int64", 1)))
EVENTS = make_step("events", kind="event", features=features(("last", "float64", None)))
OFFLINE = make_step("offline", online=False, features=features(("cold", "int64", 0)))
UNFILLED = make_step("unfilled", features=features(("nothing", "int64", 0)))
LAT = Column(name="lat", type="float64")
SINCE = Column(name="since", type="timestamp")
ON_DEMAND = (
    PlannedOnDemand(
        name="shifted", type="float64", request=(LAT,), features={"whole": references("typed:whole")[0]}, fingerprint="fp-1",
        module="feature_defs/p.py", line=1, sql=f'"{request_column(LAT)}" + "typed:whole"',
    ),
    PlannedOnDemand(
        name="year", type="int64", request=(SINCE,), features={}, fingerprint="fp-2", module="feature_defs/p.py", line=2,
        sql=f'year("{request_column(SINCE)}")',
    ),
)  # fmt: skip
SERVICES = (
    PlannedService(name="scoring", references=references("typed:whole", "typed:score", "old:stale"), owner="ml",
                   description="Scores users.", tags={"tier": "1"}),
)  # fmt: skip
STEPS: tuple[Step, ...] = (TYPED, BY_DAY, BY_NUMBER, OLD, EVENTS, OFFLINE, UNFILLED)

INF, NAN = float("inf"), float("nan")
EAST = timezone(timedelta(hours=5, minutes=30))
TYPED_ROWS: tuple[dict[str, object], ...] = (
    {"user_id": "edges", "small": -128, "whole": -(2**63), "unsigned": 2**64 - 1, "ratio": 0.1, "score": -0.0,
     "exact": Decimal("-1234567890123456789012345678.0123456789"), "text": 'quote " \\ \u0000 \u2028 é 🦊', "raw": bytes(range(256)),
     "born": date(1, 1, 1), "at": datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=T0.tzinfo), "yes": True,
     "vector": [5e-324, 1.7976931348623157e308], "texts": ["", None, "a"], "wholes": [2**53, -(2**53) - 1, 2**63 - 1, None],
     "scores": [NAN, INF, -INF, -0.0, 0.1 + 0.2, None], "times": [datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=EAST), None],
     "prices": [("a", Decimal("0.0001")), ("é", Decimal("9999999999999999.9999")), ("z", None)],
     "counts": [("big", 2**62), ("null", None)]},
    {"user_id": "more", "small": 127, "whole": 2**63 - 1, "unsigned": 2**53 + 1, "ratio": -INF, "score": NAN,
     "exact": Decimal("0E-10"), "text": "", "raw": b"", "born": date(9999, 12, 31),
     "at": datetime(1, 1, 1, tzinfo=T0.tzinfo), "yes": False, "vector": [INF, NAN], "texts": [], "wholes": [],
     "scores": [], "times": [], "prices": [], "counts": []},
    {"user_id": "safe", "small": 0, "whole": 2**53 - 1, "unsigned": 3, "ratio": 3.4028234663852886e38, "score": 1 / 3,
     "exact": Decimal("12.3000000000"), "text": "plain", "raw": b"\x00", "born": date(2026, 2, 28), "at": T0, "yes": True,
     "vector": [1.0, 2.0], "texts": ["x"], "wholes": [1, 2], "scores": [1.5], "times": [T0], "prices": [("b", Decimal("1.5"))],
     "counts": [("a", 1)]},
    {"user_id": "nulls"},
)  # fmt: skip


@dataclass(frozen=True)
class TypedProject:
    """The project as it stands: its settings, and what tests publish through."""

    settings: Settings
    publisher: Publisher


def settings_of(root: Path, online_url: str, **changes: object) -> Settings:
    """Return settings with every other store on local disk."""
    return Settings(
        root=str(root), project="shop", registry_url=f"sqlite:///{root}/registry.db", offline_url=f"file:{root}/offline",
        online_url=online_url, spill_dir=str(root / "spill"), cache_dir=str(root / "cache"), threads=1, memory_limit="1GB",
        **changes,  # type: ignore[arg-type]
    )  # fmt: skip


def typed_project(backends: Backends) -> TypedProject:
    """Register the views and publish two days of them."""
    publisher = Publisher(backends)
    entities = {step.entity: PlannedEntity(name=step.entity, keys=step.keys) for step in STEPS}
    backends.registry.register(
        Plan(project="shop", entities=tuple(entities.values()), steps=STEPS, services=SERVICES, on_demand=ON_DEMAND)
    )
    fill(publisher)
    return TypedProject(backends.settings, publisher)


def fill(publisher: Publisher) -> None:
    """Publish the rows of all views but one, and bring the newest online."""
    users = [{"user_id": row["user_id"], "whole": place} for place, row in enumerate(TYPED_ROWS)]
    published: list[tuple[Step, dict[Interval, Rows]]] = [
        (TYPED, {day(0): users, day(1): TYPED_ROWS}),
        (BY_DAY, {day(1): [{"on": date(2026, 1, 1), "sales": 5}, {"on": date(2026, 1, 2), "sales": 6}]}),
        (BY_NUMBER, {day(1): [{"shop": 2**53 + 1, "open": True, "visits": 8}, {"shop": -1, "open": False, "visits": 9}]}),
        (OLD, {day(1): [{"user_id": "safe", "stale": 2}]}),
        (EVENTS, {day(1): [{"user_id": "safe", "last": 0.5, "event_timestamp": T0 + DAY + timedelta(microseconds=1)}]}),
        (OFFLINE, {day(1): [{"user_id": "safe", "cold": 3}]}),
    ]
    for step, intervals in published:
        sequence = publisher.publish(step, intervals)
        assert sequence is not None
        if step.online:
            newest = max(intervals)
            publisher.bring_online(step, {newest: intervals[newest]}, sequence)
