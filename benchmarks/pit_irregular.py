"""Point-in-time joins with event views against the best of three plans by hand over the same published files.

Ten million events of ten features at times of their own, of 100 k keys (and of 1 k, each with ten thousand events), joined
with {1 k, 100 k, 1 M} entity rows. By hand: an ASOF join, a hash join with arg_max, and a narrow ASOF join with the features
fetched afterwards, in ``baselines/pit_irregular_*.sql``. The hash join is left out where it would make more than 30 million
pairs. The ratio is that of the worst shape, to the fastest plan of that shape.

FSTORE_BENCH_SCALE=0.1 takes a tenth of all rows; FSTORE_BENCH_SHAPES=100k-1k only some shapes.
"""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

from benchmarks.harness import Measured, measure, report
from benchmarks.pit_grid import run_ours
from benchmarks.pit_stores import MILLION, Store, View, content, prepare, read_ours, read_sql, spine

BASELINES = Path(__file__).parent / "baselines"
PLANS = ("asof", "arg_max", "narrow")
MOST_PAIRS = 30_000_000
BOUND = 1.15

STORES = {
    "100k": Store(10 * MILLION, MILLION // 10, (View("e1", "event"),)),
    "1k": Store(10 * MILLION, max(1, MILLION // 1000), (View("e1", "event"),)),
}
SPINES = {"1k": max(1, MILLION // 1000), "100k": MILLION // 10, "1m": MILLION}
SHAPES = os.environ.get("FSTORE_BENCH_SHAPES", "100k-1k,100k-100k,100k-1m,1k-1k,1k-100k").split(",")
"""Keys of the view and entity rows."""


def plans(store: Store, entity_rows: int) -> list[str]:
    """Return the plans that a shape is measured with."""
    pairs = entity_rows * store.rows // store.keys // 2
    return [plan for plan in PLANS if plan != "arg_max" or pairs <= MOST_PAIRS]


def baseline(plan: str) -> str:
    return (BASELINES / f"pit_irregular_{plan}.sql").read_text(encoding="utf-8")


def run_plan(store: Store, plan: str, entity_rows: int) -> float:
    import duckdb  # noqa: F401

    rows = spine(entity_rows, store.keys)
    began = time.perf_counter()
    read_sql(store, baseline(plan), rows)
    return time.perf_counter() - began


def main() -> None:
    ratios: dict[str, tuple[float, str, Measured, Measured]] = {}
    for shape in SHAPES:
        keys, size = shape.split("-")
        store, count = STORES[keys], SPINES[size]
        prepare(store)
        rows = spine(count, store.keys)
        expected = content(read_ours(store, 1, rows))
        for plan in plans(store, count):
            if content(read_sql(store, baseline(plan), rows)) != expected:
                raise SystemExit(f"{shape}: the rows of {plan} differ")
        print(f"{shape}: {count} entity rows, {store.rows} events of {store.keys} keys", flush=True)
        variants = {plan: partial(run_plan, store, plan, count) for plan in plans(store, count)}
        taken = measure({"ours": partial(run_ours, store, 1, count), **variants})
        best = min(variants, key=lambda plan: taken[plan].median)
        ratios[shape] = (taken["ours"].median / taken[best].median, best, taken["ours"], taken[best])
        print(f"  {shape} ratio {ratios[shape][0]:.3f} to {best}", flush=True)
    worst = max(ratios, key=lambda shape: ratios[shape][0])
    ratio, best, ours, theirs = ratios[worst]
    every = " ".join(f"{shape}={found[0]:.2f}({found[1]})" for shape, found in ratios.items())
    report("pit_irregular", ratio, f"bound {BOUND}; worst {worst}: ours {ours}, {best} {theirs}; {every}")


if __name__ == "__main__":
    main()
