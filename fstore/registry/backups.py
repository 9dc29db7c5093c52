"""Back up and restore a registry: one file that fits both databases.

A backup is an SQLite database with the registry's own tables: a copy by SQLite's online backup where the registry is SQLite,
the rows of one REPEATABLE READ transaction where it is PostgreSQL. So either can be restored into either, and any SQLite
client reads it. Restoring is one transaction: interrupted anywhere, it leaves what was there. It replaces all of the
registry, and each of its projects gets a new incarnation. Touches no store: until the stores have taken the new incarnation
(``runtime/incarnation.py``) nobody publishes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
import uuid
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fstore.errors import RegistryError, SettingsError
from fstore.failpoints import failpoint
from fstore.registry import connecting
from fstore.registry.database import Database
from fstore.registry.migrations import REVISIONS
from fstore.registry.tables import commits, metadata, projects

STEP = 1_000_000
"""Numbers go on from a multiple of this after a restore: above all that was given out since the backup and left no trace."""

_ROWS = 2000
_ISSUED = tuple(table for table in metadata.sorted_tables if "id" in table.c)
"""The tables whose ids the database issues."""


class ProjectState(msgspec.Struct, frozen=True, kw_only=True):
    """A project as a registry or a backup has it."""

    project: str
    sequence: int
    version: int


def back_up(database: Database, path: Path) -> list[ProjectState]:
    """Write the registry to a new file, whole or not at all, and return the projects in it.

    Others may write meanwhile: the file holds one moment. Raises SettingsError where the file exists.
    """
    _refuse_existing(path)
    temporary = path.with_name(f".{path.name}.writing-{uuid.uuid4().hex}")
    try:
        with database.reading() as connection:
            if database.is_sqlite:
                _copy_file(connection, temporary)
            else:
                with _file_database(temporary).migrating() as target:
                    _copy_rows(connection, target)
        with contextlib.closing(sqlite3.connect(temporary)) as done:
            done.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
        _sync(temporary)
        failpoint("backup.written")
        try:
            os.link(temporary, path)
        except FileExistsError:
            _refuse_existing(path)
        _sync(path.parent)
    except (OSError, sqlite3.Error) as error:
        raise RegistryError(f"registry {database.label} cannot be backed up to {path}: {error}") from error
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            temporary.with_name(temporary.name + suffix).unlink(missing_ok=True)
    with _file_database(path).errors(), _file_database(path).engine.begin() as connection:
        return _states(connection)


def restore(database: Database, path: Path, *, replace: Collection[str] = ()) -> list[ProjectState]:
    """Put a backup in the place of a registry, in one transaction, and return the projects in it.

    An older schema is brought up to date. Raises SettingsError where the registry has projects that ``replace`` does not
    name, RegistryOutdated for a backup of a newer fstore, and RegistryError for a file that is no backup.
    """
    with _unpacked(path) as source, database.migrating() as target:
        present = {state.project: state for state in _states(target)}
        if unnamed := sorted(set(present) - set(replace)):
            raise SettingsError(
                f"registry {database.label} is not empty: it has "
                + ", ".join(f"project {name!r} up to sequence {present[name].sequence}" for name in unnamed)
                + ". Restoring replaces all of it; name what is to be replaced: "
                + " ".join(f"--replace {name}" for name in sorted(present))
            )
        failpoint("restore.begun")
        _lock_all(database, target)
        for table in reversed(metadata.sorted_tables):
            target.execute(sa.delete(table))
        failpoint("restore.emptied")
        _copy_rows(source, target)
        for state in _states(target):
            before = present.get(state.project, state)
            renew(target, state, sequence=max(state.sequence, before.sequence), version=max(state.version, before.version))
        raise_ids(database, target)
        failpoint("restore.filled")
        restored = _states(target)
    failpoint("restore.committed")
    return restored


def renew(connection: Connection, state: ProjectState, *, sequence: int, version: int) -> str:
    """Give a project a new incarnation and higher numbers; return the incarnation.

    The version grows to a round number, because clients keep what they know by it.
    """
    incarnation = uuid.uuid4().hex
    connection.execute(
        sa.update(projects)
        .where(projects.c.project == state.project)
        .values(incarnation=incarnation, sequence=sequence, version=(version // 1000 + 1) * 1000)
    )
    return incarnation


def raise_ids(database: Database, connection: Connection, above: int = 0) -> None:
    """Make every id that is issued from now on greater than all that are there, and than ``above``."""
    for table in _ISSUED:
        highest = max(connection.scalar(sa.select(sa.func.max(table.c.id))) or 0, above)
        if database.is_sqlite:
            named = {"name": table.name, "seq": highest}
            found = connection.execute(sa.text("UPDATE sqlite_sequence SET seq = max(seq, :seq) WHERE name = :name"), named)
            if not found.rowcount:
                connection.execute(sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)"), named)
        else:
            counter = connection.scalar(sa.select(sa.func.pg_get_serial_sequence(table.name, "id")))
            last = connection.execute(sa.text(f"SELECT last_value FROM {counter}")).scalar_one()
            connection.execute(sa.select(sa.func.setval(counter, max(highest, last, 1))))


def next_step(number: int) -> int:
    """Return the next multiple of the step above a number."""
    return (number // STEP + 1) * STEP


def highest_id(connection: Connection) -> int:
    """Return the greatest id of all that the tables hold."""
    return max(connection.scalar(sa.select(sa.func.max(table.c.id))) or 0 for table in _ISSUED)


def _states(connection: Connection) -> list[ProjectState]:
    p = projects.c
    rows = connection.execute(sa.select(p.project, p.sequence, p.version).order_by(p.project))
    return [ProjectState(project=row.project, sequence=row.sequence, version=row.version) for row in rows]


def _copy_file(connection: Connection, path: Path) -> None:
    driver: Any = connection.connection.dbapi_connection
    with contextlib.closing(sqlite3.connect(path)) as target:
        driver.backup(target)


def _copy_rows(source: Connection, target: Connection) -> None:
    """Copy every row of every table, parents first."""
    for table in metadata.sorted_tables:
        if table is commits:  # they tell of transactions that nobody waits for any more
            continue
        rows = source.execution_options(yield_per=_ROWS).execute(sa.select(table))
        for part in rows.mappings().partitions(_ROWS):
            target.execute(sa.insert(table), _plain(part))


def _plain(part: Sequence[Any]) -> list[dict[str, Any]]:
    return [dict(row) for row in part]


@contextlib.contextmanager
def _unpacked(path: Path) -> Iterator[Connection]:
    """Open a copy of a backup, with its schema brought up to date; the backup itself stays as it is."""
    if not path.is_file():
        raise SettingsError(f"there is no backup at {path}")
    with tempfile.TemporaryDirectory(prefix="fstore-restore-") as directory:
        copy = Path(directory) / "backup.db"
        try:
            shutil.copyfile(path, copy)
            with contextlib.closing(sqlite3.connect(copy)) as checked:
                sound = [row[0] for row in checked.execute("PRAGMA integrity_check")] == ["ok"]
        except (OSError, sqlite3.DatabaseError) as error:
            raise RegistryError(f"{path} is not a backup of a registry, or is damaged: {error}") from None
        database = _file_database(copy)
        database.label = str(path)
        with database.errors(), database.engine.begin() as connection:
            revision = database.revision(connection)
        if revision is None or not sound:
            raise RegistryError(f"{path} is not a backup of a registry, or is damaged")
        if revision != REVISIONS[-1]:
            with database.migrating():
                pass
        with database.errors(), database.engine.begin() as connection:
            yield connection


def _lock_all(database: Database, connection: Connection) -> None:
    """Let nobody write until the transaction ends; readers go on seeing what was there."""
    if not database.is_sqlite:  # whose transaction holds the whole database already
        names = ", ".join(table.name for table in metadata.sorted_tables)
        connection.exec_driver_sql(
            f"SET LOCAL lock_timeout = '{connecting.BUSY_SECONDS}s'; LOCK TABLE {names} IN EXCLUSIVE MODE"
        )


def _file_database(path: Path) -> Database:
    return Database(f"sqlite:///{path}", "")


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise SettingsError(f"{path} exists already; a backup never replaces a file")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
