"""Many processes at once, lost answers and the number of statements."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fstore.registry.publishing import publish_attempt
from fstore.registry.registry import Registry, create_registry, open_registry
from tests.registry.examples import PROJECT, aggregate, days, example_plan, hours, published, seen, validated, verdict

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

PROCESSES = 8
ROUNDS = 6


def run_all(workers: list[Callable[[], None]]) -> None:
    """Run every worker in a process of its own, at once, and expect all to end well."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=worker) for worker in workers]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * len(processes)


def test_concurrent_publishers_neither_fail_nor_leave_gaps(registry: Registry, registry_url: str) -> None:
    """Each process publishes intervals of its own and one that all want; a reader watches the log grow."""
    total = PROCESSES * ROUNDS * 2

    def publish(number: int) -> None:
        with open_registry(registry_url, PROJECT) as own:
            for turn in range(ROUNDS):
                mine = 1 + number * ROUNDS + turn
                published(own, aggregate(), [*days(0, 1), *days(mine * 2, mine * 2 + 1)], f"run-{number}-{turn}")

    def watch() -> None:
        with open_registry(registry_url, PROJECT) as own:
            deadline = time.monotonic() + 100
            newest = -1
            while newest < total - PROCESSES * ROUNDS and time.monotonic() < deadline:
                log = own.ledger.publications(limit=total)
                assert [p.sequence for p in log] == list(range(1, len(log) + 1)), "no later sequence before an earlier one"
                newest = len(log)

    run_all([*(lambda n=n: publish(n) for n in range(PROCESSES)), watch])
    log = registry.ledger.publications(limit=total)
    assert [p.sequence for p in log] == list(range(1, len(log) + 1))
    assert [p.published_at for p in log] == sorted(p.published_at for p in log)
    contested = [p.attempt for p in log if p.start == days(0, 1)[0].start]
    assert contested == sorted(contested), "a later publication of an interval is always of a later attempt"
    assert seen(registry)[0] == (0, 1, contested[-1])
    assert len(log) - len(contested) == PROCESSES * ROUNDS, "what nobody contests is published by everyone"
    settled = {summary.id for summary in registry.ledger.history(limit=100) if summary.state == "published"}
    assert len(settled) == PROCESSES * ROUNDS


def test_many_may_create_and_register_at_once(empty_url: str) -> None:
    def create() -> None:
        with create_registry(empty_url, PROJECT) as own:
            own.register(example_plan())

    run_all([create] * 4)
    with open_registry(empty_url, PROJECT) as registry:
        assert registry.version() == 1
        assert len(registry.views()) == 2


def test_concurrent_events_are_recorded_once_each(registry: Registry, registry_url: str) -> None:
    from tests.registry.test_lineage_log import A, B, event, pairs

    def record() -> None:
        with open_registry(registry_url, PROJECT) as own:
            for number in range(5):
                own.lineage.record(event(f"r{number}", B, [A], {"x": [(A, "y")]}, at=number))

    run_all([record] * 4)
    assert len(registry.lineage.events()) == 5
    assert pairs(registry.lineage.upstream(B, "x")) == [("a.y", "b.x", 1)]


def test_what_is_being_published_is_not_given_up(registry: Registry, registry_url: str) -> None:
    """The sweeper looks while an old attempt is being published, and would delete its files."""
    attempt = validated(registry, aggregate(), days(0, 2), "run")
    database = registry._database
    with open_registry(registry_url, PROJECT) as own, ThreadPoolExecutor(1) as pool:
        with database.writing() as connection:
            publish_attempt(database, connection, attempt)
            given_up = pool.submit(own.ledger.abandon, datetime.now(UTC) + timedelta(days=1))
            if not database.is_sqlite:
                wait_for_a_blocked_statement(registry)
        assert given_up.result(60) == []
    assert registry.ledger.attempt(attempt).state == "published"


def wait_for_a_blocked_statement(registry: Registry) -> None:
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with registry._database.reading() as connection:
            if connection.exec_driver_sql(query).scalar():
                return
    pytest.fail("nothing waits for a lock")


@contextmanager
def counted(registry: Registry) -> Iterator[list[str]]:
    """Count the statements that a registry sends (many rows of one statement are one)."""
    statements: list[str] = []

    def note(connection: Connection, cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)


def test_the_number_of_statements_does_not_grow_with_the_intervals(registry: Registry) -> None:
    def cost(count: int) -> dict[str, int]:
        costs: dict[str, int] = {}

        def measure(name: str, call: Callable[[], object]) -> object:
            with counted(registry) as statements:
                result = call()
            costs[name] = len(statements)
            return result

        intervals = hours(count)
        begun = measure("begin", lambda: registry.ledger.begin(aggregate(), intervals, f"run-{count}"))
        attempt = begun.id  # type: ignore[attr-defined]
        blocked = set(intervals[::5])
        verdicts = [verdict(i, passed=i not in blocked) for i in intervals]
        measure("verdicts", lambda: registry.ledger.record_verdicts(attempt, verdicts))
        measure("publish", lambda: registry.ledger.publish(attempt))
        measure("read", lambda: registry.ledger.attempt(attempt))
        measure("heads", lambda: registry.ledger.heads("purchases_of_user"))
        measure("blocked", lambda: registry.ledger.blocked("purchases_of_user"))
        measure("stale", lambda: registry.ledger.stale("purchases_of_user"))
        measure("history", registry.ledger.history)
        measure("views", registry.views)
        return costs

    few = cost(10)
    assert cost(1_000) == few
    assert max(few.values()) <= 21, few  # one of them enters the commit's token


def test_heads_of_thousands_of_publications(registry: Registry) -> None:
    """Reading all of the log is linear, and reading a part of it is bounded by that part."""
    every_other = hours(8_000)[::2]
    published(registry, aggregate(), every_other, "run")
    started = time.perf_counter()
    heads = registry.ledger.heads("purchases_of_user")
    whole = time.perf_counter() - started
    assert [(head.start, head.end) for head in heads] == [(i.start, i.end) for i in every_other]
    assert whole < 5, "0.1 s when measured alone"
    part = registry.ledger.heads("purchases_of_user", start=every_other[500].start, end=every_other[510].end)
    assert [head.sequence for head in part] == list(range(501, 512))
