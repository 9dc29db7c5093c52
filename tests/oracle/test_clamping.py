"""What is written is what was asked for: no other interval changes, by a byte or in the log, and a killed run can be repeated."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from fstore.interval import Interval, merge_intervals
from fstore.registry.ledger import Ledger
from tests.oracle.cases import MORE, Event, at, event
from tests.oracle.language import NUMBER, Aggregate, ViewCase, column
from tests.oracle.projects import OracleProject
from tests.oracle.test_ranges import KINDS, KINDS_VIEW, bits

DAYS = [Interval(at(f"2026-01-{day:02}"), at(f"2026-01-{day + 1:02}")) for day in range(5, 17)]
VIEW = ViewCase(
    "sums", ("user",), "@daily", "UTC", "2026-01-01",
    (Aggregate("n", "count", None, ("1d", "3d")), Aggregate("i", "sum", column("i", NUMBER), ("90m", "3d"))),
)  # fmt: skip
EVENT_VIEW = """

    class Doubled(FeatureView):
        entity, schedule, start = thing, "@daily", "2026-01-01"
        inputs = {"e": events.window("1d")}
        sql = '''SELECT user, "at" AS event_timestamp, max(2 * j) AS doubled FROM e
                 WHERE user IS NOT NULL AND "at" IS NOT NULL GROUP BY ALL'''
        doubled = feature("int32")


    class Plain(FeatureView):
        entity, schedule, start = thing, "@daily", "2026-01-01"
        inputs = {"e": events.window("2d")}
        sql = "SELECT user, count(*) AS n FROM e WHERE user IS NOT NULL GROUP BY user"
        n = feature("int64")
