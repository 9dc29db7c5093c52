from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pytest

from fstore.definitions.location import Location
from fstore.definitions.source import CsvSource, ParquetSource
from fstore.engines.duckdb import DuckDBEngine
from fstore.engines.engine import DimensionRelation
from fstore.errors import NaiveTimestamp, SourceError, SourceMissing, SourceSchemaDrift, SourceUnreadable
from tests.engines.samples import instants, rows, utc, write_parquet

HERE = Location("feature_defs/shop.py", 7)


def events(path: str = "events/", **options: object) -> ParquetSource:
    return ParquetSource("events", path=path, event_time="seen", location=HERE, **options)  # type: ignore[arg-type]


def table(name: str = "codes", path: str = "codes.csv", **options: object) -> CsvSource:
    return CsvSource(name, path=path, keys=["code"], static=True, location=HERE, **options)  # type: ignore[arg-type]


def message(engine: DuckDBEngine, source: ParquetSource | CsvSource, kind: type[SourceError], tmp_path: Path) -> str:
    with pytest.raises(kind) as caught:
        engine.source_schema(source)
    return str(caught.value).replace(str(tmp_path), "ROOT")


def test_parquet_types_are_logical_types(engine: DuckDBEngine, tmp_path: Path) -> None:
    times = instants("2026-01-01")
    write_parquet(
        tmp_path / "events" / "a.parquet",
        {
            "seen": times.cast(pa.timestamp("ms", tz="Europe/Berlin")),
            "code": pa.array(["x"]).dictionary_encode(),
            "amount": pa.array([1], pa.decimal128(9, 2)),
            "count": pa.array([1], pa.uint16()),
            "vector": pa.array([[1, 2]], pa.list_(pa.float32(), 2)),
            "words": pa.array([["a"]]),
            "half": pa.array([1.5], pa.float16()),
            "place": pa.array([{"x": 1}]),
            "clock": pa.array([1], pa.time64("us")),
        },
    )
    assert engine.source_schema(events()) == {
        "seen": "timestamp",
        "code": "string",
        "amount": "decimal(9,2)",
        "count": "uint16",
        "vector": "float32[2]",
        "words": "list<string>",
        "half": "float32",
        "place": "unsupported(struct<x: int64>)",
        "clock": "unsupported(time64[us])",
    }


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("events/", {"a", "b", "deep"}),
        ("events", {"a", "b", "deep"}),
        ("events/a.parquet", {"a"}),
        ("events/*.parquet", {"a", "b"}),
        ("events/**/*.parquet", {"a", "b", "deep"}),
        ("events/[bc].parquet", {"b"}),
        ("events/[!b].parquet", {"a"}),
        ("events/?.parquet", {"a", "b"}),
        ("ev*/2026/*", {"deep"}),
    ],
)
def test_paths_are_files_directories_or_globs(engine: DuckDBEngine, tmp_path: Path, path: str, found: set[str]) -> None:
    for name in ("a.parquet", "b.parquet", "2026/deep.parquet", "_c.parquet", ".d.parquet", "_tmp/e.parquet"):
        write_parquet(tmp_path / "events" / name, {"k": [Path(name).stem]})
    (tmp_path / "events" / "notes.txt").write_text("no data")
    source = ParquetSource("events", path=path, keys=["k"], static=True)
    relation = DimensionRelation(source=source, end=utc("2026-01-01"))
    assert {row[0] for row in rows(engine, "SELECT k FROM r", r=relation)} == found


def test_names_with_wildcards_and_quotes_are_plain_names(engine: DuckDBEngine, tmp_path: Path) -> None:
    for name in ("a[1]*?'x'.parquet", "a1.parquet"):
        write_parquet(tmp_path / "it's [new]" / name, {"k": [name]})
    source = ParquetSource("events", path="it's [new]/", keys=["k"], static=True)
    relation = DimensionRelation(source=source, end=utc("2026-01-01"))
    assert sorted(rows(engine, "SELECT k FROM r", r=relation)) == [("a1.parquet",), ("a[1]*?'x'.parquet",)]


