"""An online store that loses what it had acknowledged is found out, and gets just that again: LMDB and Redis alike."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
import redis

from fstore import Client
from fstore.backends import open_backends
from fstore.errors import FloorMissing, InjectedFault, StoreChanged, StoreMissing
from fstore.failpoints import arm, disarm, fail
from fstore.runtime.delivery import apply_outbox
from fstore.runtime.repair import lost_views, repair_online
from fstore.runtime.runner import run_step
from scripts.servers import RunningServer, ServerMissing, free_port, redis_server
from tests.projects import SmallProject, utc
from tests.runtime.conftest import MODULE, ORDERS, STAMP, USERS, write_orders

FEATURES = ["user_orders:orders_3d", "user_orders:amount_sum_3d", "order_events:doubled"]
Values = dict[str, list[object]]


class LmdbBackup:
    """An LMDB store that can be set back to an earlier state."""

    def __init__(self, project: SmallProject) -> None:
        self._project = project
        self._path = Path(project.settings.online_url.removeprefix("lmdb:"))
        self._copy = self._path.with_name("backup")

    def take(self) -> None:
        self._project.close()
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(self._path, self._copy)

    def restore(self) -> None:
        shutil.rmtree(self._path)
        shutil.copytree(self._copy, self._path)

    def lose(self) -> None:
        shutil.rmtree(self._path)


class RedisBackup:
    """A Redis server that can be set back to its snapshot: killed and started again with it."""

    def __init__(self, port: int, stack: contextlib.ExitStack) -> None:
        self._port, self._stack = port, stack
        self._running: RunningServer = stack.enter_context(redis_server(port=port))
        self._directory = self._running.directory

    def take(self) -> None:
        with redis.Redis.from_url(self._running.url) as client:
            client.save()

    def restore(self) -> None:
        self._running.kill()
        self._running = self._stack.enter_context(redis_server("--dir", str(self._directory), port=self._port))

    def lose(self) -> None:
        with redis.Redis.from_url(self._running.url) as client:
            client.flushall()


Backup = LmdbBackup | RedisBackup


@pytest.fixture(params=["lmdb", pytest.param("redis", marks=pytest.mark.integration)])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[SmallProject, Backup]]:
    with contextlib.ExitStack() as stack:
        stack.callback(disarm)
        urls, backup = {}, None
        if request.param == "redis":
            port = free_port()
            try:
                backup = RedisBackup(port, stack)
            except ServerMissing as missing:
                pytest.skip(str(missing))
            urls = {"online_url": f"redis://127.0.0.1:{port}/0?socket_timeout=2"}
        project = SmallProject(tmp_path / "small", **urls)
        stack.callback(project.close)
        project.define("shop", MODULE)
        write_orders(project, ORDERS)
        users = [row | {"updated_at": utc(row["updated_at"])} for row in USERS]
        project.write("users", users, {"user_id": pa.string(), "updated_at": STAMP, "country": pa.string()})
        yield project, backup or LmdbBackup(project)


def read(project: SmallProject) -> Values:
    with Client(project.settings, clock=lambda: utc("2026-01-06T02:00")) as client:
        entities = {"user_id": ["a", "b", "c"]}
        return client.get_online_features(features=FEATURES, entities=entities).to_dict()


def publish(project: SmallProject, start: str, end: str, run_id: str) -> None:
    for view in ("user_orders", "order_events"):
        project.run(view, start, end, run_id)


def publish_changes(project: SmallProject) -> None:
    """Withdraw the only events of a key, change one, add one, and publish the days again and one more."""
    more = {"user_id": "c", "ordered_at": "2026-01-03T09:00", "amount": 3.0, "item": "hat"}
    write_orders(project, [ORDERS[0], ORDERS[1] | {"amount": 21.0}, more])
    publish(project, "2026-01-01", "2026-01-05", "second")


def test_lost_work_is_found_and_only_that_is_written_again(small: tuple[SmallProject, Backup]) -> None:
    project, backup = small
    publish(project, "2026-01-01", "2026-01-05", "first")
    old = read(project)
    backup.take()
    publish_changes(project)
    expected = read(project)
    assert expected != old
    assert expected["doubled"] == [42.0, None, 6.0]
    backup.restore()
    assert read(project) == old
    assert sorted(lost_views(project.backends)) == ["order_events", "user_orders"]
    repaired = repair_online(project.backends)
    assert sorted(repaired.views) == ["order_events", "user_orders"]
    assert read(project) == expected
    assert repair_online(project.backends).views == ()


def test_nothing_that_the_store_has_is_written_again(small: tuple[SmallProject, Backup]) -> None:
    project, backup = small
    project.run("order_events", "2026-01-01", "2026-01-02", "first")
    project.run("order_events", "2026-01-02", "2026-01-03", "first")
    backup.take()
    project.run("order_events", "2026-01-04", "2026-01-05", "first")  # one row, of key b
    expected = project.published("order_events")
    backup.restore()
    assert repair_online(project.backends).rows == 1
    assert project.published("order_events") == expected


def test_later_work_does_not_hide_what_was_lost(small: tuple[SmallProject, Backup]) -> None:
    project, backup = small
    publish(project, "2026-01-01", "2026-01-03", "first")
    backup.take()
    publish_changes(project)
    backup.restore()
    publish(project, "2026-01-05", "2026-01-06", "third")
    assert lost_views(project.backends) == [], "a publication brings what was lost before it as well"
    assert repair_online(project.backends).views == ()
    assert read(project)["doubled"] == [42.0, None, 6.0]


@pytest.mark.parametrize("opened", [True, False], ids=["while it is open", "before it is opened"])
def test_a_store_that_lost_everything_is_filled_again(small: tuple[SmallProject, Backup], opened: bool) -> None:
    project, backup = small
    publish(project, "2026-01-01", "2026-01-05", "first")
    expected, id_ = read(project), project.backends.online.store_id()
    backup.lose()
    with pytest.raises(StoreMissing):
        read(project)
    with open_backends(project.settings) as others:
        backends = project.backends if opened else others
        assert sorted(lost_views(backends)) == ["order_events", "user_orders"]
        with pytest.raises(StoreMissing):
            read(project)  # looking changed nothing
        assert sorted(repair_online(backends).views) == ["order_events", "user_orders"]
        assert backends.online.store_id() == id_
    assert read(project) == expected


def test_the_next_run_brings_back_what_the_store_lost(small: tuple[SmallProject, Backup]) -> None:
    project, backup = small
    publish(project, "2026-01-01", "2026-01-04", "first")
    publish(project, "2026-01-04", "2026-01-05", "second")
    assert read(project)["doubled"] == [40.0, 12.0, None]
    backup.lose()
    publish(project, "2026-01-04", "2026-01-05", "third")  # which has rows of key b alone
    assert read(project)["doubled"] == [40.0, 12.0, None]
    assert lost_views(project.backends) == []


def test_a_run_that_is_stopped_in_a_store_that_lost_everything_leaves_no_nulls(small: tuple[SmallProject, Backup]) -> None:
    project, backup = small
    publish(project, "2026-01-01", "2026-01-05", "first")
    backup.lose()
    arm("online.written", fail)
    with pytest.raises(InjectedFault):
        project.run("order_events", "2026-01-04", "2026-01-05", "second")
    disarm()
    with pytest.raises(FloorMissing):
        read(project)
    assert apply_outbox(project.backends).failed == 0
    repair_online(project.backends)
    assert read(project)["doubled"] == [40.0, 12.0, None]


def test_a_store_that_loses_everything_while_it_is_written_gets_all_of_it(small: tuple[SmallProject, Backup]) -> None:
    project, backup = small
    publish(project, "2026-01-01", "2026-01-04", "first")
    arm("online.applied", once(backup.lose))
    publish(project, "2026-01-04", "2026-01-05", "second")
    repair_online(project.backends)
    assert read(project)["doubled"] == [40.0, 12.0, None]


def test_an_empty_store_that_the_registry_does_not_know_is_left_alone(small: tuple[SmallProject, Backup]) -> None:
    project, _ = small
    publish(project, "2026-01-01", "2026-01-05", "first")
    expected = read(project)
    elsewhere = project.settings.online_url.replace("/0?", "/1?").replace(".fstore/online", ".fstore/elsewhere")
    with open_backends(msgspec.structs.replace(project.settings, online_url=elsewhere)) as backends:
        for look in (repair_online, lost_views):
            with pytest.raises(StoreMissing, match="or correct FSTORE_ONLINE_URL"):
                look(backends)
        step = backends.registry.view("order_events").step
        with pytest.raises(StoreMissing, match="or correct FSTORE_ONLINE_URL"):
            run_step(backends, step, project.intervals("order_events", "2026-01-04", "2026-01-05"), "elsewhere")
    assert not Path(elsewhere.removeprefix("lmdb:")).exists()
    assert read(project) == expected


@pytest.mark.parametrize("name", ["repair.entered", "online.written", "repair.applied"])
def test_a_repair_that_was_stopped_goes_on(small: tuple[SmallProject, Backup], name: str) -> None:
    project, backup = small
    publish(project, "2026-01-01", "2026-01-05", "first")
    backup.take()
    publish_changes(project)
    expected = read(project)
    backup.restore()
    arm(name, fail)
    with pytest.raises(InjectedFault):
        repair_online(project.backends)
    disarm()
    repair_online(project.backends)
    assert read(project) == expected
    assert lost_views(project.backends) == []


def once(action: Callable[[], None]) -> Callable[[str], None]:
    def act(name: str) -> None:
        disarm()
        action()

    return act


@pytest.mark.parametrize("name", ["online.written", "online.applied", "online.issued"])
def test_a_store_that_is_set_back_while_it_is_written_gets_all_of_it(small: tuple[SmallProject, Backup], name: str) -> None:
    project, backup = small
    publish(project, "2026-01-01", "2026-01-03", "first")
    backup.take()
    for view in ("user_orders", "order_events"):
        arm(name, once(backup.restore))
        project.run(view, "2026-01-03", "2026-01-05", "second")
    repair_online(project.backends)
    assert lost_views(project.backends) == []
    seen = read(project)
    assert seen["doubled"] == [40.0, 12.0, None]
    assert seen["amount_sum_3d"] == [20.0, 11.0, None]


def test_work_that_an_earlier_life_began_is_not_settled(small: tuple[SmallProject, Backup]) -> None:
    project, backup = small
    publish(project, "2026-01-01", "2026-01-03", "first")
    backup.take()

    def lose_and_repair() -> None:
        backup.restore()
        repair_online(project.backends)

    arm("outbox.applied", once(lose_and_repair))  # between the store's mark and the registry's
    project.run("order_events", "2026-01-04", "2026-01-05", "second")
    assert apply_outbox(project.backends).failed == 0
    repair_online(project.backends)
    assert read(project)["doubled"] == [40.0, 12.0, None]


def test_a_store_that_never_stays_the_same_is_an_error(small: tuple[SmallProject, Backup]) -> None:
    project, backup = small
    publish(project, "2026-01-01", "2026-01-03", "first")
    backup.take()
    arm("online.applied", lambda _: backup.restore())
    with pytest.raises(StoreChanged) as caught:
        project.run("order_events", "2026-01-04", "2026-01-05", "second")
    assert caught.value.retryable
    disarm()
    assert apply_outbox(project.backends).entries == 1


def add_feature(project: SmallProject) -> None:
    """Give the view a feature more, in the generation that it has."""
    line = 'amount_avg = agg.avg("amount")'
    project.define("shop", MODULE.replace(line, f'amount_max = agg.max("amount").over("3d")\n        {line}'))


def publish_without_store(project: SmallProject, start: str, end: str, run_id: str) -> None:
    arm("online.begun", fail)
    for view in ("user_orders", "order_events"):
        with pytest.raises(InjectedFault):
            project.run(view, start, end, run_id)
    disarm()


def read_wider(project: SmallProject) -> Values:
    with Client(project.settings, clock=lambda: utc("2026-01-06T02:00")) as client:
        features = ["user_orders:amount_max_3d", "user_orders:amount_sum_3d", "order_events:doubled"]
        return client.get_online_features(features=features, entities={"user_id": ["a", "b"]}).to_dict()


WIDER = {
    "user_id": ["a", "b"],
    "amount_max_3d": [20.0, 6.0],
    "amount_sum_3d": [20.0, 11.0],
    "doubled": [40.0, 12.0],
}


@pytest.mark.parametrize(
    ("kept", "stopped_at"),
    [(False, ""), (True, ""), (False, "online.written"), (False, "online.applied"), (False, "online.floor")],
    ids=["all lost", "the latest lost", "stopped in the rows", "stopped before the floor", "stopped after the floor"],
)
def test_older_work_does_not_restore_rows_without_newer_features(
    small: tuple[SmallProject, Backup], kept: bool, stopped_at: str
) -> None:
    project, backup = small
    publish(project, "2026-01-01", "2026-01-03", "first")
    backup.take()
    publish(project, "2026-01-03", "2026-01-04", "second")
    if kept:
        backup.restore()
    else:
        backup.lose()
    publish_without_store(project, "2026-01-04", "2026-01-05", "third")
    add_feature(project)
    publish_without_store(project, "2026-01-01", "2026-01-05", "fourth")
    if stopped_at:
        arm(stopped_at, fail)
        assert apply_outbox(project.backends).failed > 0
        disarm()
    assert apply_outbox(project.backends).failed == 0
    assert read_wider(project) == WIDER
    assert lost_views(project.backends) == []
    assert repair_online(project.backends).views == ()
    assert read_wider(project) == WIDER


def test_rows_that_were_lost_count_as_written(small: tuple[SmallProject, Backup]) -> None:
    project, backup = small
    project.run("order_events", "2026-01-01", "2026-01-04", "first")
    backup.lose()
    arm("online.begun", fail)
    with pytest.raises(InjectedFault):
        project.run("order_events", "2026-01-05", "2026-01-06", "second")  # a day without events
    disarm()
    assert apply_outbox(project.backends).rows == 2
