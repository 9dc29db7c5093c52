"""Connections to SQLite are kept while the registry is held, and never where that could show an old state or lose a write."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from fstore.errors import StoreMissing
from fstore.registry.database import Database
from fstore.registry.tables import projects
from tests.registry.examples import PROJECT

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc, which says what is open")
forks = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.fixture
def file(sqlite_template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(sqlite_template, tmp_path / "kept.db"))


@pytest.fixture
def database(file: Path) -> Iterator[Database]:
    """A database that this process holds."""
    with closing(Database(f"sqlite:///{file}", PROJECT)) as database, database.holding():
        yield database


def version(database: Database) -> int:
    with database.reading() as connection:
        found: int = connection.execute(sa.select(projects.c.version)).scalar_one()
        return found


def write(database: Database, number: int) -> None:
    with database.writing() as connection:
        connection.execute(sa.update(projects).values(version=number))


def write_elsewhere(file: Path, number: int) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE projects SET version = ?", (number,))


def write_nonsense(connection: sa.Connection) -> None:
    connection.execute(sa.update(projects).values(version=99))
    connection.execute(sa.update(projects).values(created_at="yesterday"))


def driver_of(database: Database) -> object:
    with database.reading() as connection:
        return connection.connection.dbapi_connection


def opened(file: Path) -> list[str]:
    """Return what this process has open of a registry: the file, its log and its index."""
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            links.append(str(descriptor.readlink()))
        except FileNotFoundError:  # the directory's own
            continue
    return sorted(Path(link).name for link in links if link.startswith(str(file)))


def test_the_next_transaction_has_the_connection_of_the_last_one(database: Database) -> None:
    first = driver_of(database)
    write(database, 3)
    assert driver_of(database) is first


def test_a_kept_connection_sees_what_others_have_written_since(database: Database, file: Path) -> None:
    first = driver_of(database)
    write_elsewhere(file, 17)
    assert version(database) == 17
    assert driver_of(database) is first


def test_nothing_that_was_left_half_read_holds_on_to_an_old_state(database: Database, file: Path) -> None:
    with database.reading() as connection:
        many = connection.exec_driver_sql("SELECT name FROM sqlite_master, projects")
        assert many.fetchone() is not None
        half_read = many  # still referred to, with rows to come, when the connection is used again
    write_elsewhere(file, 18)
    assert version(database) == 18
    write(database, 19)
    assert version(database) == 19
    del half_read


def test_the_connection_of_a_failed_transaction_is_not_used_again(database: Database) -> None:
    first = driver_of(database)
    with pytest.raises(ZeroDivisionError), database.reading():
        raise ZeroDivisionError
    second = driver_of(database)
    assert second is not first
    with pytest.raises(sa.exc.StatementError), database.writing() as connection:
        write_nonsense(connection)
    assert driver_of(database) is not second
    assert version(database) == 0


def test_a_file_may_be_put_in_the_place_of_another_that_nobody_holds(
    file: Path, tmp_path: Path, sqlite_template: Path
) -> None:
    other = Path(shutil.copy(sqlite_template, tmp_path / "other.db"))
    write_elsewhere(other, 6)
    with closing(Database(f"sqlite:///{file}", PROJECT)) as database:
        with database.holding():
            write(database, 5)
        other.replace(file)
        assert version(database) == 6
        write(database, 7)
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT version FROM projects").fetchone() == (7,)


def test_a_registry_that_was_deleted_is_missed(database: Database, file: Path) -> None:
    assert version(database) == 0
    file.unlink()
    with pytest.raises(StoreMissing):
        version(database)


def test_transactions_at_once_have_connections_of_their_own(database: Database) -> None:
    with database.reading() as outer:
        write(database, 8)
        assert outer.execute(sa.select(projects.c.version)).scalar_one() == 0  # one state throughout
    assert version(database) == 8


def test_threads_use_them_one_after_another_and_at_once(database: Database) -> None:
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


def test_the_last_block_leaves_nothing_open_and_the_log_in_the_database(file: Path) -> None:
    with closing(Database(f"sqlite:///{file}", PROJECT)) as database:
        with database.holding():
            with database.holding():
                write(database, 4)
            assert opened(file) != []
        assert opened(file) == []
        assert not file.with_name(f"{file.name}-wal").exists()
        assert version(database) == 4
        assert opened(file) == []


def test_a_block_that_fails_leaves_nothing_open(file: Path) -> None:
    database = Database(f"sqlite:///{file}", PROJECT)
    with pytest.raises(ZeroDivisionError), database.holding():
        write(database, 1 // version(database))
    assert opened(file) == []


def test_a_connection_that_outlasts_the_block_is_closed_by_its_transaction(file: Path) -> None:
    database = Database(f"sqlite:///{file}", PROJECT)
    hold = database.holding()
    hold.__enter__()
    with database.reading():
        hold.__exit__(None, None, None)
    assert opened(file) == []


def test_closing_within_a_block_closes_and_goes_on_holding(database: Database, file: Path) -> None:
    write(database, 4)
    database.close()
    assert opened(file) == []
    assert driver_of(database) is driver_of(database)


@forks
def test_nothing_is_open_over_a_fork_and_both_sides_write(database: Database, file: Path) -> None:
    write(database, 1)
    assert opened(file) != []

    def child() -> None:
        assert opened(file) == []
        write(database, version(database) + 10)
        assert opened(file) == []  # a block holds in the process that entered it
        with database.holding():
            assert version(database) == 11
            assert opened(file) != []
        assert opened(file) == []

    assert _forked(child) == 0
    assert version(database) == 11
    write(database, 12)
    write_elsewhere(file, version(database) + 1)
    assert version(database) == 13


@forks
def test_what_a_child_wrote_survives_that_its_parent_closes_first(database: Database, file: Path) -> None:
    """Would be lost had the child taken the locks of its parent for its own: the last to close deletes the log."""
    write(database, 1)
    reads, writes = os.pipe()

    def child() -> None:
        os.close(writes)
        with database.holding():
            write(database, 2)  # and keeps its connection
            os.read(reads, 1)  # until the parent and another process have closed theirs
            write(database, 3)

    pid = os.fork()
    if not pid:
        _end(child)
    os.close(reads)
    write(database, 4)
    database.close()
    write_elsewhere(file, 5)
    os.close(writes)
    assert os.waitpid(pid, 0)[1] == 0
    assert version(database) == 3


_GIVEN_BACK_BEFORE_A_FORK = """
import os
import sys

