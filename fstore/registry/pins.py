"""Whether what an attempt read is still what the log says: pinned publications compared with heads."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fstore.interval import Interval
from fstore.plan.tile_step import TILES_PREFIX
from fstore.registry.database import Database
from fstore.registry.heads import Scope, overlapping, read_heads
from fstore.registry.records import Head, Pin
from fstore.registry.tables import attempt_pins, publications


def changed_pins(
    database: Database, connection: Connection, pins: Sequence[Pin], generation: int | None
) -> list[list[Interval]]:
    """Return, for each pin (all of one view), the parts of its range whose head is another publication; one query.

    ``generation`` is the live one of the pinned view; None when it is not registered any more, which changes everything.
    """
    if generation is None:
        return [[Interval(pin.start, pin.end)] for pin in pins]
    start, end = min(pin.start for pin in pins), max(pin.end for pin in pins)
    heads = read_heads(database, connection, Scope(view=pins[0].view, generation=generation, start=start, end=end))
    return [changed_parts(pin, overlapping(heads, pin.start, pin.end)) for pin in pins]


def changed_parts(pin: Pin, heads: Sequence[Head]) -> list[Interval]:
    """Return the parts of a pin's range that heads (ascending, disjoint) do not hold with its sequence. Pure."""
    changed: list[Interval] = []
    cursor: datetime = pin.start
    for head in heads:
        if head.sequence == pin.sequence:
            if head.start > cursor:
                changed.append(Interval(cursor, head.start))
            cursor = max(cursor, head.end)
    if cursor < pin.end:
        changed.append(Interval(cursor, pin.end))
    return changed


def changed_tiles(
    database: Database, connection: Connection, among: sa.Select[tuple[int]]
) -> dict[int, dict[str, list[Interval]]]:
    """Return, per attempt among those selected, what was republished since of the data sets of tiles that it read."""
    pin, log = attempt_pins.c, publications.c
    later = sa.and_(
        log.project == pin.project,
        log.view == pin.view,
        log.sequence > pin.sequence,
        log.start_at < pin.end_at,
        log.end_at > pin.start_at,
    )
    rows = connection.execute(
        sa.select(
            pin.attempt_id, pin.view, log.start_at, log.end_at,
            pin.start_at.label("pin_start_at"), pin.end_at.label("pin_end_at"),
        )
        .select_from(attempt_pins.join(publications, later))
        .where(pin.project == database.project, pin.view.startswith(TILES_PREFIX), pin.attempt_id.in_(among))
    )  # fmt: skip
    changed: dict[int, dict[str, list[Interval]]] = {}
    for row in rows:
        part = Interval(max(row.start_at, row.pin_start_at), min(row.end_at, row.pin_end_at))
        changed.setdefault(row.attempt_id, {}).setdefault(row.view, []).append(part)
    return changed
