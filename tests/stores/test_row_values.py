"""Features read out of packed rows in three forms, against what was packed: every type, bit for bit, nulls where they were."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fstore.errors import StoreCorrupt
from fstore.stores.encoding import RowCodec
from fstore.stores.row_values import RowReader, RowValues
from fstore.types import Column
from tests.stores.test_encoding import KEY, T, columns_of, rows_of
from tests.stores.test_encoding import exact as exact_item


def exact(value: object) -> object:
    """Return a value whose equality is equality of bits; of maps in the order of their keys."""
    if isinstance(value, dict):
        return [(key, exact_item(item)) for key, item in value.items()]
    return [exact(item) for item in value] if isinstance(value, list) else exact_item(value)


def read(columns: list[Column], rows: list[bytes], wanted: list[str]) -> RowValues:
    values = RowReader(columns, wanted).read(rows)
    assert values is not None
    return values


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_features_come_back_in_every_form(data: st.DataObject) -> None:
    count = data.draw(st.sampled_from([1, 2, 16, 17, 30]))
    drawn = data.draw(st.lists(columns_of(count), min_size=1, max_size=6))
    columns, table = rows_of(drawn, count)
    wanted = data.draw(st.permutations([column.name for column in columns]))[: data.draw(st.integers(1, len(columns)))]
    values = read(columns, RowCodec([KEY], columns).encode_rows(table, 7), wanted)
    assert values.event_timestamps() == table["event_timestamp"].cast(pa.int64()).to_pylist()
    lists = values.lists()
    arrays, nulls = values.arrays()
    for place, name in enumerate(wanted):
        packed = table[name].combine_chunks()
        expected = packed.to_pylist(maps_as_pydicts="strict")
        assert exact(values.arrow(place).to_pylist(maps_as_pydicts="strict")) == exact(expected)
        assert values.arrow(place).type == packed.type
        assert exact(lists[place]) == exact(expected)
        assert [type(value) for value in lists[place]] == [type(value) for value in expected]
        assert nulls[place].tolist() == [value is None for value in expected]
        check_array(arrays[place], expected, packed.type)


def check_array(array: np.ndarray, expected: list[object], kind: pa.DataType) -> None:
    """Fail unless a numpy array has the values, in the type's own dtype, and the promised ones where there are none."""
    assert len(array) == len(expected)
    assert array.flags.writeable
    if pa.types.is_fixed_size_list(kind):
        assert array.shape == (len(expected), kind.list_size)
        for row, value in zip(array, expected, strict=True):
            items = [None] * kind.list_size if value is None else value
            assert [exact(float(item)) for item in row if not math.isnan(item)] == [
                exact(float(item)) for item in items if item is not None and not math.isnan(item)
            ]
        return
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        unit = "us" if pa.types.is_timestamp(kind) else "D"
        assert array.dtype == np.dtype(f"<M8[{unit}]")
        plain = [value.replace(tzinfo=None) if isinstance(value, datetime) else value for value in expected]
        assert [None if np.isnat(value) else value.item() for value in array] == plain
        return
    if pa.types.is_floating(kind):
        assert array.dtype == kind.to_pandas_dtype()
        assert [exact(value) for value in array.tolist() if value == value] == [
            exact(value) for value in expected if value is not None and value == value
        ]
        return
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        assert array.dtype == kind.to_pandas_dtype()
        assert array.tolist() == [value or 0 for value in expected]
        return
    assert array.dtype == object
    assert exact(array.tolist()) == exact(expected)


def test_bits_of_numbers_survive() -> None:
    columns = [Column(name="x", type="float64"), Column(name="y", type="float64")]
    odd = np.array([-0.0, np.frombuffer(b"\1\0\0\0\0\0\xf8\x7f", "<f8")[0], np.inf])
    table = pa.table({"event_timestamp": pa.array([T] * 3, pa.timestamp("us", "UTC")), "x": odd, "y": odd[::-1].copy()})
    values = read(columns, RowCodec([KEY], columns).encode_rows(table, 1), ["y", "x"])
    (y, x), nulls = values.arrays()
    assert (x.tobytes(), y.tobytes(), nulls.any()) == (odd.tobytes(), odd[::-1].tobytes(), False)


def test_rows_of_another_schema_are_left_to_others() -> None:
    own, other = [Column(name="n", type="int64")], [Column(name="m", type="int64")]
    longer = [*own, Column(name="text", type="string")]
    times = pa.array([T], pa.timestamp("us", "UTC"))
    for columns in (other, longer):
        table = pa.table({"event_timestamp": times, "n": [1], "m": [1], "text": ["x"]})
        rows = RowCodec([KEY], columns).encode_rows(table, 1)
        for batch in (rows, rows * 20):
            assert RowReader(own, ["n"]).read(batch) is None
    short = RowCodec([KEY], own).encode_rows(pa.table({"event_timestamp": times, "n": [1]}), 1)
    assert RowReader(longer, ["n"]).read(short) is None


@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize("texts", [("abc",), ("abc", "dé")])
def test_damaged_strings_are_told(count: int, texts: tuple[str, ...]) -> None:
    columns = [Column(name=f"t{n}", type="string") for n in range(len(texts))]
    table = pa.table({"event_timestamp": pa.array([T] * count, pa.timestamp("us", "UTC")),
                      **{column.name: [text] * count for column, text in zip(columns, texts, strict=True)}})  # fmt: skip
    rows = RowCodec([KEY], columns).encode_rows(table, 1)
    names = [column.name for column in columns]
    for damaged in (rows[0][:-1], rows[0] + b"x"):
        with pytest.raises(StoreCorrupt, match="is damaged: its strings do not end where it does"):
            read(columns, [*rows[1:], damaged], names).lists()
    not_utf8 = rows[0][:-1] + b"\xff"
    with pytest.raises(StoreCorrupt, match="a stored string is not UTF-8"):
        read(columns, [*rows[1:], not_utf8], names).lists()


def test_no_rows_give_empty_columns() -> None:
    columns = [Column(name="n", type="int64"), Column(name="t", type="string"), Column(name="d", type="date")]
    values = read(columns, [], ["n", "t", "d"])
    assert values.lists() == [[], [], []]
    assert [len(array) for array in values.arrays()[0]] == [0, 0, 0]
    assert values.event_timestamps() == []


def test_dates_beyond_what_nanoseconds_hold() -> None:
    columns = [Column(name="d", type="date"), Column(name="t", type="timestamp")]
    far = [date(1, 1, 1), date(9999, 12, 31)]
    times = [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)]
    table = pa.table({"event_timestamp": pa.array([T] * 2, pa.timestamp("us", "UTC")), "d": pa.array(far, pa.date32()),
                      "t": pa.array(times, pa.timestamp("us", "UTC"))})  # fmt: skip
    values = read(columns, RowCodec([KEY], columns).encode_rows(table, 1), ["d", "t"])
    arrays, _ = values.arrays()
    assert arrays[0].tolist() == far
    assert arrays[1].tolist() == [instant.replace(tzinfo=None) for instant in times]
    assert values.lists() == [far, times]
