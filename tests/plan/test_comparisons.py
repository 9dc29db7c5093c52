"""Comparisons with texts that would fail at the first one that is no number: known before anything runs."""

from __future__ import annotations

import duckdb
import pytest

from fstore import agg, expr
from fstore.definitions.problems import Reporter
from fstore.definitions.project import Problem
from fstore.plan.comparisons import check_comparisons
from fstore.plan.inference import sql_type
from fstore.plan.sql import parse_scalar
from fstore.types import parse_type
from tests.plan.projects import aggregates, problems

TYPES = {"n": "int64", "f": "float64", "d": "decimal(9,2)", "s": "string", "b": "bool", "day": "date", "t": "timestamp",
         "l": "list<string>", "odd": None}  # fmt: skip


VALUES = {"n": "1", "f": "1", "d": "1", "s": "'x'", "b": "true", "day": "'2026-01-01'", "t": "'2026-01-01 00:00:00+00'"}
ROW = "SELECT " + ", ".join(
    f"CAST({value} AS {sql_type(parse_type(TYPES[name] or ''))}) AS {name}" for name, value in VALUES.items()
)


def found(text: str) -> list[str]:
    collected: list[Problem] = []
    check_comparisons(parse_scalar(text).tree, TYPES, Reporter(collected, "feature 'v:f'", None))
    return [str(problem) for problem in collected]


MIXED = {
    "s = 5": "compares s, a text, with 5, which has type int32. Write CAST(s AS …), or compare it with a text.",
    "n < s": "compares s, a text, with n, which has type int64. Write CAST(s AS …), or compare it with a text.",
    "lower(s) >= f": "compares LOWER(s), a text, with f, which has type float64. Write CAST(LOWER(s) AS …), or compare it "
    "with a text.",
    "t <> s": "compares s, a text, with t, which has type timestamp. Write CAST(s AS …), or compare it with a text.",
    "s BETWEEN 1 AND '9'": "compares s, a text, with 1, which has type int32. Write CAST(s AS …), or compare it with a text.",
    "n = 'paid'": "compares n, which has type int64, with the text 'paid', which is none.",
    "n IN (1, 'two')": "compares n, which has type int64, with the text 'two', which is none.",
    "CASE n WHEN 'one' THEN 1 END": "compares n, which has type int64, with the text 'one', which is none.",
    "CASE WHEN 'much' < d THEN 1 ELSE 0 END": "compares d, which has type decimal(9,2), with the text 'much', which is none.",
    "t > 'yesterday'": "compares t, which has type timestamp, with the text 'yesterday', which is none.",
    "day IS DISTINCT FROM 'monday'": "compares day, which has type date, with the text 'monday', which is none.",
    "f = '0xFF'": "compares f, which has type float64, with the text '0xFF', which is none.",
    "d = '0b11'": "compares d, which has type decimal(9,2), with the text '0b11', which is none.",
    "n = '-0xFF'": "compares n, which has type int64, with the text '-0xFF', which is none.",
    "n = '0b12'": "compares n, which has type int64, with the text '0b12', which is none.",
    "n = '0x_F'": "compares n, which has type int64, with the text '0x_F', which is none.",
    "b = 'maybe'": "compares b, which has type bool, with the text 'maybe', which is none.",
}
FINE = ("s = '5'", "n = '5'", "f < ' 1e3 '", "d = '1.50'", "b = 'true'", "t >= '2026-01-01'", "day < '2026-1-5'", "n = d",
        "t > day", "s IN ('a', NULL)", "CAST(s AS INTEGER) = 5", "s = CAST(n AS VARCHAR)", "odd = 'x'", "s = odd", "s IS NULL",
        "s = NULL", "b = (s = 'a')", "l[1] = 5", "strange(n) = 'x'", "s LIKE '5%'", "t > 'epoch'",
        "n = '0xFF'", "n < '0XfF_0A'", "n IN ('0b11', '0B1_0')")  # fmt: skip


@pytest.mark.parametrize(("text", "problem"), MIXED.items())
def test_a_comparison_of_a_text_with_something_else_is_a_problem(text: str, problem: str) -> None:
    (told,) = found(text)
    assert told == f"feature 'v:f' {problem}"


@pytest.mark.parametrize("text", MIXED)
def test_the_engine_would_fail_for_a_text(text: str) -> None:
    """What is refused is what DuckDB fails for: with a text in the columns, it parses it."""
    with duckdb.connect() as connection, pytest.raises((duckdb.ConversionException, duckdb.BinderException)):
        connection.execute(f"SELECT {text} FROM ({ROW})").fetchall()


@pytest.mark.parametrize(
    ("text", "expected"), [("n = '0xFF'", 255), ("n = '0B1_0'", 2), ("n = '1_0'", 10), ("n = ' 5 '", 5)]
)
def test_the_engine_reads_whole_numbers_so(text: str, expected: int) -> None:
    with duckdb.connect() as connection:
        ((same,),) = connection.execute(f"SELECT {text} FROM (SELECT {expected}::BIGINT AS n)").fetchall()
    assert same
    assert found(text) == []


@pytest.mark.parametrize("text", FINE)
def test_what_may_be_compared_is_left_alone(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    "members",
    [
        {"x": agg.count(where="category = 5").over("7d")},
        {"x": agg.count("category = 5").over("7d")},
        {"x": agg.sum("CASE WHEN category = 5 THEN 1 ELSE 0 END").over("7d")},
        {"x": agg.count(by="category = 5").over("7d")},
        {"x": agg.last("amount", order_by="category = 5").over("7d")},
        {"category": agg.last("category").over("7d"), "x": expr("category_7d = 5")},
    ],
)
def test_every_scalar_of_a_view_is_looked_at(members: dict[str, object]) -> None:
    (problem,) = problems(aggregates(members=members))
    assert "a text, with 5, which has type int32" in problem
