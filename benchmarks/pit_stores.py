"""Published stores for the benchmarks of point-in-time joins, and the entity rows that are joined with them.

A store is made once under build/ and kept: DuckDB writes the files in the layout that the engine writes (zstd, sorted by
time and key), and the real ledger publishes them, as one range run (its chunks are two files) or as a run per day. Every
interval has a row for every key, so that a plain ASOF join over the files gives the same rows. Entity rows are Parquet
beside it: a random key, a random instant within the published year, and a label.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.harness import BUILD
from fstore import Client
from fstore.arrow import rows_hash, schema_id
from fstore.backends import Backends, create_backends
from fstore.interval import Interval, Schedule
from fstore.plan.steps import Feature, Plan, PlannedEntity, SqlStep
from fstore.registry.ledger import Verdict
from fstore.settings import Settings
from fstore.types import Column, DataFile

if TYPE_CHECKING:
    import duckdb

SCALE = float(os.environ.get("FSTORE_BENCH_SCALE", "1"))
MILLION = int(1_000_000 * SCALE)
DAY = timedelta(days=1)
START, DAYS = datetime(2025, 1, 1, tzinfo=UTC), 365
END = START + DAYS * DAY
YEAR = Schedule("0 0 * * *").intervals(START, END)
LIMITS: dict[str, str | int] = {"threads": 2, "memory_limit": "4GB"}
FAST = Path("/dev/shm")
"""Where stores are made, if there is such a place: a thousand runs sync their files and commits thousands of times."""

FIRST_CHUNK = 12
"""Intervals in the first of two files of a range run over views of which nothing is known."""

KINDS = ("float64",) * 6 + ("int64",) * 2 + ("bool", "string")
"""The types of a view's ten features."""


class View(NamedTuple):
    """A view with so many features (by turns of :data:`KINDS`), named after it."""

    name: str
    kind: Literal["snapshot", "event"] = "snapshot"
    features: int = 10

    @property
    def columns(self) -> list[Column]:
        return [Column(name=f"{self.name}_f{n}", type=KINDS[n % len(KINDS)]) for n in range(self.features)]


class Store(NamedTuple):
    """Views of so many rows and keys each; ``daily`` ones are published by a run per day."""

    rows: int
    keys: int
    views: tuple[View, ...]
    daily: bool = False

    @property
    def folder(self) -> Path:
        how = "daily" if self.daily else "range"
        return BUILD / f"pit_{self.views[0].kind}_{len(self.views)}x{self.views[0].features}_{self.rows}_{self.keys}_{how}"

    @property
    def settings(self) -> Settings:
        return self.settings_at(self.folder)

    def settings_at(self, root: Path) -> Settings:
        return Settings(
            root=str(root), project="bench", registry_url=f"sqlite:///{root}/registry.db",
            offline_url=f"file:{root}/offline", online_url=f"lmdb:{root}/online", spill_dir=str(root / "spill"),
            cache_dir=str(root / "cache"),
            threads=int(LIMITS["threads"]), memory_limit=str(LIMITS["memory_limit"]),
        )  # fmt: skip

    def files(self, view: View) -> list[str]:
        """Return the published files of a view, which is all that lies in its directory."""
        return [str(path) for path in sorted((self.folder / "offline" / "bench" / view.name).rglob("*.parquet"))]

    def references(self, views: int) -> list[str]:
        return [f"{view.name}:*" for view in self.views[:views]]


