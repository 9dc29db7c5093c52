"""A corpus of definitions that each are right by themselves and wrong together: with columns, types, SQL or each other.

Every case gives the whole text of what is reported.
"""

import msgspec
import pytest

from fstore import Entity, ParquetSource, agg, expr, feature
from fstore.definitions.location import Location
from fstore.definitions.project import Problem
from tests.plan.projects import (
    PURCHASES,
    USERS,
    aggregates,
    at,
    of_source,
    of_view,
    plan,
    problems,
    python,
    service,
    sql,
)

VIEW = "feature view 'user_purchases' (feature_defs/shop.py:10)"
PROFILE = "feature view 'profile' (feature_defs/shop.py:30)"
COLUMNS = "'user_id', 'purchased_at', 'amount', 'quantity', 'weight', 'category', 'gift', 'payload'"


def one(member, name="spent"):
    return aggregates(members={name: member})


def total(argument):
    return one(agg.sum(argument).over("7d"))


def derived(**members):
    return aggregates(members={"spent": agg.sum("amount").over("7d"), **members})


def profile(text, *inputs, **settings):
    fields = settings.pop("fields", {"country": feature("string")})
    return sql("profile", text, inputs or (of_source("u", "users"),), line=30, members=fields, **settings)


SPENT = "feature 'user_purchases:spent' (feature_defs/shop.py:11)"
TREND = "feature 'user_purchases:trend' (feature_defs/shop.py:12)"

AGGREGATES = {
    "unknown column": (
        total("amonut"),
        f"{SPENT} reads column 'amonut', which source 'purchases' does not have: {COLUMNS}. Did you mean 'amount'?",
    ),
    "unknown column inside of an expression": (
        total("amount * qty"),
        f"{SPENT} reads column 'qty', which source 'purchases' does not have: {COLUMNS}.",
    ),
    "not SQL": (total("amount *"), f"{SPENT} has SQL that cannot be parsed near '*' in line 1: 'amount *'."),
    "two expressions": (
        total("amount, quantity"),
        f"{SPENT} has 'amount, quantity', which is not one SQL expression. Write a single expression over columns.",
    ),
    "subquery": (
        total("(SELECT max(amount) FROM purchases)"),
        f"{SPENT} has '(SELECT max(amount) FROM purchases)', which contains a subquery. "
        "Use a SQL view for anything that needs a SELECT.",
    ),
    "aggregate inside of an aggregate": (
        total("sum(amount)"),
        f"{SPENT} has 'sum(amount)', which contains the aggregate sum(). Aggregates are declared with agg.",
    ),
    "window function": (
        total("row_number() OVER ()"),
        f"{SPENT} has 'row_number() OVER ()', which contains a window function. Windows of time are declared with .over().",
    ),
    "random": (
        total("amount * random()"),
        f"{SPENT} uses random(), whose value changes from run to run. "
        "Use the interval's $start or $end in a SQL view, or a column.",
    ),
    "sum of a text": (
        total("category"),
        f"{SPENT} takes sum of 'category', which has type string. Use a number, or CAST(… AS INTEGER).",
    ),
    "average of a boolean": (
        one(agg.avg("gift").over("7d")),
        f"{SPENT} takes avg of 'gift', which has type bool. Use a number, or CAST(… AS INTEGER).",
    ),
    "column of an unsupported type": (
        one(agg.last("payload").over("7d")),
        f"{SPENT} reads column 'payload' of type unsupported(STRUCT(a INTEGER)). Cast it to one of the types of fstore.",
    ),
    "expression of an unknown type": (
        one(agg.max("hash(category)").over("7d")),
        f"{SPENT} has 'hash(category)', and the type of HASH(category) cannot be told. "
        "Write CAST(HASH(category) AS DOUBLE), or whatever its type is.",
    ),
    "fill of another type": (
        one(agg.last("category").over("7d").fill(0)),
        f"{SPENT} fills with 0, and its type is string. Use a value of type string.",
    ),
    "fraction as the fill of a whole number": (
        one(agg.sum("quantity").over("7d").fill(0.5)),
        f"{SPENT} fills with 0.5, and its type is int64. Use a value of type int64.",
    ),
    "no aggregates": (
        aggregates(members={"one": expr("1")}),
        f'{VIEW} has no aggregates. Add one, such as n = agg.count().over("7d").',
    ),
    "unknown feature": (
        derived(trend=expr("spent_30d / 2")),
        f"{TREND} reads 'spent_30d', which is not one of the view's features: 'spent_7d', 'trend'. Did you mean 'spent_7d'?",
    ),
    "attribute instead of a feature": (
        derived(trend=expr("spent / 2")),
        f"{TREND} reads 'spent', which is not one of the view's features: 'spent_7d', 'trend'. Did you mean 'spent_7d'?",
    ),
    "expression of itself": (
        derived(trend=expr("trend + 1")),
        f"{TREND} is computed from itself: trend -> trend. Remove one of the references.",
    ),
    "expressions of each other": (
        derived(trend=expr("level + 1"), level=expr("trend * 2")),
        f"{TREND} is computed from itself: trend -> level -> trend. Remove one of the references.",
    ),
    "aggregate in an expression": (
        derived(trend=expr("sum(spent_7d)")),
        f"{TREND} has 'sum(spent_7d)', which contains the aggregate sum(). Aggregates are declared with agg.",
    ),
    "expression of an unknown type over features": (
        derived(trend=expr("hash(spent_7d)")),
        f"{TREND} has 'hash(spent_7d)', and the type of HASH(spent_7d) cannot be told. "
        "Write CAST(HASH(spent_7d) AS DOUBLE), or whatever its type is.",
    ),
    "today in an expression": (
        derived(trend=expr("CASE WHEN current_date > DATE '2026-01-01' THEN 1 END")),
        f"{TREND} uses current_date, whose value changes from run to run. "
        "Use the interval's $start or $end in a SQL view, or a column.",
    ),
    "ttl shorter than lag and interval": (
        aggregates(members={"n": agg.count().over("7d")}, ttl="1d"),
        f"{VIEW} has ttl '1d', shorter than its lag (2h) plus its longest interval (1d): every value would vanish before "
        'its successor lands. Use ttl = "1d2h" or more.',
    ),
    "ttl shorter than the longest day of the zone": (
        aggregates(members={"n": agg.count().over("7d")}, ttl="26h", timezone="Europe/Berlin"),
        f"{VIEW} has ttl '26h', shorter than its lag (2h) plus its longest interval (1d1h): every value would vanish "
        'before its successor lands. Use ttl = "1d3h" or more.',
    ),
}

