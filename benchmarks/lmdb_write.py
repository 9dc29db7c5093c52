"""Writing 1 M published rows to LMDB, against a hand-written compare-and-set batch of the same bytes.

fstore reads Parquet, packs, compares and sets, and raises the floor, every commit synced. The bound is handed packed rows in
order of their keys and compares and sets them in one transaction, synced. A third variant puts the rows and compares
nothing, which no store may do: its ratio is printed beside. All replace an older publication.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from functools import partial
from pathlib import Path

import lmdb

from benchmarks.harness import BUILD, MEBIBYTE, measure, report
from benchmarks.online_rows import CODEC, END, ROWS, VIEW, batches, check, packed, prepare
from fstore.stores.lmdb import LmdbStore
from fstore.stores.online import Floor, apply_rows


def fstore_write() -> float:
    directory = Path(tempfile.mkdtemp(dir=BUILD))
    try:
        store = LmdbStore(directory, VIEW.project)
        store.create("bench")
        apply_rows(store, VIEW, CODEC, batches(), 1)
        started = time.perf_counter()
        applied = apply_rows(store, VIEW, CODEC, batches(), 2)
        store.raise_floor(VIEW, Floor(sequence=2, end=END))
        seconds = time.perf_counter() - started
        assert applied.written == ROWS
        keys = [b"user-%08d" % n for n in range(0, ROWS, 997)]
        check(store.read_rows(VIEW, keys), keys)
        store.close()
        return seconds
    finally:
        shutil.rmtree(directory)


def hand_written(*, compare: bool) -> float:
    directory = tempfile.mkdtemp(dir=BUILD)
    try:
        with lmdb.open(directory, map_size=1 << 31, readahead=False) as environment:
            keys, rows = packed(1)
            keys = [b"user_purch:1" + key for key in keys]
            with environment.begin(write=True) as transaction, transaction.cursor() as cursor:
                cursor.putmulti(zip(keys, rows, strict=True))
            _, rows = packed(2)
            started = time.perf_counter()
            with environment.begin(write=True) as transaction, transaction.cursor() as cursor:
                pairs = zip(keys, rows, strict=True)
                if compare:
                    get = transaction.get
                    pairs = ((key, row) for key, row in pairs if (old := get(key)) is None or old[:16] < row[:16])
                cursor.putmulti(pairs)
            environment.sync(True)
            seconds = time.perf_counter() - started
            with environment.begin() as transaction:
                check([transaction.get(key) for key in keys[::997]], keys[::997])
            return seconds
    finally:
        shutil.rmtree(directory)


def main() -> None:
    prepare()
    variants = {"fstore": fstore_write, "hand-written": partial(hand_written, compare=True),
                "blind put": partial(hand_written, compare=False)}  # fmt: skip
    measured = measure(variants)
    ours, bound, blind = (measured[name] for name in variants)
    speeds = f"{ROWS / ours.median:,.0f} rows/s, hand-written {ROWS / bound.median:,.0f}"
    beside = f"{ours.median / blind.median:.2f} x a batch that compares nothing"
    peak = f"peak {ours.peak_bytes // MEBIBYTE} MB"
    report("lmdb_write", ours.median / bound.median, f"({speeds}, {beside}, {peak}; at most 2.5 and 500 MB)")


if __name__ == "__main__":
    main()
