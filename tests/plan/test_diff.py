"""What changes between two plans."""

import msgspec
import pytest

from fstore import Entity, agg, feature
from fstore.plan.diff import AddedView, ChangedView, RemovedView, diff_plans, downstream_views
from tests.plan.projects import PURCHASES, SCHEMAS, aggregates, at, of_view, plan, python, sql

MEMBERS = {"n": agg.count().over("7d"), "s": agg.sum("amount").over("7d")}


def steps(*, purchases=None, profile=None, **settings):
    below = sql(
        "profile",
        **{
            "text": "SELECT user_id, n_7d AS m FROM p",
            "inputs": (of_view("p", "user_purchases"),),
            "members": {"m": feature("int64")},
            **(profile or {}),
        },
    )
    risk = python("risk", (of_view("p", "profile"),), members={"score": feature("float64")})
    compiled = plan(aggregates(**{"members": MEMBERS, **(purchases or {})}), below, risk, **settings)
    assert compiled.problems == ()
    return compiled.steps


BEFORE = steps()


def test_the_same_plan_has_no_changes():
    diff = diff_plans(BEFORE, steps())
    assert diff.is_empty
    assert diff.describe() == []


def test_views_are_added_and_removed_with_their_features_and_dependents():
    added = diff_plans([], BEFORE)
    assert added.added == (
        AddedView(view="profile", features=("m",)),
        AddedView(view="risk", features=("score",)),
        AddedView(view="user_purchases", features=("n_7d", "s_7d")),
    )
    removed = diff_plans(BEFORE, [])
    assert removed.removed[2] == RemovedView(
        view="user_purchases", features=("n_7d", "s_7d"), downstream=("profile", "risk")
    )
    assert added.describe() == [
        "+ profile: 1 feature (m)",
        "+ risk: 1 feature (score)",
        "+ user_purchases: 2 features (n_7d, s_7d)",
    ]
    assert removed.describe()[2] == "- user_purchases: 2 features (n_7d, s_7d); profile, risk derived from it"


@pytest.mark.parametrize(
    ("settings", "reasons"),
    [
        ({"purchases": {"ttl": "9d"}}, ("ttl changed",)),
        ({"purchases": {"owner": "me", "description": "x"}}, ("description changed", "owner changed")),
        ({"purchases": {"start": "2025-01-01"}}, ("start: 2026-01-01T00:00:00Z to 2025-01-01T00:00:00Z",)),
        (
            {"purchases": {"members": {**MEMBERS, "n": agg.count(description="Orders.").over("7d")}}},
            ("described anew: n_7d",),
        ),
    ],
)
def test_metadata_recomputes_nothing(settings, reasons):
    assert diff_plans(BEFORE, steps(**settings)).changed == (
        ChangedView(view="user_purchases", kind="metadata", reasons=reasons, downstream=("profile", "risk")),
    )


def test_lag_changes_the_metadata_of_all_that_inherits_it():
    slower = steps(sources=(msgspec.structs.replace(PURCHASES, lag="9h"),))
    assert [(change.view, change.kind, change.reasons) for change in diff_plans(BEFORE, slower).changed] == [
        ("profile", "metadata", ("lag changed",)),
        ("risk", "metadata", ("lag changed",)),
        ("user_purchases", "metadata", ("lag changed",)),
    ]


def test_a_new_feature_is_additive():
    after = steps(purchases={"members": {**MEMBERS, "a": agg.avg("amount").over("7d")}})
    change = diff_plans(BEFORE, after).changed[-1]
    assert (change.kind, change.reasons, change.added) == ("additive", ("added: a_7d",), ("a_7d",))


@pytest.mark.parametrize(
    ("settings", "reasons"),
    [
        ({"purchases": {"schedule": "@hourly"}}, ("schedule: 0 0 * * * UTC to 0 * * * * UTC", "redefined: n_7d, s_7d")),
        ({"purchases": {"timezone": "Asia/Tokyo"}}, ("schedule: 0 0 * * * UTC to 0 0 * * * Asia/Tokyo", "redefined: n_7d, s_7d")),
        ({"purchases": {"members": {**MEMBERS, "s": agg.max("amount").over("7d")}}}, ("redefined: s_7d",)),
        ({"purchases": {"members": {"n": MEMBERS["n"]}}}, ("removed: s_7d",)),
        ({"sources": (msgspec.structs.replace(PURCHASES, path="elsewhere/"),)}, ("redefined: n_7d, s_7d",)),
    ],
)  # fmt: skip
def test_another_meaning_is_breaking(settings, reasons):
    change = diff_plans(BEFORE, steps(**settings)).changed[-1]
    assert (change.view, change.kind, change.reasons) == ("user_purchases", "breaking", reasons)


def test_other_keys_are_breaking():
    one = plan(aggregates(members=MEMBERS)).steps
    entity = Entity("user", join_keys={"category": "string", "quantity": "int64"}, location=at(1))
    other = plan(aggregates(members=MEMBERS), entities=(entity,)).steps
    (change,) = diff_plans(one, other).changed
    assert change.reasons == ("join keys: user_id string to category string, quantity int64", "redefined: n_7d, s_7d")


def test_an_event_view_is_not_a_snapshot_view():
    after = steps(profile={"text": "SELECT user_id, event_timestamp, n_7d AS m FROM p"})
    changes = {change.view: change for change in diff_plans(BEFORE, after).changed}
    assert changes["profile"].reasons == ("kind: snapshot view to event view", "redefined: m")
    assert diff_plans(BEFORE, after).describe()[0] == (
        "~ profile (breaking): kind: snapshot view to event view; redefined: m; risk derived from it"
    )


def test_a_type_that_becomes_known_is_no_change_and_one_that_changes_is_breaking():
    assert diff_plans(steps(schemas={}), BEFORE).is_empty
    drifted = {**SCHEMAS, "purchases": {**SCHEMAS["purchases"], "amount": "float64"}}
    (change,) = diff_plans(BEFORE, steps(schemas=drifted)).changed
    assert (change.view, change.kind, change.reasons) == ("user_purchases", "breaking", ("redefined: s_7d",))


def test_downstream_views_are_found_through_others():
    assert downstream_views("user_purchases", BEFORE) == ("profile", "risk")
    assert downstream_views("risk", BEFORE) == ()
