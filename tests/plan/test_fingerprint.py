"""What changes a fingerprint, and what does not."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fstore import Entity, agg, expr, feature
from tests.plan.projects import (
    COUNTRIES,
    PURCHASES,
    USER,
    USERS,
    aggregates,
    at,
    of_source,
    of_view,
    plan,
    python,
    sql,
)

MEMBERS = {
    "spent": agg.sum("amount").over("7d", "30d").fill(0),
    "last_category": agg.last("category").over("90d"),
    "trend": expr("spent_7d / spent_30d"),
    "level": expr("trend * 2"),
}
PROFILE = "SELECT u.user_id, u.country, p.spent_7d AS spent FROM u JOIN p USING (user_id)"
PROFILE_INPUTS = (of_source("u", "users"), of_view("p", "user_purchases"))
PROFILE_FIELDS = {"country": feature("string"), "spent": feature("float64")}


def fingerprints(*views, **settings):
    """Feature fingerprints by full name, and view fingerprints by view."""
    compiled = plan(*views, **settings)
    assert compiled.problems == ()
    found = {f"{step.view}:{item.name}": item.fingerprint for step in compiled.steps for item in step.features}
    return found | {step.view: step.fingerprint for step in compiled.steps}


def everything(*, purchases=None, profile=None, risk=None, **settings):
    """The fingerprints of three views that read each other, with some settings changed."""
    return fingerprints(
        aggregates(**{"members": MEMBERS, **(purchases or {})}),
        sql("profile", **{"text": PROFILE, "inputs": PROFILE_INPUTS, "members": PROFILE_FIELDS, **(profile or {})}),
        python("risk", **{"inputs": (of_view("p", "profile"),), "members": {"score": feature("float64")}, **(risk or {})}),
        **settings,
    )


BEFORE = everything()


def changed(after):
    return {name for name in BEFORE if after.get(name) != BEFORE[name]}


def source(item, **changes):
    return msgspec.structs.replace(item, **changes)


def sources(**changes):
    """The project's sources, ``purchases`` changed."""
    return (source(PURCHASES, **changes), USERS, COUNTRIES)


PROFILE_AND_BELOW = {"profile", "profile:country", "profile:spent", "risk", "risk:score"}
ALL = {*BEFORE}

SAME = {
    "nothing": {},
    "descriptions, owner and tags": {"purchases": {"description": "x", "owner": "me", "tags": {"a": "b"}}},
    "ttl": {"purchases": {"ttl": "9d"}},
    "start and end": {"purchases": {"start": "2025-01-01", "end": "2027-01-01"}},
    "pipeline and online": {"purchases": {"pipeline": "other", "online": False}},
    "place in the file": {"purchases": {"line": 400, "module": "feature_defs/other.py"}},
    "lag and description of the source": {"sources": sources(lag="9h", description="x", location=at(99))},
    "layout of SQL": {"profile": {"text": "select  u.user_id, U.country,\n  p.spent_7d as spent -- now\nfrom u join p using (user_id);"}},
    "order of features": {"purchases": {"members": dict(reversed(MEMBERS.items()))}},
    "layout of an expression": {"purchases": {"members": {**MEMBERS, "trend": expr(" SPENT_7D/spent_30d -- share")}}},
    "marks of a feature": {"profile": {"members": {**PROFILE_FIELDS, "country": feature("string", pii=True, description="x")}}},
    "description of the entity": {"entities": (source(USER, description="x"),)},
    "recording the schemas": {"schemas": {}},
}  # fmt: skip


@pytest.mark.parametrize("case", SAME)
def test_does_not_change_by(case):
    assert changed(everything(**SAME[case])) == set()


TREND = {"user_purchases:trend", "user_purchases:level"}
SPENT = {f"user_purchases:spent_{window}" for window in ("7d", "30d")}
BELOW = {"user_purchases", *PROFILE_AND_BELOW}

DIFFERENT = {
    "expression, and those that read it": (
        {"purchases": {"members": {**MEMBERS, "trend": expr("spent_30d / spent_7d")}}},
        TREND | {"user_purchases"},
    ),
    "fill, and what reads it": ({"purchases": {"members": {**MEMBERS, "spent": agg.sum("amount").over("7d", "30d").fill(1)}}}, SPENT | TREND | BELOW),
    "function": ({"purchases": {"members": {**MEMBERS, "spent": agg.max("amount").over("7d", "30d").fill(0)}}}, SPENT | TREND | BELOW),
    "argument": ({"purchases": {"members": {**MEMBERS, "spent": agg.sum("-amount").over("7d", "30d").fill(0)}}}, SPENT | TREND | BELOW),
    "path of the source": ({"sources": sources(path="elsewhere/")}, ALL),
    "event time of the source": ({"sources": sources(timezone="Europe/Berlin")}, ALL),
    "schedule": ({"purchases": {"schedule": "@hourly"}}, ALL),
    "zone": ({"purchases": {"timezone": "Europe/Berlin"}}, ALL),
    "SQL": ({"profile": {"text": PROFILE.replace("JOIN", "LEFT JOIN")}}, PROFILE_AND_BELOW),
    "declared type": ({"profile": {"members": {**PROFILE_FIELDS, "spent": feature("float32")}}}, {"profile", "profile:spent", "risk", "risk:score"}),
    "upstream schedule": ({"profile": {"schedule": "@weekly"}}, PROFILE_AND_BELOW),
    "source of a function": ({"risk": {"source": "def compute(p):\n    return p.take([0])"}}, {"risk", "risk:score"}),
    "history instead of the snapshot": ({"risk": {"inputs": (of_view("p", "profile", history=True),)}}, {"risk", "risk:score"}),
}  # fmt: skip


