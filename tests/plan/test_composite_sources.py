"""Sources made of others in a plan: what is reported, which pieces their SQL runs in, and where columns come from."""

from datetime import timedelta

import pytest

from fstore import CsvSource, ParquetSource, PostgresSource, SqlSource, UnionSource, agg, feature
from fstore.plan.fingerprint import source_key
from fstore.plan.source_pieces import alignment, is_row_by_row, piece_length
from tests.plan.projects import COUNTRIES, PURCHASES, SCHEMAS, USERS, aggregates, at, of_source, placed, plan, problems, sql

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
APP = CsvSource("app", path="data/app.csv", event_time="seen", keys={"user_id": "uid"}, lag="5h", location=at(5))
SCHEMA_OF_APP = {"user_id": "string", "seen": "timestamp", "cents": "int64", "category": "string"}


def source(text, event_time="purchased_at", **settings):
    inputs = settings.pop("inputs", None) or {"p": PURCHASES}
    return SqlSource("paid", inputs=inputs, sql=text, event_time=event_time, location=at(6), **settings)


def union(columns=None, **settings):
    return UnionSource([PURCHASES, APP], columns=columns, name="both", location=at(7), **settings)


PAID = "source 'paid' (feature_defs/shop.py:6)"
BOTH = "source 'both' (feature_defs/shop.py:7)"
PURCHASED = "'user_id', 'purchased_at', 'amount', 'quantity', 'weight', 'category', 'gift', 'payload'"
OF_APP = "'user_id', 'seen', 'cents', 'category'"
NOT_ALIGNED = "Let the SQL work row by row, shorten its pieces (docs/reference/sources.md), or choose another schedule."

REPORTS = {
    "not SQL": (
        source("SELECT FROM WHERE"),
        f"{PAID} has SQL that cannot be parsed near 'WHERE' in line 1: 'SELECT FROM WHERE'.",
    ),
    "not a SELECT": (source("DROP TABLE p"), f"{PAID} has SQL that is not one SELECT but DROP. Write a single SELECT."),
    "an unknown table": (
        source("SELECT * FROM purchases JOIN p USING (user_id)"),
        f"{PAID} reads table 'purchases', which is not one of its inputs: 'p'.",
    ),
    "an unread input": (
        source("SELECT * FROM p", inputs={"p": PURCHASES, "u": USERS}),
        f"{PAID} has the input 'u', which its SQL does not read. Remove it, or read it.",
    ),
    "a parameter": (
        source("SELECT * FROM p WHERE purchased_at < $end"),
        f"{PAID} has SQL with the parameter $end, which only views have: a source gives all of its events. "
        "Remove it: whoever reads the source cuts it in time.",
    ),
    "an unknown column": (
        source("SELECT user_id, purchased_at, amonut FROM p"),
        f"{PAID} reads column 'amonut', which its inputs do not have; they have 'amount', 'category', 'gift', 'payload', "
        "'purchased_at', 'quantity', 'user_id', 'weight'. Did you mean 'amount'?",
    ),
    "no event time": (
        source("SELECT user_id, amount FROM p"),
        f"{PAID} has event_time 'purchased_at', which its SQL does not give: 'user_id', 'amount'. Add it to the SELECT.",
    ),
    "an event time that is misspelled": (
        source("SELECT user_id, purchased_at FROM p", event_time="purchased"),
        f"{PAID} has event_time 'purchased', which its SQL does not give: 'user_id', 'purchased_at'. "
        "Did you mean 'purchased_at'?",
    ),
    "a file": (
        source("SELECT * FROM read_csv('x.csv')"),
        f"{PAID} has SQL that reads read_csv(…) rather than an input. "
        "Declare what it reads as a source and give it to the view in inputs.",
    ),
    "the time of day": (
        source("SELECT *, now() AS seen_at FROM p"),
        f"{PAID} uses now(), whose value changes from run to run. Use the interval's $start or $end in a SQL view, or a column.",
    ),
    "a column that a member lacks": (
        union(["user_id", "amount"]),
        f"""{BOTH} has column 'amount', which source 'app' does not have: {OF_APP}. Say what it is there: {{"app": "NULL"}}.""",
    ),
    "a mapped column that reads what is not there": (
        union({"amount": {"app": "cent / 100"}}),
        f"{BOTH} reads column 'cent' for 'amount', which source 'app' does not have: {OF_APP}. Did you mean 'cents'?",
    ),
    "a mapped column that is no scalar": (
        union({"amount": {"app": "sum(cents)"}}),
        f"{BOTH} has 'sum(cents)', which contains the aggregate sum() (column 'amount' of source 'app'). "
        "Aggregates are declared with agg.",
    ),
}


@pytest.mark.parametrize("case", REPORTS)
def test_reports(case):
    made, expected = REPORTS[case]
    schemas = {**SCHEMAS, "app": SCHEMA_OF_APP}
    assert problems(sources=(PURCHASES, USERS, COUNTRIES, APP, made), schemas=schemas) == [expected]


