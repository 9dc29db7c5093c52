"""What only the LMDB store has to get right: its files, its map, its processes and a disk that fills."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fstore.errors import StoreCorrupt, StoreError, StoreFull, StoreMissing
from fstore.stores import lmdb_environment
from fstore.stores.lmdb import LmdbStore
from tests.contracts.online_writers import VIEW, row

SPAWN = multiprocessing.get_context("spawn")
BIG = b"x" * 100_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LmdbStore]:
    store = LmdbStore(tmp_path / "online", "shop")
    store.create("id-1")
    yield store
    store.close()


@pytest.fixture
def small_map(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmdb_environment, "FIRST_MAP_BYTES", 1 << 20)


def test_the_map_grows_when_a_write_does_not_fit(small_map: None, store: LmdbStore) -> None:
    keys = [b"%d" % n for n in range(100)]
    assert store.write_rows(VIEW, keys, [row(1, BIG)] * 100) == 100
    assert store.read_rows(VIEW, keys) == [row(1, BIG)] * 100


def _write(path: str, first: int) -> None:
    store = LmdbStore(path, "shop")
    keys = [b"%d" % n for n in range(first, first + 100)]
    assert store.write_rows(VIEW, keys, [row(1, BIG)] * 100) == 100
    store.close()


def test_readers_and_writers_follow_a_map_that_another_process_grew(small_map: None, store: LmdbStore) -> None:
    assert store.read_rows(VIEW, [b"0"]) == [None]
    other = SPAWN.Process(target=_write, args=(str(store.path), 0))
    other.start()
    other.join()
    assert other.exitcode == 0
    assert store.read_rows(VIEW, [b"0", b"99"]) == [row(1, BIG)] * 2
    _write(str(store.path), 100)
    assert store.read_rows(VIEW, [b"0", b"199"]) == [row(1, BIG)] * 2


def test_two_stores_of_a_process_share_the_environment(store: LmdbStore) -> None:
    other = LmdbStore(store.path / ".." / "online", "shop")
    other.write_rows(VIEW, [b"a"], [row(1)])
    assert store.read_rows(VIEW, [b"a"]) == [row(1)]
    store.close()
    assert other.read_rows(VIEW, [b"a"]) == [row(1)]
    other.close()


def test_two_projects_in_a_directory_do_not_meet(store: LmdbStore) -> None:
    other = LmdbStore(store.path, "bank")
    assert other.store_id() is None
    other.create("id-2")
    assert (store.store_id(), other.store_id()) == ("id-1", "id-2")
    other.close()


def test_a_store_that_is_deleted_and_made_again_is_not_the_old_one(store: LmdbStore) -> None:
    store.write_rows(VIEW, [b"a"], [row(1)])
    shutil.rmtree(store.path)
    with pytest.raises(StoreMissing) as caught:
        store.read_rows(VIEW, [b"a"])
    assert str(caught.value) == (
        f"there is no online store of project 'shop' at {store.path}: run `fstore repair --online` if it was "
        "lost, `fstore apply` to create it, or correct FSTORE_ONLINE_URL"
    )
    again = LmdbStore(store.path, "shop")
    again.create("id-2")
    assert store.store_id() == "id-2"
    assert store.read_rows(VIEW, [b"a"]) == [None]
    again.close()


def test_what_is_no_directory_or_no_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=f"the online store at {tmp_path}/file cannot be made"):
        LmdbStore(tmp_path / "file", "shop").create("id")
    (tmp_path / "online").mkdir()
    (tmp_path / "online" / "data.mdb").write_bytes(b"not a database" * 1000)
    with pytest.raises(
        StoreCorrupt, match=r"cannot be read: .* Delete the directory: the next run, or `fstore repair --online`, makes"
    ):
        LmdbStore(tmp_path / "online", "shop").store_id()


def test_a_path_below_a_file_holds_no_store_and_cannot(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    store = LmdbStore(tmp_path / "file" / "online", "shop")
    assert store.store_id() is None
    with pytest.raises(StoreMissing, match="FSTORE_ONLINE_URL"):
        store.read_view(VIEW, [b"key"])
    with pytest.raises(StoreError, match="cannot be made") as refused:
        store.create("id")
    assert refused.value.code == "store_error"


def test_a_disk_that_fills_keeps_what_was_acknowledged(store: LmdbStore) -> None:
    store.write_rows(VIEW, [b"a"], [row(1)])
    child = SPAWN.Process(target=_fill_the_disk, args=(str(store.path),))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert store.read_rows(VIEW, [b"a", b"0"]) == [row(1), None]
    assert store.write_rows(VIEW, [b"a"], [row(2)]) == 1


def _fill_the_disk(path: str) -> None:
    """Write beyond the size that files of this process may have, which is what a full disk looks like to LMDB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, 4 << 20))
    store = LmdbStore(path, "shop")
    with pytest.raises(StoreFull, match=r"has no room left on its disk, or it fails \(.*\); what was acknowledged is kept"):
        store.write_rows(VIEW, [b"%d" % n for n in range(100)], [row(1, BIG)] * 100)
    assert StoreFull.retryable
    assert store.read_rows(VIEW, [b"a"]) == [row(1)]
    store.close()


