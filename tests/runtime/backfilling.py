"""A process that backfills ranges of two views when it is told, slowed down at random places."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec

from fstore.failpoints import Action, arm, delay, disarm
from fstore.runtime import chunks
from fstore.runtime.due import intervals_within
from fstore.runtime.runner import run_settled
from tests.projects import SmallProject, utc

PLACES = (
    "batch.begun", "attempt.begun", "compute.written", "compute.recorded", "validate.recorded", "publish.locked",
    "publish.committed", "online.begun", "online.written", "online.applied", "online.floor", "outbox.applied",
)  # fmt: skip


class Order(msgspec.Struct, frozen=True):
    """A range of days of January to backfill. ``many`` makes chunks of two intervals; ``views`` in order."""

    seed: int
    first: int
    last: int
    many: bool
    views: Sequence[str] = ("stamped", "copied")


def maybe(random_: random.Random) -> Action:
    """Return an action that waits a moment, most of the times."""

    def act(name: str) -> None:
        if random_.random() < 0.7:
            delay(random_.random() * 0.02)(name)

    return act


def serve(root: str, name: str, orders: Connection) -> None:
    """Answer every order with the error that it ended with, or an empty text, until None comes."""
    project = SmallProject(Path(root))
    for view in ("stamped", "copied"):
        project.step(view)
    orders.send("ready")
    usual = chunks.CHUNK_ROWS
    while order := orders.recv():
        random_ = random.Random(f"{name}{order.seed}")
        os.environ["BACKFILL"] = f"{name}{order.seed}"
        chunks.CHUNK_ROWS = 4 if order.many else usual  # type: ignore[misc]
        disarm()
        for place in random_.sample(PLACES, 5):
            arm(place, maybe(random_))
        try:
            for view in order.views:
                step = project.step(view)
                intervals = intervals_within(step, utc(f"2026-01-{order.first:02}"), utc(f"2026-01-{order.last:02}"))
                run_settled(project.backends, step, intervals, f"{name}-{order.seed}", tries=20)
            orders.send("")
        except Exception as error:  # noqa: BLE001  (the test shows it)
            orders.send(f"{type(error).__name__}: {error}")
    project.close()
