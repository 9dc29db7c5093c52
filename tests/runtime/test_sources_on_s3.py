"""Sources in S3, and copies of tables in an offline store in S3: read, compared and observed like local ones."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fstore.backends import create_backends
from fstore.definitions.source import CsvSource, ParquetSource, PostgresSource, SqlSource, UnionSource
from fstore.engines.engine import EventRelation, Query
from fstore.filesystem import open_filesystem
from fstore.plan.fingerprint import source_key
from fstore.registry.source_changes import TimeSpan
from fstore.runtime.sources import observe_sources
from fstore.settings import Settings
from tests.stores.test_offline import s3_endpoint  # noqa: F401  (a fixture)

pytestmark = pytest.mark.integration

BEGIN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


def write(path: str, days: list[int]) -> None:
    filesystem, _ = open_filesystem("s3://features/raw")
    table = pa.table({"id": days, "seen": pa.array([BEGIN + day * DAY for day in days], pa.timestamp("us", tz="UTC"))})
    with filesystem.open_output_stream(f"features/raw/{path}") as stream:
        pq.write_table(table, stream)


def test_everything_works_on_s3(
    s3_endpoint: str,  # noqa: F811
    tmp_path: Path,
    postgres_database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FSTORE_CONNECTION_SHOP", postgres_database)
    web = ParquetSource("web", path="s3://features/raw/web", event_time="seen")
    app = CsvSource("app", path="s3://features/raw/app", event_time="seen")
    table = PostgresSource("t", connection="shop", table="t", event_time="seen", cursor="id", unique_key=["id"])
    every = UnionSource([web, app, table], name="every", columns=["id"])
    daily = SqlSource("daily", inputs={"e": every.window("1d")}, sql="SELECT max(seen) AS seen, count(*) AS n FROM e",
                      event_time="seen")  # fmt: skip
    write("web/1.parquet", [0, 1])
    filesystem, _ = open_filesystem("s3://features/raw")
    with filesystem.open_output_stream("features/raw/app/1.csv") as stream:
        stream.write(b"id,seen\n7,2026-01-01T12:00:00Z\n")
    with psycopg.connect(postgres_database, autocommit=True) as database:
        database.execute("CREATE TABLE t (id int, seen timestamptz); INSERT INTO t VALUES (1, '2026-01-02 06:00Z')")
        settings = Settings(
            project="shop", root=str(tmp_path), registry_url=f"sqlite:///{tmp_path}/registry.db",
            offline_url="s3://features/store", online_url=f"lmdb:{tmp_path}/online", spill_dir=str(tmp_path / "spill"),
            cache_dir=str(tmp_path / "cache"),
        )  # fmt: skip
        with create_backends(settings) as backends:
            observe_sources(backends, [daily])
            relation = EventRelation(source=daily, start=BEGIN, end=BEGIN + 4 * DAY)

            def counted() -> list[int]:
                query = Query(sql="SELECT n FROM r ORDER BY seen", relations={"r": relation})
                with backends.engine.read(query) as reader:
                    return [row["n"] for row in reader.read_all().to_pylist()]

            assert counted() == [2, 4]
            database.execute(
                "INSERT INTO t VALUES (2, '2026-01-03 06:00Z'); UPDATE t SET seen = '2026-01-02 07:00Z' WHERE id = 1"
            )
            write("web/2.parquet", [3])
            observe_sources(backends, [daily])
            spans = [change.span for change in backends.registry.sources.since(source_key(daily))]
            assert spans == [TimeSpan(BEGIN + DAY, BEGIN + 5 * DAY)]
            assert counted() == [2, 4, 3, 2]
            assert len(backends.registry.extracts.every(source_key(table))) == 2
