"""A PostgresSource on a real server: copied incrementally, read as one consistent state, whatever happens in between."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fstore import extraction
from fstore.backends import Backends, create_backends, open_backends
from fstore.definitions.source import PostgresSource, SqlSource
from fstore.engines.engine import DimensionRelation, EventRelation, Query, Relation
from fstore.errors import NaiveTimestamp, SourceMissing, SourceSchemaDrift, SourceUnreadable, StoreUnavailable
from fstore.plan.fingerprint import source_key
from fstore.registry.source_changes import TimeSpan, merge_spans
from fstore.runtime.repair import sweep
from fstore.runtime.sources import first_event, observe_sources
from fstore.settings import Settings

pytestmark = pytest.mark.integration

LATEST = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
MICROSECOND = dt.timedelta(microseconds=1)
Execute = Callable[[str], None]


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def opened(root: Path) -> Backends:
    return create_backends(
        Settings(
            project="shop", root=str(root), registry_url=f"sqlite:///{root}/registry.db", offline_url=f"file:{root}/offline",
            online_url=f"lmdb:{root}/online", spill_dir=str(root / "spill"), cache_dir=str(root / "cache"),
        )
    )  # fmt: skip


@pytest.fixture
def backends(tmp_path: Path, postgres_database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backends]:
    monkeypatch.setenv("FSTORE_CONNECTION_SHOP", postgres_database)
    with opened(tmp_path) as parts:
        yield parts


@pytest.fixture
def execute(postgres_database: str) -> Execute:
    def run(statements: str) -> None:
        with psycopg.connect(postgres_database, autocommit=True) as connection:
            connection.execute(statements)  # type: ignore[call-overload]

    return run


ORDERS = PostgresSource("orders", connection="shop", table="orders", event_time="ordered_at", cursor="changed_at",
                        unique_key=["id"], deleted="gone")  # fmt: skip
CREATE = """CREATE TABLE orders (id bigint, user_id text, cents integer, ordered_at timestamptz, changed_at timestamptz,
            gone boolean NOT NULL DEFAULT false)"""


def rows(
    backends: Backends, relation: Relation, sql: str = "SELECT id, cents FROM r ORDER BY ALL"
) -> list[tuple[object, ...]]:
    with backends.engine.read(Query(sql=sql, relations={"r": relation})) as reader:
        return [tuple(row.values()) for row in reader.read_all().to_pylist()]


def events(source: PostgresSource, start: str | None = None, end: dt.datetime = LATEST) -> EventRelation:
    return EventRelation(source=source, start=None if start is None else at(start), end=end)


def changes(backends: Backends, source: PostgresSource | SqlSource) -> list[TimeSpan]:
    key = source_key(source)
    before = backends.registry.sources.newest(key)
    observe_sources(backends, [source])
    return [change.span for change in backends.registry.sources.since(key, before)]


def insert(*values: tuple[object, ...]) -> str:
    return "INSERT INTO orders VALUES " + ", ".join(
        "(" + ", ".join("NULL" if value is None else f"'{value}'" for value in row) + ")" for row in values
    )


def test_new_and_changed_and_deleted_rows_are_copied(backends: Backends, execute: Execute) -> None:
    execute(CREATE)
    execute(
        insert((1, "a", 100, "2026-01-01", "2026-01-01 00:01", "f"), (2, "b", 200, "2026-01-02", "2026-01-02 00:01", "f"))
    )
    assert changes(backends, ORDERS) == []
    assert rows(backends, events(ORDERS)) == [(1, 100), (2, 200)]
    assert first_event(backends, ORDERS) == at("2026-01-01")
    execute("UPDATE orders SET cents = 150, ordered_at = '2026-01-05', changed_at = '2026-01-06' WHERE id = 1")
    execute(insert((3, "c", 300, "2026-01-07", "2026-01-07 00:01", "f")))
    assert changes(backends, ORDERS) == [TimeSpan(at("2026-01-01"), at("2026-01-07") + MICROSECOND)]
    assert rows(backends, events(ORDERS)) == [(1, 150), (2, 200), (3, 300)]
    assert rows(backends, events(ORDERS, "2026-01-01", at("2026-01-05"))) == [(2, 200)]
    execute("UPDATE orders SET gone = true, changed_at = '2026-01-08' WHERE id = 2")
    assert changes(backends, ORDERS) == [TimeSpan(at("2026-01-02"), at("2026-01-02") + MICROSECOND)]
    assert rows(backends, events(ORDERS)) == [(1, 150), (3, 300)]
    assert changes(backends, ORDERS) == []
    extracts = backends.registry.extracts.every(source_key(ORDERS))
    assert [extract.rows for extract in extracts] == [2, 2, 1]
    assert [extract.cursor for extract in extracts] == [
        "2026-01-02T00:01:00+00:00", "2026-01-07T00:01:00+00:00", "2026-01-08T00:00:00+00:00",
    ]  # fmt: skip


def test_rows_that_appear_behind_the_cursor_are_found(backends: Backends, execute: Execute) -> None:
    execute(CREATE)
    execute(insert((1, "a", 100, "2026-01-01", "2026-01-01 12:00", "f")))
    observe_sources(backends, [ORDERS])
    execute(insert((2, "a", 200, "2026-01-01", "2026-01-01 12:00", "f"), (3, "b", 300, "2026-01-01", "2026-01-01 11:50", "f"),
                   (4, "b", 400, "2026-01-01", None, "f")))  # fmt: skip
    observe_sources(backends, [ORDERS])
    assert rows(backends, events(ORDERS)) == [(1, 100), (2, 200), (3, 300), (4, 400)]


def test_a_transaction_that_is_slow_to_commit_loses_nothing(
    backends: Backends, execute: Execute, postgres_database: str
) -> None:
    execute(CREATE)
    with psycopg.connect(postgres_database) as slow:
        slow.execute(insert((1, "a", 100, "2026-01-01", "2026-01-01 12:00", "f")))  # type: ignore[call-overload]
        execute(insert((2, "a", 200, "2026-01-01", "2026-01-01 12:05", "f")))
        observe_sources(backends, [ORDERS])
        assert rows(backends, events(ORDERS)) == [(2, 200)]
        slow.commit()
    observe_sources(backends, [ORDERS])
    assert rows(backends, events(ORDERS)) == [(1, 100), (2, 200)]


def test_a_table_that_only_grows_needs_no_unique_key(backends: Backends, execute: Execute) -> None:
    source = PostgresSource("clicks", connection="shop", table="clicks", event_time="seen", cursor="id", overlap=2)
    execute("CREATE TABLE clicks (id int, cents int, seen timestamptz); INSERT INTO clicks VALUES (1, 1, '2026-01-01'), "
            "(5, 2, '2026-01-01'), (5, 2, '2026-01-01')")  # fmt: skip
    observe_sources(backends, [source])
    assert rows(backends, events(source)) == [(1, 1), (5, 2), (5, 2)]
    execute("INSERT INTO clicks VALUES (5, 2, '2026-01-01'), (4, 9, '2026-01-01'), (8, 3, '2026-01-02')")
    observe_sources(backends, [source])
    assert rows(backends, events(source)) == [(1, 1), (4, 9), (5, 2), (5, 2), (5, 2), (8, 3)]
    execute("UPDATE clicks SET cents = 4 WHERE id = 8")
    execute("INSERT INTO clicks VALUES (7, 1, '2026-01-02')")
    with pytest.raises(SourceUnreadable, match=r"has 1 row\(s\) that were changed or deleted since they were copied"):
        observe_sources(backends, [source])


def test_a_table_that_only_grows_and_was_emptied_is_refused(backends: Backends, execute: Execute) -> None:
    source = PostgresSource("clicks", connection="shop", table="clicks", event_time="seen", cursor="id", overlap=2)
    execute("CREATE TABLE clicks (id int, cents int, seen timestamptz); INSERT INTO clicks VALUES (1, 1, '2026-01-01'), "
            "(5, 2, '2026-01-01'), (9, 2, '2026-01-01')")  # fmt: skip
    observe_sources(backends, [source])
    execute("DELETE FROM clicks WHERE id = 9")
    with pytest.raises(SourceUnreadable, match=r"has 1 row\(s\) that were changed or deleted since they were copied"):
        observe_sources(backends, [source])


def test_without_a_cursor_the_whole_table_is_compared(backends: Backends, execute: Execute) -> None:
    source = PostgresSource("orders", connection="shop", query="SELECT id, cents, ordered_at FROM orders;",
                            event_time="ordered_at")  # fmt: skip
    execute(CREATE)
    execute(
        insert(
            (1, "a", 100, "2026-01-01", None, "f"),
            (2, "b", 200, "2026-01-02", None, "f"),
            (3, "b", 300, "2026-01-09", None, "f"),
        )
    )
    assert changes(backends, source) == []
    execute("DELETE FROM orders WHERE id = 2")
    execute("UPDATE orders SET cents = 101 WHERE id = 1")
    assert changes(backends, source) == [TimeSpan(at("2026-01-01"), at("2026-01-02") + MICROSECOND)]
    assert rows(backends, events(source)) == [(1, 101), (3, 300)]
    assert changes(backends, source) == []
    assert len(backends.registry.extracts.every(source_key(source))) == 2
    execute("DELETE FROM orders")
    observe_sources(backends, [source])
    assert rows(backends, events(source)) == []


def test_a_dimension_keeps_the_versions_it_had(backends: Backends, execute: Execute) -> None:
    users = PostgresSource("users", connection="shop", table="users", keys={"user_id": "id"}, updated_at="since",
                           cursor="since", deleted="gone")  # fmt: skip
    execute("CREATE TABLE users (id text PRIMARY KEY, country text, since timestamptz, gone boolean)")
    execute("INSERT INTO users VALUES ('a', 'DE', '2026-01-01', NULL), ('b', 'IT', '2026-01-02', false)")
    observe_sources(backends, [users])
    execute("UPDATE users SET country = 'FR', since = '2026-01-05' WHERE id = 'a'")
    assert changes(backends, users) == [TimeSpan(at("2026-01-05"), None)]
    execute("UPDATE users SET gone = true, since = '2026-01-07' WHERE id = 'b'")
    observe_sources(backends, [users])

    def at_end(text: str) -> list[tuple[object, ...]]:
        relation = DimensionRelation(source=users, end=at(text))
        return rows(backends, relation, "SELECT user_id, country FROM r ORDER BY ALL")

    assert at_end("2026-01-02") == [("a", "DE")]
    assert at_end("2026-01-05") == [("a", "DE"), ("b", "IT")]
    assert at_end("2026-01-06") == [("a", "FR"), ("b", "IT")]
    assert at_end("2026-01-08") == [("a", "FR")]


def test_a_static_table_is_its_newest_state(backends: Backends, execute: Execute) -> None:
    shops = PostgresSource("shops", connection="shop", table="shops", keys=["id"], static=True)
    execute("CREATE TABLE shops (id int, city text); INSERT INTO shops VALUES (1, 'Ulm'), (2, 'Rom')")
    observe_sources(backends, [shops])
    execute("UPDATE shops SET city = 'Bern' WHERE id = 2; DELETE FROM shops WHERE id = 1")
    assert changes(backends, shops) == []
    assert rows(backends, DimensionRelation(source=shops, end=LATEST), "SELECT id, city FROM r") == [(2, "Bern")]


def test_every_type_arrives_exactly(backends: Backends, execute: Execute) -> None:
    source = PostgresSource("t", connection="shop", table='"T"', event_time="At", timezone="Europe/Berlin",
                            keys={"user_id": "Uid"})  # fmt: skip
    execute(
        """CREATE TYPE mood AS ENUM ('sad', 'ok');
        CREATE TABLE "T" ("At" timestamp, tz timestamptz, d date, i2 int2, i4 int4, i8 int8, f4 float4, f8 float8, n numeric,
            m numeric(12,2), b boolean, s text, e mood, "Uid" uuid, j jsonb, y bytea, l int[], x text[], v varchar(9), c interval);
        INSERT INTO "T" VALUES ('2026-07-01 02:00:00.123456', '1969-12-31 23:59:59.999999+00', '2026-02-03', -1, 2, 9007199254740993, 1.5,
            0.1, 12345678901234567890.0123456789, 12.34, true, E'a,"b"\\nc', 'ok', '00000000-0000-0000-0000-000000000001',
            '{"a": 1}', '\\x00ff', '{1,NULL,3}', '{"a,b",NULL,"null"}', 'ü', '1 day 2 hours'),
            ('2026-07-02', NULL, NULL, NULL, NULL, NULL, NULL, 'NaN', NULL, NULL, NULL, '', NULL, NULL, NULL, NULL, NULL, '{}', NULL, NULL)"""
    )
    schema = backends.engine.source_schema(source)
    assert schema == {
        "At": "timestamp", "tz": "timestamp", "d": "date", "i2": "int16", "i4": "int32", "i8": "int64", "f4": "float32",
        "f8": "float64", "n": "decimal(38,10)", "m": "decimal(12,2)", "b": "bool", "s": "string", "e": "string",
        "user_id": "string", "j": "string", "y": "binary", "l": "list<int32>", "x": "list<string>", "v": "string",
        "c": "string",
    }  # fmt: skip
    found = rows(backends, events(source), 'SELECT * REPLACE (n::VARCHAR AS n, m::VARCHAR AS m) FROM r ORDER BY "At"')
    assert found[0] == (
        at("2026-07-01T00:00:00.123456"), at("1969-12-31T23:59:59.999999"), dt.date(2026, 2, 3), -1, 2, 9007199254740993, 1.5,
        0.1, "12345678901234567890.0123456789", "12.34", True, 'a,"b"\nc', "ok", "00000000-0000-0000-0000-000000000001",
        '{"a": 1}', b"\x00\xff", [1, None, 3], ["a,b", None, "null"], "ü", "P1DT2H",
    )  # fmt: skip
    assert found[1][11] == ""
    assert found[1][17] == []
    assert str(found[1][7]) == "nan"


def test_values_without_an_exact_equivalent_are_refused(backends: Backends, execute: Execute) -> None:
    source = PostgresSource("t", connection="shop", table="t", event_time="seen")
    execute("CREATE TABLE t (seen timestamptz, n numeric); INSERT INTO t VALUES ('2026-01-01', 0.12345678901)")
    with pytest.raises(SourceUnreadable, match="has a value that has no exact equivalent"):
        observe_sources(backends, [source])
    declared = PostgresSource("t", connection="shop", table="t", event_time="seen",
                              schema={"seen": "timestamp", "n": "decimal(20,11)"})  # fmt: skip
    observe_sources(backends, [declared])
    assert backends.engine.source_schema(declared) == {"seen": "timestamp", "n": "decimal(20,11)"}


def test_a_column_more_is_copied_with_the_whole_table(backends: Backends, execute: Execute) -> None:
    execute(CREATE)
    execute(
        insert((1, "a", 100, "2026-01-01", "2026-01-01 12:00", "f"), (2, "a", 200, "2026-01-02", "2026-03-01 12:00", "f"))
    )
    observe_sources(backends, [ORDERS])
    execute("ALTER TABLE orders ADD COLUMN channel text DEFAULT 'web'")
    assert changes(backends, ORDERS) == [TimeSpan(None, None)]
    assert rows(backends, events(ORDERS), "SELECT id, channel FROM r ORDER BY ALL") == [(1, "web"), (2, "web")]


def test_copies_at_once_lose_and_double_nothing(tmp_path: Path, execute: Execute, backends: Backends) -> None:
    source = PostgresSource("clicks", connection="shop", table="clicks", event_time="seen", cursor="id", overlap=50)
    execute("CREATE TABLE clicks (id int, cents int, seen timestamptz)")
    execute("INSERT INTO clicks SELECT i, i, '2026-01-01' FROM generate_series(1, 100) i")

    def work(number: int) -> None:
        with opened(tmp_path) as own:
            for step in range(3):
                first = 1000 * (step + 1) + 100 * number
                execute(f"INSERT INTO clicks SELECT i, i, '2026-01-01' FROM generate_series({first}, {first + 20}) i")
                own.extract(source)

    wide = PostgresSource("clicks", connection="shop", table="clicks", event_time="seen", cursor="id", overlap=100_000)
    source = wide
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(work, range(3)))
    observe_sources(backends, [source])
    assert rows(backends, events(source), "SELECT count(*) AS n, count(DISTINCT id) AS d FROM r") == [(100 + 9 * 21,) * 2]


def test_a_copy_that_was_killed_before_it_was_recorded_counts_for_nothing(
    backends: Backends, execute: Execute, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(CREATE)
    execute(insert((1, "a", 100, "2026-01-01", "2026-01-01 12:00", "f")))

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(backends.registry.extracts, "record", killed)
        with pytest.raises(KeyboardInterrupt):
            observe_sources(backends, [ORDERS])
    assert len(list((tmp_path / "offline").rglob("rows.parquet"))) == 1
    observe_sources(backends, [ORDERS])
    assert rows(backends, events(ORDERS)) == [(1, 100)]
    assert list((tmp_path / "spill").glob("extract-*")) == []


def test_what_does_not_count_any_more_is_swept(backends: Backends, execute: Execute, tmp_path: Path) -> None:
    source = PostgresSource("orders", connection="shop", query="SELECT id, cents, ordered_at FROM orders",
                            event_time="ordered_at")  # fmt: skip
    execute(CREATE)
    execute(insert((1, "a", 100, "2026-01-01", None, "f")))
    observe_sources(backends, [source])
    execute("UPDATE orders SET cents = 7")
    observe_sources(backends, [source])
    orphan = tmp_path / "offline" / "shop" / "_sources" / "orders" / "x" / "y" / "rows.parquet"
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"left behind")
    now = dt.datetime.now(dt.UTC)
    sweep(backends, now)
    assert len(list((tmp_path / "offline").rglob("rows.parquet"))) == 3
    sweep(backends, now + dt.timedelta(days=3))
    assert len(list((tmp_path / "offline").rglob("rows.parquet"))) == 1
    assert rows(backends, events(source)) == [(1, 7)]


def test_many_copies_become_one_that_says_the_same(
    backends: Backends, execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "MERGE_FROM", 3)
    execute(CREATE)
    for day in range(1, 5):
        moment = f"2026-01-0{day} 12:00"
        execute(insert((day, "a", day, f"2026-01-0{day}", moment, "f")))
        execute(f"UPDATE orders SET gone = true, changed_at = '{moment}' WHERE id = {day - 2}")
        observe_sources(backends, [ORDERS])
    assert [extract.replaces for extract in backends.registry.extracts.every(source_key(ORDERS))] == [
        False, False, False, True, False,
    ]  # fmt: skip
    assert rows(backends, events(ORDERS)) == [(3, 3), (4, 4)]
    newest = backends.registry.sources.newest(source_key(ORDERS))
    observe_sources(backends, [ORDERS])
    assert backends.registry.sources.newest(source_key(ORDERS)) == newest
    execute("UPDATE orders SET gone = false, changed_at = '2026-01-05' WHERE id = 1")
    observe_sources(backends, [ORDERS])
    assert rows(backends, events(ORDERS)) == [(1, 1), (3, 3), (4, 4)]


def test_declared_columns_are_known_without_the_database(backends: Backends) -> None:
    source = PostgresSource("orders", connection="nowhere", table="orders", event_time="t", keys={"user_id": "customer"},
                            schema={"t": "timestamp", "customer": "string"})  # fmt: skip
    assert backends.engine.source_schema(source) == {"t": "timestamp", "user_id": "string"}


def test_without_a_registry_an_unknown_table_says_what_to_do(tmp_path: Path) -> None:
    source = PostgresSource("orders", connection="shop", table="orders", event_time="t")
    settings_ = Settings(
        project="shop", root=str(tmp_path), registry_url=f"sqlite:///{tmp_path}/none.db", offline_url=f"file:{tmp_path}/none",
        online_url=f"lmdb:{tmp_path}/none", spill_dir=str(tmp_path / "spill"), cache_dir=str(tmp_path / "cache"),
    )  # fmt: skip
    with (
        open_backends(settings_) as unmade,
        pytest.raises(
            SourceMissing, match="was never copied, and there is no registry to record a copy in: run `fstore apply`"
        ),
    ):
        unmade.engine.source_schema(source)


def test_sources_of_sql_read_copied_tables(backends: Backends, execute: Execute) -> None:
    paid = SqlSource("paid", inputs={"o": ORDERS}, sql="SELECT id, cents / 100 AS euros, ordered_at FROM o",
                     event_time="ordered_at")  # fmt: skip
    execute(CREATE)
    execute(insert((1, "a", 100, "2026-01-01", "2026-01-01 12:00", "f")))
    observe_sources(backends, [paid])
    relation = EventRelation(source=paid, start=None, end=LATEST)
    assert rows(backends, relation, "SELECT euros FROM r") == [(1.0,)]
    execute(insert((2, "a", 300, "2026-01-03", "2026-01-03 12:00", "f")))
    assert changes(backends, paid) == [TimeSpan(at("2026-01-03"), at("2026-01-03") + MICROSECOND)]
    assert rows(backends, relation, "SELECT euros FROM r ORDER BY 1") == [(1.0,), (3.0,)]


def test_what_is_wrong_is_said_without_credentials(
    backends: Backends, execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = PostgresSource("orders", connection="shop", table="nothing", event_time="t")
    with pytest.raises(SourceUnreadable, match="connection 'shop': relation \"nothing\" does not exist"):
        backends.extract(missing)
    execute("CREATE TABLE t (seen timestamp, id int)")
    with pytest.raises(NaiveTimestamp, match="has times without a zone: 'seen'"):
        backends.extract(PostgresSource("t", connection="shop", table="t", event_time="seen"))
    execute("CREATE TABLE d (seen timestamptz, id int, deleted_at timestamptz)")
    with pytest.raises(
        SourceSchemaDrift, match=r"column 'deleted_at' which rows are gone, but it is timestamptz, not boolean"
    ):
        backends.extract(
            PostgresSource("d", connection="shop", table="d", event_time="seen", unique_key=["id"], deleted="deleted_at")
        )
    with pytest.raises(SourceSchemaDrift, match="names column 'changed_at', which is not one of its columns: seen, id"):
        backends.extract(PostgresSource("t", connection="shop", table="t", event_time="seen", cursor="changed_at"))
    with pytest.raises(SourceUnreadable, match="connection 'depot' is not known: set FSTORE_CONNECTION_DEPOT=postgresql"):
        backends.extract(PostgresSource("t", connection="depot", table="t", event_time="seen"))
    with pytest.raises(
        SourceUnreadable, match="is Airflow's, which only its own processes can look up; set FSTORE_CONNECTION_DB"
    ):
        backends.extract(PostgresSource("t", connection="airflow://db", table="t", event_time="seen"))
    monkeypatch.setenv("FSTORE_CONNECTION_AWAY", "postgresql://me:very-secret@127.0.0.1:1/shop")
    with pytest.raises(StoreUnavailable) as caught:
        backends.extract(PostgresSource("t", connection="away", table="t", event_time="seen"))
    assert "very-secret" not in str(caught.value)
    assert caught.value.retryable


operations = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 5), st.integers(0, 9), st.integers(0, 9)),
        st.tuples(st.just("drop"), st.integers(1, 5), st.just(0), st.just(0)),
        st.tuples(st.just("copy"), st.just(0), st.just(0), st.just(0)),
    ),
    max_size=14,
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations)
def test_any_history_reads_as_the_table_is(
    postgres_url: str, tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int, int]]
) -> None:
    """Against the table itself: after every copy the same rows, and every time whose rows differ was logged."""
    root = tmp_path_factory.mktemp("history")
    begin = at("2026-01-01")
    source = PostgresSource("orders", connection="shop", table="history", event_time="ordered_at", cursor="version",
                            unique_key=["id"], deleted="gone", overlap=0)  # fmt: skip
    state: dict[int, tuple[int, int]] = {}
    with psycopg.connect(postgres_url, autocommit=True) as database, pytest.MonkeyPatch.context() as patched:
        patched.setenv("FSTORE_CONNECTION_SHOP", postgres_url)
        database.execute("DROP TABLE IF EXISTS history; CREATE TABLE history (id int PRIMARY KEY, cents int, "
                         "ordered_at timestamptz, version int, gone boolean)")  # fmt: skip
        with opened(root) as backends:
            observe_sources(backends, [source])
            before: dict[int, tuple[int, int]] = {}
            for version, (kind, key, day, cents) in enumerate([*steps, ("copy", 0, 0, 0)]):
                if kind == "put":
                    state[key] = (day, cents)
                    row = (key, cents, begin + dt.timedelta(days=day), version)
                    database.execute("INSERT INTO history VALUES (%s, %s, %s, %s, false) ON CONFLICT (id) DO UPDATE SET "
                                     "(cents, ordered_at, version, gone) = (excluded.cents, excluded.ordered_at, "
                                     "excluded.version, false)", row)  # fmt: skip
                elif kind == "drop":
                    state.pop(key, None)
                    database.execute("UPDATE history SET gone = true, version = %s WHERE id = %s", (version, key))
                else:
                    spans = merge_spans(changes(backends, source))
                    expected = sorted((key, cents) for key, (_, cents) in state.items())
                    assert rows(backends, events(source)) == expected
                    for day_ in range(10):
                        instant = begin + dt.timedelta(days=day_)
                        then = [(key, row) for key, row in sorted(before.items()) if row[0] == day_]
                        now = [(key, row) for key, row in sorted(state.items()) if row[0] == day_]
                        covered = any(span.start <= instant < span.end for span in spans if span.start and span.end)
                        assert covered or then == now
                    before = dict(state)
