from __future__ import annotations

import datetime as dt
import tempfile
import zoneinfo
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fstore.definitions.source import CsvSource, ParquetSource
from fstore.engines import duckdb_relations
from fstore.engines.duckdb import DuckDBEngine
from fstore.engines.engine import (
    ArrowRelation,
    DimensionRelation,
    EventRelation,
    FilesRelation,
    IntervalsRelation,
    Query,
)
from fstore.errors import SourceError, StoreCorrupt
from fstore.interval import Interval
from tests.engines.samples import DAY, instants, rows, utc, write_parquet

JANUARY = utc("2026-01-01")


def events(path: str = "events.parquet", **options: object) -> ParquetSource:
    return ParquetSource("events", path=path, event_time="seen", **options)  # type: ignore[arg-type]


# -- events -----------------------------------------------------------------------------------------------------------


def test_events_are_cut_to_a_half_open_range_and_have_times_and_keys(engine: DuckDBEngine, tmp_path: Path) -> None:
    times = ("2025-12-31T23:59:59.999999", "2026-01-01", "2026-01-01T12:00", None, "2026-01-02", "2999-01-01")
    columns = {"seen": instants(*times), "user": ["a", "b", None, "d", "e", "f"], "n": [1, 2, 3, 4, 5, 6]}
    write_parquet(tmp_path / "events.parquet", columns)
    inside = EventRelation(source=events(), start=JANUARY, end=JANUARY + DAY)
    assert rows(engine, "SELECT n FROM x ORDER BY n", x=inside) == [(2,), (3,)]
    keyed = EventRelation(source=events(), start=JANUARY, end=JANUARY + DAY, keys=("user",), columns=("n",))
    assert rows(engine, "SELECT * FROM x", x=keyed) == [(2, "b", "2026-01-01T00:00:00")]
    assert engine.count_ignored(keyed) == 1
    assert engine.count_ignored(inside) == 0
    unbounded = EventRelation(source=events(), start=None, end=JANUARY + DAY)
    assert rows(engine, "SELECT n FROM x ORDER BY n", x=unbounded) == [(1,), (2,), (3,)]


def test_no_where_clause_can_undo_the_cut(engine: DuckDBEngine, tmp_path: Path) -> None:
    write_parquet(tmp_path / "events.parquet", {"seen": instants("2026-01-01", "2026-01-02"), "n": [1, 2]})
    cut = EventRelation(source=events(), start=None, end=JANUARY + DAY)
    assert rows(engine, "SELECT n FROM x WHERE seen >= $end OR true", {"end": JANUARY + DAY}, x=cut) == [(1,)]


def test_names_are_found_in_any_letter_case(engine: DuckDBEngine, tmp_path: Path) -> None:
    write_parquet(tmp_path / "events.parquet", {"seen": instants("2026-01-01"), "UserId": ["a"]})
    cut = EventRelation(source=events(), start=None, end=JANUARY + DAY, keys=("userid",), columns=("USERID",))
    assert rows(engine, "SELECT userid FROM x", x=cut) == [("a",)]
    absent = EventRelation(source=events(), start=None, end=JANUARY + DAY, columns=("nope",))
    with pytest.raises(SourceError) as caught:
        rows(engine, "SELECT * FROM x", x=absent)
    assert str(caught.value).endswith("has no column 'nope'; its columns are seen, UserId")


def test_dimension_read_as_events_is_an_error(engine: DuckDBEngine, tmp_path: Path) -> None:
    write_parquet(tmp_path / "codes.parquet", {"k": ["a"]})
    source = ParquetSource("codes", path="codes.parquet", keys=["k"], static=True)
    with pytest.raises(SourceError, match="has no event_time, so its rows are not events: read it as a dimension"):
        rows(engine, "SELECT * FROM x", x=EventRelation(source=source, start=None, end=JANUARY))


def test_files_of_different_layouts_are_one_relation(engine: DuckDBEngine, tmp_path: Path) -> None:
    noon = instants("2026-01-01T12:00")
    layouts = [
        noon.cast(pa.timestamp("ns", tz="UTC")),
        noon.cast(pa.timestamp("ms", tz="America/New_York")),
        noon.cast(pa.timestamp("us")),
        noon.cast(pa.timestamp("ns")),
        noon.cast(pa.timestamp("s")),
    ]
    for number, seen in enumerate(layouts):
        write_parquet(tmp_path / "events" / f"{number}.parquet", {"n": [number], "seen": seen})
    source = events("events", timezone="Europe/Berlin")
    assert rows(
        engine, "SELECT n, seen FROM x ORDER BY n", x=EventRelation(source=source, start=JANUARY, end=JANUARY + DAY)
    ) == [
        (0, "2026-01-01T12:00:00"),
        (1, "2026-01-01T12:00:00"),
        (2, "2026-01-01T11:00:00"),
        (3, "2026-01-01T11:00:00"),
        (4, "2026-01-01T11:00:00"),
    ]


