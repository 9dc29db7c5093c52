"""One materialization killed, and denied its disk, at a sample of its calls; all of them: ``python -m tests.chaos --long``."""

from __future__ import annotations

import json
import sys

import pytest

from tests.chaos.options import Options
from tests.chaos.syscalls import FAULTS, run_points
from tests.chaos.tracing import reason_to_skip

SAMPLED = 12


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
