"""The point-in-time join: for every entity row, a view's features as they were known at the row's instant.

Snapshot views lie on the grid of their published intervals: the instant names the interval by way of the log, and an
equi-join on (key, end) fetches the row. Event views need an ASOF join on the row's own time. Both run in the engine over
exactly the files that the log names, and give one row per entity row, in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pyarrow as pa

from fstore.engines.engine import ArrowRelation, Query
from fstore.errors import EntityColumnError
from fstore.integrity import explain_failure
from fstore.interval import MICROSECOND, from_micros
from fstore.plan.steps import EVENT_TIMESTAMP, Feature, Step
from fstore.retrieval.features import SelectedView, empty_values
from fstore.retrieval.history import (
    BEFORE_ALL,
    Answer,
    Mask,
    Micros,
    find_answers,
    lay_grid,
    overlapping_heads,
    used_heads,
)
from fstore.types import parse_type

if TYPE_CHECKING:
    from fstore.backends import Backends
    from fstore.registry.records import Head

_INSTANT = pa.timestamp("us", tz="UTC")


class ViewReport(msgspec.Struct, frozen=True, kw_only=True):
    """How a frame's rows fared in one view.

    Every entity row is counted once among ``value_rows`` (a row was found), ``empty_rows`` (the snapshot has none for the
    key), ``expired_rows`` (the newest is older than ttl), ``absent_rows`` (nothing was known yet) and ``null_key_rows``.
    ``fallback_rows`` are those whose own interval is blocked or missing, so that they read the one before. ``intervals``
    counts the snapshots read, ``attempts`` are those that wrote the rows.
    """

    view: str
    alias: str | None = None
    kind: str
    generation: int
    fingerprint: str
    ttl_seconds: float | None
    lag_seconds: float
    value_rows: int
    empty_rows: int
    expired_rows: int
    absent_rows: int
    null_key_rows: int
    fallback_rows: int
    intervals: int
    attempts: tuple[int, ...]


class ViewFeatures(msgspec.Struct, frozen=True, kw_only=True):
    """The features of one view, a row per entity row in order, and the report."""

    table: pa.Table
    report: ViewReport


class EntityTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Whose features are wanted, and when: a view's join keys as columns, and instants in microseconds."""

    keys: Sequence[pa.ChunkedArray]
    instants: Micros

    @property
    def complete(self) -> Mask:
        """Where no part of the key is null."""
        complete = np.ones(len(self.instants), dtype=np.bool_)
        for key in self.keys:
            if key.null_count:
                complete &= key.is_valid().to_numpy()
        return complete


def join_view(
    backends: Backends, view: SelectedView, rows: EntityTimes, *, sequence: int | None, strict: bool
) -> ViewFeatures:
    """Join one view to entity rows.

    ``sequence`` reads the log as it was after that publication. Raises IncompleteHistory if ``strict`` and an interval that
    some row needs was never published, and EntityColumnError for an instant at the edge of the calendar. Cost: one
    ASOF of the instants against the log, and one scan of the published files that cover them.
    """
    step = view.step
    heads = backends.registry.ledger.heads(step.view, generation=view.generation, as_of=sequence)
    if len(rows.instants) == 0:
        return ViewFeatures(table=view.schema.empty_table(), report=_report(view, [], rows.complete, rows.instants))
    blocked = backends.registry.ledger.blocked(step.view, generation=view.generation)
    try:
        _, newest = (from_micros(int(edge)) - step.lag for edge in (np.min(rows.instants), np.max(rows.instants)))
        grid = lay_grid(step, heads, blocked, max(newest, step.start))
        answer = find_answers(step, grid, rows.instants, counts=rows.complete, strict=strict)
        if step.kind == "snapshot":
            return _join_snapshots(backends, view, rows, answer, heads, sequence)
        return _join_events(backends, view, rows, answer, heads, sequence)
    except OverflowError:
        raise _beyond_the_calendar(view, rows.instants) from None