@pytest.mark.parametrize("zone", ["UTC", None])
def test_nanoseconds_never_slip_past_the_end_of_an_interval(engine: DuckDBEngine, tmp_path: Path, zone: str | None) -> None:
    second = 1_000_000_000
    nanos = [int(JANUARY.timestamp()) * second - 1, int(JANUARY.timestamp()) * second, -1, -1000, -1001]
    seen = pa.array(nanos, pa.int64()).cast(pa.timestamp("ns", tz=zone))
    write_parquet(tmp_path / "events.parquet", {"seen": seen, "n": [1, 2, 3, 4, 5]})
    source = events(timezone="UTC")
    before = EventRelation(source=source, start=None, end=JANUARY)
    assert rows(engine, "SELECT n, seen FROM x ORDER BY n", x=before) == [
        (1, "2025-12-31T23:59:59.999999"),
        (3, "1969-12-31T23:59:59.999999"),
        (4, "1969-12-31T23:59:59.999999"),
        (5, "1969-12-31T23:59:59.999998"),
    ]


def test_dates_begin_at_midnight_of_their_zone(engine: DuckDBEngine, tmp_path: Path) -> None:
    days = instants("2026-01-01", "2026-07-01").cast(pa.date32())
    write_parquet(tmp_path / "events.parquet", {"seen": days})
    relation = EventRelation(source=events(timezone="Europe/Berlin"), start=JANUARY - DAY, end=utc("2027-01-01"))
    assert rows(engine, "SELECT seen FROM x ORDER BY 1", x=relation) == [("2025-12-31T23:00:00",), ("2026-06-30T22:00:00",)]


NAIVE_FROM, NAIVE_TO = dt.datetime.fromisoformat("2000-01-01"), dt.datetime.fromisoformat("2035-01-01")


def _later_instant(wall: dt.datetime, zone: str) -> str:
    """The instant of a wall time; of two the later, of none the one as far past the gap."""
    return wall.replace(tzinfo=zoneinfo.ZoneInfo(zone), fold=1).astimezone(dt.UTC).isoformat().removesuffix("+00:00")


@pytest.mark.parametrize(
    ("wall", "instant"),
    [
        ("2025-10-26T02:30:00", "2025-10-26T01:30:00"),  # happened twice
        ("2025-03-30T02:30:00", "2025-03-30T01:30:00"),  # never happened
        ("2025-10-26T03:00:00", "2025-10-26T02:00:00"),
    ],
)
def test_wall_times_that_happen_twice_or_never(engine: DuckDBEngine, tmp_path: Path, wall: str, instant: str) -> None:
    write_parquet(tmp_path / "events.parquet", {"seen": pa.array([dt.datetime.fromisoformat(wall)], pa.timestamp("us"))})
    (tmp_path / "events.csv").write_text(f"seen\n{wall}\n")
    for source in (
        events(timezone="Europe/Berlin"),
        CsvSource("events", path="events.csv", event_time="seen", timezone="Europe/Berlin"),
    ):
        relation = EventRelation(source=source, start=None, end=utc("2030-01-01"))
        assert rows(engine, "SELECT seen FROM x", x=relation) == [(instant,)]


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "America/Sao_Paulo"]),
    st.lists(st.datetimes(NAIVE_FROM, NAIVE_TO), min_size=1, max_size=40),
)
def test_wall_times_become_the_later_instant(
    engine: DuckDBEngine, tmp_path: Path, zone: str, walls: list[dt.datetime]
) -> None:
    existing = [
        wall
        for wall in walls
        if wall.replace(tzinfo=zoneinfo.ZoneInfo(zone))
        .astimezone(dt.UTC)
        .astimezone(zoneinfo.ZoneInfo(zone))
        .replace(tzinfo=None)
        == wall
    ]
    write_parquet(
        tmp_path / "events.parquet", {"seen": pa.array(existing, pa.timestamp("us")), "n": list(range(len(existing)))}
    )
    relation = EventRelation(source=events(timezone=zone), start=None, end=utc("2040-01-01"))
    found = rows(engine, "SELECT seen FROM x ORDER BY n", x=relation)
    assert [row[0] for row in found] == [_later_instant(wall, zone) for wall in existing]


