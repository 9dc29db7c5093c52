"""A throw-away project for tests: write modules and data, run views, read what was published."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fstore.backends import Backends, create_backends
from fstore.engines.engine import Query
from fstore.interval import Interval
from fstore.plan.steps import Step
from fstore.runtime.due import intervals_within
from fstore.runtime.plan_cache import load_plan
from fstore.runtime.preparation import prepare_steps
from fstore.runtime.runner import StepResult, run_step
from fstore.settings import Settings, load_settings


def utc(text: str) -> datetime:
    """Return an instant written as ISO 8601 without a zone."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


class SmallProject:
    """A project in a directory of its own, with embedded stores unless URLs are given."""

    def __init__(self, root: Path, **urls: str) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        (root / "pyproject.toml").write_text('[tool.fstore]\nproject = "small"\n', encoding="utf-8")
        (root / "feature_defs").mkdir(exist_ok=True)
        (root / "data").mkdir(exist_ok=True)
        self.settings: Settings = load_settings(root, environ={}, memory_limit="1GB", threads="2", **urls)
        self._backends: Backends | None = None

    @property
    def backends(self) -> Backends:
        """The project's parts, created on first use."""
        if self._backends is None:
            self._backends = create_backends(self.settings)
        return self._backends

    def close(self) -> None:
        """Close what was opened."""
        if self._backends is not None:
            self._backends.close()
            self._backends = None

    def define(self, module: str, text: str) -> None:
        """Write a definition module."""
        (self.root / "feature_defs" / f"{module}.py").write_text(textwrap.dedent(text), encoding="utf-8")

    def write(self, name: str, rows: Sequence[Mapping[str, object]], types: Mapping[str, pa.DataType]) -> None:
        """Write rows as data/<name>.parquet."""
        schema = pa.schema(list(types.items()))
        pq.write_table(
            pa.Table.from_pylist([dict(row) for row in rows], schema=schema), self.root / "data" / f"{name}.parquet"
        )

    def step(self, view: str) -> Step:
        """Return a view's step, prepared and registered."""
        (step,) = prepare_steps(self.backends, load_plan(self.settings).project, [view])
        return step

    def run(self, view: str, start: str, end: str, run_id: str = "test") -> StepResult:
        """Compute, validate and publish a view's intervals within [start, end)."""
        step = self.step(view)
        return run_step(self.backends, step, intervals_within(step, utc(start), utc(end)), run_id)

    def published(self, view: str) -> list[dict[str, object]]:
        """Return all published rows of a view, sorted by time and key."""
        step = self.backends.registry.view(view).step
        heads = self.backends.registry.ledger.heads(view)
        relation = self.backends.published(step, heads)
        with self.backends.engine.read(Query(sql="SELECT * FROM published", relations={"published": relation})) as reader:
            rows: list[dict[str, object]] = reader.read_all().to_pylist()
        order = ["event_timestamp", *(key.name for key in step.keys)]
        return sorted(rows, key=lambda row: [str(row[name]) for name in order])

    def intervals(self, view: str, start: str, end: str) -> list[Interval]:
        """Return a view's intervals within [start, end)."""
        return intervals_within(self.step(view), utc(start), utc(end))
