"""The rows that the online benchmarks write: 1 M keys of 10 features, as published Parquet and as packed bytes.

Made once under build/ and kept. 6 float64, 2 int64, 1 bool and 1 string feature, a twentieth of each null.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.harness import BUILD
from fstore.stores.encoding import RowCodec
from fstore.stores.online import OnlineView
from fstore.types import Column

ROWS = int(os.environ.get("FSTORE_BENCH_ROWS", "1000000"))
END = datetime(2026, 1, 2, tzinfo=UTC)
KEYS = (Column(name="user_id", type="string"),)
FEATURES = (
    *(Column(name=f"amount_{n}", type="float64") for n in range(6)),
    *(Column(name=f"count_{n}", type="int64") for n in range(2)),
    Column(name="regular", type="bool"),
    Column(name="category", type="string"),
)
VIEW = OnlineView(project="bench", view="user_purchases", generation=1)
CODEC = RowCodec(KEYS, FEATURES)


def prepare() -> None:
    """Write the Parquet file, and two publications of the same rows as packed bytes, unless they are there."""
    BUILD.mkdir(parents=True, exist_ok=True)
    if not parquet_file().exists():
        _write_parquet(parquet_file())
    for sequence in (1, 2):
        if not _packed_file(sequence).exists():
            keys: list[bytes] = []
            rows: list[bytes] = []
            for batch in batches():
                keys += CODEC.encode_keys(batch)
                rows += CODEC.encode_rows(batch, sequence)
            _packed_file(sequence).write_bytes(pickle.dumps((keys, rows)))


def parquet_file() -> Path:
    return BUILD / f"online-rows-{ROWS}.parquet"


def batches() -> Iterator[pa.RecordBatch]:
    """Read the published file a batch at a time."""
    with pq.ParquetFile(parquet_file()) as file:
        yield from file.iter_batches(batch_size=50_000)


def packed(sequence: int) -> tuple[list[bytes], list[bytes]]:
    """Return keys and rows of a publication as the bytes that a hand-written writer is given."""
    keys, rows = pickle.loads(_packed_file(sequence).read_bytes())
    return keys, rows


def check(rows: list[bytes | None], keys: list[bytes]) -> None:
    """Fail unless every row is there and of the newest publication."""
    wrong = [key for key, row in zip(keys, rows, strict=True) if row is None or row[:8] != (2).to_bytes(8, "big")]
    if wrong:
        raise SystemExit(f"{len(wrong)} of {len(keys)} rows are not readable, the first of them {wrong[0]!r}")


def _packed_file(sequence: int) -> Path:
    return BUILD / f"online-rows-{ROWS}-{CODEC.schema_id:016x}-{sequence}.pickle"


def _write_parquet(path: Path) -> None:
    random = np.random.default_rng(7)

    def nullable(values: object) -> pa.Array:
        return pa.array(values, mask=random.random(ROWS) < 0.05)

    columns = {f"amount_{n}": nullable(random.lognormal(3, 1, ROWS)) for n in range(6)}
    columns |= {f"count_{n}": nullable(random.integers(0, 1000, ROWS)) for n in range(2)}
    columns["regular"] = nullable(random.random(ROWS) < 0.3)
    categories = np.array([f"category-{n}" for n in range(40)], dtype=object)
    columns["category"] = nullable(categories[random.integers(0, 40, ROWS)])
    columns["user_id"] = pa.array([f"user-{n:08d}" for n in range(ROWS)])
    columns["event_timestamp"] = pa.array([END], pa.timestamp("us", tz="UTC")).take(pa.array(np.zeros(ROWS, np.int64)))
    temporary = path.with_suffix(".writing")
    pq.write_table(pa.table(columns), temporary, compression="zstd", row_group_size=122_880)
    temporary.replace(path)
