"""View.test and check_view: what they compute, what they compare, and what they say."""

from __future__ import annotations

import math
import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from fstore import CsvSource, Entity, FeatureView, ParquetSource, agg, expr, feature, transform
from fstore.errors import DefinitionErrors, FStoreError
from fstore.testing import check_view, compute_view

user = Entity("user", join_keys={"user_id": "string"})
visit = Entity("visit", join_keys={"user_id": "string", "shop_id": "int64"})
purchases = ParquetSource("purchases", path="data/purchases/", event_time="purchased_at")
declared = ParquetSource(
    "declared", path="data/declared/", event_time="at", timezone="America/New_York", keys={"user_id": "customer"},
    schema={"customer": "string", "shop_id": "int64", "at": "timestamp", "amount": "decimal(10,2)", "day": "date"},
)  # fmt: skip
users = CsvSource("users", path="data/users.csv", keys=["user_id"], updated_at="updated_at")


class UserPurchases(FeatureView):
    entity, source, schedule, start = user, purchases, "@daily", "2026-01-01"
    n = agg.count().over("7d")
    amount = agg.sum("amount").over("7d")
    last = agg.last("category").over("lifetime")
    sizes = agg.histogram("amount", [10]).over("7d")
    by_category = agg.count(by="category").over("7d")
    share = expr("amount_7d / n_7d")


class Visits(FeatureView):
    entity, source, schedule, start = visit, declared, "@daily", "2026-01-01"
    amount = agg.sum("amount").over("7d")
    day = agg.max("day").over("7d")


class Profile(FeatureView):
    entity, schedule, start = user, "@daily", "2026-01-01"
    inputs = {"u": users, "p": UserPurchases, "e": purchases.window("1d")}  # noqa: RUF012
    sql = """SELECT u.user_id, u.country, coalesce(p.n_7d, 0) AS n, (SELECT count(*) FROM e) AS events, $end AS until
             FROM u LEFT JOIN p USING (user_id)"""
    country = feature("string")
    n = feature("int64")
    events = feature("int64")
    until = feature("timestamp")


def score_users(p: pa.Table) -> pa.Table:
    return pa.table({"user_id": p["user_id"], "score": [float(n) * 2 for n in p["n_7d"].to_pylist()]})


class Score(FeatureView):
    entity, inputs, schedule, start = user, {"p": UserPurchases}, "@daily", "2026-01-01"
    score = feature("float64")
    compute = transform(score_users)


class PurchasesOf(FeatureView):
    entity, source, schedule, start = user, declared, "@daily", "2026-01-01"
    spent = agg.sum("amount").over("7d")


class Ratio(FeatureView):
    entity, source, schedule, start = user, declared, "@daily", "2026-01-01"
    visits = agg.count().over("7d")
    spent = expr("a / visits_7d", a=PurchasesOf.spent["7d"])


class Orders(FeatureView):
    entity, inputs, schedule, start = user, {"e": purchases.window("1d")}, "@daily", "2026-01-01"
    sql = "SELECT user_id, purchased_at AS event_timestamp, amount FROM e"
    event_timestamp = feature("timestamp")
    amount = feature("float64")


ROWS = [
    {"user_id": "u1", "purchased_at": "2026-02-22", "amount": 5.0, "category": "a"},
    {"user_id": "u1", "purchased_at": "2026-02-28T23:59:59.999999Z", "amount": 10, "category": None},
    {"user_id": "u1", "purchased_at": "2026-03-01", "amount": 1000, "category": "leaked"},
    {"user_id": "u2", "purchased_at": "2026-01-01", "amount": 1, "category": "old"},
    {"user_id": None, "purchased_at": "2026-02-28", "amount": 1, "category": "nobody"},
]


def test_a_view_of_aggregates_sees_what_lies_in_its_windows() -> None:
    UserPurchases.test(
        rows=ROWS,
        at="2026-03-01",
        expect={
            "u1": {
                "n_7d": 2,
                "amount_7d": 15,
                "last_lifetime": "a",
                "share": 7.5,
                "sizes_7d": [1, 1],
                "by_category_7d": {"a": 1},
            },
            "u2": {"n_7d": 0, "amount_7d": None, "last_lifetime": "old", "sizes_7d": [0, 0], "share": None},
            "nobody": {"n_7d": 0, "last_lifetime": None},
        },
    )


def test_one_key_needs_no_key_and_rows_name_theirs() -> None:
    UserPurchases.test(rows=ROWS[:2], at=date(2026, 3, 1), expect={"n_7d": 2, "share": pytest.approx(7.5)})
    UserPurchases.test(rows=ROWS, at=datetime(2026, 3, 1, tzinfo=UTC), expect=[{"user_id": "u1", "n_7d": 2}])


