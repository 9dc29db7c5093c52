"""A daily run after a year of history, against the best query by hand over the same tiles and one day of events.

{count, sum, avg, min, max, last} x {7, 30, 90, 365 days} over 10 million events of 20,000 keys in a year. Ours is a whole
run, as the command line does it: it looks at the source, makes the tiles of the new day, computes, validates and publishes.
By hand: one query makes the tiles of the day and keeps them, another merges all of them per key and segment of time, and the
segments into a row per key, and writes that, with nothing around it. Recomputing reads the events of the longest window and
no tiles, by the same compiler.

FSTORE_BENCH_SCALE=0.1 takes a tenth of the keys and events.
"""

from __future__ import annotations

import os
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from benchmarks.harness import BUILD, measure, report
from fstore.arrow import arrow_schema
from fstore.backends import Backends, create_backends, open_backends
from fstore.engines.duckdb import ROW_GROUP_ROWS
from fstore.engines.engine import EventRelation, IntervalsRelation, Query
from fstore.interval import Interval
from fstore.plan.steps import AggregateStep
from fstore.plan.tile_queries import over_events
from fstore.runtime.plan_cache import load_plan
from fstore.runtime.preparation import prepare_steps
from fstore.runtime.runner import run_step
from fstore.settings import Settings, load_settings

SCALE = float(os.environ.get("FSTORE_BENCH_SCALE", "1"))
EVENTS, KEYS = int(10_000_000 * SCALE), int(20_000 * SCALE)
DAY = timedelta(days=1)
TODAY = Interval(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))
FIRST_EVENT = TODAY.end - 366 * DAY
WINDOWS = (7, 30, 90, 365)
FOLDER = BUILD / f"incremental_day_{KEYS}_{EVENTS}"
PROJECT, HAND = FOLDER / "project", FOLDER / "hand"
SETTINGS = {"threads": 2, "memory_limit": "3300MB", "temp_directory": str(FOLDER / "spill")}
COPY = f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP_ROWS})"
COARSE = 30 * DAY

MODULE = f"""
from fstore import Entity, FeatureView, ParquetSource, agg

user = Entity("user", join_keys={{"user_id": "string"}})
events = ParquetSource("events", path="data/", event_time="event_time")
WINDOWS = {[f"{days}d" for days in WINDOWS]}


class Daily(FeatureView):
    entity, source, schedule, start, online = user, events, "@daily", "2025-01-01", False
    n = agg.count().over(*WINDOWS)
    total = agg.sum("amount").over(*WINDOWS)
    mean = agg.avg("amount").over(*WINDOWS)
    low = agg.min("amount").over(*WINDOWS)
    high = agg.max("amount").over(*WINDOWS)
    place = agg.last("place").over(*WINDOWS)
"""


def prepare() -> None:
    """Write a year of events, run the day before today, and make the same tiles by hand; once."""
    if (FOLDER / "ready").exists():
        return
    shutil.rmtree(FOLDER, ignore_errors=True)
    for folder in (PROJECT / "data", PROJECT / "feature_defs", HAND):
        folder.mkdir(parents=True)
    (PROJECT / "pyproject.toml").write_text('[tool.fstore]\nproject = "bench"\n', encoding="utf-8")
    (PROJECT / "feature_defs" / "daily.py").write_text(MODULE, encoding="utf-8")
    _write_events()
    with create_backends(_settings(PROJECT)) as backends:
        run_step(backends, _step(backends), [Interval(TODAY.start - DAY, TODAY.start)], "yesterday")
    _make_tiles_by_hand()
    (PROJECT / ".fstore").rename(FOLDER / "before")
    (PROJECT / "data" / "today.tmp").rename(PROJECT / "data" / "today.parquet")
    (FOLDER / "ready").touch()


def _write_events() -> None:
    """Write a file per month, and today's under a name that nobody reads yet."""
    micros = (TODAY.end - FIRST_EVENT) // timedelta(microseconds=1)
    with duckdb.connect(config=SETTINGS) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"""
            CREATE TABLE events AS
            SELECT
              'u' || lpad(CAST(hash(i, 1) % {KEYS} AS VARCHAR), 6, '0') AS user_id,
              make_timestamptz({FIRST_EVENT.timestamp() * 1e6:.0f} + CAST(hash(i, 2) % {micros} AS BIGINT)) AS event_time,
              CAST(hash(i, 3) % 1000003 AS DOUBLE) / 101 AS amount,
              'p' || CAST(hash(i, 4) % 50 AS VARCHAR) AS place
            FROM range({EVENTS}) AS events(i)""")
        months = [FIRST_EVENT + 30 * number * DAY for number in range(13)]
        for first, last in zip(months, [*months[1:], TODAY.start], strict=True):
            within = f"event_time >= '{first}' AND event_time < '{min(last, TODAY.start)}'"
            _copy(connection, within, f"{first:%Y-%m-%d}.parquet")
        _copy(connection, f"event_time >= '{TODAY.start}'", "today.tmp")


