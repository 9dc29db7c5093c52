"""Tests that every view of a project gets: no leakage, and online equals offline.

A test module of two lines turns them on:

    from fstore.testing import FeatureTests
    class TestFeatures(FeatureTests): ...

The project is run for real over small data (see ``sample_project``), once per pytest session and kind of test.
"""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pytest

from fstore.arrow import row_hashes
from fstore.definitions.project import Project
from fstore.errors import DefinitionErrors
from fstore.interval import Interval, format_instant
from fstore.plan.steps import Step
from fstore.retrieval.client import Client
from fstore.runtime.plan_cache import load_plan
from fstore.settings import load_settings
from fstore.testing.check import Instant, check_view, compute_view
from fstore.testing.comparison import Expected
from fstore.testing.declared import DeclaredView, view_of_project
from fstore.testing.rows import Rows
from fstore.testing.sample_project import SampleProject
from fstore.testing.samples import NoSample

_SHOWN = 10


class ProjectUnderTest:
    """A project whose views are tested: definitions are real, stores are its own and go away."""

    def __init__(self, root: Path) -> None:
        self._settings = load_settings(root, environ={})

    @cached_property
    def project(self) -> Project:
        """What the definitions declare, problems included."""
        return load_plan(self._settings).project

    def view_names(self) -> list[str]:
        """Return the name of every view, those with a problem included."""
        return sorted({*self.project.views, *self.project.broken})

    def view(self, name: str) -> ViewUnderTest:
        """Return a view by name, to be tested."""
        return ViewUnderTest(self, name)

    def declared(self, name: str) -> DeclaredView:
        """Return the definition of a view. Raises DefinitionErrors when it has a problem."""
        return view_of_project(self.project, name, self._settings.definitions_dir)

    @cached_property
    def sample(self) -> SampleProject:
        """The project run over small data."""
        return SampleProject(self._settings, self._sound())

    @cached_property
    def moved(self) -> SampleProject:
        """The same with everything that happened after :attr:`cut` moved into the far future."""
        return SampleProject(self._settings, self._sound(), moved_from=cut_of)

    @property
    def cut(self) -> datetime:
        """The instant up to which both have the same past."""
        return cut_of(self.sample.range)

    def close(self) -> None:
        """Close and remove what was opened."""
        for name in ("sample", "moved"):
            if name in self.__dict__:
                self.__dict__.pop(name).close()

    def _sound(self) -> Project:
        if not self.project.views:
            raise DefinitionErrors([problem.as_error() for problem in self.project.problems])
        return self.project


class ViewUnderTest:
    """A view of a project, whatever language it is written in."""

    def __init__(self, project: ProjectUnderTest, name: str) -> None:
        self.project, self.name = project, name

    def test(
        self, *, at: Instant, expect: Expected, rows: Rows | None = None, inputs: dict[str, Rows] | None = None
    ) -> None:  # fmt: skip
        """Compute the view over a few rows; see :func:`fstore.testing.check_view`."""
        __tracebackhide__ = True
        check_view(self.project.declared(self.name), at=at, expect=expect, rows=rows, inputs=inputs)

    def compute(
        self, *, at: Instant, rows: Rows | None = None, inputs: dict[str, Rows] | None = None
    ) -> list[dict[str, object]]:  # fmt: skip
        """Return the rows that the view gives; see :func:`fstore.testing.compute_view`."""
        return compute_view(self.project.declared(self.name), at=at, rows=rows, inputs=inputs)

    def check_leakage(self) -> None:
        """Raise AssertionError when events and updates after an instant change what was computed for before it."""
        __tracebackhide__ = True
        cut = self.project.cut
        before, after = (self._ran(sample).rows(self.name, cut) for sample in (self.project.sample, self.project.moved))
        if differing := _differing(before, after):
            raise AssertionError(
                f"view {self.name!r} leaks: moving what happened from {format_instant(cut)} on into the future changed "
                f"{len(differing)} row(s) of before.\n" + "\n".join(differing[:_SHOWN])
            )

    def check_offline_equals_online(self) -> None:
        """Raise AssertionError when a key reads differently online than by a point-in-time join at the same instant."""
        __tracebackhide__ = True
        sample = self._ran(self.project.sample)
        step = sample.steps[self.name]
        now = sample.range.end + step.lag
        keys = _keys(step, sample.rows(self.name, sample.range.end))
        if not keys.num_rows:
            return
        features = [f"{self.name}:{feature.name}" for feature in step.features]
        with Client(sample.backends, clock=lambda: now) as client:
            rows = keys.append_column("event_timestamp", pa.repeat(pa.scalar(now, pa.timestamp("us", tz="UTC")), len(keys)))
            offline = client.get_historical_features(rows, features=features).to_arrow().drop_columns(["event_timestamp"])
            entities = {name: keys[name].to_pylist() for name in keys.column_names}
            online = client.get_online_features(features=features, entities=entities).to_arrow()
        if differing := _differing(offline, online.select(offline.column_names)):
            raise AssertionError(
                f"view {self.name!r} reads differently online than offline at {format_instant(now)} for {len(differing)} "
                "key(s).\n" + "\n".join(differing[:_SHOWN])
            )

    def _ran(self, sample: SampleProject) -> SampleProject:
        self.project.declared(self.name)
        failure = sample.failures.get(self.name)
        if isinstance(failure, NoSample):
            pytest.skip(str(failure))
        if failure is not None:
            raise failure
        return sample


class FeatureTests:
    """Inherit from this in a test module, under a name that pytest collects, and every view is tested."""

    def test_leakage(self, feature_view: ViewUnderTest) -> None:
        """Events moved into the future change nothing of before."""
        __tracebackhide__ = True
        feature_view.check_leakage()

    def test_offline_equals_online(self, feature_view: ViewUnderTest) -> None:
        """Every key reads the same online and offline, bit for bit."""
        __tracebackhide__ = True
        feature_view.check_offline_equals_online()


def cut_of(computed: Interval) -> datetime:
    """Return the instant from which on nothing may be seen before it: the middle of what is computed, on a whole day."""
    middle = computed.start + (computed.end - computed.start) / 2
    return max(middle.replace(hour=0, minute=0, second=0, microsecond=0), computed.start)


def _keys(step: Step, rows: pa.Table) -> pa.Table:
    """Return every key of some rows once."""
    names = [key.name for key in step.keys]
    return rows.select(names).group_by(names).aggregate([])


def _differing(first: pa.Table, second: pa.Table) -> list[str]:
    """Return the rows that are not the same bit for bit in both tables, which are in the same order where they are equal."""
    second = second.cast(first.schema)
    if first.num_rows == second.num_rows and _hashes(first) == _hashes(second):
        return []
    ours, theirs = ([str(row) for row in table.to_pylist()] for table in (first, second))
    hashed = [dict(zip(_hashes(table), rows, strict=True)) for table, rows in ((first, ours), (second, theirs))]
    return [
        *(f"  - {row}" for key, row in hashed[0].items() if key not in hashed[1]),
        *(f"  + {row}" for key, row in hashed[1].items() if key not in hashed[0]),
    ]


def _hashes(table: pa.Table) -> list[int]:
    batches = table.combine_chunks().to_batches()
    return [int(word) for batch in batches for word in row_hashes(batch)]
