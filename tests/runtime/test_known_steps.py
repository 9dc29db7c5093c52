"""The file of the steps of the last compilation."""

from __future__ import annotations

from pathlib import Path

from fstore import agg
from fstore.runtime.known_steps import StepFile
from tests.plan.projects import aggregates, plan


def write(path: Path, steps: StepFile) -> None:
    path.write_bytes(b"".join(steps.document()))


def test_a_file_gives_back_what_was_used_and_forgets_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    members = {"orders": agg.count().over("7d")}
    one, other = plan(aggregates("one", members=members), aggregates("other", members=members)).steps
    first = StepFile(path, "code 1")
    first.keep("a", one)
    first.keep("b", other)
    write(path, first)
    second = StepFile(path, "code 1")
    assert (second.find("a"), second.find("b"), second.find("c")) == (one, other, None)
    assert second.document() == []
    third = StepFile(path, "code 1")
    assert third.find("b") == other
    write(path, third)
    assert StepFile(path, "code 1").find("a") is None


def test_a_file_of_other_code_or_with_damage_counts_as_empty(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    (step,) = plan(aggregates(members={"orders": agg.count().over("7d")})).steps
    steps = StepFile(path, "code 1")
    steps.keep("a", step)
    write(path, steps)
    assert StepFile(path, "code 2").find("a") is None
    path.write_bytes(path.read_bytes().replace(b"orders", b"0rders"))
    assert StepFile(path, "code 1").find("a") is None
