"""The plan: a list of steps, each of which computes, validates and materializes one view.

Steps are frozen values, serialized as canonical JSON: the registry keeps the step that every attempt ran. A step says
everything that running needs to know; what differs between kinds of view is a different step, never a flag.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from fstore.definitions.aggregation import Scalar
from fstore.definitions.checks import CheckKind, Severity
from fstore.definitions.feature_view import PythonFunction
from fstore.definitions.project import Problem as Problem  # noqa: PLC0414  (explicitly re-exported)
from fstore.definitions.source import Source
from fstore.interval import Schedule
from fstore.types import Column

EVENT_TIMESTAMP = "event_timestamp"
"""The time column of every published row: the interval's end for snapshot views, the row's own instant for event views."""


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """One feature column of a view.

    ``type`` is None until the schemas of the sources are recorded. ``empty`` is the feature's value in the view's empty row
    (that of a key without a row). ``fingerprint`` changes when, and only when, the feature's meaning does.
    """

    name: str
    type: str | None
    fingerprint: str
    empty: Scalar = None
    description: str = ""
    pii: bool = False


class EventInput(msgspec.Struct, frozen=True, kw_only=True, tag="events"):
    """The events of a source before the interval's end, and not older than ``window`` before it (None: no bound)."""

    alias: str
    source: Source
    window: timedelta | None
    columns: tuple[str, ...] | None = None


class DimensionInput(msgspec.Struct, frozen=True, kw_only=True, tag="dimension"):
    """The newest row per key of a source that was updated before the interval's end."""

    alias: str
    source: Source


class SnapshotInput(msgspec.Struct, frozen=True, kw_only=True, tag="snapshot"):
    """An upstream view's publication of its last interval that ends by the own interval's end.

    Empty before the upstream's ``start``. An upstream event view gives its rows within that interval.
    """

    alias: str
    view: str
    keys: tuple[Column, ...]
    features: tuple[Column, ...]
    schedule: Schedule
    start: datetime
    end: datetime | None
    pipeline: str


class HistoryInput(msgspec.Struct, frozen=True, kw_only=True, tag="history"):
    """Every interval of an upstream view that lies in the own interval."""

    alias: str
    view: str
    keys: tuple[Column, ...]
    features: tuple[Column, ...]
    schedule: Schedule
    start: datetime
    end: datetime | None
    pipeline: str


StepInput = EventInput | DimensionInput | SnapshotInput | HistoryInput
ViewInput = SnapshotInput | HistoryInput


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """A check, compiled.

    ``violates`` is a SQL boolean over a row of relation ``rows`` that is true where the row breaks the check (None for
    ``row_count``, which looks at the number of rows against ``minimum`` and ``maximum``). For ``unique`` it is an expression
    with a window over the row's interval.
    """

    label: str
    kind: CheckKind
    severity: Severity
    columns: tuple[str, ...] = ()
    violates: str | None = None
    minimum: int | float | None = None
    maximum: int | float | None = None


class ColumnEdge(msgspec.Struct, frozen=True, kw_only=True):
    """One column that a feature is derived from. ``dataset`` is a source or a view by name."""

    feature: str
    kind: Literal["source", "view"]
    dataset: str
    column: str
    transformation: Literal["IDENTITY", "TRANSFORMATION", "AGGREGATION"]
    masking: bool = False


