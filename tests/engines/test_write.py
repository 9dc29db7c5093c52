from __future__ import annotations

import datetime as dt
import decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fstore.arrow import rows_hash
from fstore.engines.duckdb import ROW_GROUP_ROWS, DuckDBEngine
from fstore.engines.engine import ArrowRelation, Query, Relation
from fstore.errors import ComputeError, OutputMismatch
from tests.engines.samples import instants, utc

INSTANT = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema([pa.field("k", pa.string(), nullable=False), pa.field("event_timestamp", INSTANT), ("n", pa.int16())])


def query(sql: str, **relations: Relation) -> Query:
    return Query(sql=sql, relations=relations)


def test_file_is_cast_by_name_sorted_and_described(engine: DuckDBEngine, tmp_path: Path) -> None:
    table = pa.table(
        {
            "n": pa.array([3, 1, 2], pa.int64()),
            "event_timestamp": instants("2026-01-02", "2026-01-01", "2026-01-01"),
            "k": ["a", "b", "a"],
        }
    )
    path = tmp_path / "out.parquet"
    written = engine.write(
        query("SELECT * FROM t", t=ArrowRelation(table=table)), str(path), schema=SCHEMA, sort_by=["event_timestamp", "k"]
    )
    assert (written.rows, written.bytes, written.schema) == (3, path.stat().st_size, SCHEMA)
    found = pq.read_table(path)
    assert found.schema.names == ["k", "event_timestamp", "n"]
    assert found.schema.types == SCHEMA.types
    assert found.to_pylist() == [
        {"k": "a", "event_timestamp": utc("2026-01-01"), "n": 2},
        {"k": "b", "event_timestamp": utc("2026-01-01"), "n": 1},
        {"k": "a", "event_timestamp": utc("2026-01-02"), "n": 3},
    ]


def test_every_type_survives(engine: DuckDBEngine, tmp_path: Path) -> None:
    schema = pa.schema(
        [
            ("i8", pa.int8()), ("u64", pa.uint64()), ("f32", pa.float32()), ("f64", pa.float64()), ("b", pa.bool_()),
            ("s", pa.string()), ("y", pa.binary()), ("d", pa.date32()), ("t", INSTANT), ("dec", pa.decimal128(38, 10)),
            ("v", pa.list_(pa.field("element", pa.float32()), 3)), ("l", pa.list_(pa.field("element", pa.string()))),
            ("m", pa.map_(pa.string(), pa.decimal128(5, 1))),
        ]
    )  # fmt: skip
    values = {
        "i8": [-128, None], "u64": [2**64 - 1, None], "f32": [0.1, None], "f64": [float("inf"), None], "b": [True, None],
        "s": ["ü'\n", None], "y": [b"\x00\xff", None], "d": [dt.date(1969, 1, 1), None],
        "t": [utc("1969-12-31T23:59:59.999999"), None], "dec": [decimal.Decimal("1234567890.0123456789"), None],
        "v": [[1.0, 2.0, 3.0], None], "l": [["a", None], None],
        "m": [[("a", None), ("b", decimal.Decimal("1.5"))], None],
    }  # fmt: skip
    table = pa.table({name: pa.array(column, schema.field(name).type) for name, column in values.items()})
    path = tmp_path / "out.parquet"
    reader = query("SELECT * FROM t", t=ArrowRelation(table=table.slice(0, 1)))
    engine.write(reader, str(path), schema=schema, sort_by=["i8"])
    found = pq.read_table(path)
    assert found.schema.types == schema.types
    assert rows_hash(found) == rows_hash(table.slice(0, 1))
    engine.write(query("SELECT * FROM t", t=ArrowRelation(table=table)), str(path), schema=schema, sort_by=[])
    assert rows_hash(pq.read_table(path)) == rows_hash(table)