def test_absolute_paths_and_symbolic_links_are_followed(engine: DuckDBEngine, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    write_parquet(elsewhere / "one" / "a.parquet", {"k": ["a"]})
    write_parquet(elsewhere / "two" / "b.parquet", {"k": ["b"]})
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.parquet").symlink_to(elsewhere / "one" / "a.parquet")
    (tmp_path / "data" / "b.parquet").symlink_to(elsewhere / "two" / "b.parquet")
    (tmp_path / "linked").symlink_to(elsewhere)
    for path in ("data", str(tmp_path / "linked")):
        source = ParquetSource("codes", path=path, keys=["k"], static=True)
        relation = DimensionRelation(source=source, end=utc("2026-01-01"))
        assert sorted(rows(engine, "SELECT k FROM r", r=relation)) == [("a",), ("b",)]


def test_partition_directories_become_columns(engine: DuckDBEngine, tmp_path: Path) -> None:
    for country, month, day in (("DE", 1, "2026-01-05"), ("A%20T", 12, "2026-12-01")):
        write_parquet(tmp_path / f"p/country={country}/month={month}/day={day}/x.parquet", {"k": [country]})
    source = ParquetSource("p", path="p", keys=["k"], static=True)
    assert engine.source_schema(source) == {"k": "string", "country": "string", "month": "int64", "day": "date"}
    relation = DimensionRelation(source=source, end=utc("2026-01-01"))
    assert rows(engine, "SELECT country, month, day::VARCHAR FROM r ORDER BY month", r=relation) == [
        ("DE", 1, "2026-01-05"),
        ("A T", 12, "2026-12-01"),
    ]


# -- files that are missing or broken ---------------------------------------------------------------------------------


def test_no_file(engine: DuckDBEngine, tmp_path: Path) -> None:
    write_parquet(tmp_path / "events" / "_half.parquet", {"seen": instants("2026-01-01")})
    assert message(engine, events(), SourceMissing, tmp_path) == (
        "source 'events' (feature_defs/shop.py:7) has no file: nothing at ROOT/events is a file or a directory with *.parquet "
        "below it (names beginning with '_' or '.' do not count). Check the path, or wait until the data has landed."
    )


def test_empty_file(engine: DuckDBEngine, tmp_path: Path) -> None:
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "a.parquet").touch()
    assert message(engine, events(), SourceUnreadable, tmp_path) == (
        "source 'events' (feature_defs/shop.py:7) has an empty file, ROOT/events/a.parquet: its writer was interrupted. "
        "Delete or rewrite it."
    )


@pytest.mark.parametrize("keep", [2, 100, -8])
def test_half_written_file(engine: DuckDBEngine, tmp_path: Path, keep: int) -> None:
    write_parquet(tmp_path / "events" / "a.parquet", {"seen": instants("2026-01-01")})
    whole = write_parquet(tmp_path / "events" / "b.parquet", {"seen": instants("2026-01-01")})
    whole.write_bytes(whole.read_bytes()[:keep])
    text = message(engine, events(), SourceUnreadable, tmp_path)
    assert text.startswith(
        "source 'events' (feature_defs/shop.py:7) has a file that is not whole Parquet, ROOT/events/b.parquet: "
    )
    assert text.endswith(
        "Its writer was interrupted or it is of another format: delete or rewrite it, and let writers rename files into place "
        "when they are complete."
    )


def test_file_damaged_within_is_found_when_it_is_read(engine: DuckDBEngine, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "codes.parquet", {"k": list(range(100_000))})
    content = bytearray(path.read_bytes())
    content[10:2_000] = b"\xff" * 1_990
    path.write_bytes(content)
    source = ParquetSource("codes", path="codes.parquet", keys=["k"], static=True, location=HERE)
    with pytest.raises(SourceUnreadable, match=r"source 'codes' \(feature_defs/shop.py:7\) has a file that cannot be read"):
        rows(engine, "SELECT sum(k) FROM r", r=DimensionRelation(source=source, end=utc("2026-01-01")))


