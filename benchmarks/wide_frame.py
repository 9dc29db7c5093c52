"""A wide training frame: 17,000 entity rows with 1,000 features of ten views, against the best SQL by hand.

Every view has a hundred features and a hundred thousand rows, published by one range run. By hand: a query of ten equi-joins
that knows of the daily grid, and one of ten ASOF joins, in ``baselines/wide_frame_*.sql``, over the same files; the ratio is
to the faster one. Ours is a whole read with a new client, with manifest and checksums, and may take 1 GB of memory.

FSTORE_BENCH_SCALE=0.1 takes a tenth of the rows.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from benchmarks.harness import MEBIBYTE, measure, report
from benchmarks.pit_grid import run_ours
from benchmarks.pit_stores import MILLION, content, grid, prepare, read_ours, read_sql, spine

BASELINES = Path(__file__).parent / "baselines"
PLANS = ("equi", "asof")
VIEWS, FEATURES, ENTITY_ROWS = 10, 100, 17 * MILLION // 1000
STORE = grid(MILLION // 10, daily=False, views=VIEWS, features=FEATURES)
BOUND, BOUND_BYTES = 1.3, 1024 * MEBIBYTE


def run_plan(plan: str) -> float:
    rows = spine(ENTITY_ROWS, STORE.keys)
    began = time.perf_counter()
    read_sql(STORE, (BASELINES / f"wide_frame_{plan}.sql").read_text(encoding="utf-8"), rows)
    return time.perf_counter() - began


def main() -> None:
    prepare(STORE)
    rows = spine(ENTITY_ROWS, STORE.keys)
    expected = content(read_ours(STORE, VIEWS, rows))
    for plan in PLANS:
        if content(read_sql(STORE, (BASELINES / f"wide_frame_{plan}.sql").read_text(encoding="utf-8"), rows)) != expected:
            raise SystemExit(f"the rows of {plan} differ")
    taken = measure(
        {"ours": partial(run_ours, STORE, VIEWS, ENTITY_ROWS), **{plan: partial(run_plan, plan) for plan in PLANS}}
    )
    best = min(PLANS, key=lambda plan: taken[plan].median)
    ours, theirs = taken["ours"], taken[best]
    kept = "within" if ours.peak_bytes <= BOUND_BYTES else "over"
    report("wide_frame", ours.median / theirs.median, f"bound {BOUND}; ours {ours}, {kept} 1 GB; {best} {theirs}")


if __name__ == "__main__":
    main()
