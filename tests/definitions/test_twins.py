"""Twins: the same declarations as YAML, as SQL and as Python, and what goes wrong between them."""

from __future__ import annotations

import inspect
import string
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import indent
from types import ModuleType

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fstore import Entity, FeatureView, ParquetSource, agg, check, expr, feature
from fstore.definitions.aggregation import FUNCTIONS, MAPPABLE, Aggregation
from fstore.definitions.assemble import assemble_project
from fstore.definitions.checks import Check
from fstore.definitions.expression import Expression, Field
from fstore.definitions.feature_view import View
from fstore.definitions.loader import load_project
from fstore.definitions.location import Location
from fstore.definitions.project import Project
from fstore.definitions.twin_writer import entity_as_yaml, source_as_yaml, view_as_sql, view_as_yaml
from fstore.definitions.twins import load_twins
from fstore.plan.compiler import compile_plan
from fstore.plan.graph import with_upstream
from fstore.runtime.plan_cache import load_plan
from fstore.settings import load_settings

from .conftest import Write

REPOSITORY = Path(__file__).parents[2]
NOWHERE = Location("", 0)


def load(directory: Path) -> Project:
    project = load_project(directory, "shop")
    assert [str(problem) for problem in project.problems] == []
    return project


def bare(value):
    """A declaration without the places where it was written."""
    if isinstance(value, View):
        members = {name: bare(member) for name, member in value.members.items()}
        return msgspec.structs.replace(value, module="", location=NOWHERE, members=members,
                                       checks=tuple(map(bare, value.checks)))  # fmt: skip
    return msgspec.structs.replace(value, location=NOWHERE)


PYTHON = '''
from fstore import FeatureService, FeatureView, agg, check, expr, feature
from .shop import orders, user, users


class UserOrders(FeatureView):
    """What a user orders."""

    entity = user
    source = orders
    schedule = "@daily"
    timezone = "Europe/Berlin"
    start = "2026-01-01"
    end = "2027-01-01"
    ttl = "3d"
    owner = "growth"
    tags = {"domain": "shop", "tier": "1"}
    online = False
    pipeline = "orders"

    n = agg.count().over("7d", "30d")
    amount = agg.avg("amount", where="amount > 0", description="Per order.").over("7d", offset="7d").fill(0.0)
    last_category = agg.last("category", order_by="order_id", pii=True).over("lifetime")
    by_category = agg.sum("amount", by="category", max_categories=5, name="spent").over("7d")
    sizes = agg.histogram("amount", [0, 10.5]).over("7d")
    trend = expr("n_7d / nullif(n_30d, 0)", description="Up or down.")

    checks = [
        check.not_null("n_7d"),
        check.in_range("n_30d", 0, None, severity="quarantine"),
        check.one_of("last_category_lifetime", ["no", "1", 1, True]),
        check.unique("n_7d", "n_30d", severity="warn"),
        check.row_count(1, 1_000),
    ]


class UserProfile(FeatureView):
    entity, schedule, start = user, "@daily", "2026-01-01"
    inputs = {"u": users, "o": orders.window("30d"), "n": UserOrders, "h": UserOrders.history}
    sql = "SELECT u.user_id, u.country FROM u"
    country = feature("string")


churn = FeatureService("churn", features=[UserOrders.n["7d"], UserOrders.trend, UserProfile], owner="growth")
'''

YAML = """
kind: FeatureView
name: user_orders
description: What a user orders.
entity: user
source: orders
schedule: "@daily"
timezone: Europe/Berlin
start: 2026-01-01            # no quotes needed: nothing here is a date to YAML
end: 2027-01-01
ttl: 3d
owner: growth
tags: {domain: shop, tier: 1}
online: false
pipeline: orders
features:
  n: {agg: count, over: [7d, 30d]}
  amount: {agg: avg, of: amount, where: amount > 0, over: 7d, offset: 7d, fill: 0.0, description: Per order.}
  last_category: {agg: last, of: category, order_by: order_id, pii: true, over: lifetime}
  by_category: {agg: sum, of: amount, by: category, max_categories: 5, name: spent, over: 7d}
  sizes: {agg: histogram, of: amount, edges: [0, 10.5], over: 7d}
  trend:
    expr: n_7d / nullif(n_30d, 0)
    description: Up or down.
checks:
  - not_null: n_7d
  - in_range: {column: n_30d, min: 0, severity: quarantine}
  - one_of: {column: last_category_lifetime, values: [no, "1", 1, true]}
  - unique: {columns: [n_7d, n_30d], severity: warn}
  - row_count: {min: 1, max: 1000}
---
kind: FeatureService
name: churn
features: ["user_orders:n_7d", "user_orders:trend", user_profile]
owner: growth
"""

