"""Windows that end at each label's own instant, over hot keys, against plans written by hand and a plain range join.

100,000 labels of 100 keys at any microsecond of a year, {count, sum, avg} x {7, 30, 90 days} over 10 million events. Ours is
``Client.get_historical_features(…, accuracy="exact")`` whole, with its registry and checksums; by hand it is bare DuckDB
with the same memory and threads over the same files, and the result as an Arrow table. The ratio is to the fastest plan
(frames of time over events and labels are left out: they took 103 s). The range join runs at a quarter of the labels,
because it pairs each of them with all events of its window.

FSTORE_BENCH_SCALE=0.1 takes a tenth of the events and labels.
"""

from __future__ import annotations

import os
import shutil
import time
from functools import partial
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.harness import BUILD, measure, report

SCALE = float(os.environ.get("FSTORE_BENCH_SCALE", "1"))
EVENTS, LABELS, KEYS = int(10_000_000 * SCALE), int(100_000 * SCALE), 100
FEW = LABELS // 4
FOLDER = BUILD / f"exact_windows_{EVENTS}"
PROJECT = FOLDER / "project"
BASELINES = Path(__file__).parent / "baselines"
PLANS = ("exact_running_sums", "exact_segments")
NAIVE = "exact_range_join"
SETTINGS = {"threads": 2, "memory_limit": "3300MB", "temp_directory": str(FOLDER / "spill")}
COLUMNS = [f"{function}_{days}d" for function in ("n", "total", "mean") for days in (7, 30, 90)]
MODULE = """
from fstore import Entity, FeatureView, ParquetSource, agg

user = Entity("user", join_keys={"user_id": "string"})
events = ParquetSource("events", path="data/", event_time="event_time")


class Spending(FeatureView):
    entity, source, schedule, start = user, events, "@daily", "2025-01-01"
    n = agg.count().over("7d", "30d", "90d")
    total = agg.sum("amount").over("7d", "30d", "90d")
    mean = agg.avg("amount").over("7d", "30d", "90d")
"""


def prepare() -> None:
    """Write the project, its events in the order of time, and the labels in any order; once."""
    if (FOLDER / "ready").exists():
        return
    shutil.rmtree(FOLDER, ignore_errors=True)
    for folder in (PROJECT / "data", PROJECT / "feature_defs"):
        folder.mkdir(parents=True)
    (PROJECT / "pyproject.toml").write_text('[tool.fstore]\nproject = "bench"\n', encoding="utf-8")
    (PROJECT / "feature_defs" / "spending.py").write_text(MODULE, encoding="utf-8")
    year = 365 * 86_400_000_000
    user = "'u' || lpad(CAST(hash(i, {seed}) % {keys} AS VARCHAR), 6, '0') AS user_id"
    with duckdb.connect(config=SETTINGS) as connection:
        connection.execute(f"""
            COPY (
              SELECT {user.format(seed=1, keys=KEYS)},
                TIMESTAMPTZ '2025-01-01 00:00Z' + to_microseconds(CAST(hash(i, 2) % {year} AS BIGINT)) AS event_time,
                CAST(hash(i, 3) % 1000003 AS DOUBLE) / 101 AS amount
              FROM range({EVENTS}) AS events(i) ORDER BY event_time
            ) TO '{PROJECT}/data/events.parquet' (FORMAT parquet)""")
        for name, count in (("labels", LABELS), ("few", FEW)):
            connection.execute(f"""
                COPY (
                  SELECT i AS label, {user.format(seed=4, keys=KEYS)},
                    TIMESTAMPTZ '2025-01-01 00:00Z' + to_microseconds(CAST(hash(i, 5) % {year} AS BIGINT)) AS event_timestamp
                  FROM range({count}) AS labels(i)
                ) TO '{FOLDER}/{name}.parquet' (FORMAT parquet)""")
    (FOLDER / "ready").touch()


def run_ours(labels: str) -> float:
    """Read a frame; return the seconds."""
    from fstore import Client
    from fstore.backends import create_backends, open_backends
    from fstore.runtime.plan_cache import load_plan
    from fstore.runtime.preparation import prepare_steps
    from fstore.settings import load_settings

    settings = load_settings(PROJECT, environ={}, memory_limit="3300MB", threads="2")
    with create_backends(settings) as backends:
        prepare_steps(backends, load_plan(settings).project, ["spending"])
    with open_backends(settings) as backends:
        began = time.perf_counter()
        frame = Client(backends).get_historical_features(
            FOLDER / f"{labels}.parquet", [f"spending:{column}" for column in COLUMNS], accuracy="exact"
        )
        seconds = time.perf_counter() - began
        pq.write_table(frame.to_arrow().replace_schema_metadata(None), FOLDER / f"ours_{labels}.parquet")
    return seconds


def run_by_hand(plan: str, labels: str) -> float:
    """Run a hand-written plan; return the seconds."""
    sql = (BASELINES / f"{plan}.sql").read_text(encoding="utf-8")
    with duckdb.connect(config=SETTINGS) as connection:
        connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        began = time.perf_counter()
        connection.execute(f"CREATE VIEW events AS FROM read_parquet('{PROJECT}/data/events.parquet')")
        connection.execute(f"CREATE VIEW labels AS FROM read_parquet('{FOLDER}/{labels}.parquet')")
        table = connection.sql(f"SELECT label, {', '.join(COLUMNS)} FROM ({sql}) ORDER BY label").to_arrow_table()
        seconds = time.perf_counter() - began
    pq.write_table(table, FOLDER / f"{plan}_{labels}.parquet")
    return seconds


def check(plan: str, labels: str) -> int:
    """Compare a plan's rows with ours: floats to 1e-9 of the largest sum, because running sums cancel; return the rows."""
    ours, theirs = (pq.read_table(FOLDER / f"{name}_{labels}.parquet") for name in ("ours", plan))
    for column in COLUMNS:
        one, other = (pc.cast(table[column].combine_chunks(), pa.float64()) for table in (ours, theirs))
        one, other = pc.fill_null(one, 0), pc.fill_null(other, 0)  # a sum over nothing
        apart = pc.max(pc.abs(pc.subtract(one, other))).as_py()
        if apart > 1e-9 * pc.max(pc.abs(one)).as_py():
            raise SystemExit(f"{plan} gives another {column} than we do: {apart} apart")
    return ours.num_rows


def main() -> None:
    prepare()
    variants = {"ours": partial(run_ours, "labels"), **{plan: partial(run_by_hand, plan, "labels") for plan in PLANS}}
    taken = measure(variants)
    once = measure({"ours, few": partial(run_ours, "few"), "naive": partial(run_by_hand, NAIVE, "few")}, runs=1)
    for plan in PLANS:
        check(plan, "labels")
    check(NAIVE, "few")
    best = min(PLANS, key=lambda plan: taken[plan].median)
    naive = once["naive"].median / once["ours, few"].median
    report(
        "exact_windows", taken["ours"].median / taken[best].median,
        f"of {best}, at most 1.3; {LABELS:,} labels in {taken['ours'].median:.2f} s, {taken['ours'].peak_bytes >> 20} MB; "
        f"{FEW:,} labels {naive:.1f} times as fast as a range join, at least 10",
    )  # fmt: skip


if __name__ == "__main__":
    main()
