"""Sources made of others: the SQL of a SqlSource and the members of a UnionSource, cut in time on real files."""

from __future__ import annotations

import contextlib
import datetime as dt
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fstore.definitions.source import CsvSource, ParquetSource, Source, SqlSource, UnionSource
from fstore.engines.duckdb import DuckDBEngine
from fstore.engines.engine import DimensionRelation, EventRelation
from fstore.errors import (
    ComputeError,
    Interrupted,
    NaiveTimestamp,
    OutOfSpace,
    SourceError,
    SourceSchemaDrift,
    SourceSqlError,
)
from tests.engines.samples import instants, rows, utc, write_parquet

ORDERS = ParquetSource("orders", path="orders.parquet", event_time="t")
USERS = ParquetSource("users", path="users.parquet", keys=["user_id"], updated_at="since")
SHOPS = ParquetSource("shops", path="shops.parquet", keys=["shop"], static=True)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    write_parquet(
        tmp_path / "orders.parquet",
        {
            "id": [1, 2, 3, 4, 5, 6],
            "user_id": ["a", "a", "b", "a", "b", None],
            "shop": ["x", "y", "x", "x", "z", "x"],
            "cents": [100, 250, 300, 50, 75, 10],
            "t": instants("2026-01-01T10:00", "2026-01-01T23:00", "2026-01-02T00:00", "2026-01-02T12:00",
                           "2026-01-03T09:00", "2026-01-03T10:00"),
        },
    )  # fmt: skip
    write_parquet(
        tmp_path / "users.parquet",
        {"user_id": ["a", "a", "b"], "country": ["DE", "FR", "IT"],
         "since": instants("2026-01-01T00:00", "2026-01-02T06:00", "2026-01-01T00:00")},
    )  # fmt: skip
    write_parquet(tmp_path / "shops.parquet", {"shop": ["x", "y"], "city": ["Ulm", "Rom"]})
    return tmp_path


def read(
    engine: DuckDBEngine, source: Source, start: str | None, end: str, columns: str = "*", **settings: object
) -> list[tuple[object, ...]]:
    relation = EventRelation(source=source, start=None if start is None else utc(start), end=utc(end), **settings)  # type: ignore[arg-type]
    return rows(engine, f"SELECT {columns} FROM e ORDER BY ALL", e=relation)


def sql(text: str, inputs: dict[str, object] | None = None, event_time: str = "t") -> SqlSource:
    return SqlSource("derived", inputs=inputs or {"o": ORDERS}, sql=text, event_time=event_time)  # type: ignore[arg-type]


# -- row by row -------------------------------------------------------------------------------------------------------


def test_a_transform_is_cut_like_its_events(engine: DuckDBEngine, shop: Path) -> None:
    paid = sql("SELECT user_id, t AS paid_at, cents / 100 AS euros FROM o WHERE shop = 'x'", event_time="paid_at")
    assert engine.source_schema(paid) == {"user_id": "string", "paid_at": "timestamp", "euros": "float64"}
    assert read(engine, paid, "2026-01-01T10:00", "2026-01-02T12:00") == [
        ("a", "2026-01-01T10:00:00", 1.0),
        ("b", "2026-01-02T00:00:00", 3.0),
    ]
    assert len(read(engine, paid, None, "2030-01-01")) == 4


def test_columns_and_keys_narrow_a_transform(engine: DuckDBEngine, shop: Path) -> None:
    paid = sql("SELECT *, cents / 100 AS euros FROM o")
    relation = EventRelation(source=paid, start=None, end=utc("2030-01-01"), columns=("EUROS",), keys=("user_id",))
    assert rows(engine, "SELECT * FROM e ORDER BY t LIMIT 1", e=relation) == [(1.0, "a", "2026-01-01T10:00:00")]
    assert rows(engine, "SELECT count(*) FROM e", e=relation) == [(5,)]
    assert engine.count_ignored(relation) == 1


def test_a_static_table_is_joined_row_by_row(engine: DuckDBEngine, shop: Path) -> None:
    joined = sql("SELECT o.id, o.t, s.city FROM o LEFT JOIN s USING (shop)", {"o": ORDERS, "s": SHOPS})
    assert read(engine, joined, "2026-01-03T09:00", "2026-01-03T12:00", "id, city") == [(5, None), (6, "Ulm")]


def test_ctes_and_quotes_of_the_author_are_his_own(engine: DuckDBEngine, shop: Path) -> None:
    text = "WITH o2 AS (SELECT * FROM o) -- a comment\nSELECT id, t FROM o2 -- another"
    assert len(read(engine, sql(text), "2026-01-01", "2026-01-04")) == 6


