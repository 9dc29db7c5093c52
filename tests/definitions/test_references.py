"""References to features: under an alias, in expressions over other views, and of on-demand features."""

from __future__ import annotations

from fstore.definitions.loader import load_project
from fstore.definitions.project import FeatureName, Project

from .conftest import Write

VIEWS = """
from fstore import FeatureService, FeatureView, agg, expr, feature, on_demand
from .shop import orders, user

class Orders(FeatureView):
    entity, source, schedule, start = user, orders, "@daily", "2026-01-01"
    n = agg.count().over("7d", "30d")
    spent = agg.sum("amount").over("7d")

class Template(FeatureView):
    abstract = True
    m = agg.count().over("7d")

sender = Orders.as_("sender", user_id="from_id")
"""


def loaded(write: Write, body: str) -> Project:
    return load_project(write({"views.py": VIEWS + body}), "shop")


def problems(write: Write, body: str) -> list[str]:
    lines = len(VIEWS.splitlines())
    return [
        str(problem).replace(f"(feature_defs/views.py:{problem.line})", f"(+{problem.line - lines})")
        for problem in loaded(write, body).problems
    ]


def test_references_become_names(write: Write) -> None:
    project = loaded(
        write,
        """
class Share(FeatureView):
    entity, schedule = user, "@daily"
    share = expr("a / b", a=Orders.n["7d"], b=sender.spent)

far = on_demand("far", "lat - n", request={"lat": "float64"}, n=sender.n["30d"])
service = FeatureService("s", features=[sender, sender.n["7d"], Orders.spent, far, Share])
""",
    )
    assert [str(problem) for problem in project.problems] == []
    under = {"alias": "sender", "join_keys": {"user_id": "from_id"}}
    share = project.views["share"]
    assert (share.source, share.inputs, share.start) == (None, (), None)
    assert share.members["share"].features == {  # type: ignore[union-attr]
        "a": FeatureName(view="orders", attribute="n", window="7d"),
        "b": FeatureName(view="orders", attribute="spent", window="7d", **under),  # type: ignore[arg-type]
    }
    assert project.on_demand["far"].features == {
        "n": FeatureName(view="orders", attribute="n", window="30d", **under)  # type: ignore[arg-type]
    }
    assert project.services["s"].features == (
        FeatureName(view="orders", **under),  # type: ignore[arg-type]
        FeatureName(view="orders", attribute="n", window="7d", **under),  # type: ignore[arg-type]
        FeatureName(view="orders", attribute="spent", window="7d"),
        FeatureName(view="", attribute="far"),
        FeatureName(view="share"),
    )


def test_what_expressions_may_not_bind(write: Write) -> None:
    assert problems(
        write,
        """
class Wrong(FeatureView):
    entity, schedule, start = user, "@daily", "2026-01-01"
    a = expr("x", x=Orders)
    b = expr("x", x="orders:n_7d")
    c = expr("x", x=Orders.n)
    d = expr("x", x=Template.m)
    e = expr("x", x=Orders.as_("9", id="to").spent)
    f = expr("x", x=Orders.history)
    g = expr("x", x=7)
    h = feature("int64")
""",
    ) == [
        "feature 'wrong:a' (+4) binds 'x' to Orders, which is a whole view. Name one of its features.",
        "feature 'wrong:b' (+5) binds 'x' to the text 'orders:n_7d'; features are objects, never strings. Import the view and "
        'write, say, Orders.amount["7d"].',
        "feature 'wrong:c' (+6) binds 'x' to Orders.n, which has the windows '7d', '30d'. Name one: Orders.n[\"7d\"].",
        "feature 'wrong:d' (+7) binds 'x' to Template.m, a feature of a template (abstract = True). Name a view that inherits "
        "from it.",
        "feature 'wrong:e' (+8) binds 'x' to Orders.as_('9', id='to'), and view 'orders' has no join key 'id', only 'user_id'.",
        "feature 'wrong:e' (+8) has a wrong alias in Orders.as_('9', id='to'): '9' is not a column name. Use ASCII letters, digits "
        "and underscores, starting with a letter.",
        "feature 'wrong:f' (+9) binds 'x' to Orders.history, which is for inputs of views. Name one of the view's features.",
        "feature 'wrong:g' (+10) binds 'x' to int 7, which is no feature of a view.",
        "feature 'wrong:h' (+11) is a feature(…) in a view without sql or compute, so nothing computes it. Write expr(…) over "
        "features of other views, or give the view sql or compute with inputs.",
    ]


def test_what_an_on_demand_feature_may_not_be(write: Write) -> None:
    found = problems(
        write,
        """
def function(lat, n):
    return lat

def other(lat: list):
    return lat

one = on_demand("one", function, request={"lat": "float64"}, n=Orders.spent)
two = on_demand("two", other, request={"lat": "float64"}, type="float64")
three = on_demand("Three", "1")
four = on_demand("four", "lat", request={"lat": "float64", "LAT": "int64"})
five = on_demand("five", lambda lat: lat, request={"lat": "float64"}, type="float64")
six = on_demand("six", 7, request={"lat": "float64"}, lat=Orders.spent)
seven = on_demand("seven", "lat", request={"lat": "float64"})
again = on_demand("seven", "lat + 1", request={"lat": "float64"})
service = FeatureService("s", features=[one])
class OnDemand(FeatureView):
    entity, source, schedule, start = user, orders, "@daily", "2026-01-01"
    n = agg.count().over("7d")
""",
    )
    assert found == [
        "on-demand feature 'two' (+5) computes with function 'other', whose parameter 'lat' is annotated list. Annotate it with "
        "pa.Array, pd.Series or pl.Series, imported in the same module (under TYPE_CHECKING will do).",
        "on-demand feature 'one' (+8) is computed by a Python function and has no type. Say what it returns: type=\"float64\".",
        "on-demand feature 'Three' (+10) has a wrong name: 'Three' is not a name. Use lower-case letters, digits and "
        "underscores, starting with a letter.",
        'on-demand feature \'Three\' (+10) is computed from nothing. Give it request={"lat": "float64"}, or features such as '
        "lat=UserHome.lat.",
        "on-demand feature 'four' (+11) has two request values called 'LAT' (case does not count). Rename one.",
        "on-demand feature 'five' (+12) computes with a lambda, which cannot be imported where the view runs. Write a function "
        "at the top of the module and pass that to on_demand(…).",
        "on-demand feature 'six' (+13) has a wrong expression: expected a text such as \"lat - home_lat\", or a function, got "
        "int 7.",
        "on-demand feature 'six' (+13) has two inputs called 'lat' (case does not count). Rename one.",
        "on-demand feature 'seven' (+15) is declared at feature_defs/views.py:28 as well. Rename one of them.",
        "feature service 's' (+16) is blocked by feature_defs/views.py:22: on-demand feature 'one' has a problem. Solve that one "
        "first.",
        "feature view 'on_demand' (+17) has the name 'on_demand', which stands for features computed on demand. Choose another.",
    ]
