"""A connection that dies in COMMIT: whoever was writing learns whether the transaction took place, and nothing is done twice.

On PostgreSQL the server really ends the connection; on SQLite the driver's COMMIT fails, before or after it took place.
"""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from fstore.errors import RegistryUnavailable
from fstore.failpoints import arm, disarm
from fstore.registry import connecting, database
from fstore.registry.commits import KEPT
from fstore.registry.records import OnlineWork
from fstore.registry.registry import Registry
from fstore.registry.tables import attempts, batches, commits, flips, publications
from scripts.servers import RunningServer, ServerMissing, postgres_server
from tests.registry.examples import aggregate, data_file, days, example_plan, published, validated, verdict


@pytest.fixture(params=["alone", "held"])
def registry(registry: Registry, request: pytest.FixtureRequest) -> Iterator[Registry]:
    """The registry of the other tests, with a connection for each transaction and with those that are kept."""
    with registry.holding() if request.param == "held" else nullcontext():
        yield registry


@contextmanager
def cut_in_commit(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, *, committed: bool, times: int = 1
) -> Iterator[list[int]]:
    """End the connection of the next transactions in their COMMIT, before or after it took place."""
    dialect, cuts = registry._database.engine.dialect, list[int]()
    commit = dialect.do_commit

    def cut(connection: Any) -> None:
        if len(cuts) == times:
            commit(connection)
            return
        cuts.append(1)
        if committed:
            commit(connection)
        if registry._database.is_sqlite:
            raise sqlite3.OperationalError("disk I/O error")
        with registry._database.engine.connect() as other:
            other.execute(
                sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": connection.dbapi_connection.info.backend_pid}
            )
        connection.execute("SELECT 1") if committed else commit(connection)

    with monkeypatch.context() as patched:
        patched.setattr(dialect, "do_commit", cut)
        yield cuts


def count(registry: Registry, table: sa.Table) -> int:
    with registry._database.reading() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0


@pytest.mark.parametrize("committed", [True, False])
def test_every_write_takes_place_once(registry: Registry, monkeypatch: pytest.MonkeyPatch, committed: bool) -> None:
    """All that a run writes, with each of its transactions cut once."""
    ledger, step = registry.ledger, aggregate()

    def cut(write: Callable[[], object]) -> Any:
        with cut_in_commit(registry, monkeypatch, committed=committed) as cuts:
            result = write()
        assert cuts == [1]
        return result

    attempt = ledger.begin(step, days(0, 2), "run")
    cut(lambda: ledger.record_files(attempt.id, [data_file()]))
    assert ledger.attempt(attempt.id).files == (data_file(),)
    cut(lambda: ledger.record_verdicts(attempt.id, [verdict(interval) for interval in days(0, 2)]))
    assert ledger.attempt(attempt.id).state == "validated"
    result = cut(lambda: ledger.publish(attempt.id))
    assert [p.sequence for p in result.publications] == [1]
    assert ledger.publish(attempt.id) == result
    (entry,) = registry.outbox.pending()
    assert isinstance(entry.payload, OnlineWork)
    cut(lambda: registry.outbox.failed(entry.id, "not yet"))
    assert registry.outbox.pending()[0].tries == 1, "counted once"
    cut(lambda: registry.outbox.done([entry.id]))
    assert registry.outbox.pending() == []
    other = ledger.begin(step, days(2, 3), "run")
    cut(lambda: ledger.fail(other.id, "it failed"))
    assert ledger.attempt(other.id).state == "failed"

    changed = aggregate(description="What a user buys.")
    before = registry.version()
    registered = cut(lambda: registry.register(example_plan(steps=(changed,))))
    assert (registered.version, registry.version()) == (before + 1, before + 1), "registered once, and told so"
    new = msgspec.structs.replace(changed, fingerprint="fp-9")
    cut(lambda: registry.overlays.stage("next", [new], renewed=[new.view]))
    ahead = registry.on_overlay("next")
    published(ahead, new, days(0, 2), "fill")
    (flip,) = cut(lambda: registry.overlays.flip({new.view: 9}))
    assert (flip.new_generation, count(registry, flips), registry.overlays.get()) == (2, 1, None)
    assert registry.version() == before + 2
    assert cut(lambda: registry.overlays.roll_back([new.view], flip.version)) == before + 3
    assert registry.view(new.view).generation == 1


