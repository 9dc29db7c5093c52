"""The registry's database: connections, transactions and what goes wrong with them.

Takes a URL and gives short transactions: :meth:`Database.reading` sees one consistent state, :meth:`Database.writing`
holds SQLite's write lock from its first statement on (``BEGIN IMMEDIATE``), so that concurrent writers queue instead of
failing. A connection lives as long as its transaction, or is kept within :meth:`Database.holding` (``kept.py``); nothing is
shared over a fork or left open. Opening is lazy: the first transaction checks that the schema is the one that this code
works with, and every one that writes checks again, because a registry may be upgraded or restored under a process that
runs. Every driver error leaves here as an error of fstore, with the URL's password masked.

Whoever writes learns what became of it. When the connection dies in ``COMMIT``, the transaction's token says whether it took
place (``registry/commits.py``): ``writing()`` then ends well, or raises RegistryUnavailable with ``lost`` set, which says
that nothing was written, so that :func:`repeated` may do the same again.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import ParamSpec, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from fstore.errors import (
    RegistryError,
    RegistryOutdated,
    RegistryReadOnly,
    RegistryRestored,
    RegistryUnavailable,
    StoreMissing,
)
from fstore.failpoints import failpoint
from fstore.registry import connecting, kept, tables
from fstore.registry.commits import enter_commit
from fstore.registry.connecting import WRITE, create_file, label_of, open_engine, parse_url
from fstore.registry.migrations import REVISIONS

_DISK = ("disk I/O error", "database or disk is full")
"""What SQLite says of the disk below it."""

BATCH = 500
"""How many values go into one ``IN (…)``: below the parameter limits of both databases."""

REVISION_TABLE = "fstore_revision"

_RESOLVE_SECONDS = 30.0
"""How long to try to find out what became of a transaction whose COMMIT was not answered."""

P = ParamSpec("P")
R = TypeVar("R")


def repeated(write: Callable[P, R]) -> Callable[P, R]:
    """Make a method of one write transaction run again, once, when the transaction was lost with its connection.

    Nothing of the first one was written then, so doing it again is doing it once. Not for what opens a batch or an attempt:
    a process that was frozen in the middle of that would come back as the newest one.
    """

    @functools.wraps(write)
    def run(*arguments: P.args, **named: P.kwargs) -> R:
        try:
            return write(*arguments, **named)
        except RegistryUnavailable as error:
            if not error.lost:
                raise
            return write(*arguments, **named)

    return run


def upgrade(database: Database) -> tuple[str, str]:
    """Bring the schema of a registry that exists up to date; return the revisions before and after. Safe to repeat.

    Raises StoreMissing where there is none, and RegistryOutdated for one of a newer fstore.
    """
    with database.errors(), database.engine.begin() as connection:
        before = database.revision(connection)
    if before is None:
        raise StoreMissing(f"registry {database.label} was never created: run `fstore apply`")
    with database.migrating():
        failpoint("migration.upgraded")
    return before, REVISIONS[-1]


class Database:
    """One registry database, seen by one project. Safe to share between threads and over a fork; cheap to open.

    ``overlay`` names the overlay through which views are resolved; empty: what is live.
    """

    def __init__(self, url: str, project: str, overlay: str = "") -> None:
        self.project, self.overlay = project, overlay
        self._url = parse_url(url)
        self.label = label_of(self._url)
        self.engine = open_engine(self._url, create=False)
        self._writer = self.engine.execution_options(**{WRITE: True})
        one_state = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        self._reader = self.engine if self.is_sqlite else self.engine.execution_options(**one_state)
        self._incarnation: str | None = None  # of the project when this process first looked

    def on_overlay(self, overlay: str) -> Database:
        """Return the same database seen through an overlay (empty: live); both share connections and checks."""
        seen = copy.copy(self)
        seen.overlay = overlay
        return seen

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite rather than PostgreSQL."""
        return self._url.get_backend_name() == "sqlite"

    @property
    def file(self) -> Path:
        """The file of an SQLite registry."""
        return Path(str(self._url.database))

    def holding(self) -> contextlib.AbstractContextManager[None]:
        """Within the block, keep connections from one transaction to the next; for many transactions in a row."""
        return kept.holding(self.engine)

    def release_server(self) -> None:
        """Close what is kept of a server's and nobody uses. An SQLite file stays open, which takes nothing from anybody."""
        if not self.is_sqlite:
            kept.close_idle(self.engine)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a transaction that only reads and sees one state throughout."""
        with self.errors(), self._reader.connect() as connection, connection.begin() as transaction:
            if self._incarnation is None:
                self._check(connection)
            yield connection
            transaction.commit()
            kept.keep(connection)

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction that may write; it commits on leaving and rolls back on an exception.

        Leaving without an exception means that it was committed, also when the answer to COMMIT was lost.
        """
        token, failed = uuid.uuid4().hex, None
        with self.errors(), self._writer.connect() as connection, connection.begin() as transaction:
            self._limit_waiting(connection, connecting.BUSY_SECONDS)
            self._check(connection)
            enter_commit(self, connection, token)
            failpoint("registry.begun")
            yield connection
            failpoint("registry.committing")
            try:
                transaction.commit()
                kept.keep(connection)
            except sa.exc.DBAPIError as error:
                failed = error
        if failed is not None and not self._took_place(token, failed):
            raise self._translate(failed, rolled_back=True) from failed
        failpoint("registry.committed")

    def create(self, incarnation: str) -> None:
        """Create the schema or bring an older one up to date, and enter the project, as ``incarnation`` if it is new.

        Safe to repeat and to run at once from many processes.
        """
        with self.migrating() as connection:
            self._enter_project(connection, incarnation)
            failpoint("migration.upgraded")
        self._incarnation = None

    @contextlib.contextmanager
    def migrating(self) -> Iterator[Connection]:
        """Open a transaction that first makes the schema, or brings an older one up to date; refuses a newer one."""
        if self.is_sqlite:
            create_file(self.file, self.label)
        engine = open_engine(self._url, create=True)
        with self.errors(), engine.execution_options(**{WRITE: True}).begin() as connection:
            if not self.is_sqlite:
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(6152914378)")  # serializes migrations
            failpoint("migration.begun")
            revision = self.revision(connection)
            self.refuse_newer(revision)
            if revision != REVISIONS[-1]:
                # Alembic costs most of a second to import, and only a schema that lacks a revision ever needs it.
                from fstore.registry.migrations.upgrade import upgrade  # noqa: PLC0415

                upgrade(connection, REVISION_TABLE)
            yield connection

    def now(self, connection: Connection) -> datetime:
        """Return the database's clock at this moment of the transaction (SQLite's is this machine's)."""
        if self.is_sqlite:
            return datetime.now(UTC)
        instant: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        return instant.astimezone(UTC)

    def insert(self, connection: Connection, table: sa.Table, rows: Sequence[Mapping[str, object]]) -> None:
        """Insert many rows in few statements; nothing for no rows."""
        if rows:
            connection.execute(sa.insert(table), [{"project": self.project, **row} for row in rows])

    def insert_or(self, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
        """Return the database's own INSERT, which can say what to do on a conflict of keys."""
        return sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)

    def follow(self, incarnation: str) -> None:
        """Go on with an incarnation that this process has just brought about."""
        self._incarnation = incarnation

    def close(self) -> None:
        """Close what is kept and nobody uses. It may be used again."""
        kept.close_idle(self.engine)

    def _enter_project(self, connection: Connection, incarnation: str) -> None:
        row = {"project": self.project, "incarnation": incarnation, "version": 0, "sequence": 0}
        insert = self.insert_or(tables.projects).values(**row, created_at=self.now(connection))
        connection.execute(insert.on_conflict_do_nothing())

    # -- what became of a transaction ---------------------------------------------------------------------------------

    def _took_place(self, token: str, failed: sa.exc.DBAPIError) -> bool:
        """Whether the transaction of a token was committed, whatever its connection said. Raises RegistryUnavailable.

        Entering the token once more waits for a transaction that is still open to end, and fails if it was committed.
        """
        deadline = time.monotonic() + _RESOLVE_SECONDS
        while True:
            try:
                with self._writer.connect() as connection, connection.begin() as again:
                    self._limit_waiting(connection, 2 * connecting.BUSY_SECONDS)  # the server ends the other one before
                    free = enter_commit(self, connection, token)
                    again.rollback()
            except sa.exc.DBAPIError as error:
                if time.monotonic() > deadline:
                    text = " ".join(str(failed.orig).split())
                    raise RegistryUnavailable(
                        f"registry {self.label} lost the connection in COMMIT ({text}) and cannot be asked whether the "
                        "transaction took place. Doing the same again is safe: what took place stays as it is."
                    ) from error
                time.sleep(0.2)
            else:
                return not free

    def _limit_waiting(self, connection: Connection, seconds: int) -> None:
        """Keep a frozen process from making the others wait for ever: the server ends its transaction."""
        if not self.is_sqlite:
            limits = f"SET LOCAL lock_timeout = '{seconds}s'; SET LOCAL idle_in_transaction_session_timeout = '{seconds}s'"
            connection.exec_driver_sql(limits)

    # -- what can be wrong --------------------------------------------------------------------------------------------

    def _check(self, connection: Connection) -> None:
        """Refuse a database without our schema, with another revision of it, without this project, or restored since."""
        revision, incarnation = self._look(connection)
        if revision is None:
            raise StoreMissing(f"registry {self.label} was never created: run `fstore apply`")
        self.refuse_newer(revision)
        if revision != REVISIONS[-1]:
            raise RegistryOutdated(
                f"registry {self.label} has schema revision {revision}, and this version of fstore works with "
                f"{REVISIONS[-1]}: run `fstore registry upgrade` once, with every other process on this version, too"
            )
        if incarnation is None:
            raise StoreMissing(f"registry {self.label} knows no project {self.project!r}: run `fstore apply`")
        if self._incarnation not in (None, incarnation):
            raise RegistryRestored(
                f"registry {self.label} was restored while this process was running, so what it has begun there is not "
                "known any more. Nothing was written; run it again from the start (in Airflow: clear compute)."
            )
        self._incarnation = incarnation

    def _look(self, connection: Connection) -> tuple[str | None, str | None]:
        """Return the schema revision (None: no schema of ours) and the project's incarnation (None: no such project)."""
        if self._incarnation is None and ((revision := self.revision(connection)) is None or revision != REVISIONS[-1]):
            return revision, None
        p = tables.projects.c
        incarnation = sa.select(p.incarnation).where(p.project == self.project).scalar_subquery()
        row = connection.execute(
            sa.select(sa.literal_column("version_num"), incarnation).select_from(sa.table(REVISION_TABLE))
        )
        revision, found = row.one()
        return revision, found

    def revision(self, connection: Connection) -> str | None:
        """Return the schema revision that the database records, or None where there is no schema of ours."""
        if not sa.inspect(connection).has_table(REVISION_TABLE):
            return None
        revision: str | None = connection.exec_driver_sql(f"SELECT version_num FROM {REVISION_TABLE}").scalar()
        return revision

    def refuse_newer(self, revision: str | None) -> None:
        """Raise RegistryOutdated for a schema that this code does not know."""
        if revision is not None and revision not in REVISIONS:
            raise RegistryOutdated(
                f"registry {self.label} has schema revision {revision}, which this version of fstore does not know (it "
                f"works with {REVISIONS[-1]}): a newer fstore wrote it, so upgrade this one"
            )

    def _is_writable(self) -> bool:
        """Whether this is an SQLite registry that was not asked to be read-only, and whose file this process may write."""
        if not self.is_sqlite or self._url.query.get("mode") == "ro":
            return False
        return os.access(self.file, os.W_OK) and os.access(self.file.parent, os.W_OK)

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Let a driver's error leave as one of fstore."""
        try:
            yield
        except sa.exc.DBAPIError as error:
            raise self._translate(error, rolled_back=error.connection_invalidated) from error

    def _translate(self, error: sa.exc.DBAPIError, *, rolled_back: bool) -> Exception:
        """Return the error of fstore that says what a driver's error means here.

        ``rolled_back``: the transaction ended with its connection before it was committed, or is known not to have been.
        """
        cause = error.orig
        text = " ".join(str(cause).split())
        state = str(getattr(cause, "sqlstate", None) or "")
        if self.is_sqlite and "unable to open database file" in text and not self.file.is_file():
            return StoreMissing(f"registry {self.label} was never created: run `fstore apply`")
        if "readonly database" in text and self._is_writable():
            # SQLite opens a file for reading when opening it for writing fails, for whatever reason.
            return RegistryUnavailable(f"registry {self.label} could not be opened for writing: {text}", lost=rolled_back)
        if "readonly database" in text or state in ("25006", "42501"):
            return RegistryReadOnly(f"registry {self.label} is read-only: {text}")
        if "is not a database" in text or "malformed" in text:
            return RegistryError(
                f"registry {self.label} is damaged or not a registry: {text}. Correct FSTORE_REGISTRY_URL; or move the file "
                "away, and `fstore registry restore BACKUP --adopt`"
            )
        if state.startswith("28") or "authentication failed" in text or "no password supplied" in text:
            return RegistryError(f"registry {self.label} refuses the login: {text}")
        if state == "3D000" or ('database "' in text and "does not exist" in text):
            return RegistryError(f"registry {self.label} has no such database, create it first: {text}")
        if isinstance(error, (sa.exc.OperationalError, sa.exc.InterfaceError)) or error.connection_invalidated:
            full = ": its disk fails or is full, see to it and run again" if text in _DISK else ""
            return RegistryUnavailable(f"registry {self.label} cannot be reached now: {text}{full}", lost=rolled_back)
        return RegistryError(f"registry {self.label} failed: {text}")
