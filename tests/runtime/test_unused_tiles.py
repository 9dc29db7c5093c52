"""Tiles that no view uses any more are deleted after the horizon; those that some view may still use are not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fstore.registry.reads import tile_datasets, tile_sets
from fstore.runtime.flipping import fill_next, flip_next
from fstore.runtime.maintenance import maintain
from fstore.runtime.plan_cache import load_plan
from fstore.runtime.preparation import compile_with_types, read_schemas
from fstore.runtime.retention import sweep_superseded, verify
from fstore.runtime.versions import apply_plan
from tests.projects import SmallProject
from tests.runtime.daily_orders import HEAD, WINDOWS, all_events, check, tile_log, view, write_days

HORIZON = timedelta(days=14)
OF_ORDERS = view("Orders", "7d")
LOWEST = """

    class Lowest(FeatureView):
        entity, source, schedule, start = user, orders, "@daily", "2026-01-01"
        amount_min = agg.min("amount").over("7d")
        orders = agg.count().over("7d")
"""

OTHER_SOURCE = """
    others = ParquetSource("others", path="data/others/", event_time="ordered_at")
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[SmallProject]:
    small = SmallProject(tmp_path / "small")
    write_days(small, "2025-10-01", "2026-02-10")
    yield small
    small.close()


def apply(project: SmallProject, text: str, *, held: bool = False) -> None:
    project.define("shop", HEAD + text)
    loaded = load_plan(project.settings).project
    schemas = read_schemas(project.backends.engine, list(loaded.sources.values())).schemas
    project.backends.registry.record_source_schemas(schemas)
    apply_plan(project.backends, compile_with_types(project.backends.engine, loaded, schemas), complete=True, held=held)


def datasets(project: SmallProject, name: str) -> set[str]:
    return {dataset for tiles in tile_sets(project.step(name)) for dataset in tile_datasets(tiles)}


def attempts_with_files(project: SmallProject) -> set[int]:
    """Return the attempts at tiles of which there are files."""
    root = Path(project.backends.offline.full_path("small/tiles"))
    return {int(path.parent.name[1:]) for path in root.rglob("*.parquet")}


def test_tiles_go_with_the_last_view_that_used_them_and_can_be_made_again(project: SmallProject) -> None:
    apply(project, OF_ORDERS + LOWEST)
    project.run("lowest", "2026-02-01", "2026-02-05")  # makes the counts of these days, too, which both views use
    project.run("orders", "2026-01-10", "2026-02-05")
    project.run("lowest", "2026-01-10", "2026-02-01")
    rows, mine = project.published("lowest"), datasets(project, "lowest") - datasets(project, "orders")
    log = tile_log(project)
    of_both = {attempt for dataset, _, _, attempt in log if dataset not in mine}
    alone = {attempt for _, _, _, attempt in log} - of_both
    assert alone
    assert attempts_with_files(project) == of_both | alone
    now = datetime.now(UTC) + timedelta(days=3)
    sweep_superseded(project.backends, now + 2 * HORIZON)
    sweep_superseded(project.backends, now + 4 * HORIZON)
    assert attempts_with_files(project) == of_both | alone, "however old they are"

    apply(project, OF_ORDERS)
    later = now + 5 * HORIZON
    sweep_superseded(project.backends, later)
    sweep_superseded(project.backends, later + HORIZON - timedelta(hours=1))
    assert attempts_with_files(project) == of_both | alone, "the view could come back"
    done = maintain(project.backends, later + HORIZON + timedelta(hours=1))
    assert done.problems == ()
    assert attempts_with_files(project) == of_both
    assert verify(project.backends, None).damaged == ()
    before = len(tile_log(project))
    project.run("orders", "2026-02-05", "2026-02-09")
    assert check(project, "orders", all_events(), **{"7d": WINDOWS["7d"]}) > 0
    assert not mine & {entry[0] for entry in tile_log(project)[before:]}

    apply(project, OF_ORDERS + LOWEST)
    project.run("lowest", "2026-01-10", "2026-02-05", "again")
    assert project.published("lowest") == rows
    made = tile_log(project)[before:]
    assert mine <= {entry[0] for entry in made}, "made again as if they had never been"
    sweep_superseded(project.backends, later + 5 * HORIZON)
    assert attempts_with_files(project) == of_both | {entry[3] for entry in made}


def test_tiles_of_a_version_that_waits_or_that_can_come_back_stay(project: SmallProject) -> None:
    apply(project, LOWEST)
    project.run("lowest", "2026-02-01", "2026-02-05")
    old = attempts_with_files(project)
    shutil.copytree(project.root / "data" / "orders", project.root / "data" / "others")
    apply(project, OTHER_SOURCE + LOWEST.replace("user, orders,", "user, others,"), held=True)
    assert fill_next(project.backends, limit=100).held
    new = attempts_with_files(project) - old
    assert new
    now = datetime.now(UTC) + timedelta(days=3)
    sweep_superseded(project.backends, now + 2 * HORIZON)
    sweep_superseded(project.backends, now + 4 * HORIZON)
    assert attempts_with_files(project) == old | new, "of what waits, too"
    flip_next(project.backends)
    sweep_superseded(project.backends, datetime.now(UTC) + HORIZON - timedelta(hours=1))
    assert attempts_with_files(project) == old | new, "a rollback needs them"
    sweep_superseded(project.backends, now + 6 * HORIZON)
    sweep_superseded(project.backends, now + 8 * HORIZON)
    assert attempts_with_files(project) == new
    assert {entry[3] for entry in tile_log(project) if entry[0] in datasets(project, "lowest")} == new