def test_nothing_to_write_gives_a_file_with_the_schema(engine: DuckDBEngine, tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    table = ArrowRelation(table=SCHEMA.empty_table())
    assert engine.write(query("SELECT * FROM t", t=table), str(path), schema=SCHEMA, sort_by=["k"]).rows == 0
    assert pq.read_table(path).schema.types == SCHEMA.types


def test_conversions_that_keep_the_meaning_are_made(engine: DuckDBEngine, tmp_path: Path) -> None:
    schema = pa.schema(
        [("a", pa.int64()), ("b", pa.float32()), ("c", pa.decimal128(10, 2)), ("d", INSTANT), ("e", pa.string()),
         ("f", pa.int8()), ("g", INSTANT), ("h", pa.list_(pa.float64(), 2))]
    )  # fmt: skip
    path = tmp_path / "out.parquet"
    sql = """SELECT sum(x) AS a, avg(x) AS b, 7 AS c, DATE '2026-01-01' AS d, 'x'::ENUM ('x') AS e, true AS f,
             TIMESTAMP '2026-01-01 12:00' AS g, [1, 2.5] AS h FROM range(5) t(x) -- a comment at the end"""
    engine.write(query(sql), str(path), schema=schema, sort_by=["a"])
    assert pq.read_table(path).to_pylist() == [
        {
            "a": 10, "b": 2.0, "c": decimal.Decimal("7.00"), "d": utc("2026-01-01"), "e": "x", "f": 1,
            "g": utc("2026-01-01T12:00"), "h": [1.0, 2.5],
        }
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("n", "declared", "message"),
    [
        ("1.5", "int64", "is decimal(2,1), declared as int64, and not every decimal(2,1) is one. Declare it as decimal(2,1), or "
         "convert it in the SQL: CAST(n AS BIGINT)."),
        ("1.5::DOUBLE", "int64", "is float64, declared as int64, and not every float64 is one. Declare it as float64, or convert "
         "it in the SQL: CAST(n AS BIGINT)."),
        ("1.5::DOUBLE", "decimal(5,1)", "is float64, declared as decimal(5,1), and not every float64 is one. Declare it as "
         "float64, or convert it in the SQL: CAST(n AS DECIMAL(5,1))."),
        ("'1'", "int64", "is string, declared as int64, and not every string is one. Declare it as string, or convert it in the "
         "SQL: CAST(n AS BIGINT)."),
        ("1", "string", "is int32, declared as string, and not every int32 is one. Declare it as int32, or convert it in the "
         "SQL: CAST(n AS VARCHAR)."),
        ("TIMESTAMPTZ '2026-01-01'", "date", "is timestamp, declared as date, and not every timestamp is one. Declare it as "
         "timestamp, or convert it in the SQL: CAST(n AS DATE)."),
        ("{'x': 1}", "string", "is STRUCT(x INTEGER), declared as string, and not every STRUCT(x INTEGER) is one. Declare it as "
         "STRUCT(x INTEGER), or convert it in the SQL: CAST(n AS VARCHAR)."),
        ("1000", "int8", "has the value 1000, which does not fit its declared type int8. Declare a wider type, or limit the "
         "value in the SQL."),
        ("-1", "uint64", "has the value -1, which does not fit its declared type uint64. Declare a wider type, or limit the "
         "value in the SQL."),
        ("9223372036854775807::HUGEINT + 1", "int64", "has the value 9223372036854775808, which does not fit its declared type "
         "int64. Declare a wider type, or limit the value in the SQL."),
        ("12345", "decimal(5,2)", "has the value 12345, which does not fit its declared type decimal(5,2). Declare a wider type, "
         "or limit the value in the SQL."),
        ("[1, 2, 3]", "float32[2]", "has the value [1, 2, 3], which does not fit its declared type float32[2]. Declare a wider "
         "type, or limit the value in the SQL."),
    ],
)  # fmt: skip
def test_values_and_types_that_do_not_fit(engine: DuckDBEngine, tmp_path: Path, n: str, declared: str, message: str) -> None:
    from fstore.arrow import arrow_schema
    from fstore.types import Column

    schema = arrow_schema([Column(name="k", type="string"), Column(name="n", type=declared)])
    path = tmp_path / "out.parquet"
    with pytest.raises(OutputMismatch) as caught:
        engine.write(query(f"SELECT 'a' AS k, {n} AS n"), str(path), schema=schema, sort_by=["k"])
    assert str(caught.value) == f"column 'n' {message}"
    assert not caught.value.retryable
    assert list(tmp_path.glob("*.parquet")) == []


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        (
            "SELECT 'a' AS k, now() AS event_timestamp",
            "the query gives the columns k, event_timestamp; declared are k, event_timestamp, n. Missing: n.",
        ),
        (
            "SELECT 'a' AS k, now() AS event_timestamp, 1 AS m",
            "the query gives the columns k, event_timestamp, m; declared are k, event_timestamp, n. Missing: n. Not declared: m.",
        ),
        (
            "SELECT 'a' AS k, now() AS event_timestamp, 1 AS n, 2 AS n",
            "the query gives the columns k, event_timestamp, n, n; declared are k, event_timestamp, n. More than once: n.",
        ),
    ],
)
def test_columns_that_are_not_those_declared(engine: DuckDBEngine, tmp_path: Path, sql: str, message: str) -> None:
    with pytest.raises(OutputMismatch) as caught:
        engine.write(query(sql), str(tmp_path / "out.parquet"), schema=SCHEMA, sort_by=["k"])
    assert str(caught.value) == message


