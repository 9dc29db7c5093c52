"""What a class body becomes when nothing is wrong with it."""

from __future__ import annotations

import pytest

from fstore import CsvSource, Entity, FeatureService, FeatureView, ParquetSource, agg, check, expr, feature
from fstore.definitions.collect import collect_view
from fstore.definitions.feature_view import Input, View, feature_names, snake_case
from fstore.definitions.project import FeatureName
from fstore.definitions.services import collect_service
from fstore.definitions.source_rules import source_problems

user = Entity("user", join_keys={"user_id": "string"}, description="A shopper.")
purchases = ParquetSource("purchases", path="data/purchases/", event_time="purchased_at", lag="2h")
users = ParquetSource("users", path="data/users/", keys=["user_id"], updated_at="updated_at")


class Purchases(FeatureView):
    """What a user buys.

    In two paragraphs.
    """

    entity = user
    source = purchases
    schedule = "@daily"
    start = "2026-01-01"
    end = "2026-02-01T00:00+01:00"
    ttl = "3d"
    timezone = "Europe/Berlin"
    owner = "growth-ml"
    tags = {"domain": "shop"}  # noqa: RUF012
    online = False
    pipeline = "shop"
    _factor = 3

    count = agg.count().over("7d", "30d")
    amount = agg.avg("amount", name="spent", pii=True).over(f"{_factor}d").fill(0.0)
    started = agg.min("started_at", name="start").over("1y")
    trend = expr("count_7d / nullif(count_30d, 0)", description="A trend.")
    checks = [check.not_null("count_7d"), check.in_range("spent_3d", None, 10, severity="warn")]  # noqa: RUF012


class Profile(FeatureView):
    entity = user
    inputs = {"u": users, "p": purchases.window("all"), "v": Purchases, "h": Purchases.history}  # noqa: RUF012
    schedule = "0 6 * * 1"
    sql = "SELECT user_id, age, event_timestamp FROM u"
    age = feature("int64")
    event_timestamp = feature("timestamp")


def collected(view: type[FeatureView]) -> View:
    value, problems = collect_view(view)
    assert [str(problem) for problem in problems] == []
    assert value is not None
    return value


def test_a_view_of_aggregates() -> None:
    view = collected(Purchases)
    assert view.name == "purchases"
    assert (view.entity, view.source, view.inputs, view.sql, view.function) == ("user", "purchases", (), None, None)
    assert view.description == "What a user buys.\n\nIn two paragraphs."
    assert (view.schedule, view.timezone, view.start, view.end, view.ttl) == (
        "@daily",
        "Europe/Berlin",
        "2026-01-01",
        "2026-02-01T00:00+01:00",
        "3d",
    )
    assert (view.owner, view.tags, view.online, view.pipeline) == ("growth-ml", {"domain": "shop"}, False, "shop")
    assert {key: feature_names(key, member) for key, member in view.members.items()} == {
        "count": {"7d": "count_7d", "30d": "count_30d"},
        "amount": {"3d": "spent_3d"},
        "started": {"1y": "start_1y"},
        "trend": {None: "trend"},
    }
    assert [item.label for item in view.checks] == ["not_null(count_7d)", "in_range(spent_3d, None, 10)"]
    assert view.location.file == view.module == __file__


def test_a_view_over_inputs_inherits_its_start() -> None:
    view = collected(Profile)
    assert view.start is None
    assert view.description == ""
    assert view.inputs == (
        Input(alias="u", kind="source", name="users"),
        Input(alias="p", kind="source", name="purchases", window="all"),
        Input(alias="v", kind="view", name="purchases"),
        Input(alias="h", kind="view", name="purchases", history=True),
    )
    assert list(view.members) == ["age", "event_timestamp"]


def test_templates_are_inherited_and_overridden() -> None:
    class Template(FeatureView):
        abstract = True
        entity, source, schedule, start, owner = user, purchases, "@daily", "2026-01-01", "a"
        first = agg.count().over("1d")

    class Deeper(Template):
        abstract = True
        owner = "b"
        second = agg.count().over("2d")

    class Concrete(Deeper):
        third = agg.count().over("3d")
        first = agg.sum("x").over("1d")

    view = collected(Concrete)
    assert (view.name, view.owner, list(view.members)) == ("concrete", "b", ["first", "second", "third"])
    assert view.members["first"] == Concrete.__body__.attributes["first"]


def test_a_loop_makes_views() -> None:
    views = []
    for city in ("berlin", "paris"):

        class City(FeatureView):
            name = f"{city}_purchases"
            entity, source, schedule, start = user, purchases, "@daily", "2026-01-01"
            n = agg.count().over("1d")

        views.append(collected(City).name)
    assert views == ["berlin_purchases", "paris_purchases"]


def test_references_to_features() -> None:
    assert repr(Purchases.trend) == "Purchases.trend"
    assert repr(Purchases.count["7d"]) == "Purchases.count['7d']"
    with pytest.raises(AttributeError) as caught:
        Purchases.tredn  # noqa: B018
    assert str(caught.value) == (
        "view 'purchases' has no feature 'tredn', only 'count', 'amount', 'started', 'trend'. Did you mean 'trend'?"
    )


def test_a_service() -> None:
    service = FeatureService(
        "churn", features=[Purchases.count["7d"], Purchases.amount, Purchases.count, Profile], owner="growth"
    )
    value, problems = collect_service(service)
    assert problems == []
    assert value is not None
    assert (value.name, value.owner) == ("churn", "growth")
    assert value.features == (
        FeatureName(view="purchases", attribute="count", window="7d"),
        FeatureName(view="purchases", attribute="amount", window="3d"),
        FeatureName(view="purchases", attribute="count"),
        FeatureName(view="profile"),
    )


def test_sources_that_are_fine() -> None:
    sources = [
        purchases,
        users,
        CsvSource("planes", path="planes.csv", keys=["tail"], static=True, delimiter=";", timezone="America/New_York",
                  schema={"tail": "string", "year": "int64"}),
    ]  # fmt: skip
    assert [source_problems(source) for source in sources] == [[], [], []]
    assert [source.is_dimension for source in sources] == [False, True, True]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("UserPurchases", "user_purchases"),
        ("HTTPErrors", "http_errors"),
        ("Top10Items", "top10_items"),
        ("user_orders", "user_orders"),
        ("A", "a"),
    ],
)
def test_class_names_in_snake_case(name: str, expected: str) -> None:
    assert snake_case(name) == expected
