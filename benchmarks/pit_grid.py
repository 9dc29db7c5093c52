"""Point-in-time joins with snapshot views against a raw DuckDB ASOF join over the same published files.

What ``pit_grid_10m`` and ``pit_grid_1m`` share: {100 k, 1 M} entity rows with one or three views of ten features each, their
rows published by one range run, or by a run per day. Ours is a whole read with a new client, from the settings to an Arrow
table in the order of the entity rows with its manifest and checksums; the raw join opens DuckDB, knows the files, and gives
its rows in any order. Both end in Arrow with two threads and the same memory. The ratio is that of the worst shape.

FSTORE_BENCH_SCALE=0.1 takes a tenth of all rows; FSTORE_BENCH_SHAPES=range-100k-1,daily-1m-3 only some shapes.
"""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

from benchmarks.harness import Measured, measure, report
from benchmarks.pit_stores import MILLION, Store, content, grid, prepare, read_ours, read_sql, spine

BASELINES = Path(__file__).parent / "baselines"
SPINES = {"100k": MILLION // 10, "1m": MILLION}
VIEWS = (1, 3)


def shapes(rows: int) -> dict[str, tuple[Store, int, int]]:
    """Return store, views and entity rows by the name of each shape."""
    stores = {"range": grid(rows, daily=False), "daily": grid(rows, daily=True)}
    named = {
        f"{how}-{size}-{views}": (store, views, count)
        for how, store in stores.items()
        for size, count in SPINES.items()
        for views in VIEWS
    }
    only = os.environ.get("FSTORE_BENCH_SHAPES")
    return named if not only else {name: named[name] for name in only.split(",")}


def baseline(views: int) -> str:
    return (BASELINES / f"pit_asof_{views}.sql").read_text(encoding="utf-8")


def _is_gathered(store: Store, entity_rows: int) -> bool:
    from pyarrow.fs import LocalFileSystem

    from fstore.retrieval.snapshot_join import GATHER, SnapshotSizes, choose_snapshot_join

    view = store.views[0]
    sizes = SnapshotSizes(spine_rows=entity_rows, rows=store.rows, files=len(store.files(view)), features=view.features)
    return view.kind != "event" and choose_snapshot_join(sizes, LocalFileSystem()) is GATHER


def run_ours(store: Store, views: int, entity_rows: int) -> float:
    """Read a frame; return the seconds, without those of imports and of loading the entity rows."""
    import fstore.registry.registry
    import fstore.retrieval.historical
    import fstore.stores.offline

    if not _is_gathered(store, entity_rows):
        import fstore.engines.duckdb  # noqa: F401

    rows = spine(entity_rows, store.keys)
    began = time.perf_counter()
    read_ours(store, views, rows)
    return time.perf_counter() - began


def run_raw(store: Store, views: int, entity_rows: int) -> float:
    import duckdb  # noqa: F401

    rows = spine(entity_rows, store.keys)
    began = time.perf_counter()
    read_sql(store, baseline(views), rows)
    return time.perf_counter() - began


def check(store: Store, views: int, entity_rows: int) -> None:
    """Fail unless both give equal rows."""
    rows = spine(entity_rows, store.keys)
    if content(read_ours(store, views, rows)) != content(read_sql(store, baseline(views), rows)):
        raise SystemExit(f"{store.folder.name}: {entity_rows} entity rows with {views} view(s): the rows differ")


def run(name: str, rows: int, bound: float) -> None:
    """Measure all shapes and report the worst."""
    ratios: dict[str, tuple[float, Measured, Measured]] = {}
    for shape, (store, views, count) in shapes(rows).items():
        prepare(store)
        check(store, views, count)
        print(
            f"{shape}: {count} entity rows, {views} view(s) of {store.rows} rows, {len(store.files(store.views[0]))} files"
        )
        taken = measure({"ours": partial(run_ours, store, views, count), "raw": partial(run_raw, store, views, count)})
        ours, raw = taken["ours"], taken["raw"]
        ratios[shape] = (ours.median / raw.median, ours, raw)
        print(f"  {shape} ratio {ratios[shape][0]:.3f}, CPU {ours.cpu / raw.cpu:.3f}", flush=True)
    worst = max(ratios, key=lambda shape: ratios[shape][0])
    ratio, ours, raw = ratios[worst]
    every = " ".join(f"{shape}={found[0]:.2f}" for shape, found in ratios.items())
    report(name, ratio, f"bound {bound}; worst {worst}: ours {ours}, raw ASOF {raw}; {every}")