# -- pieces -----------------------------------------------------------------------------------------------------------


def test_aggregation_runs_per_day(engine: DuckDBEngine, shop: Path) -> None:
    daily = sql("SELECT user_id, max(t) AS t, count(*) AS n FROM o WHERE user_id IS NOT NULL GROUP BY user_id")
    assert read(engine, daily, "2026-01-01", "2026-01-04") == [
        ("a", "2026-01-01T23:00:00", 2),
        ("a", "2026-01-02T12:00:00", 1),
        ("b", "2026-01-02T00:00:00", 1),
        ("b", "2026-01-03T09:00:00", 1),
    ]
    assert read(engine, daily, "2026-01-02", "2026-01-03", "user_id, n") == [("a", 1), ("b", 1)]
    assert read(engine, daily, None, "2026-01-02", "user_id, n") == [("a", 2)]


def test_a_window_lets_sql_look_back(engine: DuckDBEngine, shop: Path) -> None:
    text = "SELECT id, user_id, t, lag(id) OVER (PARTITION BY user_id ORDER BY t) AS before FROM o"
    for window, seen in (("1d", [(4, 2)]), ("2d", [(4, 2)]), ("all", [(4, 2)])):
        found = read(engine, sql(text, {"o": ORDERS.window(window)}), "2026-01-02T00:00", "2026-01-03", "id, before")
        assert [row for row in found if row[0] == 4] == seen
    assert (4, None) in read(engine, sql(text), "2026-01-02", "2026-01-03", "id, before")
    assert (5, 3) in read(engine, sql(text, {"o": ORDERS.window("1d")}), "2026-01-03", "2026-01-04", "id, before")


def test_an_unaligned_range_reads_whole_pieces(engine: DuckDBEngine, shop: Path) -> None:
    daily = sql("SELECT user_id, min(t) AS t, count(*) AS n FROM o GROUP BY user_id")
    assert read(engine, daily, "2026-01-01T05:00", "2026-01-01T12:00", "user_id, n") == [("a", 2)]


def test_dimensions_are_as_they_were_at_the_end_of_the_piece(engine: DuckDBEngine, shop: Path) -> None:
    text = "SELECT o.id, o.t, u.country FROM o JOIN u USING (user_id)"
    joined = sql(text, {"o": ORDERS, "u": USERS})
    assert read(engine, joined, "2026-01-01", "2026-01-04", "id, country") == [
        (1, "DE"), (2, "DE"), (3, "IT"), (4, "FR"), (5, "IT"),
    ]  # fmt: skip
    assert read(engine, joined, "2026-01-01", "2026-01-02", "id, country") == [(1, "DE"), (2, "DE")]


def test_sql_cannot_see_past_the_end_of_its_piece(engine: DuckDBEngine, shop: Path) -> None:
    text = "SELECT o.id, o.t, (SELECT max(t) FROM p) AS newest FROM o"
    source = sql(text, {"o": ORDERS, "p": ORDERS.window("all")})
    assert read(engine, source, "2026-01-01", "2026-01-03", "id, newest") == [
        (1, "2026-01-01T23:00:00"), (2, "2026-01-01T23:00:00"), (3, "2026-01-02T12:00:00"), (4, "2026-01-02T12:00:00"),
    ]  # fmt: skip


def test_pieces_are_made_again_when_a_file_changes(engine: DuckDBEngine, shop: Path) -> None:
    daily = sql("SELECT max(t) AS t, sum(cents)::BIGINT AS cents FROM o")
    assert read(engine, daily, "2026-01-01", "2026-01-02", "cents") == [(350,)]
    write_parquet(shop / "orders.parquet", {"cents": [7], "t": instants("2026-01-01T10:00")})
    assert read(engine, daily, "2026-01-01", "2026-01-02", "cents") == [(7,)]


