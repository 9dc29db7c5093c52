"""Online reads from LMDB in process, against Feast's from SQLite, the embedded store of each."""

from __future__ import annotations

from benchmarks.harness import report
from benchmarks.online_feast import compare, report_speedups


def main() -> None:
    timings = compare(
        lambda directory: f"lmdb:{directory}/online",
        lambda directory: {"type": "sqlite", "path": str(directory / "feast-online.db")},
    )
    faster, text = report_speedups(timings)
    report("online_lmdb_vs_feast", faster, f"({text}; at least 20 x from batch 100 on)")


if __name__ == "__main__":
    main()
