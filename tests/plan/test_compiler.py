"""What a project becomes: steps, in order, with everything that running them needs."""

import time
from datetime import UTC, datetime, timedelta

import duckdb
import msgspec
import pytest

from fstore import CsvSource, Entity, ParquetSource, agg, check, expr, feature
from fstore.errors import DefinitionError
from fstore.interval import Schedule
from fstore.plan.compiler import compile_plan, module_pipeline
from fstore.plan.steps import (
    AggregateStep,
    DimensionInput,
    EventInput,
    HistoryInput,
    PythonStep,
    SnapshotInput,
    SqlStep,
    decode_step,
    encode_step,
)
from fstore.plan.tile_queries import over_events
from fstore.types import Column
from tests.plan.projects import (
    PURCHASES,
    USERS,
    aggregates,
    at,
    of_source,
    of_view,
    plan,
    project,
    python,
    service,
    sql,
    step,
)

MEMBERS = {
    "orders": agg.count().over("7d", "30d"),
    "gifts": agg.count("gift").over("7d"),
    "spent": agg.sum("amount").over("7d").fill(0),
    "pieces": agg.sum("quantity").over("7d"),
    "heft": agg.sum("weight").over("7d").fill(0),
    "price": agg.avg("amount").over("7d"),
    "first": agg.min("purchased_at").over("7d"),
    "label": agg.last("upper(category)").over("7d").fill("none"),
    "biggest": agg.max("amount * quantity").over("7d"),
    "share": expr("orders_7d / orders_30d"),
    "rank": expr("share_up + 1"),
    "share_up": expr("share * 100"),
    "active": expr("orders_7d > 0"),
}
UTC_DAY = datetime(2026, 1, 1, tzinfo=UTC)


def purchases(**settings):
    return aggregates(members=MEMBERS, **settings)


def test_an_aggregate_view_becomes_one_step():
    compiled = step(purchases(ttl="3d", owner="growth", description="Buying.", tags={"domain": "shop"}))
    assert isinstance(compiled, AggregateStep)
    assert {item.name: item.type for item in compiled.features} == {
        "orders_7d": "int64",
        "orders_30d": "int64",
        "gifts_7d": "int64",
        "spent_7d": "decimal(38,2)",
        "pieces_7d": "int64",
        "heft_7d": "float64",
        "price_7d": "float64",
        "first_7d": "timestamp",
        "label_7d": "string",
        "biggest_7d": "decimal(18,2)",
        "share": "float64",
        "rank": "float64",
        "share_up": "float64",
        "active": "bool",
    }
    shown = (
        compiled.project,
        compiled.view,
        compiled.entity,
        compiled.kind,
        compiled.pipeline,
        compiled.module,
        compiled.line,
    )
    assert shown == ("shop", "user_purchases", "user", "snapshot", "shop", "feature_defs/shop.py", 10)
    assert compiled.keys == (Column(name="user_id", type="string"),)
    assert (compiled.schedule, compiled.start, compiled.end) == (Schedule("0 0 * * *"), UTC_DAY, None)
    assert (compiled.lag, compiled.ttl, compiled.online) == (timedelta(hours=2), timedelta(days=3), True)
    assert (compiled.owner, compiled.description, compiled.tags) == ("growth", "Buying.", {"domain": "shop"})
    assert compiled.inputs == (
        EventInput(
            alias="events", source=PURCHASES, window=timedelta(days=30),
            columns=("user_id", "purchased_at", "gift", "amount", "quantity", "weight", "category"),
        ),
    )  # fmt: skip


def test_a_step_survives_json():
    steps = plan(purchases(checks=(check.not_null("orders_7d"),)), *DERIVED).steps
    assert [decode_step(encode_step(item)) for item in steps] == list(steps)


def test_the_empty_row_is_what_the_features_are_without_events():
    compiled = step(purchases())
    with duckdb.connect() as connection:
        found = connection.sql(compiled.empty_sql)
        row = dict(zip(found.columns, found.fetchall()[0], strict=True))
    assert list(row) == [item.name for item in compiled.features]
    assert {name: value for name, value in row.items() if value is not None} == {
        "orders_7d": 0,
        "orders_30d": 0,
        "gifts_7d": 0,
        "spent_7d": 0,
        "heft_7d": 0.0,
        "label_7d": "none",
        "active": False,
    }


