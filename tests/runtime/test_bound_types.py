"""Types of SQL views that come from the engine, and SQL that it refuses: known before anything is computed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from fstore.engines.duckdb import DuckDBEngine
from fstore.errors import OutOfSpace
from fstore.plan.steps import Plan
from fstore.runtime.empty_rows import evaluate_empty_rows
from fstore.runtime.plan_cache import load_plan
from fstore.runtime.preparation import compile_with_types, read_schemas, sources_of
from tests.projects import SmallProject

INSTANT = pa.timestamp("us", tz="UTC")

HEAD = """
    from fstore import Entity, FeatureView, ParquetSource, agg, expr, feature, on_demand

    user = Entity("user", join_keys={"user_id": "string"})
    buys = ParquetSource("buys", path="data/buys.parquet", event_time="day", timezone="UTC")
    people = ParquetSource("people", path="data/people.parquet", keys=["user_id"], updated_at="at")

    class Daily(FeatureView):
        abstract = True
        entity, schedule, start = user, "@daily", "2026-01-01"
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[SmallProject]:
    made = SmallProject(tmp_path)
    types = {"user_id": pa.string(), "day": pa.date32(), "amount": pa.decimal128(9, 2), "n": pa.int32()}
    made.write("buys", [], types)
    people = {
        "user_id": pa.string(),
        "at": INSTANT,
        "home": pa.struct({"lat": pa.float64()}),
        "likes": pa.list_(pa.string()),
    }
    made.write("people", [], people)
    yield made
    made.close()


def planned(project: SmallProject, body: str) -> Plan:
    project.define("views", HEAD + body)
    loaded = load_plan(project.settings).project
    assert [str(problem) for problem in loaded.problems] == []
    schemas = read_schemas(project.backends.engine, sources_of(loaded)).schemas
    return compile_with_types(project.backends.engine, loaded, schemas)


def problems(plan: Plan) -> list[str]:
    return [str(problem) for problem in plan.problems]


def test_a_feature_without_a_type_has_the_one_that_the_sql_gives(project: SmallProject) -> None:
    plan = planned(
        project,
        """
    class Spent(Daily):
        inputs = {"b": buys.window("7d"), "p": people}
        sql = '''SELECT user_id, sum(amount) AS total, avg(n) AS mean, count(*) AS orders, max(day) AS newest,
                        any_value(p.likes) AS likes, $end - INTERVAL 1 DAY AS earlier,
                        sum(n) AS units
                 FROM b JOIN p USING (user_id) WHERE b.day < $end GROUP BY user_id'''
        total, mean, orders, newest = feature(), feature(), feature(), feature()
        likes, earlier = feature(), feature()
        units = feature("int64")

    class Double(Daily):
        inputs = {"s": Spent}
        sql = "SELECT user_id, total * 2 AS twice, likes[1] AS liked FROM s"
        twice, liked = feature(), feature()

    class Ratio(Daily):
        share = expr("t / u", t=Double.twice, u=Spent.units)
        twice = expr("t + t", t=Double.twice)
""",
    )
    assert problems(plan) == []
    assert {step.view: {feature.name: feature.type for feature in step.features} for step in plan.steps} == {
        "spent": {
            "total": "decimal(38,2)", "mean": "float64", "orders": "int64", "newest": "timestamp",
            "likes": "list<string>", "earlier": "timestamp", "units": "int64",
        },
        "double": {"twice": "decimal(38,2)", "liked": "string"},
        "ratio": {"share": "float64", "twice": "decimal(38,2)"},
    }  # fmt: skip


