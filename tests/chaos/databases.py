"""The parts of a world's states that are not files below its root: databases of PostgreSQL and Redis servers.

A database of PostgreSQL is copied from a template once, which takes most of a second; after that its rows alone are
replaced, as long as it still has the tables and columns of the state.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, NamedTuple

import psycopg
from psycopg import sql

from fstore.settings import Settings

if TYPE_CHECKING:
    import redis

AFRESH = 50
"""After how many replacements of its rows a database is copied afresh: what was deleted still takes room in its tables."""

_COLUMNS = """
    SELECT c.relname, a.attname, a.atttypid FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY c.relname, a.attnum
"""
_COUNTERS = """
    SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = 'public' ORDER BY sequencename
"""
_END_OTHERS = """
    SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


class Stores(NamedTuple):
    """Which stores a world has: URLs of servers, None for the embedded ones."""

    postgres: str | None = None
    redis: str | None = None

    @property
    def label(self) -> str:
        return f"{'postgresql' if self.postgres else 'sqlite'}+{'redis' if self.redis else 'lmdb'}"


class Rows(NamedTuple):
    """What the tables of a database of PostgreSQL hold."""

    columns: list[tuple[str, str, int]]
    """Name of the table, name and type of the column."""
    tables: dict[str, bytes]
    """The rows of those that have any, in PostgreSQL's binary form."""
    counters: list[tuple[str, int | None]]
    """What each sequence gave last."""


class Databases:
    """Where a world of a number has its databases, and copies of them by state. Does nothing for embedded stores."""

    def __init__(self, stores: Stores, number: int, prefix: str = "") -> None:
        self._stores, self._number, self._prefix = stores, number, prefix or f"chaos_{os.getpid()}"
        self._kept: set[str] = set()
        self._rows: dict[str, Rows] = {}
        self._left = 0
        """How often the rows may be replaced before the database is copied afresh; at first there is none."""
        self._dumps: dict[str, list[tuple[bytes, bytes]]] = {}

    def numbered(self, number: int) -> Databases:
        """Return the databases of another place with the same states."""
        copy = Databases(self._stores, number, self._prefix)
        copy._dumps, copy._rows = self._dumps, self._rows
        return copy

    @property
    def _name(self) -> str:
        return f"{self._prefix}_{self._number}"

    def urls(self) -> dict[str, str]:
        found = {}
        if self._stores.postgres:
            found["registry_url"] = self._stores.postgres.rpartition("/")[0] + f"/{self._name}"
        if self._stores.redis:
            found["online_url"] = self._stores.redis.rpartition("/")[0] + f"/{self._number}"
        return found

    def begin(self) -> None:
        self._sql(f"CREATE DATABASE {self._name}")

    def keep(self, state: str) -> None:
        copy = self._copy(state)
        self._sql(f"DROP DATABASE IF EXISTS {copy}", f"CREATE DATABASE {copy} TEMPLATE {self._name}")
        self._kept.add(state)
        if self._stores.postgres:
            with self._own() as connection:
                self._rows[state] = _rows_of(connection)
        if self._stores.redis:
            with self._redis() as client:
                self._dumps[state] = [(key, client.dump(key)) for key in client.scan_iter(count=1000)]

    def restore(self, state: str) -> None:
        if self._stores.postgres:
            self._restore_registry(state)
        if self._stores.redis:
            with self._redis() as client:
                pipe = client.pipeline(transaction=False)
                pipe.flushdb()
                for key, dump in self._dumps[state]:
                    pipe.restore(key, 0, dump)
                pipe.execute()

    def _restore_registry(self, state: str) -> None:
        if self._left:
            self._left -= 1
            with self._own() as connection:
                connection.execute(_END_OTHERS)
                if _replace_rows(connection, self._rows[state]):
                    return
        name = self._name
        self._sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", f"CREATE DATABASE {name} TEMPLATE {self._copy(state)}")
        self._left = AFRESH

    def lose_online(self, settings: Settings, store_id: str) -> None:
        """Leave an online store that has its id and nothing else."""
        from fstore.backends import _online_store

        if self._stores.redis:
            with self._redis() as client:
                client.flushdb()
        else:
            shutil.rmtree(settings.online_url.removeprefix("lmdb:"))
        store = _online_store(settings)
        store.create(store_id)
        store.close()

    def clear(self) -> None:
        for name in [self._name, *map(self._copy, self._kept)]:
            self._sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _copy(self, state: str) -> str:
        return f"{self._prefix}_{state.replace('-', '_')}"

    def _sql(self, *statements: str) -> None:
        if self._stores.postgres:
            with psycopg.connect(self._stores.postgres, autocommit=True) as connection:
                for statement in statements:
                    connection.execute(statement)

    def _own(self) -> psycopg.Connection:
        return psycopg.connect(self.urls()["registry_url"], autocommit=True)

    def _redis(self) -> redis.Redis:
        import redis

        return redis.Redis.from_url(self.urls()["online_url"])


def _rows_of(connection: psycopg.Connection) -> Rows:
    columns = connection.execute(_COLUMNS).fetchall()
    tables = {}
    for table in dict.fromkeys(name for name, _, _ in columns):
        name = sql.Identifier(table)
        if connection.execute(sql.SQL("SELECT 1 FROM {} LIMIT 1").format(name)).fetchone():
            with connection.cursor().copy(sql.SQL("COPY {} TO STDOUT (FORMAT binary)").format(name)) as copy:
                tables[table] = b"".join(copy)
    return Rows(columns, tables, connection.execute(_COUNTERS).fetchall())


def _replace_rows(connection: psycopg.Connection, rows: Rows) -> bool:
    """Let a database hold these rows and no others, or return False where it does not have those tables and columns."""
    if connection.execute(_COLUMNS).fetchall() != rows.columns:
        return False
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")  # no foreign keys, which hold before and after
        for table in dict.fromkeys(name for name, _, _ in rows.columns):
            cursor.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
        for table, content in rows.tables.items():
            with cursor.copy(sql.SQL("COPY {} FROM STDIN (FORMAT binary)").format(sql.Identifier(table))) as copy:
                copy.write(content)
        for name, last in rows.counters:
            cursor.execute("SELECT setval(%s::regclass, %s, %s)", (name, 1 if last is None else last, last is not None))
    return True
