"""Memory and disk that run out: real limits, in processes of their own where they hold for the whole process."""

from __future__ import annotations

import errno
import subprocess
import sys
import textwrap
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fstore.engines.duckdb import DuckDBEngine
from fstore.engines.duckdb_session import SpillDirectory
from fstore.engines.engine import Query
from fstore.engines.failures import engine_error
from fstore.errors import OutOfSpace, SettingsError, StoreUnavailable

LARGER_THAN_MEMORY = "SELECT (i * 7919) % 12000017 AS n, 'some text that takes room ' || ((i * 7919) % 12000017) AS s FROM range(3000000) t(i)"
SCHEMA = pa.schema([("n", pa.int64()), ("s", pa.string())])


def limited(tmp_path: Path, memory_limit: str) -> DuckDBEngine:
    return DuckDBEngine(memory_limit=memory_limit, threads=2, spill_dir=str(tmp_path / "spill"), root=str(tmp_path))


def test_sorting_more_than_memory_holds_spills(tmp_path: Path) -> None:
    engine = limited(tmp_path, "128MB")
    path = tmp_path / "out.parquet"
    written = engine.write(Query(sql=LARGER_THAN_MEMORY, relations={}), str(path), schema=SCHEMA, sort_by=["n"])
    engine.close()
    assert written.rows == 3_000_000
    last = -1
    for batch in pq.ParquetFile(path).iter_batches(columns=["n"]):
        numbers = batch.column(0).to_numpy()
        assert numbers[0] >= last
        assert (numbers[1:] >= numbers[:-1]).all()
        last = numbers[-1]
    assert list((tmp_path / "spill").iterdir()) == []


def test_memory_that_no_spilling_can_save(tmp_path: Path) -> None:
    engine = limited(tmp_path, "32MB")
    with pytest.raises(OutOfSpace) as caught:
        engine.read(Query(sql="SELECT list(i) AS l FROM range(50000000) t(i)", relations={})).read_all()
    engine.close()
    assert caught.value.retryable
    assert str(caught.value).startswith("the query needs more memory than it may use: ")
    assert str(caught.value).endswith(". Raise FSTORE_MEMORY_LIMIT, or compute fewer intervals at once.")


FULL_DISK = """
    import resource, signal, sys
    from pathlib import Path
    import pyarrow as pa
    from fstore.engines.duckdb import DuckDBEngine
    from fstore.engines.engine import Query
    from fstore.errors import OutOfSpace

    root = Path(sys.argv[1])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    engine = DuckDBEngine(memory_limit=sys.argv[2], threads=2, spill_dir=str(root / "spill"), root=str(root))
    engine.read(Query(sql="SELECT 1", relations={})).read_all()
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))
    schema = pa.schema([("n", pa.int64()), ("s", pa.string())])
    for _ in range(int(sys.argv[3])):
        try:
            engine.write(Query(sql=sys.argv[4], relations={}), str(root / "out.parquet"), schema=schema, sort_by=["n"])
        except OutOfSpace as error:
            print(error)
    engine.close()
    print(sorted(path.name for path in root.rglob("*")))
"""


@pytest.mark.parametrize(("memory_limit", "rows", "times"), [("1GB", 1_000_000, 3), ("100MB", 3_000_000, 1)])
def test_disk_that_fills_while_writing_or_spilling(tmp_path: Path, memory_limit: str, rows: int, times: int) -> None:
    sql = f"SELECT i AS n, md5(i::VARCHAR) AS s FROM range({rows}) t(i)"
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL_DISK), str(tmp_path), memory_limit, str(times), sql],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    *messages, left = run.stdout.strip().splitlines()
    assert (left, run.returncode) == ("['spill']", 0), run.stderr
    assert len(messages) == times
    for message in messages:
        assert message.startswith("the disk is full: ")
        assert message.endswith(". Free space where files are written and spilled, then run again.")


def test_device_without_room(tmp_path: Path) -> None:
    engine = limited(tmp_path, "500MB")
    full = tmp_path / "full.parquet"
    full.symlink_to("/dev/full")
    with pytest.raises(OutOfSpace, match=r"^the disk is full: .*No space left on device"):
        engine.write(Query(sql="SELECT 1 AS n, 'a' AS s", relations={}), str(full), schema=SCHEMA, sort_by=["n"])
    engine.close()
    assert not full.is_symlink()


def test_spill_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "spill").touch()
    engine = limited(tmp_path, "500MB")
    with pytest.raises(SettingsError) as caught:
        engine.read(Query(sql="SELECT 1", relations={}))
    assert str(caught.value) == (
        f"no temporary files can be written to {tmp_path}/spill: [Errno 17] File exists: '{tmp_path}/spill'. Give this user "
        "write permission there, or set FSTORE_SPILL_DIR."
    )


@pytest.mark.parametrize("text", [
    'IO Error: Could not rename file "/a/tmp_b" to "/a/b": Input/output error',
    'IO Error: Cannot open file "/data/day.parquet": Input/output error',
    '{"exception_type":"IO","exception_message":"Could not write","errno":"5"}',
    'IO Error: Could not read from file "/mnt/x": Stale file handle',
])  # fmt: skip
def test_a_failing_disk_may_be_tried_again(text: str) -> None:
    error = engine_error(duckdb.IOException(text), sql="SELECT 1", views=())
    assert isinstance(error, StoreUnavailable)
    assert error.retryable


def test_a_spill_directory_on_a_failing_disk_may_be_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(**_: object) -> str:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("fstore.engines.duckdb_session.tempfile.mkdtemp", fails)
    with pytest.raises(StoreUnavailable, match="disk or its network fails"):
        SpillDirectory(tmp_path)
