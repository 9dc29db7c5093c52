"""What changed in a source, from real files: which times are logged, for files and for sources made of them."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fstore.backends import Backends, create_backends, open_backends
from fstore.definitions.source import CsvSource, ParquetSource, Source, SqlSource, UnionSource
from fstore.plan.fingerprint import source_key
from fstore.registry.source_changes import TimeSpan
from fstore.runtime.sources import first_event, observe_sources
from fstore.settings import Settings

DAY = dt.timedelta(days=1)
MICROSECOND = dt.timedelta(microseconds=1)
ORDERS = ParquetSource("orders", path="orders", event_time="seen")


def opened(root: Path) -> Backends:
    return create_backends(
        Settings(
            project="shop", root=str(root), registry_url=f"sqlite:///{root}/registry.db", offline_url=f"file:{root}/offline",
            online_url=f"lmdb:{root}/online", spill_dir=str(root / "spill"), cache_dir=str(root / "cache"),
        )
    )  # fmt: skip


@pytest.fixture
def backends(tmp_path: Path) -> Iterator[Backends]:
    with opened(tmp_path) as parts:
        yield parts


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def write(
    root: Path, name: str, times: Sequence[dt.datetime | None], type: pa.DataType | None = None, **columns: object
) -> None:
    path = root / "orders" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    array = pa.array(times, pa.timestamp("us", tz="UTC")) if type is None else pa.array(times, type)
    pq.write_table(pa.table({"id": pa.array(range(len(times)), pa.int64()), "seen": array, **columns}), path)


def changes(backends: Backends, source: Source) -> list[TimeSpan]:
    """The spans that an observation adds to the log."""
    before = backends.registry.sources.newest(source_key(source))
    newest = observe_sources(backends, [source])[source_key(source)]
    logged = backends.registry.sources.since(source_key(source), before)
    assert newest == (logged[-1].id if logged else before)
    return [change.span for change in logged]


def test_a_file_of_a_new_day_touches_that_day_alone(backends: Backends, tmp_path: Path) -> None:
    write(tmp_path, "1.parquet", [at("2026-01-01"), at("2026-01-01T23:59:59.999999")])
    assert changes(backends, ORDERS) == []
    write(tmp_path, "2.parquet", [at("2026-01-02"), at("2026-01-02T23:59:59.999999")])
    assert changes(backends, ORDERS) == [TimeSpan(at("2026-01-02"), at("2026-01-03"))]
    assert changes(backends, ORDERS) == []
    assert first_event(backends, ORDERS) == at("2026-01-01")


def test_a_rewritten_file_touches_old_and_new_times(backends: Backends, tmp_path: Path) -> None:
    write(tmp_path, "1.parquet", [at("2026-01-01")])
    write(tmp_path, "2.parquet", [at("2026-01-05")])
    observe_sources(backends, [ORDERS])
    write(tmp_path, "1.parquet", [at("2026-01-09"), at("2026-01-10")])
    assert changes(backends, ORDERS) == [
        TimeSpan(at("2026-01-01"), at("2026-01-01") + MICROSECOND),
        TimeSpan(at("2026-01-09"), at("2026-01-10") + MICROSECOND),
    ]
    (tmp_path / "orders" / "2.parquet").unlink()
    assert changes(backends, ORDERS) == [TimeSpan(at("2026-01-05"), at("2026-01-05") + MICROSECOND)]


@pytest.mark.parametrize(
    "type",
    [pa.timestamp("ns", tz="UTC"), pa.timestamp("ms", tz="Asia/Tokyo"), pa.timestamp("s", tz="UTC")],
    ids=str,
)
def test_spans_are_exact_in_every_unit(backends: Backends, tmp_path: Path, type: pa.DataType) -> None:
    write(tmp_path, "1.parquet", [at("1960-01-01")], type)
    observe_sources(backends, [ORDERS])
    write(tmp_path, "2.parquet", [at("1969-12-31T12:00:01"), at("2026-01-02")], type)
    assert changes(backends, ORDERS) == [TimeSpan(at("1969-12-31T12:00:01"), at("2026-01-02") + MICROSECOND)]


def test_times_on_a_clock_of_a_zone_become_instants(backends: Backends, tmp_path: Path) -> None:
    source = ParquetSource("orders", path="orders", event_time="seen", timezone="Europe/Berlin")
    write(tmp_path, "1.parquet", [dt.datetime(2026, 1, 1)], pa.timestamp("us"))  # noqa: DTZ001
    observe_sources(backends, [source])
    write(tmp_path, "2.parquet", [dt.datetime(2026, 7, 2), dt.datetime(2026, 10, 25, 2, 30)], pa.timestamp("us"))  # noqa: DTZ001
    assert changes(backends, source) == [TimeSpan(at("2026-07-01T22:00"), at("2026-10-25T01:30") + MICROSECOND)]


def test_dates_and_partitions_begin_days(backends: Backends, tmp_path: Path) -> None:
    source = ParquetSource("orders", path="orders", event_time="seen", timezone="UTC")
    write(tmp_path, "1.parquet", [dt.date(2026, 1, 1)], pa.date32())  # type: ignore[list-item]
    observe_sources(backends, [source])
    write(tmp_path, "2.parquet", [dt.date(2026, 1, 2), dt.date(2026, 1, 4)], pa.date32())  # type: ignore[list-item]
    assert changes(backends, source) == [TimeSpan(at("2026-01-02"), at("2026-01-04") + MICROSECOND)]
    daily = ParquetSource("days", path="orders/days", event_time="day", timezone="UTC")
    write(tmp_path, "days/day=2026-02-01/a.parquet", [at("2026-02-01")])
    observe_sources(backends, [daily])
    write(tmp_path, "days/day=2026-02-02/a.parquet", [at("2026-02-02")])
    assert changes(backends, daily) == [TimeSpan(at("2026-02-02"), at("2026-02-02") + MICROSECOND)]


def test_a_file_without_rows_touches_nothing(backends: Backends, tmp_path: Path) -> None:
    write(tmp_path, "1.parquet", [at("2026-01-01")])
    observe_sources(backends, [ORDERS])
    write(tmp_path, "2.parquet", [])
    assert changes(backends, ORDERS) == []


def test_a_file_without_statistics_touches_everything(backends: Backends, tmp_path: Path) -> None:
    write(tmp_path, "1.parquet", [at("2026-01-01")])
    observe_sources(backends, [ORDERS])
    table = pa.table({"id": [1], "seen": pa.array([at("2026-01-03")], pa.timestamp("us", tz="UTC"))})
    pq.write_table(table, tmp_path / "orders" / "2.parquet", write_statistics=False)
    assert changes(backends, ORDERS) == [TimeSpan(None, None)]
    assert first_event(backends, ORDERS) == at("2026-01-01")
    ever = SqlSource("ever", inputs={"o": ORDERS.window("all")}, sql="SELECT max(seen) AS t FROM o", event_time="t")
    observe_sources(backends, [ever])
    assert first_event(backends, ever) == at("2026-01-01")


def test_csv_files_are_read_for_their_times_once(backends: Backends, tmp_path: Path) -> None:
    source = CsvSource("orders", path="orders", event_time="seen", timezone="Europe/Berlin")
    folder = tmp_path / "orders"
    folder.mkdir()
    (folder / "1.csv").write_text("id,seen\n1,2026-01-01 00:30\n")
    observe_sources(backends, [source])
    (folder / "2.csv").write_text("id,seen\n1,2026-01-02 00:30\n2,\n3,2026-01-03T00:00:00Z\n")
    assert changes(backends, source) == [TimeSpan(at("2026-01-01T23:30"), at("2026-01-03") + MICROSECOND)]
    (folder / "1.csv").chmod(0o600)
    assert changes(backends, source) == []


def test_a_project_that_moved_sees_no_change(backends: Backends, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    source = CsvSource("orders", path="orders", event_time="seen")
    (tmp_path / "here" / "orders").mkdir()
    (tmp_path / "here" / "orders" / "1.csv").write_text("id,seen\n1,2026-01-01T00:00:00Z\n")
    settings_ = [msgspec.structs.replace(backends.settings, root=str(tmp_path / name)) for name in ("here", "there")]
    with open_backends(settings_[0]) as first:
        assert changes(first, source) == []
    (tmp_path / "here").rename(tmp_path / "there")
    with open_backends(settings_[1]) as second:
        assert changes(second, source) == []
        assert list(second.registry.sources.files(source_key(source))) == ["orders/1.csv"]


def test_a_dimension_changes_from_its_first_updated_row_on(backends: Backends, tmp_path: Path) -> None:
    users = ParquetSource("users", path="orders", keys=["id"], updated_at="seen")
    write(tmp_path, "1.parquet", [at("2026-01-01"), at("2026-01-02")])
    observe_sources(backends, [users])
    write(tmp_path, "2.parquet", [at("2026-01-05"), at("2026-01-07")])
    assert changes(backends, users) == [TimeSpan(at("2026-01-05"), None)]


def test_a_static_table_never_changes(backends: Backends, tmp_path: Path) -> None:
    table = ParquetSource("shops", path="orders", keys=["id"], static=True)
    write(tmp_path, "1.parquet", [at("2026-01-01")])
    observe_sources(backends, [table])
    write(tmp_path, "1.parquet", [at("2026-01-01"), at("2026-01-02")])
    assert changes(backends, table) == []


def test_sources_made_of_others_change_in_their_own_times(backends: Backends, tmp_path: Path) -> None:
    rowwise = SqlSource("paid", inputs={"o": ORDERS}, sql="SELECT id, seen AS paid_at FROM o", event_time="paid_at")
    daily = SqlSource("daily", inputs={"o": ORDERS.window("2d")}, sql="SELECT max(seen) AS t FROM o", event_time="t")
    ever = SqlSource("ever", inputs={"o": ORDERS.window("all")}, sql="SELECT max(seen) AS t FROM o", event_time="t")
    both = UnionSource([ORDERS, rowwise])
    write(tmp_path, "1.parquet", [at("2026-01-01")])
    observe_sources(backends, [rowwise, daily, ever, both])
    write(tmp_path, "2.parquet", [at("2026-01-03T10:00"), at("2026-01-03T12:00")])
    own = TimeSpan(at("2026-01-03T10:00"), at("2026-01-03T12:00") + MICROSECOND)
    assert changes(backends, rowwise) == [own]
    assert changes(backends, daily) == [TimeSpan(at("2026-01-03"), at("2026-01-06"))]
    assert changes(backends, ever) == [TimeSpan(at("2026-01-03"), None)]
    assert changes(backends, both) == [own]
    assert first_event(backends, daily) == at("2026-01-01")


times = st.lists(st.integers(0, 20), min_size=1, max_size=3)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(st.sampled_from("abcd"), times, min_size=1), min_size=2, max_size=4))
def test_every_time_whose_rows_differ_is_logged(
    tmp_path_factory: pytest.TempPathFactory, states: list[dict[str, list[int]]]
) -> None:
    """Against the rows themselves: wherever the multiset of rows differs, some change since then covers it."""
    root = tmp_path_factory.mktemp("changes")
    begin = at("2026-01-01")
    with opened(root) as backends:
        seen: list[tuple[int, list[tuple[int, int]]]] = []
        for number, state in enumerate(states):
            for old in (root / "orders").glob("*.parquet") if (root / "orders").exists() else ():
                old.unlink()
            for name, hours in state.items():
                write(root, f"{name}.parquet", [begin + hour * DAY for hour in hours])
                os.utime(root / "orders" / f"{name}.parquet", ns=(number, number + 1_000))
            change = observe_sources(backends, [ORDERS])[source_key(ORDERS)]
            seen.append((change, sorted((hour, index) for hours in state.values() for index, hour in enumerate(hours))))
        for change, rows in seen:
            spans = [logged.span for logged in backends.registry.sources.since(source_key(ORDERS), change)]
            for hour in range(21):
                before = [row for row in rows if row[0] == hour]
                after = [row for row in seen[-1][1] if row[0] == hour]
                instant = begin + hour * DAY
                covered = any(span.start <= instant < span.end for span in spans if span.start and span.end)
                assert covered or before == after
