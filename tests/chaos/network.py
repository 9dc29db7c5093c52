"""Materializations and reads while the network breaks between them and Redis, or PostgreSQL as the registry.

Whatever happens, a read gives a value that was published or an error that may be tried again, a materialization succeeds or
fails with such an error, and once the network is well everything is as if nothing had been, without a hand on it. As a part
of ``--long`` it goes through all faults in an order of the seed, each of them while another day is published.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import tempfile
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pyarrow as pa

from fstore import Client
from fstore.errors import FStoreError
from fstore.plan.steps import Step
from fstore.registry import connecting
from fstore.runtime.delivery import apply_outbox
from fstore.runtime.due import intervals_within
from fstore.runtime.repair import repair_online
from fstore.runtime.runner import run_step
from scripts.proxy import Cut, Faults, Mode, Proxy
from scripts.servers import ServerMissing, postgres_server, redis_server
from tests.chaos.options import Options
from tests.projects import SmallProject, utc

NAME = "network"
ROUNDS = 20
"""How often the long form goes through all faults."""

STAMP = pa.timestamp("us", tz="UTC")

DAYS = 24
MODULE = """
    from fstore import Entity, FeatureView, ParquetSource, agg

    user = Entity("user", join_keys={"user_id": "string"})
    orders = ParquetSource("orders", path="data/orders.parquet", event_time="ordered_at")


    class UserOrders(FeatureView):
        '''Orders of a user.'''

        entity, source, schedule, start = user, orders, "@daily", "2026-01-01"
        orders = agg.count().over("3d")
        amount_sum = agg.sum("amount").over("3d")


    class OrderEvents(FeatureView):
        '''Every order.'''

        entity, schedule, start = user, "@daily", "2026-01-01"
        inputs = {"o": orders.window("1d")}
        sql = "SELECT user_id, ordered_at AS event_timestamp, amount AS paid FROM o"
        paid = "float64"
""".replace('paid = "float64"', 'paid = feature("float64")').replace("ParquetSource, agg", "ParquetSource, agg, feature")
VIEWS = ("user_orders", "order_events")
FEATURES = ["user_orders:orders_3d", "user_orders:amount_sum_3d", "order_events:paid"]
USERS = ["a", "b", "c", "d"]

REDIS_FAULTS = {
    "latency": Faults(latency=0.01),
    "reset": Faults(mode=Mode.RESET),
    "refused": Faults(mode=Mode.REFUSE),
    "black hole": Faults(mode=Mode.BLACK_HOLE),
    "cut to the server": Faults(to_server=300),
    "cut to the client": Faults(to_client=40),
    "cut once in a write": Faults(pattern=b"EVALSHA", times=1),
    "cut once after a write": Faults(pattern=b"EVALSHA", cut=Cut.ANSWERED, times=1),
    "cut before every floor": Faults(pattern=b"master_replid", skip=1),
    "cut after every floor": Faults(pattern=b"master_replid", cut=Cut.ANSWERED, skip=1),
}
POSTGRES_FAULTS = {
    "latency": Faults(latency=0.002),
    "reset": Faults(mode=Mode.RESET),
    "refused": Faults(mode=Mode.REFUSE),
    "black hole": Faults(mode=Mode.BLACK_HOLE),
    "cut to the server": Faults(to_server=3000),
    "cut to the client": Faults(to_client=3000),
} | {
    f"COMMIT {number} {cut.value}": Faults(pattern=b"COMMIT", cut=cut, skip=number, times=1)
    for number in (0, 4)
    for cut in Cut
}


def again(do: Callable[[], object], tries: int = 5) -> None:
    """Do something, and again while its error says that it may help: a machine under load misses short time limits, too."""
    for left in reversed(range(tries)):
        try:
            do()
        except FStoreError as error:
            if not error.retryable or not left:
                raise
        else:
            return


@dataclass
class World:
    """A project behind a proxy, and how many days of it are published."""

    project: SmallProject
    proxy: Proxy
    days: int = 0
    steps: dict[str, Step] = field(default_factory=dict)

    def next_day(self, run_id: str) -> None:
        """Publish the next day of all views, as one run of a scheduler would."""
        start = utc("2026-01-01") + timedelta(days=self.days)
        for view in VIEWS:
            if view not in self.steps:
                self.steps[view] = self.project.step(view)
            step = self.steps[view]
            run_step(self.project.backends, step, intervals_within(step, start, start + timedelta(days=1)), run_id)

    def converge(self, run_id: str) -> None:
        """Do what the scheduler does by itself: the task's retry, and the maintenance DAG."""
        again(lambda: self.next_day(run_id))
        assert apply_outbox(self.project.backends).failed == 0
        repair_online(self.project.backends)
        self.days += 1

    def read(self) -> dict[str, list[object]]:
        with Client(self.project.settings, clock=lambda: utc("2026-06-01")) as client:
            return client.get_online_features(features=FEATURES, entities={"user_id": USERS}).to_dict()


def orders() -> list[dict[str, object]]:
    """Return an order or two a day, in a pattern that makes every day's values different."""
    return [
        {"user_id": USERS[(day * day + n) % 4], "ordered_at": utc("2026-01-01") + timedelta(days=day, hours=3 + n),
         "amount": float(day * 10 + n)}
        for day in range(DAYS) for n in range(1 + day % 2)
    ]  # fmt: skip


