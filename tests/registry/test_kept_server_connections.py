"""Connections to PostgreSQL are kept while the registry is held, and never where a new one would fare better.

What happens to them happens for real: the server ends, restarts or freezes sessions, a proxy swallows what passes.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import sqlalchemy as sa

from fstore.errors import RegistryError, RegistryReadOnly, RegistryUnavailable
from fstore.registry import connecting, postgres_connection
from fstore.registry.database import Database
from fstore.registry.registry import create_registry
from fstore.registry.tables import projects
from scripts.proxy import Faults, Mode, Proxy
from scripts.servers import ServerMissing, free_port, postgres_server
from tests.registry.examples import PROJECT

pytestmark = pytest.mark.integration
forks = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.fixture
def url(postgres_database: str) -> str:
    """The URL of a registry of one project, whose database nobody else uses."""
    create_registry(postgres_database, PROJECT).close()
    return postgres_database


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """A database that this process holds."""
    with closing(Database(url, PROJECT)) as database, database.holding():
        yield database


def session(database: Database) -> int:
    """Read, and return the process id of the session that did."""
    with database.reading() as connection:
        return session_of(connection)


def session_of(connection: sa.Connection) -> int:
    found: int = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    return found


def version(database: Database) -> int:
    with database.reading() as connection:
        found: int = connection.execute(sa.select(projects.c.version)).scalar_one()
        return found


def write(database: Database, number: int) -> int:
    """Write a version, and return the process id of the session that did."""
    with database.writing() as connection:
        connection.execute(sa.update(projects).values(version=number))
        return session_of(connection)


def shown(connection: sa.Connection, *names: str) -> list[str]:
    return [str(connection.exec_driver_sql(f"SHOW {name}").scalar_one()) for name in names]


@contextlib.contextmanager
def administered(url: str) -> Iterator[psycopg.Connection]:
    """Connect to the server's first database, so that no session of the registry's own is this one."""
    with psycopg.connect(urlsplit(url)._replace(path="/postgres").geturl(), autocommit=True) as connection:
        yield connection


def sessions(url: str) -> list[int]:
    """Return the process ids of all sessions of a registry."""
    with administered(url) as connection:
        asked = "SELECT pid FROM pg_stat_activity WHERE datname = %s ORDER BY pid"
        return [pid for (pid,) in connection.execute(asked, (urlsplit(url).path[1:],))]


def end(url: str, *pids: int) -> None:
    """Let the server end sessions, and wait until they are gone."""
    with administered(url) as connection:
        for pid in pids:
            assert connection.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,)).fetchone() == (True,)


def nothing_is_open(url: str) -> bool:
    """Whether no session is left, or one that has just been closed and takes its time to end."""
    deadline = time.monotonic() + 10
    while sessions(url):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


# -- what is kept, and what of it -------------------------------------------------------------------------------------


def test_the_next_transaction_has_the_session_of_the_last_one(database: Database) -> None:
    first = session(database)
    assert [write(database, 3), session(database), write(database, 4)] == [first] * 3
    assert version(database) == 4


def test_nothing_of_a_transaction_is_left_to_the_next(database: Database, url: str) -> None:
    names = ["transaction_isolation", "transaction_read_only", "lock_timeout", "idle_in_transaction_session_timeout"]
    with psycopg.connect(url) as plain:
        usual = [row[0] for name in names for row in plain.execute(f"SHOW {name}")]
    with database.reading() as connection:
        first = session_of(connection)
        assert shown(connection, *names) == ["repeatable read", "on", *usual[2:]]
    with database.writing() as connection:
        assert shown(connection, *names) == [*usual[:2], "30s", "30s"]
    with database.reading() as connection:
        assert shown(connection, *names) == ["repeatable read", "on", *usual[2:]]
    with database.engine.connect() as connection:
        assert session_of(connection) == first
        assert shown(connection, *names) == usual


def test_a_session_that_may_only_read_does_not_write_because_another_transaction_was_before(url: str) -> None:
    """As on a standby: set back to what is usual, and not to what was, it would say that it writes."""
    with administered(url) as connection:
        name = urlsplit(url).path[1:]
        connection.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    with closing(Database(url, PROJECT)) as database, database.holding():
        first = session(database)
        assert session(database) == first
        with pytest.raises(RegistryReadOnly):
            write(database, 1)


def test_no_statement_is_prepared(database: Database) -> None:
    """Behind a pooler of transactions the next one may be another session's, which knows nothing of it."""
    for number in range(12):
        write(database, number)
    with database.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements").scalar() == 0


