"""Plans and SQL as golden files in ``tests/golden``, to be reviewed like code.

``FSTORE_UPDATE_GOLDEN=1 pytest tests/plan/test_golden.py`` writes them anew.
"""

import json
import os
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from tempfile import gettempdir

import duckdb
import msgspec
import pytest

from fstore import agg, check, expr, feature
from fstore.definitions.loader import load_project
from fstore.engines.duckdb import DuckDBEngine
from fstore.plan.audits import compile_audit_queries
from fstore.plan.compiler import compile_plan
from fstore.plan.inference import sql_type
from fstore.plan.steps import AggregateStep, DimensionInput, EventInput, PythonStep, SqlStep
from fstore.plan.tile_queries import make_tiles_sql, over_events
from fstore.types import parse_type
from tests.plan.projects import SCHEMAS, aggregates, of_source, of_view, project, python, service, sql

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"

FLIGHT = {
    "recorded_at": "timestamp", "scheduled_at": "timestamp", "carrier": "string", "flight": "int64", "tailnum": "string",
    "origin": "string", "dest": "string", "dep_delay": "float64", "arr_delay": "float64", "air_time": "float64",
    "distance": "int64", "cancelled": "bool",
}  # fmt: skip
FLIGHTS_SCHEMAS = {
    "flights": FLIGHT,
    "departures": {"airport" if name == "origin" else name: type_ for name, type_ in FLIGHT.items()},
    "arrivals": {"airport" if name == "dest" else name: type_ for name, type_ in FLIGHT.items()},
    "movements": {
        "recorded_at": "timestamp", "airport": "string", "carrier": "string", "tailnum": "string", "flight": "int64",
        "distance": "int64", "arr_delay": "float64", "cancelled": "bool",
    },
    "turnarounds": {"tailnum": "string", "recorded_at": "timestamp", "hours": "float64"},
    "weather": {
        "observed_at": "timestamp", "origin": "string", "temp": "float64", "dewp": "float64", "humid": "float64",
        "wind_dir": "float64", "wind_speed": "float64", "wind_gust": "float64", "precip": "float64", "pressure": "float64",
        "visib": "float64",
    },
    "planes": {
        "tailnum": "string", "built": "int32", "type": "string", "manufacturer": "string", "model": "string",
        "engines": "int64", "seats": "int64", "speed": "float64", "engine": "string",
    },
    "airports": {
        "airport": "string", "name": "string", "lat": "float64", "lon": "float64", "alt": "int64", "tz": "int64",
        "dst": "string", "tzone": "string",
    },
    "airlines": {"carrier": "string", "name": "string"},
}  # fmt: skip


def shop():
    """One view of every kind, each with checks."""
    purchases = aggregates(
        members={
            "orders": agg.count().over("7d", "30d"),
            "spent": agg.sum("amount * quantity").over("30d").fill(0),
            "last_category": agg.last("category").over("90d"),
            "trend": expr("orders_7d / orders_30d"),
        },
        checks=(check.not_null("orders_7d"), check.in_range("spent_30d", 0, 10_000, severity="quarantine")),
        ttl="3d",
    )
    visits = sql(
        "visits",
        "SELECT user_id, purchased_at AS event_timestamp, amount FROM e WHERE amount > 0 AND purchased_at >= $start",
        (of_source("e", "purchases", "1d"),),
        line=30,
        timezone="Europe/Berlin",
        members={"amount": feature("decimal(18,2)", pii=True)},
        checks=(check.unique("amount", severity="warn"),),
    )
    profile = sql(
        "profile",
        "SELECT u.user_id, u.country, coalesce(c.vat, 0) AS vat, p.orders_30d > 10 AS regular\n"
        "FROM u LEFT JOIN c USING (country) LEFT JOIN p USING (user_id)",
        (of_source("u", "users"), of_source("c", "countries"), of_view("p", "user_purchases")),
        line=50,
        start=None,
        members={"country": feature("string"), "vat": feature("float64"), "regular": feature("bool")},
        checks=(check.one_of("country", ["de", "fr"]), check.row_count(1, None)),
    )
    risk = python(
        "risk", (of_view("p", "profile"), of_view("h", "user_purchases", history=True)), line=70, schedule="@weekly", start=None,
        members={"score": feature("float64")},
    )  # fmt: skip
    churn = service("churn", {"view": "user_purchases", "attribute": "orders", "window": "7d"}, {"view": "risk"})
    return compile_plan(project(purchases, visits, profile, risk, services=(churn,)), SCHEMAS)