def test_queries_give_the_columns_and_types_of_the_step():
    compiled = step(purchases())
    schema = ", ".join(
        f"NULL::{type_} AS {name}"
        for name, type_ in {
            "user_id": "VARCHAR", "purchased_at": "TIMESTAMPTZ", "amount": "DECIMAL(18,2)", "quantity": "INTEGER",
            "weight": "FLOAT", "category": "VARCHAR", "gift": "BOOLEAN",
        }.items()
    )  # fmt: skip
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE events AS SELECT {schema} WHERE false")
        connection.execute("CREATE TABLE intervals AS SELECT now() AS interval_start, now() AS interval_end")
        for query in (compiled.sql, compiled.single_sql):
            found = connection.sql(over_events(compiled.tiles, query))
            assert found.columns == [column.name for column in compiled.columns()]
            assert [str(item) for item in found.types] == [
                "VARCHAR", "TIMESTAMP WITH TIME ZONE", "BIGINT", "BIGINT", "BIGINT", "DECIMAL(38,2)", "BIGINT", "DOUBLE", "DOUBLE",
                "TIMESTAMP WITH TIME ZONE", "VARCHAR", "DECIMAL(18,2)", "DOUBLE", "DOUBLE", "DOUBLE", "BOOLEAN",
            ]  # fmt: skip


DERIVED = (
    sql(
        "profile",
        "SELECT u.user_id, country, orders_7d AS n FROM u JOIN p USING (user_id);",
        (of_source("u", "users"), of_view("p", "user_purchases")),
        start="2026-02-01",
        members={"country": feature("string", pii=True), "n": feature("int64", description="Orders.")},
    ),
    python(
        "risk",
        (of_view("p", "user_purchases", history=True), of_view("profile", "profile"), of_source("e", "purchases", "30d")),
        start=None,
        schedule="@weekly",
        members={"score": feature("float64")},
    ),
)


def test_sql_and_python_views_read_sources_and_views():
    _, profile, risk = plan(purchases(), *DERIVED).steps
    assert isinstance(profile, SqlStep)
    assert profile.sql == (
        'SELECT "user_id", "country", "n"\nFROM (\n'
        "SELECT u.user_id, country, orders_7d AS n FROM u JOIN p USING (user_id)\n) AS view_rows"
    )
    dimension, snapshot = profile.inputs
    assert dimension == DimensionInput(alias="u", source=USERS)
    assert isinstance(snapshot, SnapshotInput)
    assert (snapshot.alias, snapshot.view, snapshot.start, snapshot.pipeline) == ("p", "user_purchases", UTC_DAY, "shop")
    assert snapshot.features[0] == Column(name="orders_7d", type="int64")
    assert [(item.name, item.type, item.pii, item.description) for item in profile.features] == [
        ("country", "string", True, ""),
        ("n", "int64", False, "Orders."),
    ]
    assert isinstance(risk, PythonStep)
    assert [type(item) for item in risk.inputs] == [HistoryInput, SnapshotInput, EventInput]
    assert risk.inputs[2].window == timedelta(days=30)
    assert risk.start == datetime(2026, 2, 1, tzinfo=UTC)
    assert risk.upstream == ("user_purchases", "profile")


def test_lag_is_the_largest_of_all_inputs():
    slow = msgspec.structs.replace(USERS, lag="5h")
    steps = plan(purchases(), *DERIVED, sources=(PURCHASES, slow)).steps
    assert [(item.view, item.lag) for item in steps] == [
        ("user_purchases", timedelta(hours=2)),
        ("profile", timedelta(hours=5)),
        ("risk", timedelta(hours=5)),
    ]


@pytest.mark.parametrize(
    ("text", "declared", "kind"),
    [
        ("SELECT user_id, purchased_at AS event_timestamp, amount FROM e", {}, "event"),
        (
            "SELECT user_id, purchased_at AS event_timestamp, amount FROM e",
            {"event_timestamp": feature("timestamp")},
            "event",
        ),
        ("SELECT user_id, max(amount) AS amount FROM e GROUP BY 1", {}, "snapshot"),
    ],
)
def test_an_event_timestamp_makes_an_event_view(text, declared, kind):
    compiled = step(
        sql("v", text, (of_source("e", "purchases", "all"),), members={"amount": feature("float64"), **declared})
    )
    assert compiled.kind == kind
    assert [item.name for item in compiled.features] == ["amount"]
    expected = '"user_id", "event_timestamp", "amount"' if kind == "event" else '"user_id", "amount"'
    assert compiled.sql.splitlines()[0] == f"SELECT {expected}"
    assert compiled.inputs[0].window is None