def _copy(connection: duckdb.DuckDBPyConnection, where: str, name: str) -> None:
    connection.execute(f"COPY (FROM events WHERE {where} ORDER BY event_time) TO '{PROJECT}/data/{name}' (FORMAT parquet)")


def _make_tiles_by_hand() -> None:
    """Write tiles of days and of thirty days, one file each, as ours lie."""
    with _connection() as connection:
        for name, length in (("fine", DAY), ("coarse", COARSE)):
            connection.execute(f"""
                COPY (
                  SELECT user_id, time_bucket(INTERVAL {length.days} DAY, event_time, TIMESTAMPTZ '1970-01-01') AS tile,
                    {_TILE}
                  FROM read_parquet('{PROJECT}/data/*.parquet') GROUP BY ALL ORDER BY tile
                ) TO '{HAND}/{name}.parquet' {COPY}""")


_TILE = """count(*) AS n, count(amount) AS c, sum(amount) AS s, min(amount) AS low, max(amount) AS high,
    max(struct_pack(t := event_time, v := place)) FILTER (place IS NOT NULL).v AS place"""


def _settings(root: Path) -> Settings:
    return load_settings(root, environ={}, memory_limit="3300MB", threads="2")


def _step(backends: Backends) -> AggregateStep:
    (step,) = prepare_steps(backends, load_plan(backends.settings).project, ["daily"])
    assert isinstance(step, AggregateStep)
    return step


def _connection() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(config=SETTINGS)
    connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
    return connection


def _restore() -> None:
    """Bring the stores back to where they were before today, so that every run finds the same."""
    shutil.rmtree(PROJECT / ".fstore", ignore_errors=True)
    shutil.copytree(FOLDER / "before", PROJECT / ".fstore")


def run_ours() -> float:
    """Run today; return the seconds of the run, definitions loaded and compiled before."""
    import fstore.lineage.openlineage  # noqa: F401  (imports are no part of a run: Airflow loads them before)

    _restore()
    with open_backends(_settings(PROJECT)) as backends:
        step = _step(backends)
        began = time.perf_counter()
        run_step(backends, step, [TODAY], "today")
        seconds = time.perf_counter() - began
        (head,) = backends.registry.ledger.heads("daily", start=TODAY.start, end=TODAY.end)
        (file,) = backends.registry.ledger.files([head.attempt])[head.attempt]
        shutil.copy(backends.offline.full_path(file.path), FOLDER / "ours.parquet")
    return seconds