SELECTS = {
    "undeclared table": (
        profile("SELECT user_id, country FROM u JOIN usres USING (user_id)"),
        f"{PROFILE} reads table 'usres', which is not one of its inputs: 'u'.",
    ),
    "undeclared table that is nearly an input": (
        profile("SELECT user_id, country FROM user", of_source("users", "users")),
        [
            f"{PROFILE} has the input 'users', which its SQL does not read. Remove it, or read it.",
            f"{PROFILE} reads table 'user', which is not one of its inputs: 'users'. Did you mean 'users'?",
        ],
    ),
    "file as a table": (
        profile("SELECT user_id, country FROM 'users.parquet' JOIN u USING (user_id)"),
        f"{PROFILE} reads table 'users.parquet', which is not one of its inputs: 'u'.",
    ),
    "table function": (
        profile("SELECT user_id, country FROM read_parquet('users.parquet')"),
        f"{PROFILE} has SQL that reads read_parquet(…) rather than an input. "
        "Declare what it reads as a source and give it to the view in inputs.",
    ),
    "unread input": (
        profile("SELECT user_id, country FROM u", of_source("u", "users"), of_source("c", "countries")),
        f"{PROFILE} has the input 'c', which its SQL does not read. Remove it, or read it.",
    ),
    "unknown column of an input": (
        profile("SELECT u.user_id, u.contry AS country FROM u"),
        f"{PROFILE} reads column 'u.contry', which its inputs do not have; they have 'u.born_on', 'u.country', "
        "'u.updated_at', 'u.user_id'. Did you mean 'u.country'?",
    ),
    "unknown column of no input": (
        profile("SELECT user_id, upper(land) AS country FROM u"),
        f"{PROFILE} reads column 'land', which its inputs do not have; they have 'born_on', 'country', 'updated_at', "
        "'user_id'.",
    ),
    "lacks a declared feature": (
        profile("SELECT user_id, country AS land FROM u"),
        f"{PROFILE} gives the columns 'user_id', 'land' and lacks 'country'. "
        "Add them to the SELECT, or remove their declarations.",
    ),
    "lacks the key": (
        profile("SELECT country FROM u"),
        f"{PROFILE} gives the columns 'country' and lacks 'user_id'. Add them to the SELECT, or remove their declarations.",
    ),
    "gives an undeclared column": (
        profile("SELECT user_id, country, born_on FROM u"),
        f"{PROFILE} gives the columns 'born_on', which it does not declare. "
        'Declare them with born_on = feature("…"), or remove them from the SELECT.',
    ),
    "gives undeclared columns through a star": (
        profile("SELECT * FROM u"),
        f"{PROFILE} gives the columns 'updated_at', 'born_on', which it does not declare. "
        'Declare them with updated_at = feature("…"), or remove them from the SELECT.',
    ),
    "gives a column twice": (
        profile("SELECT user_id, country, upper(country) AS country FROM u"),
        f"{PROFILE} gives the columns 'country' more than once. Rename or remove one of each.",
    ),
    "gives a column without a name": (
        profile("SELECT user_id, upper(country) FROM u"),
        f"{PROFILE} gives the columns 'user_id', '' and lacks 'country'. "
        "Add them to the SELECT, or remove their declarations.",
    ),
    "two statements": (
        profile("SELECT user_id, country FROM u; DROP TABLE u"),
        f"{PROFILE} has 2 SQL statements in 'SELECT user_id, country FROM u; DROP TABLE u'. Write exactly one.",
    ),
    "not a SELECT": (
        profile("DELETE FROM u"),
        f"{PROFILE} has SQL that is not one SELECT but DELETE. Write a single SELECT.",
    ),
    "now": (
        profile("SELECT user_id, country FROM u WHERE updated_at < now()"),
        f"{PROFILE} uses now(), whose value changes from run to run. "
        "Use the interval's $start or $end in a SQL view, or a column.",
    ),
    "session variable": (
        profile("SELECT user_id, getvariable('x') AS country FROM u"),
        f"{PROFILE} uses getvariable(), which does not depend on the inputs. Use a column or a constant.",
    ),
    "another parameter": (
        profile("SELECT user_id, country FROM u WHERE updated_at < $now"),
        f"{PROFILE} has SQL that has the parameter $now. A view's SQL has the parameters $start and $end only.",
    ),
    "no start to inherit": (
        profile("SELECT user_id, country FROM u", start=None),
        f'{PROFILE} has no start, and no view among its inputs to inherit one from. Add start = "2026-01-01".',
    ),
}


