"""Maps by category, distinct values and sketches against naive loops over events: ties, nulls, NaN, caps, lifetime, offsets."""

import math
from collections import Counter
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import duckdb
import msgspec
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fstore.definitions.source import ParquetSource
from fstore.interval import MICROSECOND, parse_duration
from fstore.plan import lanes
from fstore.plan.sketches import HASH_PROBE, bucket_sql, bucket_value_sql, coupon_sql, distinct_estimate_sql
from fstore.plan.tile_states import TileDraft
from fstore.plan.window_features import WindowFeature
from fstore.plan.windows import compile_windows
from tests.plan.test_windows import (
    ARGUMENTS,
    DATABASE,
    DAY,
    GRIDS,
    NAN,
    T0,
    TYPES,
    compute,
    daily,
    event,
    from_events,
    queries,
    rank,
    rows,
    same,
    segmented,
)

LISTS = ("top_k", "distinct")
WHERE = {'"i" > 0': lambda e: e["i"] is not None and e["i"] > 0, "\"s\" <> 'a'": lambda e: e["s"] not in (None, "a")}
BY = {'"s"': lambda e: e["s"], '"b"': lambda e: None if e["b"] is None else str(e["b"]).lower(),
      '"i" % 3': lambda e: None if e["i"] is None else str((-1) ** (e["i"] < 0) * (abs(e["i"]) % 3))}  # fmt: skip
MAPPED = ("count", "sum", "avg", "min", "max", "first", "last")


def sub(function, argument, window, *, offset=None, **more):
    """A feature over sub-keys, with the type that the plan would give it."""
    one = {"count": "int64", "avg": "float64", "count_distinct": "int64", "approx_count_distinct": "int64",
           "approx_percentile": "float64", "sum": TYPES[argument or "i"]}  # fmt: skip
    result = one.get(function) or ARGUMENTS[argument or "i"]
    result = f"map<string,{result}>" if more.get("by") else f"list<{result}>" if function in LISTS else result
    columns = tuple(name for name in ("i", "d", "f", "s", "b") if f'"{name}"' in f'"{argument}" {more}')
    name = f"{function} {argument} {window} {offset} {sorted(more.items())}"
    return WindowFeature(
        name=name, function=function, argument=argument and f'"{argument}"', argument_type=ARGUMENTS.get(argument), type=result,
        window=None if window == "lifetime" else parse_duration(window), columns=columns,
        offset=timedelta() if offset is None else parse_duration(offset), **more,
    )  # fmt: skip


# -- the oracle: what the definitions say, event by event ---------------------------------------------------------------


def inside(feature, end, at):
    until = end - feature.offset
    return at < until and (feature.window is None or at >= until - feature.window)


def naive(events, intervals, features):
    reaches = [None if f.window is None else f.window + f.offset for f in features]
    nearest = min(f.offset for f in features)
    found = {}
    for end in (interval.end for interval in intervals):
        for key in {(e["user"], e["shop"]) for e in events}:
            mine = [e for e in events if (e["user"], e["shop"]) == key]
            if any(e["at"] < end - nearest and (None in reaches or e["at"] >= end - max(reaches)) for e in mine):
                found[(end, *key)] = {f.name: value([e for e in mine if inside(f, end, e["at"])], f) for f in features}
    return found


def plain(value):
    """A value under which equal ones are one: zero has no sign."""
    return 0.0 if value == 0 and isinstance(value, float) else NAN if value != value else value


def value(events, f):
    events = [e for e in events if f.where is None or WHERE[f.where](e)]
    name = f.argument and f.argument.strip('"')
    if f.by is not None:
        counts = Counter(c for e in events if (c := BY[f.by](e)) is not None)
        kept = sorted(counts, key=lambda c: (-counts[c], c))[: f.limit or 100]
        entries = [(c, one([e for e in events if BY[f.by](e) == c], f.function, name)) for c in sorted(kept)]
        return entries or None
    known = [plain(e[name]) for e in events if e[name] is not None]
    counts = Counter(known)
    match f.function:
        case "count_distinct" | "approx_count_distinct":
            return len(counts)
        case "distinct":
            return sorted(counts, key=rank)[: f.limit or 100] or None
        case "top_k":
            return sorted(counts, key=lambda v: (-counts[v], rank(v)))[: f.limit] or None
        case "approx_percentile":
            place = max(1, math.ceil(Fraction(str(f.percentile)) * len(known)))
            return sorted(known, key=rank)[place - 1] if known else None


def one(events, function, name):
    """A scalar aggregate of the events of a category."""
    if name is None:
        return len(events)
    known = [(e["at"], e[name]) for e in events if e[name] is not None]
    values = [v for _, v in known]
    if function == "count":
        return len(values)
    if not values:
        return None
    match function:
        case "sum":
            return sum(values)
        case "avg":
            return float(sum(values)) / len(values)
        case "min":
            return min(values, key=rank)
        case "max":
            return max(values, key=rank)
        case "first":
            return max(known, key=lambda pair: (-pair[0].timestamp() * 1e6, rank(pair[1])))[1]
        case "last":
            return max(known, key=lambda pair: (pair[0], rank(pair[1])))[1]