def test_what_was_begun_is_known_to_whoever_began_it(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    with cut_in_commit(registry, monkeypatch, committed=True):
        batch = registry.ledger.begin_batch(aggregate(), days(0, 2), "run")
    with cut_in_commit(registry, monkeypatch, committed=True):
        attempt = registry.ledger.begin(aggregate(), days(0, 2), "run", batch=batch.id)
    assert registry.ledger.batch(batch.id).attempts == (attempt.id,)
    assert (count(registry, batches), count(registry, attempts)) == (1, 1)


def test_what_was_not_begun_is_not_begun_again_by_itself(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever was frozen in the middle would come back as the newest batch and fence its own retry."""
    with cut_in_commit(registry, monkeypatch, committed=False), pytest.raises(RegistryUnavailable) as lost:
        registry.ledger.begin_batch(aggregate(), days(0, 2), "run")
    assert lost.value.lost
    assert lost.value.retryable
    assert count(registry, batches) == 0


def test_a_connection_that_is_lost_twice_is_an_error_to_retry(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = validated(registry, aggregate(), days(0, 2), "run")
    with (
        cut_in_commit(registry, monkeypatch, committed=False, times=2) as cuts,
        pytest.raises(RegistryUnavailable) as lost,
    ):
        registry.ledger.publish(attempt)
    assert cuts == [1, 1]
    assert lost.value.lost
    assert registry.state().sequence == 0
    assert registry.ledger.publish(attempt).sequence == 1


@pytest.mark.integration
@pytest.mark.parametrize("registry_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("name", ["registry.begun", "publish.locked", "publish.enqueued", "registry.committing"])
def test_a_connection_that_is_ended_before_commit_is_no_failure(registry: Registry, name: str) -> None:
    attempt = validated(registry, aggregate(), days(0, 2), "run")
    ended: list[str] = []

    def end_all_others(at: str) -> None:
        if not ended:
            with registry._database.engine.connect() as other:
                ask = (
                    "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE datname = current_database()"
                )
                assert other.exec_driver_sql(f"{ask} AND pid <> pg_backend_pid()").scalar() == 1
            ended.append(at)

    arm(name, end_all_others)
    try:
        assert registry.ledger.publish(attempt).sequence == 1
    finally:
        disarm()
    assert ended == [name]
    assert (count(registry, publications), len(registry.outbox.pending())) == (1, 1)


@pytest.mark.integration
@pytest.mark.parametrize("registry_url", ["postgresql"], indirect=True)
def test_a_commit_that_goes_on_without_its_client_is_waited_for(registry: Registry) -> None:
    """The network is cut while the server works on COMMIT: asking at once must not be answered with 'it did not happen'."""
    attempt = validated(registry, aggregate(), days(0, 2), "run")
    engine = registry._database.engine
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(2); RETURN NULL; END';"
            "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON publications DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION slow()"
        )
    dialect, held = engine.dialect, list[Any]()
    commit = dialect.do_commit

    def remember(connection: Any) -> None:
        held.append(connection)
        commit(connection)

    def cut() -> None:
        while not held:
            time.sleep(0.01)
        time.sleep(0.5)
        duplicate = socket.socket(fileno=socket.dup(held[0].fileno()))
        duplicate.shutdown(socket.SHUT_RDWR)
        duplicate.close()

    thread = threading.Thread(target=cut)
    try:
        dialect.do_commit = remember  # type: ignore[method-assign]
        thread.start()
        result = registry.ledger.publish(attempt)
    finally:
        dialect.do_commit = commit  # type: ignore[method-assign]
        thread.join()
        with engine.begin() as connection:
            connection.exec_driver_sql("DROP TRIGGER slow ON publications; DROP FUNCTION slow()")
    assert len(held) == 1, "not done a second time"
    assert [p.sequence for p in result.publications] == [1]
    assert (count(registry, publications), len(registry.outbox.pending())) == (1, 1)


@pytest.fixture
def own_postgres() -> Iterator[RunningServer]:
    """A PostgreSQL server that the test may freeze and kill."""
    try:
        with postgres_server() as server:
            yield server
    except ServerMissing as missing:
        pytest.skip(str(missing))


@pytest.mark.integration
def test_a_server_that_is_gone_leaves_the_question_open(
    own_postgres: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fstore.registry.registry import create_registry

    monkeypatch.setattr(database, "_RESOLVE_SECONDS", 1.0)
    with create_registry(own_postgres.url, "shop") as registry:
        registry.register(example_plan())
        attempt = validated(registry, aggregate(), days(0, 2), "run")
        arm("registry.committing", lambda _: own_postgres.kill())
        try:
            with pytest.raises(RegistryUnavailable) as unknown:
                registry.ledger.publish(attempt)
        finally:
            disarm()
    assert not unknown.value.lost
    assert unknown.value.retryable
    assert str(unknown.value).startswith(f"registry {own_postgres.url} lost the connection in COMMIT (")
    assert str(unknown.value).endswith(
        ") and cannot be asked whether the transaction took place. Doing the same again is safe: what took place stays as it is."
    )


@pytest.mark.integration
def test_a_server_that_stays_silent_is_given_up(own_postgres: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen server process keeps its connection open and answers nothing."""
    from fstore.registry.registry import create_registry

    with create_registry(own_postgres.url, "shop") as registry:
        registry.register(example_plan())
        monkeypatch.setattr(connecting, "ANSWER_SECONDS", 1)
        attempt = validated(registry, aggregate(), days(0, 2), "run")
        frozen: list[int] = []

        def freeze(_: str) -> None:
            if not frozen:
                with registry._database.engine.connect() as other:
                    ask = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    frozen.extend(other.exec_driver_sql(ask).scalars())
                for pid in frozen:
                    os.kill(pid, signal.SIGSTOP)

        arm("publish.locked", freeze)
        began = time.monotonic()
        try:
            with pytest.raises(RegistryUnavailable, match=r"the server did not answer within 1 s$"):
                registry.ledger.publish(attempt)
        finally:
            disarm()
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)
        assert time.monotonic() - began < 30
        assert registry.ledger.publish(attempt).sequence == 1


def test_tokens_are_kept_for_a_day(registry: Registry) -> None:
    with registry._database.writing() as connection:
        old = datetime.now(UTC) - KEPT - timedelta(minutes=1)
        connection.execute(sa.update(commits).values(entered_at=old))
        before = connection.scalar(sa.select(sa.func.count()).select_from(commits)) or 0
    assert before > 1
    registry.ledger.abandon(datetime.now(UTC) - timedelta(days=2))
    assert count(registry, commits) == 1, "its own"
