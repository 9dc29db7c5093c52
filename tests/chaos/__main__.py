"""Run the chaos harness: ``python -m tests.chaos``, in the short form, or ``--long``.

Runs its parts and prints what each found. The closing line is ``<N> scenarios, <M> violations``, and the
exit code is 1 when there was a violation. A violation is printed with the seed and the failpoint that repeat it.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor

from tests.chaos.options import Options

Part = Callable[[Options], tuple[int, int]]
"""Runs one part of the harness and returns how many scenarios it ran and how many violations it found."""

PARTS: dict[str, str] = {
    "kills": "tests.chaos.campaign",
    "online-model": "tests.chaos.online_model",
    "ledger-model": "tests.chaos.ledger_model",
    "outbox-model": "tests.chaos.outbox_model",
    "interleavings": "tests.chaos.interleavings",
    "mutants": "tests.chaos.mutants",
    "publishers": "tests.chaos.publishers",
}
"""Every part by name: the module that has its ``run(options) -> (scenarios, violations)``. Imported when it is run."""

LONG_PARTS: dict[str, str] = {
    "network": "tests.chaos.network",
    "syscalls": "tests.chaos.syscalls",
    "airflow": "tests.chaos.airflow",
}
"""Parts of ``--long`` only."""

IN_ONE_PROCESS = {"online-model", "ledger-model", "outbox-model", "mutants"}
"""Parts that have one process each: as many of them run at once as there are jobs, before the others, which share the jobs."""

MOSTLY_WAITS = {"network"}
"""Parts that wait for time limits to pass nearly all the time: they run beside all the others."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts asked for and return the exit code."""
    parsed = _parser().parse_args(arguments)
    options = Options(
        scenarios=parsed.scenarios, seconds=parsed.seconds, registry=tuple(parsed.registry or ("sqlite",)),
        online=tuple(parsed.online or ("lmdb",)), long=parsed.long, jobs=parsed.jobs, only=parsed.only, quiet=parsed.quiet,
        **({} if parsed.seed is None else {"seed": parsed.seed}),
    )  # fmt: skip
    chosen = parsed.parts or list(PARTS | LONG_PARTS if options.long else PARTS)
    print(f"seed {options.seed}", flush=True)
    waiting, alone = ([name for name in chosen if name in kind] for kind in (MOSTLY_WAITS, IN_ONE_PROCESS))
    with ProcessPoolExecutor(1) as beside, ProcessPoolExecutor(max(1, options.jobs)) as pool:
        ahead = [beside.submit(_run, name, options) for name in waiting]
        results = list(pool.map(_run, alone, [options] * len(alone)))
        results += [_run(name, options) for name in chosen if name not in (*waiting, *alone)]
        results += [part.result() for part in ahead]
    scenarios, violations = (sum(numbers) for numbers in zip(*results, strict=True))
    print(f"{scenarios} scenarios, {violations} violations", flush=True)
    return 1 if violations else 0


def _run(name: str, options: Options) -> tuple[int, int]:
    """Run a part and print what it came to."""
    began = time.monotonic()
    part: Part = importlib.import_module((PARTS | LONG_PARTS)[name]).run
    ran, found = part(options)
    print(f"{name}: {ran:,} scenarios, {found:,} violations ({time.monotonic() - began:.0f} s)", flush=True)
    return ran, found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Prove that publishing survives anything.")
    parser.add_argument("--scenarios", type=int, metavar="N", help="how many scenarios each part runs")
    parser.add_argument("--seconds", type=float, metavar="S", help="after how long a part begins nothing new")
    parser.add_argument("--seed", type=int, help="what every choice follows from (default: another one each time)")
    parser.add_argument("--registry", action="append", choices=("sqlite", "postgresql"), help="may be repeated")
    parser.add_argument("--online", action="append", choices=("lmdb", "redis"), help="may be repeated")
    parser.add_argument("--long", action="store_true", help="the long form: everything, on every store")
    parser.add_argument("--jobs", type=int, default=2, help="how many processes run scenarios at once (default: 2)")
    parser.add_argument("--parts", nargs="+", choices=sorted(PARTS | LONG_PARTS), help="run these parts only")
    parser.add_argument("--only", metavar="FAILPOINT#SEED", help="repeat one scenario of a violation")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    return parser


if __name__ == "__main__":
    sys.exit(main())
