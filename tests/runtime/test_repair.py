"""Repair and sweep: the project converges on what the log says."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fstore import Client, failpoints
from fstore.errors import AttemptUnknown, FloorMissing, StoreMissing
from fstore.runtime.compute import compute_attempt
from fstore.runtime.materialize import materialize_attempt
from fstore.runtime.repair import repair_online, sweep
from fstore.runtime.validate import validate_attempt
from tests.projects import SmallProject, utc

FEATURES = ["user_orders:orders_3d", "order_events:doubled"]


def read_online(project: SmallProject) -> dict[str, list[object]]:
    with Client(project.settings, clock=lambda: utc("2026-01-05T02:00")) as client:
        return client.get_online_features(features=FEATURES, entities={"user_id": ["a", "b"]}).to_dict()


def test_a_lost_online_store_is_an_error_until_it_is_repaired(project: SmallProject) -> None:
    project.run("user_orders", "2026-01-01", "2026-01-05")
    project.run("order_events", "2026-01-01", "2026-01-05")
    before = read_online(project)
    project.close()
    shutil.rmtree(project.settings.online_url.removeprefix("lmdb:"))
    with pytest.raises(
        StoreMissing,
        match="has lost everything, its id included: the maintenance DAG, the next run or `fstore repair --online` fills",
    ):
        read_online(project)
    project.backends.online.floor  # noqa: B018  (what `fstore apply` does: the store is created again, with its recorded id)
    with pytest.raises(FloorMissing, match="the online store has nothing of view 'user_orders'"):
        read_online(project)
    repaired = repair_online(project.backends)
    assert sorted(repaired.views) == ["order_events", "user_orders"]
    assert read_online(project) == before
    assert repair_online(project.backends).views == ()


def test_files_that_appear_after_the_sweep_are_deleted_by_the_next_one(project: SmallProject) -> None:
    step, days = project.step("user_orders"), project.intervals("user_orders", "2026-01-01", "2026-01-02")
    later, root = datetime.now(UTC) + timedelta(days=3), Path(project.settings.offline_url.removeprefix("file:"))

    def swept_while_it_stood_still(_: str) -> None:
        assert sweep(project.backends, later) == 1

    failpoints.arm("attempt.begun", failpoints.at_hit(1, swept_while_it_stood_still))
    try:
        with pytest.raises(AttemptUnknown, match="its files were deleted"):
            compute_attempt(project.backends, step, days, "zombie")
    finally:
        failpoints.disarm()
    assert list(root.rglob("user_orders/**/*.parquet"))
    assert sweep(project.backends, later) == 0
    assert not list(root.rglob("user_orders/**/*.parquet"))


def test_sweeping_deletes_what_published_nothing_and_only_that(project: SmallProject) -> None:
    project.run("user_orders", "2026-01-01", "2026-01-03")
    step, intervals = project.step("user_orders"), project.intervals("user_orders", "2026-01-03", "2026-01-05")
    dead = compute_attempt(project.backends, step, intervals, "killed")
    validate_attempt(project.backends, dead.attempt)
    root = Path(project.settings.offline_url.removeprefix("file:"))
    assert len({path.parent.name for path in root.rglob("user_orders/**/*.parquet")}) == 2
    assert sweep(project.backends, datetime.now(UTC)) == 0, "it may still be running"
    assert sweep(project.backends, datetime.now(UTC) + timedelta(days=3)) == 1
    assert sweep(project.backends, datetime.now(UTC) + timedelta(days=3)) == 0
    assert len({path.parent.name for path in root.rglob("user_orders/**/*.parquet")}) == 1
    with pytest.raises(AttemptUnknown, match="its files were deleted: clear its compute step"):
        materialize_attempt(project.backends, dead.attempt)
    assert len(project.published("user_orders")) == 3
