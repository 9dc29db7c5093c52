"""Every aggregate over whole keys against a naive loop with exact numbers, over fine and merged tiles alike."""

import itertools
import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import duckdb
import msgspec
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fstore.definitions.source import ParquetSource
from fstore.interval import MICROSECOND, Schedule, parse_duration
from fstore.plan import single_interval
from fstore.plan.tile_grid import coarse_length, tile_length
from fstore.plan.tile_queries import coarse_tiles, make_tiles_sql, over_events, roll_up_sql
from fstore.plan.tile_states import TileDraft
from fstore.plan.window_features import WindowFeature
from fstore.plan.windows import compile_windows

EVENTS = pa.schema([
    ("user", pa.string()), ("at", pa.timestamp("us", tz="UTC")), ("i", pa.int64()), ("d", pa.decimal128(18, 2)),
    ("f", pa.float64()), ("s", pa.string()), ("o", pa.int32()), ("b", pa.bool_()),
])  # fmt: skip
DATABASE = duckdb.connect(config={"threads": 2})
"""Opening one takes longer than most of the queries."""

INTERVALS = pa.schema([(name, pa.timestamp("us", tz="UTC")) for name in ("interval_start", "interval_end")])
TYPES = {"i": "int64", "d": "decimal(18,2)", "f": "float64", "s": "string"}
SOURCE = ParquetSource("events", path="events", event_time="at")
EDGES = (-1.0, 0.0, 0.1, 2.5)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
EVER = datetime(1, 1, 1, tzinfo=UTC)


def feature(function, argument, window, **more):
    name = "_".join(map(str, (function, argument, window, *more.values())))
    more = {key: parse_duration(text) if key in ("offset", "half_life") else text for key, text in more.items()}
    of = TYPES.get(argument)
    result = {"count": "int64", "histogram": "list<int64>"}.get(function)
    if result is None and function in ("avg", "stddev", "variance", "skew", "decayed_sum"):
        result = "float64"
    if result is None and function == "sum":
        result = {"i": "int64", "d": "decimal(38,2)", "f": "float64"}[argument]
    return WindowFeature(
        name=name, function=function, argument=argument, argument_type=of,
        window=None if window == "lifetime" else parse_duration(window),
        type=result or (f"list<{of}>" if function in ("first_k", "last_k") else of), columns=("i", "d", "f", "s", "o", "b"),
        **more,
    )  # fmt: skip


# -- the naive loop ---------------------------------------------------------------------------------------------------


def naive(events, intervals, features):
    rows = {}
    for end in (interval.end for interval in intervals):
        begins = [beginning(x, end) for x in features]
        until = max(end - x.offset for x in features)
        for user in {e["user"] for e in events if min(begins) <= e["at"] < until}:
            rows[end, user] = {
                x.name: value([e for e in events if e["user"] == user and begin <= e["at"] < end - x.offset], x, end)
                for x, begin in zip(features, begins, strict=True)
            }
    return rows


def beginning(x, end):
    return EVER if x.window is None else end - x.offset - x.window


def rank(number):
    return (number != number, number)


def null_rank(number):
    return (number is not None, number or 0)


def value(events, x, end):
    if x.where is not None:
        events = [e for e in events if e["b"]]
    if x.argument is None:
        return len(events)
    events = [e for e in events if e[x.argument] is not None]
    values = [e[x.argument] for e in events]
    match x.function:
        case "count":
            return len(values)
        case "histogram":
            places = [sum(not float(v) < edge for edge in x.edges) for v in values]
            return [places.count(place) for place in range(len(x.edges) + 1)]
    if not values:
        return x.fill
    match x.function:
        case "sum":
            return sum(values) if x.argument != "f" else total(values)
        case "avg":
            return total(values) / len(values)
        case "min":
            return min(values, key=rank)
        case "max":
            return max(values, key=rank)
        case "last" | "last_k":
            ordered = sorted(events, key=lambda e: (e["at"], null_rank(order(e, x)), rank(e[x.argument])), reverse=True)
        case "first" | "first_k":
            best_values = sorted(events, key=lambda e: rank(e[x.argument]), reverse=True)
            ordered = sorted(best_values, key=lambda e: (e["at"], order(e, x) is None, order(e, x) or 0))
        case "decayed_sum":
            return total([float(e[x.argument]) * weight((end - e["at"]) / x.half_life) for e in events])
        case _:
            return moments(values, x.function)
    found = [e[x.argument] for e in ordered]
    return found[0] if x.limit is None else found[: x.limit]