@pytest.mark.parametrize("case", [*AGGREGATES, *SELECTS])
def test_reports(case):
    view, expected = {**AGGREGATES, **SELECTS}[case]
    assert problems(view) == ([expected] if isinstance(expected, str) else expected)


def test_reports_times_and_keys_that_a_source_does_not_have():
    source = ParquetSource("purchases", path="p", event_time="bought_at", lag="0s", location=at(2))
    users = ParquetSource("users", path="u", keys=["usr_id"], updated_at="country", location=at(3))
    view = aggregates(members={"n": agg.count().over("7d")})
    assert problems(view, sources=(source, users)) == [
        f"source 'purchases' (feature_defs/shop.py:2) has event_time 'bought_at', which is not one of its columns: {COLUMNS}.",
        "source 'users' (feature_defs/shop.py:3) has key 'usr_id', which is not one of its columns: 'user_id', 'updated_at', "
        "'born_on', 'country'. Did you mean 'user_id'?",
        "source 'users' (feature_defs/shop.py:3) has updated_at 'country' of type string, where a timestamp is expected. "
        'Store it as a timestamp, or declare its type: schema={…: "timestamp"}.',
        f"{VIEW} is blocked by feature_defs/shop.py:2: source 'purchases' has a problem. Solve that one first.",
    ]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"user": "string"}, f"needs the join key 'user', which source 'purchases' does not have: {COLUMNS}. Did you mean 'user_id'?"),
        (
            {"user_id": "int64"},
            "has the join key 'user_id': expected int64, as its entity says, got string from source 'purchases'. "
            "Give the join key the type of the column, or convert the column.",
        ),
        (
            {"payload": "string"},
            "has the join key 'payload': expected string, as its entity says, got unsupported(STRUCT(a INTEGER)) from source "
            "'purchases'. Give the join key the type of the column, or convert the column.",
        ),
    ],
)  # fmt: skip
def test_reports_join_keys_that_the_source_does_not_have(keys, message):
    entity = Entity("user", join_keys=keys, location=at(1))
    assert problems(aggregates(members={"n": agg.count().over("7d")}), entities=(entity,)) == [f"{VIEW} {message}"]


