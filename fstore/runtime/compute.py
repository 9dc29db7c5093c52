"""Compute a step over intervals: begin an attempt, and write its immutable Parquet files.

Takes a prepared step (see ``fstore.runtime.preparation``) and intervals; leaves an attempt whose files are recorded, to be
audited next. Publishes nothing: until ``materialize`` the rows are visible to nobody. A failed attempt is recorded with its
error, and its files are left for the sweeper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import assert_never

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from fstore.arrow import arrow_schema, schema_id
from fstore.backends import Backends
from fstore.dataframes import declared_column
from fstore.engines.engine import ArrowRelation, IntervalsRelation, Query
from fstore.errors import FStoreError, InputsNotReady, OutputMismatch
from fstore.failpoints import failpoint
from fstore.interval import Interval
from fstore.lineage.run import ParentRun
from fstore.plan.steps import EVENT_TIMESTAMP, AggregateStep, CompositeStep, PythonStep, SqlStep, Step
from fstore.registry.reads import tile_sets
from fstore.registry.records import Attempt
from fstore.registry.source_reads import source_reads
from fstore.runtime.composites import composite_query
from fstore.runtime.events import EventBuilder
from fstore.runtime.incarnation import refuse_used_directory
from fstore.runtime.inputs import MissingInput, ResolvedInputs, observe_step, relations_for, resolve_inputs
from fstore.runtime.python_views import python_tables
from fstore.runtime.sources import first_event
from fstore.runtime.tiles import NO_TILES, TileReader, TilesRead
from fstore.stores.checksums import file_checksum
from fstore.types import DataFile

CHUNK_ROWS = 2_000_000
"""Rows of SQL and Python views that are held in memory before they are written to a file."""

Progress = Callable[[int, int], None]
"""Told how many of how many intervals are computed."""


class Computed(msgspec.Struct, frozen=True, kw_only=True):
    """What was computed: the attempt, its rows, and the intervals left out because an input is not published.

    ``ignored_rows`` are source rows without a key, where events were read. ``made_rows`` are those of tiles that were made.
    """

    attempt: int
    intervals: tuple[Interval, ...]
    missing: tuple[MissingInput, ...]
    rows: int
    ignored_rows: int
    made_rows: int = 0


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """What a chunk knows of the batch that it is a part of: all intervals, and the newest change of each source."""

    batch: int
    among: tuple[Interval, ...]
    known: dict[str, int]


def compute_attempt(
    backends: Backends, step: Step, intervals: Sequence[Interval], run_id: str, *,
    parent: ParentRun | None = None, progress: Progress | None = None, chunk: Chunk | None = None,
) -> Computed:  # fmt: skip
    """Begin an attempt over the intervals whose inputs are published, and compute them into files.

    Raises InputsNotReady when that is none of them, ValueError when none are given, and what the engine or the user's code
    raises, after the attempt was recorded as failed.
    """
    if not intervals:
        raise ValueError("computing takes at least one interval")
    known = observe_step(backends, step) if chunk is None else chunk.known
    resolved = resolve_inputs(backends.registry, step, intervals)
    if not resolved.ready:
        raise InputsNotReady(not_ready(step, resolved.missing))
    ledger = backends.registry.ledger
    build = EventBuilder(backends)

    def started(attempt: Attempt) -> list[str]:
        return [build("START", attempt, parent=parent)]

    attempt = ledger.begin(
        step, resolved.ready, run_id, resolved.pins, lineage_events=started,
        sources=source_reads(step, resolved.ready, known), batch=None if chunk is None else chunk.batch,
    )  # fmt: skip
    failpoint("attempt.begun")
    try:
        directory = backends.offline.attempt_directory(step.view, attempt.generation, attempt.id)
        backends.engine.expect([backends.offline.full_path(directory)], backends.offline.filesystem)
        tiles = _read_tiles(backends, attempt, known, () if chunk is None else chunk.among)
        refuse_used_directory(backends, directory, attempt.id)
        backends.offline.prepare_directory(directory)
        files = list(_write_files(backends, attempt, resolved, tiles, progress))
    except Exception as error:
        message = str(error) if isinstance(error, FStoreError) else f"{type(error).__name__}: {error}"
        ledger.fail(attempt.id, message, lineage_events=[build("FAIL", attempt, parent=parent, error=message)])
        raise
    failpoint("compute.written")
    ledger.record_files(attempt.id, files, pins=tiles.pins)
    failpoint("compute.recorded")
    return Computed(
        attempt=attempt.id,
        intervals=resolved.ready,
        missing=resolved.missing,
        rows=sum(file.rows for file in files),
        ignored_rows=tiles.ignored_rows,
        made_rows=tiles.made_rows,
    )


def _read_tiles(backends: Backends, attempt: Attempt, known: Mapping[str, int], among: Sequence[Interval]) -> TilesRead:
    """Return the tiles that an attempt reads, after making those that nobody has made."""
    sets = tile_sets(attempt.step)
    if not sets:
        return NO_TILES
    reader = TileReader(
        backends, project=attempt.step.project, run_id=f"{attempt.run_id}/{attempt.view}", known=known, among=among
    )
    source = sets[0].events.source
    first = first_event(backends, source) if any(tiles.back is None for tiles in sets) else None
    return reader.read(sets, attempt.intervals, first)


def _write_files(
    backends: Backends, attempt: Attempt, resolved: ResolvedInputs, tiles: TilesRead, progress: Progress | None
) -> Iterator[DataFile]:
    step = attempt.step
    writer = FileWriter(backends, step, backends.offline.attempt_directory(attempt.view, attempt.generation, attempt.id))
    match step:
        case AggregateStep():
            yield writer.write_query(
                _range_query(step, resolved.ready, tiles), Interval(resolved.ready[0].start, resolved.ready[-1].end)
            )
            if progress:
                progress(len(resolved.ready), len(resolved.ready))
        case CompositeStep():
            own = None if step.own is None else _range_query(step.own, resolved.ready, tiles)
            query = composite_query(backends, step, resolved, resolved.ready, own)
            yield writer.write_query(query, Interval(resolved.ready[0].start, resolved.ready[-1].end))
            if progress:
                progress(len(resolved.ready), len(resolved.ready))
        case SqlStep() | PythonStep():
            for done, interval in enumerate(resolved.ready, start=1):
                for batch in _interval_batches(backends, step, resolved, interval):
                    yield from writer.add(batch, interval)
                if progress:
                    progress(done, len(resolved.ready))
            yield from writer.finish()
        case _:
            assert_never(step)


def _range_query(step: AggregateStep, intervals: Sequence[Interval], tiles: TilesRead) -> Query:
    """Return the one query that computes all intervals of a windowed view."""
    return Query(
        sql=step.sql if len(intervals) > 1 else step.single_sql,
        relations={**tiles.relations, "intervals": IntervalsRelation(intervals=tuple(intervals))},
    )


def _interval_batches(
    backends: Backends, step: SqlStep | PythonStep, resolved: ResolvedInputs, interval: Interval
) -> Iterator[pa.Table]:
    """Yield the rows of one interval with the step's columns, cut to the interval."""
    relations = relations_for(backends, step, resolved, interval)
    parameters = {"start": interval.start, "end": interval.end}
    match step:
        case SqlStep():
            used = {name: value for name, value in parameters.items() if name in step.parameters}
            with backends.engine.read(Query(sql=step.sql, relations=relations, parameters=used)) as reader:
                yield conform(reader.schema.empty_table(), step, interval)  # an interval without rows is computed as well
                for batch in reader:
                    yield conform(pa.table(batch), step, interval)
        case PythonStep():
            for table in python_tables(backends, step, relations, interval):
                yield conform(table, step, interval)
        case _:
            assert_never(step)