def test_the_connection_of_a_failed_transaction_is_not_used_again(database: Database) -> None:
    first = session(database)
    with pytest.raises(ZeroDivisionError), database.reading():
        raise ZeroDivisionError
    second = session(database)
    with pytest.raises(RegistryError, match="nonsense"), database.writing() as connection:
        connection.exec_driver_sql("SELECT nonsense")
    assert len({first, second, session(database)}) == 3
    assert version(database) == 0


def test_the_last_block_leaves_nothing_open(url: str) -> None:
    with closing(Database(url, PROJECT)) as database:
        with database.holding():
            with database.holding(), database.reading():
                write(database, 4)
            assert len(sessions(url)) == 2
        assert nothing_is_open(url)
        assert version(database) == 4
        assert nothing_is_open(url)
        with pytest.raises(ZeroDivisionError), database.holding():
            write(database, 1 // (version(database) - 4))
        assert nothing_is_open(url)


def test_what_is_released_is_closed_and_holding_goes_on(database: Database, url: str) -> None:
    session(database)
    database.release_server()
    assert nothing_is_open(url)
    assert session(database) == session(database)


def test_threads_use_them_one_after_another_and_at_once(database: Database, url: str) -> None:
    failures: list[str] = []

    def count() -> None:
        try:
            for _ in range(20):
                with database.writing() as connection:
                    connection.execute(sa.update(projects).values(version=projects.c.version + 1))
                version(database)
        except BaseException:  # noqa: BLE001 (reported by the test)
            failures.append(traceback.format_exc())

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert version(database) == 160


# -- what the server and the network do to them -----------------------------------------------------------------------


def test_a_session_that_the_server_ended_is_found_out_and_so_are_the_others(database: Database, url: str) -> None:
    with database.reading():
        write(database, 1)
    before = sessions(url)
    assert len(before) == 2
    end(url, before[0], before[1])
    assert write(database, 2) not in before
    assert len(sessions(url)) == 1
    assert version(database) == 2


def test_a_session_that_ends_within_a_transaction_is_not_used_again(database: Database, url: str) -> None:
    first = session(database)
    with pytest.raises(RegistryUnavailable) as lost, database.writing() as connection:
        _write_and_be_ended(connection, url)
    assert lost.value.lost
    with pytest.raises(RegistryUnavailable), database.reading() as connection:
        _be_ended(connection, url)
    assert session(database) != first
    assert version(database) == 0


def _be_ended(connection: sa.Connection, url: str) -> None:
    end(url, session_of(connection))
    session_of(connection)


def _write_and_be_ended(connection: sa.Connection, url: str) -> None:
    connection.execute(sa.update(projects).values(version=9))
    _be_ended(connection, url)


def test_a_server_may_restart_between_transactions() -> None:
    with _own_server() as server, closing(Database(server.url, PROJECT)) as database:
        with database.holding():
            write(database, 5)
            server.restart()
            assert version(database) == 5
            server.stop()
            with pytest.raises(RegistryUnavailable, match="cannot be reached now"):
                version(database)
            server.start()
            write(database, 6)
        assert version(database) == 6


def test_one_that_was_idle_for_long_is_closed_rather_than_tried(
    database: Database, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = session(database)
    monkeypatch.setattr(postgres_connection, "IDLE_SECONDS", 0)
    assert session(database) != first
    assert len(sessions(url)) == 1


def test_a_frozen_session_is_asked_no_longer_than_connecting_may_take(url: str) -> None:
    """All else is well, so that transactions have new sessions after these two seconds."""
    with closing(Database(f"{url}?connect_timeout=2", PROJECT)) as database, database.holding():
        with database.reading():
            write(database, 1)
        frozen = sessions(url)
        with _frozen(*frozen):
            began = time.monotonic()
            with database.reading():
                write(database, 2)
            waited = time.monotonic() - began
        assert len(frozen) == 2
        assert 1.9 < waited < 3.9, "one of the two was asked, and the other one not even that"
        assert session(database) not in frozen
        assert version(database) == 2


def test_whoever_is_interrupted_while_it_is_asked_leaves_nothing_behind(url: str) -> None:
    class TimedOut(BaseException):
        pass

    def interrupt(*_: object) -> None:
        raise TimedOut

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with closing(Database(url, PROJECT)) as database, database.holding():
            first = session(database)
            with _frozen(first):
                signal.setitimer(signal.ITIMER_REAL, 0.5)
                with pytest.raises(TimedOut):
                    session(database)
            gc.collect()
            assert nothing_is_open(url)
            assert session(database) != first
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_black_hole_holds_nobody_longer_than_asking_and_connecting(url: str) -> None:
    parts = urlsplit(url)
    with Proxy(parts.port or 5432, parts.hostname or "127.0.0.1") as proxy:
        behind = f"{proxy.url(url)}?connect_timeout=2"
        with closing(Database(behind, PROJECT)) as database, database.holding():
            write(database, 1)
            with proxy.broken(Faults(mode=Mode.BLACK_HOLE)):
                began = time.monotonic()
                with pytest.raises(RegistryUnavailable) as error:
                    write(database, 2)
                waited = time.monotonic() - began
            assert error.value.retryable
            assert 3.5 < waited < 9, "two seconds each, and not the 90 that a statement may take"
            write(database, 3)
            assert version(database) == 3


def test_a_writer_that_freezes_loses_its_kept_session_too(
    database: Database, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting, "BUSY_SECONDS", 1)
    write(database, 1)
    with closing(Database(url, PROJECT)) as other:

        def freeze(connection: sa.Connection) -> None:
            monkeypatch.setattr(connecting, "BUSY_SECONDS", 20)
            connection.execute(sa.update(projects).values(version=9))
            write(other, 2)  # waits until the server has ended the other one
            connection.execute(sa.update(projects).values(version=9))

        with pytest.raises(RegistryUnavailable) as lost, database.writing() as connection:
            freeze(connection)
    assert lost.value.lost
    assert version(database) == 2


# -- forks ------------------------------------------------------------------------------------------------------------


@forks
def test_nothing_is_idle_over_a_fork_and_both_sides_write(database: Database, url: str) -> None:
    first = write(database, 1)

    def child() -> None:
        assert nothing_is_open(url)
        write(database, version(database) + 10)
        assert nothing_is_open(url)  # a block holds in the process that entered it
        with database.holding():
            second = session(database)
            assert session(database) == second != first
        assert nothing_is_open(url)

    assert _forked(child) == 0
    assert version(database) == 11
    assert write(database, 12) == session(database)


_FORKED_WITHIN_A_TRANSACTION = """
import os, sys, threading
import sqlalchemy as sa
from fstore.registry.database import Database
from fstore.registry.tables import projects

database = Database(sys.argv[1], sys.argv[2])
begun, forked, found = threading.Event(), threading.Event(), []

def transact():
    try:
        with database.writing() as connection:
            connection.execute(sa.update(projects).values(version=7))
            begun.set()
            forked.wait()
            found.append(connection.execute(sa.select(projects.c.version)).scalar_one())
    except BaseException as error:
        found.append(error)

with database.holding():
    with database.reading() as connection:
        first = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    thread = threading.Thread(target=transact)
    thread.start()
    begun.wait()
    pid = os.fork()
    if not pid:
        with database.holding(), database.reading() as connection:
            assert connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() != first
            assert connection.execute(sa.select(projects.c.version)).scalar_one() == 0
        sys.exit(5)  # with all that happens at the end of a process
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    forked.set()
    thread.join()
    with database.reading() as connection:
        found.append(connection.execute(sa.select(projects.c.version)).scalar_one())
print(status, found)
"""


def test_a_child_leaves_alone_what_another_thread_of_its_parent_is_doing(url: str) -> None:
    """Not even at its end, when libraries roll back and close what was left open: that is of the other process."""
    command = [sys.executable, "-W", "ignore", "-c", _FORKED_WITHIN_A_TRANSACTION, url, PROJECT]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.stdout == "5 [7, 7]\n", ended.stderr


# -- parts ------------------------------------------------------------------------------------------------------------


class _OwnServer:
    """A server with a registry that the test may stop and start again, at the same address."""

    def __init__(self, kept: Path) -> None:
        self._kept, self._port = kept, free_port()
        self._running = contextlib.ExitStack()
        self.url = ""

    def start(self) -> None:
        self.url = self._running.enter_context(postgres_server(kept=self._kept, port=self._port)).url

    def stop(self) -> None:
        self._running.close()

    def restart(self) -> None:
        self.stop()
        self.start()


@contextlib.contextmanager
def _own_server() -> Iterator[_OwnServer]:
    with tempfile.TemporaryDirectory(prefix="fs-restarted-") as kept:  # where the server's user may enter
        server = _OwnServer(Path(kept))
        try:
            server.start()
        except ServerMissing as missing:
            pytest.skip(str(missing))
        try:
            create_registry(server.url, PROJECT).close()
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def _frozen(*pids: int) -> Iterator[None]:
    """Within the block, let sessions of a server on this machine stand still."""
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
    except (ProcessLookupError, PermissionError):
        pytest.skip("the server's processes are not this user's")
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def _forked(do: Callable[[], None]) -> int:
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    status = 1
    try:
        do()
        status = 0
    except BaseException:  # noqa: BLE001 (the process ends here)
        traceback.print_exc()
    finally:
        os._exit(status)
