"""Windowed aggregates against a naive loop over events, on random data around the edges of windows and intervals."""

import math
import os
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fstore.definitions.source import ParquetSource
from fstore.interval import MICROSECOND, Schedule, parse_duration, to_micros
from fstore.plan import single_interval
from fstore.plan.tile_grid import coarse_length
from fstore.plan.tile_queries import over_events
from fstore.plan.tile_states import TileDraft
from fstore.plan.window_features import WindowExpression, WindowFeature
from fstore.plan.windows import compile_windows

EVENTS = pa.schema([
    ("user", pa.string()), ("shop", pa.int64()), ("at", pa.timestamp("us", tz="UTC")),
    ("i", pa.int64()), ("d", pa.decimal128(12, 2)), ("f", pa.float64()), ("s", pa.string()), ("b", pa.bool_()),
])  # fmt: skip
DATABASE = duckdb.connect(config={"threads": 2})
"""Opening one takes longer than most of the queries."""

INTERVALS = pa.schema([(name, pa.timestamp("us", tz="UTC")) for name in ("interval_start", "interval_end")])
TYPES = {"i": "int64", "d": "decimal(38,2)", "f": "float64", "s": "string", "b": "bool"}
ARGUMENTS = {"i": "int64", "d": "decimal(12,2)", "f": "float64", "s": "string", "b": "bool"}
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
    with DATABASE.cursor() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.begin()
        connection.register("events", pa.Table.from_pylist(events, schema=EVENTS))
        spans = [{"interval_start": interval.start, "interval_end": interval.end} for interval in intervals]
        connection.register("intervals", pa.Table.from_pylist(spans, schema=INTERVALS))
        rows = connection.sql(sql).to_arrow_table().to_pylist()
        connection.rollback()  # what was created for this query alone
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
        name=name, function=function, argument=argument, argument_type=ARGUMENTS.get(argument), type=result,
        window=None if window == "lifetime" else parse_duration(window), columns=tuple(filter(None, [argument])), **more
    )  # fmt: skip


SOURCE = ParquetSource("events", path="events", event_time="at")
QUARTER = timedelta(minutes=15)


def queries(features, expressions=(), columns=None, length=QUARTER):
    """Compile features of the test's events to tiles and queries over them."""
    draft = TileDraft(
        source=SOURCE, keys=("user", "shop"), event_time="at", length=length, coarse=coarse_length(length, None)
    )
    names = [item.name for item in (*features, *expressions)]
    return compile_windows(draft, features, expressions, columns or names)


def from_events(compiled):
    """The queries of a range and of one interval, over events."""
    return over_events(compiled.tiles, compiled.range), over_events(compiled.tiles, compiled.single)