def test_types_and_sql_that_do_not_fit_are_problems_of_the_plan(project: SmallProject) -> None:
    plan = planned(
        project,
        """
    class Wrong(Daily):
        inputs = {"b": buys.window("7d")}
        sql = "SELECT user_id, avg(n) AS mean, user_id AS label, NULL AS nothing FROM b GROUP BY user_id"
        mean = feature("int64")
        label = feature("float64")
        nothing = feature()

    class Refused(Daily):
        inputs = {"b": buys.window("7d")}
        sql = "SELECT user_id, n + day AS odd, amount FROM b GROUP BY user_id"
        odd, amount = feature(), feature()

    class Struct(Daily):
        inputs = {"p": people}
        sql = "SELECT user_id, home.lat AS lat, home.lat + 1 AS next FROM p"
        lat = feature()
        next = feature("float64")

    class Scalars(Daily):
        source = buys
        fine = agg.sum("n + 1").over("7d")
        units = agg.sum("CAST(strange(n) AS INTEGER)").over("7d", "30d")
        late = agg.count(where="n > DATE '2026-01-01'").over("7d")
        ratio = expr("CAST(list_sum(fine_7d) AS DOUBLE)")

    class Reader(Daily):
        half = expr("CAST(list_sum(f) AS DOUBLE)", f=Scalars.fine)

    class Other(Daily):
        source = buys
        n = agg.count().over("1d")

    class Composite(Daily):
        bad = expr("CAST(list_sum(o) AS DOUBLE)", o=Other.n)

    odd = on_demand("odd", "strange(lat)", request={"lat": "float64"})
    text = on_demand("text", "lat || ''", request={"lat": "string"}, type="float64")
    mixed = on_demand("mixed", "place = 5", request={"place": "string"})
""",
    )
    assert problems(plan) == [
        "feature view 'wrong' (feature_defs/views.py:15) declares 'mean' as int64, and its SQL gives float64. Declare it as "
        "float64, or convert it in the SQL: CAST(mean AS BIGINT).",
        "feature view 'wrong' (feature_defs/views.py:16) declares 'label' as float64, and its SQL gives string. Declare it as "
        "string, or convert it in the SQL: CAST(label AS DOUBLE).",
        "feature view 'wrong' (feature_defs/views.py:17) gives 'nothing' as NULL, which is none of the types of fstore. "
        "Convert it in the SQL with CAST.",
        "feature view 'refused' (feature_defs/views.py:19) has SQL that the engine refuses: Binder Error: No function matches "
        "the given name and argument types '+(INTEGER, TIMESTAMP WITH TIME ZONE)'. You might need to add explicit type casts.",
        "feature view 'struct' (feature_defs/views.py:27) declares 'lat' without a type, which cannot be told: its SQL reads "
        "column 'home' of input 'p', of type unsupported(struct<lat: double>). Write its type, such as feature(\"float64\").",
        "feature 'scalars:units' (feature_defs/views.py:33) has SQL that the engine refuses: Catalog Error: Scalar Function "
        'with name strange does not exist! Did you mean "range"?',
        "feature 'scalars:late' (feature_defs/views.py:34) has SQL that the engine refuses: Binder Error: Cannot compare values "
        "of type INTEGER and type DATE - an explicit cast is required.",
        "feature 'scalars:ratio' (feature_defs/views.py:35) has SQL that the engine refuses: Binder Error: No function matches "
        "the given name and argument types 'list_aggr(BIGINT, STRING_LITERAL)'. You might need to add explicit type casts.",
        "feature view 'reader' (feature_defs/views.py:37) is blocked by feature_defs/views.py:30: feature view 'scalars' has a "
        "problem. Solve that one first.",
        "feature 'composite:bad' (feature_defs/views.py:45) has SQL that the engine refuses: Binder Error: No function matches "
        "the given name and argument types 'list_aggr(BIGINT, STRING_LITERAL)'. You might need to add explicit type casts.",
        "on-demand feature 'odd' (feature_defs/views.py:47) has SQL that the engine refuses: Catalog Error: Scalar Function "
        'with name strange does not exist! Did you mean "range"?',
        "on-demand feature 'text' (feature_defs/views.py:48) declares the type float64, and its SQL gives string. Declare it "
        "as string, or convert it in the SQL: CAST(… AS DOUBLE).",
        "on-demand feature 'mixed' (feature_defs/views.py:49) compares place, a text, with 5, which has type int32. Write "
        "CAST(place AS …), or compare it with a text.",
    ]