READ_ONLY = """
import os, sys
from pathlib import Path
from fstore.errors import StoreReadOnly
from fstore.stores.lmdb import LmdbStore
from tests.contracts.online_writers import VIEW, row
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
store = LmdbStore(sys.argv[1], "shop")
assert store.store_id() == "id-1"
assert store.read_rows(VIEW, [b"a"]) == [row(1)]
for write in (lambda: store.write_rows(VIEW, [b"a"], [row(2)]), lambda: LmdbStore(sys.argv[1] + "/new", "shop").create("x")):
    try:
        write()
    except StoreReadOnly as error:
        print(error)
"""


@pytest.mark.parametrize("hidden_lock", [False, True])
def test_a_directory_without_write_permission_reads_and_refuses_writes(*, hidden_lock: bool) -> None:
    directory = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        path = directory / "online"
        store = LmdbStore(path, "shop")
        store.create("id-1")
        store.write_rows(VIEW, [b"a"], [row(1)])
        store.close()
        (path / "lock.mdb").chmod(0o000 if hidden_lock else 0o444)
        (path / "data.mdb").chmod(0o444)
        path.chmod(0o555)
        directory.chmod(0o755)
        child = subprocess.run(
            [sys.executable, "-c", READ_ONLY, path],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
            check=False,
        )
        assert child.stderr == ""
        assert child.stdout.splitlines() == [
            f"the online store at {place} refuses writes: [Errno 13] Permission denied{detail}. Give this user write permission "
            "on the directory."
            for place, detail in ((path, ""), (path / "new", f": '{path}/new'"))
        ]
    finally:
        (directory / "online").chmod(0o755)
        shutil.rmtree(directory)


def _killed_while_reading(path: str) -> None:
    store = LmdbStore(path, "shop")
    store.read_rows(VIEW, [b"a"])
    assert store._held is not None
    transactions = [store._held.environment.begin() for _ in range(20)]
    os.kill(os.getpid(), 9)
    del transactions


def test_slots_of_killed_readers_are_freed_when_they_run_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmdb_environment, "MAX_READERS", 15)
    store = LmdbStore(tmp_path / "online", "shop")
    store.create("id-1")
    child = SPAWN.Process(target=_killed_while_reading, args=(str(store.path),))
    store.close()
    child.start()
    child.join()
    assert store.read_rows(VIEW, [b"a"]) == [None]
    store.close()


def test_a_store_is_not_written_while_it_is_read_elsewhere_in_the_process(store: LmdbStore) -> None:
    """Growing waits for the process's transactions; a transaction in the same thread would wait for itself."""
    uses: list[Callable[[], object]] = [lambda: store.floor(VIEW), lambda: store.write_rows(VIEW, [b"a"], [row(1)])]
    for use in uses * 3:
        use()
    assert store.read_rows(VIEW, [b"a"]) == [row(1)]
