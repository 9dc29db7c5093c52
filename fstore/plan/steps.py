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

from fstore.decoding import decode_json
from fstore.definitions.aggregation import Scalar
from fstore.definitions.checks import CheckKind, Severity
from fstore.definitions.feature_view import PythonFunction
from fstore.definitions.project import Problem as Problem  # noqa: PLC0414  (explicitly re-exported)
from fstore.definitions.references import ResolvedFeature
from fstore.definitions.source import Source
from fstore.interval import Schedule
from fstore.plan.window_features import WindowExpression, WindowFeature
from fstore.types import Column

EVENT_TIMESTAMP = "event_timestamp"
"""The time column of every published row: the interval's end for snapshot views, the row's own instant for event views."""


Value = Scalar | tuple[Scalar, ...]
"""The value of a feature in its view's empty row: a constant, a list of constants, or null."""


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """One feature column of a view.

    ``type`` is None until the schemas of the sources are recorded. ``empty`` is the feature's value in the view's empty row
    (that of a key without a row). ``fingerprint`` changes when, and only when, the feature's meaning does.
    """

    name: str
    type: str | None
    fingerprint: str
    empty: Value = None
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


class TileState(msgspec.Struct, frozen=True, kw_only=True):
    """A mergeable aggregate of the events of a tile: one column of the tiles' files.

    ``name`` is the column. It and ``identity`` say what the state is of any tile: source, keys, sub-key, filter, argument
    and aggregate. ``dataset`` is the name under which the ledger logs the state of tiles of one length, so that views that
    need the same share it. ``type`` is a type of DuckDB's SQL. ``aggregate`` is SQL over a tile's events, which reads
    ``columns`` of the source; ``merge`` is SQL over column ``name`` of finer tiles. Where SQL ``inexact`` is true of a
    tile's state, it is made once more by ``again``, which may read the first state as ``name`` beside the events.
    Where ``centre`` is not empty, ``merge`` reads the value that it gives for any of the rows, as column ``centre <name>``.
    """

    name: str
    identity: str
    dataset: str
    type: str
    aggregate: str
    merge: str
    columns: tuple[str, ...] = ()
    inexact: str = ""
    again: str = ""
    centre: str = ""


class TileSet(msgspec.Struct, frozen=True, kw_only=True):
    """Tiles that a view of aggregates reads as relation ``relation``: states per key (and sub-key) and stretch of time.

    Tile ``n`` covers ``[n * length, (n + 1) * length)`` since 1970 in UTC. ``edges`` are the distances before an interval's
    end at which a window begins or ends: each is an edge of tiles. ``sub`` is a SQL scalar over the source's columns
    ``sub_columns`` by which the events of a key are split, null ones being left out (None: not split); ``sub_known`` is the
    condition that it is not null, in terms that take less time than the scalar. ``coarse`` is the length of a second level
    that is merged from the first, None where windows are short. ``back`` is how long before an
    interval's end its oldest tile begins, None for as long as there are events. ``identity`` says what source, keys and
    sub-key are.
    """

    relation: str
    events: EventInput
    keys: tuple[str, ...]
    length: timedelta
    coarse: timedelta | None
    back: timedelta | None
    edges: tuple[timedelta, ...]
    states: tuple[TileState, ...]
    identity: str
    sub: str | None = None
    sub_columns: tuple[str, ...] = ()
    sub_known: str = ""

    @property
    def group(self) -> str:
        """The name under which the ledger logs making tiles of this length, of whatever states."""
        return tile_dataset(self.identity, self.length)


def tile_dataset(identity: str, length: timedelta) -> str:
    """Return the name of what has an identity, for tiles of one length."""
    return f"tiles:{fingerprint_of(identity, length // timedelta(microseconds=1))}"


