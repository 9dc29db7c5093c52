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

from fstore.definitions.aggregation import Aggregation
from fstore.definitions.feature_view import PythonFunction
from fstore.definitions.source import CsvSource, Source
from fstore.interval import Schedule, format_duration
from fstore.plan.sql import canonical_sql
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
    keys = sorted(source.keys.items()) if isinstance(source.keys, dict) else source.keys
    schema = sorted(source.schema.items()) if source.schema else None
    fields = [source.path, source.event_time, keys, source.updated_at, source.static, source.timezone, schema]
    if isinstance(source, CsvSource):
        return ["csv", *fields, source.delimiter, source.null]
    return ["parquet", *fields]


def aggregate_fingerprint(view: ViewIdentity, source: Source, name: str, member: Aggregation, window: timedelta) -> str:
    """Return the fingerprint of an aggregate over a window, as declared: before names and types were resolved."""
    sql = None if member.argument is None else canonical_sql(member.argument)
    own = [name, member.function, sql, format_duration(window), member.fill_value]
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
    return [identity.parts, events, read]


def sql_fingerprint(view: ViewIdentity, name: str, type: str, sql: str, inputs: Sequence[list[object]]) -> str:
    """Return the fingerprint of an output column of a SELECT."""
    return fingerprint_of("sql", view.parts, name, type, canonical_sql(sql), list(inputs))


def python_fingerprint(
    view: ViewIdentity, name: str, type: str, function: PythonFunction, inputs: Sequence[list[object]]
) -> str:
    """Return the fingerprint of an output column of a Python function. Where the function stands does not count."""
    return fingerprint_of("python", view.parts, name, type, function.source, function.parameters, list(inputs))


def view_fingerprint(view: ViewIdentity, features: Mapping[str, str]) -> str:
    """Return the fingerprint of a view from those of its features; their order does not count."""
    return fingerprint_of("view", view.parts, sorted(features.items()))
