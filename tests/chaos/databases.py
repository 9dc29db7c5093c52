"""The parts of a world's states that are not files below its root: databases of PostgreSQL and Redis servers."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, NamedTuple

from fstore.settings import Settings

if TYPE_CHECKING:
    import redis


class Stores(NamedTuple):
    """Which stores a world has: URLs of servers, None for the embedded ones."""

    postgres: str | None = None
    redis: str | None = None

    @property
    def label(self) -> str:
        return f"{'postgresql' if self.postgres else 'sqlite'}+{'redis' if self.redis else 'lmdb'}"


class Databases:
    """Where a world of a number has its databases, and copies of them by state. Does nothing for embedded stores."""

    def __init__(self, stores: Stores, number: int, prefix: str = "") -> None:
        self._stores, self._number, self._prefix = stores, number, prefix or f"chaos_{os.getpid()}"
        self._kept: set[str] = set()
        self._dumps: dict[str, list[tuple[bytes, bytes]]] = {}

    def numbered(self, number: int) -> Databases:
        """Return the databases of another place with the same states."""
        copy = Databases(self._stores, number, self._prefix)
        copy._dumps = self._dumps
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
        if self._stores.redis:
            with self._redis() as client:
                self._dumps[state] = [(key, client.dump(key)) for key in client.scan_iter(count=1000)]

    def restore(self, state: str) -> None:
        name = self._name
        self._sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", f"CREATE DATABASE {name} TEMPLATE {self._copy(state)}")
        if self._stores.redis:
            with self._redis() as client:
                pipe = client.pipeline(transaction=False)
                pipe.flushdb()
                for key, dump in self._dumps[state]:
                    pipe.restore(key, 0, dump)
                pipe.execute()

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
            import psycopg

            with psycopg.connect(self._stores.postgres, autocommit=True) as connection:
                for statement in statements:
                    connection.execute(statement)

    def _redis(self) -> redis.Redis:
        import redis

        return redis.Redis.from_url(self.urls()["online_url"])
