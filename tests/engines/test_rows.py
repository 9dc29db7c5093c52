"""A SELECT that is planned once and run on many tables of one schema."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fstore.engines.duckdb import DuckDBEngine
from fstore.errors import ComputeError

SCHEMA = pa.schema([("a:b@c(d=e)", pa.float64()), ("n", pa.int64())])
SQL = 'SELECT "a:b@c(d=e)" / nullif(n, 0) AS q, n FROM rows'


def table(values: list[float | None], divisors: list[int | None]) -> pa.Table:
    return pa.table({"a:b@c(d=e)": values, "n": divisors}, schema=SCHEMA)


@pytest.fixture
def engine(tmp_path: Path) -> DuckDBEngine:
    return DuckDBEngine(memory_limit="1GB", threads=2, spill_dir=str(tmp_path), root=str(tmp_path))


def test_each_run_sees_its_own_rows(engine: DuckDBEngine) -> None:
    run = engine.compile_rows(SQL, SCHEMA)
    assert run(table([1.0, 2.0, None], [2, 0, 1]))["q"].to_pylist() == [0.5, None, None]
    assert run(table([9.0], [3])).to_pydict() == {"q": [3.0], "n": [3]}
    assert run(table([], [])).num_rows == 0
    engine.close()


def test_many_rows_keep_their_order(engine: DuckDBEngine) -> None:
    run = engine.compile_rows(SQL, SCHEMA)
    rows = 1_000_000
    many = pa.table({"a:b@c(d=e)": np.arange(rows, dtype=np.float64), "n": np.ones(rows, dtype=np.int64)}, schema=SCHEMA)
    assert run(many)["q"].to_numpy().tolist() == list(range(rows))
    engine.close()


def test_threads_do_not_meet(engine: DuckDBEngine) -> None:
    run = engine.compile_rows(SQL, SCHEMA)

    def one(number: int) -> list[object]:
        return run(table([float(number)] * 50, [1] * 50))["q"].to_pylist()  # type: ignore[no-any-return]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(100))) == [[float(number)] * 50 for number in range(100)]
    engine.close()


def test_what_is_no_select_over_rows_is_refused(engine: DuckDBEngine) -> None:
    for sql in ("SELECT * FROM other", "SELECT getenv('HOME')", "DROP TABLE x", "SELECT strange(n) FROM rows"):
        with pytest.raises(ComputeError):
            engine.compile_rows(sql, SCHEMA)
    engine.close()