SQL = """
/*
entity: user
schedule: "@daily"
start: 2026-01-01
inputs:
  u: users
  o: {source: orders, window: 30d}
  n: user_orders
  h: {view: user_orders, history: true}
features: {country: string}
*/
SELECT u.user_id, u.country FROM u
"""


def test_a_view_a_sql_view_and_a_service_are_the_same_in_every_language(write: Write, tmp_path: Path) -> None:
    python = load(write({"views.py": PYTHON}))
    (tmp_path / "feature_defs" / "views.py").unlink()
    directory = write({"deep/orders.yaml": YAML, "user_profile.sql": SQL})
    twins = load(directory)
    assert {name: bare(view) for name, view in twins.views.items()} == {
        name: bare(view) for name, view in python.views.items()
    }
    assert bare(twins.services["churn"]) == bare(python.services["churn"])
    assert twins.views["user_orders"].module == "feature_defs/deep/orders.yaml"
    assert twins.views["user_orders"].members["trend"].location == Location("feature_defs/deep/orders.yaml", 22)
    assert twins.views["user_profile"].location == Location("feature_defs/user_profile.sql", 3)


def test_a_header_of_comment_lines_ends_where_they_end(write: Write) -> None:
    directory = write({"country.sql": "\n".join([
        "-- name: user_country", "-- entity: user", "-- inputs: {u: users}", '-- schedule: "@daily"',
        "-- start: 2026-01-01", "-- features:", "--   country: string", "", "-- A comment of the SQL.",
        "SELECT user_id, country FROM u -- where: from",
    ])})  # fmt: skip
    view = load(directory).views["user_country"]
    assert view.sql == "-- A comment of the SQL.\nSELECT user_id, country FROM u -- where: from"
    assert view.members["country"].location == Location("feature_defs/country.sql", 7)


def test_sources_and_entities_in_yaml(write: Write) -> None:
    python = load(write({"more.py": """
        from fstore import CsvSource, Entity, PostgresSource, SqlSource, UnionSource
        from .shop import orders
        shop = Entity("shop", join_keys={"shop_id": "int64", "day": "date"}, description="Where.")
        web = CsvSource("web", path="web/*.csv", event_time="at", lag="1h", timezone="Europe/Berlin", delimiter=";",
                        null="NA", keys={"user_id": "customer_id"}, schema={"at": "timestamp", "customer_id": "string"})
        stores = PostgresSource("stores", connection="shop", table="stores", keys=["shop_id"], updated_at="seen", cursor="seen",
                                overlap="5m", unique_key=["shop_id"], deleted="gone")
        large = SqlSource("large", inputs={"o": orders, "w": web.window("2d")}, sql="SELECT * FROM o", event_time="ordered_at")
        both = UnionSource([orders, large], name="both", columns=["user_id", "ordered_at"])
    """}))  # fmt: skip
    (write({}) / "more.py").unlink()
    twins = load(
        write(
            {
                "more.yml": """
kind: UnionSource              # what it is made of may come later
name: both
sources: [orders, large]
columns: [user_id, ordered_at]
---
kind: SqlSource
name: large
inputs: {o: orders, w: {source: web, window: 2d}}
event_time: ordered_at
sql: SELECT * FROM o
---
kind: Entity
name: shop
description: Where.
join_keys: {shop_id: int64, day: date}
---
kind: CsvSource
name: web
path: web/*.csv
event_time: at
lag: 1h
timezone: Europe/Berlin
delimiter: ;
null: NA
keys: {user_id: customer_id}
schema: {at: timestamp, customer_id: string}
---
kind: PostgresSource
name: stores
connection: shop
table: stores
keys: [shop_id]
updated_at: seen
cursor: seen
overlap: 5m
unique_key: [shop_id]
deleted: gone
"""
            }
        )
    )
    assert bare(twins.entities["shop"]) == bare(python.entities["shop"])
    for name in ("web", "stores"):
        assert bare(twins.sources[name]) == bare(python.sources[name])
    fingerprints = [source_fingerprints(project) for project in (python, twins)]
    assert fingerprints[0] == fingerprints[1]
    assert set(fingerprints[0]) >= {"large", "both"}