def test_what_a_broken_source_is_part_of_is_blocked():
    broken = placed(ParquetSource("purchases", path="p", event_time="bought_at"), 2)
    made = SqlSource("paid", inputs={"p": broken}, sql="SELECT * FROM p", event_time="bought_at", location=at(6))
    view = aggregates(source="paid", members={"n": agg.count().over("7d")})
    assert problems(view, sources=(broken, made)) == [
        f"source 'purchases' (feature_defs/shop.py:2) has event_time 'bought_at', which is not one of its columns: {PURCHASED}.",
        f"{PAID} is blocked by feature_defs/shop.py:2: source 'purchases' has a problem. Solve that one first.",
        "feature view 'user_purchases' (feature_defs/shop.py:10) is blocked by feature_defs/shop.py:6: source 'paid' has a "
        "problem. Solve that one first.",
    ]


@pytest.mark.parametrize(
    ("schedule", "timezone", "window", "fits"),
    [
        ("@daily", "UTC", "7d", True),
        ("@hourly", "UTC", "7d", False),
        ("@hourly", "UTC", "36h", True),
        ("@daily", "Europe/Berlin", "7d", False),
        ("@daily", "Europe/Berlin", "25h", True),
        ("0 6 * * *", "UTC", "7d", False),
        ("*/30 * * * *", "UTC", "90m", True),
    ],
)
def test_intervals_end_where_pieces_end(schedule, timezone, window, fits):
    made = source(
        "SELECT user_id, max(purchased_at) AS purchased_at FROM p GROUP BY 1", inputs={"p": PURCHASES.window(window)}
    )
    view = aggregates(source="paid", schedule=schedule, timezone=timezone, members={"n": agg.count().over("7d")})
    expected = [] if fits else [
        "feature view 'user_purchases' (feature_defs/shop.py:10) reads source 'paid', whose SQL runs in pieces of 1d (UTC), "
        f"and its intervals end within them. {NOT_ALIGNED}"
    ]  # fmt: skip
    assert problems(view, sources=(PURCHASES, made)) == expected


def test_sql_that_works_row_by_row_serves_any_schedule():
    made = source("SELECT user_id, purchased_at, amount * 2 AS amount FROM p WHERE gift")
    view = aggregates(source="paid", schedule="7 * * * *", members={"n": agg.sum("amount").over("90m")})
    schemas = {"paid": {"user_id": "string", "purchased_at": "timestamp", "amount": "decimal(20,2)"}}
    assert problems(view, sources=(PURCHASES, made), schemas=schemas) == []


SHOPS = ParquetSource("shops", path="s", keys=["id"], static=True)
ROW_BY_ROW = [
    ("SELECT * FROM p", True), ("SELECT *, 1 AS x FROM p", True), ("FROM p", True),
    ("SELECT q.user_id, q.purchased_at AS purchased_at FROM p AS q WHERE amount > 0 ORDER BY 1", True),
    ("SELECT user_id, purchased_at, unnest(items) AS item FROM p", True),
    ("SELECT p.purchased_at, i.x FROM p, unnest(p.items) AS i(x)", True),
    ("SELECT p.purchased_at, s.name FROM p LEFT JOIN s ON s.id = p.shop", True),
    ("SELECT p.purchased_at, s.name FROM p RIGHT JOIN s ON s.id = p.shop", False),
    ("SELECT p.purchased_at, s.name FROM p ASOF JOIN s ON s.id >= p.shop", False),
    ("SELECT * REPLACE (purchased_at + INTERVAL 1 DAY AS purchased_at) FROM p", False),
    ("SELECT user_id, paid_at AS purchased_at FROM p", False),
    ("SELECT user_id, purchased_at, purchased_at + INTERVAL 1 DAY AS purchased_at FROM p", False),
    ("SELECT user_id, max(purchased_at) AS purchased_at FROM p GROUP BY 1", False),
    ("SELECT DISTINCT user_id, purchased_at FROM p", False),
    ("SELECT user_id, purchased_at, lag(amount) OVER (ORDER BY purchased_at) AS x FROM p", False),
    ("SELECT user_id, purchased_at FROM p QUALIFY row_number() OVER () = 1", False),
    ("SELECT user_id, purchased_at FROM p LIMIT 3", False),
    ("SELECT user_id, purchased_at FROM p WHERE user_id IN (SELECT user_id FROM p)", False),
    ("SELECT user_id, purchased_at FROM p UNION ALL SELECT user_id, purchased_at FROM p", False),
    ("SELECT p.purchased_at FROM p JOIN p AS q USING (user_id)", False),
    ("WITH q AS (SELECT * FROM p) SELECT * FROM q", False),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), ROW_BY_ROW)
def test_sql_that_works_row_by_row_is_recognized(text, expected):
    inputs = {"p": PURCHASES, "s": SHOPS} if " s " in text else None
    assert is_row_by_row(source(text, inputs=inputs)) is expected


def test_a_dimension_with_a_history_makes_pieces():
    joined = source("SELECT p.* FROM p JOIN u USING (user_id)", inputs={"p": PURCHASES, "u": USERS})
    assert not is_row_by_row(joined)
    assert piece_length(joined) == DAY