def order(event, x):
    return None if x.order_by is None else event["o"]


def weight(age):
    return 0.0 if age > 500 else 0.5**age


def total(values):
    return math.fsum(values) if all(math.isfinite(v) for v in values) else math.fsum([sum(map(float, values))])


def moments(values, function):
    n = len(values)
    if n < (3 if function == "skew" else 2):
        return None
    if any(not math.isfinite(v) for v in values):
        return math.nan
    exact = [Fraction(v) for v in values]
    mean = sum(exact) / n
    m2 = sum((v - mean) ** 2 for v in exact)
    if function == "variance":
        return float(m2 / (n - 1))
    if function == "stddev":
        return math.sqrt(m2 / (n - 1))
    if m2 == 0:
        return None
    m3 = sum((v - mean) ** 3 for v in exact)
    return n * math.sqrt(n - 1) / (n - 2) * float(m3) / float(m2) ** 1.5


# -- what is computed -------------------------------------------------------------------------------------------------


def compiled(features, length):
    draft = TileDraft(source=SOURCE, keys=("user",), event_time="at", length=length, coarse=coarse_length(length, None))
    return compile_windows(draft, features, (), [item.name for item in features])


def segmented(features, length):
    """As compiled, but that a single interval merges tiles per segment first, however few columns there are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(single_interval, "SEGMENTED", 1)
        return compiled(features, length)


def compute(events, intervals, run):
    """Run a function over a connection with events and intervals; its query's rows: {(end, user): {feature: value}}."""
    with DATABASE.cursor() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.begin()
        connection.register("events", pa.Table.from_pylist(events, schema=EVENTS))
        spans = [{"interval_start": interval.start, "interval_end": interval.end} for interval in intervals]
        connection.register("intervals", pa.Table.from_pylist(spans, schema=INTERVALS))
        rows = connection.sql(run(connection)).to_arrow_table().to_pylist()
        connection.rollback()  # what was created for this query alone
    keys = [(row.pop("event_timestamp").astimezone(UTC), row.pop("user")) for row in rows]
    assert len(keys) == len(set(keys))
    return dict(zip(keys, rows, strict=True))


def over_two_levels(windows, intervals):
    """Return how to compute a range over tiles of which all that no edge cuts are merged, one file per state."""
    (tiles,) = windows.tiles
    coarse = coarse_tiles(tiles)
    cuts = {i.end - edge for i in intervals for edge in tiles.edges} | {i.end for i in intervals}

    def run(connection):
        connection.execute(f"CREATE TABLE fine AS {make_tiles_sql(tiles)}")
        parts = []
        for state in tiles.states:
            one = [msgspec.structs.replace(level, states=(state,)) for level in (tiles, coarse)]
            connection.execute(f'CREATE VIEW tiles AS SELECT "user", tile_start, event_timestamp, {state.name} FROM fine')
            connection.execute(f"CREATE TABLE coarse_{state.name} AS {roll_up_sql(one[1])}")
            connection.execute("DROP VIEW tiles")
            connection.execute("CREATE OR REPLACE TABLE cut AS SELECT unnest($cuts) AS edge", {"cuts": sorted(cuts)})
            seconds = coarse.length.total_seconds()
            block = f"time_bucket(INTERVAL '{seconds:.0f} seconds', tile_start, TIMESTAMPTZ '1970-01-01 00:00:00+00')"
            straddled = f"EXISTS (FROM cut WHERE edge > {block} AND edge < {block} + INTERVAL '{seconds:.0f} seconds')"
            chosen = f'"user", tile_start, event_timestamp, {state.name}'
            parts += [f"SELECT {chosen} FROM coarse_{state.name} WHERE NOT {straddled}",
                      f"SELECT {chosen} FROM fine WHERE {straddled}"]  # fmt: skip
        connection.execute("CREATE TABLE tiles0 AS " + " UNION ALL BY NAME ".join(parts))
        return windows.range

    return run