@pytest.mark.parametrize("case", DIFFERENT)
def test_changes_with(case):
    settings, expected = DIFFERENT[case]
    assert changed(everything(**settings)) == expected


def test_changes_with_the_keys():
    entity = Entity("user", join_keys={"category": "string"}, location=at(1))
    one = fingerprints(aggregates(members=MEMBERS))
    other = fingerprints(aggregates(members=MEMBERS), entities=(entity,))
    assert [name for name in one if one[name] == other[name]] == []


def test_is_the_same_before_and_after_a_fill_takes_its_type():
    view = aggregates(members={"heavy": agg.sum("weight").over("7d").fill(0)})
    assert fingerprints(view) == fingerprints(view, schemas={})


def test_a_new_feature_leaves_the_others_as_they_are_and_what_does_not_read_it():
    after = everything(purchases={"members": {**MEMBERS, "orders": agg.count().over("7d")}})
    assert changed(after) == {"user_purchases"}
    assert set(after) - ALL == {"user_purchases:orders_7d"}


def test_a_wider_window_changes_the_readers_because_more_keys_have_a_row():
    after = everything(purchases={"members": {**MEMBERS, "orders": agg.count().over("180d")}})
    assert changed(after) == BELOW


@pytest.mark.parametrize(
    "text",
    [
        "SELECT u.user_id, u.country, q.spent_7d AS spent FROM u JOIN (SELECT * FROM p) AS q USING (user_id)",
        "SELECT u.user_id, u.country, p.spent_7d AS spent FROM u NATURAL JOIN p",
        "SELECT u.user_id, CAST(p AS VARCHAR) AS country, p.spent_7d AS spent FROM u JOIN p USING (user_id)",
    ],
)
def test_a_select_that_can_mean_every_column_changes_with_all_of_them(text):
    before = everything(profile={"text": text})
    after = everything(profile={"text": text}, purchases={"members": {**MEMBERS, "orders": agg.count().over("7d")}})
    assert before["profile:country"] != after["profile:country"]


def test_a_python_view_changes_with_every_feature_of_its_inputs():
    risk = {"inputs": (of_view("p", "user_purchases"),)}
    before = everything(risk=risk)
    after = everything(risk=risk, purchases={"members": {**MEMBERS, "orders": agg.count().over("7d")}})
    assert before["risk:score"] != after["risk:score"]


def test_another_window_of_events_changes_a_sql_view():
    text = "SELECT user_id, count(*) AS n FROM e GROUP BY 1"
    found = [
        fingerprints(sql("v", text, (of_source("e", "purchases", window),), members={"n": feature("int64")}))["v:n"]
        for window in ("7d", "8d", "all")
    ]
    assert len(set(found)) == 3


def test_features_that_differ_in_name_only_have_fingerprints_of_their_own():
    found = fingerprints(aggregates(members={"a": agg.count().over("7d"), "b": agg.count().over("7d")}))
    assert found["user_purchases:a_7d"] != found["user_purchases:b_7d"]


PIECES = st.sampled_from(["amount", "quantity", "1", "2.5"])
ARGUMENTS = st.recursive(
    PIECES, lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from("+-*"), inner), max_leaves=4
)
GAPS = st.sampled_from([" ", "\n  ", " /* note */ ", "  -- note\n"])


@given(ARGUMENTS, GAPS)
def test_reformatting_an_argument_changes_nothing(text, gap):
    members = [{"a": agg.max(argument).over("7d")} for argument in (text, text.replace(" ", gap).upper())]
    one, other = (fingerprints(aggregates(members=item), schemas={}) for item in members)
    assert one == other


@given(ARGUMENTS, ARGUMENTS)
def test_different_arguments_have_different_fingerprints(one, other):
    first, second = (
        fingerprints(aggregates(members={"a": agg.max(text).over("7d")}), schemas={})["user_purchases:a_7d"]
        for text in (one, other)
    )
    assert (first == second) == (one == other)
