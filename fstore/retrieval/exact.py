"""Exact windows: aggregates whose windows end at each entity row's own instant, less the lag, not at an interval's end.

Reads the events of the source as they are now, not what was published: what a view would have given, had it been computed at
that very moment. Cut at the view's start and end, as its intervals are.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from fstore.engines.engine import ArrowRelation, EventRelation, Query
from fstore.errors import IncompleteHistory, RetrievalError
from fstore.interval import MICROSECOND, format_duration, from_micros, to_micros
from fstore.plan.steps import AggregateStep
from fstore.retrieval.history import Micros
from fstore.retrieval.point_in_time import EntityTimes, ViewFeatures, ViewReport, beyond_the_calendar

if TYPE_CHECKING:
    from fstore.backends import Backends
    from fstore.retrieval.features import SelectedView


def join_exactly(backends: Backends, view: SelectedView, rows: EntityTimes, *, now: datetime, strict: bool) -> ViewFeatures:
    """Join one view of aggregates to entity rows, its windows ending at each row's instant less the view's lag.

    A row whose instant less the lag lies before the view's start gets nulls, one after its end what there is at the end; a
    null key gives nulls. Raises RetrievalError for a view that is no view of aggregates, and for windows that would end
    within a piece of a source; EntityColumnError for an instant at the edge of the calendar; and, if ``strict``, what
    :func:`check_exactly` raises. Cost: one scan of the events of all windows.
    """
    from fstore.plan.instants import compile_instants  # noqa: PLC0415 (brings the SQL parser, which few reads need)

    step = view.step
    if not isinstance(step, AggregateStep) or not step.windows:
        raise RetrievalError(
            f'view {step.view!r} cannot be read with accuracy="exact", which computes windows of events at each row\'s own '
            "instant: only views of aggregates over one source have such windows. Read it in a frame of its own with "
            'accuracy="snapshot".'
        )
    if strict:
        check_exactly(view, rows, now=now)
    complete = rows.complete
    ends = rows.instants - step.lag // MICROSECOND
    reads = complete & (ends >= to_micros(step.start))
    if step.end is not None:
        ends = np.minimum(ends, to_micros(step.end))
    if reads.any():
        _refuse_within_pieces(view, ends[reads])
        compiled = compile_instants(step, [feature.name for feature in view.features])
        try:
            start = None if compiled.back is None else from_micros(int(ends[reads].min())) - compiled.back
            end = from_micros(int(ends[reads].max()))
        except OverflowError:
            raise beyond_the_calendar(view, rows.instants) from None
        events = EventRelation(
            source=step.tiles[0].events.source, start=start, end=end, columns=compiled.columns,
            keys=tuple(key.name for key in step.keys),
        )  # fmt: skip
        found = _read(backends, view, compiled.sql, {"source_events": events, "spine": _spine(rows, ends, reads)})
    else:
        found = pa.table([pa.nulls(len(ends), field.type) for field in view.schema], schema=view.schema)
    return ViewFeatures(table=found, report=_report(view, complete, reads))


def check_exactly(view: SelectedView, rows: EntityTimes, *, now: datetime) -> None:
    """Raise IncompleteHistory if an instant is later than ``now``, when not all events can be there."""
    later = rows.complete & (rows.instants > to_micros(now))
    if later.any():
        try:
            last = from_micros(int(rows.instants[later].max()))
        except OverflowError:
            raise beyond_the_calendar(view, rows.instants) from None
        raise IncompleteHistory(view.step.view, [(now, last)], int(np.count_nonzero(later)), now=now)


def _refuse_within_pieces(view: SelectedView, ends: Micros) -> None:
    """Raise RetrievalError for windows that end within a piece of a source: its rows depend on all that the piece sees."""
    from fstore.plan.source_pieces import alignment  # noqa: PLC0415 (as above)

    step = view.step
    assert isinstance(step, AggregateStep), "the caller has looked"
    source = step.tiles[0].events.source
    length = alignment(source)
    if length is not None and (rows := int(np.count_nonzero(ends % (length // MICROSECOND)))):
        raise RetrievalError(
            f'view {step.view!r} cannot be read with accuracy="exact" at the instants of {rows} row(s): the SQL of its '
            f"source {source.name!r}, or of one behind it, runs in pieces of {format_duration(length)} in UTC, and windows, "
            f"which end at an instant less the lag ({format_duration(step.lag)}), can only end where pieces end. Give such "
            'instants, or read it with accuracy="snapshot".'
        )


def _read(backends: Backends, view: SelectedView, sql: str, relations: dict[str, EventRelation | ArrowRelation]) -> pa.Table:
    keys = [f"k{index}" for index in range(len(view.step.keys))]
    listed = ", ".join(keys)
    names = ", ".join(f'f."{feature.name.replace(chr(34), 2 * chr(34))}"' for feature in view.features)
    # a number of its own for each key and end, so that equal rows are computed once
    query = f"""WITH
labels AS MATERIALIZED (
  SELECT row_number() OVER () AS _label, {listed}, mark
  FROM (SELECT DISTINCT {listed}, mark FROM spine WHERE mark IS NOT NULL)
)
SELECT {names}
FROM spine AS s
LEFT JOIN labels USING ({listed}, mark)
LEFT JOIN (
{sql}
) AS f USING (_label)
ORDER BY s.position"""
    with backends.engine.read(Query(sql=query, relations=relations)) as reader:
        result = reader.read_all()
    return pa.table([result.column(index).cast(field.type) for index, field in enumerate(view.schema)], schema=view.schema)


def _spine(rows: EntityTimes, ends: np.ndarray, reads: np.ndarray) -> ArrowRelation:
    keys = {f"k{index}": key for index, key in enumerate(rows.keys)}
    position = pa.array(np.arange(len(ends), dtype=np.int64))
    return ArrowRelation(table=pa.table({"position": position, **keys, "mark": pa.array(ends, mask=~reads)}))


def _report(view: SelectedView, complete: np.ndarray, reads: np.ndarray) -> ViewReport:
    step = view.step
    return ViewReport(
        view=step.view,
        alias=view.alias,
        kind="exact",
        generation=view.generation,
        fingerprint=view.fingerprint,
        ttl_seconds=None if step.ttl is None else step.ttl.total_seconds(),
        lag_seconds=step.lag.total_seconds(),
        value_rows=int(reads.sum()),
        empty_rows=0,
        expired_rows=0,
        absent_rows=int((complete & ~reads).sum()),
        null_key_rows=int((~complete).sum()),
        fallback_rows=0,
        intervals=0,
        attempts=(),
    )