def same(one, other, scale=0.0):
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-12, abs_tol=scale) or (math.isnan(one) and math.isnan(other))
    return type(one) is type(other) and one == other


SCALES = {"skew": 1e-12, "decayed_sum": 1e-130}
"""A skewness near zero is small against its terms; what is left of values older than 500 half-lives is nothing."""


def check_equal(found, expected, events):
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        for name, wanted in row.items():
            scale = SCALES.get(name.rsplit("_", 1)[0], 0) if name.startswith("skew") else 0
            scale = next((allowed for function, allowed in SCALES.items() if name.startswith(function)), scale)
            if name.startswith(("sum_f", "avg_f", "decayed")):
                finite = [abs(e["f"]) for e in events if e["f"] is not None and math.isfinite(e["f"])]
                scale = max(scale, 1e-14 * max(finite, default=0))
            assert same(found[key][name], wanted, scale), (key, name, found[key][name], wanted)


def check(events, intervals, features, length):
    windows = compiled(features, length)
    expected = naive(events, intervals, features)
    check_equal(compute(events, intervals, lambda _: over_events(windows.tiles, windows.range)), expected, events)
    check_equal(compute(events, intervals, over_two_levels(windows, intervals)), expected, events)
    one_by_one, ways = {}, itertools.cycle([windows.single, segmented(features, length).single])
    for interval, single in zip(intervals, ways, strict=False):
        one_by_one |= compute(events, [interval], lambda _, single=single: over_events(windows.tiles, single))
    check_equal(one_by_one, expected, events)
    return expected


# -- the property -----------------------------------------------------------------------------------------------------

GRIDS = [
    (Schedule("0 0 * * *"), datetime(2026, 1, 5, tzinfo=UTC), timedelta(days=9)),
    (Schedule("0 0 * * *", "Europe/Berlin"), datetime(2026, 3, 26, tzinfo=UTC), timedelta(days=6)),
    (Schedule("0 * * * *"), datetime(1969, 12, 31, tzinfo=UTC), timedelta(hours=40)),
    (Schedule("30 6 * * 1,3"), datetime(2026, 1, 5, tzinfo=UTC), timedelta(days=25)),
    (Schedule("*/5 * * * *"), datetime(2026, 1, 5, tzinfo=UTC), timedelta(minutes=40)),
]  # fmt: skip
WINDOWS = ["45m", "6h", "1d", "3d", "30d", "lifetime"]
OFFSETS = [None, None, "1h", "1d", "7d"]


@st.composite
def aggregates(draw):
    function = draw(st.sampled_from([
        "count", "sum", "avg", "min", "max", "first", "last", "first_k", "last_k", "variance", "stddev", "skew", "histogram",
        "decayed_sum",
    ]))  # fmt: skip
    numeric = function in ("sum", "avg", "variance", "stddev", "skew", "histogram", "decayed_sum")
    finite = function == "decayed_sum"  # whether NaN that weighs nothing counts is not defined
    argument = draw(st.sampled_from(["i", "d"] if finite else ["i", "d", "f"] if numeric else ["i", "d", "f", "s"]))
    more = {}
    if function in ("first_k", "last_k"):
        more["limit"] = draw(st.integers(1, 4))
    if function in ("first", "last", "first_k", "last_k") and draw(st.booleans()):
        more["order_by"] = '"o"'
    if function == "histogram":
        more["edges"] = EDGES
    if function == "decayed_sum":
        more["half_life"] = draw(st.sampled_from(["1m", "1h", "7d"]))
    if draw(st.integers(0, 3)) == 0:
        more["where"] = '"b"'
    if offset := draw(st.sampled_from(OFFSETS)):
        more["offset"] = offset
    windows = draw(st.lists(st.sampled_from(WINDOWS), min_size=1, max_size=2, unique=True))
    return [feature(function, argument, window, **more) for window in windows]


