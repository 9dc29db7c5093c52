"""A few rows are the same values one by one as many are at once."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fstore.arrow import TIMESTAMP, arrow_schema
from fstore.errors import StoreCorrupt
from fstore.stores.encoding import RowCodec
from fstore.stores.row_layout import HEADER_BYTES, RowLayout
from fstore.stores.row_unpacking import RowUnpacker
from fstore.types import Column

RANGES = {f"{sign}int{bits}": (0 if sign else -(1 << bits - 1), (1 << bits) - 1 if sign else (1 << bits - 1) - 1)
          for sign in ("", "u") for bits in (8, 16, 32, 64)}  # fmt: skip
VALUES: dict[str, st.SearchStrategy[object]] = {
    **{kind: st.integers(*ends) for kind, ends in RANGES.items()},
    "float64": st.floats(),
    "float32": st.floats(width=32),
    "bool": st.booleans(),
    "string": st.text(max_size=6),
}
OTHERS = ("date", "timestamp", "float64[2]", "list<int64>", "decimal(10,2)")
AT = datetime(2026, 1, 2, tzinfo=UTC)


def packed(columns: Sequence[Column], rows: Sequence[Sequence[object]]) -> list[bytes]:
    fields = [pa.field("user", pa.string()), pa.field("event_timestamp", TIMESTAMP), *arrow_schema(columns)]
    lists = [["u"] * len(rows), [AT] * len(rows), *([row[n] for row in rows] for n in range(len(columns)))]
    table = pa.table([pa.array(values, field.type) for values, field in zip(lists, fields, strict=True)], pa.schema(fields))
    return RowCodec([Column(name="user", type="string")], columns).encode_rows(table, 5)


def bits(value: object) -> object:
    return ("NaN" if math.isnan(value) else struct.pack("d", value)) if isinstance(value, float) else (type(value), value)


@given(data=st.data())
def test_rows_are_the_values_that_were_packed(data: st.DataObject) -> None:
    kinds = data.draw(st.lists(st.sampled_from([*VALUES, *OTHERS]), min_size=1, max_size=12))
    columns = [Column(name=f"f{n}", type=kind) for n, kind in enumerate(kinds)]
    known = [n for n, kind in enumerate(kinds) if kind in VALUES]
    wanted = data.draw(st.permutations(known))[: data.draw(st.integers(0, len(known)))]
    row = st.tuples(*(st.none() | VALUES.get(kind, st.none()) for kind in kinds))
    rows = data.draw(st.lists(row, min_size=1, max_size=9))
    layout = RowLayout(columns)
    assert RowUnpacker.reads(layout, wanted) == bool(wanted)
    if wanted:
        found = RowUnpacker(layout, wanted).lists(packed(columns, rows))
        assert [[bits(value) for value in values] for values in found] == [[bits(row[n]) for row in rows] for n in wanted]


@pytest.mark.parametrize("kind", OTHERS)
def test_other_types_are_left_to_numpy(kind: str) -> None:
    columns = [Column(name="a", type="int64"), Column(name="b", type=kind)]
    assert not RowUnpacker.reads(RowLayout(columns), [0, 1])
    assert RowUnpacker.reads(RowLayout(columns), [0])


def test_damaged_rows_are_refused() -> None:
    columns = [Column(name="a", type="string"), Column(name="b", type="string")]
    unpacker = RowUnpacker(RowLayout(columns), [0, 1])
    (row,) = packed(columns, [("one", "two")])
    ends = HEADER_BYTES + 1
    for damaged in (row[:-1], row + b"x", row[:ends] + struct.pack("<II", 7, 6) + row[ends + 8 :]):
        with pytest.raises(StoreCorrupt, match="its strings do not end where it does"):
            unpacker.lists([damaged])
    with pytest.raises(StoreCorrupt, match="is not UTF-8"):
        unpacker.lists([row[:-3] + b"\xff\xff\xff"])
