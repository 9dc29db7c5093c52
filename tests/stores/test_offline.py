from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from fstore import failpoints
from fstore.definitions.source import CsvSource, ParquetSource
from fstore.engines.duckdb import DuckDBEngine
from fstore.engines.engine import ArrowRelation, DimensionRelation, EventRelation, FilesRelation, Query
from fstore.errors import (
    SettingsError,
    SourceMissing,
    SourceSchemaDrift,
    SourceUnreadable,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreMismatch,
    StoreMissing,
    StoreUnavailable,
)
from fstore.interval import Interval, parse_instant
from fstore.stores.offline import MARKER, LocalOfflineStore, OfflineStore, open_offline_store
from scripts.servers import free_port

TABLE = pa.table({"k": ["a", "b"], "n": [1, 2]})


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """An S3 server of our own with the bucket ``features``."""
    pytest.importorskip("moto.server", reason="moto[server] is not installed")
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    patch = pytest.MonkeyPatch()
    patch.setenv("AWS_ENDPOINT_URL", endpoint)
    patch.setenv("AWS_ACCESS_KEY_ID", "testing")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    patch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _create_bucket(endpoint, server)
            yield endpoint
        finally:
            server.terminate()
            patch.undo()


def _create_bucket(endpoint: str, server: subprocess.Popen[bytes]) -> None:
    import time

    client = pafs.S3FileSystem(
        endpoint_override=endpoint,
        access_key="testing",
        secret_key="testing",
        region="us-east-1",
        allow_bucket_creation=True,
    )
    deadline = time.monotonic() + 30
    while True:
        try:
            client.create_dir("features")
        except OSError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """A prefix in the bucket that belongs to one test."""
    return f"s3://features/{request.node.name.replace('[', '-').replace(']', '')}"


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> OfflineStore:
    if request.param == "local":
        return open_offline_store(f"file:{tmp_path}/offline")
    request.getfixturevalue("s3_endpoint")
    return open_offline_store(request.getfixturevalue("prefix"))


def put(store: OfflineStore, path: str, table: pa.Table = TABLE) -> None:
    with store.writing(path) as local:
        pq.write_table(table, local)


# -- both stores ------------------------------------------------------------------------------------------------------


def test_store_is_created_once_and_keeps_its_id(store: OfflineStore) -> None:
    assert store.store_id() is None
    store.create("one")
    store.create("one")
    assert store.store_id() == "one"
    assert open_offline_store(store.url).store_id() == "one"
    with pytest.raises(StoreMismatch) as caught:
        store.create("two")
    assert str(caught.value) == f"the offline store at {store.url} already has id one; it cannot become two"
    assert store.store_id() == "one"


def test_store_that_was_never_created(store: OfflineStore) -> None:
    with pytest.raises(StoreMissing) as caught:
        store.prepare_directory("v/g1/a1")
    assert str(caught.value) == f"no offline store at {store.url}: run `fstore apply` to create it"


def test_marker_that_is_none(store: OfflineStore) -> None:
    if isinstance(store, LocalOfflineStore):
        Path(store.full_path(MARKER)).parent.mkdir()
    with store.filesystem.open_output_stream(store.full_path(MARKER)) as stream:
        stream.write(b"{}")
    with pytest.raises(StoreCorrupt, match=r"_fstore\.json is not the marker of a store"):
        store.store_id()


def test_files_are_written_read_listed_and_deleted(store: OfflineStore) -> None:
    store.create("one")
    directory = store.attempt_directory("user_orders", 2, 7)
    assert directory == "user_orders/g2/a7"
    store.prepare_directory(directory)
    path = f"{directory}/part-0.parquet"
    assert not store.exists(path)
    put(store, path)
    assert store.exists(path)
    assert store.read(path) == TABLE
    (listed,) = store.list_directory("user_orders")
    assert (listed.path, listed.bytes) == (path, store.size(path))
    assert listed.modified_at.tzinfo is not None
    assert len(store.checksum(path)) == 64
    put(store, path, TABLE.slice(1))
    assert store.read(path) == TABLE.slice(1)
    store.delete_directory(directory)
    store.delete_directory(directory)
    assert store.list_directory("user_orders") == []
    assert not store.exists(path)


def test_nothing_appears_when_writing_fails(store: OfflineStore) -> None:
    store.create("one")

    def write_half(local: str) -> None:
        Path(local).write_bytes(b"half")
        raise KeyError("the writer failed")

    with pytest.raises(KeyError), store.writing("v/g1/a1/part.parquet") as local:
        write_half(local)
    assert store.list_directory("v") == []


