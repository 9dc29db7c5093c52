"""Eight processes publish at once, and nothing fails, is lost or comes twice.

Each process publishes intervals of its own and, every fourth time, one that all of them want; all share one registry. At the
end the log has no gap, later publications of an interval are of later attempts, and every publication has its entry in the
outbox and its lineage event.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from fstore.interval import Interval
from fstore.registry.records import Published
from fstore.registry.registry import Registry, create_registry, open_registry
from fstore.registry.tables import attempts, lineage_events, outbox, publications
from scripts.servers import ServerMissing, postgres_server
from tests.chaos.options import Options
from tests.registry.examples import PROJECT, aggregate, data_file, days, example_plan, verdict
from tests.registry.test_lineage_log import A, B, event

PROCESSES, PUBLISHES = 8, 400
SHORT = 10
"""How many publishes each process makes in the short form."""


def run(options: Options) -> tuple[int, int]:
    """Let the processes publish into every registry asked for; a scenario is one publish."""
    scenarios = violations = 0
    each = PUBLISHES if options.long else SHORT
    if options.scenarios is not None:
        each = max(1, options.scenarios // PROCESSES)
    for kind in ("sqlite", "postgresql") if options.long else options.registry:
        with _registry(kind) as url:
            if url is None:
                print(f"publishers: {kind} skipped: no server is installed")
                continue
            found = publish_at_once(url, PROCESSES, each)
            scenarios += PROCESSES * each
            violations += len(found)
            for text in found:
                options.violation("publishers", kind, f"{kind}: {text}")
            options.progress("publishers", scenarios, None, violations)
    return scenarios, violations


def publish_at_once(url: str, processes: int, each: int) -> list[str]:
    """Publish from many processes into a registry that is created for it, and return what is wrong afterwards."""
    with create_registry(url, PROJECT) as registry:
        registry.register(example_plan())
        context = multiprocessing.get_context("fork")
        failures = context.SimpleQueue()
        workers = [context.Process(target=_publish, args=(url, number, each, failures)) for number in range(processes)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        found = [
            f"process {number} ended with {worker.exitcode}" for number, worker in enumerate(workers) if worker.exitcode
        ]
        while not failures.empty():
            found.append(failures.get())
        return found + wrong(registry, processes * each)


def wrong(registry: Registry, expected: int) -> list[str]:
    """Return what is wrong with the log, the outbox and the lineage events after so many publishes."""
    with registry._database.reading() as connection:
        log = connection.execute(sa.select(publications).order_by(publications.c.sequence)).all()
        queued = connection.execute(sa.select(outbox.c.sequence)).scalars().all()
        events = connection.scalar(sa.select(sa.func.count()).select_from(lineage_events)) or 0
        states = connection.execute(sa.select(attempts.c.state, sa.func.count()).group_by(attempts.c.state)).all()
    found: list[str] = []
    if [row.sequence for row in log] != list(range(1, len(log) + 1)):
        found.append("the log has a gap or a sequence twice")
    if [row.published_at for row in log] != sorted(row.published_at for row in log):
        found.append("a later sequence was published before an earlier one")
    for start in {row.start_at for row in log}:
        epochs = [row.attempt_id for row in log if row.start_at == start]
        if epochs != sorted(epochs):
            found.append(f"an older attempt replaced a newer one at {start}")
    newest, missing = None, set[int]()
    for row in log:  # online work is for the publication of the newest interval only
        newest = row.end_at if newest is None or row.end_at > newest else newest
        if row.end_at == newest:
            missing.add(row.sequence)
    if missing != set(queued) or len(queued) != len(set(queued)):
        found.append(
            f"the outbox lacks {sorted(missing - set(queued))[:5]} or has {sorted(set(queued) - missing)[:5]} too many"
        )
    if events != expected:
        found.append(f"{events} lineage events for {expected} publishes")
    if [tuple(row) for row in states] != [("published", expected)]:
        found.append(f"attempts ended as {[tuple(row) for row in states]} instead of {expected} published")
    return found


def _publish(url: str, number: int, each: int, failures: multiprocessing.SimpleQueue[str]) -> None:
    try:
        with open_registry(url, PROJECT) as registry:
            for turn in range(each):
                shared = turn % 4 == 3
                mine = 1 + number * each + turn
                _publish_one(registry, days(0, 1) if shared else days(mine, mine + 1), f"run-{number}-{turn}")
    except BaseException:
        failures.put(traceback.format_exc(limit=3))
        raise


def _publish_one(registry: Registry, intervals: list[Interval], run_id: str) -> None:
    attempt = registry.ledger.begin(aggregate(), intervals, run_id)
    registry.ledger.record_files(attempt.id, [data_file(f"{attempt.id}.parquet")])
    registry.ledger.record_verdicts(attempt.id, [verdict(interval) for interval in intervals])

    def complete(_: Published) -> list[str]:
        return [event(run_id, B, [A], {"x": [(A, "y")]}, at=1)]

    registry.ledger.publish(attempt.id, lineage_events=complete)


@contextlib.contextmanager
def _registry(kind: str) -> Iterator[str | None]:
    with contextlib.ExitStack() as stack:
        if kind == "sqlite":
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="fstore-chaos-"))
            yield f"sqlite:///{Path(directory) / 'registry.db'}"
            return
        try:
            yield stack.enter_context(postgres_server()).url
        except ServerMissing:
            yield None