@pytest.mark.parametrize(
    "type", [pa.timestamp("us", tz="UTC"), pa.timestamp("us"), pa.timestamp("ns"), pa.timestamp("ns", tz="UTC")]
)
def test_bounds_skip_row_groups(engine: DuckDBEngine, tmp_path: Path, type: pa.DataType) -> None:
    minutes = [JANUARY + dt.timedelta(minutes=n) for n in range(100_000)]
    seen = pa.array(minutes, pa.timestamp("us", tz="UTC")).cast(type)
    pq.write_table(pa.table({"seen": seen, "n": range(100_000)}), tmp_path / "events.parquet", row_group_size=5_000)
    relation = EventRelation(source=events(timezone="UTC"), start=JANUARY + 30 * DAY, end=JANUARY + 33 * DAY)
    view = duckdb_relations.relation_view("x", relation, engine._source_views())
    with engine._connection({"x": view}, "") as connection:
        ((_, plan),) = connection.execute("EXPLAIN ANALYZE SELECT sum(n) FROM x").fetchall()
    (scanned,) = [line for line in plan.splitlines() if "Row Groups Scanned" in line]
    assert int(scanned.split("Scanned:")[1].split("/")[0]) <= 4
    assert rows(engine, "SELECT count(*) FROM x", x=relation) == [(3 * 24 * 60,)]


# -- dimensions -------------------------------------------------------------------------------------------------------


def test_newest_row_per_key_before_the_end(engine: DuckDBEngine, tmp_path: Path) -> None:
    write_parquet(
        tmp_path / "users.parquet",
        {
            "user": ["a", "a", "a", "b", None, "c", "d"],
            "since": instants("2025-01-01", "2025-06-01", "2026-01-01", "2026-01-02", "2025-01-01", None, "2025-01-01"),
            "city": ["old", "new", "future", "future", "nobody", "timeless", None],
        },
    )
    source = ParquetSource("users", path="users.parquet", keys=["user"], updated_at="since")
    relation = DimensionRelation(source=source, end=JANUARY)
    assert rows(engine, 'SELECT "user", city FROM u ORDER BY 1', u=relation) == [("a", "new"), ("d", None)]


def test_ties_give_the_greatest_values_in_any_order_of_rows(engine: DuckDBEngine, tmp_path: Path) -> None:
    versions = [("a", 1, None), ("a", 2, "x"), ("a", 2, "y"), ("a", 2, None), ("b", None, "z"), ("b", 0, None)]
    source = ParquetSource("users", path="users.parquet", keys=["k"], updated_at="since")
    for order in (versions, versions[::-1], versions[3:] + versions[:3]):
        write_parquet(
            tmp_path / "users.parquet",
            {
                "k": [row[0] for row in order],
                "since": instants(*["2025-01-01"] * len(order)),
                "n": pa.array([row[1] for row in order], pa.int64()),
                "s": [row[2] for row in order],
            },
        )
        found = rows(engine, "SELECT k, n, s FROM u ORDER BY k", u=DimensionRelation(source=source, end=JANUARY))
        assert found == [("a", 2, "y"), ("b", 0, None)]


def test_static_dimension_gives_every_row_with_a_key(engine: DuckDBEngine, tmp_path: Path) -> None:
    write_parquet(tmp_path / "codes.parquet", {"k": ["a", "a", None], "n": [1, 2, 3]})
    source = ParquetSource("codes", path="codes.parquet", keys=["k"], static=True)
    assert rows(engine, "SELECT n FROM c ORDER BY n", c=DimensionRelation(source=source, end=JANUARY)) == [(1,), (2,)]


# -- published files --------------------------------------------------------------------------------------------------

SCHEMA = pa.schema([("k", pa.string()), ("event_timestamp", pa.timestamp("us", tz="UTC")), ("n", pa.int64())])


def days(first: int, last: int) -> Interval:
    return Interval(JANUARY + first * DAY, JANUARY + last * DAY)


def published(*files: tuple[Path, list[Interval]], schema: pa.Schema = SCHEMA, ends_inclusive: bool = True) -> FilesRelation:
    return FilesRelation(
        files=tuple((str(path), tuple(ranges)) for path, ranges in files),
        filesystem=pafs.LocalFileSystem(),
        schema=schema,
        ends_inclusive=ends_inclusive,
    )


def daily_file(path: Path, numbers: range) -> Path:
    stamps = pa.array([JANUARY + n * DAY for n in numbers], pa.timestamp("us", tz="UTC"))
    return write_parquet(path, {"k": ["a"] * len(numbers), "event_timestamp": stamps, "n": list(numbers)})