@st.composite
def cases(draw):
    schedule, start, length = draw(st.sampled_from(GRIDS))
    grid = schedule.intervals(start, start + length)
    intervals = sorted(draw(st.lists(st.sampled_from(grid), min_size=1, max_size=6, unique=True)))
    features = list({x.name: x for group in draw(st.lists(aggregates(), min_size=1, max_size=4)) for x in group}.values())
    edges = sorted({edge for i in intervals for x in features for edge in (i.end - x.offset, bounded(x, i.end))})
    far = edges[0] - 2 * DAY
    near = st.builds(lambda edge, by: edge + by * MICROSECOND, st.sampled_from(edges), st.sampled_from([-1, 0, 1]))
    span = (intervals[-1].end - far) // MICROSECOND
    times = st.one_of(near, st.builds(lambda by: far + by * MICROSECOND, st.integers(0, span - 1)))
    base = draw(st.sampled_from([0, 0, 10**6, -(10**9)]))
    events = draw(st.lists(rows(times.filter(lambda at: at < intervals[-1].end), base), max_size=30))
    distances = [d for x in features for d in (x.offset, x.window) if d is not None]
    return events, intervals, features, tile_length(schedule, start, distances)


def bounded(x, end):
    return end - x.offset - (x.window or 40 * DAY)


def rows(times, base):
    return st.fixed_dictionaries({
        "user": st.sampled_from(["a", "b"]),
        "at": times,
        "i": st.none() | st.integers(base - 3, base + 3),
        "d": st.none() | st.decimals(base - 2, base + 2, places=2),
        "f": st.none() | st.integers(-64, 64).map(lambda part: base + part / 16) | st.sampled_from([0.1, math.nan, math.inf]),
        "s": st.none() | st.text("aüz", max_size=2),
        "o": st.none() | st.integers(0, 2),
        "b": st.none() | st.booleans(),
    })  # fmt: skip


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(cases())
def test_every_aggregate_equals_the_naive_loop(case):
    check(*case)


# -- particular cases -------------------------------------------------------------------------------------------------

T0 = datetime(2026, 1, 10, tzinfo=UTC)


def event(at, **values):
    return {"user": "a", "i": None, "d": None, "f": None, "s": None, "o": None, "b": None, "at": at, **values}


def daily(days, start=T0):
    return Schedule("0 0 * * *").intervals(start, start + days * DAY)


@pytest.mark.parametrize("argument", ["i", "d", "f"])
def test_moments_keep_their_digits_far_from_zero_and_after_a_jump(argument):
    """Values near 1e9 with a deviation near 1, then values near 0, in windows of one kind and of both."""
    kind = {"i": int, "d": lambda v: Decimal(v).quantize(Decimal("0.01")), "f": lambda v: v + 0.0625}[argument]
    events = [
        event(T0 + day * DAY + hour * HOUR, **{argument: kind((10**9 if day < 4 else 0) + (hour * 7 + day) % 5)})
        for day in range(8)
        for hour in range(24)
    ]
    features = [feature(f, argument, w) for f in ("variance", "stddev", "skew") for w in ("1d", "3d", "lifetime")]
    check(events, daily(8), features, DAY)


def test_whole_numbers_beyond_what_a_float_holds_have_their_own_variance():
    events = [event(T0 + hour * HOUR, i=2**60 + hour) for hour in range(12)]
    (row,) = check(events, daily(1), [feature("variance", "i", "1d")], DAY).values()
    assert row == {"variance_i_1d": 13.0}


def test_equal_values_have_no_skewness_and_no_variance():
    events = [event(T0 + hour * HOUR, f=0.1 if hour < 60 else 1e9) for hour in range(120)]
    found = check(events, daily(5), [feature(f, "f", "1d") for f in ("skew", "variance")], DAY)
    assert found[T0 + 2 * DAY, "a"] == {"skew_f_1d": None, "variance_f_1d": 0.0}
    assert found[T0 + 5 * DAY, "a"] == {"skew_f_1d": None, "variance_f_1d": 0.0}


