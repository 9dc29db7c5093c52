"""A try of validation that was killed while it wrote leaves nothing half-written beside what is published."""

from __future__ import annotations

import os
import signal

import pytest

from fstore.errors import StoreUnavailable
from fstore.failpoints import arm, kill
from tests.projects import SmallProject
from tests.runtime.conftest import ORDERS, write_orders

VIEW = ("user_orders", "2026-01-01", "2026-01-03")


def test_a_retry_deletes_what_a_killed_try_left_half_written(project: SmallProject) -> None:
    write_orders(project, [*ORDERS, {"user_id": "c", "ordered_at": "2026-01-01T11:00", "amount": 5000.0, "item": "car"}])
    project.step(VIEW[0])
    files = project.backends.offline
    project.close()
    pid = os.fork()
    if not pid:
        arm("validate.audited", lambda _: arm("offline.written", kill))
        project.run(*VIEW)
        os._exit(1)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    assert any(".writing-" in file.path and "quarantine" in file.path for file in files.list_directory("small"))
    assert project.run(*VIEW).computed.reused, "the files of the killed try are published"
    assert [file.path for file in files.list_directory("small") if ".writing-" in file.path] == []


def test_a_file_that_is_taken_away_while_it_is_written_is_written_again(project: SmallProject) -> None:
    offline = project.backends.offline
    with pytest.raises(StoreUnavailable, match="was deleted while it was written"), offline.writing("small/a/b.parquet"):
        offline.delete_unfinished("small/a")
