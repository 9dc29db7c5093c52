"""Online reads from LMDB in process, against gets in one transaction with a decoder written by hand.

Batches of 1, 10, 100 and 1,000 users by 10 and 50 features; the worst shape counts, by the median and by p99/p50.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import lmdb

from benchmarks.harness import report
from benchmarks.online_reads import (
    BATCHES,
    SEQUENCE,
    WIDTHS,
    check,
    codec,
    hand_written,
    project,
    reader,
    rows,
    time_both,
)


def main() -> None:
    timings = []
    with tempfile.TemporaryDirectory() as root, project(Path(root), f"lmdb:{root}/online") as backends:
        for width in WIDTHS:
            with lmdb.open(f"{root}/raw-{width}", map_size=1 << 30, readahead=False) as environment:
                table = rows(width)
                with environment.begin(write=True) as transaction, transaction.cursor() as cursor:
                    own = codec(width)
                    cursor.putmulti(zip(own.encode_keys(table), own.encode_rows(table, SEQUENCE), strict=True))

                def get(keys: list[bytes], environment: lmdb.Environment = environment) -> list[bytes | None]:
                    with environment.begin() as transaction:
                        return [transaction.get(key) for key in keys]

                ours, theirs = reader(backends, width), hand_written(width, get)
                check(ours, theirs, width)
                for batch in BATCHES:
                    timings.append(time_both(ours, theirs, width, batch))
                    print(f"  {timings[-1]}", flush=True)
    worst = max(timings, key=lambda timing: timing.ratio)
    tail = max(timings, key=lambda timing: timing.tail_ratio)
    report(
        "online_lmdb",
        worst.ratio,
        f"(worst shape: {worst.width} features, batch {worst.batch}; p99/p50 at worst {tail.tail_ratio:.2f} x raw's own, at "
        f"{tail.width} features, batch {tail.batch}; at most 2.0)",
    )


if __name__ == "__main__":
    main()
