"""Failpoints: armed by name, counted, and each one really there in the code."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fstore import failpoints
from fstore.errors import InjectedFault, SettingsError
from fstore.failpoints import FAILPOINTS, arm, arm_from, at_hit, fail, failpoint

SOURCES = Path(failpoints.__file__).parent


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    failpoints.disarm()
    yield
    failpoints.disarm()


def test_every_failpoint_is_somewhere_in_the_code_and_nothing_else_is() -> None:
    found = {name for file in SOURCES.rglob("*.py") for name in re.findall(r'\bfailpoint\("([^"]*)"\)', file.read_text())}
    assert found == set(FAILPOINTS)


def test_a_failpoint_does_nothing_unless_it_is_armed() -> None:
    failpoint("publish.committed")
    arm("publish.committed", fail)
    failpoint("publish.locked")
    with pytest.raises(
        InjectedFault,
        match=r"^failpoint 'publish\.committed' is armed to fail: an attempt is published, and nothing of it is online$",
    ):
        failpoint("publish.committed")


def test_an_action_can_wait_for_a_later_hit() -> None:
    seen: list[str] = []
    arm("offline.synced", at_hit(3, seen.append))
    for _ in range(5):
        failpoint("offline.synced")
        seen.append("passed")
    assert seen == ["passed", "passed", "offline.synced", "passed", "passed", "passed"]


@pytest.mark.parametrize(
    "text", ["publish.committed=explode", "publish.committed", "online.floor=delay", "online.floor=kill@x"]
)
def test_a_wrong_text_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=rf"^FSTORE_FAILPOINTS has '{text}'; write name=kill"):
        arm_from(text)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(
        SettingsError, match=r"^there is no failpoint 'publish\.comitted'\. Did you mean 'publish\.committed'\?$"
    ):
        arm_from("publish.comitted=kill")


def test_a_process_takes_them_from_its_environment_and_says_so() -> None:
    code = "from fstore.failpoints import failpoint; failpoint('online.floor'); failpoint('online.floor'); print('survived')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"FSTORE_FAILPOINTS": "online.floor=kill@2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -9
    assert done.stderr == "fstore: failpoint online.floor=kill@2 is armed: this process is under test\n"
