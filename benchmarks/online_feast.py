"""Online reads against Feast's, side by side: what ``online_redis_vs_feast`` and ``online_lmdb_vs_feast`` share.

Feast 0.67 runs in an environment of its own, as another process over the same rows in the store of its kind. Both sides end
in numpy arrays and masks of nulls; Feast's are made of the lists that it gives soonest. Bursts of calls of both sides
alternate: three of Feast's, ten of fstore's.
"""

from __future__ import annotations

import json
import math
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import pyarrow.parquet as pq

from benchmarks import online_reads
from benchmarks.online_reads import WIDTHS, Reader, Timing, columns, project, reader, rows, sample
from benchmarks.peers import FEAST, peer_python

BATCHES = (10, 100, 1000)
USERS = 5_000
"""Fewer than where the hand-written reader is the other side: Feast takes long to write."""


class Feast:
    """Feast in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._asked, self._answers = cast("IO[str]", process.stdin), cast("IO[str]", process.stdout)

    def seconds(self, width: int, users: list[str]) -> float:
        return float(cast("float", self._call(width=width, users=users)))

    def values(self, width: int, users: list[str]) -> dict[str, list[object]]:
        return cast("dict[str, list[object]]", self._call(width=width, users=users, values=True))

    def wait(self) -> None:
        if self._answers.readline().strip() != "ready":
            raise SystemExit("Feast could not be filled; its messages are above")

    def _call(self, **call: object) -> object:
        self._asked.write(json.dumps(call) + "\n")
        self._asked.flush()
        return json.loads(self._answers.readline())


@contextmanager
def feast(directory: Path, online_store: Mapping[str, object]) -> Iterator[Feast]:
    """Run Feast over the rows of both views in a store of its own."""
    files = []
    for width in WIDTHS:
        files.append(str(directory / f"{width}.parquet"))
        pq.write_table(rows(width), files[-1])
    script = Path(__file__).with_name("feast_online.py")
    command = [str(peer_python("feast", FEAST)), str(script), str(directory), *files]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        running = Feast(process)
        running._asked.write(json.dumps(online_store) + "\n")
        running._asked.flush()
        try:
            running.wait()
            yield running
        finally:
            process.kill()


def compare(online_url: Callable[[Path], str], online_store: Callable[[Path], Mapping[str, object]]) -> list[Timing]:
    """Time both on every shape, after looking whether they agree."""
    online_reads.USERS = USERS
    timings = []
    with tempfile.TemporaryDirectory() as root:
        directory = Path(root)
        with project(directory, online_url(directory)) as backends, feast(directory, online_store(directory)) as other:
            for width in WIDTHS:
                ours = reader(backends, width)
                _check(ours, other, width)
                for batch in BATCHES:
                    timings.append(_time(ours, other, width, batch))
                    print(f"  {timings[-1]}, {1 / timings[-1].ratio:.1f} x faster", flush=True)
    return timings


def report_speedups(timings: list[Timing]) -> tuple[float, str]:
    """Return how many times as fast the worst shape from batch 100 on is, and all of it as text."""
    worst = {batch: min(1 / timing.ratio for timing in timings if timing.batch == batch) for batch in BATCHES}
    text = ", ".join(f"batch {batch} {faster:.1f} x" for batch, faster in worst.items())
    return min(faster for batch, faster in worst.items() if batch >= 100), f"faster than Feast 0.67: {text}"


def _check(ours: Reader, other: Feast, width: int) -> None:
    users = [name for name in sample(200, random.Random(1)) if int(name.removeprefix("user-")) < USERS]
    values, nulls = ours(users)
    theirs = other.values(width, users)
    for column in columns(width):
        for place, (mine, null) in enumerate(zip(values[column.name].tolist(), nulls[column.name].tolist(), strict=True)):
            found = theirs[column.name][place]
            nothing = found is None or (isinstance(found, float) and math.isnan(found))
            if nothing != null or (not null and found != mine):
                raise SystemExit(f"the two differ in {column.name} of {users[place]}: {mine!r} and {found!r}")


def _time(ours: Reader, other: Feast, width: int, batch: int) -> Timing:
    generator = random.Random(batch)
    requests = [sample(batch, generator) for _ in range(20)]
    own: list[float] = []
    theirs: list[float] = []
    until = time.perf_counter() + 6
    number = 0
    while number < 6 or (time.perf_counter() < until and number < 100):
        users = [requests[(number + each) % len(requests)] for each in range(10)]
        theirs += [other.seconds(width, some) for some in users[:3]]
        for some in users:
            began = time.perf_counter()
            ours(some)
            own.append(time.perf_counter() - began)
        number += 1
    return Timing(width=width, batch=batch, ours=own, theirs=theirs)
