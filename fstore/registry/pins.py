"""Whether what an attempt read is still what the log says: pinned publications compared with heads."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.engine import Connection

from fstore.interval import Interval
from fstore.registry.database import Database
from fstore.registry.heads import Scope, overlapping, read_heads
from fstore.registry.records import Head, Pin


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