def close(found, expected, f):
    if isinstance(expected, (list, tuple)):
        return isinstance(found, (list, tuple)) and len(found) == len(expected) and all(
            close(x, y, None) for x, y in zip(found, expected, strict=True)
        )  # fmt: skip
    if f is not None and f.function == "approx_percentile" and expected is not None:
        expected = float(expected)
        return found is not None and (same(found, expected) or abs(found - expected) <= 0.01 * abs(expected))
    return same(found, expected)


def check(found, expected, features):
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        for f in features:
            assert close(found[key][f.name], row[f.name], f), (key, f.name, found[key][f.name], row[f.name])


# -- the properties ---------------------------------------------------------------------------------------------------

WINDOWS = ["90m", "6h", "1d", "36h", "7d", "30d", "lifetime"]
CHOICES = [
    *(("count_distinct", name, {}) for name in "idfsb"),
    *(("approx_count_distinct", name, {}) for name in "ifs"),
    *((function, name, {"limit": limit}) for function in LISTS for name in "idfsb" for limit in (1, 2, 100)),
    *(("approx_percentile", name, {"percentile": p}) for name in "idf" for p in (0.0, 0.07, 0.5, 0.95, 1.0)),
    *(("count", None, {"by": by, "limit": limit}) for by in BY for limit in (None, 1, 2)),
    *(
        (function, name, {"by": by, "limit": limit})
        for function in MAPPED
        for name in "if"
        for by in BY
        for limit in (None, 2)
    ),
]


@st.composite
def cases(draw, *, single=False):
    schedule, start, length = draw(st.sampled_from(GRIDS))
    grid = schedule.intervals(start, start + length)
    count = 1 if single else draw(st.integers(1, len(grid)))
    intervals = sorted(draw(st.lists(st.sampled_from(grid), min_size=1, max_size=count, unique=True)))
    features = []
    for function, argument, more in draw(st.lists(st.sampled_from(CHOICES), min_size=1, max_size=4)):
        where = draw(st.sampled_from([None, None, *WHERE]))
        offset = draw(st.sampled_from([None, None, "6h", "36h"]))
        for window in draw(st.lists(st.sampled_from(WINDOWS), min_size=1, max_size=2, unique=True)):
            features.append(sub(function, argument, window, offset=offset, **more, **({"where": where} if where else {})))
    features = list({f.name: f for f in features}.values())
    first = intervals[0].end - max((f.window or 3 * DAY) + f.offset for f in features)
    edges = {i.end - f.offset - w for i in intervals for f in features for w in (timedelta(), f.window or timedelta())}
    near = st.builds(lambda edge, by: edge + by * MICROSECOND, st.sampled_from(sorted(edges)), st.sampled_from([-1, 0, 1]))
    span = (intervals[-1].end - first) // MICROSECOND
    times = st.one_of(near, st.builds(lambda by: first + by * MICROSECOND, st.integers(0, span - 1)))
    within = times.filter(lambda at: first <= at < intervals[-1].end)
    return draw(st.lists(few(within), max_size=40)), intervals, features


def few(times):
    """Events whose values meet often."""
    wide = rows(times)
    narrow = st.fixed_dictionaries({
        "user": st.sampled_from(["a", "b"]), "shop": st.just(7), "at": times, "i": st.none() | st.integers(-2, 2),
        "d": st.none() | st.sampled_from([Decimal("0.50"), Decimal("-1.25"), Decimal(0)]),
        "f": st.none() | st.sampled_from([0.0, -0.0, NAN, math.inf, -math.inf, 0.25, -3.5]),
        "s": st.none() | st.sampled_from(["a", "b", "ab", "Z", "", "\u00e9"]), "b": st.none() | st.booleans(),
    })  # fmt: skip
    return st.one_of(narrow, narrow, wide)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases(), st.booleans())
def test_a_range_equals_the_naive_loop(case, packed):
    events, intervals, features = case
    with pytest.MonkeyPatch.context() as patch:
        if not packed:  # no room for it, as with many keys
            patch.setattr(lanes, "MOST_NUMBERS", 0)
        compiled = queries(features)
    check(compute(from_events(compiled)[0], events, intervals), naive(events, intervals, features), features)


@st.composite
def far_apart(draw):
    """Events of few days, with values from both ends of 32 bits."""
    edge = st.sampled_from([-(2**31), -(2**31) + 1, -1, 0, 1, 2**31 - 2, 2**31 - 1])
    times = st.builds(lambda days, micros: T0 + days * DAY + micros * MICROSECOND, st.integers(-40, 5), st.integers(0, 1))
    return [event(at, i=i) for at, i in draw(st.lists(st.tuples(times, st.none() | edge), min_size=1, max_size=30))]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(far_apart())
