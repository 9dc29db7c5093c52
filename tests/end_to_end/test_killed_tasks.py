"""Tasks whose processes are killed in a real Airflow. Schedulers, workers and servers too: ``python -m tests.chaos --long``."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from datetime import UTC, datetime

import psutil
import pytest

from fstore.backends import open_backends
from tests.end_to_end.test_airflow import PURCHASES, newest_sequence, succeed

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(420)]

FIRST, LAST = datetime(2026, 1, 20, tzinfo=UTC), datetime(2026, 1, 23, tzinfo=UTC)
VIEWS = ("user_purchases", "big_spenders")
KILLS = 3
"""As often as a task may be retried: all of them may meet the same one."""


def published_rows(shop, view):
    with open_backends(shop.settings) as backends:
        heads = backends.registry.ledger.heads(view, start=FIRST, end=LAST)
        files = backends.registry.ledger.files([head.attempt for head in heads])
        tables = [(head, backends.offline.read(file.path)) for head in heads for file in files[head.attempt]]
    rows = [(head, row) for head, table in tables for row in table.to_pylist()]
    kept = [row for head, row in rows if max(head.start, FIRST) < row["event_timestamp"] <= min(head.end, LAST)]
    return sorted(repr(sorted(row.items())) for row in kept)


def task_processes(airflow):
    """Return the processes of running tasks by their title, which has the id of the task."""
    found = {}
    for process in airflow._processes():
        with contextlib.suppress(psutil.Error):
            title = " ".join(process.cmdline())
            if title.startswith("airflow worker -- ") and "LocalExecutor" not in title and "OpenLineage" not in title:
                found[title] = process
    return found


def test_killed_tasks_are_retried_and_end_as_if_nothing_had_been(shop):
    range_ = {"start": "2026-01-20", "end": "2026-01-22"}
    succeed(shop.admin, PURCHASES, shop.admin.trigger(PURCHASES, range_))
    wanted, sequence = {view: published_rows(shop, view) for view in VIEWS}, newest_sequence(shop, "user_purchases")

    run_id, killed, chance = shop.admin.trigger(PURCHASES, range_), set(), random.Random(4)
    deadline = time.monotonic() + 240
    while not shop.admin.run(PURCHASES, run_id).finished and time.monotonic() < deadline:
        for title, process in task_processes(shop.airflow).items():
            if len(killed) < KILLS and title not in killed:  # each try has a title of its own
                time.sleep(chance.uniform(0, 1))
                with contextlib.suppress(psutil.Error):
                    process.send_signal(signal.SIGKILL)
                    killed.add(title)
        time.sleep(0.1)
    succeed(shop.admin, PURCHASES, run_id)

    tasks = shop.admin.task_instances(PURCHASES, run_id).values()
    assert killed
    assert any(task.try_number > 1 for task in tasks)
    assert {view: published_rows(shop, view) for view in VIEWS} == wanted
    assert all(wanted.values())
    assert newest_sequence(shop, "user_purchases") > sequence
