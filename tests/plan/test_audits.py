"""Compiled checks, run by DuckDB over real rows."""

from datetime import UTC, datetime

import duckdb
import pyarrow as pa
import pytest

from fstore import agg, check, feature
from fstore.plan.audits import compile_audit_queries, fits_type
from tests.plan.projects import aggregates, of_source, problems, sql, step

NAN = float("nan")
ONE, TWO = datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC)
FIELDS = {"n": "int64", "x": "float64", "s": "string", "b": "bool", "d": "date", "t": "timestamp", "m": "decimal(10,2)"}


def audited(*checks):
    """A view with a feature of many a type and some checks."""
    query = f"SELECT user_id, {', '.join(FIELDS)} FROM r"
    fields = {name: feature(text) for name, text in FIELDS.items()}
    schemas = {"users": {"user_id": "string", "updated_at": "timestamp", **FIELDS}}
    return step(sql("rated", query, (of_source("r", "users"),), members=fields, checks=checks), schemas=schemas)


def run(audited_step, columns, times=None):
    """The three queries' results over rows with the given columns."""
    (length,) = {len(values) for values in columns.values()}
    times = times or [ONE] * length
    stamp = pa.timestamp("us", tz="UTC")
    rows = pa.table(
        {
            "user_id": [f"u{place}" for place in range(length)],
            "event_timestamp": pa.array(times, stamp),
            "__interval": pa.array(times, stamp),
            **{name: pa.array(values) for name, values in columns.items()},
        }
    )
    queries = compile_audit_queries(audited_step)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("rows", rows)
        return [
            None if query is None else connection.sql(query).to_arrow_table().to_pylist()
            for query in (queries.counts, queries.samples, queries.quarantine)
        ]


def violating(rule, columns):
    """The places of the rows that break a check."""
    _, samples, _ = run(audited(rule), columns)
    return sorted(int(row["user_id"][1:]) for row in samples)


@pytest.mark.parametrize(
    ("rule", "columns", "expected"),
    [
        (check.not_null("n"), {"n": [1, None, 3]}, [1]),
        (check.in_range("n", 0, 10), {"n": [0, 10, -1, 11, None]}, [2, 3]),
        (check.in_range("x", 0.0, 1.5), {"x": [0.0, 1.5, -0.1, 1.6, None, NAN]}, [2, 3, 5]),
        (check.in_range("x", 0, None), {"x": [0.0, -1.0, NAN, float("inf"), None]}, [1, 2]),
        (check.in_range("x", None, 1), {"x": [0.0, 2.0, NAN, float("-inf"), None]}, [1, 2]),
        (check.one_of("s", ["a", "it's", None]), {"s": ["a", "it's", "b", None]}, [2]),
        (check.one_of("n", [1, 2]), {"n": [1, 2, 3, None]}, [2]),
        (check.one_of("b", [True]), {"b": [True, False, None]}, [1]),
        (check.one_of("x", [1, 0.5]), {"x": [1.0, 0.5, NAN, None]}, [2]),
        (check.unique("n"), {"n": [1, 2, 1, None, None]}, [0, 2]),
        (check.unique("n", "s"), {"n": [1, 1, 1, 2], "s": ["a", "b", "a", None]}, [0, 2]),
    ],
)
def test_finds_exactly_the_rows_that_break_a_check(rule, columns, expected):
    assert violating(rule, columns) == expected


def test_a_lower_bound_fails_nan_even_while_the_type_is_unknown():
    rule = check.in_range("amount_max_7d", 0, None)
    unknown = step(aggregates(members={"amount_max": agg.max("amount").over("7d")}, checks=(rule,)), schemas={})
    assert unknown.features[0].type is None
    _, samples, _ = run(unknown, {"amount_max_7d": [1.0, NAN, None, -1.0]})
    assert [row["user_id"] for row in samples] == ["u1", "u3"]


