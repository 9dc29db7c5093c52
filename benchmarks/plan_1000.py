"""``fstore plan`` on 1,000 views: at most 3 times as long as parsing their SQL once with sqlglot.

A hundred modules of ten views are laid out, three views of aggregates and seven of SQL over them and over sources; they are
registered, and each has published a month. Then fresh processes, by turns, parse every SELECT once, make the plan with its
cache in place (warm, which counts), and make it with the cache removed (cold: the modules are loaded and compiled). The
plan's time includes importing fstore and its drivers; the parser's does not include importing sqlglot.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.harness import measure, report
from fstore.settings import load_settings

LIMIT = 3.0
NOW = datetime(2026, 2, 1, 12, tzinfo=UTC)
SOURCES = '''"""What all views share."""

from fstore import Entity, ParquetSource

user = Entity("user", join_keys={"user_id": "string"})
things = ParquetSource("things", path="data/things.parquet", event_time="happened_at")
users = ParquetSource("users", path="data/users.parquet", keys=["user_id"], updated_at="updated_at")
'''
MODULE = '''"""Views of module {number}."""

from fstore import FeatureView, agg, feature

from .sources import things, user, users

'''
AGGREGATES = '''

class Counts{number:04}(FeatureView):
    """Counts and sums of things."""

    entity, source, schedule, start = user, things, "@daily", "2026-01-01"
    things_count = agg.count().over("1d", "7d", "30d")
    amount_sum = agg.sum("amount * {factor}").over("7d", "30d").fill(0.0)
'''
SELECT = """
        WITH recent AS (
            SELECT t.user_id, count(*) AS things, sum(t.amount) AS amount, max(t.happened_at) AS last_at
            FROM t WHERE t.amount > {factor} AND t.happened_at >= $end - INTERVAL 7 DAY
            GROUP BY t.user_id
        ), ranked AS (
            SELECT r.user_id, r.things, r.amount, r.last_at, row_number() OVER (ORDER BY r.amount DESC, r.user_id) AS place
            FROM recent AS r
        )
        SELECT
            u.user_id,
            coalesce(ranked.things, 0) AS things,
            CASE WHEN c.things_count_30d > 10 THEN 'often' WHEN c.things_count_30d > 0 THEN 'seldom' ELSE '' END AS level,
            round(coalesce(ranked.amount, 0.0) / nullif(c.amount_sum_30d, 0), 3) AS share,
            date_diff('day', ranked.last_at, $end) AS days_since,
            ranked.place <= 100 AND u.country IN ('DE', 'FR', 'IT') AS top
        FROM u
        LEFT JOIN ranked ON ranked.user_id = u.user_id
        LEFT JOIN c ON c.user_id = u.user_id
        WHERE u.country IS NOT NULL
"""
SQL_VIEW = '''

class Level{number:04}(FeatureView):
    """What a user is like."""

    entity, schedule, start = user, "@daily", "2026-01-01"
    inputs = {{"t": things.window("7d"), "u": users, "c": Counts{first:04}}}
    sql = """{select}"""
    things = feature("int64")
    level = feature("string")
    share = feature("float64")
    days_since = feature("int64")
    top = feature("bool")
'''


def lay_out(root: Path, views: int) -> list[str]:
    """Write a project with that many views, and return the SELECTs of those that have one."""
    definitions, data = root / "feature_defs", root / "data"
    definitions.mkdir(parents=True)
    data.mkdir()
    (root / "pyproject.toml").write_text('[tool.fstore]\nproject = "bench"\n')
    (definitions / "sources.py").write_text(SOURCES)
    selects: list[str] = []
    for module in range(views // 10):
        first = module * 10
        text = MODULE.format(number=module)
        for number in range(first, first + 3):
            text += AGGREGATES.format(number=number, factor=number + 1)
        for number in range(first + 3, first + 10):
            selects.append(SELECT.format(factor=number))
            text += SQL_VIEW.format(number=number, first=first + number % 3, select=selects[-1])
        (definitions / f"module_{module:03}.py").write_text(text)
    stamp = pa.timestamp("us", tz="UTC")
    when = [datetime(2026, 1, 5, tzinfo=UTC)]
    pq.write_table(
        pa.table({"user_id": ["a"], "happened_at": pa.array(when, stamp), "amount": [1.0]}), data / "things.parquet"
    )
    pq.write_table(
        pa.table({"user_id": ["a"], "updated_at": pa.array(when, stamp), "country": ["DE"]}), data / "users.parquet"
    )
    return selects


def publish_month(root: Path) -> None:
    """Register every view, and publish January of each as one attempt without rows."""
    from fstore.backends import create_backends
    from fstore.registry.records import Verdict
    from fstore.runtime.outlook import due_range
    from fstore.runtime.plan_cache import load_plan
    from fstore.runtime.preparation import compile_with_types, read_schemas

    settings = load_settings(root, environ={})
    with create_backends(settings) as backends:
        project = load_plan(settings).project
        schemas = read_schemas(backends.engine, list(project.sources.values())).schemas
        plan = compile_with_types(backends.engine, project, schemas)
        if plan.problems:
            raise RuntimeError(str(plan.problems[0]))
        backends.registry.record_source_schemas(schemas)
        backends.registry.register(plan)
        ledger = backends.registry.ledger
        for step in plan.steps:
            whole = due_range(step, NOW)
            intervals = step.schedule.intervals(whole.start, whole.end) if whole else []
            attempt = ledger.begin(step, intervals, "bench")
            ledger.record_verdicts(attempt.id, [Verdict(interval=each, passed=True, rows=1) for each in intervals])
            ledger.publish(attempt.id)


def parse_once(selects: list[str]) -> float:
    """Parse every SELECT once; return the seconds."""
    import sqlglot

    started = time.perf_counter()
    for text in selects:
        sqlglot.parse_one(text, dialect="duckdb")
    return time.perf_counter() - started


def plan_all(root: Path, *, cold: bool, views: int) -> float:
    """Make the plan as the command does, and return the seconds."""
    if cold:
        shutil.rmtree(root / ".fstore" / "cache", ignore_errors=True)
    started = time.perf_counter()
    from fstore.cli.plan import make_plan

    plan, _ = make_plan(load_settings(root, environ={}), [], NOW)
    seconds = time.perf_counter() - started
    if plan.problems or len(plan.compute) != views or not plan.changes.is_empty:
        raise RuntimeError(f"the plan is not as expected: {plan.problems[:1]} {plan.changes.describe()[:1]}")
    return seconds


def main() -> int:
    """Measure, print the line, and return 1 when the limit is passed."""
    views = int(os.environ.get("FSTORE_BENCH_VIEWS", "1000"))
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory) / "project"
        selects = lay_out(root, views)
        publish_month(root)
        time.sleep(2.5)  # until the files' times are old enough to be trusted
        plan_all(root, cold=False, views=views)
        variants = {
            "parse": partial(parse_once, selects),
            "warm": partial(plan_all, root, cold=False, views=views),
        }
        measured = measure(variants)
        cold = measure({"cold": partial(plan_all, root, cold=True, views=views)}, runs=1)["cold"].median
    parse, warm = measured["parse"].median, measured["warm"].median
    ratio = warm / parse
    report("plan_1000", ratio, f"{views:,} views: parse {parse:.2f} s, warm {warm:.2f} s, cold {cold:.2f} s, limit {LIMIT}")
    return 0 if ratio <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