def test_snapshot_rows_belong_to_the_range_that_ends_with_them(engine: DuckDBEngine, tmp_path: Path) -> None:
    one = daily_file(tmp_path / "1.parquet", range(10))
    two = daily_file(tmp_path / "2.parquet", range(10, 20))
    snapshots = published((one, [days(0, 2), days(2, 3), days(5, 6)]), (two, [days(10, 12)]))
    assert [row[0] for row in rows(engine, "SELECT n FROM f ORDER BY n", f=snapshots)] == [1, 2, 3, 6, 11, 12]
    instants_ = published((one, [days(0, 2), days(5, 6)]), (two, []), ends_inclusive=False)
    assert [row[0] for row in rows(engine, "SELECT n FROM f ORDER BY n", f=instants_)] == [0, 1, 5]


def test_many_files_with_ranges_of_their_own_read_as_few_do(engine: DuckDBEngine, tmp_path: Path) -> None:
    files = []
    for number in range(3 * duckdb_relations.MAX_BRANCHES):
        path = daily_file(tmp_path / f"{number:03d}.parquet", range(number + 1))  # overlaps all the files before it
        files.append((path, [days(number - 1, number)]))
    expected = [(number, f"{(JANUARY + number * DAY):%Y-%m-%dT%H:%M:%S}") for number in range(len(files))]
    sql = "SELECT n, event_timestamp FROM f ORDER BY n"
    assert rows(engine, sql, f=published(*files)) == expected
    few = duckdb_relations.MAX_BRANCHES
    assert rows(engine, sql, f=published(*files[:few])) == expected[:few]


def test_columns_younger_than_a_file_are_null_and_dropped_ones_invisible(engine: DuckDBEngine, tmp_path: Path) -> None:
    old = daily_file(tmp_path / "old.parquet", range(1, 2))
    young = tmp_path / "young.parquet"
    stamp = instants("2026-01-03")
    vector = pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2))
    write_parquet(young, {"event_timestamp": stamp, "v": vector, "k": ["a"], "dropped": [1]})
    schema = pa.schema([*SCHEMA, ("v", pa.list_(pa.float32(), 2))])
    relation = published((old, [days(0, 1)]), (young, [days(0, 2)]), schema=schema)
    assert rows(engine, "SELECT * FROM f ORDER BY event_timestamp", f=relation) == [
        ("a", "2026-01-02T00:00:00", 1, None),
        ("a", "2026-01-03T00:00:00", None, [1.0, 2.0]),
    ]
    same_ranges = published((old, [days(0, 2)]), (young, [days(0, 2)]), schema=schema)
    assert len(rows(engine, "SELECT v FROM f", f=same_ranges)) == 2
    only_old = published((old, [days(0, 2)]), schema=schema)
    assert rows(engine, "SELECT v, n FROM f", f=only_old) == [(None, 1)]


def test_no_files_at_all_is_an_empty_relation_with_its_schema(engine: DuckDBEngine) -> None:
    with engine.read(Query(sql="SELECT * FROM f", relations={"f": published()})) as reader:
        assert reader.read_all() == SCHEMA.empty_table()


def test_published_file_that_is_gone_or_damaged(engine: DuckDBEngine, tmp_path: Path) -> None:
    with pytest.raises(StoreCorrupt, match=r"published file .*/gone\.parquet is gone or damaged"):
        rows(engine, "SELECT * FROM f", f=published((tmp_path / "gone.parquet", [days(0, 2)])))
    damaged = daily_file(tmp_path / "damaged.parquet", range(3))
    damaged.write_bytes(damaged.read_bytes()[:-3])
    with pytest.raises(StoreCorrupt, match=r"published file .*/damaged\.parquet is gone or damaged"):
        rows(engine, "SELECT * FROM f", f=published((damaged, [days(0, 2)])))


# -- memory and isolation ---------------------------------------------------------------------------------------------


def test_intervals_and_tables(engine: DuckDBEngine) -> None:
    intervals = IntervalsRelation(intervals=(days(0, 1), days(1, 2)))
    table = ArrowRelation(table=pa.table({"n": [1, 2]}))
    assert rows(engine, "SELECT n, i.* FROM t, intervals i WHERE n = 1 ORDER BY 2", t=table, intervals=intervals) == [
        (1, "2026-01-01T00:00:00", "2026-01-02T00:00:00"),
        (1, "2026-01-02T00:00:00", "2026-01-03T00:00:00"),
    ]
    nothing = IntervalsRelation(intervals=())
    assert rows(engine, "SELECT * FROM i", i=nothing) == []


