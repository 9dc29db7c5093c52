"""A registry that was restored to an older state: refused by its stores, and adopted by them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fstore.errors import InjectedFault, RegistryRestored
from fstore.failpoints import arm, disarm, fail
from fstore.registry.backups import STEP, back_up, restore
from fstore.registry.database import Database
from fstore.runtime import incarnation
from fstore.runtime.delivery import apply_outbox
from fstore.runtime.incarnation import adopt_stores, codec_of, read_offline, read_online
from fstore.runtime.materialize import materialize_attempt
from fstore.runtime.repair import repair_online, sweep
from fstore.stores.online import OnlineStore, OnlineView
from tests.projects import SmallProject, utc
from tests.runtime.conftest import ORDERS, laid_out, write_orders


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    disarm()


@pytest.fixture(params=["lmdb", pytest.param("redis", marks=pytest.mark.integration)])
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallProject]:
    """The project of all these tests, with each of the online stores."""
    urls = {"online_url": request.getfixturevalue("redis_database")} if request.param == "redis" else {}
    yield from laid_out(SmallProject(tmp_path / "small", **urls))


def database(project: SmallProject) -> Database:
    return Database(project.settings.registry_url, "small")


def online(project: SmallProject, view: str, users: str = "abcz") -> dict[str, dict[str, object]]:
    """What a reader sees online of some users: rows that are there, not buried and not below the floor."""
    registered = project.backends.registry.view(view)
    step, codec = registered.step, codec_of(registered.step)
    place = OnlineView(project="small", view=view, generation=registered.generation)
    keys = codec.encode_keys(pa_keys(users))
    seen = project.backends.online.read_view(place, keys)
    lowest = seen.floor.sequence if seen.floor and step.kind == "snapshot" else 0
    rows = [row if row is not None and int.from_bytes(row[:8], "big") >= lowest else None for row in seen.rows]
    decoded = codec.decode_rows(rows).to_pylist()
    return {user: row for user, row in zip(users, decoded, strict=True) if row.pop("present")}


def pa_keys(users: str) -> object:
    import pyarrow as pa

    return pa.table({"user_id": pa.array(list(users), pa.string())})


def stop(project: SmallProject) -> None:
    """End the process that was running, as far as the registry sees."""
    project.close()


@pytest.fixture
def older(project: SmallProject, tmp_path: Path) -> SmallProject:
    """A project whose registry lost its second day and the event of a new user, who is online."""
    project.run("user_orders", "2026-01-01", "2026-01-03", "first")
    project.run("order_events", "2026-01-01", "2026-01-03", "first")
    stop(project)
    back_up(database(project), tmp_path / "backup.db")
    write_orders(project, [*ORDERS, {"user_id": "z", "ordered_at": "2026-01-03T10:00", "amount": 9.0, "item": "hat"}])
    project.run("user_orders", "2026-01-03", "2026-01-05", "second")
    project.run("order_events", "2026-01-03", "2026-01-05", "second")
    assert set(online(project, "order_events")) == {"a", "b", "z"}
    stop(project)
    return project


def lose(project: SmallProject, tmp_path: Path) -> None:
    restore(database(project), tmp_path / "backup.db", replace=["small"])


def refused(project: SmallProject, write: object) -> str:
    with pytest.raises(RegistryRestored) as error:
        write()  # type: ignore[operator]
    assert (error.value.code, error.value.retryable) == ("registry_restored", False)
    return str(error.value)


def test_a_restored_registry_is_not_trusted_until_it_is_adopted(older: SmallProject, tmp_path: Path) -> None:
    was = read_offline(older.backends)
    stop(older)
    lose(older, tmp_path)
    registry = older.backends.registry
    state = registry.state()
    assert was is not None
    assert refused(older, lambda: older.run("user_orders", "2026-01-03", "2026-01-05")) == (
        f"registry {registry.url} (incarnation {state.incarnation[:8]}, sequence {state.sequence}) is not the one that the "
        f"offline store {older.settings.offline_url} was last written by (incarnation {was.incarnation[:8]}): it was restored "
        "from a backup. Nothing is written until `fstore registry restore --adopt` has brought it above all that the stores hold."
    )
    refused(older, lambda: sweep(older.backends, utc("2030-01-01")))
    before = registry.ledger.publications()

    adopted = adopt_stores(older.backends)
    assert (adopted.sequence, adopted.attempt) == (STEP, STEP)
    assert set(adopted.views) == {"user_orders", "order_events"}
    assert registry.ledger.publications() == before, "the log is what was restored"
    assert set(online(older, "order_events")) == {"a", "b"}, "what was published since is gone, as the registry says"
    assert online(older, "user_orders")["a"]["orders_3d"] == 2
    older.run("user_orders", "2026-01-03", "2026-01-05", "third")
    older.run("order_events", "2026-01-03", "2026-01-05", "third")
    log = registry.ledger.publications()[len(before) :]
    assert min(p.sequence for p in log) > STEP
    assert min(p.attempt for p in log) > STEP
    assert set(online(older, "order_events")) == {"a", "b", "z"}, "and comes back when it is published again"
    assert online(older, "user_orders")["z"]["orders_3d"] == 1
    assert apply_outbox(older.backends).failed == 0
    assert repair_online(older.backends).views == ()


@pytest.mark.parametrize("name", ["adopt.raised", "adopt.repaired", "adopt.offline"])
def test_adopting_may_fail_anywhere_and_be_repeated(older: SmallProject, tmp_path: Path, name: str) -> None:
    lose(older, tmp_path)
    arm(name, fail)
    with pytest.raises(InjectedFault):
        adopt_stores(older.backends)
    disarm()
    stop(older)
    refused(older, lambda: older.run("user_orders", "2026-01-03", "2026-01-05"))
    first = older.backends.registry.state()
    adopted = adopt_stores(older.backends)
    assert adopted.sequence > first.sequence, "nothing that was given out meanwhile is given out again"
    older.run("order_events", "2026-01-03", "2026-01-05", "third")
    assert set(online(older, "order_events")) == {"a", "b", "z"}
    seen = read_online(older.backends.online, "small")
    assert seen is not None
    assert seen.incarnation == adopted.incarnation


def test_a_database_that_was_put_back_by_other_means_is_found_out(project: SmallProject, tmp_path: Path) -> None:
    """A copied file or a restored dump has the old incarnation; the stores know that it was further."""
    project.run("user_orders", "2026-01-01", "2026-01-03", "first")
    validated = project.step("order_events")
    stop(project)
    file = Path(project.settings.registry_url.removeprefix("sqlite:///"))
    shutil.copy(file, tmp_path / "copy.db")
    project.run("user_orders", "2026-01-03", "2026-01-05", "second")
    project.run("order_events", "2026-01-01", "2026-01-03", "second")
    stop(project)
    for left in file.parent.glob(f"{file.name}-*"):
        left.unlink()
    shutil.copy(tmp_path / "copy.db", file)
    assert "has files already: the registry is an older state of itself" in refused(
        project, lambda: project.run("user_orders", "2026-01-03", "2026-01-05", "third")
    )
    adopted = adopt_stores(project.backends)
    assert adopted.sequence == STEP
    project.run("user_orders", "2026-01-03", "2026-01-05", "fourth")
    assert project.run(validated.view, "2026-01-01", "2026-01-03", "fourth").materialized.online_rows > 0


def test_an_attempt_of_before_cannot_be_published_in_an_older_state(project: SmallProject, tmp_path: Path) -> None:
    """Validated before the copy and published after it: publishing it again would give out its sequence again."""
    arm("publish.locked", fail)
    with pytest.raises(InjectedFault):
        project.run("user_orders", "2026-01-01", "2026-01-03", "first")
    disarm()
    (summary,) = [s for s in project.backends.registry.ledger.history() if s.view == "user_orders"]
    before = project.backends.registry.state().sequence
    stop(project)
    file = Path(project.settings.registry_url.removeprefix("sqlite:///"))
    shutil.copy(file, tmp_path / "copy.db")
    project.run("order_events", "2026-01-01", "2026-01-03", "second")
    stop(project)
    for left in file.parent.glob(f"{file.name}-*"):
        left.unlink()
    shutil.copy(tmp_path / "copy.db", file)
    assert "online store was last written by" in refused(project, lambda: materialize_attempt(project.backends, summary.id))
    assert project.backends.registry.state().sequence == before


def test_what_others_publish_meanwhile_is_no_restore(project: SmallProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """They bring a newer sequence online while the store's record is being compared."""
    project.run("user_orders", "2026-01-01", "2026-01-02", "first")
    real = incarnation.read_online

    def others_come_first(store: OnlineStore, name: str) -> incarnation.Seen | None:
        monkeypatch.setattr(incarnation, "read_online", real)
        project.run("user_orders", "2026-01-02", "2026-01-03", "second")
        return real(store, name)

    monkeypatch.setattr(incarnation, "read_online", others_come_first)
    assert incarnation.check_online(project.backends) == project.backends.registry.state()
