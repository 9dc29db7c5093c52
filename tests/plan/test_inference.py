"""Types of expressions, compared with the types that DuckDB really computes."""

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fstore.plan.inference import Untyped, infer_type, sql_type
from fstore.plan.sql import parse_scalar
from fstore.types import parse_type

NUMBERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "float32", "float64", "decimal(10,2)",
           "decimal(18,4)", "decimal(38,6)")  # fmt: skip
COLUMNS = {**{f"c{place}": text for place, text in enumerate(NUMBERS)}, "s": "string", "b": "bool", "d": "date",
           "t": "timestamp", "l": "list<int64>"}  # fmt: skip


@pytest.fixture(scope="module")
def typeof():
    """DuckDB's own type of an expression, over columns of all types."""
    casts = ", ".join(f"CAST(NULL AS {sql_type(parse_type(text))}) AS {name}" for name, text in COLUMNS.items())
    with duckdb.connect() as connection:
        yield lambda text: connection.execute(f"SELECT typeof({text}) FROM (SELECT {casts})").fetchall()[0][0]


numbers = st.one_of(
    st.sampled_from([f"c{place}" for place in range(len(NUMBERS))]),
    st.sampled_from(["1", "0.5", "12.25", "300", "70000", "5000000000", "1e3", "NULL"]),
)


def _combine(inner):
    return st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from(["+", "-", "*", "/", "//", "%"]), inner),
        st.builds("{}({}, {})".format, st.sampled_from(["coalesce", "greatest", "least", "nullif"]), inner, inner),
        st.builds("CASE WHEN b THEN {} ELSE {} END".format, inner, inner),
        st.builds("if(b, {}, {})".format, inner, inner),
        st.builds("{}({})".format, st.sampled_from(["abs", "-", "sqrt", "round", "floor", "ceil", "ln"]), inner),
    )


@settings(max_examples=400, deadline=None)
@given(st.recursive(numbers, _combine, max_leaves=5))
def test_an_inferred_type_is_the_type_that_duckdb_computes(typeof, text):
    try:
        inferred = infer_type(parse_scalar(text).tree, COLUMNS)
    except Untyped:
        return
    try:
        computed = typeof(text)
    except duckdb.Error:
        return  # DuckDB refuses it: nothing will be computed
    assert sql_type(inferred) == computed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("c3 / c3", "float64"),
        ("1 - c3 / c3", "float64"),
        ("c2 * 2", "int32"),
        ("c8 > 10", "bool"),
        ("s IS NULL OR b", "bool"),
        ("s LIKE 'a%'", "bool"),
        ("s IN ('a', 'b')", "bool"),
        ("CAST(s AS DECIMAL(12,3))", "decimal(12,3)"),
        ("t::DATE", "date"),
        ("try_cast(s AS INTEGER)", "int32"),
        ("coalesce(s, 'none')", "string"),
        ("upper(s) || '!'", "string"),
        ("length(s)", "int64"),
        ("date_diff('day', t, t)", "int64"),
        ("extract(year FROM t)", "int64"),
        ("CASE WHEN b THEN s END", "string"),
        ("coalesce(d, d)", "date"),
        ("greatest(c8, 25)", "float64"),
        ("c9 + 1", "decimal(13,2)"),
        ("'text'", "string"),
        ("true", "bool"),
        ("hour(t)", "int64"),
        ("extract(epoch FROM t)", "float64"),
        ("extract('Julian' FROM t)", "float64"),
        ("concat(s, '-', c3)", "string"),
    ],
)
def test_infers(typeof, text, expected):
    inferred = infer_type(parse_scalar(text).tree, COLUMNS)
    assert str(inferred) == expected
    assert sql_type(inferred) == typeof(text)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("NULL", "NULL"),
        ("hash(s)", "HASH(s)"),
        ("c1 + t", "c1 + t"),
        ("d + INTERVAL 1 DAY", "d + INTERVAL '1' DAY"),
        ("coalesce(s, 1)", "COALESCE(s, 1)"),
        ("abs(s)", "ABS(s)"),
        ("CAST(s AS STRUCT(a INTEGER))", "CAST(s AS STRUCT(a INT))"),
        ("s.field", "s.field"),
        ("concat(l, l)", "CONCAT(l, l)"),
    ],
)
def test_says_which_part_needs_a_cast(text, part):
    with pytest.raises(Untyped) as raised:
        infer_type(parse_scalar(text).tree, COLUMNS)
    assert raised.value.part == part


def test_a_type_hangs_on_the_columns_unless_a_cast_or_comparison_decides():
    assert infer_type(parse_scalar("missing + 1").tree, COLUMNS) is None
    assert str(infer_type(parse_scalar("(missing > 1)").tree, COLUMNS)) == "bool"
    assert str(infer_type(parse_scalar("CAST(missing AS DOUBLE)").tree, COLUMNS)) == "float64"
