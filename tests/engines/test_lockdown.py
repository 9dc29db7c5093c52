from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.fs as pafs
import pytest

from fstore.definitions.source import ParquetSource
from fstore.engines.duckdb import DuckDBEngine
from fstore.engines.engine import ArrowRelation, DimensionRelation, Query
from fstore.errors import ComputeError, OutputMismatch, SettingsError
from tests.engines.samples import rows, utc, write_parquet

TABLE = ArrowRelation(table=pa.table({"n": [1, 2, 3]}))

NOT_A_SELECT = "the SQL is not a SELECT: a query may not change, export or load anything."
ESCAPES = {
    "COPY t TO '{file}'": NOT_A_SELECT,
    "COPY (SELECT 1) TO '{file}' (FORMAT csv)": NOT_A_SELECT,
    "ATTACH '{file}' AS x": NOT_A_SELECT,
    "INSTALL httpfs": NOT_A_SELECT,
    "LOAD httpfs": NOT_A_SELECT,
    "SET threads = 1": NOT_A_SELECT,
    "SET enable_external_access = true": NOT_A_SELECT,
    "PRAGMA database_list": NOT_A_SELECT,
    "CREATE TABLE x AS SELECT 1": NOT_A_SELECT,
    "DROP VIEW t": NOT_A_SELECT,
    "EXPORT DATABASE '{file}'": NOT_A_SELECT,
    "CALL pragma_version()": NOT_A_SELECT,
    "EXPLAIN ANALYZE SELECT 1": NOT_A_SELECT,
    "SELECT 1; COPY t TO '{file}'": NOT_A_SELECT,
    "SELECT 1; SELECT 2": "the SQL must be one SELECT; it has 2 statements.",
    "": "the SQL must be one SELECT; it has 0 statements.",
    "SELECT * FROM read_csv('{file}')": "the SQL reads from read_csv(), which is not allowed: declare what it reads as a source.",
    "SELECT * FROM t, (SELECT * FROM read_parquet('{file}')) x": (
        "the SQL reads from read_parquet(), which is not allowed: declare what it reads as a source."
    ),
    "SELECT (SELECT content FROM read_text('{file}')) FROM t": (
        "the SQL reads from read_text(), which is not allowed: declare what it reads as a source."
    ),
    "SELECT * FROM glob('/*')": "the SQL reads from glob(), which is not allowed: declare what it reads as a source.",
    "SELECT * FROM query('SELECT 1')": "the SQL reads from query(), which is not allowed: declare what it reads as a source.",
    "FROM duckdb_settings()": "the SQL reads from duckdb_settings(), which is not allowed: declare what it reads as a source.",
    "SELECT * FROM duckdb_secrets()": (
        "the SQL reads from duckdb_secrets(), which is not allowed: declare what it reads as a source."
    ),
    "DESCRIBE t": "the SQL reads from show(), which is not allowed: declare what it reads as a source.",
    "SELECT * FROM '{file}'": "the SQL reads '{file}', which is not one of its relations: 't'.",
    'SELECT * FROM "{file}"': "the SQL reads '{file}', which is not one of its relations: 't'.",
    "SELECT * FROM tt": "the SQL reads 'tt', which is not one of its relations: 't'. Did you mean 't'?",
    "SELECT * FROM information_schema.tables": (
        "the SQL reads 'information_schema.tables'; name its relations without a schema: 't'."
    ),
    "SELECT * FROM main.t": "the SQL reads 'main.t'; name its relations without a schema: 't'.",
    "SELECT * FROM duckdb_views": "the SQL reads 'duckdb_views', which is not one of its relations: 't'.",
    "WITH x AS (WITH y AS (SELECT 1) FROM y) SELECT * FROM x, y": (
        "the SQL reads 'y', which is not one of its relations: 't'."
    ),
    "SELECT n FROM t WHERE EXISTS (FROM other)": "the SQL reads 'other', which is not one of its relations: 't'.",
    "SELECT getenv('HOME')": (
        "the SQL calls getenv(), which is not allowed: a query sees its relations and parameters only."
    ),
    "SELECT n FROM t ORDER BY current_setting('TimeZone')": (
        "the SQL calls current_setting(), which is not allowed: a query sees its relations and parameters only."
    ),
    "SELECT $start": "the SQL uses the parameter $start, which has no value here; there are: $end.",
    "SELECT * FROM t /* open": 'the SQL cannot be parsed: unterminated /* comment at or near "/* open"',
    "SELECT 1) FROM (SELECT 2": 'the SQL cannot be parsed: syntax error at or near ")"',
}


