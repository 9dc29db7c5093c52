"""Families of windowed aggregates against plans written by hand for exactly the same question.

What the benchmarks ``windows_sparse`` (2,000 keys), ``windows_hot`` (100 keys) and ``windows_hot_vs_naive`` share: 10
million events, 365 daily intervals, {7, 30, 90} days. Both sides read the same Parquet file and write the same rows into
one Parquet file of the same layout, with two threads and the same memory. Ours makes tiles from the events and computes the
windows from them, through the engine as a run would; the baselines are ``baselines/windows_<family>_*.sql``, run by bare
DuckDB, and the ratio is to the fastest of a family. Rows are compared, floats to 1e-12.

FSTORE_BENCH_SCALE=0.1 takes a tenth of the events; FSTORE_BENCH_FAMILIES=lists,moments only some families.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import duckdb

from benchmarks.harness import BUILD, Measured, measure, report
from fstore.arrow import arrow_schema
from fstore.definitions.source import ParquetSource
from fstore.engines.duckdb import ROW_GROUP_ROWS, DuckDBEngine
from fstore.engines.engine import EventRelation, IntervalsRelation, Query
from fstore.interval import Schedule
from fstore.plan.tile_queries import over_events
from fstore.plan.tile_states import TileDraft
from fstore.plan.window_features import WindowFeature
from fstore.plan.windows import all_events, compile_windows
from fstore.types import Column

EVENTS = int(10_000_000 * float(os.environ.get("FSTORE_BENCH_SCALE", "1")))
START, END = datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
FIRST_EVENT = START + timedelta(days=1) - timedelta(days=90)
BASELINES = Path(__file__).parent / "baselines"
WINDOWS = (7, 30, 90)
ORDER = "event_timestamp, user_id"
LIMITS = {"threads": 2, "memory_limit": "3300MB"}
SOURCE = ParquetSource("events", path="events.parquet", event_time="event_time")

FAMILIES: dict[str, tuple[tuple[str, dict[str, object]], ...]] = {
    "sums": (("count", {}), ("sum", {}), ("avg", {})),
    "extremes": (("min", {}), ("max", {})),
    "outermost": (("first", {}), ("last", {})),
    "moments": (("variance", {}), ("stddev", {}), ("skew", {})),
    "histogram": (("histogram", {"edges": (1000.0, 2000.0, 3000.0, 5000.0, 7000.0, 9000.0)}),),
    "decay": (("decayed_sum", {"half_life": timedelta(days=7)}),),
    "lists": (("last_k", {"limit": 10}), ("first_k", {"limit": 10})),
    "distinct": (("count_distinct", {"argument": "item"}),),
    "approximate": (("approx_count_distinct", {"argument": "item"}),),
    "favourites": (("top_k", {"argument": "category", "limit": 3}),),
    "categories": (("count", {"by": '"category"'}),),
    "category_sums": (("sum", {"by": '"category"'}),),
    "percentiles": (("approx_percentile", {"percentile": 0.5}),),
}
"""Functions that are computed together, with their parameters. The argument is the amount unless they say another."""

COLUMNS = {"amount": "float64", "category": "string", "item": "int32"}
RESULTS = {"count": "int64", "histogram": "list<int64>", "last_k": "list<float64>", "first_k": "list<float64>",
           "count_distinct": "int64", "approx_count_distinct": "int64", "top_k": "list<string>"}  # fmt: skip
APPROXIMATE = {"approx_count_distinct": 0.055, "approx_percentile": 0.01}
"""How far an estimate may be from the exact value: five standard errors and one, and what buckets promise."""


def folder(keys: int) -> Path:
    """Return where the data of a benchmark lies."""
    return BUILD / f"events_by_item_{EVENTS}_{keys}"


def prepare(keys: int) -> None:
    """Write the events once, in the order of time as a log has them; the same on every machine."""
    path = folder(keys)
    if (path / "events.parquet").exists():
        return
    path.mkdir(parents=True, exist_ok=True)
    micros = (END - FIRST_EVENT) // timedelta(microseconds=1)
    with duckdb.connect(config={**LIMITS, "temp_directory": str(path / "spill")}) as connection:
        connection.execute(f"""
            COPY (
              SELECT
                'u' || lpad(CAST(hash(i, 1) % {keys} AS VARCHAR), 6, '0') AS user_id,
                make_timestamptz({FIRST_EVENT.timestamp() * 1e6:.0f} + CAST(hash(i, 2) % {micros} AS BIGINT)) AS event_time,
                CAST(hash(i, 3) % 1000003 AS DOUBLE) / 101 AS amount,
                'category ' || CAST(floor(20 * pow((hash(i, 4) % 1000000) / 1e6, 2)) AS INTEGER) AS category,
                CAST(floor(10000 * pow((hash(i, 5) % 1000000) / 1e6, 3)) AS INTEGER) AS item
              FROM range({EVENTS}) AS events(i)
              ORDER BY event_time, user_id
            ) TO '{path}/events.tmp' (FORMAT parquet)""")
    (path / "events.tmp").rename(path / "events.parquet")


def features(family: str) -> list[WindowFeature]:
    """Return the features of a family."""
    return [_feature(function, days, parameters) for function, parameters in FAMILIES[family] for days in WINDOWS]


def _feature(function: str, days: int, parameters: Mapping[str, object]) -> WindowFeature:
    more = {name: value for name, value in parameters.items() if name != "argument"}
    argument = str(parameters.get("argument", "amount")) if function != "count" else None
    read = [column for column in ("category", argument) if column and (column == argument or "by" in parameters)]
    result = RESULTS.get(function, "float64")
    return WindowFeature(
        name=f"{function}_{days}d", function=function, argument=None if argument is None else f'"{argument}"',  # type: ignore[arg-type]
        argument_type=None if argument is None else COLUMNS[argument], window=timedelta(days=days),
        type=f"map<string,{result}>" if "by" in parameters else result, columns=tuple(read), **more,  # type: ignore[arg-type]
    )  # fmt: skip


def run_ours(keys: int, family: str) -> float:
    """Compile, compute and write through the engine; return the seconds."""
    path, began = folder(keys), time.perf_counter()
    wanted = features(family)
    draft = TileDraft(
        source=SOURCE, keys=("user_id",), event_time="event_time", length=timedelta(days=1), coarse=timedelta(days=30)
    )
    compiled = compile_windows(draft, wanted, (), [feature.name for feature in wanted])
    columns = [Column(name="user_id", type="string"), Column(name="event_timestamp", type="timestamp")]
    columns += [Column(name=feature.name, type=feature.type or "") for feature in wanted]
    first = FIRST_EVENT - timedelta(days=1)
    events = EventRelation(
        source=SOURCE, start=first, end=END, columns=all_events(compiled.tiles).columns, keys=("user_id",)
    )
    intervals = IntervalsRelation(intervals=tuple(Schedule.parse("@daily").intervals(START, END)))
    query = Query(sql=over_events(compiled.tiles, compiled.range), relations={"events": events, "intervals": intervals})
    engine = DuckDBEngine(memory_limit="3300MB", threads=2, spill_dir=str(path / "spill"), root=str(path))
    engine.write(query, str(path / f"ours_{family}.parquet"), schema=arrow_schema(columns), sort_by=ORDER.split(", "))
    engine.close()
    return time.perf_counter() - began


def run_baseline(keys: int, name: str) -> float:
    """Run a plan written by hand; return the seconds."""
    sql = (BASELINES / f"{name}.sql").read_text(encoding="utf-8")
    source = folder(keys)
    path, began = source / f"{name}.parquet", time.perf_counter()
    with duckdb.connect(config={**LIMITS, "temp_directory": str(source / "spill")}) as connection:
        connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        connection.execute(f"CREATE VIEW events AS FROM read_parquet('{source}/events.parquet')")
        intervals = list(Schedule.parse("@daily").intervals(START, END))
        connection.execute(  # in one piece: a row at a time takes 0.1 s, which would be the plan's
            "CREATE TABLE intervals AS SELECT unnest(?) AS interval_start, unnest(?) AS interval_end",
            [[interval.start for interval in intervals], [interval.end for interval in intervals]],
        )
        connection.execute(
            f"COPY (FROM ({sql}) ORDER BY {ORDER}) TO '{path}' "
            f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP_ROWS})"
        )
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return time.perf_counter() - began


def check_agreement(keys: int, family: str, name: str) -> int:
    """Compare what both wrote row by row, in their order; return the number of rows."""
    differs = " OR ".join(_differs(feature) for feature in features(family))
    path = folder(keys)
    with duckdb.connect(config=LIMITS) as connection:
        ((rows, wrong),) = connection.execute(f"""
            SELECT count(*), count(*) FILTER (
              o.user_id IS DISTINCT FROM b.user_id OR o.event_timestamp IS DISTINCT FROM b.event_timestamp OR {differs})
            FROM read_parquet('{path}/ours_{family}.parquet') AS o POSITIONAL JOIN read_parquet('{path}/{name}.parquet') AS b
            """).fetchall()
    if wrong or rows == 0:
        raise SystemExit(f"{wrong} of {rows} rows differ between ours and {name}")
    return int(rows)


def _differs(feature: WindowFeature) -> str:
    ours, theirs = f"o.{feature.name}", f"b.{feature.name}"
    if feature.function in APPROXIMATE:
        allowed = f"{APPROXIMATE[feature.function]} * abs({theirs}) + {int(feature.type == 'int64')}"
        return f"({ours} IS NULL) <> ({theirs} IS NULL) OR abs({ours} - {theirs}) > {allowed}"
    if feature.type == "map<string,float64>":
        pairs = f"list_zip(map_values({ours}), map_values({theirs}))"
        apart = f"list_transform({pairs}, lambda p: abs(p[1] - p[2]) > 1e-12 * abs(p[2]))"
        return f"map_keys({ours}) IS DISTINCT FROM map_keys({theirs}) OR list_contains({apart}, true)"
    if feature.type != "float64":
        return f"{ours} IS DISTINCT FROM {theirs}"
    # A skewness near zero is small against its terms.
    allowed = f"1e-12 * greatest(1, abs({theirs}))" if feature.function == "skew" else f"1e-12 * abs({theirs})"
    return f"({ours} IS NULL) <> ({theirs} IS NULL) OR abs({ours} - {theirs}) > {allowed}"


def baselines(family: str) -> list[str]:
    """Return the names of the plans written by hand for a family."""
    return sorted(path.stem for path in BASELINES.glob(f"windows_{family}_*.sql"))


def compare(keys: int, family: str) -> tuple[Measured, str, Measured, int]:
    """Measure a family; return ours, the fastest plan written by hand with its figures, and the number of rows."""
    names = baselines(family)
    taken = measure({"ours": partial(run_ours, keys, family), **{name: partial(run_baseline, keys, name) for name in names}})
    rows = max(check_agreement(keys, family, name) for name in names)
    fastest = min(names, key=lambda name: taken[name].median)
    for name, measured in taken.items():
        print(f"{family} {name}: {measured}", flush=True)
    return taken["ours"], fastest, taken[fastest], rows


def run_families(benchmark: str, keys: int, families: Sequence[str] | None = None) -> None:
    """Measure all families and report the worst."""
    chosen = os.environ.get("FSTORE_BENCH_FAMILIES", "")
    prepare(keys)
    ratios: dict[str, float] = {}
    details: dict[str, str] = {}
    for family in families or (chosen.split(",") if chosen else FAMILIES):
        ours, name, best, rows = compare(keys, family)
        ratios[family] = ours.median / best.median
        details[family] = f"{rows} rows in {ours.median:.2f} s, {name} {best.median:.2f} s"
        print(f"{family}: ratio {ratios[family]:.3f}, {details[family]}", flush=True)
    worst = max(ratios, key=lambda family: ratios[family])
    every = ", ".join(f"{family} {ratio:.2f}" for family, ratio in ratios.items())
    report(benchmark, ratios[worst], f"worst of {every}: {worst}, {details[worst]}; at most 1.3")