def conform(table: pa.Table, step: Step, interval: Interval) -> pa.Table:
    """Return a view's output with exactly the published columns and types, cut to the interval.

    Snapshot views get ``event_timestamp`` set to the interval's end. Raises OutputMismatch for columns that are missing or
    not declared, values that do not fit their type, and null keys.
    """
    schema = arrow_schema(step.columns())
    if step.kind == "snapshot" and EVENT_TIMESTAMP not in table.column_names:
        table = table.append_column(EVENT_TIMESTAMP, pa.repeat(_instant(interval.end), table.num_rows))
    _check_columns(step, table.column_names, schema.names)
    if isinstance(step, PythonStep):
        _refuse_naive(step, table, schema)
    columns = [_cast(step, table[field.name], field) for field in schema]
    result = pa.table(columns, schema=schema)
    for key in step.keys:
        if result[key.name].null_count:
            raise OutputMismatch(
                f"{_subject(step)} gave {result[key.name].null_count} row(s) with a null in key {key.name!r} for interval "
                f"{interval}; a row without a key describes nothing: leave such rows out",
                view=step.view,
            )
    times = result[EVENT_TIMESTAMP]
    if (
        step.kind == "snapshot"
        and not pc.all(pc.equal(times, _instant(interval.end)), skip_nulls=False, min_count=0).as_py()
    ):
        raise OutputMismatch(
            f"{_subject(step)} gave times of its own in {EVENT_TIMESTAMP!r} for interval {interval}, and a snapshot view "
            f'describes the interval\'s end. Leave the column out, or declare `{EVENT_TIMESTAMP} = feature("timestamp")` '
            "to make it an event view.",
            view=step.view,
        )
    if step.kind == "event":
        inside = pc.and_(pc.greater_equal(times, _instant(interval.start)), pc.less(times, _instant(interval.end)))
        result = result.filter(inside)
    return result


