"""Tiles at run time: made once, shared, of two levels, and made again exactly where their source changed."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from fstore.backends import create_backends
from fstore.errors import FStoreError
from fstore.interval import Interval
from fstore.registry.tables import publications
from fstore.runtime import tiles
from fstore.runtime.due import due_intervals
from fstore.runtime.inputs import observe_step
from fstore.runtime.runner import run_step
from fstore.runtime.standing import project_status
from tests.projects import SmallProject, utc
from tests.runtime.daily_orders import (
    HEAD,
    WINDOWS,
    all_events,
    blank_rows,
    check,
    events_of,
    fail_at,
    tile_log,
    view,
    write_day,
    write_days,
)  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Iterator[SmallProject]:
    small = SmallProject(tmp_path / "small")
    small.define("shop", HEAD + view("Orders", "7d", "30d", "90d", "lifetime"))
    write_days(small, "2025-10-01", "2026-02-10")
    yield small
    small.close()


def test_daily_runs_equal_the_naive_loop_and_read_one_day_each(project: SmallProject) -> None:
    project.run("orders", "2026-02-01", "2026-02-02", "first")
    before = len(tile_log(project))
    for day in range(2, 8):
        project.run("orders", f"2026-02-{day:02}", f"2026-02-{day + 1:02}", f"day {day}")
    assert check(project, "orders", all_events(), **WINDOWS) > 0
    later = tile_log(project)[before:]
    merged = [entry for entry in later if project.backends.registry.ledger.tiles.attempt(entry[3]).step.finer is not None]
    made = [entry for entry in later if entry not in merged]
    assert {end - start for _, start, end, _ in made} == {timedelta(days=1)}, "each run made the tiles of its own day"
    assert {end - start for _, start, end, _ in merged} == {timedelta(days=30)}, "and merged those of thirty, once"


def test_a_range_run_equals_the_naive_loop(project: SmallProject) -> None:
    project.run("orders", "2026-01-01", "2026-02-10")
    assert check(project, "orders", all_events(), **WINDOWS) > 0


def test_adding_a_window_reads_no_row_of_the_source(project: SmallProject) -> None:
    project.run("orders", "2026-01-20", "2026-02-01")
    blank_rows(project)
    project.define("shop", HEAD + view("Orders", "7d", "14d", "30d", "90d", "lifetime"))
    before = len(tile_log(project))
    project.run("orders", "2026-01-20", "2026-02-01", "again")
    assert len(tile_log(project)) == before
    check(project, "orders", all_events(), **WINDOWS, **{"14d": timedelta(days=14)})
    with pytest.raises(FStoreError):
        project.run("orders", "2026-02-01", "2026-02-02", "a day whose rows are gone")


def test_views_share_the_tiles_that_they_both_read(project: SmallProject) -> None:
    project.run("orders", "2026-01-20", "2026-02-01")
    blank_rows(project)
    project.define("shop", HEAD + view("Orders", "7d", "30d", "90d", "lifetime") + view("Others", "3d", "60d"))
    project.run("others", "2026-01-20", "2026-02-01")
    check(project, "others", all_events(), **{"3d": timedelta(days=3), "60d": timedelta(days=60)})


def test_a_missing_state_is_made_beside_those_that_exist(project: SmallProject) -> None:
    project.define("shop", HEAD + view("Orders", "7d"))
    project.run("orders", "2026-01-20", "2026-01-25")
    narrow = len({name for name, *_ in tile_log(project)})
    wide = view("Orders", "7d") + '        amount_min = agg.min("amount").over("7d")\n'
    project.define("shop", HEAD + wide)
    project.run("orders", "2026-01-20", "2026-01-25", "again")
    assert len({name for name, *_ in tile_log(project)}) == narrow + 1
    check(project, "orders", all_events(), **{"7d": timedelta(days=7)})
    rows = project.published("orders")
    assert all(row["amount_min_7d"] <= row["amount_max_7d"] for row in rows)  # type: ignore[operator]


def test_the_second_level_is_used_and_equals_the_first(project: SmallProject) -> None:
    project.run("orders", "2026-01-01", "2026-02-01", "range")
    project.run("orders", "2026-02-01", "2026-02-02", "day")
    lengths = {end - start for _, start, end, _ in tile_log(project)}
    assert timedelta(days=30) in lengths, "thirty days before every window's edges are one coarse tile"
    check(project, "orders", all_events(), **WINDOWS)
    (row,) = [r for r in project.published("orders") if r["user_id"] == "u1" and r["event_timestamp"] == utc("2026-02-02")]
    project.run("orders", "2026-01-28", "2026-02-10", "cut by other edges")
    (again,) = [r for r in project.published("orders") if r["user_id"] == "u1" and r["event_timestamp"] == utc("2026-02-02")]
    assert again == row


def test_late_rows_make_their_tiles_and_what_reads_them_again_in_one_run(project: SmallProject) -> None:
    project.define("shop", HEAD + view("Orders", "7d"))
    project.run("orders", "2026-01-01", "2026-02-01")
    late = {"user_id": "u9", "ordered_at": utc("2026-01-10T12:00"), "amount": 1000, "item": "late"}
    write_day(project, utc("2026-01-10"), [*events_of(utc("2026-01-10")), late])
    step = project.step("orders")
    observe_step(project.backends, step)
    stale = project.backends.registry.ledger.stale("orders")
    assert [interval.end for interval in stale] == [utc("2026-01-11") + timedelta(days=n) for n in range(7)]
    due = due_intervals(project.backends.registry, step, now=utc("2026-02-01T01:00"), limit=100)
    assert list(due.intervals) == stale
    before = len(tile_log(project))
    run_step(project.backends, step, due.intervals, "catch up")
    again = tile_log(project)[before:]
    assert {(start, end) for _, start, end, _ in again} == {(utc("2026-01-10"), utc("2026-01-11"))}
    assert project.backends.registry.ledger.stale("orders") == []
    check(project, "orders", [*all_events(), late], **{"7d": timedelta(days=7)})


def test_a_vanished_file_leaves_the_tiles_of_other_days_alone(project: SmallProject) -> None:
    project.run("orders", "2026-01-20", "2026-02-01")
    (project.root / "data" / "orders" / "2025-11-15.parquet").unlink()
    before = len(tile_log(project))
    project.run("orders", "2026-01-20", "2026-02-01", "again")
    changed = tile_log(project)[before:]
    assert all(start <= utc("2025-11-15") < end for _, start, end, _ in changed)
    check(project, "orders", [e for e in all_events() if f"{e['ordered_at']:%m-%d}" != "11-15"], **WINDOWS)


def test_concurrent_runs_at_the_same_tiles_end_well_and_publish_them_once(project: SmallProject) -> None:
    text = HEAD + "".join(view(f"Orders{n}", "7d", "90d") for n in range(3))
    project.define("shop", text)
    steps = [project.step(f"orders{n}") for n in range(3)]
    errors: list[Exception] = []
    barrier = threading.Barrier(3)

    def run(number: int) -> None:
        backends = create_backends(project.settings)
        try:
            barrier.wait()
            intervals = [Interval(utc(f"2026-01-{day:02}"), utc(f"2026-01-{day + 1:02}")) for day in range(10, 20)]
            run_step(backends, steps[number], intervals, "one run")
        except Exception as error:  # noqa: BLE001  (any is shown below)
            errors.append(error)
        finally:
            backends.close()

    threads = [threading.Thread(target=run, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    for number in range(3):
        check(project, f"orders{number}", all_events(), **{"7d": timedelta(days=7), "90d": timedelta(days=90)})
        assert project.backends.registry.ledger.stale(f"orders{number}") == []
    log = tile_log(project)
    for name in {name for name, *_ in log}:
        spans = sorted((start, end) for each, start, end, _ in log if each == name)
        assert all(left[1] <= right[0] for left, right in itertools.pairwise(spans)), "nothing twice"


def test_tiles_of_a_run_that_failed_are_whole_or_not_there(project: SmallProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever write of a file fails, the next run gives the right rows."""
    step, intervals = project.step("orders"), project.intervals("orders", "2026-01-20", "2026-01-25")
    for write in (0, 1, 0):
        with monkeypatch.context() as patched:
            fail_at(patched, write)
            with pytest.raises(RuntimeError, match="killed"):
                run_step(project.backends, step, intervals, "run")
        assert project.backends.registry.ledger.heads("orders") == []
    run_step(project.backends, step, intervals, "run")
    check(project, "orders", all_events(), **WINDOWS)