def test_short_integers_are_told_apart_and_their_gaps_are_exact(events):
    features = [
        sub("count_distinct", "i", "1d"), sub("count_distinct", "i", "7d"), sub("count_distinct", "i", "30d", offset="2d"),
        sub("count_distinct", "i", "lifetime"),
    ]  # fmt: skip
    short = [
        msgspec.structs.replace(feature, argument='CAST("i" AS INTEGER)', argument_type="int32") for feature in features
    ]
    intervals = daily(8)
    check(
        compute(from_events(queries(short, length=DAY))[0], events, intervals), naive(events, intervals, features), features
    )


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases(single=True))
def test_a_single_interval_equals_the_naive_loop_and_the_range(case):
    events, intervals, features = case
    expected = naive(events, intervals, features)
    compiled = queries(features)
    one_by_one = compute(from_events(compiled)[1], events, intervals)
    check(one_by_one, expected, features)
    check(compute(segmented(features), events, intervals), expected, features)
    check(compute(from_events(compiled)[0], events, intervals), one_by_one, features)


# -- particular cases -------------------------------------------------------------------------------------------------


def values_of(features, events, intervals):
    """Rows by interval, as tuples in the order of the features; the range must equal its intervals one by one."""
    compiled = queries(features)
    found = compute(from_events(compiled)[0], events, intervals)
    for interval in intervals:
        mine = {key: row for key, row in found.items() if key[0] == interval.end}
        check(compute(from_events(compiled)[1], events, [interval]), mine, features)
    return {key[0]: tuple(row[f.name] for f in features) for key, row in sorted(found.items())}


def test_ties_go_to_the_smallest():
    features = [
        sub("top_k", "s", "7d", limit=2),
        sub("count", None, "7d", by='"s"', limit=2),
        sub("distinct", "s", "7d", limit=2),
    ]
    events = [event(T0, s=s) for s in ("b", "a", "c", "c", "Z", None)]
    found = values_of(features, events, daily(2))
    assert found[T0 + DAY] == (["c", "Z"], [("Z", 1), ("c", 2)], ["Z", "a"])


def test_a_category_is_kept_for_its_events_and_may_have_no_value():
    more = {"by": '"s"', "limit": 2}
    features = [
        sub("sum", "i", "7d", **more),
        sub("count", "i", "7d", **more),
        sub("avg", "i", "7d", where='"i" > 0', **more),
    ]
    events = [event(T0, s="a"), event(T0, s="a"), event(T0, s="b", i=4), event(T0, s="b", i=-1), event(T0, s="c", i=9)]
    assert values_of(features, events, daily(2))[T0 + DAY] == (
        [("a", None), ("b", 3)], [("a", 0), ("b", 2)], [("b", 4.0), ("c", 9.0)],
    )  # fmt: skip


def test_over_nothing_counts_are_0_and_all_else_is_null():
    features = [
        *(sub(function, "i", "1d", **more) for function, more in [
            ("count_distinct", {}), ("approx_count_distinct", {}), ("top_k", {"limit": 3}), ("distinct", {}),
            ("approx_percentile", {"percentile": 0.5}), ("sum", {"by": '"s"'}), ("count", {"by": '"s"'}),
        ]),
        sub("count_distinct", "i", "7d"), sub("count", None, "7d", by='"s"'),
    ]  # fmt: skip
    found = values_of(features, [event(T0, i=1, s="x"), event(T0 + 3 * DAY)], daily(5))
    nothing = (0, 0, None, None, None, None, None)
    assert found[T0 + 2 * DAY] == (*nothing, 1, [("x", 1)])
    assert found[T0 + 4 * DAY] == (*nothing, 1, [("x", 1)]), "an event without value and category is nothing"


def test_zero_has_no_sign_and_nan_is_one_value():
    names = [("count_distinct", {}), ("distinct", {}), ("top_k", {"limit": 1}), ("approx_count_distinct", {})]
    features = [sub(function, "f", "7d", **more) for function, more in names]
    events = [event(T0, f=f) for f in (0.0, -0.0, -0.0, NAN, -NAN, math.inf)]
    count, listed, (most,), estimate = values_of(features, events, daily(2))[T0 + DAY]
    assert (count, estimate, str(most)) == (3, 3, "0.0")
    assert [str(f) for f in listed] == ["0.0", "inf", "nan"]


