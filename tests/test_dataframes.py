"""What a function gives, as the type that was declared: the same meaning, or an error."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from fstore.dataframes import declared_column

INSTANT = pa.timestamp("us", tz="UTC")
NOON, MIDNIGHT = datetime(2026, 1, 1, 12, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)


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
        (pa.array([7]), pa.bool_(), "only a truth value is one"),
        (pa.array([2.675]), pa.decimal128(10, 2), "a float is not rounded to a decimal"),
        (pa.array([7]), INSTANT, "a time is not a number"),
        (pa.array([NOON], INSTANT), pa.int64(), "a time is not a number"),
        (pa.array([MIDNIGHT, NOON], INSTANT), pa.date32(), "an instant within a day is not a date"),
        (pa.array([1.5]), pa.int64(), "truncated"),
        (pa.array([2**40]), pa.int32(), "not in range"),
        (pa.array([2**53 + 1]), pa.float64(), "not in range"),
        (pa.array([Decimal("1.25")]), pa.decimal128(10, 1), "data loss"),
    ],
)
def test_what_would_change_its_meaning_is_refused(given: pa.Array, wanted: pa.DataType, reason: str) -> None:
    with pytest.raises(pa.ArrowInvalid, match=reason):
        declared_column(pa.chunked_array([given]), wanted)
