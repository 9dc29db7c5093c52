"""What docs/reference/aggregates.md says of every aggregate, through the real compiler and engine."""

from __future__ import annotations

import math

import pytest

from fstore import Entity, FeatureView, ParquetSource, agg
from fstore.definitions.aggregation import FUNCTIONS, Aggregation
from fstore.testing import compute_view

key = Entity("key", join_keys={"k": "string"})
events = ParquetSource(
    "events", path="data/events/", event_time="at",
    schema={"k": "string", "at": "timestamp", "x": "float64", "i": "int64", "s": "string", "o": "int64"},
)  # fmt: skip


class Every(FeatureView):
    entity, source, schedule, start = key, events, "@daily", "2026-01-01"
    count_all = agg.count().over("7d")
    count_x = agg.count("x").over("7d")
    sum_x = agg.sum("x").over("7d")
    sum_i = agg.sum("i").over("7d")
    avg_i = agg.avg("i").over("7d")
    min_x = agg.min("x").over("7d")
    max_x = agg.max("x").over("7d")
    stddev_x = agg.stddev("x").over("7d")
    variance_x = agg.variance("x").over("7d")
    skew_x = agg.skew("x").over("7d")
    first_s = agg.first("s").over("7d")
    first_o = agg.first("s", order_by="o").over("7d")
    last_s = agg.last("s").over("7d")
    last_o = agg.last("s", order_by="o").over("7d")
    first_k_s = agg.first_k("s", 2).over("7d")
    last_k_s = agg.last_k("s", 2).over("7d")
    top_k_s = agg.top_k("s", 2).over("7d")
    distinct_s = agg.distinct("s", max_values=2).over("7d")
    count_distinct_s = agg.count_distinct("s").over("7d")
    approx_count_distinct_s = agg.approx_count_distinct("s").over("7d")
    approx_percentile_x = agg.approx_percentile("x", 0.5).over("7d")
    histogram_x = agg.histogram("x", [0, 10]).over("7d")
    decayed_sum_x = agg.decayed_sum("x", "1d").over("7d")
    count_by = agg.count(by="s", max_categories=2).over("7d")
    sum_by = agg.sum("i", by="s").over("7d")
    where = agg.count(where="i > 1").over("7d")
    offset = agg.count().over("7d", offset="1d")
    lifetime = agg.count().over("lifetime")


def rows(*events: dict[str, object]) -> list[dict[str, object]]:
    return [{"k": "k", "at": "2026-02-28", "x": None, "i": None, "s": None, "o": None, **event} for event in events]


def values(*events: dict[str, object]) -> dict[str, object]:
    (row,) = compute_view(Every, rows=rows(*events), at="2026-03-01")
    return {name.removesuffix("_7d"): value for name, value in row.items() if name not in ("k", "event_timestamp")}


EMPTY = {
    "count_all": 0, "count_x": 0, "count_distinct_s": 0, "approx_count_distinct_s": 0, "histogram_x": [0, 0, 0], "where": 0,
}  # fmt: skip


def test_every_function_is_here() -> None:
    used = {member.function for member in Every.__body__.attributes.values() if isinstance(member, Aggregation)}
    assert used == set(FUNCTIONS)


def test_an_empty_window_is_null_but_for_counts() -> None:
    found = values({"at": "2026-01-15", "x": 1.0, "i": 1, "s": "a"})
    assert found == {**dict.fromkeys(found), **EMPTY, "offset_7d_offset_1d": 0, "lifetime_lifetime": 1}


def test_nulls_do_not_count() -> None:
    found = values({}, {})
    assert found == {**dict.fromkeys(found), **EMPTY, "count_all": 2, "offset_7d_offset_1d": 0, "lifetime_lifetime": 2}


def test_values() -> None:
    found = values(
        {"at": "2026-02-25", "x": 1.0, "i": 1, "s": "b"},
        {"at": "2026-02-26", "x": 2.0, "i": 2, "s": "a"},
        {"at": "2026-02-28", "x": 6.0, "i": 3, "s": "b"},
        {"at": "2026-02-28T12:00", "x": None, "i": None, "s": "c"},
    )
    expected = {
        "count_all": 4, "count_x": 3, "sum_x": 9, "sum_i": 6, "avg_i": 2, "min_x": 1, "max_x": 6,
        "variance_x": 7, "stddev_x": math.sqrt(7), "skew_x": 1.457863, "first_s": "b", "last_s": "c",
        "first_k_s": ["b", "a"], "last_k_s": ["c", "b"], "top_k_s": ["b", "a"], "distinct_s": ["a", "b"],
        "count_distinct_s": 3, "approx_count_distinct_s": 3, "approx_percentile_x": pytest.approx(2, rel=0.01),
        "histogram_x": [0, 3, 0], "decayed_sum_x": 1 / 16 + 2 / 8 + 6 / 2, "where": 2, "offset_7d_offset_1d": 2,
        "lifetime_lifetime": 4,
    }  # fmt: skip
    expected["skew_x"] = pytest.approx(expected["skew_x"], abs=1e-6)
    assert {name: found[name] for name in expected} == expected
    assert found["count_by"] == {"a": 1, "b": 2}
    assert found["sum_by"] == {"a": 2, "b": 4, "c": None}


def test_ties_of_time() -> None:
    found = values({"s": "a", "o": 2}, {"s": "c", "o": None}, {"s": "b", "o": 1})
    assert [found["first_s"], found["last_s"], found["first_o"], found["last_o"]] == ["c", "c", "b", "a"]
    assert [found["first_k_s"], found["last_k_s"], found["top_k_s"]] == [["c", "b"], ["c", "b"], ["a", "b"]]


def test_nan_is_a_value_and_the_greatest() -> None:
    found = values({"x": 1.0}, {"x": math.nan})
    assert [found["count_x"], found["min_x"], found["histogram_x"]] == [2, 1, [0, 1, 1]]
    assert all(math.isnan(found[name]) for name in ("sum_x", "max_x", "stddev_x", "variance_x", "decayed_sum_x"))
    assert found["skew_x"] is None


def test_one_value_has_no_deviation_and_equal_ones_no_skew() -> None:
    assert [values({"x": 1.0})[name] for name in ("stddev_x", "variance_x", "skew_x")] == [None, None, None]
    equal = values({"x": 1.0}, {"x": 1.0}, {"x": 1.0})
    assert [equal[name] for name in ("stddev_x", "variance_x", "skew_x")] == [0, 0, None]