def test_numbers_that_are_equal_are_one_category():
    features = [sub("count", None, "7d", by=by) for by in ('"f"', 'CAST("f" AS FLOAT)', '"i"', '"b"')]
    events = [event(T0, f=f, i=-0, b=True) for f in (0.0, -0.0, NAN, -NAN, -1.5)]
    as_floats = [("-1.5", 1), ("0.0", 2), ("nan", 2)]
    assert values_of(features, events, daily(2))[T0 + DAY] == (as_floats, as_floats, [("0", 5)], [("true", 5)])


def test_a_lifetime_remembers_what_windows_forget():
    functions = [("count_distinct", {}), ("top_k", {"limit": 2}), ("approx_percentile", {"percentile": 0.5}),
                 ("sum", {"by": '"s"'}), ("count", {"by": '"s"'})]  # fmt: skip
    features = [sub(function, "i", window, **more) for function, more in functions for window in ("1d", "lifetime")]
    events = [event(T0 - 4000 * DAY, i=0, s="x"), event(T0 + DAY, i=0, s="y")]
    found = values_of(features, events, daily(4))
    assert found[T0 + DAY] == (0, 1, None, [0], None, 0.0, None, [("x", 0)], None, [("x", 1)])
    assert found[T0 + 2 * DAY] == (
        1,
        1,
        [0],
        [0],
        0.0,
        0.0,
        [("y", 0)],
        [("x", 0), ("y", 0)],
        [("y", 1)],
        [("x", 1), ("y", 1)],
    )


def test_keys_and_columns_may_be_called_as_ours():
    names = ("k", "number", "sub", "begins", "events", "own", "key", "held", "bucket")
    functions = [
        ("count_distinct", {}),
        ("top_k", {"limit": 2}),
        ("approx_percentile", {"percentile": 0.5}),
        ("max", {"by": '"n"'}),
    ]
    features = [
        WindowFeature(name=function, function=function, argument='"n"', window=2 * DAY, columns=("n",), **more)
        for function, more in functions
    ]
    source = ParquetSource("events", path="events", event_time="interval_end")
    compiled = compile_windows(
        TileDraft(source=source, keys=names, event_time="interval_end", length=DAY), features, (), [f.name for f in features]
    )
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("events", pa.Table.from_pylist([
            {**{name: place for place, name in enumerate(names)}, "interval_end": T0, "n": n} for n in (5, 7)
        ]))  # fmt: skip
        connection.execute("CREATE TABLE intervals AS SELECT $s AS interval_start, $e AS interval_end",
                           {"s": T0, "e": T0 + DAY})  # fmt: skip
        for query in from_events(compiled):
            (row,) = connection.sql(query).fetchall()
            assert row[: len(names)] == tuple(range(len(names)))
            assert row[len(names) + 1 :] == (2, [5, 7], pytest.approx(5, rel=0.01), {"5": 5, "7": 7})


# -- sketches ---------------------------------------------------------------------------------------------------------


def scalar(sql, **parameters):
    with DATABASE.cursor() as connection:
        ((found,),) = connection.execute(f"SELECT {sql}", parameters).fetchall()
    return found


def test_coupons_do_not_change_with_the_version():
    text, expected = HASH_PROBE
    assert scalar(f"hash('{text}')") == expected, "another hash function: raise the VERSION of tile_states, and this probe"
    assert [scalar(coupon_sql(value)) for value in ("'a'", "'b'", "42", "NULL")] == [242114, 211526, 67777, None]


@pytest.mark.parametrize("count", [1, 50, 1000, 4096, 20_000, 300_000, 3_000_000])
def test_estimates_of_distinct_values_are_within_four_standard_errors(count):
    (coupons,) = scalar(f"(SELECT [count(DISTINCT {coupon_sql('range')})] FROM range({count}))")
    assert abs(scalar(distinct_estimate_sql(f"CAST({coupons} AS BIGINT)")) - count) <= 4 * 0.0108 * count
    assert coupons <= count


@pytest.mark.parametrize("bits", range(-60, 1020, 15))
def test_a_bucket_stands_for_its_values_within_one_percent(bits):
    for number in (2.0**bits, -(2.0**bits), 1.2345 * 2.0**bits):
        bucket = scalar(bucket_sql("CAST($number AS DOUBLE)"), number=number)
        assert abs(scalar(bucket_value_sql(str(bucket))) - number) < 0.01 * abs(number)


def test_buckets_are_in_the_order_of_their_values():
    numbers = [-math.inf, -1.7e308, -1.0, -1e-300, 0.0, 1e-300, 0.99, 1.0, 1.03, 1.7e308, math.inf, NAN]
    buckets = [scalar(bucket_sql("CAST($number AS DOUBLE)"), number=number) for number in numbers]
    assert buckets == sorted(buckets)
    assert len(set(buckets)) == len(buckets) - 1, "0.99 and 1.0 share one"
    exact = [scalar(bucket_value_sql(str(buckets[place]))) for place in (0, 4, 10, 11)]
    assert repr(exact) == repr([-math.inf, 0.0, math.inf, NAN])
