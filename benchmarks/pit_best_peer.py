"""Point-in-time joins with snapshot views against the faster of Polars and Feast over DuckDB, in environments of their own.

The shapes of ``pit_grid_10m`` and ``pit_grid_1m``: stores have a row per key and day, so that rows are equal; they are
compared. Polars reads and joins lazily with as many threads as we have, and need not give its rows in order. Feast gets ten
times as long as Polars takes (at least a minute) and is given up then, as it is not the faster one. The ratio is that of the
worst shape to the faster peer; memory may be that of the one that takes more.

FSTORE_BENCH_SCALE=0.1 takes a tenth of all rows; FSTORE_BENCH_SHAPES=1m-range-100k-1,10m-daily-1m-3 only some shapes;
FSTORE_BENCH_FEAST=0 leaves Feast out.
"""

from __future__ import annotations

import os
import statistics
from functools import partial

from benchmarks.harness import MEBIBYTE, measure, report
from benchmarks.pit_grid import run_ours, shapes
from benchmarks.pit_peers import PeerRun, run_feast, run_polars, same_rows
from benchmarks.pit_stores import MILLION, Store, prepare, read_ours, spine

BOUND = 1.0
RUNS = int(os.environ.get("FSTORE_BENCH_RUNS", "3"))
FEAST = os.environ.get("FSTORE_BENCH_FEAST", "1") == "1"


def chosen() -> dict[str, tuple[Store, int, int]]:
    """Return store, views and entity rows by the name of each shape."""
    only = os.environ.pop("FSTORE_BENCH_SHAPES", "")
    every = {
        f"{size}-{name}": shape
        for size, rows in (("1m", MILLION), ("10m", 10 * MILLION))
        for name, shape in shapes(rows).items()
    }
    return {name: every[name] for name in only.split(",")} if only else every


def main() -> None:
    results: dict[str, tuple[float, float, str]] = {}
    for shape, (store, views, count) in chosen().items():
        prepare(store)
        print(f"{shape}: {count} entity rows, {views} view(s) of {store.rows} rows", flush=True)
        ours, polars = [], []
        for _ in range(RUNS):
            ours.append(measure({"ours": partial(run_ours, store, views, count)}, runs=1)["ours"])
            polars.append(run_polars(store, views, count, 600))
            print(f"  Polars: {polars[-1]}", flush=True)
        expected = read_ours(store, views, spine(count, store.keys))
        if not same_rows("polars", expected):
            raise SystemExit(f"{shape}: the rows of Polars differ")
        peer = PeerRun(
            statistics.median(run.seconds for run in polars), max(run.peak_bytes for run in polars), finished=True
        )
        feast = run_feast("duckdb", store, views, count, max(60.0, 10 * peer.seconds)) if FEAST else None
        print(f"  Feast on DuckDB: {feast}", flush=True)
        if feast is not None and feast.finished and not same_rows("feast-duckdb", expected):
            raise SystemExit(f"{shape}: the rows of Feast differ")
        seconds = statistics.median(run.median for run in ours)
        peak = max(run.peak_bytes for run in ours)
        fastest = min(peer.seconds, feast.seconds if feast is not None and feast.finished else peer.seconds)
        most = max(peer.peak_bytes, feast.peak_bytes if feast is not None else 0)
        detail = f"{seconds:.3g} s, {peak // MEBIBYTE} MB; Polars {peer}; Feast {feast}"
        results[shape] = (seconds / fastest, peak / most, detail)
        print(f"  {shape} ratio {results[shape][0]:.3f}, memory {results[shape][1]:.3f}", flush=True)
    worst = max(results, key=lambda shape: results[shape][0])
    memory = max(results, key=lambda shape: results[shape][1])
    report(
        "pit_best_peer", results[worst][0],
        f"bound {BOUND}; worst {worst}: ours {results[worst][2]}; worst memory {results[memory][1]:.2f} ({memory}); "
        + " ".join(f"{shape}={ratio:.2f}" for shape, (ratio, _, _) in results.items()),
    )  # fmt: skip


if __name__ == "__main__":
    main()
