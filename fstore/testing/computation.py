"""Compute a view over rows in memory: the real plan, the real engine, and rows in the place of sources and other views.

Every source that the view reads becomes a Parquet file of the rows given for it, so that the engine cuts it as it cuts the
real one. Of other views the rows are what they have published. The plan is compiled once per view and column types.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import assert_never

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from fstore.arrow import TIMESTAMP, arrow_schema
from fstore.definitions.feature_view import View, feature_names
from fstore.definitions.project import Project
from fstore.definitions.source import CompositeSource, ParquetSource, Source
from fstore.engines.engine import (
    ArrowRelation,
    DimensionRelation,
    EventRelation,
    IntervalsRelation,
    Query,
    Relation,
)
from fstore.errors import DefinitionErrors, did_you_mean, listing
from fstore.interval import Interval
from fstore.plan.steps import (
    EVENT_TIMESTAMP,
    AggregateStep,
    CompositeStep,
    DimensionInput,
    EventInput,
    HistoryInput,
    PythonStep,
    SnapshotInput,
    SqlStep,
    Step,
    StepInput,
)
from fstore.plan.tile_queries import over_events
from fstore.runtime.compute import conform
from fstore.runtime.inputs import event_relation, required_upstream
from fstore.runtime.preparation import compile_with_types, problems_of
from fstore.runtime.python_views import call_function
from fstore.testing.declared import DeclaredView
from fstore.testing.rows import RowError, Rows, check_rows, column_types, rows_table
from fstore.testing.session import Session, current_session
from fstore.testing.upstream import with_typed_upstream
from fstore.types import Column

GUESSES = ("float64", "string", "timestamp")
"""The types that are tried, one for all, for columns that nothing says the type of."""


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of a test: of the view's own source, and of what else it reads, by alias or by the view's name."""

    rows: Rows | None
    inputs: dict[str, Rows]


def compute_rows(
    declared: DeclaredView, given: Given, interval_of: Callable[[Step], Interval]
) -> tuple[Step, list[dict[str, object]]]:
    """Return a view's step and its rows for an interval, sorted by key and time."""
    session = current_session()
    view = declared.project.views[declared.view]
    relations = _Relations(session, declared.project, view, given)
    try:
        step = _compile(session, declared, view, relations)
        interval = interval_of(step)
        tables = list(_tables(session, declared, step, interval, relations))
        table = pa.concat_tables([conform(table, step, interval) for table in tables])
        order = [(key.name, "ascending") for key in step.keys]
        rows = table.sort_by([*order, (EVENT_TIMESTAMP, "ascending")])
        return step, rows.to_pylist(maps_as_pydicts="strict")
    finally:
        relations.remove_files()


def _compile(session: Session, declared: DeclaredView, view: View, relations: _Relations) -> Step:
    """Return the step over the types that the rows have; those that nothing says are guessed."""
    types, unknown = relations.types()
    problems: list[Exception] = []
    for guess in GUESSES if unknown else GUESSES[:1]:
        schemas = {name: {**columns, **dict.fromkeys(unknown.get(name, ()), guess)} for name, columns in types.items()}
        upstream = relations.upstream_types(guess)
        key = (declared.key, msgspec.json.encode([schemas, upstream]))

        def compile_(schemas: Mapping[str, Mapping[str, str]] = schemas, upstream: _Types = upstream) -> Step:
            project = with_typed_upstream(relations.project(), view, schemas, upstream)
            plan = compile_with_types(session.engine, project, schemas, views={view.name})
            found = next((step for step in plan.steps if step.view == view.name), None)
            if found is None:
                raise DefinitionErrors([problem.as_error() for problem in problems_of(plan, [view.name])])
            if untyped := [feature.name for feature in found.features if feature.type is None]:
                raise RowError(
                    f"the types of {listing(untyped)} of view {view.name!r} are unknown: give a row with a value in every "
                    "column that they are made of, or declare the schema of the source."
                )
            return found

        try:
            return session.step(key, compile_)
        except (DefinitionErrors, RowError) as error:
            problems.append(error)
    raise problems[0]


def _tables(
    session: Session, declared: DeclaredView, step: Step, interval: Interval, given: _Relations
) -> Iterator[pa.Table]:
    match step:
        case AggregateStep():
            yield _read(session, _aggregates(step, interval, given))
        case CompositeStep():
            yield _read(session, _composite(step, interval, given))
        case SqlStep():
            parameters = {"start": interval.start, "end": interval.end}
            used = {name: value for name, value in parameters.items() if name in step.parameters}
            relations = {item.alias: given.relation(item, interval) for item in step.inputs}
            yield _read(session, Query(sql=step.sql, relations=relations, parameters=used))
        case PythonStep():
            tables = {
                item.alias: _read(
                    session,
                    Query(sql=f'SELECT * FROM "{item.alias}"', relations={item.alias: given.relation(item, interval)}),
                )
                for item in step.inputs
            }
            yield call_function(declared.function(), tables, step, interval)
        case _:
            assert_never(step)


