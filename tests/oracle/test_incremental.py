"""What a scheduled run reads: its own interval of events and tiles, nothing else.

Files that must not be read are spoilt: their pages are overwritten, and their size, time and footer stay as they were, so
that whoever reads a row of them fails.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.oracle.cases import Case, Event
from tests.oracle.language import ViewCase
from tests.oracle.projects import OracleProject, check
from tests.oracle.test_late_data import DAY, GRID, events_of, view


def spoil(file: Path) -> None:
    """Overwrite all pages of a Parquet file with zeros; nothing that can be seen without reading a row changes."""
    status = file.stat()
    content = bytearray(file.read_bytes())
    footer = int.from_bytes(content[-8:-4], "little") + 8
    content[4:-footer] = bytes(len(content) - footer - 4)
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises((pa.ArrowInvalid, OSError)):
        pq.read_table(file)


class History:
    """Forty days of events, a file a day, of which the first ones are published."""

    def __init__(self, root: Path, *windows: str, name: str = "history", days: int = 39) -> None:
        self.project = OracleProject(root)
        self.view = view(name, *windows)
        r = random.Random(3)
        self.events: dict[int, list[Event]] = {day: events_of(r, [day]) for day in range(-30, 40)}
        self.declare(self.view)
        for day, events in self.events.items():
            self.project.write(self.view, events, self._file(day).stem)
        (self.directory / "events.parquet").unlink()
        self.step = self.project.small.step(name)
        self.every = self.project.small.intervals(name, "2026-01-01", "2026-02-10")
        self.project.run(self.step, self.every[:days], "history")

    def declare(self, case: ViewCase) -> None:
        self.step = self.project.declare(case, self.events[0])

    @property
    def directory(self) -> Path:
        return self.project.small.root / "data" / self.view.name

    def _file(self, day: int) -> Path:
        return self.directory / f"day{day + 100:03}.parquet"

    def spoil_all_but(self, *days: int) -> None:
        for day in self.events:
            if day not in days:
                spoil(self._file(day))

    def check(self, case: ViewCase | None = None) -> None:
        events = [row for rows in self.events.values() for row in rows]
        checked = Case(case or self.view, GRID, tuple(self.every), ())
        check(self.step, self.project.rows(self.step), checked, events)


@pytest.mark.parametrize("windows", [("1d",), ("1d", "7d", "30d"), ("36h", "90d"), ("2d", "lifetime")])
def test_a_scheduled_run_reads_its_own_interval_of_events(tmp_path: Path, windows: tuple[str, ...]) -> None:
    history = History(tmp_path / "small", *windows)
    history.spoil_all_but(39)
    history.project.run(history.step, history.every[39:], "scheduled")
    history.check()


def test_a_window_that_is_added_reads_no_row_of_the_source(tmp_path: Path) -> None:
    history = History(tmp_path / "small", "7d", "30d", days=40)
    history.spoil_all_but()
    wider = view("history", "7d", "14d", "30d")
    history.project.small.define("cases", wider.module("data/history/"))
    history.step = history.project.small.step("history")
    history.project.run(history.step, history.every, "wider")
    history.check(wider)


def test_another_view_reads_the_same_tiles(tmp_path: Path) -> None:
    history = History(tmp_path / "small", "7d", "30d", days=40)
    history.spoil_all_but()
    other = view("other", "1d", "21d")
    text = other.module("data/history/").replace("'events_of_other'", "'events_of_history'")
    history.project.small.define("cases", history.view.module("data/history/") + "\n\n" + text[text.index("class ") :])
    history.step = history.project.small.step("other")
    history.project.run(history.step, history.every, "other")
    history.check(other)


def test_an_older_interval_is_computed_again_from_tiles(tmp_path: Path) -> None:
    history = History(tmp_path / "small", "1d", "30d", days=40)
    history.spoil_all_but()
    history.project.run(history.step, [history.every[20], history.every[33]], "again")
    history.check()


def test_what_was_not_read_yet_is_read(tmp_path: Path) -> None:
    """A window that reaches further back than any before reads what lies there, and nothing of what it knows."""
    history = History(tmp_path / "small", "7d", days=40)
    history.spoil_all_but(*range(-30, -6))
    wider = view("history", "7d", "30d")
    history.project.small.define("cases", wider.module("data/history/"))
    history.step = history.project.small.step("history")
    history.project.run(history.step, history.every, "wider")
    history.check(wider)
    assert history.every[0].end - 30 * DAY == GRID.start - 29 * DAY
