"""Run kill scenarios by the thousand: ``run(options)`` deals them to workers and adds up what they found.

The states of the world are prepared once, in this process, which is warm then; every worker is forked from it and has a copy
of its own. Every failpoint gets as many scenarios as the others, at least twenty unless fewer were asked for. One that no
piece of work reaches is a violation: of the harness, or of a failpoint that guards nothing.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import select
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from itertools import product

import pyarrow as pa

from fstore.failpoints import FAILPOINTS
from scripts.servers import postgres_server, redis_server
from tests.chaos.kills import Hits, Outcome, calibrate, run_scenario
from tests.chaos.options import Options
from tests.chaos.warm import warm
from tests.chaos.world import Stores, World, shared_place

PART = "kills"
SHORT_SCENARIOS = 1_000
LONG_SCENARIOS = 10_000
LEAST_EACH = 20
LONG_ZOMBIES = 1_000
SQLITE_SHARE = 4
"""How many scenarios run on SQLite for one on PostgreSQL, where each costs several times as much."""

SHOWN = 4


def run(options: Options) -> tuple[int, int]:
    """Run the scenarios that were asked for, on every combination of stores; return how many, and how many violations."""
    if options.only and options.only.partition("#")[0] not in FAILPOINTS:
        return 0, 0
    with _stores(options) as combinations:
        total = options.scenarios or (LONG_SCENARIOS if options.long else SHORT_SCENARIOS)
        weights = [1 if stores.postgres else SQLITE_SHARE for stores in combinations]
        violations, every = 0, list[Outcome]()
        for stores, weight in zip(combinations, weights, strict=True):
            outcomes, broken = _run_on(stores, -(-total * weight // sum(weights)), options)
            every, violations = every + outcomes, violations + broken
        if len(combinations) > 1:
            _report("all", every, options)
        zombies = sum(outcome.zombie is not None for outcome in every)
        if options.long and not options.only and options.scenarios is None and zombies < LONG_ZOMBIES:
            options.violation(PART, "", f"only {zombies} zombies, wanted {LONG_ZOMBIES}")
            violations += 1
    return len(every), violations


def chosen(scenarios: int, options: Options) -> list[tuple[str, int]]:
    """Return failpoints and seeds: each failpoint equally often, in an order in which stopping early is fair."""
    if options.only:
        failpoint, _, seed = options.only.partition("#")
        return [(failpoint, int(seed))]
    least = LEAST_EACH if scenarios >= SHORT_SCENARIOS // 2 else 1
    each = max(least, -(-scenarios // len(FAILPOINTS)))
    return [(failpoint, options.seed * 1000 + number) for number in range(each) for failpoint in FAILPOINTS]


def _run_on(stores: Stores, share: int, options: Options) -> tuple[list[Outcome], int]:
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    place = shared_place()
    world = World(place / "template", stores)
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: shutil.rmtree(place, ignore_errors=True))
        stack.callback(world.clear)
        stack.enter_context(warm(place))
        world.prepare()
        hits = calibrate(world)
        never = [name for name in FAILPOINTS if not any(counts[name] for counts in hits.values())]
        for name in never:
            options.violation(PART, "", f"no piece of work reaches failpoint {name!r}: add one to tests/chaos/work.py")
        wanted = [(name, seed) for name, seed in chosen(share, options) if name not in never]
        outcomes = list(_deal(world, hits, wanted, options))
    broken = len(never) + sum(bool(outcome.violations) for outcome in outcomes)
    _report(stores.label, outcomes, options)
    return outcomes, broken


def _deal(world: World, hits: Hits, wanted: list[tuple[str, int]], options: Options) -> Iterator[Outcome]:
    """Give each worker every n-th scenario, and yield what comes back."""
    jobs = max(1, min(options.jobs, len(wanted)))
    until = None if options.seconds is None else time.monotonic() + options.seconds
    gc.collect()
    gc.freeze()
    pipes = [_worker(world, hits, wanted[number::jobs], number + 1, until) for number in range(jobs)]
    done = violations = 0
    buffers = {descriptor: b"" for descriptor, _ in pipes}
    try:
        while buffers:
            for descriptor in select.select(list(buffers), [], [])[0]:
                got = os.read(descriptor, 1 << 20)
                if not got:
                    del buffers[descriptor]
                    continue
                *lines, buffers[descriptor] = (buffers[descriptor] + got).split(b"\n")
                for line in lines:
                    outcome: Outcome = pickle.loads(bytes.fromhex(line.decode()))
                    done, violations = done + 1, violations + bool(outcome.violations)
                    if outcome.violations:
                        more = len(outcome.violations) - SHOWN
                        text = "\n  ".join([*outcome.violations[:SHOWN], *([f"and {more} more"] if more > 0 else [])])
                        options.violation(PART, f"{outcome.failpoint}#{outcome.seed}", text)
                    options.progress(PART, done, len(wanted), violations)
                    yield outcome
    finally:
        for descriptor, pid in pipes:
            os.close(descriptor)
            _, status = os.waitpid(pid, 0)
            if status:
                raise RuntimeError(f"a worker of the harness ended with status {status}")
        gc.unfreeze()


def _worker(world: World, hits: Hits, wanted: list[tuple[str, int]], number: int, until: float | None) -> tuple[int, int]:
    """Fork a worker; return the end of its pipe, and its process."""
    reads, writes = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writes)
        return reads, pid
    os.close(reads)
    status = 1
    try:
        own = world.copied(world.place.parent / f"worker-{number}", number)
        try:
            gc.disable()
            for count, (failpoint, seed) in enumerate(wanted):
                if until is not None and time.monotonic() > until:
                    break
                outcome = run_scenario(own, hits, failpoint, seed)
                os.write(writes, pickle.dumps(outcome).hex().encode() + b"\n")
                if count % 25 == 24:
                    gc.collect()
        finally:
            own.clear()
        status = 0
    except BrokenPipeError:  # nobody listens any more
        status = 0
    finally:
        os._exit(status)


def _report(where: str, outcomes: list[Outcome], options: Options) -> None:
    if options.only:
        return
    counts = Counter(outcome.failpoint for outcome in outcomes)
    actions = Counter(outcome.action for outcome in outcomes)
    zombies = Counter(outcome.zombie for outcome in outcomes if outcome.zombie)
    rarest = min(FAILPOINTS, key=lambda name: counts[name])
    print(
        f"{PART} on {where}: {len(outcomes):,} scenarios over {len(FAILPOINTS)} failpoints, at least {counts[rarest]} each "
        f"({rarest}); {', '.join(f'{count} {action}' for action, count in actions.most_common())}; "
        f"{zombies.total():,} zombies (stopped, then continued: "
        f"{', '.join(f'{count} {how}' for how, count in zombies.most_common()) or 'none'}), "
        f"{sum(outcome.overwrites for outcome in outcomes)} overwrites",
        flush=True,
    )


@contextlib.contextmanager
def _stores(options: Options) -> Iterator[list[Stores]]:
    """Start the servers that are needed, and yield every combination of stores."""
    registries = ("sqlite", "postgresql") if options.long else options.registry
    onlines = ("lmdb", "redis") if options.long else options.online
    with contextlib.ExitStack() as stack:
        postgres = stack.enter_context(postgres_server()).url if "postgresql" in registries else None
        redis = stack.enter_context(redis_server()).url if "redis" in onlines else None
        yield [
            Stores(postgres if registry == "postgresql" else None, redis if online == "redis" else None)
            for registry, online in product(registries, onlines)
        ]