def test_long_stretches_are_made_in_pieces_and_a_retry_goes_on_with_the_next(
    project: SmallProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "PIECE_TILES", 50)
    monkeypatch.setattr(tiles, "CHUNK_ROWS", 60)
    step, intervals = project.step("orders"), project.intervals("orders", "2026-01-20", "2026-01-25")
    with monkeypatch.context() as patched:
        fail_at(patched, 2)
        with pytest.raises(RuntimeError, match="killed"):
            run_step(project.backends, step, intervals, "run")
    made = {(start, end) for _, start, end, _ in tile_log(project)}
    assert len(made) == 2
    run_step(project.backends, step, intervals, "run")
    log = tile_log(project)
    assert {(start, end) for _, start, end, _ in log if start < max(end for _, end in made)} >= made
    assert len({attempt for *_, attempt in log}) > 3
    check(project, "orders", all_events(), **WINDOWS)


def test_the_status_counts_what_a_changed_source_made_stale(project: SmallProject) -> None:
    project.define("shop", HEAD + view("Orders", "7d"))
    project.run("orders", "2026-01-01", "2026-02-01")
    (project.root / "data" / "orders" / "2026-01-20.parquet").unlink()
    (status,) = project_status(project.backends, [], utc("2026-02-01T01:00")).views
    assert (status.stale, status.missing) == (7, 0)


def test_an_hourly_view_in_a_zone_that_changes_its_clock(tmp_path: Path) -> None:
    small = SmallProject(tmp_path / "zone")
    small.define("shop", HEAD + view("Orders", "1d", "7d", timezone="Europe/Berlin"))
    write_days(small, "2026-03-10", "2026-04-05")
    small.run("orders", "2026-03-20", "2026-04-04")
    check(small, "orders", all_events("2026-03-10", "2026-04-05"), **{"1d": timedelta(days=1), "7d": timedelta(days=7)})
    ends = {row["event_timestamp"] for row in small.published("orders")}
    assert {utc("2026-03-28T23:00"), utc("2026-03-29T22:00")} <= ends
    small.close()


def test_few_files_and_few_transactions(project: SmallProject) -> None:
    """A range of forty days leaves one file of tiles per level and one of rows."""
    project.run("orders", "2026-01-01", "2026-02-10")
    attempts = {attempt for *_, attempt in tile_log(project)}
    files = project.backends.registry.ledger.files(attempts)
    assert sum(len(each) for each in files.values()) <= 3
    with project.backends.registry.ledger._database.reading() as connection:
        rows = connection.execute(sa.select(sa.func.count()).select_from(publications)).scalar_one()
    assert rows < 30