def test_files_that_are_gone_or_damaged(store: OfflineStore) -> None:
    store.create("one")
    gone = f"file 'v/x.parquet' is not in the offline store at {store.url}: it was deleted by hand, or this is another store"
    for read in (store.read, store.size, store.checksum):
        with pytest.raises(StoreCorrupt) as caught:
            read("v/x.parquet")
        assert str(caught.value) == gone
    with store.writing("v/x.parquet") as local:
        Path(local).write_bytes(b"PAR1 is not a file")
    with pytest.raises(StoreCorrupt, match=r"file 'v/x\.parquet' of the offline store at .* cannot be decoded: "):
        store.read("v/x.parquet")


@pytest.mark.parametrize("path", ["../x", "v/../../x", "/etc/passwd", ""])
def test_paths_stay_in_the_store(store: OfflineStore, path: str) -> None:
    for use in (store.full_path, store.read, store.delete_directory, store.list_directory):
        with pytest.raises(StoreError) as caught:
            use(path)
        assert str(caught.value) == f"{path!r} is not a path within the offline store at {store.url}"


def test_engine_reads_published_files(store: OfflineStore, tmp_path: Path) -> None:
    store.create("one")
    schema = pa.schema([("k", pa.string()), ("event_timestamp", pa.timestamp("us", tz="UTC")), ("n", pa.int64()),
                        ("v", pa.list_(pa.float32(), 2))])  # fmt: skip
    days = [parse_instant(f"2026-01-0{day}") for day in (1, 2, 3)]
    vectors = pa.array([[1.0, 2.0], None, [3.0, 4.0]], pa.list_(pa.float32(), 2))
    rows = pa.table(
        [pa.array(["a", "b", "c"]), pa.array(days, schema.types[1]), pa.array([1, 2, 3]), vectors], schema=schema
    )
    engine = DuckDBEngine(spill_dir=str(tmp_path / "spill"), root=str(tmp_path))
    with store.writing("v/part.parquet") as local:
        query = Query(sql="SELECT * FROM r", relations={"r": ArrowRelation(table=rows)})
        engine.write(query, local, schema=schema, sort_by=["event_timestamp", "k"])
    put(store, "v/old.parquet", rows.drop_columns(["v"]))
    ranges = (Interval(days[0], days[1]), Interval(days[1], days[2]))
    relation = FilesRelation(
        files=(
            (store.full_path("v/part.parquet"), ranges),
            (store.full_path("v/old.parquet"), (Interval(days[0], days[1]),)),
        ),
        filesystem=store.filesystem,
        schema=schema,
        ends_inclusive=True,
    )
    sql = "SELECT k, n, v FROM f WHERE event_timestamp > TIMESTAMPTZ '2026-01-01' ORDER BY k, v NULLS LAST"
    with engine.read(Query(sql=sql, relations={"f": relation})) as reader:
        found = reader.read_all().to_pylist()
    engine.close()
    assert found == [{"k": "b", "n": 2, "v": None}, {"k": "b", "n": 2, "v": None}, {"k": "c", "n": 3, "v": [3.0, 4.0]}]


# -- local ------------------------------------------------------------------------------------------------------------


def test_projects_can_share_a_store(tmp_path: Path) -> None:
    store = open_offline_store(f"file:{tmp_path}", project="flights")
    assert store.attempt_directory("delays", 1, 3) == "flights/delays/g1/a3"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("gs://bucket/x", "no offline store for URL 'gs://bucket/x': use file:/absolute/path or s3://bucket/prefix"),
        ("file:relative", "'file:relative' is not absolute: write file:/path/of/the/store"),
        ("s3://", "'s3://' names no bucket: write s3://bucket/prefix"),
    ],
)
def test_urls_that_lead_nowhere(url: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        open_offline_store(url)
    assert str(caught.value) == message


def test_unfinished_files_are_not_at_their_place(tmp_path: Path) -> None:
    store = open_offline_store(f"file:{tmp_path}")
    store.create("one")
    with store.writing("v/part.parquet") as local:
        pq.write_table(TABLE, local)
        assert Path(local).parent == tmp_path / "v"
        assert not store.exists("v/part.parquet")
        assert [Path(file.path).name.startswith(".writing-") for file in store.list_directory("v")] == [True]
    assert [file.path for file in store.list_directory("v")] == ["v/part.parquet"]


def test_two_processes_that_create_a_store_agree_on_one(tmp_path: Path) -> None:
    script = """
        import sys
        from fstore.errors import StoreMismatch
        from fstore.stores.offline import open_offline_store
        try:
            open_offline_store("file:" + sys.argv[1]).create(sys.argv[2])
        except StoreMismatch:
            print("refused")
        else:
            print("created")
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "s")]
    runs = [subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, text=True) for number in range(4)]
    said = [run.communicate(timeout=60)[0].strip() for run in runs]
    winner = open_offline_store(f"file:{tmp_path}/s").store_id()
    assert said == ["created" if str(number) == winner else "refused" for number in range(4)]
    assert [path.name for path in (tmp_path / "s").iterdir()] == [MARKER]


UNPRIVILEGED = """
    import os, sys
    from fstore.stores.offline import open_offline_store
    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    store = open_offline_store("file:" + sys.argv[1])
    try:
        exec(sys.argv[2])
    except Exception as error:
        print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("action", "subject"),
    [
        ("store.prepare_directory('w/g1/a1')", "file 'w/g1/a1' of the offline store at file:{root}"),
        ("open_offline_store('file:' + sys.argv[1] + '/new').create('x')", "the offline store at file:{root}/new"),
        ("with store.writing('v/x') as local: open(local, 'w')", "file 'v/x' of the offline store at file:{root}"),
    ],
)
def test_directory_that_refuses_writes(tmp_path: Path, action: str, subject: str) -> None:
    root = tmp_path / "offline"
    store = open_offline_store(f"file:{root}")
    store.create("one")
    put(store, "v/part.parquet")
    for directory in (tmp_path, *tmp_path.parents):
        if directory.owner() == Path(tmp_path).owner() and directory != Path("/tmp"):
            directory.chmod(0o755)
    for directory in (root, root / "v"):
        directory.chmod(0o555)
    try:
        command = [sys.executable, "-c", textwrap.dedent(UNPRIVILEGED), str(root), action]
        run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    finally:
        for directory in (root, root / "v"):
            directory.chmod(0o755)
    assert run.stdout.startswith(f"StoreReadOnly {subject.format(root=root)} refuses access: [Errno 13] Permission denied: ")
    assert run.stdout.strip().endswith("Give this user read and write permission there.")


