"""A point-in-time join by Polars, run by ``pit_peers`` with an interpreter that has Polars and not fstore.

    python pit_peer_polars.py <folder> <spine.parquet> <result.parquet> <views>

The folder has a directory of Parquet files per view (v1, v2, …). Prints the seconds of the join and the peak of memory.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import polars as pl


def main(folder: str, spine: str, result: str, views: int) -> None:
    rows = pl.read_parquet(spine)
    began = time.perf_counter()
    joined = rows.lazy().sort("event_timestamp")
    for number in range(1, views + 1):
        # files are named in the order of time, and sorted by it
        held = pl.scan_parquet(sorted(map(str, (Path(folder) / f"v{number}").glob("*.parquet")))).set_sorted(
            "event_timestamp"
        )
        joined = joined.join_asof(held, on="event_timestamp", by="user_id", strategy="backward", check_sortedness=False)
    frame = joined.collect()
    seconds = time.perf_counter() - began
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    frame.write_parquet(result)
    print(json.dumps({"seconds": seconds, "peak_bytes": int(peak.split()[1]) * 1024}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
