"""Counts, sums and averages over 100 keys against a plain join of intervals with events: how many times faster tiles are.

The ratio is ours to the naive join, at most 0.1; see ``windows.py``. The join pairs every event with 90 intervals.
"""

from __future__ import annotations

from functools import partial

from benchmarks.harness import measure, report
from benchmarks.windows import check_agreement, prepare, run_baseline, run_ours

KEYS = 100

if __name__ == "__main__":
    prepare(KEYS)
    taken = measure({"ours": partial(run_ours, KEYS, "sums"), "naive": partial(run_baseline, KEYS, "windows_naive")}, runs=1)
    rows = check_agreement(KEYS, "sums", "windows_naive")
    ours, naive = taken["ours"].median, taken["naive"].median
    detail = f"{rows} rows in {ours:.2f} s, the join {naive:.2f} s: {naive / ours:.1f} times faster; at least 10"
    report("windows_hot_vs_naive", ours / naive, detail)
