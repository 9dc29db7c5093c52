"""Plans of views over features of other views, of services with aliases and of on-demand features: what they say and refuse."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from fstore import Entity, agg, expr, feature
from fstore.definitions.expression import Expression
from fstore.definitions.on_demand import OnDemandFeature
from fstore.definitions.project import FeatureName
from fstore.plan.compiler import compile_plan
from fstore.plan.steps import CompositeStep, decode_step, encode_step
from tests.plan.projects import (
    PURCHASES,
    SCHEMAS,
    USER,
    aggregates,
    at,
    of_source,
    plan,
    problems,
    project,
    service,
    sql,
    step,
    view,
)

PAIR = Entity("pair", join_keys={"user_id": "string", "other_id": "string"}, location=at(5))
NUMBERED = Entity("numbered", join_keys={"user_id": "int64"}, location=at(6))
ENTITIES = (USER, PAIR, NUMBERED)
GOLDEN = Path(__file__).parents[1] / "golden" / "composites" / "pairs.sql"


def bound(text: str, **features: dict[str, object]) -> Expression:
    """An expression that binds features of views, as the loader gives it."""
    names = {name: FeatureName(**value) for name, value in features.items()}  # type: ignore[arg-type]
    return Expression(sql=text, features=names)


def upstream(name: str = "orders", **settings: object):
    members = {"n": agg.count().over("7d", "30d"), "spent": agg.sum("amount").over("7d").fill(0)}
    return aggregates(name, **{"members": members, **settings})


N7 = {"view": "orders", "attribute": "n", "window": "7d"}


def composite(name: str = "share", *, members: dict[str, object] | None = None, line: int = 40, **settings: object):
    members = members or {"share": bound("a / b", a=N7, b={**N7, "window": "30d"})}
    return view(name, line=line, members=members, **{"start": None, **settings})


def test_a_composite_step_reads_snapshots_and_inherits_start_and_lag() -> None:
    compiled = step(upstream(start="2026-02-01"), composite(schedule="@hourly"))
    assert isinstance(compiled, CompositeStep)
    assert (f"{compiled.start:%Y-%m-%d}", compiled.lag.total_seconds()) == ("2026-02-01", 7200)
    assert [(item.alias, [column.name for column in item.features]) for item in compiled.inputs] == [
        ("snapshot0", ["n_7d", "n_30d"])
    ]
    assert decode_step(encode_step(compiled)) == compiled
    assert compiled.own is None


def test_fingerprints_are_chained_and_a_plain_expression_keeps_its_own() -> None:
    def fingerprints(*views: object) -> dict[str, str]:
        compiled = plan(*views)
        assert compiled.problems == ()
        return {f"{item.view}:{of.name}": of.fingerprint for item in compiled.steps for of in item.features}

    before = fingerprints(upstream(), composite())
    other_window = fingerprints(upstream(members={"n": agg.count().over("7d", "30d", "1d")}), composite())
    assert before["share:share"] == other_window["share:share"]
    changed = fingerprints(upstream(members={"n": agg.count("amount").over("7d", "30d")}), composite())
    assert before["share:share"] != changed["share:share"]
    swapped = composite(members={"share": bound("a / b", b=N7, a={**N7, "window": "30d"})})
    assert before["share:share"] != fingerprints(upstream(), swapped)["share:share"]
    own = {"m": agg.sum("amount").over("7d"), "twice": expr("m_7d * 2")}
    alone = fingerprints(aggregates("mine", members=own))
    mixed = fingerprints(upstream(), aggregates("mine", line=60, members={**own, "x": bound("m_7d / a", a=N7)}))
    assert alone == {name: text for name, text in mixed.items() if name in alone}


def test_types_are_inferred_over_both_kinds_of_names() -> None:
    members = {"m": agg.sum("amount").over("7d"), "x": bound("m_7d + a", a=N7), "y": bound("coalesce(s, 0.5)", s={
        "view": "orders", "attribute": "spent"})}  # fmt: skip
    compiled = step(upstream(), aggregates("mine", line=60, members=members))
    assert {item.name: item.type for item in compiled.features} == {
        "m_7d": "decimal(38,2)", "x": "decimal(38,2)", "y": "decimal(38,2)",
    }  # fmt: skip
    assert isinstance(compiled, CompositeStep)
    assert compiled.own is not None
    assert [item.name for item in compiled.own.features] == ["m_7d"]
    assert {(edge.feature, edge.kind, edge.dataset, edge.column) for edge in compiled.lineage if edge.feature == "x"} == {
        ("x", "source", "purchases", "amount"), ("x", "view", "orders", "n_7d"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("members", "settings", "message"),
    [
        ({"x": bound("a / c", a=N7)}, {},
         "feature 'share:x' (feature_defs/shop.py:41) reads 'c', which is not one of the view's features and what it binds: "
         "'x', 'a'."),
        ({"x": bound("1 + 1", a=N7)}, {},
         "feature 'share:x' (feature_defs/shop.py:41) binds 'a', which its SQL does not read. Remove it, or read it."),
        ({"a": bound("A + 1", A=N7)}, {},
         "feature 'share:a' (feature_defs/shop.py:41) binds 'A', which is a feature of the same view. Use another name for it."),
        ({"x": bound("a + 1", a={**N7, "window": "8d"})}, {},
         "feature 'share:x' (feature_defs/shop.py:41) reads of 'orders:n' the window '8d', which is not one of its windows: "
         "'7d', '30d'."),
        ({"x": bound("y + a", a=N7), "y": expr("x + 1")}, {},
         "feature 'share:x' (feature_defs/shop.py:41) is computed from itself: x -> y -> x. Remove one of the references."),
        ({"x": bound("a + 1", a={**N7, "join_keys": {"id": "user_id"}, "alias": "z"})}, {},
         "feature 'share:x' (feature_defs/shop.py:41) joins feature view 'orders' by key 'id', which is none of its keys: "
         "'user_id'."),
        ({"x": bound("a + 1", a=N7)}, {"entity": "numbered"},
         "feature 'share:x' (feature_defs/shop.py:41) reads feature view 'orders' by its key 'user_id' of type string, and its "
         "own key 'user_id' is int64. Give both entities the same type."),
        ({"x": bound("a + 1", a=N7)}, {"entity": "pair", "start": "2026-01-01"},
         "feature view 'share' (feature_defs/shop.py:40) has no rows: none of the views that it reads ('orders') has all of its "
         "keys, 'user_id', 'other_id'. Give it a source, or read a feature of a view about the same entity."),
        ({"x": bound("strange(a)", a=N7)}, {},
         "feature 'share:x' (feature_defs/shop.py:41) has 'strange(a)', and the type of STRANGE(a) cannot be told. Write "
         "CAST(STRANGE(a) AS DOUBLE), or whatever its type is."),
        ({"x": bound("a + 1", a={"view": "gone", "attribute": "n"})}, {"start": "2026-01-01"},
         "feature view 'share' (feature_defs/shop.py:40) reads feature view 'gone', which is not one of the project's: 'orders', "
         "'share'."),
    ],
)  # fmt: skip
def test_what_cannot_be_computed_is_refused(members, settings, message) -> None:
    assert problems(upstream(), composite(members=members, **settings), entities=ENTITIES) == [message]


def test_keys_of_a_pair_need_an_alias() -> None:
    pair = composite(members={"x": bound("a + 1", a={"view": "pairs", "attribute": "n"})}, entity="user")
    pairs = sql("pairs", "SELECT user_id, user_id AS other_id, 1 AS n FROM u", (of_source("u", "users"),),
                members={"n": feature("int64")}, entity="pair")  # fmt: skip
    assert problems(pairs, pair, entities=ENTITIES) == [
        "feature 'share:x' (feature_defs/shop.py:41) reads feature view 'pairs' by its key 'other_id', but has no key "
        "'other_id', only 'user_id'. Say which key it is: Pairs.as_(\"…\", other_id=\"…\")."
    ]


def test_event_views_and_cycles_are_refused() -> None:
    events = sql("events", "SELECT user_id, purchased_at AS event_timestamp, amount FROM e", (of_source("e", "purchases", "1d"),),
                 members={"amount": feature("decimal(18,2)")})  # fmt: skip
    reader = composite(members={"x": bound("a + 1", a={"view": "events", "attribute": "amount"})})
    assert problems(events, reader) == [
        "feature 'share:x' (feature_defs/shop.py:41) reads feature view 'events', whose rows have times of their own. Read it "
        "in a SQL view through inputs; expr(…) takes features of snapshot views."
    ]
    one = composite("one", members={"x": bound("a", a={"view": "two", "attribute": "x"})}, line=10)
    two = composite("two", members={"x": bound("a", a={"view": "one", "attribute": "x"})}, line=20)
    assert problems(one, two) == [
        "feature view 'one' (feature_defs/shop.py:10) reads itself: one (feature_defs/shop.py:10) -> two "
        "(feature_defs/shop.py:20) -> one. Remove one of these inputs."
    ]


def test_a_service_keeps_aliases_and_refuses_columns_that_clash() -> None:
    under = {"view": "orders", "attribute": "n", "window": "7d", "alias": "x", "join_keys": {"user_id": "a"}}
    compiled = plan(upstream(), services=(service("s", under, {**under, "alias": "y"}, N7),))
    assert [str(item) for item in compiled.services[0].references] == [
        "orders:n_7d@x(user_id=a)", "orders:n_7d@y(user_id=a)", "orders:n_7d"
    ]  # fmt: skip
    assert compiled.services[0].features == ("orders:n_7d",)
    clash = service("s", under, {**under, "join_keys": {"user_id": "b"}})
    assert problems(upstream(), services=(clash,)) == [
        "feature service 's' (feature_defs/shop.py:90) lists 'orders:n_7d@x(user_id=a)' and 'orders:n_7d@x(user_id=b)', which "
        "are both named 'x__n_7d'. Use another alias."
    ]


def planned_on_demand(*items: OnDemandFeature, listed: str = "d"):
    asked = service("s", {"view": "", "attribute": listed})
    made = msgspec.structs.replace(project(upstream(), services=(asked,)), on_demand={item.name: item for item in items})
    return compile_plan(made, SCHEMAS)


def ask(text: str, **changes: object) -> OnDemandFeature:
    settings = {"request": {"lat": "float64"}, "features": {"n": FeatureName(**N7)}, **changes}
    return OnDemandFeature(name="d", location=at(70), sql=text, **settings)  # type: ignore[arg-type]


def test_an_on_demand_feature_is_planned_over_named_columns() -> None:
    compiled = planned_on_demand(ask("LAT / n"))
    assert compiled.problems == ()
    (item,) = compiled.on_demand
    assert (item.type, item.sql) == (
        "float64", 'CAST(("request:lat:float64" / NULLIF("orders:n_7d", 0)) AS DOUBLE)'
    )  # fmt: skip
    assert [str(reference) for reference in compiled.services[0].references] == ["on_demand:d"]
    assert planned_on_demand(ask("lat  /  n -- per order")).on_demand[0].fingerprint == item.fingerprint
    assert planned_on_demand(ask("n / lat")).on_demand[0].fingerprint != item.fingerprint


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (ask("lat / n / m"), "reads 'm', which is not one of its request values and features: 'lat', 'n'."),
        (ask("lat + 1"), "is given 'n', which its SQL does not read. Remove it, or read it."),
        (ask("lat +", features={}), "has SQL that cannot be parsed near '+' in line 1: 'lat +'."),
        (ask("lat + n", features={"n": FeatureName(view="gone", attribute="n")}),
         "reads feature view 'gone', which is not one of the project's: 'orders'."),
    ],
)  # fmt: skip
def test_an_on_demand_feature_with_a_problem_takes_its_services_down(item, message) -> None:
    found = [str(problem) for problem in planned_on_demand(item).problems]
    assert found == [
        f"on-demand feature 'd' (feature_defs/shop.py:70) {message}",
        "feature service 's' (feature_defs/shop.py:90) is blocked by feature_defs/shop.py:70: on-demand feature 'd' has a "
        "problem. Solve that one first.",
    ]


def test_the_sql_is_as_reviewed() -> None:
    twin = {"view": "orders", "attribute": "spent", "alias": "other", "join_keys": {"user_id": "other_id"}}
    members = {
        "m": agg.sum("amount").over("7d").fill(0),
        "x": bound("m_7d / a", a=N7),
        "y": bound("x + coalesce(s, 0)", s=twin),
    }
    pairs = aggregates("pairs", line=60, entity="pair", members=members, source="pair_purchases")
    schemas = {**SCHEMAS, "pair_purchases": {**SCHEMAS["purchases"], "other_id": "string"}}
    bought = msgspec.structs.replace(PURCHASES, name="pair_purchases", path="data/pairs/")
    compiled = plan(upstream(), pairs, entities=ENTITIES, sources=(PURCHASES, bought), schemas=schemas).steps[-1]
    assert isinstance(compiled, CompositeStep)
    text = f"-- range\n{compiled.sql};\n\n-- empty row\n{compiled.empty_sql};\n"
    if os.environ.get("FSTORE_UPDATE_GOLDEN"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")