def _beyond_the_calendar(view: SelectedView, instants: Micros) -> EntityColumnError:
    first, last = (np.datetime64(int(instant), "us") for instant in (np.min(instants), np.max(instants)))
    return EntityColumnError(
        f"the entity rows hold instants from {first}Z to {last}Z. Some of them, or what view {view.label!r} reads for them "
        "(by its intervals, lag and ttl), lie outside of the years 1 to 9999. Leave those rows out, or give the instants "
        "that are meant"
    )


def snapshot_sql(step: Step, features: Sequence[Feature]) -> str:
    """Return the equi-join of ``spine`` with ``published`` on (key, end); a key without a row reads ``empty_row``."""
    values = ", ".join(
        f"CASE WHEN s.snapshot IS NULL OR p.{EVENT_TIMESTAMP} IS NOT NULL THEN p.value{index} "
        f"ELSE {_joinable(f'e.value{index}', feature)} END AS value{index}"
        for index, feature in enumerate(features)
    )
    return (
        f"WITH held AS ({_payload(step, features)} FROM published p) "
        f"SELECT p.{EVENT_TIMESTAMP} AS found_at, {values} FROM spine s CROSS JOIN empty_row e "
        f"LEFT JOIN held p ON p.{EVENT_TIMESTAMP} = s.snapshot AND {_same_key(step)} ORDER BY s.position"
    )


def event_sql(step: Step, features: Sequence[Feature]) -> str:
    """Return the ASOF join of ``spine`` with ``published``: the newest row of the key that is visible and within ttl.

    Rows of other keys are dropped before the join sorts them.
    """
    within = f"p.{EVENT_TIMESTAMP} >= s.oldest" if step.ttl is not None else "true"
    values = ", ".join(f"CASE WHEN {within} THEN p.value{index} END AS value{index}" for index in range(len(features)))
    return (
        f"WITH held AS ({_payload(step, features)} FROM published p SEMI JOIN spine s ON {_same_key(step)}) "
        f"SELECT p.{EVENT_TIMESTAMP} AS found_at, {values} FROM spine s "
        f"ASOF LEFT JOIN held p ON {_same_key(step)} AND s.visible >= p.{EVENT_TIMESTAMP} ORDER BY s.position"
    )


def _join_snapshots(
    backends: Backends, view: SelectedView, rows: EntityTimes, answer: Answer, heads: Sequence[Head], sequence: int | None
) -> ViewFeatures:
    names = [feature.name for feature in view.features]
    complete = rows.complete
    snapshot = np.where(complete, answer.snapshot, BEFORE_ALL)
    held = used_heads(heads, answer)
    empty = empty_values(view).rename_columns([f"value{index}" for index in range(len(names))])
    query = Query(
        sql=snapshot_sql(view.step, view.features),
        relations={
            "spine": ArrowRelation(table=_spine(rows, snapshot=_instants(snapshot))),
            "published": backends.published(view.step, held, features=names, as_of=sequence),
            "empty_row": ArrowRelation(table=empty),
        },
    )
    found, table = _read(backends, view, query, held, sequence)
    return ViewFeatures(table=table, report=_report(view, held, complete, found, answer, snapshot != BEFORE_ALL))


def _join_events(
    backends: Backends, view: SelectedView, rows: EntityTimes, answer: Answer, heads: Sequence[Head], sequence: int | None
) -> ViewFeatures:
    names = [feature.name for feature in view.features]
    oldest = None if view.step.ttl is None else from_micros(int(np.min(answer.oldest)))
    held = overlapping_heads(heads, oldest, from_micros(int(np.max(answer.visible))) + MICROSECOND)
    query = Query(
        sql=event_sql(view.step, view.features),
        relations={
            "spine": ArrowRelation(table=_spine(rows, visible=_instants(answer.visible), oldest=_instants(answer.oldest))),
            "published": backends.published(view.step, held, features=names, as_of=sequence),
        },
    )
    known, table = _read(backends, view, query, held, sequence)
    return ViewFeatures(table=table, report=_report(view, held, rows.complete, known, answer))