def test_a_join_key_may_be_narrower_or_wider_than_the_column():
    entity = Entity("user", join_keys={"quantity": "int64"}, location=at(1))
    assert problems(aggregates(members={"n": agg.count().over("7d")}), entities=(entity,)) == []


def test_reports_an_end_before_the_start_that_is_inherited():
    upstream = aggregates(members={"n": agg.count().over("7d")}, start="2026-03-01")
    below = profile("SELECT user_id, n_7d AS country FROM p", of_view("p", "user_purchases"), start=None, end="2026-02-01")
    assert problems(upstream, below) == [
        f"{PROFILE} ends at 2026-02-01T00:00:00Z, which is not after 2026-03-01T00:00:00Z, where it starts. "
        "Move its end, or give it an earlier start."
    ]


def test_draws_a_cycle_as_a_chain_and_blocks_what_reads_it():
    a = sql("a", "SELECT user_id, x FROM b", (of_view("b", "b"),), line=10, members={"x": feature("int64")})
    b = sql("b", "SELECT user_id, x FROM c", (of_view("c", "c"),), line=20, members={"x": feature("int64")})
    c = sql("c", "SELECT user_id, x FROM a", (of_view("a", "a"),), line=30, members={"x": feature("int64")})
    d = sql("d", "SELECT user_id, x FROM a", (of_view("a", "a"),), line=40, members={"x": feature("int64")})
    compiled = plan(a, b, c, d)
    assert [str(problem) for problem in compiled.problems] == [
        "feature view 'a' (feature_defs/shop.py:10) reads itself: a (feature_defs/shop.py:10) -> b (feature_defs/shop.py:20) "
        "-> c (feature_defs/shop.py:30) -> a. Remove one of these inputs.",
        "feature view 'd' (feature_defs/shop.py:40) is blocked by feature_defs/shop.py:10: feature view 'a' has a problem. "
        "Solve that one first.",
    ]
    assert compiled.steps == ()


def test_a_view_with_a_problem_blocks_what_reads_it_and_nothing_else():
    broken = aggregates(members={"n": agg.sum("nothing").over("7d")})
    blocked = profile("SELECT user_id, n_7d AS country FROM p", of_view("p", "user_purchases"))
    sound = python("sound", (of_source("u", "users"),), line=50, members={"x": feature("int64")})
    churn = service("churn", {"view": "sound"}, {"view": "profile"})
    risk = service("risk", {"view": "sound"}, line=95)
    compiled = plan(broken, blocked, sound, services=(churn, risk))
    assert [str(problem) for problem in compiled.problems] == [
        f"feature 'user_purchases:n' (feature_defs/shop.py:11) reads column 'nothing', which source 'purchases' does not have: "
        f"{COLUMNS}.",
        f"{PROFILE} is blocked by feature_defs/shop.py:10: feature view 'user_purchases' has a problem. Solve that one first.",
        "feature service 'churn' (feature_defs/shop.py:90) is blocked by feature_defs/shop.py:30: feature view 'profile' has a "
        "problem. Solve that one first.",
    ]
    assert [item.view for item in compiled.steps] == ["sound"]
    assert [item.name for item in compiled.services] == ["risk"]


