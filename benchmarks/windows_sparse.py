"""Every family of windowed aggregates over 2,000 keys against the best plan written by hand; see ``windows.py``."""

from __future__ import annotations

from benchmarks.windows import run_families

if __name__ == "__main__":
    run_families("windows_sparse", keys=2_000)