def test_counts_rows_and_violations_of_every_interval_in_one_pass():
    rules = (check.not_null("n"), check.row_count(1, 2), check.unique("s", severity="warn"))
    columns = {"n": [1, None, 3, None], "s": ["a", "a", "a", "b"]}
    counts, samples, quarantine = run(audited(*rules), columns, [ONE, ONE, TWO, TWO])
    assert counts == [
        {"interval_end": ONE, "rows": 2, "violations_0": 1, "violations_2": 2},
        {"interval_end": TWO, "rows": 2, "violations_0": 1, "violations_2": 0},
    ]
    assert sorted((row["audit"], row["interval_end"], row["user_id"], row["event_timestamp"]) for row in samples) == [
        (0, ONE, "u1", ONE),
        (0, TWO, "u3", TWO),
        (2, ONE, "u0", ONE),
        (2, ONE, "u1", ONE),
    ]
    assert quarantine is None


def test_samples_are_the_first_five_keys_of_each_interval():
    _, samples, _ = run(audited(check.not_null("n")), {"n": pa.nulls(16, pa.int64())}, [ONE] * 8 + [TWO] * 8)
    found = {end: sorted(row["user_id"] for row in samples if row["interval_end"] == end) for end in (ONE, TWO)}
    assert found == {ONE: ["u0", "u1", "u2", "u3", "u4"], TWO: ["u10", "u11", "u12", "u13", "u14"]}


def test_marks_the_rows_that_any_quarantining_check_sets_aside():
    rules = (
        check.in_range("n", 0, 5, severity="quarantine"),
        check.unique("s", severity="quarantine"),
        check.not_null("s", severity="error"),
    )
    _, _, marked = run(audited(*rules), {"n": [1, 9, 2, 3, None], "s": ["a", "b", "c", "c", None]})
    assert sorted((row["user_id"], row["__quarantined"]) for row in marked) == [
        ("u0", False),
        ("u1", True),
        ("u2", True),
        ("u3", True),
        ("u4", False),
    ]


def test_a_view_without_checks_is_only_counted():
    counts, samples, quarantine = run(audited(), {"n": [1, 2]})
    assert (counts, samples, quarantine) == ([{"interval_end": ONE, "rows": 2}], None, None)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            check.in_range("s", 0, 1),
            "check in_range(s, 0, 1) of feature view 'rated' (feature_defs/shop.py:18) wants a number, and 's' has type "
            "string. Use check.one_of or check.not_null.",
        ),
        (
            check.one_of("n", [1, "two"]),
            "check one_of(n, [1, 'two']) of feature view 'rated' (feature_defs/shop.py:18) lists 'two', and 'n' has type "
            "int64. List values of type int64.",
        ),
        (
            check.one_of("d", ["yesterday"]),
            "check one_of(d, ['yesterday']) of feature view 'rated' (feature_defs/shop.py:18) lists 'yesterday', and 'd' "
            "has type date. List values of type date.",
        ),
    ],
)
def test_reports_checks_that_do_not_fit_the_type_of_their_column(rule, message):
    query = f"SELECT user_id, {', '.join(FIELDS)} FROM r"
    fields = {name: feature(text) for name, text in FIELDS.items()}
    view = sql("rated", query, (of_source("r", "users"),), members=fields, checks=(rule,))
    assert problems(view, schemas={}) == [message]


@pytest.mark.parametrize(
    ("value", "type", "expected"),
    [
        (1, "int64", True),
        (1.0, "int64", False),
        (True, "int64", False),
        (1, "float64", True),
        (NAN, "float64", False),
        (1.5, "decimal(10,2)", True),
        (True, "bool", True),
        (1, "bool", False),
        ("2026-01-31", "date", True),
        ("2026-02-31", "date", False),
        ("2026-01-31T10:00:00Z", "timestamp", True),
        ("a", "string", True),
        (1, "string", False),
        ("a", "list<string>", False),
    ],
)
def test_says_whether_a_constant_fits_a_type(value, type, expected):
    assert fits_type(value, type) is expected
