"""Runs cases through the real path: a definition module, the loader, ``run_step``, and the published files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq

from fstore.interval import Interval
from fstore.plan.steps import Step
from fstore.runtime.runner import run_step
from tests.oracle.cases import Case, Event, table
from tests.oracle.language import ViewCase
from tests.oracle.naive import expected_rows, keys_with_a_row, same
from tests.projects import SmallProject

Rows = dict[tuple[object, ...], dict[str, object]]


class OracleProject:
    """A project whose views come and go: each case is a view of its own, over a source of its own."""

    def __init__(self, root: Path) -> None:
        self.small = SmallProject(root)
        self._cases = 0

    def fresh_name(self) -> str:
        """A name that no view has had."""
        self._cases += 1
        return f"case_{self._cases}"

    def declare(self, view: ViewCase, events: Sequence[Event]) -> Step:
        """Define a view over events, in place of the one before, and return its step, registered."""
        self.small.define("cases", view.module(f"data/{view.name}/"))
        self.write(view, events)
        return self.small.step(view.name)

    def write(self, view: ViewCase, events: Sequence[Event], file: str = "events") -> Path:
        """Write a file of a view's source."""
        directory = self.small.root / "data" / view.name
        directory.mkdir(exist_ok=True)
        pq.write_table(table(events), directory / f"{file}.parquet")
        return directory / f"{file}.parquet"

    def run(self, step: Step, intervals: Sequence[Interval], run_id: str = "run") -> None:
        """Compute, validate and publish intervals."""
        run_step(self.small.backends, step, list(intervals), run_id)

    def rows(self, step: Step) -> Rows:
        """All published rows of a view: ``{(end, *key): {feature: value}}``."""
        found: Rows = {}
        for row in self.small.published(step.view):
            end = row.pop("event_timestamp")
            assert isinstance(end, datetime)
            key = (end.astimezone(UTC), *(row.pop(column.name) for column in step.keys))
            assert key not in found, f"{key} was published twice"
            found[key] = row
        return found


def check(step: Step, found: Rows, case: Case, events: Sequence[Event] | None = None) -> None:
    """Compare published rows with the oracle: a key without a row reads as the empty row."""
    events = case.events if events is None else events
    wanted = expected_rows(case.view, events, case.ends)
    assert found.keys() == keys_with_a_row(case.view, events, case.ends)
    empty = {f.name: list(f.empty) if isinstance(f.empty, tuple) else f.empty for f in step.features}
    for key, values in wanted.items():
        row = found.get(key, empty)
        wrong = {name: (row[name], value) for name, value in values.items() if not same(row[name], value)}
        assert not wrong, f"{key}{'' if key in found else ' (no row)'}: (found, wanted) of {describe(case, wrong)}"


def describe(case: Case, wrong: Mapping[str, object]) -> str:
    texts = {name: item.text() for item in case.view.aggregates for name in item.features().values()}
    texts |= {item.name: item.sql for item in case.view.composites}
    return "\n".join(f"{value!r}: {texts[name]}" for name, value in wrong.items())