@pytest.mark.parametrize("column", ["k", "event_timestamp"])
def test_nulls_where_a_row_is_identified(engine: DuckDBEngine, tmp_path: Path, column: str) -> None:
    values = {"k": "'a'", "event_timestamp": "TIMESTAMPTZ '2026-01-01'", "n": "1"}
    values[column] = f"nullif({values[column]}, {values[column]})"
    sql = "SELECT " + ", ".join(f"{value} AS {name}" for name, value in values.items())
    with pytest.raises(OutputMismatch) as caught:
        engine.write(query(sql), str(tmp_path / "out.parquet"), schema=SCHEMA, sort_by=["event_timestamp", "k"])
    assert str(caught.value) == (
        f"column '{column}' has a null; it identifies a row and must not. Leave such rows out: WHERE {column} IS NOT NULL."
    )
    assert list(tmp_path.glob("*.parquet")) == []


def test_failure_deep_in_a_long_result_leaves_no_file_and_does_not_hang(engine: DuckDBEngine, tmp_path: Path) -> None:
    schema = pa.schema([("n", pa.int64())])
    for _ in range(10):
        with pytest.raises(ComputeError) as caught:
            engine.write(
                query("SELECT CASE WHEN i = 500000 THEN error('deep') ELSE i END AS n FROM range(1000000) t(i)"),
                str(tmp_path / "out.parquet"),
                schema=schema,
                sort_by=[],
            )
        assert str(caught.value) == (
            "Invalid Input Error: deep\nin the SQL:\nSELECT CASE WHEN i = 500000 THEN error('deep') ELSE i END AS n FROM "
            "range(1000000) t(i)"
        )
    assert list(tmp_path.glob("*.parquet")) == []


def test_parameters_are_instants(engine: DuckDBEngine, tmp_path: Path) -> None:
    schema = pa.schema([("a", INSTANT), ("b", INSTANT)])
    path = tmp_path / "out.parquet"
    text = Query(
        sql="SELECT $end - INTERVAL 1 DAY AS a, date_trunc('month', $start) AS b",
        relations={},
        parameters={"start": utc("2026-01-15T10:00"), "end": utc("2026-03-01"), "unused": utc("2026-01-01")},
    )
    engine.write(text, str(path), schema=schema, sort_by=["a"])
    assert pq.read_table(path).to_pylist() == [{"a": utc("2026-02-28"), "b": utc("2026-01-01")}]


