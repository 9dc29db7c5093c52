"""Online reads from Redis in process, against Feast's from the same Redis."""

from __future__ import annotations

from benchmarks.harness import report
from benchmarks.online_feast import compare, report_speedups
from scripts.servers import redis_server


def main() -> None:
    with redis_server() as server:
        feast = {"type": "redis", "connection_string": f"127.0.0.1:{server.port},db=1"}
        timings = compare(lambda _: server.url, lambda _: feast)
    faster, text = report_speedups(timings)
    report("online_redis_vs_feast", faster, f"({text}; at least 5 x at batch 10, 15 x from batch 100 on)")


if __name__ == "__main__":
    main()
