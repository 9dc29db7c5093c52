"""Online reads from Redis in process, against MGET with a decoder written by hand.

Batches of 1, 10, 100 and 1,000 users by 10 and 50 features; the worst shape counts, by the median and by p99/p50.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import redis

from benchmarks.harness import report
from benchmarks.online_reads import BATCHES, PROJECT, WIDTHS, check, hand_written, project, reader, time_both, view_name
from scripts.servers import redis_server


def main() -> None:
    timings = []
    with (
        redis_server() as server,
        tempfile.TemporaryDirectory() as root,
        redis.Redis.from_url(server.url) as client,
        project(Path(root), server.url) as backends,
    ):
        for width in WIDTHS:
            prefix = f"fstore:{PROJECT}:row:{view_name(width)}:1:".encode()
            theirs = hand_written(width, lambda keys, prefix=prefix: client.mget([prefix + key for key in keys]))
            ours = reader(backends, width)
            check(ours, theirs, width)
            for batch in BATCHES:
                timings.append(time_both(ours, theirs, width, batch))
                print(f"  {timings[-1]}", flush=True)
    worst = max(timings, key=lambda timing: timing.ratio)
    tail = max(timings, key=lambda timing: timing.tail_ratio)
    report(
        "online_redis",
        worst.ratio,
        f"(worst shape: {worst.width} features, batch {worst.batch}; p99/p50 at worst {tail.tail_ratio:.2f} x raw's own, at "
        f"{tail.width} features, batch {tail.batch}; at most 1.5 each)",
    )


if __name__ == "__main__":
    main()
