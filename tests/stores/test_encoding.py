"""Packed rows: every type bit for bit, what is there and what is absent, old schemas, damage, and keys."""

from __future__ import annotations

import math
import struct
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fstore.arrow import arrow_type
from fstore.errors import EntityColumnError, StoreCorrupt, StoreError
from fstore.stores.encoding import RowCodec, RowDecoder
from fstore.stores.row_layout import schema_id
from fstore.types import Column, DataType, parse_type

KEY = Column(name="user_id", type="string")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
T = datetime(2026, 1, 2, tzinfo=UTC)

RANGES = {f"{sign}int{bits}": (-(1 << bits - 1), (1 << bits - 1) - 1) if not sign else (0, (1 << bits) - 1)
          for sign in ("", "u") for bits in (8, 16, 32, 64)}  # fmt: skip
SCALARS = {
    **{name: st.integers(low, high) for name, (low, high) in RANGES.items()},
    "float32": st.floats(width=32),
    "float64": st.floats(),
    "bool": st.booleans(),
    "string": st.text(max_size=20),
    "binary": st.binary(max_size=20),
    "date": st.dates(date(1, 1, 1), date(9999, 12, 31)),
    "timestamp": st.datetimes(timezones=st.just(UTC)),
    "decimal(18,2)": st.decimals(-(10**15), 10**15, places=2),
    "decimal(38,0)": st.integers(-(10**38) + 1, 10**38 - 1).map(Decimal),
}


NESTED = ("list<", "map<string,")


def columns_of(count: int) -> st.SearchStrategy[tuple[Column, list[object]]]:
    """Strategy of a column of a random type with ``count`` random values, nulls among them."""

    def values(type: str) -> st.SearchStrategy[tuple[str, list[object]]]:
        return st.lists(st.none() | value_of(type), min_size=count, max_size=count).map(lambda found: (type, found))

    types = st.sampled_from(
        [*SCALARS, "float32[3]", "float64[9]", *(f"{kind}{name}>" for name in SCALARS for kind in NESTED)]
    )
    return types.flatmap(values).map(lambda pair: (Column(name="", type=pair[0]), pair[1]))


def value_of(type: str) -> st.SearchStrategy[object]:
    parsed = parse_type(type)
    if parsed.item is None:
        return SCALARS[type]
    item = st.none() | SCALARS[str(parsed.item)]
    if parsed.name == "map":
        return st.dictionaries(st.text(max_size=3), item, max_size=4).map(lambda found: sorted(found.items()))
    return st.lists(item, min_size=parsed.size, max_size=parsed.size or 4)


def exact(value: object) -> object:
    """Return a value whose equality is equality of bits."""
    if isinstance(value, float):
        return struct.pack("<d", value)
    if isinstance(value, list | tuple):
        return [exact(item) for item in value]
    return value


def rows_of(columns: list[tuple[Column, list[object]]], count: int) -> tuple[list[Column], pa.Table]:
    named = [Column(name=f"c{index}", type=column.type) for index, (column, _) in enumerate(columns)]
    arrays = [pa.array(values, arrow_type(column.type)) for column, values in columns]
    times = pa.array([T + timedelta(microseconds=n) for n in range(count)], pa.timestamp("us", tz="UTC"))
    return named, pa.table([times, *arrays], names=["event_timestamp", *(column.name for column in named)])


@settings(max_examples=150, deadline=None)
@given(data=st.data(), count=st.integers(0, 6), start=st.integers(0, 3), sequence=st.integers(0, 2**64 - 1))
def test_rows_come_back_bit_for_bit(data: st.DataObject, count: int, start: int, sequence: int) -> None:
    columns = data.draw(st.lists(columns_of(count), max_size=5))
    features, table = rows_of(columns, count)
    table = table.slice(start)  # arrays with an offset, as batches have them
    codec = RowCodec([KEY], features)
    rows = codec.encode_rows(table, sequence)
    decoded = codec.decode_rows(rows, sequence)
    assert decoded["present"].to_pylist() == [True] * table.num_rows
    for name in table.column_names:
        assert decoded[name].type == table[name].type
        assert exact(decoded[name].to_pylist()) == exact(table[name].to_pylist())
    assert codec.encode_rows(table, sequence) == rows


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_absent_rows_do_not_disturb_the_others(data: st.DataObject) -> None:
    columns = data.draw(st.lists(columns_of(4), min_size=1, max_size=3))
    features, table = rows_of(columns, 4)
    codec = RowCodec([KEY], features)
    rows = codec.encode_rows(table, 8)
    kept = data.draw(st.lists(st.sampled_from([0, 1, 2, 3, None, "tombstone", "below"]), max_size=8))
    below, tombstone = codec.encode_rows(table, 7), codec.tombstones(1, 9)[0]
    given_rows = [
        rows[at] if isinstance(at, int) else {"tombstone": tombstone, "below": below[0], None: None}[at] for at in kept
    ]
    decoded = codec.decode_rows(given_rows, 8)
    assert decoded["present"].to_pylist() == [isinstance(at, int) for at in kept]
    for name in table.column_names:
        values = table[name].to_pylist()
        assert exact(decoded[name].to_pylist()) == exact([values[at] if isinstance(at, int) else None for at in kept])


