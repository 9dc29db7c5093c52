"""Writing 1 M published rows to LMDB, against a hand-written batch put of the same bytes.

fstore reads Parquet, packs, compares and sets, and raises the floor, every commit synced; the bound is handed packed rows
in order and puts them in one transaction, synced, comparing nothing. Both replace an older publication.
"""

from __future__ import annotations

import shutil
import tempfile
import time
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


def hand_written() -> float:
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
                cursor.putmulti(zip(keys, rows, strict=True))
            environment.sync(True)
            seconds = time.perf_counter() - started
            with environment.begin() as transaction:
                check([transaction.get(key) for key in keys[::997]], keys[::997])
            return seconds
    finally:
        shutil.rmtree(directory)


def main() -> None:
    prepare()
    measured = measure({"fstore": fstore_write, "hand-written": hand_written})
    ours, bound = measured["fstore"], measured["hand-written"]
    speeds = f"{ROWS / ours.median:,.0f} rows/s, hand-written {ROWS / bound.median:,.0f}"
    report(
        "lmdb_write",
        ours.median / bound.median,
        f"({speeds}, peak {ours.peak_bytes // MEBIBYTE} MB; at most 2.5 and 500 MB)",
    )


if __name__ == "__main__":
    main()
