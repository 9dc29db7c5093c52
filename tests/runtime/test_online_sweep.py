"""Online rows that nobody can read any more are deleted, and what can be read stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pyarrow as pa
import pytest

from fstore.backends import Backends
from fstore.failpoints import arm, at_hit, disarm, fail
from fstore.registry.overlays import NEXT
from fstore.runtime.retention import sweep_online, sweep_superseded
from fstore.runtime.runner import run_step
from fstore.stores.encoding import RowCodec
from fstore.stores.online import OnlineView
from fstore.types import Column
from tests.projects import SmallProject
from tests.runtime.conftest import ORDERS, write_orders


def rows_of(project: SmallProject, view: str, generation: int = 1) -> dict[str, bytes | None]:
    step = project.step(view)
    codec = RowCodec(step.keys, [Column(name=f.name, type=f.type or "") for f in step.features])
    keys = codec.encode_keys(pa.table({"user_id": ["a", "b"]}))
    target = OnlineView(project=project.settings.project, view=view, generation=generation)
    return dict(zip("ab", project.backends.online.read_rows(target, keys), strict=True))


def test_rows_below_the_floor_and_tombstones_are_forgotten(project: SmallProject) -> None:
    project.run("user_orders", "2026-01-01", "2026-01-08")
    project.run("order_events", "2026-01-01", "2026-01-05")
    write_orders(project, [row for row in ORDERS if row["user_id"] != "a"])
    project.run("user_orders", "2026-01-07", "2026-01-08")
    project.run("order_events", "2026-01-01", "2026-01-05")
    before = rows_of(project, "order_events")
    assert before["a"] is not None, "a tombstone"
    assert sweep_online(project.backends, datetime.now(UTC)) >= 1
    after = rows_of(project, "order_events")
    assert (after["a"], after["b"]) == (None, before["b"])
    assert sweep_online(project.backends, datetime.now(UTC)) == 0


def test_pending_work_keeps_the_rows_that_it_may_meet(project: SmallProject) -> None:
    project.run("order_events", "2026-01-01", "2026-01-05")
    write_orders(project, [row for row in ORDERS if row["user_id"] != "a"])
    project.run("order_events", "2026-01-01", "2026-01-02")
    arm("publish.committed", at_hit(1, fail))
    with pytest.raises(Exception, match="is armed to fail"):
        project.run("order_events", "2026-01-02", "2026-01-03")
    disarm()
    retention = project.backends.registry.retention
    newest = project.backends.registry.ledger.publications("order_events")[-1].sequence
    assert retention.applied("order_events", 1) == newest - 1


def test_a_generation_that_nobody_reaches_leaves_both_stores(project: SmallProject) -> None:
    project.run("order_events", "2026-01-01", "2026-01-05")
    backends, step = project.backends, project.step("order_events")
    over = backends.on_overlay("dev")
    backends.registry.overlays.stage("dev", [msgspec.structs.replace(step, fingerprint="other")])
    publish_into(project, over)
    dropped = OnlineView(project=project.settings.project, view="order_events", generation=2)
    assert backends.online.floor(dropped) is not None
    backends.registry.overlays.drop("dev")
    now = datetime.now(UTC)
    for later in (timedelta(0), timedelta(days=13)):
        sweep_superseded(backends, now + later)
        sweep_online(backends, now + later)
        assert backends.online.floor(dropped) is not None, "it was found unreachable less than the horizon ago"
    assert sweep_superseded(backends, now + timedelta(days=15)) >= 1
    assert sweep_online(backends, now + timedelta(days=15)) >= 2
    assert backends.online.floor(dropped) is None
    assert set(rows_of(project, "order_events", 2).values()) == {None}
    assert None not in rows_of(project, "order_events").values()
    assert backends.offline.list_directory(f"{project.settings.project}/order_events/g2") == []
    assert len(project.published("order_events")) > 0
    (again,) = backends.registry.overlays.stage(NEXT, [msgspec.structs.replace(step, fingerprint="other")])
    assert (again.generation, again.adopted) == (3, False), "what is deleted is not taken up again"


def publish_into(project: SmallProject, over: Backends) -> None:
    """Publish an overlay's view as a run does."""
    step = msgspec.structs.replace(project.step("order_events"), fingerprint="other")
    run_step(over, step, project.intervals("order_events", "2026-01-01", "2026-01-05"), "dev-run")