def test_nan_payloads_and_negative_zero_survive() -> None:
    doubles = np.array([0x7FF0000000000001, 0xFFF8000000000123, 0x8000000000000000], np.uint64).view(np.float64)
    singles = np.array([0x7F800001, 0xFFC00123, 0x80000000], np.uint32).view(np.float32)
    features = [Column(name="d", type="float64"), Column(name="s", type="float32")]
    table = pa.table({"event_timestamp": pa.array([T] * 3, pa.timestamp("us", tz="UTC")), "d": doubles, "s": singles})
    codec = RowCodec([KEY], features)
    decoded = codec.decode_rows(codec.encode_rows(table, 1))
    assert decoded["d"].to_numpy().tobytes() == doubles.tobytes()
    assert decoded["s"].to_numpy().tobytes() == singles.tobytes()
    assert math.copysign(1, decoded["d"][2].as_py()) == -1


def test_more_rows_than_a_chunk() -> None:
    count = 70_000
    features = [Column(name="n", type="int64"), Column(name="s", type="string")]
    table = pa.table({
        "event_timestamp": pa.array(np.arange(count), pa.timestamp("us", tz="UTC")),
        "n": pa.array(np.arange(count)),
        "s": pa.array([str(n) if n % 3 else None for n in range(count)]),
    })  # fmt: skip
    codec = RowCodec([KEY], features)
    assert codec.decode_rows(codec.encode_rows(table, 1)).drop(["present"]).equals(table)


# -- the format ------------------------------------------------------------------------------------------------------


def test_the_bytes_of_a_row_are_as_documented() -> None:
    features = [Column(name="n", type="int32"), Column(name="s", type="string"), Column(name="x", type="float64"),
                Column(name="b", type="binary")]  # fmt: skip
    table = pa.table({
        "event_timestamp": pa.array([1_000_000], pa.timestamp("us", tz="UTC")),
        "n": pa.array([-2], pa.int32()), "s": ["ab"], "x": pa.array([None], pa.float64()), "b": [b"\x00"],
    })  # fmt: skip
    codec = RowCodec([KEY], features)
    (row,) = codec.encode_rows(table, 258)
    assert row == (
        (258).to_bytes(8, "big") + (1_000_000).to_bytes(8, "big") + codec.schema_id.to_bytes(8, "little")
        + bytes([0b1011]) + b"\xfe\xff\xff\xff" + bytes(8) + b"\x02\x00\x00\x00\x03\x00\x00\x00" + b"ab\x00"
    )  # fmt: skip
    assert codec.tombstones(2, 258) == [(258).to_bytes(8, "big") + bytes(16)] * 2


def test_the_schema_id_never_changes() -> None:
    """Stored rows carry it: a change of this number makes every stored row unreadable."""
    columns = [Column(name="n", type="int64"), Column(name="s", type="string")]
    assert schema_id(columns) == 0xC62EFB0E80E898E2
    assert schema_id(columns) == RowCodec([KEY], columns).schema_id
    assert len({
        schema_id(columns), schema_id(columns[::-1]), schema_id(columns[:1]), schema_id([]),
        schema_id([Column(name="n", type="int32"), columns[1]]),
    }) == 5  # fmt: skip
    assert schema_id([Column(name="d", type="DECIMAL( 18, 2 )")]) == schema_id([Column(name="d", type="decimal(18,2)")])


def test_a_quarantined_row_is_there_with_nulls_and_an_absent_one_is_not() -> None:
    codec = RowCodec([KEY], [Column(name="n", type="int64")])
    table = pa.table({"event_timestamp": pa.array([T], pa.timestamp("us", tz="UTC")), "n": pa.array([None], pa.int64())})
    (row,) = codec.encode_rows(table, 4)
    assert codec.decode_rows([row, None], 4).to_pylist() == [
        {"present": True, "event_timestamp": T, "n": None},
        {"present": False, "event_timestamp": None, "n": None},
    ]


