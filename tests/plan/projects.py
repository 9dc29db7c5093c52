"""Projects written by hand, with a line of ``feature_defs/shop.py`` for every declaration."""

import msgspec

from fstore import CsvSource, Entity, ParquetSource
from fstore.definitions.feature_view import Input, PythonFunction, View
from fstore.definitions.location import Location
from fstore.definitions.project import FeatureName, Project, Service
from fstore.plan.compiler import compile_plan


def at(line, file="feature_defs/shop.py"):
    return Location(file, line)


USER = Entity("user", join_keys={"user_id": "string"}, description="A shopper.", location=at(1))
PURCHASES = ParquetSource("purchases", path="data/purchases/", event_time="purchased_at", lag="2h", location=at(2))
USERS = ParquetSource("users", path="data/users/", keys=["user_id"], updated_at="updated_at", location=at(3))
COUNTRIES = CsvSource("countries", path="data/countries.csv", keys=["country"], static=True, location=at(4))

SCHEMAS = {
    "purchases": {
        "user_id": "string",
        "purchased_at": "timestamp",
        "amount": "decimal(18,2)",
        "quantity": "int32",
        "weight": "float32",
        "category": "string",
        "gift": "bool",
        "payload": "unsupported(STRUCT(a INTEGER))",
    },
    "users": {"user_id": "string", "updated_at": "timestamp", "born_on": "date", "country": "string"},
    "countries": {"country": "string", "vat": "float64"},
}


def placed(declaration, line):
    return msgspec.structs.replace(declaration, location=at(line))


def view(name, *, line=10, members=None, checks=(), **settings):
    """A view at a line; its members are on the lines that follow, then its checks."""
    members = members or {}
    values = {
        "entity": "user",
        "module": "feature_defs/shop.py",
        "schedule": "@daily",
        "start": "2026-01-01",
        **settings,
    }
    return View(
        name=name,
        location=at(line),
        members={key: placed(member, line + 1 + place) for place, (key, member) in enumerate(members.items())},
        checks=tuple(placed(check, line + 1 + len(members) + place) for place, check in enumerate(checks)),
        **values,
    )


def aggregates(name="user_purchases", *, source="purchases", **settings):
    return view(name, source=source, **settings)


def sql(name, text, inputs, **settings):
    return view(name, sql=text, inputs=inputs, **settings)


def python(name, inputs, source="def compute(p):\n    return p", **settings):
    parameters = tuple(item.alias for item in inputs)
    function = PythonFunction(module="feature_defs/shop.py", name="compute", parameters=parameters, source=source)
    return view(name, function=function, inputs=inputs, **settings)


def of_source(alias, name, window=None):
    return Input(alias=alias, kind="source", name=name, window=window)


def of_view(alias, name, *, history=False):
    return Input(alias=alias, kind="view", name=name, history=history)


def service(name, *features, line=90):
    return Service(name=name, features=tuple(FeatureName(**item) for item in features), location=at(line))


def project(*views, entities=(USER,), sources=(PURCHASES, USERS, COUNTRIES), services=(), **settings):
    return Project(
        project="shop",
        directory="feature_defs",
        entities={item.name: item for item in entities},
        sources={item.name: item for item in sources},
        views={item.name: item for item in views},
        services={item.name: item for item in services},
        **settings,
    )


def plan(*views, schemas=None, only=None, **settings):
    return compile_plan(project(*views, **settings), SCHEMAS if schemas is None else schemas, views=only)


def step(*views, **settings):
    """The last step of a plan that has no problems."""
    compiled = plan(*views, **settings)
    assert [str(problem) for problem in compiled.problems] == []
    return compiled.steps[-1]


def problems(*views, **settings):
    """The problems of a plan as they read."""
    return [str(problem) for problem in plan(*views, **settings).problems]