def test_disk_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_offline_store(f"file:{tmp_path}")
    store.create("one")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with store.writing("v/a") as local:
        Path(local).write_bytes(b"x")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreFull) as caught, store.writing("v/b") as local:
        Path(local).write_bytes(b"x")
    assert caught.value.retryable
    assert str(caught.value) == (
        f"file 'v/b' of the offline store at file:{tmp_path} has no room left: [Errno 28] No space left on device. Free disk "
        "space or raise the quota, then run again."
    )
    assert [file.path for file in store.list_directory("v")] == ["v/a"]
    assert isinstance(store, LocalOfflineStore)


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, StoreFull), (errno.EIO, StoreUnavailable)])
def test_a_disk_that_fails_while_a_file_is_written(store: OfflineStore, number: int, kind: type[StoreError]) -> None:
    store.create("s1")
    with pytest.raises(StoreError) as failed, store.writing("v/a1/part.parquet"):
        raise OSError(number, os.strerror(number))
    assert type(failed.value) is kind
    assert failed.value.retryable
    assert not store.exists("v/a1/part.parquet")
    with pytest.raises(FileNotFoundError), store.writing("v/a1/part.parquet"):
        Path("/nowhere/at/all").read_bytes()


# -- S3 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.integration
def test_bucket_that_is_not_there(s3_endpoint: str) -> None:
    store = open_offline_store("s3://nowhere/x")
    with pytest.raises(StoreMissing, match=r"Create the bucket, or correct FSTORE_OFFLINE_URL"):
        store.create("one")


