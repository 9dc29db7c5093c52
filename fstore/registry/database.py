"""The registry's database: connections, transactions and what goes wrong with them.

Takes a URL and gives short transactions: :meth:`Database.reading` sees one consistent state, :meth:`Database.writing`
holds SQLite's write lock from its first statement on (``BEGIN IMMEDIATE``), so that concurrent writers queue instead of
failing. A connection lives as long as its transaction: nothing is shared over a fork, kept over a server's restart, or
left open. Opening is lazy: the first transaction checks that the schema is the one that this code works with. Every
driver error leaves here as an error of fstore, with the URL's password masked.
"""

from __future__ import annotations

import contextlib
import copy
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qsl, quote

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.pool import NullPool

from fstore.errors import (
    RegistryError,
    RegistryOutdated,
    RegistryReadOnly,
    RegistryUnavailable,
    SettingsError,
    StoreMissing,
)
from fstore.failpoints import failpoint
from fstore.registry import tables
from fstore.registry.migrations import REVISIONS

BUSY_SECONDS = 30
"""How long a transaction waits for another one's lock before it gives up."""

BATCH = 500
"""How many values go into one ``IN (…)``: below the parameter limits of both databases."""

REVISION_TABLE = "fstore_revision"

_WRITE = "fstore_write"


class Database:
    """One registry database, seen by one project. Safe to share between threads and over a fork; cheap to open.

    ``overlay`` names the overlay through which views are resolved; empty: what is live.
    """

    def __init__(self, url: str, project: str, overlay: str = "") -> None:
        self.project, self.overlay = project, overlay
        self._url = _parse(url)
        self.label = _label(self._url)
        self.engine = _engine(self._url, create=False)
        self._checked = False

    def on_overlay(self, overlay: str) -> Database:
        """Return the same database seen through an overlay (empty: live); both share connections and checks."""
        seen = copy.copy(self)
        seen.overlay = overlay
        return seen

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite rather than PostgreSQL."""
        return self._url.get_backend_name() == "sqlite"

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a transaction that only reads and sees one state throughout."""
        options = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with self._transaction(self.engine, options) as connection:
            self._check(connection)
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction that may write; it commits on leaving and rolls back on an exception."""
        with self._transaction(self.engine, {_WRITE: True}) as connection:
            if not self.is_sqlite:
                # A frozen process must not keep the others waiting for ever: the server ends its transaction.
                limits = f"SET LOCAL lock_timeout = '{BUSY_SECONDS}s'; "
                limits += f"SET LOCAL idle_in_transaction_session_timeout = '{BUSY_SECONDS}s'"
                connection.exec_driver_sql(limits)
            self._check(connection)
            failpoint("registry.begun")
            yield connection
            failpoint("registry.committing")
        failpoint("registry.committed")

    def create(self, incarnation: str) -> None:
        """Create the schema or bring an older one up to date, and enter the project, as ``incarnation`` if it is new.

        Safe to repeat and to run at once from many processes.
        """
        if self.is_sqlite:
            _create_file(Path(str(self._url.database)), self.label)
        with self._transaction(_engine(self._url, create=True), {_WRITE: True}) as connection:
            if not self.is_sqlite:
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(6152914378)")  # serializes migrations
            failpoint("migration.begun")
            revision = _revision(connection)
            self._refuse_newer(revision)
            if revision != REVISIONS[-1]:
                # Alembic costs most of a second to import, and only a schema that lacks a revision ever needs it.
                from fstore.registry.migrations.upgrade import upgrade  # noqa: PLC0415

                upgrade(connection, REVISION_TABLE)
            self._enter_project(connection, incarnation)
            failpoint("migration.upgraded")
        self._checked = False

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

    def close(self) -> None:
        """Forget the engine's caches; there is no connection to close between transactions."""
        self.engine.dispose()

    def _enter_project(self, connection: Connection, incarnation: str) -> None:
        row = {"project": self.project, "incarnation": incarnation, "version": 0, "sequence": 0}
        insert = self.insert_or(tables.projects).values(**row, created_at=self.now(connection))
        connection.execute(insert.on_conflict_do_nothing())

    # -- what can be wrong --------------------------------------------------------------------------------------------

    def _check(self, connection: Connection) -> None:
        """Refuse a database without our schema, with another revision of it, or without this project; once."""
        if self._checked:
            return
        revision = _revision(connection)
        if revision is None:
            raise StoreMissing(f"registry {self.label} was never created: run `fstore apply`")
        self._refuse_newer(revision)
        if revision != REVISIONS[-1]:
            raise RegistryOutdated(
                f"registry {self.label} has schema revision {revision}, and this version of fstore works with "
                f"{REVISIONS[-1]}: run `fstore apply` to bring it up to date"
            )
        found = connection.execute(
            sa.select(tables.projects.c.project).where(tables.projects.c.project == self.project)
        ).scalar()
        if found is None:
            raise StoreMissing(f"registry {self.label} knows no project {self.project!r}: run `fstore apply`")
        self._checked = True

    def _refuse_newer(self, revision: str | None) -> None:
        if revision is not None and revision not in REVISIONS:
            raise RegistryOutdated(
                f"registry {self.label} has schema revision {revision}, which this version of fstore does not know (it "
                f"works with {REVISIONS[-1]}): a newer fstore wrote it, so upgrade this one"
            )

    @contextlib.contextmanager
    def _transaction(self, engine: Engine, options: Mapping[str, object]) -> Iterator[Connection]:
        """Connect, begin, and commit or roll back; a driver's error leaves as one of fstore."""
        try:
            with engine.execution_options(**options).begin() as connection:
                yield connection
        except sa.exc.DBAPIError as error:
            raise self._translate(error) from error

    def _translate(self, error: sa.exc.DBAPIError) -> Exception:
        """Return the error of fstore that says what a driver's error means here."""
        cause = error.orig
        text = " ".join(str(cause).split())
        state = str(getattr(cause, "sqlstate", None) or "")
        if self.is_sqlite and "unable to open database file" in text and not Path(str(self._url.database)).is_file():
            return StoreMissing(f"registry {self.label} was never created: run `fstore apply`")
        if "readonly database" in text or state == "25006":
            return RegistryReadOnly(f"registry {self.label} is read-only: {text}")
        if "is not a database" in text or "malformed" in text:
            return RegistryError(f"registry {self.label} is damaged or not a registry: {text}")
        if state.startswith("28") or "authentication failed" in text or "no password supplied" in text:
            return RegistryError(f"registry {self.label} refuses the login: {text}")
        if state == "3D000" or ('database "' in text and "does not exist" in text):
            return RegistryError(f"registry {self.label} has no such database, create it first: {text}")
        if isinstance(error, (sa.exc.OperationalError, sa.exc.InterfaceError)) or error.connection_invalidated:
            return RegistryUnavailable(f"registry {self.label} cannot be reached now: {text}")
        return RegistryError(f"registry {self.label} failed: {text}")


