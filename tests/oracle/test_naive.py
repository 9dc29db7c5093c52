"""The oracle against values worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from tests.oracle.cases import at
from tests.oracle.language import NUMBER, Aggregate, Scalar, ViewCase, column
from tests.oracle.naive import Near, Within, aggregate, expected_rows, keys_with_a_row, same, split

END = at("2026-01-10")
HOUR = timedelta(hours=1)


def item(function: str, argument: str | None = "v", **more: object) -> Aggregate:
    return Aggregate("x", function, None if argument is None else column(argument, NUMBER), ("1d",), **more)


def rows(*values: object, **more: object) -> list[dict[str, object]]:
    """Events an hour apart, the last one an hour before the end."""
    return [{"v": value, "at": END - (len(values) - place) * HOUR, **more} for place, value in enumerate(values)]


@pytest.mark.parametrize(
    ("function", "values", "wanted"),
    [
        ("count", (1, None, 3), 2),
        ("sum", (2**60, 2**60, None), 2**61),
        ("sum", (Decimal("0.10"), Decimal("0.20")), Decimal("0.30")),
        ("sum", (0.1, 0.2, -0.1), 0.2),
        ("avg", (1, 2, 4), 7 / 3),
        ("min", (math.nan, 3.0, -math.inf), -math.inf),
        ("max", (math.nan, 3.0, math.inf), math.nan),
        ("min", ("b", "B", "ä"), "B"),
        ("variance", (10**9, 10**9 + 1, 10**9 + 2), 1.0),
        ("stddev", (10**9, 10**9 + 2), math.sqrt(2)),
        ("variance", (5,), None),
        ("variance", (1.0, math.inf), math.nan),
        ("skew", (1, 2), None),
        ("skew", (3, 3, 3), None),
        ("first", (None, "a", "b"), "a"),
        ("last", ("a", "b", None), "b"),
        ("count_distinct", (0.0, -0.0, math.nan, math.nan, None), 2),
        ("count", (), 0),
        ("count_distinct", (None,), 0),
        ("sum", (None,), None),
    ],
)
def test_an_aggregate_of_values(function: str, values: tuple[object, ...], wanted: object) -> None:
    found = aggregate(item(function), rows(*values), END)
    assert same(found, wanted), found


def test_skewness_is_the_adjusted_one() -> None:
    found = aggregate(item("skew"), rows(0, 0, 3), END)
    assert isinstance(found, Near)
    assert found.value == pytest.approx(math.sqrt(3), rel=1e-15)


def test_lists() -> None:
    values = rows("b", "a", "b", None, "c", "a", "b")
    assert aggregate(item("first_k", limit=3), values, END) == ["b", "a", "b"]
    assert aggregate(item("last_k", limit=3), values, END) == ["b", "a", "c"]
    assert aggregate(item("top_k", limit=2), values, END) == ["b", "a"]
    assert aggregate(item("top_k", limit=2), rows("z", "y", "x"), END) == ["x", "y"]
    assert aggregate(item("distinct", limit=2), values, END) == ["a", "b"]
    assert aggregate(item("distinct"), rows(None), END) is None


def test_ties_of_time_go_by_the_order_then_the_greatest_value() -> None:
    tied = [{"v": v, "o": o, "at": END - HOUR} for v, o in (("a", 1), ("b", 1), ("c", 2), ("z", None))]
    order = column("o")
    assert aggregate(item("first"), tied, END) == "z"
    assert aggregate(item("first", order_by=order), tied, END) == "b"
    assert aggregate(item("last", order_by=order), tied, END) == "c"
    assert aggregate(item("last_k", limit=4, order_by=order), tied, END) == ["c", "b", "a", "z"]
    assert aggregate(item("first_k", limit=4, order_by=order), tied, END) == ["b", "a", "c", "z"]


def test_a_histogram() -> None:
    counts = aggregate(item("histogram", edges=(0.0, 1.5)), rows(-1, 0, 1, None, 1.5, math.nan, math.inf), END)
    assert counts == [1, 2, 3]
    assert aggregate(item("histogram", edges=(0.0, 1.5)), [], END) == [0, 0, 0]


def test_a_decayed_sum() -> None:
    found = aggregate(item("decayed_sum", half_life_text="1h"), rows(8, 4), END)
    assert isinstance(found, Near)
    assert found.value == 8 / 4 + 4 / 2
    old = [{"v": 1, "at": END - 501 * HOUR}]
    assert same(0.0, aggregate(item("decayed_sum", half_life_text="1h"), old, END))


def test_estimates() -> None:
    found = aggregate(item("approx_percentile", percentile=0.5), rows(100, 1, 200, 300), END)
    assert isinstance(found, Within)
    assert same(100.9, found)
    assert not same(101.1, found)
    assert same(3, aggregate(item("approx_count_distinct"), rows("a", "b"), END))
    assert not same(4, aggregate(item("approx_count_distinct"), rows("a", "b"), END))


def test_maps() -> None:
    by = column("c")
    values = [
        {"v": v, "c": c, "at": END - HOUR} for v, c in ((1, "x"), (2, "x"), (5, "y"), (7, "z"), (None, "z"), (9, None))
    ]
    assert split(item("sum", by=by), values, END) == [("x", 3), ("y", 5), ("z", 7)]
    assert split(item("sum", by=by, limit=2), values, END) == [("x", 3), ("z", 7)]
    assert split(item("count", by=by, limit=1), values, END) == [("x", 2)]
    assert split(item("count", None, by=by), [], END) is None
    flags = Scalar("b", lambda row: row["v"] > 1)
    assert split(item("count", None, by=flags), rows(1, 2), END) == [("false", 1), ("true", 1)]


def test_windows_are_half_open_and_offsets_move_them() -> None:
    case = ViewCase("x", ("user",), "@daily", "UTC", "2026-01-01", (item("count", None, offset_text="1h"),))
    times = [
        END - HOUR,
        END - HOUR - timedelta(microseconds=1),
        END - 25 * HOUR,
        END - 25 * HOUR - timedelta(microseconds=1),
    ]
    events = [{"user": "a", "at": time} for time in times] + [{"user": None, "at": times[1]}, {"user": "b", "at": END}]
    assert expected_rows(case, events, [END])[(END, "a")] == {"x_1d_offset_1h": 2}
    assert keys_with_a_row(case, events, [END]) == {(END, "a")}
    filled = replace(case, aggregates=(replace(item("sum"), fill=-1),))
    assert expected_rows(filled, [{"user": "a", "at": END, "v": 2}], [END]) == {(END, "a"): {"x_1d": -1}}


def test_what_is_the_same() -> None:
    assert same(1.0, 1.0 + 1e-13)
    assert not same(1.0, 1.0 + 1e-11)
    assert not same(1, 1.0)
    assert not same(True, 1)
    assert same([math.nan, 1.0], [math.nan, 1.0])
    assert not same([1, 2], [2, 1])
    assert not same(None, 0)
    assert not same(0.0, math.nan)