def test_too_many_pieces_are_refused(engine: DuckDBEngine, shop: Path) -> None:
    text = "SELECT id, t, lag(id) OVER (ORDER BY t) AS before FROM o"
    with pytest.raises(SourceError, match=r"would run in .* pieces of 1s for this read, and 20000 are the limit"):
        read(engine, sql(text, {"o": ORDERS.window("90s")}), "2026-01-01", "2026-01-04")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 95)), max_size=25),
    st.sampled_from([0, 1, 2, 5]),
    st.tuples(st.integers(0, 96), st.integers(0, 96)).map(sorted),
)
def test_an_event_does_not_depend_on_when_it_is_read(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, int]], back: int, bounds: list[int]
) -> None:
    """Against a loop over pieces of an hour: the running number of a user's events that the piece can see."""
    root = tmp_path_factory.mktemp("pieces")
    begin = utc("2026-01-01")
    quarter = dt.timedelta(minutes=15)
    write_parquet(
        root / "orders.parquet",
        {"user_id": pa.array([user for user, _ in events], pa.string()), "id": pa.array(range(len(events)), pa.int64()),
         "t": pa.array([begin + number * quarter for _, number in events], pa.timestamp("us", tz="UTC"))},
    )  # fmt: skip
    text = "SELECT id, t, row_number() OVER (PARTITION BY user_id ORDER BY t, id) AS n FROM o"
    source = sql(text, {"o": ORDERS.window(f"{back}h") if back else ORDERS.window("1h")})
    back = back or 1
    expected = []
    for id_, (user, number) in enumerate(events):
        first = number // 4 * 4 - back * 4
        seen = [
            other for other, (name, t) in enumerate(events) if name == user and first <= t and (t, other) <= (number, id_)
        ]
        if bounds[0] <= number < bounds[1]:
            expected.append((id_, len(seen)))
    engine = DuckDBEngine(memory_limit="500MB", threads=1, spill_dir=str(root / "spill"), root=str(root))
    try:
        relation = EventRelation(source=source, start=begin + bounds[0] * quarter, end=begin + bounds[1] * quarter)
        assert rows(engine, "SELECT id, n FROM e ORDER BY id", e=relation) == expected
    finally:
        engine.close()


# -- unions -----------------------------------------------------------------------------------------------------------

WEB = ParquetSource("web", path="web.parquet", event_time="t")
APP = CsvSource("app", path="app.csv", event_time="seen", keys={"user_id": "uid"})


@pytest.fixture
def channels(tmp_path: Path) -> Path:
    write_parquet(
        tmp_path / "web.parquet",
        {"user_id": ["a", "b"], "cents": pa.array([100, 200], pa.int32()), "page": ["p", "q"],
         "t": instants("2026-01-01T10:00", "2026-01-02T10:00")},
    )  # fmt: skip
    (tmp_path / "app.csv").write_text("uid,cents,seen\na,5,2026-01-01T11:00:00Z\nc,6,2026-01-03T00:00:00Z\n")
    return tmp_path


def test_a_union_has_the_columns_that_all_members_share(engine: DuckDBEngine, channels: Path) -> None:
    both = UnionSource([WEB, APP])
    assert (both.name, both.event_time) == ("web_app", "event_time")
    assert engine.source_schema(both) == {"event_time": "timestamp", "user_id": "string", "cents": "int64"}
    assert read(engine, both, "2026-01-01T11:00", "2026-01-03") == [
        ("2026-01-01T11:00:00", "a", 5),
        ("2026-01-02T10:00:00", "b", 200),
    ]


def test_a_union_maps_columns(engine: DuckDBEngine, channels: Path) -> None:
    both = UnionSource(
        [WEB, APP], name="clicks", columns={"user_id": {}, "page": {"app": "NULL::VARCHAR"}, "euros": {"web": "cents / 100.0",
        "app": "cents::DOUBLE"}},
    )  # fmt: skip
    assert read(engine, both, None, "2030-01-01", "user_id, page, euros") == [
        ("a", "p", 1.0), ("a", None, 5.0), ("b", "q", 2.0), ("c", None, 6.0),
    ]  # fmt: skip


def test_a_union_of_columns_listed(engine: DuckDBEngine, channels: Path) -> None:
    both = UnionSource([WEB, APP], columns=["cents"], event_time="happened_at")
    assert read(engine, both, None, "2026-01-02") == [("2026-01-01T10:00:00", 100), ("2026-01-01T11:00:00", 5)]


def test_a_union_of_a_union_and_a_transform(engine: DuckDBEngine, channels: Path) -> None:
    doubled = SqlSource("doubled", inputs={"w": WEB}, sql="SELECT user_id, cents * 2 AS cents, t FROM w", event_time="t")
    every = UnionSource([UnionSource([WEB, APP], event_time="t"), doubled], name="every")
    assert read(engine, every, "2026-01-01", "2026-01-02", "user_id, cents") == [("a", 5), ("a", 100), ("a", 200)]
    counted = SqlSource("counted", inputs={"e": every}, sql="SELECT max(t) AS t, count(*) AS n FROM e", event_time="t")
    assert read(engine, counted, "2026-01-01", "2026-01-04", "n") == [(1,), (2,), (3,)]