def test_a_view_that_the_loader_could_not_read_blocks_by_its_place():
    below = profile("SELECT user_id, country FROM p", of_view("p", "gone"))
    found = problems(below, broken={"gone": Location("feature_defs/other.py", 3)}, problems=(Problem(problem="it broke."),))
    assert found == [
        "it broke.",
        f"{PROFILE} is blocked by feature_defs/other.py:3: feature view 'gone' has a problem. Solve that one first.",
    ]


def test_reports_references_that_lead_nowhere():
    view = sql(
        "profile", "SELECT user_id, country FROM u", (of_source("u", "usres"), of_view("p", "nobody")), line=30,
        members={"country": feature("string")}, entity="usr",
    )  # fmt: skip
    assert problems(view) == [
        f"{PROFILE} is about entity 'usr', which is not one of the project's: 'user'. Did you mean 'user'?",
        f"{PROFILE} reads feature view 'nobody', which is not one of the project's: 'profile'.",
        f"{PROFILE} reads source 'usres', which is not one of the project's: 'countries', 'purchases', 'users'. "
        "Did you mean 'users'?",
    ]


def test_a_star_over_a_view_does_not_make_an_event_view_by_accident():
    upstream = aggregates(members={"n": agg.count().over("7d")})
    below = profile("SELECT * FROM p", of_view("p", "user_purchases"), fields={"n_7d": feature("int64")})
    assert problems(upstream, below) == [
        f"{PROFILE} gives event_timestamp through a *, which would make it an event view by accident. "
        "Name the columns that it gives."
    ]


def test_reports_references_of_services():
    view = aggregates(members={"n": agg.count().over("7d", "30d")})
    churn = service(
        "churn", {"view": "user_purchases", "attribute": "n", "window": "3d"}, {"view": "user_purchases", "attribute": "m"}
    )
    assert problems(view, services=(churn,)) == [
        "feature service 'churn' (feature_defs/shop.py:90) reads of 'user_purchases:n' the window '3d', which is not one of its "
        "windows: '7d', '30d'. Did you mean '30d'?",
        "feature service 'churn' (feature_defs/shop.py:90) reads of feature view 'user_purchases' 'm', which is not one of its "
        "features: 'n'.",
    ]  # fmt: skip


def test_all_problems_of_a_project_are_reported_at_once_in_order_of_place():
    first = aggregates("first", line=40, members={"a": agg.sum("x").over("7d"), "b": agg.sum("y").over("7d")})
    second = aggregates("second", line=20, members={"c": agg.sum("z").over("7d")})
    found = plan(first, second).problems
    assert [(problem.line, problem.subject) for problem in found] == [
        (21, "feature 'second:c'"),
        (41, "feature 'first:a'"),
        (42, "feature 'first:b'"),
    ]


def test_unknown_schemas_leave_columns_unchecked():
    view = aggregates(members={"spent": agg.sum("no_such_column").over("7d"), "half": expr("spent_7d / 2")})
    compiled = plan(view, profile("SELECT * FROM u"), schemas={})
    assert compiled.problems == ()
    assert [(item.name, item.type) for item in compiled.steps[1].features] == [("spent_7d", None), ("half", None)]


def test_a_declared_schema_is_checked_like_a_recorded_one():
    source = msgspec.structs.replace(PURCHASES, schema={"user_id": "string", "purchased_at": "timestamp", "amount": "int32"})
    view = aggregates(members={"spent": agg.sum("amuont").over("7d")})
    assert problems(view, schemas={}, sources=(source, USERS)) == [
        f"{SPENT} reads column 'amuont', which source 'purchases' does not have: 'user_id', 'purchased_at', 'amount'. "
        "Did you mean 'amount'?"
    ]