@pytest.mark.integration
def test_server_that_does_not_answer(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(StoreUnavailable, match="the offline store at s3://features/x cannot be reached: ") as caught:
        open_offline_store("s3://features/x").store_id()
    assert caught.value.retryable
    engine = DuckDBEngine(spill_dir="/nonexistent", root="/")
    with pytest.raises(StoreUnavailable, match="source 'e' at s3://features/e cannot be reached: "):
        engine.source_schema(ParquetSource("e", path="s3://features/e", keys=["k"], static=True))


@pytest.mark.integration
def test_sources_on_s3(s3_endpoint: str, prefix: str, tmp_path: Path) -> None:
    store = open_offline_store(prefix)
    store.create("one")
    noon = pa.array([parse_instant("2026-01-01T12:00")], pa.timestamp("us", tz="UTC"))
    for day, seen in (
        ("01", noon),
        ("02", noon.cast(pa.timestamp("ns", tz="Europe/Berlin"))),
        ("03", noon.cast(pa.timestamp("us"))),
    ):
        put(store, f"events/day=2026-01-{day}/x.parquet", pa.table({"seen": seen, "k": [day]}))
    put(store, "events/_tmp/x.parquet")
    with store.writing("codes/a.csv") as local:
        Path(local).write_text("k,n\n01,x\n02,y\n")
    engine = DuckDBEngine(spill_dir=str(tmp_path / "spill"), root=str(tmp_path))
    events = ParquetSource("events", path=f"{prefix}/events", event_time="seen", timezone="Europe/Berlin")
    codes = CsvSource("codes", path=f"{prefix}/codes/*.csv", keys=["k"], static=True, schema={"k": "string", "n": "string"})
    assert engine.source_schema(events) == {"seen": "timestamp", "k": "string", "day": "date"}
    relations = {
        "e": EventRelation(source=events, start=parse_instant("2026-01-01"), end=parse_instant("2026-01-02")),
        "c": DimensionRelation(source=codes, end=parse_instant("2026-01-02")),
    }
    sql = "SELECT e.k, seen, n, day::VARCHAR AS day FROM e LEFT JOIN c USING (k) WHERE seen < TIMESTAMPTZ '2026-01-02' ORDER BY k"
    for _ in range(2):
        with engine.read(Query(sql=sql, relations=relations)) as reader:
            found = [tuple(row.values()) for row in reader.read_all().to_pylist()]
        assert found == [
            ("01", parse_instant("2026-01-01T12:00"), "x", "2026-01-01"),
            ("02", parse_instant("2026-01-01T12:00"), "y", "2026-01-02"),
            ("03", parse_instant("2026-01-01T11:00"), None, "2026-01-03"),
        ]
    missing = ParquetSource("e", path=f"{prefix}/nothing", keys=["k"], static=True)
    with pytest.raises(SourceMissing, match="has no file: nothing at s3://"):
        engine.source_schema(missing)
    put(store, "events/day=2026-01-04/x.parquet", pa.table({"seen": noon, "k": [4]}))
    with pytest.raises(SourceSchemaDrift, match="has files that disagree on column 'k'"):
        engine.source_schema(events)
    with store.writing("events/day=2026-01-04/x.parquet") as local:
        Path(local).write_bytes(b"half a file")
    with pytest.raises(SourceUnreadable, match="has a file that is not whole Parquet, features/"):
        engine.source_schema(events)
    engine.close()


@pytest.mark.integration
def test_published_file_on_s3_that_is_gone_or_damaged(s3_endpoint: str, prefix: str, tmp_path: Path) -> None:
    store = open_offline_store(prefix)
    store.create("one")
    schema = pa.schema([("event_timestamp", pa.timestamp("us", tz="UTC"))])
    with store.writing("v/damaged.parquet") as local:
        Path(local).write_bytes(b"PAR1 half a file")
    engine = DuckDBEngine(spill_dir=str(tmp_path / "spill"), root=str(tmp_path))
    day = Interval(parse_instant("2026-01-01"), parse_instant("2026-01-02"))
    for name in ("gone", "damaged"):
        path = store.full_path(f"v/{name}.parquet")
        relation = FilesRelation(files=((path, (day,)),), filesystem=store.filesystem, schema=schema, ends_inclusive=True)
        with pytest.raises(StoreCorrupt, match=rf"published file features/.*/v/{name}\.parquet is gone or damaged: "):
            engine.read(Query(sql="SELECT * FROM f", relations={"f": relation})).read_all()
    engine.close()


@pytest.mark.integration
def test_server_that_dies_between_planning_and_reading(
    s3_endpoint: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_offline_store(prefix)
    store.create("one")
    schema = pa.schema([("event_timestamp", pa.timestamp("us", tz="UTC"))])
    put(store, "v/a.parquet", schema.empty_table())
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    dead = open_offline_store(prefix)
    day = Interval(parse_instant("2026-01-01"), parse_instant("2026-01-02"))
    path = dead.full_path("v/a.parquet")
    relation = FilesRelation(files=((path, (day,)),), filesystem=dead.filesystem, schema=schema, ends_inclusive=True)
    engine = DuckDBEngine(spill_dir=str(tmp_path / "spill"), root=str(tmp_path))
    with pytest.raises(StoreUnavailable, match=r"^files cannot be read now: ") as caught:
        engine.read(Query(sql="SELECT * FROM f", relations={"f": relation})).read_all()
    engine.close()
    assert caught.value.retryable


@pytest.mark.parametrize("moment", ["offline.written", "offline.synced", "offline.renamed"])
def test_an_attempt_that_is_swept_while_it_writes_may_try_again(tmp_path: Path, moment: str) -> None:
    store = LocalOfflineStore(tmp_path / "offline", "shop")
    store.create("id")
    failpoints.arm(moment, lambda _: store.delete_directory("shop/v/g1/a8"))
    try:
        with pytest.raises(StoreUnavailable, match="was deleted while it was written: its attempt was finished or given up"):
            _write(store, "shop/v/g1/a8/part-0.parquet")
    finally:
        failpoints.disarm()
    _write(store, "shop/v/g1/a8/part-0.parquet")
    assert (tmp_path / "offline" / "shop/v/g1/a8/part-0.parquet").read_bytes() == b"rows"


def _write(store: LocalOfflineStore, relative: str) -> None:
    with store.writing(relative) as local:
        Path(local).write_bytes(b"rows")