def test_an_expression_without_a_value_for_a_key_without_rows_is_a_problem_of_its_view(project: SmallProject) -> None:
    plan = planned(
        project,
        """
    class Counts(Daily):
        source = buys
        n = agg.count().over("7d")
        code = agg.last("CAST(n AS VARCHAR)").over("7d").fill("none")
        many = expr("n_7d > 10")
        number = expr("CAST(code_7d AS INTEGER)")
        double = expr("number * 2")

    class Reader(Daily):
        x = expr("a + 1", a=Counts.n)

    class Fine(Daily):
        source = buys
        n = agg.count().over("7d")
        code = agg.last("CAST(n AS VARCHAR)").over("7d")
        number = expr("CAST(code_7d AS INTEGER)")

    class Composite(Daily):
        small = expr("CAST(m - 200 AS TINYINT)", m=Fine.n)

    fine = on_demand("fine", "n * 2", n=Fine.n["7d"])
    blocked = on_demand("blocked", "n * 2", n=Counts.n["7d"])
""",
    )
    assert problems(plan) == [
        "feature 'counts:number' (feature_defs/views.py:17) has no value for a key without rows, for which counts are 0 and "
        "fills apply: Conversion Error: Could not convert string 'none' to INT32 when casting from source column code_7d. "
        "Say what it is then, as in CASE WHEN n_7d > 0 THEN … END or TRY_CAST(…).",
        "feature view 'reader' (feature_defs/views.py:20) is blocked by feature_defs/views.py:12: feature view 'counts' has a "
        "problem. Solve that one first.",
        "feature 'composite:small' (feature_defs/views.py:30) has no value for a key without rows, for which counts are 0 and "
        "fills apply: Conversion Error: Type INT64 with value -200 can't be cast because the value is out of range for the "
        "destination type INT8. Say what it is then, as in CASE WHEN n_7d > 0 THEN … END or TRY_CAST(…).",
        "on-demand feature 'blocked' (feature_defs/views.py:33) is blocked by feature_defs/views.py:12: feature view 'counts' "
        "has a problem. Solve that one first.",
    ]
    assert {step.view for step in plan.steps} == {"fine"}
    (fine,) = plan.steps
    assert {feature.name: feature.empty for feature in fine.features} == {"n_7d": 0, "code_7d": None, "number": None}


def test_memory_that_runs_out_is_no_problem_of_a_view(project: SmallProject, tmp_path: Path) -> None:
    plan = planned(
        project,
        """
    class Counts(Daily):
        source = buys
        n = agg.count().over("7d")
        many = expr("n_7d > 10")
""",
    )

    def fail() -> None:
        raise duckdb.OutOfMemoryException("now")

    spill = str(tmp_path / "spill")
    with contextlib.closing(DuckDBEngine(threads=2, spill_dir=spill, root=str(tmp_path), before_query=fail)) as engine:
        with pytest.raises(OutOfSpace, match="the query needs more memory than it may use") as caught:
            evaluate_empty_rows(engine, load_plan(project.settings).project, plan.steps)
        assert caught.value.retryable


def test_the_plan_without_an_engine_knows_no_types_and_no_complaint(project: SmallProject) -> None:
    project.define(
        "views",
        HEAD
        + """
    class Spent(Daily):
        inputs = {"b": buys.window("7d")}
        sql = "SELECT user_id, sum(amount) AS total FROM b GROUP BY user_id"
        total = feature()
""",
    )
    cached = load_plan(project.settings)
    (step,) = cached.plan.steps
    assert [feature.type for feature in step.features] == [None]
    fingerprint = step.fingerprint
    assert project.step("spent").fingerprint == fingerprint
