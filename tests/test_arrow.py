from __future__ import annotations

import datetime as dt
import decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fstore.arrow import arrow_columns, arrow_schema, arrow_type, rows_hash, schema_id, type_text
from fstore.types import SCALARS, Column, parse_type

TEXTS = (
    *SCALARS, "decimal(18,2)", "decimal(38,0)", "float32[128]", "float64[3]", "list<string>", "list<decimal(5,1)>",
    "map<string,int64>", "map<string,decimal(5,1)>",
)  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_every_type_survives_the_way_to_arrow_and_back(text: str) -> None:
    assert type_text(arrow_type(text)) == text


@pytest.mark.parametrize(
    ("arrow", "text"),
    [
        (pa.timestamp("ns", tz="Europe/Berlin"), "timestamp"),
        (pa.timestamp("us"), "unsupported(timestamp without zone)"),
        (pa.dictionary(pa.int32(), pa.string()), "string"),
        (pa.large_string(), "string"),
        (pa.binary(4), "binary"),
        (pa.float16(), "float32"),
        (pa.list_(pa.list_(pa.int64())), "unsupported(list<item: list<item: int64>>)"),
        (pa.list_(pa.int64(), 3), "list<int64>"),
        (pa.map_(pa.large_string(), pa.float16()), "map<string,float32>"),
        (pa.map_(pa.int64(), pa.string()), "unsupported(map<int64, string>)"),
        (pa.map_(pa.string(), pa.list_(pa.int64())), "unsupported(map<string, list<item: int64>>)"),
        (pa.struct([("a", pa.int64())]), "unsupported(struct<a: int64>)"),
        (pa.null(), "unsupported(null)"),
        (pa.time64("us"), "unsupported(time64[us])"),
        (pa.decimal256(50, 2), "unsupported(decimal256(50, 2))"),
    ],
)
def test_physical_variants_read_as_their_logical_type(arrow: pa.DataType, text: str) -> None:
    assert type_text(arrow) == text


def test_schema_marks_required_columns_and_its_id_depends_on_names_types_and_order() -> None:
    columns = (Column(name="user_id", type="string"), Column(name="score", type="float64"))
    schema = arrow_schema(columns, required=["user_id"])
    assert [field.nullable for field in schema] == [False, True]
    assert arrow_columns(schema) == columns
    assert schema_id(schema) == schema_id(columns) == schema_id(arrow_schema(columns))
    assert schema_id(columns) != schema_id(columns[::-1])
    assert schema_id(columns) != schema_id((columns[0], Column(name="score", type="float32")))


def _table(**columns: object) -> pa.Table:
    return pa.table(columns)


def test_rows_hash_ignores_order_chunks_encoding_and_units() -> None:
    when = [dt.datetime(2026, 1, day, tzinfo=dt.UTC) for day in (1, 2, 3)]
    plain = pa.table(
        {
            "name": ["a", None, "c"],
            "n": pa.array([1, 2, None], pa.int64()),
            "at": pa.array(when, pa.timestamp("us", tz="UTC")),
            "v": pa.array([[1.0, 2.0], None, [3.0, 4.0]], pa.list_(pa.float32(), 2)),
            "d": pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("-2.25")], pa.decimal128(9, 2)),
        }
    )
    shuffled = pa.concat_tables([plain.slice(2), plain.slice(0, 2)]).select(["d", "v", "at", "n", "name"])
    recoded = shuffled.set_column(4, "name", shuffled["name"].dictionary_encode())
    recoded = recoded.set_column(2, "at", recoded["at"].cast(pa.timestamp("ns", tz="Europe/Berlin")))
    assert rows_hash(recoded) == rows_hash(plain)
    assert rows_hash(plain.to_reader(max_chunksize=1)) == rows_hash(plain)


def test_rows_hash_is_the_same_on_every_machine_and_in_every_version() -> None:
    assert rows_hash(_table(a=[1, 2], b=["x", "y"])) == "0000000000000001484909225dbfe7f3"


@pytest.mark.parametrize(
    "other",
    [
        _table(a=[1, 2], b=["x", "z"]),
        _table(a=[1, 2], b=["y", "x"]),
        _table(a=[1, 2, 2], b=["x", "y", "y"]),
        _table(a=[1], b=["x"]),
        _table(a=[1, 2], b=["x", None]),
        _table(a=[1, 2], c=["x", "y"]),
        _table(a=[1.0, 2.0], b=["x", "y"]),
        _table(a=[2, 1], b=["x", "y"]),
    ],
)
def test_rows_hash_sees_every_difference(other: pa.Table) -> None:
    assert rows_hash(other) != rows_hash(_table(a=[1, 2], b=["x", "y"]))