def test_file_without_rows_is_no_error(engine: DuckDBEngine, tmp_path: Path) -> None:
    write_parquet(tmp_path / "codes.parquet", {"k": pa.array([], pa.string())})
    source = ParquetSource("codes", path="codes.parquet", keys=["k"], static=True)
    assert engine.source_schema(source) == {"k": "string"}
    assert rows(engine, "SELECT * FROM r", r=DimensionRelation(source=source, end=utc("2026-01-01"))) == []


def test_rewritten_file_is_noticed(engine: DuckDBEngine, tmp_path: Path) -> None:
    source = ParquetSource("codes", path="codes.parquet", keys=["k"], static=True)
    write_parquet(tmp_path / "codes.parquet", {"k": ["a"]})
    assert engine.source_schema(source) == {"k": "string"}
    write_parquet(tmp_path / "codes.parquet", {"k": ["a"], "n": [1]})
    assert engine.source_schema(source) == {"k": "string", "n": "int64"}


# -- columns ----------------------------------------------------------------------------------------------------------


def test_files_that_disagree_on_a_type(engine: DuckDBEngine, tmp_path: Path) -> None:
    write_parquet(tmp_path / "events" / "a.parquet", {"seen": instants("2026-01-01"), "n": pa.array([1], pa.int32())})
    write_parquet(tmp_path / "events" / "b.parquet", {"seen": instants("2026-01-01"), "n": pa.array([1], pa.int64())})
    assert message(engine, events(), SourceSchemaDrift, tmp_path) == (
        "source 'events' (feature_defs/shop.py:7) has files that disagree on column 'n': it is int32 in ROOT/events/a.parquet "
        "and int64 in ROOT/events/b.parquet. Rewrite one of them, or declare every column that is needed, schema={'n': "
        "'int32', …}: then narrower types are widened and missing columns read as null."
    )


def test_files_that_lack_a_column(engine: DuckDBEngine, tmp_path: Path) -> None:
    write_parquet(tmp_path / "events" / "a.parquet", {"seen": instants("2026-01-01")})
    write_parquet(tmp_path / "events" / "b.parquet", {"seen": instants("2026-01-01"), "n": [1]})
    assert (
        "has files that disagree on column 'n': it is missing in ROOT/events/a.parquet and int64 in ROOT/events/b.parquet."
    ) in message(engine, events(), SourceSchemaDrift, tmp_path)


def test_declared_schema_widens_and_fills_missing_columns(engine: DuckDBEngine, tmp_path: Path) -> None:
    write_parquet(tmp_path / "d" / "a.parquet", {"k": ["a"], "n": pa.array([1], pa.int32()), "x": [1.5]})
    write_parquet(tmp_path / "d" / "b.parquet", {"n": pa.array([2**40], pa.int64()), "k": ["b"], "y": [2.5]})
    write_parquet(tmp_path / "d" / "c.parquet", {"k": ["c"]})
    source = ParquetSource("d", path="d", keys=["k"], static=True, schema={"k": "string", "n": "int64"})
    assert engine.source_schema(source) == {"k": "string", "n": "int64"}
    relation = DimensionRelation(source=source, end=utc("2026-01-01"))
    assert rows(engine, "SELECT * FROM r ORDER BY k", r=relation) == [("a", 1), ("b", 2**40), ("c", None)]


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        (
            {"seen": "timestamp", "m": "int64"},
            "declares column 'm', which ROOT/events/a.parquet does not have; its columns are seen, n. Correct the schema, or "
            "the file.",
        ),
        (
            {"seen": "timestamp", "n": "int32"},
            "declares column 'n' as int32, but it is int64 in ROOT/events/a.parquet, and not every int64 is a int32. Correct "
            "the schema, or the file.",
        ),
    ],
)
def test_declared_schema_that_the_files_cannot_give(
    engine: DuckDBEngine, tmp_path: Path, schema: dict[str, str], problem: str
) -> None:
    write_parquet(tmp_path / "events" / "a.parquet", {"seen": instants("2026-01-01"), "n": [1]})
    text = message(engine, events(schema=schema), SourceSchemaDrift, tmp_path)
    assert text == f"source 'events' (feature_defs/shop.py:7) {problem}"