class AggregateStep(_Step, frozen=True, kw_only=True, tag="aggregate"):
    """Windowed aggregates of one event source, for many intervals in one query.

    ``sql`` reads the relations of ``tiles`` and ``intervals(interval_start, interval_end)``, and gives the key columns,
    ``event_timestamp`` and the features, one row per interval and key that has an event between the earliest beginning and
    the latest end of the view's windows. A relation of tiles has the key columns, ``tile_sub`` where tiles are split,
    ``tile_start``, ``event_timestamp`` (the tile's end) and the states; tiles of different length do not overlap, and a
    state that a row lacks is null. ``single_sql`` gives the same for exactly one interval, faster. ``empty_sql`` is a
    SELECT without FROM that gives the features of the view's empty row; its values are kept in ``Feature.empty`` by
    :func:`with_empty_row`. ``windows`` and ``expressions`` are what the SQL was made of, for windows at other instants.
    """

    sql: str
    single_sql: str = ""
    empty_sql: str = ""
    tiles: tuple[TileSet, ...] = ()
    windows: tuple[WindowFeature, ...] = ()
    expressions: tuple[WindowExpression, ...] = ()


class CompositeStep(_Step, frozen=True, kw_only=True, tag="composite"):
    """Expressions over own aggregates and over snapshots of other views, for many intervals in one query.

    ``own`` computes the view's own aggregates (None where it has no source). ``sql`` reads its rows as ``own``, and for each
    snapshot input ``snapshot<n>`` the view's published rows and ``ends<n>(interval_end, snapshot_end)``, which says which
    snapshot an interval reads; it gives the key columns, ``event_timestamp`` and the features. ``empty_sql`` gives the
    features of the empty row; its values are kept in ``Feature.empty`` by :func:`with_empty_row`.
    """

    sql: str
    own: AggregateStep | None = None
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


Step = AggregateStep | CompositeStep | SqlStep | PythonStep
"""The closed union of steps."""


class PlannedService(msgspec.Struct, frozen=True, kw_only=True):
    """A feature service, its references resolved to single features, in order and each once."""

    name: str
    references: tuple[ResolvedFeature, ...]
    owner: str = ""
    description: str = ""
    tags: dict[str, str] = {}

    @property
    def features(self) -> tuple[str, ...]:
        """The full names of the features (``view:feature``), each once, whatever they are joined as."""
        return tuple(dict.fromkeys(reference.full_name for reference in self.references))


class PlannedOnDemand(msgspec.Struct, frozen=True, kw_only=True):
    """A feature that is computed when it is read.

    Its inputs are columns by the names that its author gave them: ``request`` values, and stored ``features``. ``sql`` is an
    expression over columns named by the text of a reference or :func:`request_column` (None for a ``function``, which takes
    whole columns). ``type`` is None until the types of what it
    reads are known. ``fingerprint`` covers what it reads.
    """

    name: str
    type: str | None
    request: tuple[Column, ...]
    features: dict[str, ResolvedFeature]
    fingerprint: str
    module: str
    line: int
    sql: str | None = None
    function: PythonFunction | None = None
    description: str = ""
    pii: bool = False


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
    on_demand: tuple[PlannedOnDemand, ...] = ()
    problems: tuple[Problem, ...] = ()


def request_column(column: Column) -> str:
    """Return the name of the column that holds a request value of a type: two features may want it as different ones."""
    return f"request:{column.name}:{column.type}"


def own_aggregates(step: Step) -> AggregateStep | None:
    """Return the step of a view's own aggregates, which reads tiles: the step itself, or a part of a composite one."""
    if isinstance(step, CompositeStep):
        return step.own
    return step if isinstance(step, AggregateStep) else None


def encode_step(step: Step) -> str:
    """Return a step as canonical JSON (sorted keys)."""
    return msgspec.json.encode(step, order="sorted").decode()


def decode_step(text: str | bytes) -> Step:
    """Return the step that :func:`encode_step` wrote."""
    return decode_json(text, Step)  # type: ignore[arg-type]


def with_empty_row(
    step: AggregateStep | CompositeStep, values: Mapping[str, Value | list[Scalar]]
) -> AggregateStep | CompositeStep:
    """Return a step whose features know their values in the empty row, given by feature name; null where none is given."""
    empty = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    features = tuple(msgspec.structs.replace(feature, empty=empty.get(feature.name)) for feature in step.features)
    return msgspec.structs.replace(step, features=features)


def fingerprint_of(*parts: object) -> str:
    """Return 16 hex digits that identify a sequence of JSON-like values."""
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()[:16]