def test_rows_hash_of_texts_sees_every_byte_and_the_length_wherever_they_lie() -> None:
    texts = ["", "a", "a\0", "\0a", "eight by", "eight by\0", "eight by eight b", "é" * 300, "é" * 299 + "e", "x" * 512,
             "x" * 511 + "y", "x" * 4000, "x" * 3999 + "y", None]  # fmt: skip
    alone = [rows_hash(_table(t=pa.array([text], pa.string()))) for text in texts]
    assert len(set(alone)) == len(texts)
    for kind in (pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())):
        whole = pa.array(["before", *texts, "after"], pa.string()).cast(kind)
        assert [rows_hash(_table(t=whole[at : at + 1])) for at in range(1, len(texts) + 1)] == alone
    assert rows_hash(_table(t=pa.array([b"a"]))) != rows_hash(_table(t=["a"]))


def test_rows_hash_treats_zero_and_nan_as_one_value_each_and_null_as_another() -> None:
    zero = rows_hash(pa.table({"x": [0.0]}))
    assert rows_hash(pa.table({"x": [-0.0]})) == zero
    assert rows_hash(pa.table({"x": pa.array([None], pa.float64())})) != zero
    nan = rows_hash(pa.table({"x": [float("nan")]}))
    assert rows_hash(pa.table({"x": [-float("nan")]})) == nan != zero
    assert rows_hash(pa.table({"x": pa.array([], pa.float64())})) == "0" * 32


def test_rows_hash_of_chosen_columns_leaves_the_others_out() -> None:
    assert rows_hash(pa.table({"k": [1], "f": [0.1]}), columns=["k"]) == rows_hash(pa.table({"k": [1]}))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.integers(-(2**63), 2**63 - 1) | st.none(),
            st.lists(st.text(max_size=3) | st.none(), max_size=3) | st.none(),
        )
    ),
    st.randoms(use_true_random=False),
)
def test_rows_hash_is_a_sum_over_parts_in_any_order(rows: list[tuple[object, object]], random: object) -> None:
    def table(part: list[tuple[object, object]]) -> pa.Table:
        numbers, lists = [row[0] for row in part], [row[1] for row in part]
        return pa.table({"n": pa.array(numbers, pa.int64()), "l": pa.array(lists, pa.list_(pa.string()))})

    whole = int(rows_hash(table(rows)), 16)
    mixed = list(rows)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    half = len(mixed) // 2
    assert (int(rows_hash(table(mixed[:half])), 16) + int(rows_hash(table(mixed[half:])), 16)) % 2**128 == whole


@pytest.mark.parametrize("text", ["map<int64,string>", "map<string,list<int64>>", "map<string>", "list<map<string,int64>>"])
def test_what_is_not_a_type_says_what_is(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a type; use one of bool, .* list<type>, map<string,type>, float32\[n\]"):
        parse_type(text)


def test_a_maps_text_is_canonical() -> None:
    assert str(parse_type("MAP< string , decimal( 5, 1 ) >")) == "map<string,decimal(5,1)>"


def test_rows_hash_of_maps_covers_entries_and_not_their_order() -> None:
    def hashed(*maps: dict[str, float | None] | None, start: int = 0) -> str:
        array = pa.array([None if m is None else list(m.items()) for m in maps], arrow_type("map<string,float64>"))
        return rows_hash(pa.table({"m": array.slice(start)}))

    assert (
        hashed({"a": 1.0, "b": None}) == hashed({"b": None, "a": 1.0}) == hashed({"x": 9.0}, {"a": 1.0, "b": None}, start=1)
    )
    different = [{"a": 1.0}, {"a": None, "b": 1.0}, {"a": 1.0, "b": 0.0}, {"b": 1.0, "a": None}, {}, None, {"ab": 1.0}]
    assert len({hashed(m) for m in [{"a": 1.0, "b": None}, *different]}) == 7  # two of them are equal


def test_rows_hash_reads_no_further_than_values_go() -> None:
    """DuckDB hands over buffers that end anywhere behind the values, also where there are none."""
    odd = pa.Array.from_buffers(pa.int64(), 1, [None, pa.py_buffer((7).to_bytes(8, "little") + b"?")])
    none = pa.Array.from_buffers(pa.int64(), 0, [None, pa.py_buffer(b"?")])
    assert rows_hash(pa.table({"n": odd})) == rows_hash(pa.table({"n": pa.array([7])}))
    assert rows_hash(pa.table({"n": none})) == rows_hash(pa.table({"n": pa.array([], pa.int64())}))
    offsets = pa.py_buffer(b"".join(n.to_bytes(4, "little") for n in (0, 1)) + b"?")
    text = pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(b"x??")])
    assert rows_hash(pa.table({"s": text})) == rows_hash(pa.table({"s": pa.array(["x"])}))