def run_hand() -> float:
    """Make today's tiles, and merge tiles into the rows of today; return the seconds."""
    ends = [TODAY.end - days * DAY for days in WINDOWS]
    blocks = [block for block in _blocks() if not any(block < end < block + COARSE for end in (*ends, TODAY.end))]
    listed = ", ".join(f"TIMESTAMPTZ '{block}'" for block in blocks)
    covered = " OR ".join(f"(tile >= '{block}' AND tile < '{block + COARSE}')" for block in blocks)
    segment = " + ".join(f"CAST(tile >= TIMESTAMPTZ '{end}' AS INT)" for end in reversed(ends[:-1]))
    columns = ", ".join(
        f"coalesce(sum(n) FILTER ({held}), 0) AS n_{days}d, sum(s) FILTER ({held}) AS total_{days}d, "
        f"sum(s) FILTER ({held}) / sum(c) FILTER ({held}) AS mean_{days}d, min(low) FILTER ({held}) AS low_{days}d, "
        f"max(high) FILTER ({held}) AS high_{days}d, arg_max(place, segment) FILTER ({held}) AS place_{days}d"
        for days, held in zip(
            WINDOWS, [f"segment >= {len(WINDOWS) - 1 - number}" for number in range(len(WINDOWS))], strict=True
        )
    )
    merged = "sum(n) AS n, sum(c) AS c, sum(s) AS s, min(low) AS low, max(high) AS high, arg_max(place, tile) AS place"
    began = time.perf_counter()
    with _connection() as connection:
        connection.execute(f"""
            COPY (SELECT user_id, TIMESTAMPTZ '{TODAY.start}' AS tile, {_TILE}
              FROM read_parquet('{PROJECT}/data/today.parquet') GROUP BY ALL ORDER BY tile)
            TO '{HAND}/today.parquet' {COPY}""")
        connection.execute(f"""
            COPY (
              SELECT user_id, TIMESTAMPTZ '{TODAY.end}' AS event_timestamp, {columns}
              FROM (
                SELECT user_id, {segment} AS segment, {merged}
                FROM (
                  SELECT * FROM read_parquet('{HAND}/today.parquet')
                  UNION ALL SELECT * FROM read_parquet('{HAND}/coarse.parquet') WHERE tile IN ({listed})
                  UNION ALL SELECT * FROM read_parquet('{HAND}/fine.parquet')
                  WHERE tile >= TIMESTAMPTZ '{ends[-1]}' AND tile < TIMESTAMPTZ '{TODAY.start}' AND NOT ({covered})
                )
                GROUP BY user_id, segment
              )
              GROUP BY user_id ORDER BY event_timestamp, user_id
            ) TO '{FOLDER}/hand.parquet' {COPY}""")
    for name in (HAND / "today.parquet", FOLDER / "hand.parquet"):
        with name.open("rb") as file:
            os.fsync(file.fileno())
    return time.perf_counter() - began


def _blocks() -> list[datetime]:
    """The starts of the thirty-day tiles that lie within the longest window."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    first = epoch - (epoch - (TODAY.end - WINDOWS[-1] * DAY)) // COARSE * COARSE
    return [first + COARSE * number for number in range((TODAY.end - first) // COARSE)]


def run_recompute() -> float:
    """Compute today from the events of the longest window, without tiles; return the seconds."""
    _restore()
    with open_backends(_settings(PROJECT)) as backends:
        step = _step(backends)
        source = step.tiles[0].events.source
        relation = EventRelation(
            source=source, start=TODAY.end - WINDOWS[-1] * DAY, end=TODAY.end, keys=("user_id",),
            columns=step.tiles[0].events.columns,
        )  # fmt: skip
        query = Query(
            sql=over_events(step.tiles, step.single_sql),
            relations={"events": relation, "intervals": IntervalsRelation(intervals=(TODAY,))},
        )
        began = time.perf_counter()
        backends.engine.write(
            query, str(FOLDER / "recomputed.parquet"), schema=arrow_schema(step.columns()), sort_by=["user_id"]
        )
        return time.perf_counter() - began


def check_agreement(other: str) -> int:
    """Compare our rows with another plan's, row by row; return how many there are."""
    names = [f"{feature}_{days}d" for feature in ("n", "total", "mean", "low", "high", "place") for days in WINDOWS]
    differs = " OR ".join(
        f"abs(o.{name} - b.{name}) > 1e-12 * abs(b.{name}) OR (o.{name} IS NULL) <> (b.{name} IS NULL)"
        if name.startswith(("total", "mean"))
        else f"o.{name} IS DISTINCT FROM b.{name}"
        for name in names
    )
    with _connection() as connection:
        ((rows, wrong),) = connection.execute(f"""
            SELECT count(*), count(*) FILTER ({differs} OR o.user_id IS NULL OR b.user_id IS NULL)
            FROM '{FOLDER}/ours.parquet' AS o FULL JOIN '{FOLDER}/{other}.parquet' AS b USING (user_id)""").fetchall()
    if wrong or not rows:
        raise SystemExit(f"{wrong} of {rows} rows differ between ours and {other}")
    return int(rows)


def main() -> None:
    prepare()
    taken = measure({"ours": run_ours, "hand": run_hand, "recomputed": run_recompute})
    rows = {check_agreement("hand"), check_agreement("recomputed")}
    for name, measured in taken.items():
        print(f"{name}: {measured}")
    ours, hand, recomputed = (taken[name].median for name in ("ours", "hand", "recomputed"))
    report(
        "incremental_day",
        ours / hand,
        f"{max(rows)} keys in {ours:.2f} s, by hand {hand:.2f} s, at most 1.5; recomputing takes {recomputed:.2f} s, "
        f"{recomputed / ours:.1f} times as long, at least 5",
    )


if __name__ == "__main__":
    main()
