"""Random views and events: keys of all kinds, ties of time, nulls, NaN, edges of windows, zones, odd schedules.

Everything is drawn from integers, one per aggregate and one per event, so that Hypothesis can leave any of them out when it
looks for the smallest failure. Events stand where they hurt: at the edges of windows and intervals, and a microsecond
beside them.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from fstore.interval import Interval, Schedule
from tests.oracle.language import (
    ARGUMENTS,
    CATEGORIES,
    CONDITIONS,
    FLOAT,
    NUMBER,
    ORDERS,
    VALUE,
    Aggregate,
    Composite,
    Scalar,
    ViewCase,
)

Event = dict[str, object]

MICRO = timedelta(microseconds=1)
NAN = math.nan

MORE = os.environ.get("FSTORE_ORACLE_EXAMPLES")
"""How many times as many examples as by default; they are then other ones in every run."""


def examples(count: int) -> settings:
    """The settings of a property: the same few examples in every run, or many new ones where the environment says so.

    Only then is the smallest failure looked for, which takes minutes.
    """
    phases = [Phase.explicit, Phase.generate, *([Phase.shrink] if MORE else [])]
    return settings(
        max_examples=count * int(MORE or 1), derandomize=MORE is None, deadline=None, database=None, print_blob=True,
        suppress_health_check=list(HealthCheck), report_multiple_bugs=False, phases=phases,
    )  # fmt: skip


def seeds(count: int) -> list[int]:
    """Seeds for tests that are too slow for Hypothesis: the same in every run, or new ones."""
    if MORE is None:
        return list(range(count))
    return [random.randrange(10**6) for _ in range(count * int(MORE))]


@dataclass(frozen=True)
class Grid:
    """A schedule, when the view starts, and windows that suit it."""

    cron: str
    timezone: str
    start: datetime
    days: int


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


GRIDS = (
    Grid("0 0 * * *", "UTC", at("2026-01-05"), 12),
    Grid("0 * * * *", "UTC", at("2026-01-05"), 2),
    Grid("0 0 * * *", "Europe/Berlin", at("2026-03-25"), 8),
    Grid("0 0 * * *", "Europe/Berlin", at("2026-10-21"), 8),
    Grid("0 0 * * *", "America/New_York", at("2026-03-05"), 7),
    Grid("0 0 * * *", "America/New_York", at("2026-10-29"), 7),
    Grid("0 0 * * *", "Australia/Lord_Howe", at("2026-04-02"), 7),
    Grid("0 * * * *", "Australia/Lord_Howe", at("2026-10-03"), 2),
    Grid("30 2 * * *", "Europe/Berlin", at("2026-03-26"), 7),
    Grid("0 0 * * *", "Africa/Monrovia", at("1972-01-03"), 8),
    Grid("0 0 * * *", "UTC", at("1969-12-27"), 9),
    Grid("30 6 * * 1,3", "UTC", at("2026-01-05"), 25),
    Grid("0 0 1 * *", "UTC", at("2026-01-01"), 150),
    Grid("0 0 L * *", "America/New_York", at("2026-01-15"), 130),
    Grid("0 0 1 1 *", "UTC", at("2018-01-01"), 366 * 6),
    Grid("*/7 * * * *", "UTC", at("2026-02-28T23:00"), 1),
    Grid("13,47 */5 * * *", "Europe/Berlin", at("2026-03-28"), 3),
)
WINDOWS = ("45s", "15m", "90m", "1h", "6h", "1d", "36h", "2d", "7d", "30d", "90d", "400d", "2y", "lifetime")
OFFSETS = ("15m", "1h", "36h", "7d", "30d")
HALF_LIVES = ("90s", "1h", "1d", "30d")

KEYS = (("user",), ("user", "shop"), ("shop",), ("flag",), ("day", "small"), ("user", "day", "flag"), ("position", "k0"))
"""Join keys; the last ones are called like columns of the compiler's own."""

COLUMNS = {
    "user": pa.string(), "shop": pa.int64(), "day": pa.date32(), "flag": pa.bool_(), "small": pa.int8(),
    "k0": pa.int64(), "position": pa.string(),
    "at": pa.timestamp("us", tz="UTC"),
    "i": pa.int64(), "j": pa.int32(), "n": pa.int64(), "big": pa.int64(), "u": pa.uint64(), "d": pa.decimal128(12, 2),
    "f": pa.float64(), "g": pa.float64(), "h": pa.float64(), "w": pa.float32(),
    "s": pa.string(), "c": pa.string(), "b": pa.bool_(), "t": pa.date32(), "z": pa.timestamp("us", tz="UTC"),
}  # fmt: skip