def test_declared_types_renamed_keys_zones_and_composite_keys() -> None:
    rows = [
        {"customer": "u1", "shop_id": 7, "at": "2026-02-28T18:59:00", "amount": "1.10", "day": "2026-02-28"},
        {"user_id": "u1", "shop_id": 7, "at": "2026-02-28T19:00:00", "amount": "5", "day": "2026-02-28"},
    ]
    with pytest.raises(FStoreError, match="column 'amount' cannot be read; expected type decimal"):
        Visits.test(rows=rows, at="2026-03-01", expect={})
    rows = [{**row, "amount": Decimal(row["amount"])} for row in rows]  # 19:00 in New York is midnight in UTC
    Visits.test(rows=rows, at="2026-03-01", expect={("u1", 7): {"amount_7d": Decimal("1.10"), "day_7d": "2026-02-28"}})
    Visits.test(rows=rows, at="2026-03-02", expect={("u1", 7): {"amount_7d": Decimal("6.10")}})


def test_a_sql_view_reads_sources_and_views_as_rows() -> None:
    Profile.test(
        inputs={
            "u": [
                {"user_id": "u1", "country": "de", "updated_at": "2026-01-01"},
                {"user_id": "u1", "country": "fr", "updated_at": "2026-02-01"},
                {"user_id": "u1", "country": "us", "updated_at": "2026-03-01"},
                {"user_id": "u2", "country": None, "updated_at": "2026-01-01"},
            ],
            "p": [{"user_id": "u1", "n_7d": 3}],
            "e": [{"user_id": "u1", "purchased_at": "2026-02-28"}, {"user_id": "u1", "purchased_at": "2026-02-27"}],
        },
        at="2026-03-01",
        expect={
            "u1": {"country": "fr", "n": 3, "events": 1, "until": "2026-03-01"},
            "u2": {"country": None, "n": 0},
            "u3": None,
        },
    )


def test_a_python_view() -> None:
    Score.test(inputs={"p": [{"user_id": "u1", "n_7d": 3}]}, at="2026-03-01", expect={"u1": {"score": 6.0}})


def test_an_event_view_gives_rows_in_order() -> None:
    rows = [{"user_id": "u1", "purchased_at": f"2026-02-28T{hour}:00", "amount": float(hour)} for hour in (10, 12)]
    Orders.test(inputs={"e": rows}, at="2026-03-01", expect={
        "u1": [{"amount": 10, "event_timestamp": "2026-02-28T10:00"}, {"amount": 12.0}], "u2": [],
    })  # fmt: skip


def test_rows_without_values_and_no_rows() -> None:
    rows = [{"user_id": "u1", "purchased_at": "2026-02-28", "amount": None, "category": None}]
    UserPurchases.test(rows=rows, at="2026-03-01", expect={"u1": {"n_7d": 1, "amount_7d": None}})
    Visits.test(rows=[], at="2026-03-01", expect={("u1", 1): {"amount_7d": None}})


def test_a_difference_is_a_table() -> None:
    with pytest.raises(AssertionError) as caught:
        UserPurchases.test(rows=ROWS, at="2026-03-01", expect={"u1": {"n_7d": 3, "amount_7d": 15}, "u9": {"n_7d": 1}})
    assert str(caught.value) == (
        "UserPurchases at 2026-03-01T00:00:00Z gave 2 values that the test does not expect:\n"
        "  key  feature  expected  got\n"
        "  u1   n_7d     3         2\n"
        "  u9   n_7d     1         0 (no row)"
    )


def test_nan_is_nan_and_not_null() -> None:
    rows = [{"user_id": "u1", "purchased_at": "2026-02-28", "amount": math.nan, "category": "a"}]
    UserPurchases.test(rows=rows, at="2026-03-01", expect={"u1": {"amount_7d": math.nan}})
    with pytest.raises(AssertionError, match="u1   amount_7d  None      nan"):
        UserPurchases.test(rows=rows, at="2026-03-01", expect={"u1": {"amount_7d": None}})