found = []

def another_thread():  # has its turn after all was closed for the fork, and right before it
    if found:
        found.append(driver_of(found[0]))

os.register_at_fork(before=another_thread)  # of these the last one registered goes first

from fstore.registry.database import Database
from tests.registry.test_kept_connections import driver_of, version, write

database = Database(f"sqlite:///{sys.argv[1]}", sys.argv[2])
with database.holding():
    found.append(database)
    pid = os.fork()
    if not pid:
        with database.holding():
            os._exit(driver_of(database) is found[1])
    assert os.waitpid(pid, 0)[1] == 0, "the child used its parent's connection"
    assert driver_of(database) is found[1]
    write(database, 1)
    assert version(database) == 1
"""


def test_a_child_leaves_alone_what_was_given_back_while_it_was_forked(file: Path) -> None:
    command = [sys.executable, "-c", _GIVEN_BACK_BEFORE_A_FORK, str(file), PROJECT]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def _forked(do: Callable[[], None]) -> int:
    pid = os.fork()
    if not pid:
        _end(do)
    return os.waitpid(pid, 0)[1]


def _end(do: Callable[[], None]) -> None:
    status = 1
    try:
        do()
        status = 0
    except BaseException:  # noqa: BLE001 (the process ends here)
        traceback.print_exc()
    finally:
        os._exit(status)


def test_closing_says_nothing(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    write(database, 3)
    database.close()
    assert caplog.messages == []
    assert version(database) == 3