def test_large_files_have_row_groups_that_bounds_can_skip(engine: DuckDBEngine, tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    sql = "SELECT 'k' || (i % 1000) AS k, TIMESTAMPTZ '2026-01-01' + INTERVAL 1 DAY * (i // 100000) AS event_timestamp, "
    engine.write(query(f"{sql} 1 AS n FROM range(400000) t(i)"), str(path), schema=SCHEMA, sort_by=["event_timestamp", "k"])
    metadata = pq.read_metadata(path)
    assert metadata.num_row_groups == 4
    assert metadata.row_group(0).num_rows == ROW_GROUP_ROWS
    assert metadata.row_group(0).column(0).compression == "ZSTD"
    stamps = [metadata.row_group(index).column(1).statistics.min for index in range(4)]
    assert stamps == sorted(stamps)
    table = pq.read_table(path, columns=["event_timestamp", "k"])
    order = [(stamp, key) for stamp, key in zip(*(column.to_pylist() for column in table.columns), strict=True)]
    assert order == sorted(order)


MAPS = pa.schema([("m", pa.map_(pa.string(), pa.float64()))])


def test_entries_of_maps_are_stored_in_the_order_of_their_keys(engine: DuckDBEngine, tmp_path: Path) -> None:
    entries = [[("b", 1.0), ("a", None)], [("\u00e9", 1.0), ("z", 2.0), ("Z", 3.0), ("", 4.0)], [], None]
    table = pa.table({"m": pa.array(entries, pa.map_(pa.string(), pa.float64()))})
    path = str(tmp_path / "out.parquet")
    engine.write(query("SELECT * FROM t", t=ArrowRelation(table=table)), path, schema=MAPS, sort_by=[])
    found = pq.read_table(path)["m"].to_pylist()
    assert [m for m in found if m] == [[("", 4.0), ("Z", 3.0), ("z", 2.0), ("\u00e9", 1.0)], [("a", None), ("b", 1.0)]]
    engine.write(query("SELECT MAP {'b': 1, 'a': 2::TINYINT} AS m"), path, schema=MAPS, sort_by=[])
    assert pq.read_table(path)["m"].to_pylist() == [[("a", 2.0), ("b", 1.0)]]


def test_maps_that_are_none_are_refused(engine: DuckDBEngine, tmp_path: Path) -> None:
    path = str(tmp_path / "out.parquet")
    twice = pa.table({"m": pa.array([[("a", 1.0), ("a", 2.0)]], pa.map_(pa.string(), pa.float64()))})
    with pytest.raises(
        OutputMismatch, match="a map has the same key twice; every key of a map is there once and is not null"
    ):
        engine.write(query("SELECT * FROM t", t=ArrowRelation(table=twice)), path, schema=MAPS, sort_by=[])
    with pytest.raises(OutputMismatch, match=r"column 'm' is list<float64>, declared as map<string,float64>"):
        engine.write(query("SELECT [1.5::DOUBLE] AS m"), path, schema=MAPS, sort_by=[])
    with pytest.raises(OutputMismatch, match=r"column 'm' is map<string,string>, declared as map<string,float64>"):
        engine.write(query("SELECT MAP {'a': 'b'} AS m"), path, schema=MAPS, sort_by=[])


def test_lists_and_maps_survive_a_left_join_and_the_file(engine: DuckDBEngine, tmp_path: Path) -> None:
    """DuckDB 2.0 reads memory that was never set where fixed-size arrays in a join's payload are null; these it does not."""
    sql = """
        WITH held AS (
            SELECT range AS k, CASE WHEN range % 3 > 0 THEN MAP {'x' || range: range::DOUBLE, 'y': NULL} END AS m,
              CASE WHEN range % 5 > 0 THEN ['s' || range, NULL] END AS l
            FROM range(20000)
        ), asked AS (SELECT (range * 7919) % 40000 AS k FROM range(60000))
        SELECT asked.k, m, l FROM asked LEFT JOIN held USING (k)
    """
    list_type, map_type = pa.list_(pa.field("element", pa.string())), pa.map_(pa.string(), pa.float64())
    schema = pa.schema([("k", pa.int64()), ("m", map_type), ("l", list_type)])
    path = str(tmp_path / "out.parquet")
    assert engine.write(query(sql), path, schema=schema, sort_by=["k"]).rows == 60000
    for row in pq.read_table(path).to_pylist():
        k, there = row["k"], row["k"] < 20000
        assert row["m"] == ([(f"x{k}", float(k)), ("y", None)] if there and k % 3 else None)
        assert row["l"] == ([f"s{k}", None] if there and k % 5 else None)
