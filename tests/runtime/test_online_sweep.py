"""Online rows that nobody can read any more are deleted, and what can be read stays."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest

from fstore.backends import Backends
from fstore.failpoints import arm, at_hit, disarm, fail
from fstore.registry.overlays import NEXT
from fstore.registry.records import OnlineWork
from fstore.runtime.delivery import Delivered, apply_outbox, apply_work
from fstore.runtime.repair import repair_online
from fstore.runtime.retention import sweep_online, sweep_superseded
from fstore.runtime.runner import run_step
from fstore.stores.encoding import RowCodec
from fstore.stores.online import OnlineView
from fstore.types import Column
from tests.projects import SmallProject, utc
from tests.runtime.conftest import ORDERS, laid_out, write_orders


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


EXPIRING = """
    from fstore import FeatureView, feature

    from .shop import orders, user


    class Paid(FeatureView):
        '''What was paid last, for two days.'''

        entity, schedule, start, ttl = user, "@daily", "2026-01-01", "2d"
        inputs = {"o": orders.window("1d")}
        sql = "SELECT user_id, ordered_at AS event_timestamp, amount AS paid FROM o WHERE user_id IS NOT NULL"
        paid = feature("float64")
"""


@pytest.fixture(params=["lmdb", pytest.param("redis", marks=pytest.mark.integration)])
def expiring(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallProject]:
    """A project with an event view that has a ttl: the newest event of a is of January 2 at 0:00, of b of January 4."""
    urls = {"online_url": request.getfixturevalue("redis_database")} if request.param == "redis" else {}
    for project in laid_out(SmallProject(tmp_path / "small", **urls)):
        project.define("payments", EXPIRING)
        project.run("paid", "2026-01-01", "2026-01-06")
        yield project


@pytest.mark.parametrize(("late", "left"), [(timedelta(0), {"a", "b"}), (timedelta(microseconds=1), {"b"})])
def test_rows_of_event_views_go_when_ttl_is_over_and_not_before(
    expiring: SmallProject, late: timedelta, left: set[str]
) -> None:
    before, expires = rows_of(expiring, "paid"), utc("2026-01-04T00:00")  # of a: two days after its event
    assert None not in before.values()
    assert sweep_online(expiring.backends, expires + late) == len(before) - len(left)
    assert rows_of(expiring, "paid") == {user: row if user in left else None for user, row in before.items()}


def test_an_expired_row_comes_back_with_a_publication_and_not_with_a_late_write(expiring: SmallProject) -> None:
    ledger, first = expiring.backends.registry.ledger, rows_of(expiring, "paid")
    (publication,) = ledger.publications("paid")
    assert sweep_online(expiring.backends, utc("2026-01-05T12:00")) == 1
    apply_work(expiring.backends, OnlineWork.of("paid", 1, publication))
    assert rows_of(expiring, "paid")["a"] is None
    expiring.run("paid", "2026-01-02", "2026-01-03", "again")  # the day that has the event
    again = rows_of(expiring, "paid")["a"]
    assert again is not None
    assert first["a"] is not None
    assert again[8:] == first["a"][8:], "the same row, of a higher sequence"


@pytest.mark.parametrize(
    "longer", ['ttl = user, "@daily", "2026-01-01", "2000d"', 'ttl = user, "@daily", "2026-01-01", None']
)
def test_a_longer_ttl_brings_back_what_a_shorter_one_let_go(expiring: SmallProject, longer: str) -> None:
    backends, first = expiring.backends, rows_of(expiring, "paid")
    assert sweep_online(backends, utc("2026-01-05T12:00")) == 1
    assert rows_of(expiring, "paid") == {"a": None, "b": first["b"]}
    assert backends.registry.outbox.depth().pending == 0
    expiring.define("payments", EXPIRING.replace('ttl = user, "@daily", "2026-01-01", "2d"', longer))
    expiring.step("paid")
    published = backends.registry.ledger.publications()
    assert apply_outbox(backends) == Delivered(entries=1, rows=2, failed=0)
    assert {user: row and row[8:] for user, row in rows_of(expiring, "paid").items()} == {
        user: row and row[8:] for user, row in first.items()
    }
    assert backends.registry.ledger.publications() == published, "nothing was published for that"
    assert repair_online(backends).views == ()
    expiring.step("paid")
    expiring.define("payments", EXPIRING.replace("2d", "36h"))
    expiring.step("paid")
    assert backends.registry.outbox.depth().pending == 0, "the same ttl and a shorter one bring nothing back"
