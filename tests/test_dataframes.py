"""What a function gives, as the type that was declared: the same meaning, or an error."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from fstore.dataframes import declared_column

INSTANT = pa.timestamp("us", tz="UTC")
NOON, MIDNIGHT = datetime(2026, 1, 1, 12, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
BERLIN_MORNING, BERLIN_MIDNIGHT = datetime(2026, 1, 1, 1, tzinfo=BERLIN), datetime(2026, 1, 1, tzinfo=BERLIN)
MAP = pa.map_(pa.string(), pa.int64())


@pytest.mark.parametrize(
    ("given", "wanted", "expected"),
    [
        (pa.array([1, None], pa.int32()), pa.int64(), [1, None]),
        (pa.array([7.0, None]), pa.int8(), [7, None]),
        (pa.array([7], pa.int64()), pa.float64(), [7.0]),
        (pa.array([True, False]), pa.int64(), [1, 0]),
        (pa.array([Decimal("1.50")]), pa.float64(), [1.5]),
        (pa.array([Decimal("1.50")]), pa.decimal128(10, 1), [Decimal("1.5")]),
        (pa.array(["a"], pa.large_string()), pa.string(), ["a"]),
        (pa.array(["a"]).dictionary_encode(), pa.string(), ["a"]),
        (pa.array([MIDNIGHT], INSTANT), pa.date32(), [date(2026, 1, 1)]),
        (pa.array([date(2026, 1, 1)]), INSTANT, [MIDNIGHT]),
        (pa.array([[1]], pa.list_(pa.int32())), pa.list_(pa.int64()), [[1]]),
        (pa.array([[None, MIDNIGHT], None], pa.list_(INSTANT)), pa.list_(pa.date32()), [[None, date(2026, 1, 1)], None]),
        (pa.array([[9, 1], [2], None])[1:], pa.list_(pa.float32()), [[2.0], None]),
        (pa.array([[("a", 1)], None], MAP), pa.map_(pa.large_string(), pa.float64()), [[("a", 1.0)], None]),
        (pa.array([[("b", 2)], [("a", 1)], None], MAP)[1:], pa.map_(pa.string(), pa.int8()), [[("a", 1)], None]),
        (pa.array([0.1, math.inf, None]), pa.float32(), [0.10000000149011612, math.inf, None]),
        (pa.array([1e38]), pa.float32(), [9.999999680285692e37]),
        (pa.array([BERLIN_MORNING], pa.timestamp("us", "Europe/Berlin")), pa.date32(), [date(2026, 1, 1)]),
        (pa.array([None, None]), pa.string(), [None, None]),
        (pa.array([], pa.float64()), pa.string(), []),
        (pa.array([None], pa.int64()), pa.bool_(), [None]),
    ],
)
def test_values_keep_their_meaning(given: pa.Array, wanted: pa.DataType, expected: list[object]) -> None:
    found = declared_column(pa.chunked_array([given]), wanted)
    assert found.type == wanted
    assert found.to_pylist() == expected


@pytest.mark.parametrize(
    ("given", "wanted", "reason"),
    [
        (pa.array(["1.5"]), pa.float64(), "text is neither parsed nor made"),
        (pa.array(["1"]).dictionary_encode(), pa.int64(), "text is neither parsed nor made"),
        (pa.array(["2026-01-01T00:00:00Z"]), INSTANT, "text is neither parsed nor made"),
        (pa.array([7]), pa.string(), "text is neither parsed nor made"),
        (pa.array([["7"]]), pa.list_(pa.int64()), "text is neither parsed nor made"),
        (pa.array([[("a", 7)]], pa.map_(pa.string(), pa.int64())), pa.map_(pa.string(), pa.string()), "text is neither"),
        (pa.array([[("1", 7)]], MAP), pa.map_(pa.int64(), pa.int64()), "text is neither parsed nor made"),
        (pa.array([[(1, 7)]], pa.map_(pa.int64(), pa.int64())), MAP, "text is neither parsed nor made"),
        (pa.array([[("a", 7)]], MAP), pa.list_(pa.int64()), "a list, map or struct is not a single value"),
        (pa.array([7]), pa.bool_(), "only a truth value is one"),
        (pa.array([2.675]), pa.decimal128(10, 2), "a float is not rounded to a decimal"),
        (pa.array([7]), INSTANT, "a time is not a number"),
        (pa.array([NOON], INSTANT), pa.int64(), "a time is not a number"),
        (pa.array([MIDNIGHT, NOON], INSTANT), pa.date32(), "an instant other than midnight in UTC is not a date"),
        (pa.array([[MIDNIGHT], None, [NOON]]), pa.list_(pa.date32()), "an instant other than midnight in UTC"),
        (
            pa.array([[("a", NOON)]], pa.map_(pa.string(), INSTANT)),
            pa.map_(pa.string(), pa.date32()),
            "an instant other than",
        ),
        (
            pa.array([BERLIN_MIDNIGHT], pa.timestamp("us", "Europe/Berlin")),
            pa.date32(),
            "an instant other than midnight in UTC",
        ),
        (pa.array([0.5, None, 1e300]), pa.float32(), r"1e\+300 does not fit into float"),
        (pa.array([math.inf, -1e300]), pa.float32(), r"-1e\+300 does not fit into float"),
        (pa.array([[1.0], [1e300]]), pa.list_(pa.float32()), r"1e\+300 does not fit into float"),
        (pa.array([Decimal("1e60")], pa.decimal256(70, 0)), pa.float32(), "does not fit into float"),
        (pa.array([1.5]), pa.int64(), "truncated"),
        (pa.array([2**40]), pa.int32(), "not in range"),
        (pa.array([2**53 + 1]), pa.float64(), "not in range"),
        (pa.array([Decimal("1.25")]), pa.decimal128(10, 1), "data loss"),
    ],
)
def test_what_would_change_its_meaning_is_refused(given: pa.Array, wanted: pa.DataType, reason: str) -> None:
    with pytest.raises(pa.ArrowInvalid, match=reason):
        declared_column(pa.chunked_array([given]), wanted)