def source_fingerprints(project: Project) -> dict[str, object]:
    from fstore.plan.fingerprint import source_identity

    return {name: source_identity(source) for name, source in project.sources.items()}


def test_a_changed_twin_makes_the_cached_plan_old(write: Write) -> None:
    directory = write({"orders.yaml": YAML.partition("---")[0]})
    root = directory.parent
    (root / "pyproject.toml").write_text('[tool.fstore]\nproject = "shop"\n')
    read = load_settings(root, environ={})
    assert load_plan(read).plan.steps[0].owner == "growth"
    write({"orders.yaml": YAML.partition("---")[0].replace("owner: growth", "owner: core")})
    assert load_plan(read).plan.steps[0].owner == "core"


def test_twins_alone_are_a_project(tmp_path: Path) -> None:
    directory = tmp_path.resolve() / "feature_defs"
    directory.mkdir()
    (directory / "shop.yaml").write_text(
        "kind: Entity\nname: user\njoin_keys: {user_id: string}\n---\n"
        "kind: ParquetSource\nname: orders\npath: data/orders/\nevent_time: ordered_at\n---\n"
        'kind: FeatureView\nname: n\nentity: user\nsource: orders\nschedule: "@daily"\nstart: 2026-01-01\n'
        "features: {n: {agg: count, over: 7d}}\n"
    )
    assert list(load(directory).views) == ["n"]


# -- every aggregate, generated ---------------------------------------------------------------------------------------

COLUMNS = st.sampled_from(["amount", "quantity * 2", "coalesce(amount, 0)", "amount - 'no'", 'weight AS "a: b"'])
TEXTS = st.text(string.ascii_letters + string.digits + " :#'{}[]\"-\\%@äß\n", max_size=20)
DURATIONS = st.sampled_from(["15m", "1h", "7d", "30d", "1y", "lifetime"])
NUMBERS = st.one_of(st.integers(-5, 5), st.floats(-1e6, 1e6, allow_nan=False), st.sampled_from([1e-12, 1e22, 0.1]))


@st.composite
def aggregations(draw: st.DrawFn) -> Aggregation:
    function = draw(st.sampled_from(FUNCTIONS))
    fields: dict[str, object] = {"function": function}
    if function != "count" or draw(st.booleans()):
        fields["argument"] = draw(COLUMNS)
    fields["windows"] = tuple(draw(st.lists(DURATIONS, min_size=1, max_size=3, unique=True)))
    if draw(st.booleans()):
        fields["offset"] = draw(st.sampled_from(["1h", "7d"]))
    if draw(st.booleans()):
        fields["where"] = draw(st.sampled_from(["amount > 0", "category = 'no'", "true", "1"]))
    if function in ("first", "last", "first_k", "last_k") and draw(st.booleans()):
        fields["order_by"] = draw(st.sampled_from(["order_id", "2"]))
    by = function in MAPPABLE and draw(st.booleans())
    if by:
        fields["by"] = draw(st.sampled_from(["category", "lower(category)"]))
    if function in ("first_k", "last_k", "top_k") or ((by or function == "distinct") and draw(st.booleans())):
        fields["limit"] = draw(st.integers(1, 1000))
    if function == "histogram":
        fields["edges"] = tuple(sorted(draw(st.sets(NUMBERS, min_size=1, max_size=5))))
    if function == "approx_percentile":
        fields["percentile"] = draw(st.sampled_from([0, 1, 0.5, 0.999]))
    if function == "decayed_sum":
        fields["half_life"] = draw(st.sampled_from(["1h", "7d"]))
    if function in ("sum", "avg", "stddev", "variance", "skew", "approx_percentile", "decayed_sum") and not by:
        fields["fill_value"] = draw(st.none() | NUMBERS)
    if function in ("first", "last", "min", "max") and not by:
        fields["fill_value"] = draw(st.none() | NUMBERS | TEXTS | st.booleans())
    return Aggregation(**fields, description=draw(TEXTS).strip(), pii=draw(st.booleans()))