class FileWriter:
    """Writes an attempt's files; collects rows of consecutive intervals until there are enough for one."""

    def __init__(self, backends: Backends, step: Step, directory: str, *, prefix: str = "part") -> None:
        self._backends, self._step, self._directory, self._prefix = backends, step, directory, prefix
        self._schema = arrow_schema(step.columns())
        self._tables: list[pa.Table] = []
        self._range: Interval | None = None
        self._parts = 0

    def add(self, table: pa.Table, interval: Interval) -> Iterator[DataFile]:
        """Take rows of an interval, and yield the file written if it was time for one."""
        self._tables.append(table)
        self._range = Interval(self._range.start if self._range else interval.start, interval.end)
        if sum(held.num_rows for held in self._tables) >= CHUNK_ROWS:
            yield from self.finish()

    def finish(self) -> Iterator[DataFile]:
        """Write what is held."""
        if self._range is None:
            return
        rows = pa.concat_tables(self._tables) if self._tables else self._schema.empty_table()
        query = Query(sql="SELECT * FROM rows", relations={"rows": ArrowRelation(table=rows)})
        held, self._tables, self._range = self._range, [], None
        yield self.write_query(query, held)

    def write_query(self, query: Query, held: Interval) -> DataFile:
        """Write the result of a query, sorted by time and key, as the next file; ``held`` is the range of its intervals."""
        path = f"{self._directory}/{self._prefix}-{self._parts:05d}.parquet"
        self._parts += 1
        with self._backends.offline.writing(path) as local:
            written = self._backends.engine.write(query, local, schema=self._schema, sort_by=_sort_order(self._step))
            checksum = file_checksum(local)
        return DataFile(
            path=path,
            rows=written.rows,
            bytes=written.bytes,
            start=held.start,
            end=held.end,
            schema_id=schema_id(self._schema),
            checksum=checksum,
        )


def _sort_order(step: Step) -> list[str]:
    return [EVENT_TIMESTAMP, *(key.name for key in step.keys)]


def _check_columns(step: Step, found: Sequence[str], wanted: Sequence[str]) -> None:
    missing = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in wanted]
    if missing or extra or len(set(found)) != len(found):
        raise OutputMismatch(
            f"{_subject(step)} gave the columns {', '.join(found)}; declared are {', '.join(wanted)}."
            + (f" Missing: {', '.join(missing)}." if missing else "")
            + (f" Not declared: {', '.join(extra)}; add `{extra[0]} = feature(…)` or leave it out." if extra else ""),
            view=step.view,
        )


def _refuse_naive(step: Step, table: pa.Table, schema: pa.Schema) -> None:
    """Raise OutputMismatch for times without a zone where instants are declared: nobody can know which they are."""
    for field in schema:
        given = table[field.name].type
        if pa.types.is_timestamp(field.type) and pa.types.is_timestamp(given) and given.tz is None:
            raise OutputMismatch(
                f"{_subject(step)} gave column {field.name!r} as {given}, times without a zone; instants are declared. "
                'Give it a zone, as in pa.timestamp("us", tz="UTC").',
                view=step.view,
            )


def _cast(step: Step, column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    try:
        return declared_column(column, field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise OutputMismatch(
            f"{_subject(step)} gave column {field.name!r} as {column.type}, which does not fit the declared type "
            f"{field.type}: {error}",
            view=step.view,
        ) from None


def _subject(step: Step) -> str:
    return f"view {step.view!r} ({step.module}:{step.line})"


def _instant(instant: datetime) -> pa.Scalar:
    return pa.scalar(instant, pa.timestamp("us", tz="UTC"))


def not_ready(step: Step, missing: Sequence[MissingInput]) -> str:
    """Return the message of a step of which no interval can be computed yet."""
    first = missing[0]
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    return (
        f"{_subject(step)} cannot be computed for {first.interval}: it reads {first.view!r} of {first.upstream}{more}, "
        f"which is not published. Compute that first: `fstore run --select {first.view}`, or select `+{step.view}`."
    )
