"""The point-in-time join: for every entity row, a view's features as they were known at the row's instant.

Snapshot views lie on the grid of their published intervals: the instant names the interval by way of the log, and the row of
the key in it is fetched. Event views need an ASOF join on the row's own time. Both read exactly the files that the log
names, and give one row per entity row, in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fstore.errors import EntityColumnError
from fstore.interval import from_micros
from fstore.retrieval.event_join import join_events
from fstore.retrieval.features import SelectedView
from fstore.retrieval.history import Answer, Micros, find_answers, lay_grid
from fstore.retrieval.snapshot_join import join_snapshots
from fstore.retrieval.view_features import EntityTimes as EntityTimes  # noqa: PLC0414  (explicitly re-exported)
from fstore.retrieval.view_features import ViewFeatures as ViewFeatures  # noqa: PLC0414
from fstore.retrieval.view_features import ViewReport as ViewReport  # noqa: PLC0414
from fstore.retrieval.view_features import report_rows

if TYPE_CHECKING:
    from fstore.backends import Backends
    from fstore.registry.records import Head


def join_view(
    backends: Backends, view: SelectedView, rows: EntityTimes, *, sequence: int | None, strict: bool
) -> ViewFeatures:
    """Join one view to entity rows.

    ``sequence`` reads the log as it was after that publication. Raises IncompleteHistory if ``strict`` and an interval that
    some row needs was never published, and EntityColumnError for an instant at the edge of the calendar. Cost: one
    ASOF of the instants against the log, and one scan of the published files that cover them.
    """
    if len(rows.instants) == 0:
        return ViewFeatures(table=view.schema.empty_table(), report=report_rows(view, rows.complete))
    try:
        heads, answer = _answers(backends, view, rows, sequence, strict=strict)
        if view.step.kind == "snapshot":
            return join_snapshots(backends, view, rows, answer, heads, sequence)
        return join_events(backends, view, rows, answer, heads, sequence)
    except OverflowError:
        raise beyond_the_calendar(view, rows.instants) from None


def check_view(backends: Backends, view: SelectedView, rows: EntityTimes, *, sequence: int | None) -> None:
    """Raise what a strict :func:`join_view` raises for missing history or instants off the calendar. Reads no rows."""
    if len(rows.instants) == 0:
        return
    try:
        _answers(backends, view, rows, sequence, strict=True)
    except OverflowError:
        raise beyond_the_calendar(view, rows.instants) from None


def _answers(
    backends: Backends, view: SelectedView, rows: EntityTimes, sequence: int | None, *, strict: bool
) -> tuple[Sequence[Head], Answer]:
    """Return the heads of a view, and which of its intervals answers for which instant."""
    step, ledger = view.step, backends.registry.ledger
    heads = ledger.heads(step.view, generation=view.generation, as_of=sequence)
    blocked = ledger.blocked(step.view, generation=view.generation, as_of=sequence)
    _, newest = (from_micros(int(edge)) - step.lag for edge in (np.min(rows.instants), np.max(rows.instants)))
    grid = lay_grid(step, heads, blocked, max(newest, step.start))
    return heads, find_answers(step, grid, rows.instants, counts=rows.complete, strict=strict)


def beyond_the_calendar(view: SelectedView, instants: Micros) -> EntityColumnError:
    """Return the error of instants that are no datetimes, or for which something is read that lies at none."""
    first, last = (np.datetime64(int(instant), "us") for instant in (np.min(instants), np.max(instants)))
    return EntityColumnError(
        f"the entity rows hold instants from {first}Z to {last}Z. Some of them, or what view {view.label!r} reads for them "
        "(by its intervals, lag and ttl), lie outside of the years 1 to 9999. Leave those rows out, or give the instants "
        "that are meant"
    )
