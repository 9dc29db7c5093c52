"""Run all benchmarks one after the other, or the one that is named: ``python -m benchmarks.run [name]``."""

from __future__ import annotations

import subprocess
import sys

BENCHMARKS = ("import_time", "dag_parse", "lmdb_write", "redis_write", "windowed_year", "windows_sparse",
              "windows_hot", "windows_hot_vs_naive", "publish_share",
              "pit_grid_10m", "pit_grid_1m", "pit_irregular", "wide_frame",
              "pit_best_peer", "pit_default_feast", "exact_windows", "online_redis", "online_lmdb",
              "online_redis_vs_feast", "online_lmdb_vs_feast", "http_vs_bare", "http_vs_feast", "soak")  # fmt: skip


def main(arguments: list[str]) -> int:
    """Run the benchmarks, each in a process of its own; return 1 if one of them failed."""
    unknown = [name for name in arguments if name not in BENCHMARKS]
    if unknown:
        sys.stderr.write(f"no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}\n")
        return 2
    failed = False
    for name in arguments or BENCHMARKS:
        print(f"== {name}", flush=True)
        failed |= subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
