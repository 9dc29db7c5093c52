"""How the registry's database is connected to: URLs, engines and drivers.

Takes a URL as users write it and gives SQLAlchemy engines whose connections live as long as one transaction, or as long as
the registry is held (``kept.py``). Begins no transaction itself.
"""

from __future__ import annotations

import random
import sqlite3
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.pool import NullPool

from fstore.connections import masked_url
from fstore.errors import RegistryError, SettingsError
from fstore.registry import postgres_connection
from fstore.registry.kept import KeepingPool
from fstore.registry.sqlite_connection import SQLiteConnection

BUSY_SECONDS = 30
"""How long a transaction waits for another one's lock before it gives up."""

ANSWER_SECONDS = 3 * BUSY_SECONDS
"""How long PostgreSQL may take to answer a statement: longer than it waits for any lock."""

WRITE = "fstore_write"
"""The execution option of a transaction that writes."""


def parse_url(text: str) -> URL:
    """Return a checked URL. The path of an SQLite file is taken as it is written, without any percent escapes."""
    if text.startswith("sqlite:///"):
        path, _, query = text.removeprefix("sqlite:///").partition("?")
        if path and path != ":memory:":
            return URL.create("sqlite", database=path, query=dict(parse_qsl(query)))
    try:
        url = make_url(text)
    except sa.exc.ArgumentError:
        raise SettingsError(
            f"{masked_url(text)!r} is no registry URL; use sqlite:///path/registry.db or postgresql://…"
        ) from None
    if url.get_backend_name() == "sqlite":
        raise SettingsError("the registry needs a file: use sqlite:///path/registry.db")
    if url.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        _refuse_odd_timeout(url)
        return url.set(drivername="postgresql+psycopg")
    raise SettingsError(
        f"a registry cannot be kept at {url.drivername}://…; use sqlite:///path/registry.db or postgresql://…"
    )


def _refuse_odd_timeout(url: URL) -> None:
    given = url.query.get("connect_timeout", "2")
    if not (isinstance(given, str) and given.isdecimal() and int(given) >= 2):
        raise SettingsError(f"connect_timeout of the registry is {given!r}; it is a whole number of seconds, 2 or more")


def label_of(url: URL) -> str:
    """Return a URL as messages show it: as users write it, without the password."""
    if url.get_backend_name() == "sqlite":
        return f"sqlite:///{url.database}"
    shown = url.difference_update_query(["password"]).set(drivername=url.get_backend_name())
    return masked_url(shown.render_as_string(hide_password=True))


def open_engine(url: URL, *, create: bool) -> Engine:
    """Return an engine whose connections live as long as one transaction, or as long as the registry is held.

    One that may ``create`` keeps none: it is used once.
    """
    pool = NullPool if create else KeepingPool
    options: dict[str, object] = {"poolclass": pool, "json_serializer": _text, "json_deserializer": _text}
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine(url, options, create=create)
    # Keepalives find out that a host is gone while nothing is sent, and the user timeout while something is.
    defaults = {"connect_timeout": "10", "keepalives_idle": "10", "keepalives_interval": "5", "keepalives_count": "3",
                "tcp_user_timeout": "30000"}  # fmt: skip
    url = url.set(query={**defaults, **url.query})
    try:
        engine = sa.create_engine(url, connect_args={"prepare_threshold": None}, **options)
    except ModuleNotFoundError:
        raise SettingsError("a PostgreSQL registry needs the driver psycopg: pip install 'fstore[postgres]'") from None
    if not create:  # a migration may take its time
        sa.event.listen(engine, "do_connect", _connect_to_server)
    return engine


def create_file(path: Path, label: str) -> None:
    """Make the directory of an SQLite registry."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RegistryError(f"registry {label} cannot be created: {error}") from None


def _sqlite_engine(url: URL, options: dict[str, object], *, create: bool) -> Engine:
    mode = "rwc" if create else str(url.query.get("mode", "rw"))
    path, address = Path(str(url.database)), f"file:{quote(str(url.database))}?mode={mode}"

    def connect() -> sqlite3.Connection:
        # Autocommit at the driver: the transaction's own BEGIN below is the only one.
        # Threads share it one after another; the library is compiled to be safe even at once.
        connection = SQLiteConnection.opening(
            path, address, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
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
        if connection.get_execution_options().get(WRITE):
            _begin_writing(connection)
        else:
            connection.exec_driver_sql("BEGIN")

    return engine


def _begin_writing(connection: Connection) -> None:
    """Begin a transaction that holds the write lock, when its turn comes.

    SQLite's own way of waiting asks the less often the longer it has waited, so that whoever comes later goes first, and
    of many writers one starves. Here all of them ask equally often.
    """
    driver: Any = connection.connection.dbapi_connection
    driver.execute("PRAGMA busy_timeout = 0")
    try:
        deadline = time.monotonic() + BUSY_SECONDS
        while time.monotonic() < deadline:
            try:
                driver.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    break
                time.sleep(random.uniform(0.001, 0.005))  # noqa: S311  (no secret)
            else:
                return
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # for its error
    finally:
        driver.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")


def _connect_to_server(dialect: sa.Dialect, _record: object, arguments: list[Any], options: dict[str, Any]) -> object:
    return postgres_connection.connect(dialect.loaded_dbapi, arguments, options, answer_seconds=ANSWER_SECONDS)


def _text(value: object) -> str:
    """Return JSON as the text that it is in the database; reading and writing never parse it."""
    return value if isinstance(value, str) else bytes(value).decode()  # type: ignore[call-overload]