# -- old schemas and damage --------------------------------------------------------------------------------------------


def _one(features: list[Column], sequence: int = 1, **values: object) -> bytes:
    arrays = {column.name: pa.array([values[column.name]], arrow_type(column.type)) for column in features}
    table = pa.table({"event_timestamp": pa.array([T], pa.timestamp("us", tz="UTC")), **arrays})
    return RowCodec([KEY], features).encode_rows(table, sequence)[0]


def test_old_schemas_read_as_the_columns_asked_for() -> None:
    old = [Column(name="s", type="string"), Column(name="n", type="int64"), Column(name="gone", type="bool")]
    new = [Column(name="n", type="int64"), Column(name="added", type="float32[2]"), Column(name="s", type="string")]
    decoder = RowDecoder(new, {schema_id(old): old})
    rows = [
        _one(new, n=1, added=[1.0, None], s="a"),
        None,
        _one(old, s="b", n=2, gone=True),
        _one(new, n=3, added=None, s=None),
    ]
    assert decoder.decode_rows(rows).select(["n", "added", "s"]).to_pylist() == [
        {"n": 1, "added": [1.0, None], "s": "a"},
        {"n": None, "added": None, "s": None},
        {"n": 2, "added": None, "s": "b"},
        {"n": 3, "added": None, "s": None},
    ]
    assert RowDecoder(new[:1], {schema_id(old): old, schema_id(new): new}).decode_rows(rows)["n"].to_pylist() == [
        1,
        None,
        2,
        3,
    ]


def test_an_unknown_schema_is_named() -> None:
    known, other = [Column(name="n", type="int64")], [Column(name="m", type="int64")]
    with pytest.raises(StoreCorrupt) as caught:
        RowDecoder(known).decode_rows([_one(known, n=1), _one(other, m=2)])
    assert str(caught.value) == (
        f"a stored row has schema id {schema_id(other):016x}, which is none of those known for this view: "
        f"'{schema_id(known):016x}'. It was written by a definition that this registry does not know, or its bytes are damaged."
    )


def test_a_changed_type_is_not_guessed_at() -> None:
    old, new = [Column(name="n", type="int32")], [Column(name="n", type="int64")]
    with pytest.raises(StoreCorrupt, match=r"feature 'n' is int64, but rows of schema .* hold int32"):
        RowDecoder(new, {schema_id(old): old}).decode_rows([_one(old, n=1)])


def test_a_row_cut_anywhere_is_corrupt() -> None:
    features = [Column(name="n", type="int64"), Column(name="s", type="string"), Column(name="l", type="list<string>")]
    row = _one(features, n=1, s="abc", l=["x", None, "yz"])
    decoder = RowDecoder(features)
    assert decoder.decode_rows([row])["l"].to_pylist() == [["x", None, "yz"]]
    for end in range(len(row)):
        with pytest.raises(StoreCorrupt):
            decoder.decode_rows([row, row[:end]])
    with pytest.raises(StoreCorrupt):
        decoder.decode_rows([row + b"x"])


@pytest.mark.parametrize("type", ["map<string,string>", "map<string,int16>"])
def test_a_map_cut_anywhere_is_corrupt(type: str) -> None:
    features = [Column(name="m", type=type)]
    entries = [("x", None), ("yz", "abc" if "int" not in type else 7)]
    row = _one(features, m=entries)
    decoder = RowDecoder(features)
    assert decoder.decode_rows([row, row])["m"].to_pylist() == [entries, entries]
    header, ends = row[:25], len(row) - 29
    for size in range(1, ends):
        cut = header + struct.pack("<I", size) + row[29 : 29 + size]
        with pytest.raises(StoreCorrupt, match="is cut short"):
            decoder.decode_rows([row, cut])
    with pytest.raises(StoreCorrupt, match="is cut short"):
        decoder.decode_rows([header + struct.pack("<I", ends + 1) + row[29:] + b"x"])


def test_strings_that_are_not_text_are_corrupt() -> None:
    features = [Column(name="s", type="string")]
    row = _one(features, s="abc")
    with pytest.raises(StoreCorrupt, match="a stored string is not UTF-8"):
        RowDecoder(features).decode_rows([row[:-1] + b"\xff"])


# -- what can be encoded -------------------------------------------------------------------------------------------------