@pytest.mark.parametrize(("sql", "message"), ESCAPES.items(), ids=list(ESCAPES))
def test_queries_that_reach_outside_are_refused(engine: DuckDBEngine, tmp_path: Path, sql: str, message: str) -> None:
    target = write_parquet(tmp_path / "secret.parquet", {"n": [1]})
    text = sql.replace("{file}", str(target))
    request = Query(sql=text, relations={"t": TABLE}, parameters={"end": utc("2026-01-01")})
    for run in (
        lambda: engine.read(request).read_all(),
        lambda: engine.write(request, str(tmp_path / "o"), schema=pa.schema([("n", pa.int64())]), sort_by=["n"]),
    ):
        with pytest.raises(ComputeError) as caught:
            run()
        assert not isinstance(caught.value, OutputMismatch)
        assert str(caught.value) == message.replace("{file}", str(target))
        assert caught.value.sql == text


HARMLESS = [
    "SELECT n FROM t",
    "FROM t",
    "TABLE T",
    "SELECT n FROM t -- one; two",
    "SELECT n FROM t;",
    "WITH t2 AS (SELECT * FROM t), t3 AS (FROM t2) SELECT n FROM t3",
    "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT n FROM r",
    "SELECT x.n FROM t x ASOF JOIN t y ON x.n >= y.n",
    "SELECT n FROM range(1, 4) r(n)",
    "SELECT unnest([1, 2, 3]) AS n",
    "SELECT l.n FROM t, LATERAL (SELECT t.n) l",
    "SELECT n FROM t WHERE 'getenv' <> 'SELECT * FROM read_csv()'",
    "VALUES (1), (2), (3)",
    "SELECT n FROM t EXCEPT SELECT 9 ORDER BY n LIMIT 5",
    "SELECT n FROM t QUALIFY row_number() OVER (ORDER BY n) < 4",
    "SELECT * FROM (PIVOT t ON n IN (1) USING count(*)) UNION ALL SELECT 1 FROM range(2)",
]


@pytest.mark.parametrize("sql", HARMLESS)
def test_selects_over_relations_run(engine: DuckDBEngine, sql: str) -> None:
    assert len(rows(engine, sql, t=TABLE)) == 3


FENCED = [
    "SELECT * FROM read_text('{file}')",
    "SELECT * FROM '{file}'",
    "COPY (SELECT 1) TO '{file}'",
    "ATTACH '{file}' AS x",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "SET allowed_directories = ['/']",
    "SET TimeZone = 'Europe/Berlin'",
    "RESET memory_limit",
    "PRAGMA threads = 1",
    "CREATE PERSISTENT SECRET x (TYPE s3)",
    "SELECT * FROM table_in_python",
]


@pytest.mark.parametrize("sql", FENCED)
def test_second_fence_holds_even_for_sql_that_was_not_checked(engine: DuckDBEngine, tmp_path: Path, sql: str) -> None:
    """The session itself refuses, whatever gets past the check of the syntax tree."""
    table_in_python = pa.table({"n": [1]})
    outside = write_parquet(tmp_path / "outside" / "secret.parquet", {"n": [1]})
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "link").symlink_to(tmp_path / "outside")
    for target in (outside, tmp_path / "inside" / "link" / "secret.parquet", tmp_path / "inside" / ".." / "outside" / "x"):
        with contextlib.closing(engine._opened().cursor([str(tmp_path / "inside")])) as connection:
            with pytest.raises(duckdb.Error):
                connection.execute(sql.replace("{file}", str(target)))
            assert connection.execute("SELECT current_setting('TimeZone')").fetchall() == [("UTC",)]
    assert table_in_python.num_rows == 1


def test_files_of_a_relation_are_reachable_only_through_it(engine: DuckDBEngine, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "codes.parquet", {"k": ["a"]})
    relation = DimensionRelation(
        source=ParquetSource("codes", path="codes.parquet", keys=["k"], static=True), end=utc("2026-01-01")
    )
    with pytest.raises(ComputeError, match=r"reads from read_parquet\(\), which is not allowed"):
        rows(engine, f"SELECT * FROM read_parquet('{path}'), c", c=relation)


