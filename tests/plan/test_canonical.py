"""Canonical SQL and Python: what does not count, and that nothing else is lost."""

from __future__ import annotations

import ast
import re

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fstore.plan.canonical import canonical_python, canonical_sql

SAME = [
    ("(a)", "a"),
    ("((a + b))", "a + b"),
    ("(a * b) + c", "a * b + c"),
    ("(a - b) - c", "a - b - c"),
    ("(a + b) > c AND (d = 1)", "a + b > c AND d = 1"),
    ("f((a), (b + 1))", "f(a, b + 1)"),
    ("CASE WHEN (a > 1) THEN (b) ELSE (c) END", "CASE WHEN a > 1 THEN b ELSE c END"),
    ('SELECT "Amount" FROM o WHERE ("x" = 1)', "select amount from o where x = 1"),
    ("-(a)", "- a"),
    ("coalesce(u.a, 0) -- none yet", "COALESCE(u . a, 0)"),
]
DIFFERENT = [
    ("a - (b - c)", "a - b - c"),
    ("a / (b * c)", "a / b * c"),
    ("(a + b) * c", "a + b * c"),
    ("-(a + b)", "- a + b"),
    ("a + (b + c)", "a + b + c"),
    ("(a = b) = c", "a = (b = c)"),
    ("a OR (b AND c)", "(a OR b) AND c"),
    ("a BETWEEN 1 AND (b = c)", "a BETWEEN 1 AND b = c"),
    ("NOT (a AND b)", "NOT a AND b"),
    ("f(a)", "f a"),
    ("a IN (1)", "a IN 1"),
    ("(a).b", "a.b"),
    ('"true"', "true"),
    ('"null" = 1', "null = 1"),
    ("(a, b) = c", "a, b = c"),
    ("count(*)", "count *"),
    ("(SELECT 1) + 1", "SELECT 1 + 1"),
    ("(a || b) || c", "a || (b || c)"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_spellings_of_the_same(one: str, other: str) -> None:
    assert canonical_sql(one) == canonical_sql(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_what_differs_stays_different(one: str, other: str) -> None:
    assert canonical_sql(one) != canonical_sql(other)


LEAVES = st.sampled_from(["a", "b", "c", "2", "0.5", "abs(a)", "greatest(a, b + 1)"])
NUMBERS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds("{} {} {}".format, inner, st.sampled_from("+-*%"), inner),
        st.builds("({})".format, inner),
        st.builds("-({})".format, inner),
    ),
    max_leaves=8,
)
CONDITIONS = st.recursive(
    st.builds("{} {} {}".format, NUMBERS, st.sampled_from(["=", "<>", "<", ">="]), NUMBERS),
    lambda inner: st.one_of(
        st.builds("{} {} {}".format, inner, st.sampled_from(["AND", "OR"]), inner),
        st.builds("({})".format, inner),
        st.builds("NOT ({})".format, inner),
        st.builds("(CASE WHEN {} THEN {} ELSE {} END) = (1)".format, inner, NUMBERS, NUMBERS),
    ),
    max_leaves=4,
)
TEXTS = st.one_of(NUMBERS, CONDITIONS)
CONNECTION = duckdb.connect(config={"error_on_division_by_zero": False})
ROW = "SELECT 3 AS a, -7 AS b, 11 AS c"


@given(TEXTS)
def test_taking_parentheses_away_changes_no_value(text: str) -> None:
    canonical = canonical_sql(text)
    ((one, other),) = CONNECTION.sql(f"SELECT {text} AS x, {canonical} AS y FROM ({ROW})").fetchall()
    assert repr(one) == repr(other)
    assert canonical_sql(canonical) == canonical


WORDS = re.compile(r"[A-Za-z_]+|[0-9.]+|<>|>=|\S")
GAPS = st.sampled_from([" ", "\n ", "\t", " /* a note */ ", " -- a note\n"])


@given(TEXTS, GAPS)
def test_reformatting_never_changes_it(text: str, gap: str) -> None:
    assert canonical_sql(gap.join(WORDS.findall(text)).upper()) == canonical_sql(text)


@given(TEXTS, st.data())
def test_any_changed_token_changes_it(text: str, data: st.DataObject) -> None:
    words = WORDS.findall(text)
    at = data.draw(st.sampled_from([index for index, word in enumerate(words) if word not in "()"]))
    other = data.draw(st.sampled_from(["d", "7", "*", "<", "OR"]).filter(lambda word: word != words[at]))
    assert canonical_sql(" ".join([*words[:at], other, *words[at + 1 :]])) != canonical_sql(text)


def test_python_counts_by_its_tree() -> None:
    one = "def f(a, b=1):\n    return g(a)[b] + (1)  # note\n"
    assert canonical_python(one) == canonical_python("def f( a,b = 1 ):\n  return (g(a)[b]+1)\n")
    for other in (one.replace("1):", "2):"), one.replace("+", "-"), one.replace("g(", "h("), one.replace("(1)", "1.0")):
        assert canonical_python(one) != canonical_python(other)


def test_python_is_written_the_same_in_every_version() -> None:
    source = 'async def f(x: int, /, *, y="é") -> None:\n    return f"a{x!r:>{y}}" "b" f"{x}", 1e300, b"c", ...\n'
    assert canonical_python(source) == (
        "AsyncFunctionDef(name='f',args=arguments(posonlyargs=[arg(arg='x',annotation=Name(id='int'))],"
        "kwonlyargs=[arg(arg='y')],kw_defaults=[str:'é']),body=[Return(value=Tuple(elts=[JoinedStr(values=[str:'a',"
        "FormattedValue(value=Name(id='x'),conversion=114,format_spec=JoinedStr(values=[str:'>',FormattedValue("
        "value=Name(id='y'),conversion=-1)])),str:'b',FormattedValue(value=Name(id='x'),conversion=-1)]),float:1e+300,"
        "bytes:b'c',ellipsis:Ellipsis]))],returns=NoneType:None)"
    )
    assert canonical_python(source) == canonical_python(ast.unparse(ast.parse(source)))
