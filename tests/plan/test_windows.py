"""Windowed aggregates against a naive loop over events, on random data around the edges of windows and intervals."""

import math
from datetime import UTC, datetime, timedelta

import duckdb
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fstore.interval import MICROSECOND, Schedule, parse_duration
from fstore.plan.windows import WindowFeature, compile_windows

EVENTS = pa.schema([
    ("user", pa.string()), ("shop", pa.int64()), ("at", pa.timestamp("us", tz="UTC")),
    ("i", pa.int64()), ("d", pa.decimal128(12, 2)), ("f", pa.float64()), ("s", pa.string()), ("b", pa.bool_()),
])  # fmt: skip
INTERVALS = pa.schema([(name, pa.timestamp("us", tz="UTC")) for name in ("interval_start", "interval_end")])
TYPES = {"i": "int64", "d": "decimal(38,2)", "f": "float64", "s": "string", "b": "bool"}
NAN = math.nan


def naive(events, intervals, features):
    """What the specification says, event by event: {(end, user, shop): {feature: value}}."""
    rows = {}
    longest = max(feature.window for feature in features)
    for end in (interval.end for interval in intervals):
        for key in {(e["user"], e["shop"]) for e in events if end - longest <= e["at"] < end}:
            mine = [e for e in events if (e["user"], e["shop"]) == key]
            rows[(end, *key)] = {x.name: value([e for e in mine if end - x.window <= e["at"] < end], x) for x in features}
    return rows


def rank(number):
    return (number != number, number)


def value(events, feature):
    if feature.argument is None:
        return len(events)
    known = [(e["at"], e[feature.argument]) for e in events if e[feature.argument] is not None]
    values = [v for _, v in known]
    match feature.function if values or feature.function == "count" else "nothing":
        case "count":
            return len(values)
        case "sum":
            return sum(values)
        case "avg":
            return float(sum(values)) / len(values)
        case "min":
            return min(values, key=rank)
        case "max":
            return max(values, key=rank)
        case "last":
            return max(known, key=lambda pair: (pair[0], rank(pair[1])))[1]
    return feature.fill


def compute(sql, events, intervals):
    """Run a query over events and intervals: {(end, user, shop): {feature: value}}."""
    with duckdb.connect(config={"threads": 2}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("events", pa.Table.from_pylist(events, schema=EVENTS))
        spans = [{"interval_start": interval.start, "interval_end": interval.end} for interval in intervals]
        connection.register("intervals", pa.Table.from_pylist(spans, schema=INTERVALS))
        rows = connection.sql(sql).to_arrow_table().to_pylist()
    keys = [(row.pop("event_timestamp").astimezone(UTC), row.pop("user"), row.pop("shop")) for row in rows]
    assert len(keys) == len(set(keys))
    return dict(zip(keys, rows, strict=True))


def same(one, other):
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-12) or (math.isnan(one) and math.isnan(other))
    return type(one) is type(other) and one == other


def check_equal(found, expected):
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        for name, wanted in row.items():
            assert same(found[key][name], wanted), (key, name, found[key][name], wanted)


def feature(function, argument, window, **more):
    result = "int64" if function == "count" else "float64" if function == "avg" else TYPES[argument or "i"]
    name = f"{function}_{argument or 'all'}_{window}"
    return WindowFeature(
        name=name, function=function, argument=argument, window=parse_duration(window), type=result, **more
    )  # fmt: skip


def queries(features, expressions=(), columns=None):
    names = [item.name for item in (*features, *expressions)]
    return compile_windows(
        keys=["user", "shop"], event_time="at", features=features, expressions=expressions, columns=columns or names
    )  # fmt: skip


# -- the property -----------------------------------------------------------------------------------------------------