class _Step(msgspec.Struct, frozen=True, kw_only=True):
    """What every step says about its view.

    ``fingerprint`` covers everything that decides the rows: features, keys, schedule, zone and upstream. ``lag`` is the
    largest of the inputs'. ``kind`` is ``event`` when the output carries its own ``event_timestamp``. ``intervals`` of the
    view lie in ``[start, end)`` on the schedule's grid. ``line`` and ``module`` name the definition.
    """

    project: str
    view: str
    entity: str
    keys: tuple[Column, ...]
    features: tuple[Feature, ...]
    kind: Literal["snapshot", "event"]
    schedule: Schedule
    start: datetime
    end: datetime | None
    lag: timedelta
    ttl: timedelta | None
    online: bool
    pipeline: str
    inputs: tuple[StepInput, ...]
    audits: tuple[Audit, ...]
    lineage: tuple[ColumnEdge, ...]
    fingerprint: str
    module: str
    line: int
    description: str = ""
    owner: str = ""
    tags: dict[str, str] = {}

    @property
    def upstream(self) -> tuple[str, ...]:
        """Names of the views that this one reads, in input order."""
        return tuple(item.view for item in self.inputs if isinstance(item, ViewInput))

    def columns(self, features: Iterable[str] | None = None) -> tuple[Column, ...]:
        """Return the published columns: keys, ``event_timestamp``, then features (None: all) in the view's order.

        Raises ValueError while a feature's type is unknown.
        """
        wanted = None if features is None else set(features)
        chosen = [feature for feature in self.features if wanted is None or feature.name in wanted]
        if untyped := [feature.name for feature in chosen if feature.type is None]:
            raise ValueError(
                f"the types of {', '.join(untyped)} of view {self.view!r} are unknown until its sources are read"
            )
        typed = [Column(name=feature.name, type=feature.type or "") for feature in chosen]
        return (*self.keys, Column(name=EVENT_TIMESTAMP, type="timestamp"), *typed)


class AggregateStep(_Step, frozen=True, kw_only=True, tag="aggregate"):
    """Windowed aggregates of one event source, for many intervals in one query.

    ``sql`` reads relations ``events`` (the source's columns; rows without a null key or time, ``event_time`` as an instant)
    and ``intervals(interval_start, interval_end)``, and gives the key columns, ``event_timestamp`` and the features, one row
    per interval and key that has an event in the longest window. ``single_sql`` gives
    the same for exactly one interval, faster. ``empty_sql`` is a SELECT without FROM that gives the
    features of the view's empty row; its values are kept in ``Feature.empty`` by :func:`with_empty_row`.
    """

    sql: str
    single_sql: str = ""
    empty_sql: str = ""


class SqlStep(_Step, frozen=True, kw_only=True, tag="sql"):
    """One SELECT over the inputs, run once per interval with parameters ``$start`` and ``$end``.

    Rows of an event view that lie outside of the interval are left out.
    ``parameters`` are the names of those that the SELECT really uses: DuckDB takes no others.
    """

    sql: str
    parameters: tuple[str, ...] = ()


class PythonStep(_Step, frozen=True, kw_only=True, tag="python"):
    """A Python function over the inputs as Arrow tables, run once per interval."""

    function: PythonFunction


Step = AggregateStep | SqlStep | PythonStep
"""The closed union of steps."""


class PlannedService(msgspec.Struct, frozen=True, kw_only=True):
    """A feature service, its references resolved to full feature names (``view:feature``) in order."""

    name: str
    features: tuple[str, ...]
    owner: str = ""
    description: str = ""
    tags: dict[str, str] = {}


class PlannedEntity(msgspec.Struct, frozen=True, kw_only=True):
    """An entity and its composite key."""

    name: str
    keys: tuple[Column, ...]
    description: str = ""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The steps of a project in dependency order, and the problems of the views that could not be planned."""

    project: str
    entities: tuple[PlannedEntity, ...] = ()
    steps: tuple[Step, ...] = ()
    services: tuple[PlannedService, ...] = ()
    problems: tuple[Problem, ...] = ()


def encode_step(step: Step) -> str:
    """Return a step as canonical JSON (sorted keys)."""
    return msgspec.json.encode(step, order="sorted").decode()


def decode_step(text: str | bytes) -> Step:
    """Return the step that :func:`encode_step` wrote."""
    return msgspec.json.decode(text, type=Step)  # type: ignore[no-any-return]


def with_empty_row(step: AggregateStep, values: Mapping[str, Scalar]) -> AggregateStep:
    """Return a step whose features know their values in the empty row, given by feature name; null where none is given."""
    features = tuple(msgspec.structs.replace(feature, empty=values.get(feature.name)) for feature in step.features)
    return msgspec.structs.replace(step, features=features)


def fingerprint_of(*parts: object) -> str:
    """Return 16 hex digits that identify a sequence of JSON-like values."""
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()[:16]
