"""A project run for real over small data, in a directory that goes away: registry, offline and online store, embedded.

Takes a loaded project; every source is replaced by a file of sampled rows, and every view is computed, validated and
published for a few intervals. Checks, ttl and ``end`` are left out, so that what is compared is what was computed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fstore.backends import Backends, create_backends
from fstore.definitions.feature_view import View
from fstore.definitions.project import Project
from fstore.definitions.source import (
    ParquetSource,
    PhysicalSource,
    Source,
    SqlSource,
    UnionSource,
    WindowedSource,
    with_members,
)
from fstore.engines.engine import Query
from fstore.errors import DefinitionErrors
from fstore.interval import Interval
from fstore.plan.compiler import compile_plan
from fstore.plan.steps import EVENT_TIMESTAMP, Step
from fstore.runtime.due import intervals_within
from fstore.runtime.preparation import prepare_steps, problems_of, sources_of
from fstore.runtime.runner import run_step
from fstore.settings import Settings
from fstore.testing.samples import NoSample, sample_rows

INTERVALS = 3
"""How many intervals the view with the longest ones is computed for; the others cover the same time."""

FUTURE = timedelta(days=3_650)


class SampleProject:
    """The project over its samples; ``cut`` moves whatever happened from that instant on into the far future."""

    def __init__(
        self, settings: Settings, project: Project, *, moved_from: Callable[[Interval], datetime] | None = None
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fstore-test-")
        folder = Path(self._folder.name)
        self.range = sample_range(project)
        self._cut = moved_from(self.range) if moved_from else None
        self.failures: dict[str, Exception] = {}
        self._unsampled: dict[str, NoSample] = {}
        real = Backends(settings)
        self.settings = msgspec.structs.replace(
            settings, registry_url=f"sqlite:///{folder}/registry.db", offline_url=f"file:{folder}/offline", environment="",
            online_url=f"lmdb:{folder}/online", spill_dir=f"{folder}/spill", memory_limit="1GB", threads=1,
        )  # fmt: skip
        try:
            self.project = self._over_samples(project, real, folder)
        finally:
            real.close()
        self.backends = create_backends(self.settings)
        self.steps = self._run()

    def rows(self, view: str, until: datetime) -> pa.Table:
        """Return the published rows of a view up to an instant, sorted by time and key."""
        step = self.steps[view]
        relation = self.backends.published(step, self.backends.registry.ledger.heads(view))
        with self.backends.engine.read(Query(sql="SELECT * FROM published", relations={"published": relation})) as reader:
            table = reader.read_all()
        compare = pc.less_equal if step.kind == "snapshot" else pc.less
        kept = table.filter(compare(table[EVENT_TIMESTAMP], pa.scalar(until, table[EVENT_TIMESTAMP].type)))
        return kept.sort_by([(name, "ascending") for name in (EVENT_TIMESTAMP, *(key.name for key in step.keys))])

    def close(self) -> None:
        """Close the stores and remove them."""
        self.backends.close()
        self._folder.cleanup()

    def _over_samples(self, project: Project, real: Backends, folder: Path) -> Project:
        keys = {name: type_ for entity in project.entities.values() for name, type_ in entity.join_keys.items()}
        around = Interval(self.range.start, self.range.end + (self.range.end - self.range.start))
        made: dict[str, Source] = {}

        def stand_in(source: Source) -> Source:
            if source.name not in made:
                made[source.name] = replaced(source)
            return made[source.name]

        def replaced(source: Source) -> Source:
            match source:
                case SqlSource():
                    inputs = {
                        alias: msgspec.structs.replace(item, source=stand_in(item.source))
                        if isinstance(item, WindowedSource)
                        else stand_in(item)
                        for alias, item in source.inputs.items()
                    }
                    return msgspec.structs.replace(source, inputs=inputs)
                case UnionSource():
                    return msgspec.structs.replace(source, sources=[stand_in(item) for item in source.sources])
                case _:
                    try:
                        table = self._moved(sample_rows(real.engine, source, keys, around), source)
                    except NoSample as error:
                        self._unsampled[source.name] = error
                        return source
                    pq.write_table(table, folder / f"{source.name}.parquet")
                    return _file_source(source, folder / f"{source.name}.parquet")

        sources = {name: stand_in(source) for name, source in project.sources.items()}
        views = {name: self._settled(view) for name, view in project.views.items()}
        return msgspec.structs.replace(project, sources=sources, views=views)

    def _settled(self, view: View) -> View:
        start = self.range.start.isoformat() if view.start is not None else None
        return msgspec.structs.replace(view, start=start, end=None, ttl=None, online=True, checks=())

    def _moved(self, table: pa.Table, source: PhysicalSource) -> pa.Table:
        """Move the rows from the cut on into the far future."""
        name = source.event_time or source.updated_at
        if self._cut is None or name is None:
            return table
        name = source.renamed.get(name, name)
        cut = self._cut
        times = [time + FUTURE if time is not None and time >= cut else time for time in table[name].to_pylist()]
        return table.set_column(table.column_names.index(name), name, pa.array(times, table[name].type))

    def _run(self) -> dict[str, Step]:
        """Compute and publish every view; one that fails is remembered with its error, and so are those that read it."""
        steps: dict[str, Step] = {}
        plan = compile_plan(self.project, {})
        for name in set(self.project.views) - {step.view for step in plan.steps}:
            self.failures[name] = DefinitionErrors([problem.as_error() for problem in problems_of(plan, [name])])
        for planned in plan.steps:
            name = planned.view
            read = {part.name for source in sources_of(self.project, [name]) for part in with_members(source)}
            if missing := [error for source, error in self._unsampled.items() if source in read]:
                self.failures[name] = missing[0]
                continue
            try:
                (step,) = prepare_steps(self.backends, self.project, [name])
                run_step(self.backends, step, intervals_within(step, self.range.start, self.range.end), "test")
                steps[name] = step
            except Exception as error:  # noqa: BLE001  (it is raised by the view's own test)
                self.failures[name] = error
        return steps


def sample_range(project: Project) -> Interval:
    """Return the time that is computed: three of the longest intervals of any view, from the latest start on."""
    plan = compile_plan(project, {})
    steps = plan.steps
    if not steps:
        raise DefinitionErrors([problem.as_error() for problem in plan.problems])
    start = max(step.schedule.interval_ending_by(step.start).end for step in steps)
    ends = []
    for step in steps:
        end, interval = start, step.schedule.interval_ending_by(start)
        for _ in range(INTERVALS + 1):
            length = interval.end - interval.start
            interval = step.schedule.intervals(interval.end, interval.end + 3 * length)[0]
            end = interval.end
        ends.append(end)
    return Interval(start, max(ends))


def _file_source(source: PhysicalSource, path: Path) -> ParquetSource:
    """Return a source of one Parquet file with the columns as another source shows them."""
    renamed = source.renamed
    return ParquetSource(
        source.name, path=str(path), static=source.static, lag=source.lag, location=source.location,
        event_time=None if source.event_time is None else renamed.get(source.event_time, source.event_time),
        updated_at=None if source.updated_at is None else renamed.get(source.updated_at, source.updated_at),
        keys=None if source.event_time is not None else [renamed.get(name, name) for name in source.key_columns],
    )  # fmt: skip