def test_members_whose_types_disagree_are_named(engine: DuckDBEngine, channels: Path) -> None:
    both = UnionSource([WEB, APP], columns={"cents": {"app": "cents::VARCHAR"}})
    with pytest.raises(SourceSchemaDrift) as caught:
        engine.source_schema(both)
    assert "disagree on column 'cents': it is int32 in 'web', string in 'app'" in str(caught.value)
    assert 'columns={"cents": {"web": "CAST(cents AS …)"}, …}.' in str(caught.value)
    priced = UnionSource([WEB, APP], columns={"amount": {"web": "cents", "app": "cents::VARCHAR"}})
    with pytest.raises(SourceSchemaDrift) as caught:
        engine.source_schema(priced)
    assert 'columns={"amount": {"web": "CAST(cents AS …)"}, …}.' in str(caught.value)


# -- renamed keys -----------------------------------------------------------------------------------------------------


def test_keys_are_shown_under_the_names_of_the_entity(engine: DuckDBEngine, shop: Path) -> None:
    events = ParquetSource("orders", path="orders.parquet", event_time="t", keys={"customer": "user_id"})
    assert "customer" in engine.source_schema(events)
    assert "user_id" not in engine.source_schema(events)
    relation = EventRelation(source=events, start=None, end=utc("2026-01-02"), columns=("cents",), keys=("customer",))
    assert rows(engine, "SELECT customer, cents FROM e ORDER BY ALL", e=relation) == [("a", 100), ("a", 250)]
    things = ParquetSource("users", path="users.parquet", keys={"customer": "user_id"}, updated_at="since")
    relation2 = DimensionRelation(source=things, end=utc("2026-02-01"))
    assert rows(engine, "SELECT customer, country FROM d ORDER BY ALL", d=relation2) == [("a", "FR"), ("b", "IT")]


def test_a_renamed_key_must_not_hide_a_column(engine: DuckDBEngine, shop: Path) -> None:
    events = ParquetSource("orders", path="orders.parquet", event_time="t", keys={"shop": "user_id"})
    with pytest.raises(SourceSchemaDrift, match="shows a column as key 'shop', and has a column of that name as well"):
        engine.source_schema(events)


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("SELECT * FROM read_csv('/etc/passwd')", SourceSqlError, "reads from read_csv"),
        ("SELECT * FROM p", SourceSqlError, "reads 'p', which is not one of its relations: 'o'"),
        ("SELECT id, t FROM o WHERE t < $end", SourceSqlError, "uses the parameter \\$end"),
        ("SELECT idd, t FROM o", SourceSqlError, 'engine refuses: Binder Error: Referenced column "idd" not found in FROM'),
        ("SELECT id FROM o", SourceSchemaDrift, "event_time 't', which is not a column that its SQL gives: id"),
        ("SELECT id, timezone('UTC', t) AS t FROM o", NaiveTimestamp, "gives times without a zone: 't'"),
        ("SELECT id, 'x' AS t FROM o", SourceSchemaDrift, "of type string; expected a timestamp"),
    ],
)
def test_sql_that_cannot_be_a_source(
    engine: DuckDBEngine, shop: Path, text: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        engine.source_schema(sql(text))


@pytest.mark.parametrize(
    ("cause", "error"), [(duckdb.InterruptException, Interrupted), (duckdb.OutOfMemoryException, OutOfSpace)]
)
def test_what_may_pass_is_no_refusal_of_the_sql(
    tmp_path: Path, shop: Path, cause: type[Exception], error: type[ComputeError]
) -> None:
    def fail() -> None:
        raise cause("now")

    spill = str(tmp_path / "spill")
    with contextlib.closing(DuckDBEngine(threads=2, spill_dir=spill, root=str(tmp_path), before_query=fail)) as engine:
        with pytest.raises(error) as caught:
            engine.source_schema(sql("SELECT id, t FROM o"))
        assert caught.value.retryable


def test_sql_that_fails_on_a_row_says_so(engine: DuckDBEngine, shop: Path) -> None:
    with pytest.raises(ComputeError, match="Could not convert string 'a'"):
        read(engine, sql("SELECT user_id::INTEGER AS n, t FROM o"), "2026-01-01", "2026-01-04")
    daily = sql("SELECT max(user_id::INTEGER) AS n, max(t) AS t FROM o", {"o": ORDERS})
    with pytest.raises(ComputeError, match="Could not convert string 'a'"):
        read(engine, daily, "2026-01-01", "2026-01-04")