@pytest.mark.parametrize(
    ("column", "problem"),
    [
        ({"other": [1]}, "has event_time 'seen', which is not a column of its files: other"),
        (
            {"seen": ["2026-01-01"]},
            "has event_time 'seen' of type string in ROOT/events/a.parquet; expected timestamp or date. Rewrite it as a "
            "timestamp if its values are times, or name another column.",
        ),
    ],
)
def test_event_time_that_is_none(engine: DuckDBEngine, tmp_path: Path, column: dict[str, object], problem: str) -> None:
    write_parquet(tmp_path / "events" / "a.parquet", column)
    text = message(engine, events(), SourceSchemaDrift, tmp_path)
    assert text == f"source 'events' (feature_defs/shop.py:7) {problem}"


def test_key_that_is_no_column(engine: DuckDBEngine, tmp_path: Path) -> None:
    write_parquet(tmp_path / "c.parquet", {"id": [1]})
    source = ParquetSource("c", path="c.parquet", keys=["code"], static=True, location=HERE)
    assert message(engine, source, SourceSchemaDrift, tmp_path) == (
        "source 'c' (feature_defs/shop.py:7) has key 'code', which is not a column of its files: id"
    )


def test_columns_that_differ_in_case_only(engine: DuckDBEngine, tmp_path: Path) -> None:
    write_parquet(tmp_path / "c.parquet", {"code": [1], "Code": [2]})
    source = ParquetSource("c", path="c.parquet", keys=["code"], static=True, location=HERE)
    assert message(engine, source, SourceUnreadable, tmp_path) == (
        "source 'c' (feature_defs/shop.py:7) has columns that SQL cannot tell apart in ROOT/c.parquet: 'code', 'Code'. "
        "Rename one."
    )


def test_renamed_keys(engine: DuckDBEngine, tmp_path: Path) -> None:
    write_parquet(tmp_path / "c.parquet", {"customer_id": ["a"], "n": [1]})
    source = ParquetSource("c", path="c.parquet", keys={"user_id": "customer_id"}, static=True)
    assert engine.source_schema(source) == {"user_id": "string", "n": "int64"}
    relation = DimensionRelation(source=source, end=utc("2026-01-01"))
    assert rows(engine, "SELECT user_id, n FROM r", r=relation) == [("a", 1)]


# -- times without a zone ---------------------------------------------------------------------------------------------


def test_naive_times_need_a_zone(engine: DuckDBEngine, tmp_path: Path) -> None:
    naive = instants("2026-01-01", type=pa.timestamp("us"))
    write_parquet(tmp_path / "events" / "a.parquet", {"seen": naive, "sent": naive, "zoned": instants("2026-01-01")})
    assert message(engine, events(), NaiveTimestamp, tmp_path) == (
        "source 'events' (feature_defs/shop.py:7) has times without a zone: 'seen', 'sent'. Say which zone they are in: "
        'timezone="UTC", or one such as "Europe/Berlin".'
    )
    assert engine.source_schema(events(timezone="Europe/Berlin")) == dict.fromkeys(("seen", "sent", "zoned"), "timestamp")


def test_date_as_event_time_needs_a_zone_and_is_an_instant(engine: DuckDBEngine, tmp_path: Path) -> None:
    day = instants("2026-01-01").cast(pa.date32())
    write_parquet(tmp_path / "events" / "a.parquet", {"seen": day, "other": day})
    assert "has times without a zone: 'seen'. " in message(engine, events(), NaiveTimestamp, tmp_path)
    assert engine.source_schema(events(timezone="UTC")) == {"seen": "timestamp", "other": "date"}


# -- CSV --------------------------------------------------------------------------------------------------------------


def test_csv_types_are_what_all_values_fit(engine: DuckDBEngine, tmp_path: Path) -> None:
    lines = [f"{n},{n}.5,true,2026-01-01,2026-01-01T00:00:00Z,text" for n in range(30_000)]
    (tmp_path / "codes.csv").write_text("\n".join(["code,x,b,d,t,s", *lines, "last,1,,,,"]) + "\n")
    assert engine.source_schema(table()) == {
        "code": "string", "x": "float64", "b": "bool", "d": "date", "t": "timestamp", "s": "string",
    }  # fmt: skip