ANY, NUMBERS = (NUMBER, FLOAT, VALUE), (NUMBER, FLOAT)
FUNCTIONS: dict[str, tuple[str, ...]] = {
    "count": ANY, "sum": NUMBERS, "avg": NUMBERS, "min": ANY, "max": ANY, "stddev": NUMBERS, "variance": NUMBERS,
    "skew": NUMBERS, "first": ANY, "last": ANY, "first_k": ANY, "last_k": ANY, "histogram": NUMBERS, "decayed_sum": NUMBERS,
    "top_k": ANY, "distinct": ANY, "count_distinct": ANY, "approx_count_distinct": ANY, "approx_percentile": NUMBERS,
}  # fmt: skip
"""The functions drawn from, and the kinds of argument that each takes."""


# -- events -----------------------------------------------------------------------------------------------------------


def event(seed: int, times: Sequence[datetime]) -> Event:
    """An event at one of the times."""
    r = random.Random(seed)

    def some(*values: object) -> object:
        return None if r.random() < 0.2 else r.choice(values)

    return {
        "user": r.choice(["a", "b", "ü", "", "a", "b", None]),
        "shop": r.choice([-1, 7, 2**62, -1, 7, None]),
        "day": r.choice([date(2026, 1, 1), date(1960, 5, 5)]),
        "flag": r.choice([True, False, False, None]),
        "small": r.choice([-128, 127]),
        "k0": r.choice([0, 1]),
        "position": r.choice(["k1", "k0"]),
        "at": None if r.random() < 0.03 else r.choice(times),
        "i": some(r.randint(-3, 3), r.randint(-(2**56), 2**56)),
        "j": some(r.randint(-4, 4)),
        "n": some(10**9 + r.randint(-3, 3)),
        "big": some(2**63 - 1, -(2**63), 2**53 + 1, 2**53, 0),
        "u": some(2**64 - 1, 2**63, 0, 7),
        "d": some(Decimal(r.randint(-(10**9), 10**9)) / 100, Decimal(r.randint(-5, 5)) / 10),
        "f": some(r.randint(-(2**32), 2**32) / 1024, r.randint(-2, 2) / 4, NAN, math.inf, -math.inf, 0.0),
        "g": some(r.uniform(1e-3, 1.0), r.uniform(1, 1e6)),
        "h": some(1e6 + r.randint(-64, 64) / 64),
        "w": some(r.randint(-200, 200) / 8, 0.5, 0.5),
        "s": some("a", "b", "", "Z", "ab", "\U0001f600z", "\uffee", "z" * 20),
        "c": some("x", "y", "X", "", "ä", "zz"),
        "b": some(True, False),
        "t": some(date(2026, 1, r.randint(1, 3)), date(1969, 12, 31)),
        "z": some(at("2026-01-01") + r.randint(0, 3) * MICRO, at("1950-01-01")),
    }


def table(events: Sequence[Event]) -> pa.Table:
    """The events as a source has them."""
    return pa.Table.from_pylist(list(events), schema=pa.schema(list(COLUMNS.items())))


# -- views ------------------------------------------------------------------------------------------------------------


def aggregate(seed: int, name: str, functions: Sequence[str]) -> Aggregate:
    """An aggregate with parameters that its function takes."""
    r = random.Random(seed)
    function = r.choice(functions)
    fitting = [item for item in ARGUMENTS if item.kind in FUNCTIONS[function]]
    argument: Scalar | None = r.choice(fitting)
    if function == "count" and r.random() < 0.5:
        argument = None
    item = Aggregate(
        name=name,
        function=function,
        argument=argument,
        windows=tuple(r.sample(WINDOWS, r.randint(1, 3))),
        offset_text=r.choice(OFFSETS) if r.random() < 0.25 else None,
        where=r.choice(CONDITIONS) if r.random() < 0.3 else None,
    )
    match function:
        case "first" | "last" | "first_k" | "last_k":
            order = r.choice(ORDERS) if r.random() < 0.5 else None
            item = replace(item, order_by=order, limit=r.randint(1, 4) if function.endswith("_k") else None)
        case "top_k":
            item = replace(item, limit=r.randint(1, 4))
        case "distinct":
            item = replace(item, limit=r.choice([None, 1, 2, 3]))
        case "histogram":
            item = replace(item, edges=r.choice([(0.0,), (-1.0, 0.0, 0.5), (0.25, 10.0, 1e9, 2.0**56)]))
        case "approx_percentile":
            item = replace(item, percentile=r.choice([0.0, 0.01, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0]))
        case "decayed_sum":
            item = replace(item, half_life_text=r.choice(HALF_LIVES))
    if function in MAPPABLE and r.random() < 0.25:
        return replace(item, by=r.choice(CATEGORIES), limit=r.choice([None, 1, 2, 3]))
    if r.random() < 0.2 and argument is not None and argument.kind in (NUMBER, FLOAT) and function in FILLABLE:
        floats = argument.kind == FLOAT or function not in ("sum", "min", "max", "last", "first")
        whole = argument.sql in ("i", "j", "n", "i * 2 + 1", "j - shop")
        return replace(item, fill=-1.5 if floats else -1 if whole else None)
    return item


