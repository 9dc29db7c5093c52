"""Columns of a SELECT: what it gives, where each comes from, and names that lead nowhere."""

import pytest

from fstore import agg, expr, feature
from fstore.plan.analysis import Traced, unknown_columns
from fstore.plan.sql import parse_select
from tests.plan.projects import aggregates, of_source, of_view, python, sql, step

RELATIONS = {"u": ("user_id", "born_on", "Country"), "p": ("user_id", "n", "spent"), "s": None}
SAME, MADE, SUM = "IDENTITY", "TRANSFORMATION", "AGGREGATION"

TRACED = {
    "SELECT u.user_id, n FROM u LEFT JOIN p USING (user_id)": {"user_id": [("u", "user_id", SAME)], "n": [("p", "n", SAME)]},
    "SELECT upper(country) AS c, date_diff('year', born_on, $end) AS age FROM u": {
        "c": [("u", "Country", MADE)],
        "age": [("u", "born_on", MADE)],
    },
    "SELECT sum(n) AS total, count(*) AS rows FROM p GROUP BY user_id": {"total": [("p", "n", SUM)], "rows": []},
    "WITH c AS (SELECT user_id, sum(n) AS t FROM p GROUP BY 1) SELECT user_id, t + 1 AS more FROM c": {
        "user_id": [("p", "user_id", SAME)],
        "more": [("p", "n", SUM)],
    },
    "SELECT x.user_id AS k, x.m FROM (SELECT user_id, n * spent AS m FROM p) AS x": {
        "k": [("p", "user_id", SAME)],
        "m": [("p", "n", MADE), ("p", "spent", MADE)],
    },
    "SELECT user_id FROM p UNION ALL SELECT user_id FROM u": {"user_id": [("p", "user_id", SAME), ("u", "user_id", SAME)]},
    "SELECT rank() OVER (PARTITION BY user_id ORDER BY n) AS r FROM p": {"r": [("p", "n", SUM), ("p", "user_id", SUM)]},
    "SELECT user_id, (SELECT max(n) FROM p WHERE p.user_id = u.user_id) AS m FROM u": {
        "user_id": [("u", "user_id", SAME)],
        "m": [("p", "n", SUM)],
    },
    "SELECT u.user_id, p.n FROM u ASOF JOIN p ON u.user_id = p.user_id AND u.born_on >= p.n": {
        "user_id": [("u", "user_id", SAME)],
        "n": [("p", "n", SAME)],
    },
    "SELECT * EXCLUDE (spent) FROM p": {"user_id": [("p", "user_id", SAME)], "n": [("p", "n", SAME)]},
    "SELECT country AS c, c || 'x' AS d FROM u": {"c": [("u", "Country", SAME)], "d": [("u", "Country", MADE)]},
    "SELECT user_id, x FROM s": {"user_id": [("s", "user_id", SAME)], "x": [("s", "x", SAME)]},
    "FROM p": {"user_id": [("p", "user_id", SAME)], "n": [("p", "n", SAME)], "spent": [("p", "spent", SAME)]},
}


@pytest.mark.parametrize("text", TRACED)
def test_traces_every_output_column(text):
    traced = Traced(parse_select(text), RELATIONS)
    assert traced.outputs == tuple(TRACED[text])
    assert {name: traced.sources(name) for name in traced.outputs} == TRACED[text]


@pytest.mark.parametrize("text", ["SELECT * FROM s", "SELECT u.*, s.* FROM u, s", "SELECT COLUMNS('n.*') FROM p"])
def test_outputs_that_hang_on_unknown_columns_are_unknown(text):
    traced = Traced(parse_select(text), RELATIONS)
    assert traced.outputs is None
    assert traced.sources("user_id") == []


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("SELECT n, m FROM p", ["m"]),
        ("SELECT p.n, p.m FROM p", ["p.m"]),
        ("SELECT q.m FROM p AS q", ["q.m"]),
        ("SELECT n FROM p WHERE sepnt > 1 ORDER BY nn", ["sepnt", "nn"]),
        ("SELECT n + m AS m FROM p", []),
        ("SELECT n AS total FROM p ORDER BY total", []),
        ("SELECT anything, p.n FROM p, s", []),
        ("SELECT s.anything FROM s", []),
        ("SELECT t.m FROM (SELECT n AS m FROM p) AS t", []),
        ("SELECT m FROM p AS t(k, m, o)", []),
        ("WITH c AS (SELECT n AS m FROM p) SELECT c.m, m FROM c", []),
        ("SELECT list_transform([n], lambda q: q + 1) FROM p", []),
        ("SELECT [z * 2 FOR z IN [n]] FROM p", []),
        ("SELECT v FROM p, unnest([1, 2]) AS t(v)", []),
        ("SELECT i FROM p, range(3) AS r(i)", []),
        ("SELECT * FROM (PIVOT p ON user_id USING sum(n)) WHERE abc > 1", []),
        ("SELECT COUNTRY FROM u", []),
        ("SELECT (SELECT max(born_on) FROM u WHERE u.user_id = p.user_id) FROM p", []),
    ],
)
def test_only_columns_that_surely_do_not_exist_are_unknown(text, unknown):
    assert sorted(name for name, _ in unknown_columns(parse_select(text), RELATIONS)) == sorted(unknown)


def edges(compiled):
    return [(edge.feature, edge.kind, edge.dataset, edge.column, edge.transformation) for edge in compiled.lineage]


MEMBERS = {"n": agg.count().over("7d"), "spent": agg.sum("amount * quantity").over("7d"), "share": expr("spent_7d / n_7d")}


def test_aggregates_come_from_their_columns_and_counts_from_the_time():
    assert edges(step(aggregates(members=MEMBERS))) == [
        ("user_id", "source", "purchases", "user_id", SAME),
        ("n_7d", "source", "purchases", "purchased_at", SUM),
        ("spent_7d", "source", "purchases", "amount", SUM),
        ("spent_7d", "source", "purchases", "quantity", SUM),
        ("share", "source", "purchases", "amount", SUM),
        ("share", "source", "purchases", "purchased_at", SUM),
        ("share", "source", "purchases", "quantity", SUM),
    ]


def test_sql_views_come_from_columns_of_sources_and_views():
    text = "SELECT u.user_id, country, spent_7d > 10 AS rich FROM u JOIN p USING (user_id)"
    fields = {"country": feature("string"), "rich": feature("bool")}
    view = sql("profile", text, (of_source("u", "users"), of_view("p", "user_purchases")), members=fields)
    assert edges(step(aggregates(members=MEMBERS), view)) == [
        ("user_id", "source", "users", "user_id", SAME),
        ("country", "source", "users", "country", SAME),
        ("rich", "view", "user_purchases", "spent_7d", MADE),
    ]


def test_python_views_claim_their_keys_only():
    view = python(
        "risk", (of_view("p", "user_purchases"), of_source("c", "countries")), members={"score": feature("float64")}
    )
    assert edges(step(aggregates(members=MEMBERS), view)) == [("user_id", "view", "user_purchases", "user_id", SAME)]
