"""The share of beginning, fencing, the log and the outbox in the processor time of materializing 1 M keys.

A whole run of a view of 10 features, as the command line does it: it computes the rows of one day from 1 M source rows,
validates, publishes and brings them online, with the embedded stores. Counted is the processor time of everything that the
run asks of the registry, reading as well as writing (beginning a batch and an attempt, files, verdicts, the fence, the log,
the outbox, lineage events and what they are built of), which is more than the four: the bound holds for the sum.

FSTORE_BENCH_KEYS=100000 takes fewer keys.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from typing import Any

import duckdb

from benchmarks.harness import BUILD, measure, report
from fstore.backends import Backends, create_backends, open_backends
from fstore.interval import Interval
from fstore.runtime.plan_cache import load_plan
from fstore.runtime.preparation import prepare_steps
from fstore.runtime.runner import run_step
from fstore.settings import Settings, load_settings

KEYS = int(os.environ.get("FSTORE_BENCH_KEYS", "1000000"))
DAY = Interval(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))
BOUND = 0.05
FOLDER = BUILD / f"publish_share_{KEYS}"
PROJECT = FOLDER / "project"
PARTS = ("ledger", "outbox", "lineage", "lineage_outbox", "sources", "extracts", "retention", "overlays")
"""What a registry consists of besides what it does itself."""

MODULE = """
from fstore import Entity, FeatureView, ParquetSource, agg, check

user = Entity("user", join_keys={"user_id": "string"})
events = ParquetSource("events", path="data/", event_time="event_time")


class Daily(FeatureView):
    entity, source, schedule, start, end = user, events, "@daily", "2026-01-01", "2026-01-02"
    n = agg.count().over("1d")
    total = agg.sum("amount").over("1d")
    mean = agg.avg("amount").over("1d")
    low = agg.min("amount").over("1d")
    high = agg.max("amount").over("1d")
    total_b = agg.sum("other").over("1d")
    mean_b = agg.avg("other").over("1d")
    low_b = agg.min("other").over("1d")
    high_b = agg.max("other").over("1d")
    place = agg.last("place").over("1d")
    checks = [check.not_null("n_1d"), check.in_range("low_1d", 0, 1e9)]
"""


def prepare() -> None:
    """Write the project and a day of events, one per key; once."""
    if (FOLDER / "ready").exists():
        return
    shutil.rmtree(FOLDER, ignore_errors=True)
    for folder in (PROJECT / "data", PROJECT / "feature_defs"):
        folder.mkdir(parents=True)
    (PROJECT / "pyproject.toml").write_text('[tool.fstore]\nproject = "bench"\n', encoding="utf-8")
    (PROJECT / "feature_defs" / "daily.py").write_text(MODULE, encoding="utf-8")
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"""
            COPY (
              SELECT 'user-' || lpad(CAST(i AS VARCHAR), 8, '0') AS user_id,
                TIMESTAMPTZ '{DAY.start}' + to_microseconds(CAST(hash(i, 1) % 86400000000 AS BIGINT)) AS event_time,
                CAST(hash(i, 2) % 1000003 AS DOUBLE) / 101 AS amount, CAST(hash(i, 3) % 1000003 AS DOUBLE) / 7 AS other,
                'p' || CAST(hash(i, 4) % 50 AS VARCHAR) AS place
              FROM range({KEYS}) AS keys(i) ORDER BY event_time
            ) TO '{PROJECT}/data/events.parquet' (FORMAT parquet)""")
    (FOLDER / "ready").touch()


def run() -> float:
    """Materialize the day into new stores; return the share of processor time that went into the registry."""
    import fstore.lineage.openlineage  # noqa: F401  (imports are no part of a run: Airflow loads them before)

    shutil.rmtree(PROJECT / ".fstore", ignore_errors=True)
    with create_backends(_settings()) as backends:
        prepare_steps(backends, load_plan(backends.settings).project, ["daily"])
    with open_backends(_settings()) as backends:
        (step,) = prepare_steps(backends, load_plan(backends.settings).project, ["daily"])
        taken = _timed(backends)
        began = time.process_time()
        result = run_step(backends, step, [DAY], "bench")
        seconds = time.process_time() - began
    assert (result.materialized.rows, result.materialized.online_rows) == (KEYS, KEYS)
    inside = sum(taken.values())
    dearest = ", ".join(f"{name} {1000 * spent:.1f} ms" for name, spent in sorted(taken.items(), key=lambda t: -t[1])[:6])
    print(f"  registry {inside:.4f} s of {seconds:.3f} s of processor time; {dearest}", flush=True)
    (FOLDER / "share").write_text(f"{inside} {seconds}", encoding="utf-8")
    return inside / seconds


def _settings() -> Settings:
    return load_settings(PROJECT, environ={}, memory_limit="3300MB", threads="2")


def _timed(backends: Backends) -> dict[str, float]:
    """Add up the processor time within every call of the registry, by method; a call within another is the outer one's.

    The time is the process's: nothing else goes on while the registry is asked, and its own threads would count.
    """
    taken: dict[str, float] = defaultdict(float)
    depth = [0]

    def timed(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(work)
        def call(*arguments: Any, **named: Any) -> Any:
            if depth[0]:
                return work(*arguments, **named)
            depth[0] += 1
            began = time.process_time()
            try:
                return work(*arguments, **named)
            finally:
                depth[0] -= 1
                taken[name] += time.process_time() - began

        return call

    registry = backends.registry
    for prefix, part in [("", registry), *((f"{name}.", getattr(registry, name)) for name in PARTS)]:
        for name in dir(type(part)):
            if not name.startswith("_") and callable(getattr(type(part), name)) and name not in ("close", "on_overlay"):
                setattr(part, name, timed(prefix + name, getattr(part, name)))
    return taken


def main() -> None:
    prepare()
    measured = measure({"registry, as a share": run})["registry, as a share"]
    inside, seconds = map(float, (FOLDER / "share").read_text(encoding="utf-8").split())
    detail = f"the last of {len(measured.seconds)} runs: {1000 * inside:.0f} ms of {seconds:.2f} s of processor time"
    report("publish_share", measured.median, f"of {KEYS:,} keys, at most {BOUND}; {detail}")


if __name__ == "__main__":
    main()
