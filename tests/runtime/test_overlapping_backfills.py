"""Two processes backfill overlapping ranges at once, many times: in the end it is as if they had run one after the other.

What a view holds tells who computed it. For every interval that must be one of the two, whole, and the same that its
dependent has read; and the log, the outbox and the online store must agree with that. ``FSTORE_SEEDS`` runs more of them.
"""

from __future__ import annotations

import multiprocessing
import os
import random
from collections import defaultdict
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import pyarrow as pa
import pytest

from fstore import Client
from fstore.runtime.standing import project_status
from tests.projects import SmallProject, utc
from tests.runtime.backfilling import Order, serve

SEEDS = int(os.environ.get("FSTORE_SEEDS", "12"))

MODULE = """
    from fstore import Entity, FeatureView, ParquetSource, feature, transform

    user = Entity("user", join_keys={"user_id": "string"})
    users = ParquetSource("users", path="data/users.parquet", keys=["user_id"], updated_at="updated_at")


    def stamp(u, interval):
        import os

        import pyarrow as pa

        return pa.table({"user_id": u["user_id"], "by": [os.environ["BACKFILL"]] * u.num_rows})


    class Stamped(FeatureView):
        '''Says who computed it.'''

        entity, schedule, start, inputs = user, "@daily", "2026-01-01", {"u": users}
        by = feature("string")
        compute = transform(stamp)


    class Copied(FeatureView):
        '''Says what it has read.'''

        entity, schedule, start, inputs = user, "@daily", "2026-01-01", {"s": Stamped}
        sql = "SELECT user_id, s.by AS read FROM s"
        read = feature("string")
"""
STAMP = pa.timestamp("us", tz="UTC")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallProject]:
    small = SmallProject(tmp_path_factory.mktemp("backfills") / "small")
    small.define("stamps", MODULE)
    users = [{"user_id": name, "updated_at": utc("2025-12-01")} for name in ("a", "b", "c")]
    small.write("users", users, {"user_id": pa.string(), "updated_at": STAMP})
    for view in ("stamped", "copied"):
        small.step(view)
    yield small
    small.close()


@pytest.fixture(scope="module")
def workers(project: SmallProject) -> Iterator[dict[str, Connection]]:
    context = multiprocessing.get_context("spawn")
    ends: dict[str, Connection] = {}
    processes: list[BaseProcess] = []
    for name in ("left", "right"):
        ends[name], theirs = context.Pipe()
        processes.append(context.Process(target=serve, args=(str(project.root), name, theirs)))
        processes[-1].start()
    for end in ends.values():
        assert end.poll(300)
        assert end.recv() == "ready"
    yield ends
    for end, process in zip(ends.values(), processes, strict=True):
        end.send(None)
        process.join(60)
        assert process.exitcode == 0


def holders(project: SmallProject, view: str, column: str) -> dict[int, str]:
    """Return who computed each day of a view; all its keys must agree, and none may be missing."""
    found: dict[int, dict[str, str]] = defaultdict(dict)
    for row in project.published(view):
        found[row["event_timestamp"].day - 1][str(row["user_id"])] = str(row[column])  # type: ignore[attr-defined]
    for day, rows in found.items():
        assert sorted(rows) == ["a", "b", "c"], (view, day, rows)
        assert len(set(rows.values())) == 1, (view, day, rows)
    return {day: rows["a"] for day, rows in found.items()}


def check_log(project: SmallProject, view: str) -> None:
    """A later publication of an interval is of a later attempt, and the head is the latest."""
    step, ledger = project.step(view), project.backends.registry.ledger
    by_day: dict[int, list[int]] = defaultdict(list)
    for publication in ledger.publications(view, limit=100_000):
        for interval in step.schedule.intervals(publication.start, publication.end):
            by_day[interval.start.day].append(publication.attempt)
    heads = {i.start.day: head.attempt for head in ledger.heads(view) for i in step.schedule.intervals(head.start, head.end)}
    for day, attempts in by_day.items():
        assert attempts == sorted(set(attempts)), (view, day, attempts)
        assert heads[day] == attempts[-1]


@pytest.mark.parametrize("seed", range(SEEDS))
def test_overlapping_backfills_end_as_if_run_in_some_order(
    project: SmallProject, workers: dict[str, Connection], seed: int
) -> None:
    random_ = random.Random(seed)
    ranges: dict[str, range] = {}
    many = seed % 2 == 1
    for name, end in workers.items():
        first = random_.randint(1, 6)
        ranges[name] = range(first, random_.randint(7, 10))
        end.send(Order(seed=seed, first=first, last=ranges[name].stop, many=many))
    for name, end in workers.items():
        assert end.poll(300)
        assert end.recv() == "", name
    stamped, copied = holders(project, "stamped", "by"), holders(project, "copied", "read")
    assert copied == {day: stamped[day] for day in copied}, "a dependent has read what is published"
    for day in set(ranges["left"]) | set(ranges["right"]):
        assert stamped[day] in {f"{name}{seed}" for name in workers if day in ranges[name]}
        assert day in copied
    both = set(ranges["left"]) & set(ranges["right"])
    if not many:
        assert len({stamped[day] for day in both}) <= 1, "one attempt is before the other as a whole"
    for view in ("stamped", "copied"):
        check_log(project, view)
        assert project.backends.registry.ledger.stale(view) == []
    log = project.backends.registry.ledger.publications(limit=100_000)
    assert [publication.sequence for publication in log] == list(range(1, len(log) + 1))
    status = project_status(project.backends, [], utc("2026-01-12"))
    assert [(view.online, view.stale) for view in status.views] == [("current", 0)] * 2
    newest = max(stamped)
    with Client(project.settings, clock=lambda: utc(f"2026-01-{newest + 1:02}")) as client:
        online = client.get_online_features(["stamped:by", "copied:read"], {"user_id": ["a", "b", "c"]}).to_dict()
    assert online["by"] == [stamped[newest]] * 3
    assert online["read"] == [copied[newest]] * 3