def flights():
    with closing(DuckDBEngine(spill_dir=gettempdir(), root=str(ROOT))) as engine:  # some types are those that the SQL gives
        return compile_plan(load_project(ROOT / "feature_defs", "flights"), FLIGHTS_SCHEMAS, bind=engine.bind)


def queries(step):
    """The SQL of a step, one titled part after the other."""
    audits = compile_audit_queries(step)
    parts = {} if isinstance(step, PythonStep) else {"range" if isinstance(step, AggregateStep) else "interval": step.sql}
    if isinstance(step, AggregateStep):
        parts |= {"single interval": step.single_sql, "empty row": step.empty_sql}
        parts |= {f"making {tiles.relation}": make_tiles_sql(tiles) for tiles in step.tiles}
    parts |= {"audit counts": audits.counts, "audit samples": audits.samples, "quarantine": audits.quarantine}
    return "\n\n".join(f"-- {title}\n{text.strip()};" for title, text in parts.items() if text) + "\n"


def files(plan):
    """Golden files by relative path: the plan without SQL, and the SQL of every step."""
    document = json.loads(msgspec.json.encode(plan))
    for step in document["steps"]:
        for name in ("sql", "single_sql", "empty_sql"):
            step.pop(name, None)
    written = {f"{plan.project}/plan.json": json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n"}
    return written | {f"{plan.project}/{step.view}.sql": queries(step) for step in plan.steps}


@pytest.mark.parametrize("compiled", [shop, flights])
def test_plans_are_as_reviewed(compiled):
    plan = compiled()
    assert plan.problems == ()
    written = files(plan)
    folder = GOLDEN / plan.project
    if os.environ.get("FSTORE_UPDATE_GOLDEN"):
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            path.unlink()
        for name, text in written.items():
            (GOLDEN / name).write_text(text, encoding="utf-8")
    reviewed = {f"{plan.project}/{path.name}": path.read_text(encoding="utf-8") for path in folder.iterdir()}
    assert sorted(reviewed) == sorted(written)
    for name, text in written.items():
        assert text == reviewed[name], f"{name} differs; FSTORE_UPDATE_GOLDEN=1 writes it anew"


def relation(columns):
    casts = (
        f"CAST(NULL AS {sql_type(parse_type(text))}) AS {name}" for name, text in columns.items() if "(STRUCT" not in text
    )
    return f"SELECT {', '.join(casts)} WHERE false"


def relations(step, schemas):
    """Empty relations with the columns that a step's inputs show."""
    found = {}
    for item in step.inputs:
        if isinstance(item, EventInput | DimensionInput):
            found[item.alias] = relation(schemas[item.source.name])
        else:
            columns = {column.name: column.type for column in (*item.keys, *item.features)}
            found[item.alias] = relation({**columns, "event_timestamp": "timestamp"})
    found["intervals"] = relation({"interval_start": "timestamp", "interval_end": "timestamp"})
    found["rows"] = relation({**{column.name: column.type for column in step.columns()}, "__interval": "timestamp"})
    return found


@pytest.mark.parametrize(("compiled", "schemas"), [(shop, SCHEMAS), (flights, FLIGHTS_SCHEMAS)])
def test_duckdb_takes_every_compiled_query(compiled, schemas):
    instant = datetime(2026, 1, 1, tzinfo=UTC)
    for step in compiled().steps:
        with duckdb.connect() as connection:
            for name, text in relations(step, schemas).items():
                connection.execute(f'CREATE TABLE "{name}" AS {text}')
            audits = compile_audit_queries(step)
            for query in filter(None, (audits.counts, audits.samples, audits.quarantine)):
                connection.execute(query).fetchall()
            names = [column.name for column in step.columns()]
            if isinstance(step, AggregateStep):
                given = [connection.sql(over_events(step.tiles, sql)).columns for sql in (step.sql, step.single_sql)]
                assert given == [names, names]
            elif isinstance(step, SqlStep):
                given = connection.execute(step.sql, dict.fromkeys(step.parameters, instant))
                assert [column[0] for column in given.description] == [
                    name for name in names if step.kind == "event" or name != "event_timestamp"
                ]
                given.fetchall()
