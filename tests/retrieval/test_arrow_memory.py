"""Readers opened within take the system's memory, and Arrow's setting is as it was afterwards, whoever else is within."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fstore.retrieval.arrow_memory import system_memory


@pytest.fixture(autouse=True)
def pool() -> Iterator[None]:
    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.mimalloc_memory_pool())
    yield
    pa.set_memory_pool(before)


def test_a_reader_keeps_the_memory_it_was_opened_with(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": list(range(100_000))}), tmp_path / "rows.parquet")
    with system_memory():
        file = pq.ParquetFile(tmp_path / "rows.parquet")
    assert pa.default_memory_pool().backend_name == "mimalloc"
    before = pa.system_memory_pool().bytes_allocated()
    with file:
        table = file.read(use_threads=False)
    assert pa.system_memory_pool().bytes_allocated() >= before + table.nbytes
    assert table["n"][99_999].as_py() == 99_999


def test_the_last_to_leave_puts_it_back() -> None:
    within, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with system_memory():
            within.set()
            leave.wait(10)

    other = threading.Thread(target=stay)
    other.start()
    assert within.wait(10)
    with system_memory():
        assert pa.default_memory_pool().backend_name == "system"
    assert pa.default_memory_pool().backend_name == "system"
    leave.set()
    other.join()
    assert pa.default_memory_pool().backend_name == "mimalloc"


def test_an_error_within_puts_it_back() -> None:
    with pytest.raises(OSError, match="gone"), system_memory():
        raise OSError("gone")
    assert pa.default_memory_pool().backend_name == "mimalloc"


def test_who_chose_another_allocator_keeps_it() -> None:
    chosen = pa.proxy_memory_pool(pa.system_memory_pool())
    pa.set_memory_pool(chosen)
    with system_memory():
        assert pa.default_memory_pool() is chosen or pa.default_memory_pool().backend_name == chosen.backend_name
    assert pa.default_memory_pool().backend_name == chosen.backend_name