def test_csv_reads_declared_types_delimiter_null_and_columns_in_any_order(engine: DuckDBEngine, tmp_path: Path) -> None:
    (tmp_path / "codes").mkdir()
    (tmp_path / "codes" / "a.csv").write_text('code;n;t\n"x;1";1;2026-01-01 10:00:00\ny;-;2026-01-01T10:00:00+02:00\n')
    with gzip.open(tmp_path / "codes" / "b.csv.gz", "wt") as file:
        file.write("\ufefft;code\n2026-07-01 10:00:00.5;z\n")
    (tmp_path / "codes" / "_half.csv").write_text("code;n\n")
    schema = {"code": "string", "n": "int16", "t": "timestamp"}
    source = table(path="codes", delimiter=";", null="-", schema=schema, timezone="Europe/Berlin")
    assert engine.source_schema(source) == schema
    relation = DimensionRelation(source=source, end=utc("2026-01-01"))
    assert rows(engine, "SELECT * FROM r ORDER BY code", r=relation) == [
        ("x;1", 1, "2026-01-01T09:00:00"),
        ("y", None, "2026-01-01T08:00:00"),
        ("z", None, "2026-07-01T08:00:00.500000"),
    ]


def test_csv_times_without_a_zone(engine: DuckDBEngine, tmp_path: Path) -> None:
    (tmp_path / "codes.csv").write_text("code,t\na,2026-01-01 10:00:00\n")
    assert message(engine, table(), NaiveTimestamp, tmp_path) == (
        "source 'codes' (feature_defs/shop.py:7) has times without a zone: 't'. Say which zone they are in: "
        'timezone="UTC", or one such as "Europe/Berlin".'
    )


def test_csv_time_without_a_zone_among_others_is_found_when_it_is_read(engine: DuckDBEngine, tmp_path: Path) -> None:
    (tmp_path / "codes.csv").write_text("code,t\na,2026-01-01T10:00:00Z\nb,2026-01-01 10:00:00\n")
    source = table(schema={"code": "string", "t": "timestamp"})
    with pytest.raises(NaiveTimestamp) as caught:
        rows(engine, "SELECT * FROM r", r=DimensionRelation(source=source, end=utc("2026-01-01")))
    assert str(caught.value) == (
        "source 'codes' (feature_defs/shop.py:7) has times without a zone: t = 2026-01-01 10:00:00. Say which zone they are in: "
        'timezone="UTC", or one such as "Europe/Berlin".'
    )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("code,,n\n", "has a header with missing or doubled column names in ROOT/codes.csv: code, , n. "),
        ("code,CODE\n", "has a header with missing or doubled column names in ROOT/codes.csv: code, CODE. "),
        ("\n", "has a header with missing or doubled column names in ROOT/codes.csv: no line at all. "),
    ],
)
def test_csv_header_that_names_no_columns(engine: DuckDBEngine, tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "codes.csv").write_text(content)
    assert message(engine, table(), SourceUnreadable, tmp_path) == (
        f"source 'codes' (feature_defs/shop.py:7) {problem}Every CSV file needs a first line with distinct names."
    )


@pytest.mark.parametrize(
    "content", ["code,n\na,1\nb,x\n", "code,n\na,1\nb\n", "code,n\na,1,2\n", "code,n\na,99999999999999999999\n"]
)
def test_csv_rows_that_do_not_fit(engine: DuckDBEngine, tmp_path: Path, content: str) -> None:
    (tmp_path / "codes.csv").write_text(content)
    source = table(schema={"code": "string", "n": "int64"})
    with pytest.raises(SourceUnreadable, match=r"has a file that cannot be read, .*codes\.csv: .*Line: [23]"):
        rows(engine, "SELECT * FROM r", r=DimensionRelation(source=source, end=utc("2026-01-01")))


def test_csv_that_is_no_text(engine: DuckDBEngine, tmp_path: Path) -> None:
    (tmp_path / "codes.csv").write_bytes(b"code,n\n\xff\xfe,1\n")
    with pytest.raises(SourceUnreadable, match=r"has a file that cannot be read, .*codes\.csv: "):
        rows(engine, "SELECT * FROM r", r=DimensionRelation(source=table(), end=utc("2026-01-01")))