def test_relations_of_one_query_are_unknown_to_the_next(engine: DuckDBEngine) -> None:
    with engine.read(Query(sql="SELECT * FROM t", relations={"t": ArrowRelation(table=pa.table({"n": [1]}))})) as first:
        other = ArrowRelation(table=pa.table({"n": [2]}))
        assert rows(engine, "SELECT * FROM t", t=other) == [(2,)]
        assert first.read_all().to_pydict() == {"n": [1]}


def test_source_used_twice_in_a_query_is_read_twice(engine: DuckDBEngine) -> None:
    table = ArrowRelation(table=pa.table({"n": list(range(100))}))
    assert rows(engine, "SELECT count(*) FROM t a JOIN t b USING (n)", t=table) == [(100,)]


def test_results_have_instants_in_microseconds_and_plain_strings(engine: DuckDBEngine) -> None:
    sql = (
        "SELECT TIMESTAMP_NS '2026-01-01 00:00:00.000000999' AS a, TIMESTAMP '2026-01-01' AS b, "
        "TIMESTAMPTZ '2026-01-01 00:00:00+02' AS c, 'x'::ENUM ('x', 'y') AS d"
    )
    with engine.read(Query(sql=sql, relations={})) as reader:
        table = reader.read_all()
    instant = pa.timestamp("us", tz="UTC")
    assert table.schema.types == [instant, instant, instant, pa.string()]
    assert table.to_pylist() == [{"a": JANUARY, "b": JANUARY, "c": JANUARY - dt.timedelta(hours=2), "d": "x"}]


LAYOUTS = [
    pa.timestamp("us", tz="UTC"),
    pa.timestamp("ms", tz="Asia/Tokyo"),
    pa.timestamp("ns", tz="UTC"),
    pa.timestamp("us"),
    pa.timestamp("s"),
    pa.timestamp("ns"),
    pa.date32(),
]
SECONDS = st.integers(0, 20 * 86_400)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from(LAYOUTS), st.lists(SECONDS | st.none(), max_size=5)), min_size=1, max_size=4),
    st.sampled_from(["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"]),
    SECONDS | st.none(),
    SECONDS,
)
def test_cut_is_the_same_however_files_keep_their_times(
    engine: DuckDBEngine,
    tmp_path: Path,
    files: list[tuple[pa.DataType, list[int | None]]],
    zone: str,
    start: int | None,
    end: int,
) -> None:
    directory = Path(tempfile.mkdtemp(dir=tmp_path))
    expected = []
    for number, (layout, seconds) in enumerate(files):
        walls = [None if second is None else JANUARY + dt.timedelta(seconds=second) for second in seconds]
        seen = pa.array(walls, pa.timestamp("us", tz="UTC")).cast(layout)
        write_parquet(directory / f"{number}.parquet", {"seen": seen})
        for wall in walls:
            if wall is None:
                continue
            kept = wall.replace(hour=0, minute=0, second=0) if pa.types.is_date(layout) else wall
            naive = pa.types.is_date(layout) or layout.tz is None
            expected.append(kept.replace(tzinfo=zoneinfo.ZoneInfo(zone)).astimezone(dt.UTC) if naive else kept)
    low = None if start is None else JANUARY + dt.timedelta(seconds=start)
    high = JANUARY + dt.timedelta(seconds=end)
    source = events(str(directory), timezone=zone)
    try:
        found = rows(engine, "SELECT seen FROM x ORDER BY seen", x=EventRelation(source=source, start=low, end=high))
    except SourceError:
        kinds = {layout == pa.date32() for layout, _ in files}
        assert kinds == {True, False}  # a date and a timestamp are different types, which files may not mix
        return
    inside = sorted(instant for instant in expected if (low is None or low <= instant) and instant < high)
    assert [row[0] for row in found] == [instant.isoformat().removesuffix("+00:00") for instant in inside]


def test_files_outside_of_the_range_are_not_even_opened(engine: DuckDBEngine, tmp_path: Path) -> None:
    for day in (1, 11, 21):
        path = write_parquet(
            tmp_path / "events" / f"{day}.parquet",
            {"seen": instants(f"2026-01-{day:02d}"), "n": [day]},
        )
        if day != 11:  # damaged where a reader of rows would stumble; the footer is whole
            content = bytearray(path.read_bytes())
            content[4:60] = b"\xff" * 56
            path.write_bytes(content)
    relation = EventRelation(source=events("events"), start=utc("2026-01-10"), end=utc("2026-01-12"))
    assert rows(engine, "SELECT n FROM x", x=relation) == [(11,)]
    nothing = EventRelation(source=events("events"), start=utc("2027-01-10"), end=utc("2027-01-12"))
    assert rows(engine, "SELECT count(seen) FROM x WHERE n > 100", x=nothing) == [(0,)]