def grid(rows: int, *, daily: bool, views: int = 3, features: int = 10) -> Store:
    """Return a store of snapshot views of a year: every key has a row every day."""
    keys = max(1, rows // DAYS)
    return Store(keys * DAYS, keys, tuple(View(f"v{n + 1}", "snapshot", features) for n in range(views)), daily)


def connect() -> duckdb.DuckDBPyConnection:
    import duckdb  # here, so that the memory of who does not use it is measured without it

    connection = duckdb.connect(config={**LIMITS, "temp_directory": str(BUILD / "spill")})
    connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
    return connection


def key_sql(hashed: str, keys: int) -> str:
    return f"'u' || lpad(CAST({hashed} % {keys} AS VARCHAR), 7, '0')"


# -- entity rows ------------------------------------------------------------------------------------------------------


def spine_file(rows: int, keys: int) -> Path:
    """Return where entity rows are kept."""
    return BUILD / f"pit_spine_{rows}_{keys}.parquet"


def spine(rows: int, keys: int) -> pa.Table:
    """Return entity rows in random order; made once."""
    path = spine_file(rows, keys)
    if not path.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        micros = (END - START - DAY) // timedelta(microseconds=1)
        first = f"{(START + DAY).timestamp() * 1e6:.0f}"
        with connect() as connection:
            connection.execute(f"""
                COPY (
                  SELECT {key_sql("hash(i, 11)", keys)} AS user_id,
                    make_timestamptz({first} + CAST(hash(i, 12) % {micros} AS BIGINT)) AS event_timestamp,
                    CAST(hash(i, 13) % 2 AS INTEGER) AS label
                  FROM range({rows}) AS entity_rows(i)
                ) TO '{path}.tmp' (FORMAT parquet)""")
        Path(f"{path}.tmp").rename(path)
    with pq.ParquetFile(path) as file:  # pq.read_table would import pandas into every process that is measured
        return file.read()


# -- publishing -------------------------------------------------------------------------------------------------------


def prepare(store: Store) -> None:
    """Publish a store, unless it is there."""
    if (store.folder / "ready").exists():
        return
    shutil.rmtree(store.folder, ignore_errors=True)
    BUILD.mkdir(parents=True, exist_ok=True)
    root = Path(tempfile.mkdtemp(prefix="fstore-bench-", dir=FAST if FAST.is_dir() else BUILD))
    print(f"  publishing {store.folder.name} …", flush=True)
    steps = [_step(view) for view in store.views]
    entities = (PlannedEntity(name="user", keys=steps[0].keys),)
    with create_backends(store.settings_at(root)) as backends, connect() as connection:
        backends.registry.register(Plan(project="bench", entities=entities, steps=tuple(steps), services=()))
        for view, step in zip(store.views, steps, strict=True):
            connection.execute(f"CREATE OR REPLACE TABLE published AS {_rows(store, view)}")
            for number, run in enumerate([[day] for day in YEAR] if store.daily else [list(YEAR)]):
                _publish(backends, connection, view, step, run, number)
    shutil.move(root, store.folder)
    (store.folder / "ready").touch()


def _step(view: View) -> SqlStep:
    return SqlStep(
        project="bench", view=view.name, entity="user", keys=(Column(name="user_id", type="string"),),
        features=tuple(Feature(name=c.name, type=c.type, fingerprint=f"f-{c.name}", empty=None) for c in view.columns),
        kind=view.kind, schedule=Schedule("0 0 * * *"), start=START, end=None, lag=timedelta(), ttl=None, online=True,
        pipeline="p", inputs=(), audits=(), lineage=(), fingerprint=f"fp-{view.name}", module="feature_defs/p.py", line=1,
        sql="SELECT 1",
    )  # fmt: skip


def _rows(store: Store, view: View) -> str:
    seed = store.views.index(view) * 1000
    values = ", ".join(
        f"CASE WHEN hash(i, {seed + n}, 1) % 20 > 0 THEN {_value(column.type, f'hash(i, {seed + n})')} END AS {column.name}"
        for n, column in enumerate(view.columns)
    )
    if view.kind == "snapshot":
        key = key_sql("i", store.keys)
        time = f"TIMESTAMPTZ '{START:%Y-%m-%d}' + to_days(CAST(i // {store.keys} AS INTEGER) + 1)"
    else:
        micros = (END - START) // timedelta(microseconds=1)
        key = key_sql("hash(i, 21)", store.keys)
        time = f"make_timestamptz({START.timestamp() * 1e6:.0f} + CAST(hash(i, 22) % {micros} AS BIGINT))"
    return f"SELECT {key} AS user_id, {time} AS event_timestamp, {values} FROM range({store.rows}) AS rows(i)"


def _value(kind: str, hashed: str) -> str:
    match kind:
        case "float64":
            return f"CAST({hashed} % 1000003 AS DOUBLE) / 101"
        case "int64":
            return f"CAST({hashed} % 1000 AS BIGINT)"
        case "bool":
            return f"{hashed} % 3 = 0"
        case _:
            return f"'category ' || CAST({hashed} % 40 AS VARCHAR)"


def _publish(
    backends: Backends,
    connection: duckdb.DuckDBPyConnection,
    view: View,
    step: SqlStep,
    run: Sequence[Interval],
    number: int,
) -> None:
    from fstore.engines.duckdb import ROW_GROUP_ROWS

    copy = f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP_ROWS})"
    ledger, offline = backends.registry.ledger, backends.offline
    attempt = ledger.begin(step, run, f"run-{number}")
    directory = offline.attempt_directory(step.view, attempt.generation, attempt.id)
    files = []
    for index, part in enumerate(part for part in (run[:FIRST_CHUNK], run[FIRST_CHUNK:]) if part):
        path = f"{directory}/part-{index}.parquet"
        low, high = (">", "<=") if view.kind == "snapshot" else (">=", "<")
        within = f"event_timestamp {low} '{part[0].start}' AND event_timestamp {high} '{part[-1].end}'"
        with offline.writing(path) as local:
            ((rows,),) = connection.execute(
                f"COPY (FROM published WHERE {within} ORDER BY event_timestamp, user_id) TO '{local}' {copy}"
            ).fetchall()
            columns = schema_id(pq.read_schema(local))
        files.append(
            DataFile(path=path, rows=rows, bytes=offline.size(path), start=part[0].start, end=part[-1].end,
                     schema_id=columns, checksum=offline.checksum(path))
        )  # fmt: skip
    ledger.record_files(attempt.id, files)
    ledger.record_verdicts(attempt.id, [Verdict(interval=interval, passed=True, rows=0) for interval in run])
    ledger.publish(attempt.id)


# -- reading ----------------------------------------------------------------------------------------------------------


def read_ours(store: Store, views: int, rows: pa.Table) -> pa.Table:
    """Read a training frame with a new client."""
    with Client(store.settings) as client:
        return client.get_historical_features(rows, features=store.references(views)).to_arrow()


def read_sql(store: Store, sql: str, rows: pa.Table) -> pa.Table:
    """Run a query by hand over the published files, as ``v1`` and so on, and ``spine``."""
    with connect() as connection:
        for view in store.views:
            connection.execute(f"CREATE VIEW {view.name} AS FROM read_parquet({store.files(view)!r})")
        connection.register("spine", rows)
        return connection.sql(sql).to_arrow_table()


def content(table: pa.Table) -> str:
    """Return what identifies a table's rows in any order."""
    return hashlib.sha256(f"{rows_hash(table, columns=sorted(table.column_names))} {table.num_rows}".encode()).hexdigest()