GRIDS = [
    (Schedule("0 0 * * *"), datetime(2026, 1, 5, tzinfo=UTC), timedelta(days=12)),
    (Schedule("0 0 * * *", "Europe/Berlin"), datetime(2026, 3, 25, tzinfo=UTC), timedelta(days=8)),
    (Schedule("0 0 * * *", "Europe/Berlin"), datetime(2026, 10, 21, tzinfo=UTC), timedelta(days=8)),
    (Schedule("0 0 * * *", "America/Sao_Paulo"), datetime(2018, 10, 31, tzinfo=UTC), timedelta(days=8)),
    (Schedule("0 * * * *"), datetime(2026, 1, 5, tzinfo=UTC), timedelta(hours=30)),
    (Schedule("30 6 * * 1,3"), datetime(2026, 1, 5, tzinfo=UTC), timedelta(days=25)),
    (Schedule("0 0 1 * *"), datetime(2026, 1, 1, tzinfo=UTC), timedelta(days=130)),
]  # fmt: skip
WINDOWS = ["90m", "1h", "6h", "1d", "36h", "2d", "7d", "30d"]
AGGREGATES = [("count", None), *(("count", name) for name in "ifs"), *(("sum", name) for name in "idf"),
              *(("avg", name) for name in "idf"), *((f, name) for f in ("min", "max", "last") for name in "idfsb")]  # fmt: skip


@st.composite
def cases(draw, *, single=False):
    """Intervals of a real schedule, with gaps; features; and events that love the edges of windows."""
    schedule, start, length = draw(st.sampled_from(GRIDS))
    grid = schedule.intervals(start, start + length)
    count = 1 if single else draw(st.integers(1, len(grid)))
    intervals = sorted(draw(st.lists(st.sampled_from(grid), min_size=1, max_size=count, unique=True)))
    windows = draw(st.lists(st.sampled_from(WINDOWS), min_size=1, max_size=3, unique=True))
    functions = draw(st.lists(st.sampled_from(AGGREGATES), min_size=1, max_size=5, unique=True))
    features = [feature(function, argument, window) for function, argument in functions for window in windows]
    first = intervals[0].end - max(item.window for item in features)
    edges = sorted({i.end - w for i in intervals for w in (timedelta(), *(item.window for item in features))})
    span = (intervals[-1].end - first) // MICROSECOND
    near = st.builds(lambda edge, by: edge + by * MICROSECOND, st.sampled_from(edges), st.sampled_from([-1, 0, 1]))
    times = st.one_of(near, st.builds(lambda by: first + by * MICROSECOND, st.integers(0, span - 1)))
    inside = times.filter(lambda at: first <= at < intervals[-1].end)
    events = draw(st.lists(rows(inside), max_size=40))
    return events, intervals, features


def rows(times):
    quarters = st.integers(-4_000_000, 4_000_000).map(lambda quarter: quarter / 4)
    return st.fixed_dictionaries({
        "user": st.sampled_from(["a", "b", "ü"]),
        "shop": st.sampled_from([-1, 7]),
        "at": times,
        "i": st.none() | st.integers(-3, 3) | st.integers(-(2**56), 2**56),
        "d": st.none() | st.decimals(-(10**9), 10**9, places=2),
        "f": st.none() | st.just(NAN) | quarters | st.sampled_from([math.inf, 0.0]),
        "s": st.none() | st.text("ab\U0001f600z", max_size=3),
        "b": st.none() | st.booleans(),
    })  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases())
def test_a_range_equals_the_naive_loop(case):
    events, intervals, features = case
    check_equal(compute(queries(features).range, events, intervals), naive(events, intervals, features))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases(single=True))
def test_a_single_interval_equals_the_naive_loop_and_the_range(case):
    events, intervals, features = case
    expected = naive(events, intervals, features)
    compiled = queries(features)
    check_equal(compute(compiled.single, events, intervals), expected)
    check_equal(compute(compiled.range, events, intervals), expected)


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases())
def test_a_range_equals_its_intervals_one_by_one(case):
    events, intervals, features = case
    compiled = queries(features)
    one_by_one = {}
    for interval in intervals:
        one_by_one |= compute(compiled.single, events, [interval])
    check_equal(compute(compiled.range, events, intervals), one_by_one)