def expected(days: int) -> dict[str, list[object]]:
    """Return what a read gives when so many days are published, from the orders by a loop."""
    end = utc("2026-01-01") + timedelta(days=days)
    seen = [row for row in orders() if row["ordered_at"] < end]  # type: ignore[operator]
    recent = [row for row in seen if row["ordered_at"] >= end - timedelta(days=3)]  # type: ignore[operator]
    mine = {user: [row["amount"] for row in recent if row["user_id"] == user] for user in USERS}
    paid = {row["user_id"]: row["amount"] for row in seen}
    return {
        "user_id": list(USERS),
        "orders_3d": [len(mine[user]) for user in USERS],
        "amount_sum_3d": [sum(mine[user]) if mine[user] else None for user in USERS],  # type: ignore[arg-type]
        "paid": [paid.get(user) for user in USERS],
    }


@contextlib.contextmanager
def world(root: Path, proxy: Proxy, **urls: str) -> Iterator[World]:
    project = SmallProject(root, **urls)
    project.define("shop", MODULE)
    project.write("orders", orders(), {"user_id": pa.string(), "ordered_at": STAMP, "amount": pa.float64()})
    made = World(project, proxy)
    for _ in range(3):
        made.converge("before")
    yield made
    proxy.heal()
    project.close()


@contextlib.contextmanager
def on_redis(root: Path) -> Iterator[World]:
    """Run Redis behind a proxy, and a project on it. Raises ServerMissing."""
    with redis_server() as running, Proxy(running.port) as proxy:
        url = proxy.url(running.url) + "?socket_timeout=0.3&socket_connect_timeout=0.3"
        with world(root, proxy, online_url=url) as made:
            yield made


@contextlib.contextmanager
def on_postgres(root: Path, server: str) -> Iterator[World]:
    """Make a database on a server, and a project whose registry it is, behind a proxy."""
    name, parts = f"fstore_{uuid.uuid4().hex[:12]}", urlsplit(server)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    with Proxy(parts.port or 5432, parts.hostname or "127.0.0.1") as proxy:
        url = proxy.url(urlunsplit(parts._replace(path=f"/{name}")))
        with world(root, proxy, registry_url=url) as made:
            yield made
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@contextlib.contextmanager
def only_retryable() -> Iterator[None]:
    """Let errors pass that may be tried again, and no others."""
    try:
        yield
    except FStoreError as error:
        if not error.retryable:
            raise


def read_under(world: World, allowed: tuple[dict[str, list[object]], ...]) -> None:
    """Read: one of these, or an error that may be tried again."""
    with only_retryable():
        assert world.read() in allowed


def check(world: World, faults: Faults, run_id: str) -> None:
    """Publish a day and read while the faults hold, then heal, and compare with what would have been."""
    states = (expected(world.days), expected(world.days + 1))
    with patch.object(connecting, "ANSWER_SECONDS", 1), world.proxy.broken(faults):
        read_under(world, states[:1])
        with only_retryable():
            world.next_day(run_id)
        for _ in range(2):
            read_under(world, (*states, mixed(*states), mixed(*states[::-1])))
    world.converge(run_id)
    assert world.read() == expected(world.days)
    assert world.project.backends.registry.outbox.depth().pending == 0
    assert repair_online(world.project.backends).views == ()


def mixed(snapshots: dict[str, list[object]], events: dict[str, list[object]]) -> dict[str, list[object]]:
    """Return the state in which the one view is a day ahead of the other."""
    return snapshots | {"paid": events["paid"]}


# -- the part of the harness ------------------------------------------------------------------------------------------


def run(options: Options) -> tuple[int, int]:
    """Go through the faults of both networks, as often as was asked for; a scenario is a fault."""
    rounds = -(-options.scenarios // (len(REDIS_FAULTS) + len(POSTGRES_FAULTS))) if options.scenarios else ROUNDS
    scenarios = violations = 0
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(postgres_server()).url
            stack.enter_context(redis_server())
        except ServerMissing as reason:
            print(f"{NAME}: skipped: {reason}", flush=True)
            return 0, 0
        for number in range(1 if options.only else rounds):
            for kind, faults in (("redis", REDIS_FAULTS), ("postgresql", POSTGRES_FAULTS)):
                root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fs-chaos-network-"))) / "small"
                opened = on_redis(root) if kind == "redis" else on_postgres(root, server)
                ran, found = _play(opened, kind, faults, number, options)
                scenarios, violations = scenarios + ran, violations + found
                shutil.rmtree(root, ignore_errors=True)
                options.progress(NAME, scenarios, None, violations)
    return scenarios, violations


def _play(
    opened: contextlib.AbstractContextManager[World], kind: str, faults: Mapping[str, Faults], number: int, options: Options
) -> tuple[int, int]:
    """Go through the faults of one network; return how many there were, and how many broke something."""
    names = [name for name in faults if options.only in (None, f"{kind}#{name}")]
    random.Random(options.seed + number).shuffle(names)
    with opened as made:
        for count, name in enumerate(names, 1):
            try:
                check(made, faults[name], f"{name} {number}")
            except Exception:  # noqa: BLE001 (whatever it was, it is a violation, and this project is not to be used again)
                options.violation(NAME, f"{kind}#{name}", traceback.format_exc())
                return count, 1
    return len(names), 0