FIELDS = st.builds(Field, type=st.sampled_from(["int64", "string", "list<string>", "decimal(10,2)", "map<string,int64>"]),
                   description=TEXTS.map(str.strip), pii=st.booleans())  # fmt: skip


@st.composite
def generated_views(draw: st.DrawFn, name: str) -> View:
    shared = {
        "name": name, "entity": "user", "module": "", "location": NOWHERE, "start": "2026-01-01",
        "schedule": draw(st.sampled_from(["@daily", "0 */6 * * *"])),
        "owner": draw(TEXTS), "tags": draw(st.dictionaries(TEXTS, TEXTS, max_size=2)),
        "description": inspect.cleandoc(draw(TEXTS).strip()), "ttl": draw(st.sampled_from([None, "90d"])), "online": draw(st.booleans()),
    }  # fmt: skip
    if draw(st.integers(0, 3)):
        members = {
            f"f{number}": member for number, member in enumerate(draw(st.lists(aggregations(), min_size=1, max_size=4)))
        }
        shared["source"] = "orders"
        if draw(st.booleans()):
            members["extra"] = Expression(sql=draw(st.sampled_from(["1 + 1", "coalesce(1, 2)"])))
        return View(**shared, members=members)
    members = {f"f{number}": field for number, field in enumerate(draw(st.lists(FIELDS, min_size=1, max_size=3)))}
    checks = tuple(draw(st.lists(st.sampled_from([
        Check(kind="not_null", columns=("f0",)), Check(kind="one_of", columns=("f0",), values=("no", 1, 0.5, True, "1")),
        Check(kind="in_range", columns=("f0",), minimum=0.5, maximum=None, severity="warn"), Check(kind="row_count", maximum=5),
        Check(kind="unique", columns=("f0",), severity="quarantine"),
    ]), max_size=3)))  # fmt: skip
    from fstore.definitions.feature_view import Input

    inputs = (Input(alias="u", kind="source", name="users"), Input(alias="o", kind="source", name="orders", window="all"))
    sql = "SELECT user_id, " + ", ".join(f"'a: #b' AS {name}" for name in members) + "\nFROM u -- the end"
    return View(**shared, members=members, checks=checks, inputs=inputs, sql=sql)


def as_python(view: View) -> str:
    lines = [f"class V(FeatureView):\n    {view.description!r}", f"name, entity, start = {view.name!r}, user, '2026-01-01'"]
    lines += [f"{key} = {getattr(view, key)!r}" for key in ("schedule", "owner", "tags", "ttl", "online")]
    if view.source:
        lines.append(f"source = {view.source}")
    if view.sql:
        lines += ['inputs = {"u": users, "o": orders.window("all")}', f"sql = {view.sql!r}"]
    for name, member in view.members.items():
        lines.append(f"{name} = {member_as_python(member)}")
    if view.checks:
        lines.append(f"checks = [{', '.join(map(check_as_python, view.checks))}]")
    return "\n    ".join(line if number == 0 else indent(line, "    ").strip() for number, line in enumerate(lines)) + "\n"


def member_as_python(member: Aggregation | Expression | Field) -> str:
    if isinstance(member, Expression):
        return f"expr({member.sql!r})"
    common = f"description={member.description!r}, pii={member.pii!r}"
    if isinstance(member, Field):
        return f"feature({member.type!r}, {common})"
    by_position = [member.argument] if member.argument is not None else []
    named = {"where": member.where, "by": member.by, "order_by": member.order_by, "percentile": member.percentile,
             "half_life": member.half_life, "edges": list(member.edges) or None}  # fmt: skip
    limit = {"first_k": "k", "last_k": "k", "top_k": "k", "distinct": "max_values"}.get(member.function, "max_categories")
    named[limit] = member.limit
    arguments = [*map(repr, by_position), *(f"{key}={value!r}" for key, value in named.items() if value is not None), common]
    fill = "" if member.fill_value is None else f".fill({member.fill_value!r})"
    windows = ", ".join(map(repr, member.windows))
    return f"agg.{member.function}({', '.join(arguments)}).over({windows}, offset={member.offset!r}){fill}"


