"""A point-in-time join with a snapshot view against Feast over its default offline store: at least ten times faster.

100 k entity rows, one view of a million rows and ten features, published by one range run; rows are compared. Feast runs
once, in an environment of its own, and is given up after ten minutes, which then stand for it.

FSTORE_BENCH_SCALE=0.1 takes a tenth of all rows.
"""

from __future__ import annotations

from functools import partial

from benchmarks.harness import measure, report
from benchmarks.pit_grid import run_ours
from benchmarks.pit_peers import run_feast, same_rows
from benchmarks.pit_stores import MILLION, grid, prepare, read_ours, spine

DEADLINE = 600
BOUND = 0.1


def main() -> None:
    store, count = grid(MILLION, daily=False), MILLION // 10
    prepare(store)
    ours = measure({"ours": partial(run_ours, store, 1, count)})["ours"]
    feast = run_feast("dask", store, 1, count, DEADLINE)
    if feast.finished and not same_rows("feast-dask", read_ours(store, 1, spine(count, store.keys))):
        raise SystemExit("the rows of Feast differ")
    report(
        "pit_default_feast",
        feast.seconds / ours.median,
        f"times faster, at least {BOUND} wanted; ours {ours}; Feast {feast}",
    )


if __name__ == "__main__":
    main()
