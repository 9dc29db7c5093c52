"""One materialization killed, and denied its disk, at a sample of its calls; all of them: ``python -m tests.chaos --long``."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from fstore.errors import FStoreError
from tests.chaos.history import History
from tests.chaos.options import Options
from tests.chaos.syscalls import FAULTS, run_points
from tests.chaos.tracing import reason_to_skip, run_traced
from tests.projects import SmallProject, utc

SAMPLED = 12
MODULE = """
    from fstore import Entity, FeatureView, ParquetSource, agg

    user = Entity("user", join_keys={"user_id": "string"})
    orders = ParquetSource("orders", path="data/orders.parquet", event_time="ordered_at")


    class Orders(FeatureView):
        '''Orders of a user.'''

        entity, source, schedule, start = user, orders, "@daily", "2026-01-01"
        orders = agg.count().over("1d")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="strace is of Linux")
@pytest.mark.timeout(300)
def test_a_materialization_survives_faults_of_its_calls(capsys: pytest.CaptureFixture[str]) -> None:
    if (reason := reason_to_skip()) is not None:
        pytest.skip(reason)
    seed = 4
    report = run_points(Options(seed=seed, jobs=2, quiet=True), sampled=SAMPLED)
    assert not [violation for outcome in report.outcomes for violation in outcome.violations], capsys.readouterr().out
    assert report.calls > 300, "the trace no longer sees the calls"
    assert {outcome.point.fault for outcome in report.outcomes} == set(FAULTS)
    assert any(outcome.hit for outcome in report.outcomes), json.dumps([str(outcome) for outcome in report.outcomes])


@pytest.mark.skipif(sys.platform != "linux", reason="strace is of Linux")
@pytest.mark.parametrize("error", ["EIO", "ESTALE"])
def test_a_source_on_a_failing_disk_is_tried_again_and_not_called_broken(tmp_path: Path, error: str) -> None:
    if (reason := reason_to_skip()) is not None:
        pytest.skip(reason)
    project = SmallProject(tmp_path / "small")
    project.define("shop", MODULE)
    types = {"user_id": pa.string(), "ordered_at": pa.timestamp("us", tz="UTC")}
    project.write("orders", [{"user_id": "a", "ordered_at": utc("2026-01-01")}], types)
    path = project.root / "data" / "orders.parquet"
    fault = ("-P", str(path), "-e", "trace=openat", "-e", f"inject=openat:error={error}:when=1")
    traced = run_traced(partial(_prepare, project), tmp_path / "trace", fault)
    assert [(event["code"], event["retryable"]) for event in traced.events] == [("store_unavailable", True)]
    assert str(path) in traced.events[0]["text"]


def _prepare(project: SmallProject, history: History) -> None:
    try:
        project.step("orders")
    except FStoreError as error:
        history.add("failed", code=error.code, retryable=error.retryable, text=str(error))