def _aggregates(step: AggregateStep, interval: Interval, given: _Relations) -> Query:
    (item,) = (item for item in step.inputs if isinstance(item, EventInput))
    events = given.events(item, interval, [key.name for key in step.keys])
    return Query(
        sql=over_events(step.tiles, step.single_sql),
        relations={"events": events, "intervals": IntervalsRelation(intervals=(interval,))},
    )


def _composite(step: CompositeStep, interval: Interval, given: _Relations) -> Query:
    own = _aggregates(step.own, interval, given) if step.own else None
    relations: dict[str, Relation] = dict(own.relations) if own else {}
    for number, item in enumerate(item for item in step.inputs if isinstance(item, SnapshotInput)):
        relations[item.alias] = given.relation(item, interval)
        ends = [(interval.end, read.end) for read in required_upstream(item, interval)]
        relations[f"ends{number}"] = ArrowRelation(
            table=pa.table(
                {
                    "interval_end": pa.array([end for end, _ in ends], TIMESTAMP),
                    "snapshot_end": pa.array([end for _, end in ends], TIMESTAMP),
                }
            )
        )
    sql = step.sql if own is None else f"WITH own AS MATERIALIZED (\n{own.sql}\n)\nSELECT * FROM (\n{step.sql}\n)"
    return Query(sql=sql, relations=relations)


def _read(session: Session, query: Query) -> pa.Table:
    with session.engine.read(query) as reader:
        return reader.read_all()


_Types = dict[str, dict[str, str]]


