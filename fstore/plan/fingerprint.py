"""Fingerprints: whether a feature still means the same.

A fingerprint covers what decides a feature's values: its function or SQL, window and fill, the source's identity, the keys,
the schedule with its zone, and the fingerprints of what it is derived from. It leaves out what does not: lag, ttl, start and
end, checks, descriptions, owners, tags and the place in a file; nor does it cover types that are merely read from data, so
that it is the same before and after the schemas are recorded. SQL counts by its tokens, so reformatting changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from datetime import timedelta

import msgspec

from fstore.definitions.aggregation import LIFETIME, MAX_CATEGORIES, MAX_VALUES, Aggregation
from fstore.definitions.feature_view import PythonFunction
from fstore.definitions.source import CsvSource, PostgresSource, Source, SqlSource, UnionSource, WindowedSource
from fstore.interval import MICROSECOND, Schedule, format_duration, parse_duration
from fstore.plan.canonical import canonical_python, canonical_sql
from fstore.plan.steps import (
    AggregateStep,
    DimensionInput,
    EventInput,
    HistoryInput,
    SnapshotInput,
    Step,
    StepInput,
    fingerprint_of,
)
from fstore.types import Column


class ViewIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """What all features of a view have in common: its name, keys and grid of intervals, and whether it has own times."""

    name: str
    keys: tuple[Column, ...]
    schedule: Schedule
    kind: str

    @property
    def parts(self) -> tuple[object, ...]:
        """The identity as JSON-like values."""
        keys = [[key.name, key.type] for key in self.keys]
        return (self.name, keys, self.schedule.cron, self.schedule.timezone, self.kind)


def source_identity(source: Source) -> list[object]:
    """Return what decides the rows that a source gives. Its name, lag and description do not."""
    match source:
        case SqlSource():
            inputs = [[alias, _member_identity(item)] for alias, item in sorted(source.inputs.items())]
            return ["sql", canonical_sql(source.sql), source.event_time, inputs]
        case UnionSource():
            members = [[item.name, source_identity(item)] for item in source.sources]
            return ["union", members, _union_columns(source), source.event_time]
        case _:
            pass
    keys = sorted(source.keys.items()) if isinstance(source.keys, dict) else source.keys
    schema = sorted(source.schema.items()) if source.schema else None
    fields = [source.event_time, keys, source.updated_at, source.static, source.timezone, schema]
    if isinstance(source, PostgresSource):
        query = None if source.query is None else canonical_sql(source.query)
        return ["postgres", source.connection, source.table, query, *fields, source.unique_key, source.deleted]
    if isinstance(source, CsvSource):
        return ["csv", source.path, *fields, source.delimiter, source.null]
    return ["parquet", source.path, *fields]


def source_key(source: Source) -> str:
    """Return a short text that identifies what a source gives; sources that give the same rows have the same."""
    return fingerprint_of("source", source_identity(source))


def _member_identity(item: Source | WindowedSource) -> list[object]:
    if isinstance(item, WindowedSource):
        return ["window", item.window, source_identity(item.source)]
    return source_identity(item)


def _union_columns(source: UnionSource) -> object:
    if not isinstance(source.columns, dict):
        return source.columns
    return [
        [name, sorted((member, canonical_sql(sql)) for member, sql in expressions.items())]
        for name, expressions in source.columns.items()
    ]


def aggregate_fingerprint(
    view: ViewIdentity, source: Source, name: str, member: Aggregation, window: timedelta | None
) -> str:
    """Return the fingerprint of an aggregate over a window (None: a lifetime), as declared: before names were resolved."""
    texts = (member.argument, member.where, member.by, member.order_by)
    sql = [None if text is None else canonical_sql(text) for text in texts]
    durations = [
        None if text is None else format_duration(parse_duration(text)) for text in (member.offset, member.half_life)
    ]
    limit = member.limit
    if limit is None:
        limit = MAX_CATEGORIES if member.by is not None else MAX_VALUES if member.function == "distinct" else None
    covered = LIFETIME if window is None else format_duration(window)
    parameters = [limit, [float(edge) for edge in member.edges], member.percentile, *durations]
    own = [name, member.function, *sql, covered, *parameters, member.fill_value]
    return fingerprint_of("aggregate", view.parts, source_identity(source), own)


def expression_fingerprint(view: ViewIdentity, name: str, sql: str, references: Mapping[str, str]) -> str:
    """Return the fingerprint of an expression over features with the given names and fingerprints."""
    return fingerprint_of("expression", view.parts, name, canonical_sql(sql), sorted(references.items()))


def input_identity(item: StepInput, upstream: Mapping[str, Step], names: Set[str] | None) -> list[object]:
    """Return what decides the rows of an input.

    ``upstream`` maps views to their steps. ``names`` are the lower-case names that the reader can mean, None when it can
    mean all: of a view of aggregates only features among them count, so that adding one changes no reader that does not
    read it, unless it widens the windows and with them the keys that have a row.
    """
    match item:
        case EventInput():
            window = None if item.window is None else format_duration(item.window)
            return ["events", item.alias, source_identity(item.source), window]
        case DimensionInput():
            return ["dimension", item.alias, source_identity(item.source)]
        case SnapshotInput() | HistoryInput():
            kind = "snapshot" if isinstance(item, SnapshotInput) else "history"
            return [kind, item.alias, item.view, _view_identity(upstream[item.view], names)]


def _view_identity(step: Step, names: Set[str] | None) -> list[object]:
    if names is None or not isinstance(step, AggregateStep):
        return [step.fingerprint]
    (events,) = (input_identity(item, {}, None) for item in step.inputs)
    identity = ViewIdentity(name=step.view, keys=step.keys, schedule=step.schedule, kind=step.kind)
    read = sorted((feature.name, feature.fingerprint) for feature in step.features if feature.name.lower() in names)
    nearest = [item.edges[0] // MICROSECOND for item in step.tiles[:1]]
    return [identity.parts, events, nearest, read]


def sql_fingerprint(view: ViewIdentity, name: str, type: str, sql: str, inputs: Sequence[list[object]]) -> str:
    """Return the fingerprint of an output column of a SELECT."""
    return fingerprint_of("sql", view.parts, name, type, canonical_sql(sql), list(inputs))


def python_fingerprint(
    view: ViewIdentity, name: str, type: str, function: PythonFunction, inputs: Sequence[list[object]]
) -> str:
    """Return the fingerprint of an output column of a Python function. Where the function stands does not count."""
    uses = [["uses", *sorted(use.content for use in function.uses)]] if function.uses else []
    frames = [["frames", sorted(function.frames.items())]] if function.frames else []
    own = [name, type, canonical_python(function.source), function.parameters]
    return fingerprint_of("python", view.parts, *own, list(inputs), *uses, *frames)


def view_fingerprint(view: ViewIdentity, features: Mapping[str, str]) -> str:
    """Return the fingerprint of a view from those of its features; their order does not count."""
    return fingerprint_of("view", view.parts, sorted(features.items()))