def test_columns_are_found_by_name_and_cast_without_loss() -> None:
    features = [Column(name="n", type="int64"), Column(name="s", type="string")]
    table = pa.table({
        "s": pa.array(["a", "b"]).dictionary_encode(), "other": [1, 2], "n": pa.array([1, 2], pa.int16()),
        "event_timestamp": pa.array([T, T], pa.timestamp("ms", tz="UTC")),
    })  # fmt: skip
    codec = RowCodec([KEY], features)
    assert codec.decode_rows(codec.encode_rows(table, 1))["s"].to_pylist() == ["a", "b"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"event_timestamp": [T]}, "column 'n' is missing from the rows to encode: 'event_timestamp'"),
        ({"event_timestamp": [T], "n": [1.5]}, "column 'n' is double, which does not fit int64"),
        ({"event_timestamp": [T], "n": ["x"]}, "column 'n' is string, which does not fit int64"),
        ({"event_timestamp": [None], "n": [1]}, "column 'event_timestamp' holds 1 nulls: every row has its instant"),
    ],
)
def test_rows_that_do_not_fit_are_refused(columns: dict[str, list[object]], message: str) -> None:
    times = pa.array(columns["event_timestamp"], pa.timestamp("us", tz="UTC"))
    table = pa.table({**columns, "event_timestamp": times})
    with pytest.raises(StoreError) as caught:
        RowCodec([KEY], [Column(name="n", type="int64")]).encode_rows(table, 1)
    assert str(caught.value).startswith(message)


# -- keys --------------------------------------------------------------------------------------------------------------

PARTS = {name: SCALARS[name] for name in ("string", "int8", "uint16", "int64", "uint64", "bool", "date")}


@settings(max_examples=100, deadline=None)
@given(data=st.data(), types=st.lists(st.sampled_from(sorted(PARTS)), min_size=1, max_size=3))
def test_keys_are_equal_if_and_only_if_their_parts_are(data: st.DataObject, types: list[str]) -> None:
    small = {"string": st.text("a\0", max_size=3)}
    tuples = data.draw(st.lists(st.tuples(*(small.get(name, PARTS[name]) for name in types)), max_size=12))
    keys = [Column(name=f"k{index}", type=name) for index, name in enumerate(types)]
    table = pa.table({
        key.name: pa.array([values[index] for values in tuples], arrow_type(key.type)) for index, key in enumerate(keys)
    })  # fmt: skip
    encoded = RowCodec(keys, []).encode_keys(table)
    assert len(encoded) == len(tuples)
    for left, one in zip(tuples, encoded, strict=True):
        assert [left == right for right in tuples] == [one == other for other in encoded]


def test_numbers_of_another_width_and_dictionaries_are_the_same_key() -> None:
    codec = RowCodec([Column(name="n", type="int64"), Column(name="s", type="string")], [])
    wide = pa.table({"n": pa.array([1, -2], pa.int64()), "s": ["a", "b"]})
    narrow = pa.table({"n": pa.array([1, -2], pa.int8()), "s": pa.array(["a", "b"]).dictionary_encode()})
    assert codec.encode_keys(wide) == codec.encode_keys(narrow) == sorted(codec.encode_keys(wide))[::-1]


@pytest.mark.parametrize(
    ("type", "values", "message"),
    [
        ("int64", pa.array([1.0]), "join key 'k' is int64, but the given column is double"),
        ("int64", pa.array([float("nan")]), "join key 'k' is int64, but the given column is double"),
        ("int64", pa.array(["1"]), "join key 'k' is int64, but the given column is string"),
        ("string", pa.array([1]), "join key 'k' is string, but the given column is int64"),
        ("string", pa.array(["a", None]), "join key 'k' holds 1 nulls: a null identifies no entity"),
        ("int8", pa.array([300]), "join key 'k' does not fit int8: Integer value 300 not in range: -128 to 127"),
        ("bool", pa.array([1]), "join key 'k' is bool, but the given column is int64"),
    ],
)
def test_what_is_not_a_key_is_refused(type: str, values: pa.Array, message: str) -> None:
    with pytest.raises(EntityColumnError) as caught:
        RowCodec([Column(name="k", type=type)], []).encode_keys(pa.table({"k": values}))
    assert str(caught.value) == message


def test_a_missing_key_column_is_named() -> None:
    with pytest.raises(EntityColumnError, match="join key 'k' is missing; the columns are 'a', 'b'"):
        RowCodec([Column(name="k", type="int64")], []).encode_keys(pa.table({"a": [1], "b": [2]}))


def test_every_type_of_the_language_has_a_cell() -> None:
    for name in [*SCALARS, "float32[128]", "list<decimal(9,3)>", "map<string,decimal(9,3)>"]:
        assert isinstance(parse_type(name), DataType)
        assert _one([Column(name="c", type=name)], c=None)