@pytest.mark.parametrize(
    ("windows", "length"),
    [
        (["7d"], DAY),
        (["7d", "36h"], HOUR),
        (["90m"], 15 * MINUTE),
        (["all"], DAY),
        (["all", "5m"], 5 * MINUTE),
        (["1s"], timedelta(seconds=1)),
    ],
)
def test_pieces_are_as_long_as_the_windows_allow(windows, length):
    inputs = {f"p{number}": PURCHASES.window(window) for number, window in enumerate(windows)}
    text = " UNION ALL ".join(f"SELECT DISTINCT * FROM {alias}" for alias in inputs)
    made = source(text, inputs=inputs)
    assert piece_length(made) == length
    outer = SqlSource("outer", inputs={"q": made}, sql="SELECT * FROM q", event_time="purchased_at")
    assert alignment(outer) == alignment(UnionSource([outer, APP])) == length
    assert piece_length(outer) is None


def test_pieces_within_pieces_have_to_fit():
    inner = source("SELECT max(purchased_at) AS purchased_at FROM p")
    outer = SqlSource("outer", inputs={"q": inner.window("90m")}, sql="SELECT max(purchased_at) AS t FROM q", event_time="t",
                      location=at(8))  # fmt: skip
    assert problems(sources=(PURCHASES, inner, outer)) == [
        "source 'outer' (feature_defs/shop.py:8) runs in pieces of 15m, but its input 'q' is made in pieces of 1d. "
        "Make the windows of its inputs whole multiples of 1d."
    ]


def test_lag_is_the_largest_of_the_members():
    made = source("SELECT user_id, seen AS t FROM b", event_time="t", inputs={"b": union()})
    view = aggregates(source="paid", members={"n": agg.count().over("7d")})
    (step,) = plan(view, sources=(PURCHASES, APP, made), schemas={"app": SCHEMA_OF_APP}).steps
    assert step.lag == timedelta(hours=5)


def test_columns_are_traced_to_files_and_tables():
    both = union({"user_id": {}, "euros": {"purchases": "amount", "app": "cents / 100"}, "category": {}})
    made = SqlSource("paid", inputs={"b": both, "c": COUNTRIES}, event_time="t", location=at(6),
                     sql="SELECT b.user_id, b.event_time AS t, b.euros * (1 + c.vat) AS gross FROM b JOIN c ON true")  # fmt: skip
    schemas = {
        "app": SCHEMA_OF_APP,
        "both": {"event_time": "timestamp", "user_id": "string", "euros": "float64", "category": "string"},
        "paid": {"user_id": "string", "t": "timestamp", "gross": "float64"},
    }
    view = aggregates(source="paid", members={"spent": agg.sum("gross").over("7d")})
    (step,) = plan(view, sources=(PURCHASES, APP, COUNTRIES, both, made), schemas=schemas).steps
    edges = {(edge.feature, edge.dataset, edge.column, edge.transformation) for edge in step.lineage}
    assert edges == {
        ("user_id", "purchases", "user_id", "IDENTITY"),
        ("user_id", "app", "uid", "IDENTITY"),
        ("spent_7d", "purchases", "amount", "AGGREGATION"),
        ("spent_7d", "app", "cents", "AGGREGATION"),
        ("spent_7d", "countries", "vat", "AGGREGATION"),
    }


def test_renamed_keys_are_traced_to_their_columns():
    view = sql("profile", "SELECT user_id, count(*) AS n FROM a GROUP BY 1", (of_source("a", "app", "7d"),),
               members={"n": feature("int64")})  # fmt: skip
    (step,) = plan(view, sources=(APP,), schemas={"app": SCHEMA_OF_APP}).steps
    assert [(edge.feature, edge.column) for edge in step.lineage if edge.feature == "user_id"] == [("user_id", "uid")]


def test_identity_covers_what_decides_rows_and_nothing_else():
    text = "SELECT user_id, purchased_at FROM p"
    same = [source(text), source("select  user_id, purchased_at from p -- x"), source(text, lag="3h", description="Paid.")]
    other = [
        source(text, inputs={"p": PURCHASES.window("7d")}), source(text + " WHERE gift"), union(), union(["user_id"]),
        UnionSource([APP, PURCHASES], name="both"), PURCHASES, APP,
        PostgresSource("orders", connection="shop", table="orders", event_time="t"),
        PostgresSource("orders", connection="shop", table="orders", event_time="t", unique_key=["id"]),
        PostgresSource("orders", connection="other", table="orders", event_time="t"),
    ]  # fmt: skip
    assert len({source_key(item) for item in same}) == 1
    assert len({source_key(item) for item in [same[0], *other]}) == len(other) + 1
    cursor = PostgresSource("orders", connection="shop", table="orders", event_time="t", cursor="t", overlap="1h", lag="1d")
    assert source_key(cursor) == source_key(PostgresSource("orders", connection="shop", table="orders", event_time="t"))
