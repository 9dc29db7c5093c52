"""Every kind of source as a view: files and copied tables directly, sources made of others through their members.

Takes relations of sources and gives views; runs SQL only to find out the columns of a composite source, to guard what its
author wrote, and to make the pieces of one whose SQL does not work row by row (see ``fstore.plan.source_pieces``).
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from fstore.definitions.source import CompositeSource, PhysicalSource, PostgresSource, Source, SqlSource, physical_sources
from fstore.engines.duckdb_composites import Bounds, composite_rows, cut, piece, pieces_of, sql_view, union_names, union_view
from fstore.engines.duckdb_physical import dimension_rows, ignored_rows, physical_events
from fstore.engines.duckdb_sources import SourceReader
from fstore.engines.duckdb_types import instant_literal, logical_type, quoted, text_literal
from fstore.engines.duckdb_views import View
from fstore.engines.engine import DimensionRelation, EventRelation, Relation
from fstore.engines.source_files import source_error
from fstore.errors import ComputeError, NaiveTimestamp, SourceError, SourceSchemaDrift, SourceSqlError
from fstore.interval import EPOCH, Interval, format_duration
from fstore.plan.binding import first_lines
from fstore.plan.source_pieces import piece_length, source_inputs
from fstore.types import parse_type

RunView = Callable[[Mapping[str, View], str, str], list[tuple[object, ...]]]
"""Runs trusted SQL over views; the last argument is a directory that it may write to."""

CheckSql = Callable[[str, Sequence[str], Sequence[str]], frozenset[str]]
"""Raises ComputeError unless SQL is one SELECT over the given relations with the given parameters."""

MAX_PIECES = 20_000
"""How many pieces one read may take: what takes more has windows that are no whole multiples of anything long."""


class Sources:
    """Makes views of sources. Remembers what it found out for as long as the files do not change."""

    def __init__(self, reader: SourceReader, spill_dir: str, run: RunView, check: CheckSql) -> None:
        self._reader, self._run, self._check = reader, run, check
        self._directory = Path(spill_dir) / "pieces"
        self._columns: dict[bytes, dict[str, str]] = {}

    def columns(self, source: Source) -> dict[str, str]:
        """Return the columns of a source and their logical types as text."""
        if isinstance(source, PostgresSource) and source.schema:  # declared: nothing has to be copied to know it
            return {source.renamed.get(name, name): str(parse_type(text)) for name, text in source.schema.items()}
        if isinstance(source, PhysicalSource):
            return dict(self._reader.scan(source).columns)
        key = self._signature(source)
        if key not in self._columns:
            self._columns[key] = self._described(source)
        return self._columns[key]

    def event_view(self, alias: str, relation: EventRelation) -> View:
        """Return the events that a relation shows."""
        return self._events(alias, relation, null_keys=False)

    def ignored_view(self, alias: str, relation: EventRelation) -> View:
        """Return the events in the relation's range of time that it leaves out for a null in a key."""
        return self._events(alias, relation, null_keys=True)

    def dimension_view(self, alias: str, relation: DimensionRelation) -> View:
        """Return the newest row per key that a relation shows."""
        if not isinstance(relation.source, PhysicalSource):
            raise source_error(SourceError, relation.source, "gives events, so it cannot be read as a dimension.")
        return dimension_rows(alias, relation, self._reader.scan(relation.source))

    # -- composites ---------------------------------------------------------------------------------------------------

    def _events(self, alias: str, relation: EventRelation, *, null_keys: bool) -> View:
        source = relation.source
        if source.event_time is None:
            raise source_error(SourceError, source, "has no event_time, so its rows are not events: read it as a dimension.")
        if isinstance(source, PhysicalSource):
            scan = self._reader.scan(source)
            return ignored_rows(alias, relation, scan) if null_keys else physical_events(alias, relation, scan)
        columns = self.columns(source)
        bounds = (relation.start, relation.end)
        rows = composite_rows(alias, source, bounds, self._member, self.columns, self._make_pieces)
        return cut(rows, relation, columns, null_keys=null_keys)

    def _member(self, alias: str, relation: Relation) -> View:
        match relation:
            case EventRelation():
                return self.event_view(alias, relation)
            case DimensionRelation():
                return self.dimension_view(alias, relation)
            case _:
                raise TypeError(f"not a relation of a source: {relation!r}")

    def _described(self, source: CompositeSource) -> dict[str, str]:
        """Ask DuckDB for the columns of a composite, after guarding the SQL that its author wrote."""
        self._guard(source)
        bounds = (None, EPOCH)
        if isinstance(source, SqlSource):
            view = sql_view("described", source, bounds, self._member)
        else:
            view = union_view("described", source, bounds, self._member, self.columns)
        with _refusals_of(source):
            rows = self._run({"described": view}, "DESCRIBE described", "")
        columns = {str(row[0]): str(row[1]) for row in rows}
        self._check_columns(source, columns)
        return {name: logical_type(type_) for name, type_ in columns.items()}

    def _guard(self, source: CompositeSource) -> None:
        if isinstance(source, SqlSource):
            self._check_written(source, source.sql, list(source.inputs))
            return
        for member in source.sources:
            written = source.columns.values() if isinstance(source.columns, dict) else ()
            for sql in (expressions[member.name] for expressions in written if member.name in expressions):
                self._check_written(source, f"SELECT (\n{sql}\n) FROM m", ["m"])
        union_names(source, self.columns)

    def _check_written(self, source: CompositeSource, sql: str, relations: Sequence[str]) -> None:
        with _refusals_of(source):
            self._check(sql, relations, [])

    def _check_columns(self, source: CompositeSource, columns: Mapping[str, str]) -> None:
        """Raise where columns cannot be told apart, times have no zone, or the event time is no instant."""
        lower = [name.lower() for name in columns]
        time = source.event_time.lower()
        if time not in lower:
            raise source_error(
                SourceSchemaDrift,
                source,
                f"has event_time {source.event_time!r}, which is not a column that its SQL gives: {', '.join(columns)}",
            )
        naive = [name for name, type_ in columns.items() if type_.startswith("TIMESTAMP") and "ZONE" not in type_]
        dates = [name for name, type_ in columns.items() if type_ == "DATE" and name.lower() == time]
        if naive or dates:
            names = ", ".join(map(repr, (*naive, *dates)))
            raise source_error(
                NaiveTimestamp,
                source,
                f"gives times without a zone: {names}. Say in its SQL which zone they are in: timezone('UTC', …).",
            )
        type_ = next(type_ for name, type_ in columns.items() if name.lower() == time)
        if logical_type(type_) != "timestamp":
            raise source_error(
                SourceSchemaDrift,
                source,
                f"has event_time {source.event_time!r} of type {logical_type(type_)}; expected a timestamp. Convert it in "
                "its SQL, or name another column.",
            )

    def _signature(self, source: CompositeSource) -> bytes:
        """Return what changes whenever the definition or a file of a source does."""
        files = [self._reader.listing(member) for member in physical_sources(source)]
        return hashlib.sha256(msgspec.json.encode((source, files), order="sorted")).digest()

    # -- pieces -------------------------------------------------------------------------------------------------------

    def _edge(self, source: SqlSource, function: str) -> datetime | None:
        """Return the first or last instant of the events that the SQL of a source reads; None when there is none."""
        found: list[datetime] = []
        latest = datetime.max.replace(tzinfo=UTC)
        for item in source_inputs(source):
            if item.source.is_dimension:
                continue
            time = item.source.event_time or ""
            relation = EventRelation(source=item.source, start=None, end=latest, columns=(time,))
            view = self.event_view(f"edge__{item.alias}", relation)
            ((instant,),) = self._run({"edge": view}, f"SELECT {function}({quoted(time)}) FROM edge", "")
            if isinstance(instant, datetime):
                found.append(instant.astimezone(UTC))
        return (min(found) if function == "min" else max(found)) if found else None

    def _make_pieces(self, source: SqlSource, bounds: Bounds) -> list[str]:
        """Run the SQL of a source for each piece that can have rows and was not made yet; return the files."""
        length = piece_length(source)
        assert length is not None, "only such a source has pieces"
        numbers = self._possible(source, bounds, length)
        if len(numbers) > MAX_PIECES:
            raise source_error(
                SourceError,
                source,
                f"would run in {len(numbers)} pieces of {format_duration(length)} for this read, and {MAX_PIECES} are the "
                "limit. Make the windows of its inputs whole multiples of a longer duration, such as 1h or 1d.",
            )
        directory = self._directory / self._signature(source).hex()[:32]
        directory.mkdir(parents=True, exist_ok=True)
        paths = []
        for number in numbers:
            path = directory / f"{number}.parquet"
            if not path.exists():
                self._make_piece(source, piece(length, number), path)
            paths.append(str(path))
        return paths

    def _possible(self, source: SqlSource, bounds: Bounds, length: timedelta) -> range:
        """Return the pieces within the bounds for which the SQL sees an event at all."""
        first, last = self._edge(source, "min"), self._edge(source, "max")
        if first is None or last is None:
            return range(0)
        start, end = bounds
        backs = [item.back for item in source_inputs(source) if not item.source.is_dimension]
        try:
            if None not in backs:
                end = min(end, last + max(back for back in backs if back is not None) + length)
        except OverflowError:
            pass
        return pieces_of(length, first if start is None else max(start, first), end)

    def _make_piece(self, source: SqlSource, time_range: Interval, path: Path) -> None:
        view = sql_view("piece", source, (time_range.start, time_range.end), self._member)
        time = quoted(source.event_time)
        within = f"{time} >= {instant_literal(time_range.start)} AND {time} < {instant_literal(time_range.end)}"
        writing = path.with_suffix(f".writing-{threading.get_ident()}")
        copy = f"COPY (SELECT * FROM piece WHERE {within}) TO {text_literal(str(writing))} (FORMAT parquet)"
        self._run({"piece": view}, copy, str(path.parent))
        writing.rename(path)


@contextlib.contextmanager
def _refusals_of(source: CompositeSource) -> Iterator[None]:
    """Turn what the engine has against the SQL of a source into an error of the source; what may pass later stays."""
    try:
        yield
    except ComputeError as error:
        if error.retryable:
            raise
        problem = f"has SQL that the engine refuses: {first_lines(str(error))}"
        raise source_error(SourceSqlError, source, problem) from error