def _read(
    backends: Backends, view: SelectedView, query: Query, held: Sequence[Head], sequence: int | None
) -> tuple[Micros, pa.Table]:
    """Run a join; return the time of the row that each entity row found (BEFORE_ALL: none), and the features.

    Raises SnapshotExpired for files that were deleted while they were read, and FileDamaged.
    """
    try:
        with backends.engine.read(query) as reader:
            result = reader.read_all()
    except Exception as error:
        files = backends.held_files(held)
        why = explain_failure(backends.registry, backends.offline, view.step.view, files, sequence)
        if why is None:
            raise
        raise why from error
    found = result["found_at"].cast(pa.int64()).fill_null(BEFORE_ALL).to_numpy()
    columns = [result[f"value{index}"].cast(field.type) for index, field in enumerate(view.schema)]
    return found, pa.table(columns, schema=view.schema)


def _spine(rows: EntityTimes, **instants: pa.Array) -> pa.Table:
    keys = {f"key{index}": key for index, key in enumerate(rows.keys)}
    return pa.table({"position": pa.array(np.arange(len(rows.instants), dtype=np.int64)), **keys, **instants})


def _instants(micros: Micros) -> pa.Array:
    return pa.array(micros, mask=micros == BEFORE_ALL, type=pa.int64()).cast(_INSTANT)


def _payload(step: Step, features: Sequence[Feature]) -> str:
    """Return the SELECT of what a join carries: keys, time, and feature n as ``value<n>``."""
    keys = [f"p.{_quoted(key.name)}" for key in step.keys]
    values = [f"{_joinable(f'p.{_quoted(feature.name)}', feature)} AS value{n}" for n, feature in enumerate(features)]
    return "SELECT " + ", ".join([*keys, f"p.{EVENT_TIMESTAMP}", *values])


def _joinable(value: str, feature: Feature) -> str:
    """Return a value as a join may carry it: vectors as lists.

    A left join of DuckDB 2.0 reads lengths from memory that was never set where an array in its payload is null.
    """
    kind = parse_type(feature.type or "")
    if kind.name != "vector":
        return value
    return f"CAST({value} AS {'FLOAT' if str(kind.item) == 'float32' else 'DOUBLE'}[])"


def _same_key(step: Step) -> str:
    return " AND ".join(f"p.{_quoted(key.name)} = s.key{index}" for index, key in enumerate(step.keys))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _report(
    view: SelectedView, held: Sequence[Head], complete: Mask, found: Micros, answer: Answer | None = None,
    reads: Mask | None = None,
) -> ViewReport:  # fmt: skip
    """Count how each entity row fared; ``reads`` marks those that read a snapshot (None for event views)."""
    step = view.step
    counts = {"value_rows": 0, "empty_rows": 0, "expired_rows": 0, "absent_rows": 0, "fallback_rows": 0, "intervals": 0}
    if answer is not None:
        hit = complete & (found != BEFORE_ALL)
        expired = complete & (answer.expired if reads is not None else hit & (found < answer.oldest))
        empty = reads & ~hit if reads is not None else np.zeros_like(hit)
        value = hit & ~expired
        counts = {
            "value_rows": int(value.sum()),
            "empty_rows": int(empty.sum()),
            "expired_rows": int(expired.sum()),
            "absent_rows": int((complete & ~value & ~empty & ~expired).sum()),
            "fallback_rows": int(answer.fallback.sum()),
            "intervals": len(np.unique(answer.interval[answer.reads])) if reads is not None else 0,
        }
    return ViewReport(
        view=step.view,
        alias=view.alias,
        kind=step.kind,
        generation=view.generation,
        fingerprint=view.fingerprint,
        ttl_seconds=None if step.ttl is None else step.ttl.total_seconds(),
        lag_seconds=step.lag.total_seconds(),
        null_key_rows=int((~complete).sum()),
        attempts=tuple(sorted({head.attempt for head in held})),
        **counts,
    )