def segmented(features):
    """The query of one interval over events that merges tiles per segment first, however few columns there are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(single_interval, "SEGMENTED", 1)
        return from_events(queries(features))[1]


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
    check_equal(compute(from_events(queries(features))[0], events, intervals), naive(events, intervals, features))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases(single=True))
def test_a_single_interval_equals_the_naive_loop_and_the_range(case):
    events, intervals, features = case
    expected = naive(events, intervals, features)
    compiled = queries(features)
    check_equal(compute(from_events(compiled)[1], events, intervals), expected)
    check_equal(compute(segmented(features), events, intervals), expected)
    check_equal(compute(from_events(compiled)[0], events, intervals), expected)


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases())
def test_a_range_equals_its_intervals_one_by_one(case):
    events, intervals, features = case
    compiled = queries(features)
    one_by_one = {}
    for interval in intervals:
        one_by_one |= compute(from_events(compiled)[1], events, [interval])
    check_equal(compute(from_events(compiled)[0], events, intervals), one_by_one)


# -- particular cases -------------------------------------------------------------------------------------------------

DAY = timedelta(days=1)
T0 = datetime(2026, 1, 10, tzinfo=UTC)


def event(at, **values):
    blank = {"user": "a", "shop": 1, "i": None, "d": None, "f": None, "s": None, "b": None}
    return {**blank, "at": at, **values}


def daily(days, start=T0):
    return Schedule("0 0 * * *").intervals(start, start + days * DAY)


def both(features, events, intervals, **more):
    """The rows of the range, which must be those of the intervals one by one."""
    compiled = queries(features, **more)
    found = compute(from_events(compiled)[0], events, intervals)
    one_by_one = {}
    for interval in intervals:
        one_by_one |= compute(from_events(compiled)[1], events, [interval])
    check_equal(found, one_by_one)
    return {key[0]: row for key, row in sorted(found.items())}


def test_windows_are_half_open_to_the_microsecond():
    events = [event(T0 + by * MICROSECOND) for by in (-1, 0, 1)]
    found = both([feature("count", None, "1d")], events, daily(3, T0 - DAY))
    assert found == {T0: {"count_all_1d": 1}, T0 + DAY: {"count_all_1d": 2}}


def test_a_key_without_an_event_in_the_longest_window_has_no_row():
    features = [feature("count", None, "1d"), feature("sum", "i", "2d")]
    found = both(features, [event(T0, i=5), event(T0 + 6 * DAY, i=7)], daily(9, T0 - DAY))
    assert found == {
        T0 + DAY: {"count_all_1d": 1, "sum_i_2d": 5},
        T0 + 2 * DAY: {"count_all_1d": 0, "sum_i_2d": 5},
        T0 + 7 * DAY: {"count_all_1d": 1, "sum_i_2d": 7},
        T0 + 8 * DAY: {"count_all_1d": 0, "sum_i_2d": 7},
    }


def test_no_events_and_no_intervals_give_no_rows():
    compiled = queries([feature("count", None, "7d"), feature("last", "s", "1d")])
    for query in from_events(compiled):
        assert compute(query, [], daily(3)) == {}
        assert compute(query, [event(T0)], []) == {}


def test_nan_is_a_value_and_the_greatest_number():
    functions = ("count", "sum", "avg", "min", "max", "last")
    features = [feature(function, "f", window) for function in functions for window in ("1d", "2d")]
    events = [event(T0, f=NAN), event(T0 + DAY, f=2.0), event(T0 + DAY, f=None), event(T0 + 2 * DAY, f=NAN)]
    found = both(features, events, daily(3))
    rows = {end: [row[f"{function}_f_{w}"] for function in functions for w in ("1d", "2d")] for end, row in found.items()}
    assert repr(rows) == repr({
        T0 + DAY: [1, 1, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN],
        T0 + 2 * DAY: [1, 2, 2.0, NAN, 2.0, NAN, 2.0, 2.0, 2.0, NAN, 2.0, 2.0],
        T0 + 3 * DAY: [1, 2, NAN, NAN, NAN, NAN, NAN, 2.0, NAN, NAN, NAN, NAN],
    })  # fmt: skip


def test_float_sums_do_not_remember_what_has_left_the_window():
    events = [event(T0, f=1e17), *(event(T0 + day * DAY, f=0.1) for day in range(1, 5)), event(T0 + DAY, f=math.inf)]
    found = both([feature("sum", "f", "2d"), feature("avg", "f", "2d")], events, daily(5))
    assert found[T0 + 5 * DAY] == {"sum_f_2d": 0.2, "avg_f_2d": 0.1}


def test_integer_sums_are_exact_where_floats_are_not():
    events = [event(T0 + hour * timedelta(hours=1), i=2**53 + 1) for hour in range(3)]
    found = both([feature("sum", "i", "7d"), feature("avg", "i", "7d")], events, daily(2))
    assert found[T0 + 2 * DAY] == {"sum_i_7d": 3 * (2**53 + 1), "avg_i_7d": float(3 * (2**53 + 1)) / 3}


def test_an_integer_sum_that_does_not_fit_is_an_error():
    events = [event(T0, i=2**63 - 1), event(T0 + timedelta(hours=1), i=1)]
    compiled = queries([feature("sum", "i", "7d")])
    for query, intervals in zip(from_events(compiled), (daily(2), daily(1)), strict=True):
        with pytest.raises(
            duckdb.ConversionException, match="Failed to cast decimal value 9223372036854775808 to type INT64"
        ):
            compute(query, events, intervals)


def test_decimal_sums_are_exact():
    events = [event(T0 + hour * timedelta(hours=1), d=Decimal("0.10")) for hour in range(3)]
    found = both([feature("sum", "d", "1d")], events, daily(2))
    assert found == {T0 + DAY: {"sum_d_1d": Decimal("0.30")}}


def test_last_is_the_newest_value_and_the_greatest_of_one_instant():
    noon = T0 + timedelta(hours=12)
    events = [event(T0, s="z"), event(noon, s="b"), event(noon, s="c"), event(noon, s=None), event(noon + DAY, s=None)]
    found = both([feature("last", "s", "1d"), feature("last", "s", "2d")], events, daily(3))
    assert found == {
        T0 + DAY: {"last_s_1d": "c", "last_s_2d": "c"},
        T0 + 2 * DAY: {"last_s_1d": None, "last_s_2d": "c"},
        T0 + 3 * DAY: {"last_s_1d": None, "last_s_2d": None},
    }


def test_fill_comes_before_expressions_and_columns_keep_their_order():
    features = [
        WindowFeature(name="n 1", function="count", argument='"i"', window=DAY, type="int64"),
        WindowFeature(name="k0", function="sum", argument='"i" * 2', window=DAY, fill=-1, type="int64"),
        WindowFeature(name="last", function="last", argument='"s"', window=DAY, fill="it's none", type="string"),
        WindowFeature(name="position", function="count", argument=None, window=2 * DAY),
    ]
    expressions = [
        WindowExpression(name="ratio", sql='CAST("k0" AS DOUBLE) / nullif("n 1", 0)', type="float64"),
        WindowExpression(name="double", sql='"ratio" + "ratio"'),
        WindowExpression(name="free", sql='"position" + 1', type="int32"),
    ]
    columns = ["free", "double", "position", "last", "k0", "ratio", "n 1"]
    found = both(features, [event(T0, i=3, s=None)], daily(2), expressions=expressions, columns=columns)
    assert [list(row.items()) for row in found.values()] == [
        [("free", 2), ("double", 12.0), ("position", 1), ("last", "it's none"), ("k0", 6), ("ratio", 6.0), ("n 1", 1)],
        [("free", 2), ("double", None), ("position", 1), ("last", "it's none"), ("k0", -1), ("ratio", None), ("n 1", 0)],
    ]


def test_names_of_the_users_never_meet_ours():
    rows = [
        {"k1": "x", "k0": 7, "position": 1, "instant": T0, "events": 2, "tile": 5},
        {"k1": "x", "k0": 7, "position": 1, "instant": T0 + DAY, "events": 4, "tile": 6},
        {"k1": "y", "k0": 7, "position": 2, "instant": T0 + DAY, "events": 8, "tile": 6},
    ]
    keys, names = ("k1", "k0", "position"), ["k", "a0", "interval_end", "run", "first", "s0"]
    arguments = ['"position"', '"events"', '"instant"', '"k0"', '"tile"', '"events"']
    features = [
        WindowFeature(name=name, function=function, argument=argument, window=7 * DAY, limit=2)
        for name, function, argument in zip(names, ["max"] * 4 + ["last_k", "variance"], arguments, strict=True)
    ]
    source = ParquetSource("events", path="events", event_time="instant")
    compiled = compile_windows(TileDraft(source=source, keys=keys, event_time="instant", length=DAY), features, (), names)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("events", pa.Table.from_pylist(rows))
        connection.execute("CREATE TABLE intervals AS SELECT $s AS interval_start, $e AS interval_end",
                           {"s": T0 + DAY, "e": T0 + 2 * DAY})  # fmt: skip
        for query in from_events(compiled):
            end = T0 + 2 * DAY
            assert sorted(connection.sql(f"SELECT * REPLACE (epoch_us(event_timestamp) AS event_timestamp, epoch_us(interval_end) "
                                         f"AS interval_end) FROM ({query})").fetchall()) == [
                ("x", 7, 1, to_micros(end), 1, 4, to_micros(T0 + DAY), 7, [6, 5], 2.0),
                ("y", 7, 2, to_micros(end), 2, 8, to_micros(T0 + DAY), 7, [6], None),
            ]  # fmt: skip


def test_many_intervals_and_more_counters_than_fit_into_one_integer():
    features = [feature("count", name, window) for name in (None, "i", "d", "f", "s", "b") for window in ("1h", "1d")]
    start = datetime(2020, 1, 1, tzinfo=UTC)
    intervals = Schedule("0 * * * *").intervals(start, start + timedelta(hours=10_000))
    events = [event(start + timedelta(hours=hour), i=1, s="x") for hour in (0, 1, 5000, 9_999)]
    found = compute(from_events(queries(features))[0], events, intervals)
    assert len(found) == 25 + 24 + 1
    row = found[start + timedelta(hours=2), "a", 1]
    counts = {"all": (1, 2), "i": (1, 2), "d": (0, 0), "f": (0, 0), "s": (1, 2), "b": (0, 0)}
    assert row == {
        f"count_{n}_{w}": value for n, pair in counts.items() for w, value in zip(("1h", "1d"), pair, strict=True)
    }


def test_one_interval_far_from_the_others():
    intervals = [*daily(2), *daily(1, T0 - 9000 * DAY), *daily(1, T0 + 40 * DAY)]
    events = [event(i.end - timedelta(hours=hour), i=hour) for i in intervals for hour in (1, 30)]
    check_equal(
        compute(from_events(queries([feature("sum", "i", "36h")]))[0], events, intervals),
        naive(events, intervals, [feature("sum", "i", "36h")]),
    )


# -- golden SQL -------------------------------------------------------------------------------------------------------

GOLDEN = Path(__file__).parents[1] / "golden" / "windows"


@pytest.mark.parametrize(
    ("name", "query", "most"), [("range", "range", 4), ("single", "single", 4), ("segmented", "single", 1)]
)
def test_sql_is_as_reviewed(name, query, most, monkeypatch):
    """``FSTORE_UPDATE_GOLDEN=1 pytest tests/plan/test_windows.py`` writes the files anew."""
    features = [
        *(feature("count", None, window) for window in ("7d", "30d")),
        feature("avg", "f", "30d", fill=0.0),
        feature("last", "s", "7d"),
    ]
    trend = WindowExpression(name="trend", sql='"count_all_7d" / nullif("count_all_30d", 0)', type="float64")
    monkeypatch.setattr(single_interval, "SEGMENTED", most)
    text = getattr(queries(features, [trend]), query) + "\n"
    if os.environ.get("FSTORE_UPDATE_GOLDEN"):
        GOLDEN.mkdir(parents=True, exist_ok=True)
        (GOLDEN / f"{name}.sql").write_text(text, encoding="utf-8")
    assert text == (GOLDEN / f"{name}.sql").read_text(encoding="utf-8")