MAPPABLE = ("count", "sum", "avg", "min", "max", "first", "last")
FILLABLE = ("sum", "avg", "min", "max", "last", "first", "stddev", "variance", "skew", "decayed_sum")


def composites(r: random.Random, aggregates: Sequence[Aggregate]) -> list[Composite]:
    """Expressions over features: a ratio of counts, and whether a feature is null."""
    names = [name for item in aggregates for name in item.features().values()]
    counts = [name for item in aggregates if item.function == "count" and not item.by for name in item.features().values()]
    made = []
    if counts:
        one, other = r.choice(counts), r.choice(counts)
        made.append(
            Composite("ratio", f"{one} / nullif({other}, 0)", lambda row: row[one] / row[other] if row[other] else None)
        )
    some = r.choice(names)
    made.append(Composite("lacks", f"{some} IS NULL", lambda row: row[some] is None))
    return made


@st.composite
def views(draw: st.DrawFn, name: str, functions: Sequence[str] | None = None, most: int = 8) -> tuple[ViewCase, Grid]:
    """A view of some aggregates."""
    grid = draw(st.sampled_from(GRIDS))
    keys = draw(st.sampled_from(KEYS))
    seeds = draw(st.lists(st.integers(0, 2**32), min_size=1, max_size=most))
    chosen = tuple(functions or FUNCTIONS)
    aggregates = tuple(aggregate(seed, f"f{place}", chosen) for place, seed in enumerate(seeds))
    more = composites(random.Random(draw(st.integers(0, 99))), aggregates) if draw(st.booleans()) else []
    start = grid.start.isoformat()
    return ViewCase(name, keys, grid.cron, grid.timezone, start, aggregates, tuple(more)), grid


@dataclass(frozen=True)
class Case:
    """A view, intervals of it, and events."""

    view: ViewCase
    grid: Grid
    intervals: tuple[Interval, ...]
    events: tuple[Event, ...]

    @property
    def ends(self) -> list[datetime]:
        return [interval.end for interval in self.intervals]


@st.composite
def cases(draw: st.DrawFn, name: str, functions: Sequence[str] | None = None, most: int = 8) -> Case:
    """A view, some of its intervals (with gaps), and events around the edges of its windows."""
    view, grid = draw(views(name, functions, most))
    every = Schedule(grid.cron, grid.timezone).intervals(grid.start, grid.start + timedelta(days=grid.days))
    first = draw(st.integers(0, len(every) - 1))
    count = draw(st.integers(1, min(9, len(every) - first)))
    intervals = every[first : first + count]
    if draw(st.booleans()):
        gaps = draw(st.sets(st.sampled_from(intervals), max_size=len(intervals) - 1)) if len(intervals) > 1 else set()
        intervals = [interval for interval in intervals if interval not in gaps]
    times = instants(random.Random(draw(st.integers(0, 2**32))), view, intervals)
    seeds = draw(st.lists(st.integers(0, 2**32), max_size=60))
    return Case(view, grid, tuple(intervals), tuple(event(seed, times) for seed in seeds))


def instants(r: random.Random, view: ViewCase, intervals: Sequence[Interval]) -> list[datetime]:
    """Times at and beside the edges of windows, some more, and few enough that events tie."""
    edges = {interval.end for interval in intervals} | {interval.start for interval in intervals}
    for item in view.aggregates:
        shift = item.offset or timedelta()
        for window in item.features():
            edges |= {interval.end - shift - (window or timedelta(days=3000)) for interval in intervals}
    span = int((max(edges) - min(edges)).total_seconds())
    anywhere = [min(edges) + timedelta(seconds=r.randint(-90_000, span + 90_000)) for _ in range(6)]
    recent = [interval.end - timedelta(seconds=r.randint(1, 200_000)) for interval in intervals]
    near = [edge + by * MICRO for edge in edges for by in (-1, 0, 1)]
    return r.sample(near, min(len(near), 10)) + anywhere + r.sample(recent, min(len(recent), 4))
