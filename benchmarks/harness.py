"""Measure variants of the same work side by side.

Takes functions that do the same thing in different ways and runs them in turn, several times, each run in a fresh process,
so that the peak memory of a run is its own and a slow moment of the machine hits every variant alike. Gives the medians,
and prints the line that ``make bench`` collects. Does not prepare data and does not check that the variants agree: a
benchmark does both before it measures.

    python -m benchmarks.windowed_year          # from the repository's root
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

MEBIBYTE = 1024 * 1024
BUILD = Path(__file__).resolve().parent.parent / "build" / "benchmarks"
"""Where benchmarks keep generated data between runs; ignored by git."""

RATIOS = BUILD / "ratios"
"""Where each benchmark leaves its ratio, for the plot."""

Work = Callable[[], float | None]
"""What a variant does. A module-level function, or a ``functools.partial`` of one, because it is sent to a fresh process.

Its whole call is timed, unless it returns the seconds that it measured itself.
"""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The runs of one variant: seconds in the order measured, and the largest resident memory of any run.

    ``cpu_seconds`` are those of whole processes, start included: on a busy machine they say more than the clock.
    """

    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]
    peak_bytes: int

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def cpu(self) -> float:
        """The median of the processor seconds."""
        return statistics.median(self.cpu_seconds)

    def __str__(self) -> str:
        runs = " ".join(f"{second:.3g}" for second in self.seconds)
        cpu = statistics.median(self.cpu_seconds)
        return f"{self.median:.3g} s (runs {runs}; CPU {cpu:.3g} s), peak {self.peak_bytes // MEBIBYTE} MB"


def measure(variants: Mapping[str, Work], *, runs: int | None = None) -> dict[str, Measured]:
    """Run every variant ``runs`` times (default: FSTORE_BENCH_RUNS, else 3), interleaved, and print each as it is known."""
    count = runs or int(os.environ.get("FSTORE_BENCH_RUNS", "3"))
    taken: dict[str, list[_Run]] = {name: [] for name in variants}
    for number in range(count):
        for name, work in variants.items():
            run = _in_fresh_process(name, work)
            taken[name].append(run)
            print(
                f"  run {number + 1}/{count} {name}: {run.seconds:.3g} s, CPU {run.cpu_seconds:.3g} s, "
                f"peak {run.peak_bytes // MEBIBYTE} MB",
                flush=True,
            )
    return {
        name: Measured(
            seconds=tuple(run.seconds for run in runs),
            cpu_seconds=tuple(run.cpu_seconds for run in runs),
            peak_bytes=max(run.peak_bytes for run in runs),
        )
        for name, runs in taken.items()
    }


def report(name: str, ratio: float, detail: str) -> None:
    """Print the benchmark's result, and leave it for the plot; nothing may be printed after it."""
    if "FSTORE_BENCH_SCALE" not in os.environ:  # the figures of the documentation are of whole benchmarks
        RATIOS.mkdir(parents=True, exist_ok=True)
        (RATIOS / f"{name}.json").write_text(f"{ratio:.4g}", encoding="utf-8")
    print(f"{name} ratio={ratio:.3f} {detail}", flush=True)


class _Run(NamedTuple):
    seconds: float
    cpu_seconds: float
    peak_bytes: int


def _in_fresh_process(name: str, work: Work) -> _Run:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, work))
    process.start()
    sender.close()
    try:
        run: _Run = receiver.recv()
    except EOFError:
        process.join()
        raise SystemExit(f"variant {name!r} failed: its process ended with {process.exitcode}") from None
    process.join()
    return run


def _child(sender: multiprocessing.connection.Connection, work: Work) -> None:
    began = time.perf_counter()
    own = work()
    seconds = time.perf_counter() - began if own is None else own
    sender.send(_Run(seconds, time.process_time(), _peak_bytes()))


def _peak_bytes() -> int:
    """Return this process's largest resident memory. The kernel's own mark: getrusage also counts the parent before exec."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