def test_a_python_view_is_an_event_view_when_it_declares_its_times():
    fields = {"event_timestamp": feature("timestamp"), "score": feature("float64")}
    compiled = step(python("v", (of_source("e", "purchases", "1d"),), members=fields))
    assert (compiled.kind, [item.name for item in compiled.features]) == ("event", ["score"])


def test_names_are_found_in_any_letter_case():
    schemas = {"purchases": {"User_ID": "string", "Purchased_At": "timestamp", "Amount": "int64"}}
    compiled = step(aggregates(members={"n": agg.sum("AMOUNT").over("7d"), "m": expr("N_7D / 2")}), schemas=schemas)
    assert compiled.inputs[0].columns == ("User_ID", "Purchased_At", "Amount")
    assert {edge.column for edge in compiled.lineage if edge.feature == "m"} == {"Amount"}


def test_services_name_features_in_order_and_once():
    churn = service(
        "churn",
        {"view": "user_purchases", "attribute": "orders", "window": "30d"},
        {"view": "user_purchases", "attribute": "share"},
        {"view": "user_purchases", "attribute": "orders"},
        {"view": "profile"},
    )
    compiled = plan(purchases(), *DERIVED, services=(churn,))
    assert compiled.services[0].features == (
        "user_purchases:orders_30d",
        "user_purchases:share",
        "user_purchases:orders_7d",
        "profile:country",
        "profile:n",
    )


def test_a_plan_can_be_limited_to_views_and_what_is_upstream():
    services = (service("a", {"view": "user_purchases"}), service("b", {"view": "risk"}, line=95))
    compiled = plan(purchases(), *DERIVED, only=["profile"], services=services)
    assert [item.view for item in compiled.steps] == ["user_purchases", "profile"]
    assert [item.name for item in compiled.services] == ["a"]
    whole = plan(purchases(), *DERIVED)
    assert compiled.steps == whole.steps[:2]


def test_limiting_a_plan_to_an_unknown_view_is_an_error():
    with pytest.raises(DefinitionError) as raised:
        plan(purchases(), only=["user_purchase"])
    assert str(raised.value) == "there is no feature view 'user_purchase' in feature_defs. Did you mean 'user_purchases'?"


def test_composite_keys_keep_their_order():
    entity = Entity("user", join_keys={"category": "string", "quantity": "int64"}, location=at(1))
    compiled = step(aggregates(members={"n": agg.count().over("7d")}), entities=(entity,))
    assert compiled.keys == (Column(name="category", type="string"), Column(name="quantity", type="int64"))
    assert compiled.inputs[0].columns == ("category", "quantity", "purchased_at")


@pytest.mark.parametrize(
    ("module", "pipeline"),
    [
        ("feature_defs/orders.py", "orders"),
        ("feature_defs/shop/orders.py", "shop_orders"),
        ("feature_defs/shop/__init__.py", "shop"),
        ("orders.py", "orders"),
    ],
)
def test_a_pipeline_is_named_after_its_module(module, pipeline):
    assert module_pipeline(module, "feature_defs") == pipeline


def test_the_same_project_always_gives_the_same_plan():
    views = [purchases(), *DERIVED]
    assert msgspec.json.encode(plan(*views)) == msgspec.json.encode(plan(*reversed(views)))


def test_a_thousand_views_compile_in_seconds():
    sources = (
        ParquetSource("e", path="e", event_time="t", location=at(1)),
        CsvSource("c", path="c", keys=["k"], static=True, location=at(2)),
    )
    entity = Entity("user", join_keys={"k": "int64"}, location=at(1))
    views = []
    for place in range(500):
        members = {"n": agg.count().over("1d", "7d"), "s": agg.sum("x").over("7d"), "r": expr(f"s_7d / n_7d + {place}")}
        views.append(aggregates(f"a{place}", source="e", members=members))
        text = f"SELECT k, sum(n_1d) AS total, max(s_7d + {place}) AS top FROM a LEFT JOIN c USING (k) GROUP BY k"
        fields = {"total": feature("int64"), "top": feature("int64")}
        views.append(sql(f"b{place}", text, (of_view("a", f"a{place}"), of_source("c", "c")), members=fields))
    whole = project(*views, sources=sources, entities=(entity,))
    schemas = {"e": {"k": "int64", "t": "timestamp", "x": "int32"}, "c": {"k": "int64"}}
    began = time.process_time()
    compiled = compile_plan(whole, schemas)
    spent = time.process_time() - began
    assert (len(compiled.steps), compiled.problems) == (1000, ())
    assert spent < 20, f"{spent:.1f} s of processor time"