def check_as_python(item: Check) -> str:
    severity = f"severity={item.severity!r}"
    arguments = {
        "in_range": [*item.columns, item.minimum, item.maximum],
        "row_count": [item.minimum, item.maximum],
        "one_of": [*item.columns, list(item.values)],
    }.get(item.kind, list(item.columns))
    return f"check.{item.kind}({', '.join([*map(repr, arguments), severity])})"


USER = Entity("user", join_keys={"user_id": "string"})
ORDERS = ParquetSource("orders", path="data/orders/", event_time="ordered_at")
USERS = ParquetSource("users", path="data/users/", keys=["user_id"], updated_at="updated_at")
NAMES = {"FeatureView": FeatureView, "agg": agg, "check": check, "expr": expr, "feature": feature, "user": USER, "orders": ORDERS,
         "users": USERS}  # fmt: skip


def from_python(views: list[View]) -> Project:
    classes = []
    for view in views:
        scope = dict(NAMES)
        exec(as_python(view), scope)
        classes.append(scope["V"])
    return assemble_project("shop", "feature_defs", {}, classes, ())


def from_twins(folder: Path, files: dict[str, str]) -> Project:
    shop = ModuleType("shop")
    vars(shop).update(NAMES)
    for name, text in files.items():
        (folder / name).write_text(text)
    twins = load_twins({name: folder / name for name in files}, list(NAMES.values()), [])
    return assemble_project("shop", "feature_defs", {"shop.py": shop}, [], (), twins=twins)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(view=generated_views("the_view"))
def test_every_view_is_the_same_in_every_language(view: View) -> None:
    with TemporaryDirectory() as folder:
        projects = [from_python([view]), from_twins(Path(folder), {"views.yaml": view_as_yaml(view)})]
        if view.sql is not None:
            projects.append(from_twins(Path(folder), {f"{view.name}.sql": view_as_sql(view)}))
    for project in projects:
        assert [str(problem) for problem in project.problems] == []
        assert {name: bare(found) for name, found in project.views.items()} == {view.name: bare(view)}
    assert len({tuple(fingerprints(project).items()) for project in projects}) == 1


def fingerprints(project: Project) -> dict[str, str]:
    return {step.view: step.fingerprint for step in compile_plan(project, {}).steps}


def test_the_flights_are_the_same_in_every_language(tmp_path: Path) -> None:
    project = load_project(REPOSITORY / "feature_defs", "flights")
    assert [str(problem) for problem in project.problems] == []
    written = {name: view for name, view in project.views.items() if view.function is None}
    readable = {name: view for name, view in written.items() if with_upstream(project.views, [name]) <= set(written)}
    assert len(readable) >= 10
    shared = [*map(entity_as_yaml, project.entities.values()), *map(source_as_yaml, project.sources.values())]
    for form, directory in (("yaml", tmp_path / "a" / "feature_defs"), ("sql", tmp_path / "b" / "feature_defs")):
        directory.mkdir(parents=True)
        (directory / "shared.yaml").write_text("---\n".join(shared))
        for name, view in readable.items():
            sql = form == "sql" and view.sql is not None
            (directory / f"{name}.{'sql' if sql else 'yaml'}").write_text(
                view_as_sql(view) if sql else view_as_yaml(view, project.views)
            )
        twins = load_project(directory, "flights")
        assert [str(problem) for problem in twins.problems] == []
        expected = {name: print_ for name, print_ in fingerprints(project).items() if name in readable}
        assert fingerprints(twins) == expected


def test_a_python_view_has_no_twin() -> None:
    project = load_project(REPOSITORY / "feature_defs", "flights")
    with pytest.raises(ValueError, match="view 'aircraft_wear' is computed in Python, which has no twin"):
        view_as_yaml(project.views["aircraft_wear"])
