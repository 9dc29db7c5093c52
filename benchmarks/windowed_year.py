"""A year of daily windows in one query, against plans written by hand for exactly this question.

365 daily intervals of {count, sum, avg} x {7, 30, 90 days} over 10 million events of 100,000 keys: 36.5 million rows. Both
sides read the same Parquet file and write the same rows to one Parquet file of the same layout (sorted by event_timestamp
and key, zstd, the same row groups, synced), with two threads and the same memory. Ours goes through the engine as a run
would, without keeping the tiles; the baselines are the queries of ``baselines/``, run by bare DuckDB. The ratio is to the
fastest of them.

FSTORE_BENCH_SCALE=0.1 takes a tenth of the keys and events.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import duckdb

from benchmarks.harness import BUILD, measure, report
from fstore.arrow import arrow_schema
from fstore.definitions.source import ParquetSource
from fstore.engines.duckdb import ROW_GROUP_ROWS, DuckDBEngine
from fstore.engines.engine import EventRelation, IntervalsRelation, Query
from fstore.interval import Interval, Schedule, parse_duration
from fstore.plan.tile_queries import over_events
from fstore.plan.tile_states import TileDraft
from fstore.plan.window_features import WindowFeature
from fstore.plan.windows import compile_windows
from fstore.types import Column

SCALE = float(os.environ.get("FSTORE_BENCH_SCALE", "1"))
EVENTS, KEYS = int(10_000_000 * SCALE), int(100_000 * SCALE)
START, END = datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
FIRST_EVENT = START + timedelta(days=1) - timedelta(days=90)
FOLDER = BUILD / f"windowed_year_{EVENTS}"
BASELINES = Path(__file__).parent / "baselines"
NAMES = ("dense_grid", "range_frames", "difference_array")
SETTINGS = {"threads": 2, "memory_limit": "3300MB", "temp_directory": str(FOLDER / "spill")}
"""DuckDB's limit leaves room for the rest of the process, which is to stay below 4 GB altogether."""

ORDER = "event_timestamp, user_id"


def prepare() -> None:
    """Write the events once, in the order of time as a log has them; the same on every machine."""
    if (FOLDER / "events.parquet").exists():
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    micros = (END - FIRST_EVENT) // timedelta(microseconds=1)
    with duckdb.connect(config=SETTINGS) as connection:
        connection.execute(f"""
            COPY (
              SELECT
                'u' || lpad(CAST(hash(i, 1) % {KEYS} AS VARCHAR), 6, '0') AS user_id,
                make_timestamptz({FIRST_EVENT.timestamp() * 1e6:.0f} + CAST(hash(i, 2) % {micros} AS BIGINT)) AS event_time,
                CAST(hash(i, 3) % 1000003 AS DOUBLE) / 101 AS amount
              FROM range({EVENTS}) AS events(i)
              ORDER BY event_time
            ) TO '{FOLDER}/events.tmp' (FORMAT parquet)""")
    (FOLDER / "events.tmp").rename(FOLDER / "events.parquet")


def run_ours() -> float:
    """Compile, compute and write through the engine; return the seconds."""
    began = time.perf_counter()
    features = [
        WindowFeature(
            name=f"{function}_{window}",
            function=function,
            argument=None if function == "count" else '"amount"',
            argument_type=None if function == "count" else "float64",
            window=parse_duration(window),
            type="int64" if function == "count" else "float64",
        )
        for function in ("count", "sum", "avg")
        for window in ("7d", "30d", "90d")
    ]
    source = ParquetSource("events", path="events.parquet", event_time="event_time")
    draft = TileDraft(
        source=source, keys=("user_id",), event_time="event_time", length=timedelta(days=1), coarse=timedelta(days=30)
    )
    compiled = compile_windows(draft, features, (), [feature.name for feature in features])
    columns = [Column(name="user_id", type="string"), Column(name="event_timestamp", type="timestamp")]
    columns += [Column(name=feature.name, type=feature.type or "") for feature in features]
    first = FIRST_EVENT - timedelta(days=1)
    events = EventRelation(
        source=source, start=first, end=END, columns=("user_id", "event_time", "amount"), keys=("user_id",)
    )
    intervals = IntervalsRelation(intervals=tuple(Schedule.parse("@daily").intervals(START, END)))
    query = Query(sql=over_events(compiled.tiles, compiled.range), relations={"events": events, "intervals": intervals})
    engine = DuckDBEngine(
        memory_limit=SETTINGS["memory_limit"], threads=2, spill_dir=SETTINGS["temp_directory"], root=str(FOLDER)
    )
    engine.write(query, str(FOLDER / "ours.parquet"), schema=arrow_schema(columns), sort_by=ORDER.split(", "))
    engine.close()
    return time.perf_counter() - began