def test_ties_of_time_are_decided_by_order_then_by_value():
    events = [event(T0, i=1, o=2), event(T0, i=2, o=2), event(T0, i=9, o=1), event(T0, i=8, o=None)]
    features = [feature("last", "i", "1d", order_by='"o"'), feature("first", "i", "1d", order_by='"o"'),
                feature("last", "i", "1d"), feature("first", "i", "1d"), feature("last_k", "i", "1d", order_by='"o"', limit=4),
                feature("first_k", "i", "1d", order_by='"o"', limit=4)]  # fmt: skip
    (row,) = check(events, daily(1), features, DAY).values()
    assert list(row.values()) == [2, 9, 9, 9, [2, 1, 9, 8], [9, 2, 1, 8]]


def test_lists_reach_over_many_tiles_and_stop_at_the_windows_edge():
    events = [event(T0 + day * DAY + hour * HOUR, i=day * 10 + hour) for day in (0, 1, 5, 6) for hour in range(3)]
    features = [feature(f, "i", w, limit=4) for f in ("last_k", "first_k") for w in ("2d", "7d")]
    found = check(events, daily(9), features, DAY)
    assert list(found[T0 + 6 * DAY, "a"].values()) == [[52, 51, 50], [52, 51, 50, 12], [50, 51, 52], [0, 1, 2, 10]]


def test_decay_over_thousands_of_half_lives():
    """Blocks of 500 half-lives alternate; what is older weighs nothing, and offsets age as well."""
    events = [event(T0 + hour * HOUR, f=float(hour + 1)) for hour in range(0, 1200, 7)]
    hours = Schedule("0 * * * *").intervals(T0 + 1100 * HOUR, T0 + 1130 * HOUR)
    features = [feature("decayed_sum", "f", w, half_life=h) for w in ("6h", "30d", "lifetime") for h in ("1m", "30m", "7d")]
    features.append(feature("decayed_sum", "f", "30d", half_life="1h", offset="5h"))
    features.append(feature("decayed_sum", "f", "30d", half_life="1h", offset="499h"))
    check(events, hours, features, HOUR)


def test_decay_with_half_lives_of_centuries():
    """500 half-lives are then longer than 64 bits can say in microseconds."""
    events = [event(T0 + day * DAY, f=float(day + 1)) for day in range(5)]
    windows = compiled([feature("decayed_sum", "f", w, half_life="146000d") for w in ("2d", "lifetime")], DAY)
    for sql in (windows.range, windows.single):
        rows = compute(events, daily(1, T0 + 4 * DAY), lambda _, sql=sql: over_events(windows.tiles, sql))
        assert [value for row in rows.values() for value in row.values()] == pytest.approx([9.0, 15.0], rel=1e-4)


def test_what_is_wholly_older_than_500_half_lives_weighs_nothing_at_all():
    """Not even where its values are infinite: by their age at the interval's end, not at the window's."""
    events = [event(T0, user="a", f=math.inf), event(T0, user="b", f=1e300), event(T0, user="c")]
    windows = compiled([feature("decayed_sum", "f", "90d", half_life="1h", offset="21d")], DAY)
    for sql in (windows.range, windows.single):
        rows = compute(events, daily(1, T0 + 30 * DAY), lambda _, sql=sql: over_events(windows.tiles, sql))
        assert [next(iter(rows[key].values())) for key in sorted(rows)] == [0.0, 0.0, None]


def test_a_lifetime_begins_with_the_first_event_and_never_ends():
    events = [event(T0 - 4000 * DAY, i=1), event(T0 + DAY, i=5)]
    features = [feature("sum", "i", "lifetime"), feature("count", None, "lifetime", offset="1d")]
    found = check(events, daily(3), features, DAY)
    assert [list(row.values()) for _, row in sorted(found.items())] == [[1, 1], [6, 1], [6, 2]]


def test_a_decimal_sum_that_does_not_fit_is_an_error():
    events = [event(T0 + hour * HOUR, i=1) for hour in range(2)]
    wide = WindowFeature(
        name="total", function="sum", argument="CAST('9' || repeat('0', 37) AS DECIMAL(38,0))", argument_type="decimal(38,0)",
        window=DAY, type="decimal(38,0)",
    )  # fmt: skip
    windows = compiled([wide], DAY)
    for sql in (windows.range, windows.single):
        with pytest.raises(duckdb.Error):
            compute(events, daily(1), lambda _, sql=sql: over_events(windows.tiles, sql))