class _Relations:
    """The rows of a test as relations of the engine, and the types of their columns."""

    def __init__(self, session: Session, project: Project, view: View, given: Given) -> None:
        self._session, self._project, self._view = session, project, view
        self._tables: dict[str, pa.Table] = {}
        self._files: dict[str, str] = {}
        self._rows = self._by_alias(given)

    def _by_alias(self, given: Given) -> dict[str, Rows]:
        """Return all rows by what the step calls their relation, or report what is missing or means nothing."""
        view = self._view
        known = [item.alias for item in view.inputs] or self._bound_views()
        for name in given.inputs:
            if name not in known:
                raise RowError(f"view {view.name!r} reads no {name!r}, only {listing(known)}.{did_you_mean(name, known)}")
        rows = dict(given.inputs)
        if view.source is not None:
            if given.rows is None:
                raise RowError(f"view {view.name!r} aggregates source {view.source!r}: give its events as rows=[…].")
            rows["events"] = given.rows
        elif given.rows is not None:
            raise RowError(
                f"view {view.name!r} has no source: give the rows of what it reads as inputs={{{known[0]!r}: […]}}."
            )
        for one in rows.values():
            check_rows(one)
        if missing := [name for name in known if name not in rows]:
            raise RowError(f"view {view.name!r} reads {listing(missing)}: give {missing[0]!r} rows, or none, in inputs.")
        return rows

    def _bound_views(self) -> list[str]:
        """Return the names of the other views whose features the view's expressions read."""
        bound = (item for member in self._view.members.values() for item in getattr(member, "features", {}).values())
        return list(dict.fromkeys(item.view for item in bound))

    def _sources(self) -> dict[str, Source]:
        """Return what stands in the place of sources, by alias."""
        named = {item.alias: item.name for item in self._view.inputs if item.kind == "source"}
        if self._view.source is not None:
            named["events"] = self._view.source
        return {alias: _stand_in(self._project.sources[name]) for alias, name in named.items()}

    def project(self) -> Project:
        """Return the project with every source that the view reads replaced by the rows given for it."""
        sources = {**self._project.sources, **{source.name: source for source in self._sources().values()}}
        return msgspec.structs.replace(self._project, sources=sources)

    def types(self) -> tuple[_Types, dict[str, list[str]]]:
        """Return the types of the sources' columns, and the columns that nothing says the type of."""
        types: _Types = {}
        unknown: dict[str, list[str]] = {}
        for alias, source in self._sources().items():
            table = self._table(alias, source)
            if not table.num_columns:
                raise RowError(
                    f"there are no rows for {alias!r}, and source {source.name!r} declares no schema, so its columns are "
                    "unknown: give a row, or declare the schema."
                )
            known = types.setdefault(source.name, {})
            known.update(column_types(table))
            unknown[source.name] = [name for name in table.column_names if name not in known]
        return types, {name: columns for name, columns in unknown.items() if columns}

    def upstream_types(self, guess: str) -> _Types:
        """Return the types of the features of other views, by view, as far as the rows or declarations say them."""
        aliases = {item.alias: item.name for item in self._view.inputs if item.kind == "view"}
        types: _Types = {}
        for alias, name in aliases.items() if aliases else [(name, name) for name in self._bound_views()]:
            upstream = self._project.views[name]
            table = rows_table(self._rows[alias], {})
            names = [
                made for attribute, member in upstream.members.items() for made in feature_names(attribute, member).values()
            ]
            found = column_types(table)
            types.setdefault(name, {}).update({feature: found.get(feature, guess) for feature in names})
        return types

    def _table(self, alias: str, source: Source) -> pa.Table:
        if alias not in self._tables:
            original = self._project.sources[source.name]
            renamed = {} if isinstance(original, CompositeSource) else original.renamed
            declared = {} if isinstance(source, CompositeSource) else dict(source.schema or {})
            rows = [{renamed.get(name, name): value for name, value in row.items()} for row in self._rows[alias]]
            times = [name for name in (source.event_time, source.updated_at) if name]
            entity = self._project.entities[self._view.entity]
            keys = {key: type_ for key, type_ in entity.join_keys.items() if any(key in row for row in rows)}
            naive = getattr(source, "timezone", None) is not None
            self._tables[alias] = rows_table(rows, declared or keys, times, naive=naive)
        return self._tables[alias]

    def _read_from(self, alias: str, source: Source) -> Source:
        """Return the stand-in of a source with the file of its rows, which is written when it is first read."""
        stand_in = _stand_in(source)
        if alias not in self._files:
            path = self._session.file()
            table = self._table(alias, stand_in)
            nothing = [name for name in table.column_names if pa.types.is_null(table[name].type)]
            for name in nothing:
                table = table.set_column(table.column_names.index(name), name, table[name].cast(pa.float64()))
            pq.write_table(table, path)
            self._files[alias] = str(path)
        return msgspec.structs.replace(stand_in, path=self._files[alias], schema=None)

    def events(self, item: EventInput, interval: Interval, keys: list[str]) -> Relation:
        """Return the events of the view's own source."""
        relation = event_relation(item, interval.end, interval.end, keys)
        return msgspec.structs.replace(relation, source=self._read_from("events", self._project.sources[item.source.name]))

    def relation(self, item: StepInput, interval: Interval) -> Relation:
        """Return what an input shows to an interval."""
        match item:
            case EventInput():
                start = None if item.window is None else interval.end - item.window
                source = self._read_from(item.alias, self._project.sources[item.source.name])
                return EventRelation(source=source, start=start, end=interval.end, columns=item.columns)
            case DimensionInput():
                source = self._read_from(item.alias, self._project.sources[item.source.name])
                return DimensionRelation(source=source, end=interval.end)
            case SnapshotInput() | HistoryInput():
                return ArrowRelation(table=self._published(item, interval))

    def _published(self, item: SnapshotInput | HistoryInput, interval: Interval) -> pa.Table:
        """Return the rows given for another view, with their times: the end of the snapshot where a row has none."""
        columns = (*item.keys, Column(name=EVENT_TIMESTAMP, type="timestamp"), *item.features)
        read = required_upstream(item, interval)
        alias = item.alias if item.alias in self._rows else item.view
        rows = [{EVENT_TIMESTAMP: read[-1].end if read else None, **row} for row in self._rows[alias]]
        known = [column.name for column in columns]
        for number, row in enumerate(rows, start=1):
            if extra := [name for name in row if name not in known]:
                raise RowError(
                    f"row {number} of {alias!r} has {extra[0]!r}, which view {item.view!r} does not have: {listing(known)}."
                    f"{did_you_mean(str(extra[0]), known)}"
                )
        declared = {column.name: column.type for column in columns}
        return rows_table(rows, declared).select(known).cast(arrow_schema(columns))

    def remove_files(self) -> None:
        """Remove the files of the rows."""
        for path in self._files.values():
            self._session.remove(path)


def _stand_in(source: Source) -> ParquetSource:
    """Return a source of Parquet files with the columns of another one as it shows them."""
    if isinstance(source, CompositeSource):
        return ParquetSource(source.name, path="rows", event_time=source.event_time, location=source.location)
    renamed = source.renamed
    keys = None if source.event_time is not None else list(source.keys or ())
    schema = {renamed.get(name, name): type_ for name, type_ in source.schema.items()} if source.schema else None
    return ParquetSource(
        source.name, path="rows", keys=keys, static=source.static, timezone=source.timezone, schema=schema,
        event_time=None if source.event_time is None else renamed.get(source.event_time, source.event_time),
        updated_at=None if source.updated_at is None else renamed.get(source.updated_at, source.updated_at),
        lag=source.lag, location=source.location,
    )  # fmt: skip