def run_baseline(name: str) -> float:
    """Run a hand-written plan; return the seconds."""
    sql = (BASELINES / f"{name}.sql").read_text(encoding="utf-8")
    path = FOLDER / f"{name}.parquet"
    began = time.perf_counter()
    with duckdb.connect(config=SETTINGS) as connection:
        _relations(connection)
        connection.execute(
            f"COPY (FROM ({sql}) ORDER BY {ORDER}) TO '{path}' "
            f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP_ROWS})"
        )
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return time.perf_counter() - began


def _relations(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
    connection.execute(f"CREATE VIEW events AS FROM read_parquet('{FOLDER}/events.parquet')")
    intervals: list[Interval] = Schedule.parse("@daily").intervals(START, END)
    connection.execute("CREATE TABLE intervals (interval_start TIMESTAMPTZ, interval_end TIMESTAMPTZ)")
    connection.executemany("INSERT INTO intervals VALUES (?, ?)", [(interval.start, interval.end) for interval in intervals])


def check_agreement(name: str) -> int:
    """Compare two files row by row, in their order; return the number of rows.

    Plans that only add agree to 1e-12 relative. The difference array subtracts running totals of floats: where the window is
    empty or small it leaves a remainder (up to 4e-11 seen), which is compared absolutely.
    """
    allowed = "1e-9" if name == "difference_array" else "1e-12 * abs(b.{column})"
    columns = [f"{function}_{days}d" for function in ("count", "sum", "avg") for days in (7, 30, 90)]
    differs = " OR ".join(
        f"(o.{column} IS NULL) <> (b.{column} IS NULL) OR abs(o.{column} - b.{column}) > " + allowed.format(column=column)
        for column in columns
    )
    ours, baseline = (f"read_parquet('{FOLDER}/{file}.parquet')" for file in ("ours", name))
    with duckdb.connect(config=SETTINGS) as connection:
        ((rows, wrong),) = connection.execute(f"""
            SELECT count(*), count(*) FILTER (
              o.user_id IS DISTINCT FROM b.user_id OR o.event_timestamp IS DISTINCT FROM b.event_timestamp OR {differs})
            FROM {ours} AS o POSITIONAL JOIN {baseline} AS b""").fetchall()
    if wrong or rows == 0:
        raise SystemExit(f"{wrong} of {rows} rows differ between ours and {name}")
    return int(rows)


def main() -> None:
    prepare()
    taken = measure({"ours": run_ours, **{name: partial(run_baseline, name) for name in NAMES}})
    rows = {check_agreement(name) for name in NAMES}
    for name in taken:
        (FOLDER / f"{name}.parquet").unlink()
    ours = taken["ours"]
    fastest = min(NAMES, key=lambda name: taken[name].median)
    for name, measured in taken.items():
        print(f"{name}: {measured}")
    report(
        "windowed_year",
        ours.median / taken[fastest].median,
        f"{max(rows)} rows in {ours.median:.1f} s, {fastest} {taken[fastest].median:.1f} s, "
        f"peak {ours.peak_bytes / 1e9:.2f} GB against {taken[fastest].peak_bytes / 1e9:.2f} GB; at most 1.3 and 4 GB",
    )


if __name__ == "__main__":
    main()
