"""A server under half of its peak for ten minutes, twice: left in peace, and with its Redis killed five times.

In peace there must be no error, a flat p99 and memory that grows by at most 2 % from minute 2 on. With Redis killed, every
answer must be right or 503 with ``Retry-After``, and within five seconds of Redis' return none but right ones come. Redis
keeps an append-only file, as it must where its rows shall outlive it. FSTORE_BENCH_SOAK_SECONDS (600) is how long each part
takes; a minute is a tenth of it. Prints p99 of every minute, and the time until normal of every kill.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks.harness import MEBIBYTE, report
from benchmarks.http_load import Load, Outcome
from benchmarks.http_servers import PATH, Server, bodies, fstore_server, put_load, use_today
from benchmarks.online_reads import project
from scripts.servers import RunningServer, free_port, redis_server

SECONDS = float(os.environ.get("FSTORE_BENCH_SOAK_SECONDS", "600"))
SETTLED = SECONDS / 5
"""From here on (minute 2 of 10) memory counts."""

KILLS = 5
CONNECTIONS = 8
BATCH = 10
BACK_WITHIN = 5.0
MINUTE = SECONDS / 10


class Redis:
    """A Redis that can be killed and started again over the same append-only file."""

    def __init__(self, directory: Path) -> None:
        self._arguments = ("--appendonly", "yes", "--dir", str(directory))
        self._port = free_port()
        self._stack = ExitStack()
        self.start()

    def start(self) -> None:
        self.running: RunningServer = self._stack.enter_context(redis_server(*self._arguments, port=self._port))

    def close(self) -> None:
        self._stack.close()


class Memory(threading.Thread):
    """Looks at a server's resident memory every second."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self._server, self._stopped = server, threading.Event()
        self.seen: list[tuple[float, int]] = []

    def run(self) -> None:
        began = time.monotonic()
        while not self._stopped.wait(1.0):
            self.seen.append((time.monotonic() - began, self._server.resident_bytes()))

    def growth(self) -> float:
        """Stop, and return by which part memory grew: medians of the tenth after it had settled, and of the last one."""
        self._stopped.set()
        self.join()
        tenth = (SECONDS - SETTLED) / 10
        first = [size for at, size in self.seen if SETTLED <= at < SETTLED + tenth]
        last = [size for at, size in self.seen if SECONDS - tenth <= at]
        print(f"  resident {np.median(first) / MEBIBYTE:.1f} MB, later {np.median(last) / MEBIBYTE:.1f} MB", flush=True)
        return float(np.median(last) / np.median(first) - 1)


def main() -> None:
    use_today()
    with tempfile.TemporaryDirectory() as root:
        redis = Redis(Path(root))
        try:
            with project(Path(root), redis.running.url) as backends, fstore_server(backends.settings) as server:
                asked = bodies(BATCH)
                expected = [server.post(body) for body in asked]
                peak = put_load(_load(server, asked, expected, 10.0))
                rate = peak.right / peak.seconds / 2
                print(f"  peak {peak.right / peak.seconds:,.0f} requests/s; now {rate:,.0f}", flush=True)
                growth, tail = _in_peace(server, asked, expected, rate)
                back = _with_kills(server, redis, asked, expected, rate)
        finally:
            redis.close()
    report(
        "soak",
        growth + 1,
        f"(memory after {SECONDS:.0f} s by that after {SETTLED:.0f} s, at most 1.02; p99 of the worst minute {tail:.2f} x "
        f"the median one's; no wrong answer; Redis killed {KILLS} times: right {back:.1f} s after its return, at most 5)",
    )


def _in_peace(server: Server, asked: list[str], expected: list[str], rate: float) -> tuple[float, float]:
    """Return by which part memory grew, and p99 of the worst minute from the second on by that of the median one."""
    memory = Memory(server)
    memory.start()
    outcome = put_load(_load(server, asked, expected, SECONDS, rate))
    growth = memory.growth()
    _refuse_wrong(outcome)
    if outcome.unavailable:
        raise SystemExit(f"{outcome.unavailable} answers were 503 although the store was there")
    tails = [window.p99_ms for window in outcome.windows]
    print(
        f"  {outcome.right:,} right, none wrong; p99 by minute in ms: {' '.join(f'{tail:.1f}' for tail in tails)}",
        flush=True,
    )
    third = len(tails) // 3
    trend = np.median(tails[-third:]) / np.median(tails[:third])
    print(f"  median p99 of the last third {trend:.2f} x the first's", flush=True)
    settled = tails[1:]
    return growth, float(max(settled) / np.median(settled))


def _with_kills(server: Server, redis: Redis, asked: list[str], expected: list[str], rate: float) -> float:
    """Return the longest time from Redis' return to the last answer that was not a right one."""
    outcome: list[Outcome] = []
    load = _load(server, asked, expected, SECONDS, rate)
    thread = threading.Thread(target=lambda: outcome.append(put_load(load)))
    thread.start()
    times: list[float] = []
    pause = SECONDS / (KILLS + 1)
    for _ in range(KILLS):
        time.sleep(max(0.0, pause - 2 - BACK_WITHIN))
        redis.running.kill()
        time.sleep(2)
        redis.start()
        returned = time.monotonic()
        right_since = returned
        while time.monotonic() < returned + BACK_WITHIN:
            if not _is_right(server, asked[0], expected[0]):
                right_since = time.monotonic()
            time.sleep(0.02)
        times.append(right_since - returned)
    thread.join()
    _refuse_wrong(outcome[0])
    print(f"  {outcome[0].right:,} right, none wrong, {outcome[0].unavailable:,} times 503 with Retry-After", flush=True)
    print(f"  seconds until normal after each kill: {' '.join(f'{each:.2f}' for each in times)}", flush=True)
    if not outcome[0].unavailable:
        raise SystemExit("nothing was unavailable although Redis was killed")
    return max(times)


def _is_right(server: Server, body: str, expected: str) -> bool:
    try:
        return server.post(body) == expected
    except OSError:  # urllib's error for 503 is one
        return False


def _refuse_wrong(outcome: Outcome) -> None:
    if outcome.wrong:
        raise SystemExit(f"wrong answers: {json.dumps(outcome.wrong)}")


def _load(server: Server, asked: list[str], expected: list[str], seconds: float, rate: float | None = None) -> Load:
    return Load(
        port=server.port,
        path=PATH,
        bodies=asked,
        expected=expected,
        connections=CONNECTIONS,
        seconds=seconds,
        rate=rate,
        window_seconds=MINUTE,
    )


if __name__ == "__main__":
    main()
