"""Steps of an earlier compilation: what changed is compiled again, and the plan is that of a compilation from nothing."""

from __future__ import annotations

import msgspec
import pytest

from fstore import agg, feature
from fstore.plan.compiler import compile_plan
from fstore.plan.steps import decode_step, encode_step
from tests.plan.projects import (
    COUNTRIES,
    PURCHASES,
    SCHEMAS,
    USER,
    USERS,
    aggregates,
    of_source,
    of_view,
    project,
    python,
    sql,
)

USER_PURCHASES = aggregates(members={"orders": agg.count().over("7d"), "spent": agg.sum("amount").over("7d")})
LEVELS = sql(
    "levels", "SELECT p.user_id, p.orders_7d > 3 AS often, u.born_on FROM p JOIN u USING (user_id)",
    (of_view("p", "user_purchases"), of_source("u", "users")),
    members={"often": feature("bool"), "born_on": feature("date")},
)  # fmt: skip
SCORES = python("scores", (of_view("p", "levels"),), members={"score": feature("float64")})
VAT = sql("vat", "SELECT u.user_id, c.vat FROM u JOIN c USING (country)", (of_source("u", "users"), of_source("c", "countries")),
          members={"vat": feature("float64")})  # fmt: skip
VIEWS = (USER_PURCHASES, LEVELS, SCORES, VAT)


class Remembered:
    """Keeps steps as a file would, and says which were compiled."""

    def __init__(self):
        self.steps, self.compiled = {}, []

    def find(self, key):
        text = self.steps.get(key)
        return None if text is None else decode_step(text)

    def keep(self, key, step):
        self.steps[key] = encode_step(step)
        self.compiled.append(step.view)


def changed(view, **settings):
    return tuple(msgspec.structs.replace(item, **settings) if item is view else item for item in VIEWS)


MORE_USERS = {**SCHEMAS, "users": {**SCHEMAS["users"], "plan": "string"}}
CHANGES = {
    "nothing": (project(*VIEWS), SCHEMAS, []),
    "a view that others read": (
        project(*changed(USER_PURCHASES, schedule="@hourly")), SCHEMAS, ["user_purchases", "levels", "scores"],
    ),
    "a view in the middle": (project(*changed(LEVELS, owner="growth")), SCHEMAS, ["levels", "scores"]),
    "a place in the file": (project(*changed(VAT, location=msgspec.structs.replace(VAT.location, line=77))), SCHEMAS, ["vat"]),
    "a schema": (project(*VIEWS), MORE_USERS, ["levels", "scores", "vat"]),
    "the order of a schema": (
        project(*VIEWS), {**SCHEMAS, "countries": dict(reversed(SCHEMAS["countries"].items()))}, ["vat"],
    ),
    "a source": (
        project(*VIEWS, sources=(msgspec.structs.replace(PURCHASES, lag="3h"), USERS, COUNTRIES)), SCHEMAS,
        ["user_purchases", "levels", "scores"],
    ),
    "an entity": (
        project(*VIEWS, entities=(msgspec.structs.replace(USER, join_keys={"user_id": "binary"}),)), SCHEMAS, None,
    ),
    "a view with a problem": (project(*changed(VAT, sql="SELECT nothing FROM u")), SCHEMAS, []),
    "a view that is gone": (project(*VIEWS[:3]), SCHEMAS, []),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_only_what_changed_is_compiled_and_the_plan_is_the_same_as_without(change):
    after, schemas, compiled = CHANGES[change]
    known = Remembered()
    assert compile_plan(project(*VIEWS), SCHEMAS, known=known) == compile_plan(project(*VIEWS), SCHEMAS)
    known.compiled = []
    assert compile_plan(after, schemas, known=known) == compile_plan(after, schemas)
    if compiled is not None:
        assert sorted(known.compiled) == sorted(compiled)


def test_what_an_engine_has_checked_is_not_what_nobody_has():
    known = Remembered()
    compile_plan(project(VAT), SCHEMAS, known=known)
    known.compiled = []
    compile_plan(
        project(VAT), SCHEMAS, known=known, bind=lambda sql, relations, parameters: {"user_id": "string", "vat": "float64"}
    )
    assert known.compiled == ["vat"]