def test_user_time_zone_of_the_machine_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    engine = DuckDBEngine(spill_dir=str(tmp_path / "spill"), root=str(tmp_path))
    with contextlib.closing(engine):
        assert rows(engine, "SELECT TIMESTAMP '2026-01-01 00:00'::TIMESTAMPTZ") == [("2026-01-01T00:00:00",)]


# -- life of an engine ------------------------------------------------------------------------------------------------


def test_spill_directories_are_private_and_deleted(tmp_path: Path) -> None:
    spill = tmp_path / "spill"
    abandoned = spill / "duckdb-killed"
    abandoned.mkdir(parents=True)
    (abandoned / "lock").touch()
    (abandoned / "duckdb_temp_block-1.block").touch()
    one = DuckDBEngine(spill_dir=str(spill), root=str(tmp_path))
    two = DuckDBEngine(spill_dir=str(spill), root=str(tmp_path))
    assert rows(one, "SELECT 1") == rows(two, "SELECT 1") == [(1,)]
    assert not abandoned.exists()
    assert len(list(spill.glob("duckdb-*"))) == 2
    one.close()
    assert len(list(spill.glob("duckdb-*"))) == 1
    two.close()
    two.close()
    assert list(spill.glob("duckdb-*")) == []
    assert rows(one, "SELECT 1") == [(1,)]
    one.close()


@pytest.mark.parametrize("options", [{"memory_limit": "lots"}, {"threads": -3}])
def test_settings_that_duckdb_does_not_take(tmp_path: Path, options: dict[str, object]) -> None:
    engine = DuckDBEngine(spill_dir=str(tmp_path / "spill"), root=str(tmp_path), **options)  # type: ignore[arg-type]
    with contextlib.closing(engine), pytest.raises(SettingsError, match="DuckDB does not take memory_limit="):
        rows(engine, "SELECT 1")


def test_reader_outlives_a_change_of_directories_and_frees_its_relations(engine: DuckDBEngine, tmp_path: Path) -> None:
    write_parquet(tmp_path / "one" / "codes.parquet", {"k": [str(n) for n in range(300_000)]})
    write_parquet(tmp_path / "two" / "codes.parquet", {"k": ["x"]})

    def dimension(path: str) -> DimensionRelation:
        return DimensionRelation(source=ParquetSource("codes", path=path, keys=["k"], static=True), end=utc("2026-01-01"))

    with engine.read(Query(sql="SELECT * FROM c", relations={"c": dimension("one")})) as reader:
        count = reader.read_next_batch().num_rows
        assert rows(engine, "SELECT * FROM c", c=dimension("two")) == [("x",)]
        count += sum(batch.num_rows for batch in reader)
    assert count == 300_000


def test_an_instance_is_opened_for_the_directories_that_are_expected(engine: DuckDBEngine, tmp_path: Path) -> None:
    engine.expect([str(tmp_path / "two")], pafs.LocalFileSystem())
    engine.expect(["bucket/three"], pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem()))
    session = engine._opened()
    with contextlib.closing(session.cursor([str(tmp_path / "one")])) as connection:
        connection.execute("CREATE TABLE seen AS SELECT 1 AS n")  # belongs to the instance
    with contextlib.closing(session.cursor([str(tmp_path / "two")])) as connection:
        assert connection.execute("FROM seen").fetchall() == [(1,)]
    with contextlib.closing(session.cursor([str(tmp_path / "three")])) as other, pytest.raises(duckdb.CatalogException):
        other.execute("FROM seen")


def test_threads_share_an_engine(engine: DuckDBEngine) -> None:
    found: list[list[tuple[object, ...]]] = []

    def run(number: int) -> None:
        table = ArrowRelation(table=pa.table({"n": [number] * 1000}))
        for _ in range(5):
            found.append(rows(engine, "SELECT DISTINCT n FROM t", t=table))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted([[(number,)] for number in range(4) for _ in range(5)])


def test_name_says_which_version_runs(engine: DuckDBEngine) -> None:
    assert engine.name == f"DuckDB {duckdb.__version__}"