MISTAKES = {
    "an unknown feature": (
        {"rows": ROWS, "expect": {"u1": {"m_7d": 1}}},
        "view 'user_purchases' has no feature 'm_7d', only 'n_7d', 'amount_7d', 'last_lifetime', 'sizes_7d', 'by_category_7d', "
        "'share'. Did you mean 'n_7d'?",
    ),
    "no rows": ({"expect": {}}, "view 'user_purchases' aggregates source 'purchases': give its events as rows=[…]."),
    "inputs of a view of aggregates": (
        {"rows": ROWS, "inputs": {"p": []}, "expect": {}},
        "view 'user_purchases' reads no 'p', only none.",
    ),
    "a time between intervals": (
        {"rows": ROWS, "at": "2026-03-01T12:00", "expect": {}},
        "view 'user_purchases' has no interval that ends at 2026-03-01T12:00:00Z: its schedule '0 0 * * *' (UTC) has "
        "boundaries at 2026-03-01T00:00:00Z or 2026-03-02T00:00:00Z. Use one of these as `at`.",
    ),
    "a time that is none": (
        {"rows": [{**ROWS[0], "purchased_at": "yesterday"}], "expect": {}},
        "row 1 has a wrong purchased_at: 'yesterday' is not a date or time; write it as in \"2026-01-31\" or "
        '"2026-01-31T06:30:00+01:00".',
    ),
    "a row that is none": ({"rows": [3], "expect": {}}, "row 1 is 3; expected a mapping from columns to values."),
    "a key of two parts": (
        {"rows": ROWS, "expect": {("u1", 1): {}}},
        "expected key ('u1', 1) has 2 part(s); the view's key is (user_id).",
    ),
    "one key of several": (
        {"rows": ROWS, "expect": {"n_7d": 1}},
        "expect maps features to values, which needs rows of one key; UserPurchases gave 2: 'u1', 'u2'. "
        "Write {key: {feature: value}}.",
    ),
    "a row without its key": ({"rows": ROWS, "expect": [{"n_7d": 1}]}, "an expected row has no key 'user_id': {'n_7d': 1}."),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_explained(case: str) -> None:
    arguments, message = MISTAKES[case]
    with pytest.raises(FStoreError) as caught:
        UserPurchases.test(**{"at": "2026-03-01", **arguments})
    assert str(caught.value) == message


def test_a_missing_column_and_a_missing_input() -> None:
    rows = [{name: value for name, value in row.items() if name != "amount"} for row in ROWS]
    with pytest.raises(DefinitionErrors, match="reads column 'amount', which source 'purchases' does not have: 'user_id'"):
        UserPurchases.test(rows=rows, at="2026-03-01", expect={})
    with pytest.raises(FStoreError) as caught:
        Profile.test(inputs={"u": []}, at="2026-03-01", expect={})
    assert str(caught.value) == "view 'profile' reads 'p', 'e': give 'p' rows, or none, in inputs."
    with pytest.raises(FStoreError) as caught:
        Profile.test(inputs={"u": [], "p": [], "e": []}, at="2026-03-01", expect={})
    assert str(caught.value) == (
        "there are no rows for 'u', and source 'users' declares no schema, so its columns are unknown: give a row, or declare "
        "the schema."
    )
    with pytest.raises(FStoreError) as caught:
        Score.test(inputs={"p": [{"user_id": "u1", "m": 1}]}, at="2026-03-01", expect={})
    assert str(caught.value).startswith("row 1 of 'p' has 'm', which view 'user_purchases' does not have: ")


def test_compute_view_shows_what_there_is() -> None:
    (row,) = compute_view(Score, inputs={"p": [{"user_id": "u1", "n_7d": 3}]}, at="2026-03-01")
    assert row == {"user_id": "u1", "event_timestamp": datetime(2026, 3, 1, tzinfo=UTC), "score": 6.0}


def test_without_pytest_a_view_says_where_its_test_is() -> None:
    script = (
        "from fstore import FeatureView\n"
        "class Orders(FeatureView): pass\n"
        "try: Orders.test\n"
        "except AttributeError as error: print(error)\n"
    )
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert printed == (
        "Orders.test is there while pytest runs, by the plugin that comes with fstore. Elsewhere write: "
        "from fstore.testing import check_view; check_view(Orders, rows=…, at=…, expect=…).\n"
    )


def test_check_view_is_the_same_as_the_method() -> None:
    check_view(UserPurchases, rows=ROWS, at="2026-03-01", expect={"u1": {"n_7d": 2}})


def test_an_expression_over_another_view_reads_its_rows_by_the_views_name() -> None:
    declared_rows = [{"user_id": "u1", "shop_id": 1, "at": "2026-02-28", "amount": None, "day": None}]
    Ratio.test(
        rows=declared_rows,
        inputs={"purchases_of": [{"user_id": "u1", "spent_7d": Decimal("8.00")}, {"user_id": "u2", "spent_7d": Decimal(4)}]},
        at="2026-03-01",
        expect={"u1": {"visits_7d": 1, "spent": 8}, "u2": {"visits_7d": 0, "spent": None}},
    )