def _parse(text: str) -> URL:
    """Return a checked URL. The path of an SQLite file is taken as it is written, without any percent escapes."""
    if text.startswith("sqlite:///"):
        path, _, query = text.removeprefix("sqlite:///").partition("?")
        if path and path != ":memory:":
            return URL.create("sqlite", database=path, query=dict(parse_qsl(query)))
    try:
        url = make_url(text)
    except sa.exc.ArgumentError:
        raise SettingsError(f"{text!r} is no registry URL; use sqlite:///path/registry.db or postgresql://…") from None
    if url.get_backend_name() == "sqlite":
        raise SettingsError("the registry needs a file: use sqlite:///path/registry.db")
    if url.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return url.set(drivername="postgresql+psycopg")
    raise SettingsError(
        f"a registry cannot be kept at {url.drivername}://…; use sqlite:///path/registry.db or postgresql://…"
    )


def _label(url: URL) -> str:
    """Return a URL as messages show it: as users write it, without the password."""
    if url.get_backend_name() == "sqlite":
        return f"sqlite:///{url.database}"
    return (
        url.difference_update_query(["password"]).set(drivername=url.get_backend_name()).render_as_string(hide_password=True)
    )


def _engine(url: URL, *, create: bool) -> Engine:
    """Return an engine whose connections live as long as one transaction."""
    options: dict[str, object] = {"poolclass": NullPool, "json_serializer": _text, "json_deserializer": _text}
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine(url, options, create=create)
    arguments = {"connect_timeout": 10, "prepare_threshold": None}
    try:
        return sa.create_engine(url, connect_args=arguments, **options)
    except ModuleNotFoundError:
        raise SettingsError("a PostgreSQL registry needs the driver psycopg: pip install 'fstore[postgres]'") from None


def _sqlite_engine(url: URL, options: dict[str, object], *, create: bool) -> Engine:
    mode = "rwc" if create else str(url.query.get("mode", "rw"))
    file = f"file:{quote(str(url.database))}?mode={mode}"

    def connect() -> sqlite3.Connection:
        # Autocommit at the driver: the transaction's own BEGIN below is the only one.
        connection = sqlite3.connect(file, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            if create:
                connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        return connection

    engine = sa.create_engine("sqlite://", creator=connect, **options)

    @sa.event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITE)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _create_file(path: Path, label: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RegistryError(f"registry {label} cannot be created: {error}") from None


def _revision(connection: Connection) -> str | None:
    """Return the schema revision that the database records, or None where there is no schema of ours."""
    if not sa.inspect(connection).has_table(REVISION_TABLE):
        return None
    revision: str | None = connection.exec_driver_sql(f"SELECT version_num FROM {REVISION_TABLE}").scalar()
    return revision


def _text(value: object) -> str:
    """Return JSON as the text that it is in the database; reading and writing never parse it."""
    return value if isinstance(value, str) else bytes(value).decode()  # type: ignore[call-overload]
