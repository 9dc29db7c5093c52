"""The kill harness in a short form: every failpoint twice, on SQLite and LMDB. ``make chaos`` runs it by the thousand."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from fstore.failpoints import FAILPOINTS
from tests.chaos import campaign
from tests.chaos.history import History, read_history
from tests.chaos.options import Options

SEED = 20_261_121


@pytest.mark.timeout(900)
def test_every_failpoint_is_survived_twice(capsys: pytest.CaptureFixture[str]) -> None:
    options = Options(scenarios=2 * len(FAILPOINTS), seed=SEED, quiet=True)
    counted = Counter(name for name, _ in campaign.chosen(2 * len(FAILPOINTS), options))
    assert set(counted.values()) == {2}
    assert campaign.run(options) == (2 * len(FAILPOINTS), 0), capsys.readouterr().out


def test_a_thousand_scenarios_are_twenty_or_more_for_each_failpoint() -> None:
    counted = Counter(name for name, _ in campaign.chosen(1000, Options(seed=1)))
    assert counted.keys() == FAILPOINTS.keys()
    assert min(counted.values()) >= 20
    assert sum(counted.values()) >= 1000


def test_a_history_has_whole_lines_in_order(tmp_path: Path) -> None:
    one, two = History(tmp_path / "history", "one"), History(tmp_path / "history", "two")
    one.add("began", run="r")
    two.add("began", run="s")
    one.add("ended")
    assert [(event["role"], event["what"]) for event in read_history(tmp_path / "history")] == [
        ("one", "began"), ("two", "began"), ("one", "ended")
    ]  # fmt: skip
    assert [event.get("run") for event in read_history(tmp_path / "history", "began")] == ["r", "s"]
    assert all(json.loads(line) for line in (tmp_path / "history").read_text().splitlines())
    one.close()
    two.close()
