"""Streams give what a frame gives, part by part: rows, order, manifest, errors; from every kind of entity rows, in little memory."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fstore import Client
from fstore.errors import (
    ComputeError,
    EntityColumnError,
    FeatureNameClash,
    ImmatureLabels,
    IncompleteHistory,
    RetrievalError,
)
from fstore.retrieval.training import read_manifest
from tests.retrieval.publishing import DAY, HOUR, T0, Publisher, day, features, make_step

FEATURES = ["stream_orders:n", "stream_orders:amount", "stream_visits:page"]
USERS = ("ann", "bob", None, "cy")


@pytest.fixture(scope="module")
def client(publisher: Publisher) -> Iterator[Client]:
    orders = make_step("stream_orders")
    visits = make_step("stream_visits", kind="event", features=features(("page", "string", None)), lag=HOUR)
    publisher.register(orders, visits)
    publisher.publish(orders, {day(n): [{"user_id": "ann", "n": n, "amount": n / 2}] for n in range(5)})
    publisher.publish(
        visits,
        {day(n): [{"user_id": user, "event_timestamp": day(n).start + 3 * HOUR, "page": f"{user}{n}"} for user in ("ann", "bob")]
         for n in range(5)},
    )  # fmt: skip
    with Client(publisher.backends) as made:
        yield made


def spine(rows: int, first: int = 1) -> pa.Table:
    """Entity rows whose times go up and down, with duplicates."""
    return pa.table(
        {
            "label": pa.array(range(rows), pa.int64()),
            "user_id": pa.array([USERS[n * 7 % 4] for n in range(rows)]),
            "event_timestamp": pa.array([T0 + (first + n * 5 % 4) * DAY + n % 3 * HOUR for n in range(rows)]),
        }
    ).cast(pa.schema({"label": pa.int64(), "user_id": pa.string(), "event_timestamp": pa.timestamp("us", tz="UTC")}))


@pytest.mark.parametrize("part_rows", [1, 7, 40, 41, 1000])
def test_a_stream_gives_the_rows_and_the_manifest_of_a_frame(client: Client, part_rows: int) -> None:
    frame = client.get_historical_features(spine(40), FEATURES)
    stream = client.scan_historical_features(spine(40), FEATURES, part_rows=part_rows)
    with pytest.raises(RetrievalError, match="when all of its batches were read"):
        _ = stream.manifest
    for _ in range(2):  # it can be read again
        table = pa.Table.from_batches(stream.to_batches())
        assert table.to_pylist() == frame.to_arrow().to_pylist()
        assert table.schema.equals(frame.to_arrow().schema)
        ours, whole = stream.manifest, frame.manifest
        assert (ours.content_checksum, ours.spine_checksum, ours.rows) == (
            whole.content_checksum, whole.spine_checksum, whole.rows,
        )  # fmt: skip
        for got, expected in zip(ours.views, whole.views, strict=True):
            for count in ("value_rows", "empty_rows", "expired_rows", "absent_rows", "null_key_rows", "fallback_rows",
                          "intervals", "attempts"):  # fmt: skip
                assert getattr(got, count) == getattr(expected, count), count
    assert client.reproduce(stream.manifest, spine(40)).to_arrow().to_pylist() == frame.to_arrow().to_pylist()


def test_a_stream_without_rows_has_its_columns(client: Client) -> None:
    stream = client.scan_historical_features(spine(0), FEATURES)
    (batch,) = stream.to_batches()
    assert batch.num_rows == 0
    assert batch.schema.names == ["label", "user_id", "event_timestamp", "n", "amount", "page"]
    assert stream.manifest.rows == 0


def test_a_file_is_written_whole_with_its_manifest(client: Client, tmp_path: Path) -> None:
    stream = client.scan_historical_features(spine(40), FEATURES, part_rows=9)
    assert stream.explain().splitlines()[1] == (
        "  stream_orders (snapshot, fp-stream_orders, from 2026-01-01T00:00:00Z on): n, amount"
    )
    stream.to_parquet(tmp_path / "frame.parquet")
    frame = client.get_historical_features(spine(40), FEATURES)
    assert pq.read_table(tmp_path / "frame.parquet").to_pylist() == frame.to_arrow().to_pylist()
    assert read_manifest(tmp_path / "frame.parquet") == stream.manifest
    assert stream.explain().startswith("40 rows, 3 features, project 'shop' at sequence ")
    with pytest.raises(IncompleteHistory):
        client.scan_historical_features(spine(40, first=30), FEATURES).to_parquet(tmp_path / "other.parquet")
    assert [file.name for file in tmp_path.iterdir()] == ["frame.parquet"]


def test_missing_history_is_refused_before_the_first_batch_and_counted_over_all_parts(client: Client) -> None:
    rows = pa.concat_tables([spine(30), spine(40, first=4), spine(30)])
    with pytest.raises(IncompleteHistory) as whole:
        client.get_historical_features(rows, FEATURES)
    stream = client.scan_historical_features(rows, FEATURES, part_rows=8)
    with pytest.raises(IncompleteHistory) as parts:
        next(stream.to_batches())
    assert str(parts.value) == str(whole.value)
    allowed = client.scan_historical_features(rows, FEATURES, part_rows=8, missing="allow")
    frame = client.get_historical_features(rows, FEATURES, missing="allow")
    assert pa.Table.from_batches(allowed.to_batches()).to_pylist() == frame.to_arrow().to_pylist()


def test_rows_are_refused_as_for_a_frame(client: Client) -> None:
    naive = spine(4).set_column(2, "event_timestamp", pa.array([T0.replace(tzinfo=None)] * 4))
    with pytest.raises(EntityColumnError, match="without a zone"):
        next(client.scan_historical_features(naive, FEATURES).to_batches())
    with pytest.raises(FeatureNameClash):
        client.scan_historical_features(spine(4).append_column("n", pa.array([1] * 4)), FEATURES)
    soon = Client(client._backends, clock=lambda: T0 + 4 * DAY)
    with pytest.raises(ImmatureLabels) as whole:
        soon.get_historical_features(spine(40), FEATURES, matures_after=timedelta(days=2))
    with pytest.raises(ImmatureLabels) as parts:
        next(soon.scan_historical_features(spine(40), FEATURES, matures_after=timedelta(days=2), part_rows=3).to_batches())
    assert str(parts.value) == str(whole.value)


def test_entity_rows_may_be_frames_files_sql_and_relations(client: Client, tmp_path: Path) -> None:
    rows = spine(40)
    expected = client.get_historical_features(rows, FEATURES).to_arrow().to_pylist()
    folder = tmp_path / "labels"
    folder.mkdir()
    for number, start in enumerate(range(0, 40, 15)):
        pq.write_table(rows.slice(start, 15), folder / f"{number}.parquet")
    pq.write_table(rows, tmp_path / "labels.parquet")
    connection = duckdb.connect()
    connection.register("labels", rows)
    connection.execute("SET TimeZone = 'UTC'")
    given = {
        "pandas": rows.to_pandas(),
        "polars": pl.from_arrow(rows),
        "lazy": pl.scan_parquet(tmp_path / "labels.parquet"),
        "path": tmp_path / "labels.parquet",
        "directory": str(folder),
        "sql": f"SELECT * FROM '{tmp_path}/labels.parquet' ORDER BY label",
        "commented": f"-- labels\n/* of all */ (SELECT * FROM '{tmp_path}/labels.parquet' ORDER BY label)",
        "relation": connection.sql("FROM labels ORDER BY label"),
        "reader": rows.to_reader(9),
        "dicts": rows.to_pylist(),
    }
    for kind, entity_rows in given.items():
        with client.scan_historical_features(entity_rows, FEATURES, part_rows=11) as stream:
            assert pa.Table.from_batches(stream.to_batches()).to_pylist() == expected, kind
        again = rows.to_reader(9) if kind == "reader" else entity_rows
        assert client.get_historical_features(again, FEATURES).to_arrow().to_pylist() == expected, kind
    assert not list(Path(client._backends.settings.spill_dir).glob("spine-*"))


def test_a_path_that_begins_like_a_query_is_a_path(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    expected = client.get_historical_features(spine(8), FEATURES).to_arrow().to_pylist()
    for name in ("values.parquet", "with-labels.parquet", "from_monday.parquet", "select/labels.parquet"):
        Path(name).parent.mkdir(exist_ok=True)
        pq.write_table(spine(8), name)
        assert client.get_historical_features(name, FEATURES).to_arrow().to_pylist() == expected, name


def test_columns_in_the_names_of_directories_are_not_lost_in_silence(client: Client, tmp_path: Path) -> None:
    rows = spine(20).append_column("part", pa.array(["train", "test"] * 10))
    pq.write_to_dataset(rows, tmp_path / "labels", partition_cols=["part"])
    with pytest.raises(EntityColumnError) as raised:
        client.get_historical_features(tmp_path / "labels", FEATURES)
    assert str(raised.value) == (
        f"entity rows cannot be read from '{tmp_path}/labels' alone: directories such as 'part=test' are named by a column that "
        f"the files do not have. Read them with SQL: \"SELECT * FROM '{tmp_path}/labels/**/*.parquet'\""
    )
    found = client.get_historical_features(f"SELECT * FROM '{tmp_path}/labels/**/*.parquet'", FEATURES).to_arrow()
    assert sorted(found["part"].to_pylist()) == ["test"] * 10 + ["train"] * 10
    (tmp_path / "kept" / "part=any").mkdir(parents=True)
    pq.write_table(rows, tmp_path / "kept" / "part=any" / "rows.parquet")  # which has the column itself
    assert (
        client.get_historical_features(tmp_path / "kept", FEATURES).to_arrow()["part"].to_pylist() == ["train", "test"] * 10
    )


def test_a_closed_stream_says_so(client: Client) -> None:
    for rows in (spine(40), spine(40).to_reader(9)):
        with client.scan_historical_features(rows, FEATURES, part_rows=9) as stream:
            unread, batches = stream.to_batches(), stream.to_batches()
            assert next(batches).num_rows == 9
        for late in (unread, stream.to_batches()):
            with pytest.raises(RetrievalError, match="the stream is closed, and what it read is deleted"):
                next(late)


@pytest.mark.parametrize("part_rows", [0, -1, 1.5, True, "10"])
def test_parts_have_at_least_a_row(client: Client, part_rows: object) -> None:
    with pytest.raises(RetrievalError) as raised:
        client.scan_historical_features(spine(4), FEATURES, part_rows=part_rows)  # type: ignore[arg-type]
    assert str(raised.value) == f"part_rows must be a whole number from 1 up, got {part_rows!r}: leave it out for a good one"


def test_entity_rows_that_cannot_be_read_say_why(client: Client, tmp_path: Path) -> None:
    with pytest.raises(EntityColumnError, match=r"no \*\.parquet file is below it"):
        client.scan_historical_features(tmp_path, FEATURES)
    with pytest.raises(EntityColumnError, match="cannot be read from"):
        client.scan_historical_features(tmp_path / "absent.parquet", FEATURES)
    with pytest.raises(ComputeError, match="the SQL fails"):
        client.get_historical_features("SELECT * FROM absent", FEATURES)
    with pytest.raises(EntityColumnError, match="a column of the entity rows cannot be kept in a file, leave it out: "):
        client.scan_historical_features("SELECT 'ann' AS user_id, now() AS event_timestamp, INTERVAL 1 DAY AS i", FEATURES)
    assert not list(Path(client._backends.settings.spill_dir).glob("spine-*"))
    with pytest.raises(ComputeError, match="must be one SELECT"):
        client.scan_historical_features("WITH a AS (SELECT 1) SELECT * FROM a; DROP TABLE b", FEATURES)


def test_a_stream_takes_less_memory_than_its_result(publisher: Publisher, tmp_path: Path) -> None:
    """1.5 million rows with 60 features are 720 MB; reading them as a frame takes more than that, as a stream far less."""
    wide = make_step("stream_wide", features=features(*[(f"f{n}", "float64", None) for n in range(60)]))
    publisher.register(wide)
    publisher.publish(wide, {day(0): [{"user_id": "ann", **{f"f{n}": n / 3 for n in range(60)}}]})
    program = textwrap.dedent(f"""
        import pyarrow as pa, pyarrow.parquet as pq
        from datetime import UTC, datetime
        from fstore import Client
        from fstore.settings import Settings
        import msgspec
        settings = msgspec.json.decode({msgspec_json(publisher)!r}, type=Settings)
        rows = 1_500_000
        pq.write_table(pa.table({{
            "user_id": pa.array(["ann"]).take(pa.array([0] * rows)),
            "event_timestamp": pa.array([datetime(2026, 1, 2, 5, tzinfo=UTC)]).take(pa.array([0] * rows)),
        }}), {str(tmp_path / "rows.parquet")!r})
        def peak():
            return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) // 1024
        with Client(settings) as client, client.scan_historical_features({str(tmp_path / "rows.parquet")!r},
                                                                         ["stream_wide:*"]) as stream:
            count = size = 0
            for batch in stream.to_batches():
                count, size = count + batch.num_rows, size + batch.nbytes
        print(count, size // 2**20, peak())
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    rows, result_mb, peak_mb = map(int, done.stdout.split())
    assert rows == 1_500_000
    assert result_mb > 650
    assert peak_mb < 0.8 * result_mb, (peak_mb, result_mb)


def msgspec_json(publisher: Publisher) -> bytes:
    import msgspec

    return msgspec.json.encode(publisher.backends.settings)