"""


def some_events(seed: int, count: int = 120) -> list[Event]:
    times = [at(f"2026-01-{day:02}T{hour:02}:00") for day in range(1, 18) for hour in (0, 5, 23)]
    return [event(seed * 1000 + place, times) for place in range(count)]


@pytest.fixture
def small(tmp_path: Path) -> OracleProject:
    """A project with a view of aggregates, a SQL view and an event view over the same events."""
    made = OracleProject(tmp_path / "small")
    made.small.define("cases", VIEW.module("data/kinds/events.parquet"))
    made.small.define("more", KINDS[: KINDS.index("class Counts")] + EVENT_VIEW)
    made.write(KINDS_VIEW, some_events(1))
    made.write(KINDS_VIEW, some_events(1)[:1], "versions")
    yield made
    made.small.close()


def contents(project: OracleProject, view: str) -> dict[Interval, tuple[object, ...]]:
    """For each published day, the publication that holds it and its rows, to the bit."""
    ledger = project.small.backends.registry.ledger
    rows = project.small.published(view)
    kind = project.small.backends.registry.view(view).step.kind
    found = {}
    for day in DAYS:
        heads = [(head.attempt, head.sequence) for head in ledger.heads(view, start=day.start, end=day.end)]
        end_included = kind == "snapshot"
        mine = [
            [bits(value) for value in row.values()]
            for row in rows
            if (
                day.start < row["event_timestamp"] <= day.end
                if end_included
                else day.start <= row["event_timestamp"] < day.end
            )
        ]
        found[day] = (tuple(heads), mine)
    return found


def written_since(project: OracleProject, view: str, sequence: int) -> list[Interval]:
    """The ranges that were published after a place in the log."""
    log = project.small.backends.registry.ledger.publications(view)
    return merge_intervals(Interval(entry.start, entry.end) for entry in log if entry.sequence > sequence)


def last_sequence(project: OracleProject) -> int:
    return max((entry.sequence for entry in project.small.backends.registry.ledger.publications()), default=0)


SUBSETS = ([0], [3, 4, 5, 11], [0, 2, 4, 7])


@pytest.mark.parametrize("view", ["sums", "plain", "doubled"])
def test_other_intervals_stay_as_they_are(small: OracleProject, view: str) -> None:
    step = small.small.step(view)
    small.run(step, DAYS, "history")
    for place, subset in enumerate(SUBSETS):
        asked = [DAYS[day] for day in subset]
        small.write(KINDS_VIEW, some_events(place + 2))
        before, sequence = contents(small, view), last_sequence(small)
        small.run(step, asked, f"again-{place}")
        after = contents(small, view)
        assert written_since(small, view, sequence) == merge_intervals(asked)
        for day in DAYS:
            if day not in asked:
                assert after[day] == before[day], day
        assert any(after[day][1] != before[day][1] for day in asked), "the source changed"
        alone = {day: rows for day, (_, rows) in after.items() if day in asked}
        small.run(step, asked, f"repeated-{place}")
        assert {day: rows for day, (_, rows) in contents(small, view).items() if day in asked} == alone


def test_a_file_holds_no_row_of_another_interval(small: OracleProject) -> None:
    """Not even rows that no reader would see."""
    step = small.small.step("sums")
    asked = [DAYS[day] for day in (1, 2, 6, 9)]
    small.run(step, asked, "some")
    backends = small.small.backends
    attempts = {head.attempt for head in backends.registry.ledger.heads("sums")}
    import pyarrow.parquet as pq

    for files in backends.registry.ledger.files(attempts).values():
        for file in files:
            table = pq.read_table(backends.offline.full_path(file.path))
            assert table.num_rows == file.rows
            assert set(table["event_timestamp"].to_pylist()) <= {day.end for day in asked}


KILLED = [("sums", True), ("plain", False), ("sums", False), ("doubled", True), ("doubled", False), ("plain", True)]
"""Kinds of view, and whether the process dies after the write to the log or before it; the first two by default."""


class Killed(BaseException):
    """The process is gone."""


def kill_at(monkeypatch: pytest.MonkeyPatch, call: int, *, after: bool) -> Callable[[], bool]:
    """Make the n-th call that writes to the ledger the last one, done or not; return whether it was reached."""
    counter = itertools.count()
    reached = []

    def mortal(method: Callable[..., object]) -> Callable[..., object]:
        def wrapper(*args: object, **kwargs: object) -> object:
            now = next(counter) == call
            if now:
                reached.append(True)
            if now and not after:
                raise Killed
            result = method(*args, **kwargs)
            if now:
                raise Killed
            return result

        return wrapper

    for name in ("begin", "record_files", "record_verdicts", "publish"):
        monkeypatch.setattr(Ledger, name, mortal(getattr(Ledger, name)))
    return lambda: bool(reached)


@pytest.mark.parametrize(("view", "after"), KILLED if MORE else KILLED[:2])
def test_a_killed_run_is_repeated(small: OracleProject, monkeypatch: pytest.MonkeyPatch, view: str, after: bool) -> None:
    """Killed at any write to the log, between chunks too: other intervals stay, and its repetition ends as one run does."""
    monkeypatch.setattr("fstore.runtime.chunks.CHUNK_ROWS", 8)  # chunks of a day or two
    step = small.small.step(view)
    small.run(step, DAYS, "history")
    asked = DAYS[3:6]
    ends: dict[int, list[object]] = {}
    for source in (0, 1):
        small.write(KINDS_VIEW, some_events(7 + source))
        small.run(step, asked, f"whole-{source}")
        ends[source] = [contents(small, view)[day][1] for day in asked]
    assert len({contents(small, view)[day][0] for day in asked}) > 1, "there is more than one chunk"
    assert ends[0] != ends[1]
    for call in itertools.count():
        small.write(KINDS_VIEW, some_events(7 + call % 2))
        before = contents(small, view)
        with pytest.MonkeyPatch.context() as patch:
            reached = kill_at(patch, call, after=after)
            try:
                small.run(step, asked, f"killed-{call}")
            except Killed:
                assert reached()
        if not reached():
            break
        between = contents(small, view)
        assert all(between[day] == before[day] for day in DAYS if day not in asked)
        small.run(step, asked, f"killed-{call}")
        finished = contents(small, view)
        assert all(finished[day] == before[day] for day in DAYS if day not in asked)
        assert [finished[day][1] for day in asked] == ends[call % 2]
    assert call > 6
