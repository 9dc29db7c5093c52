"""What a new generation lacks before it can take the place of the live one.

It needs every interval that is live, on its own grid, published by its own definition and not stale. Takes an open
connection and gives intervals; which of them can be computed now is for others to find out.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec
from sqlalchemy.engine import Connection

from fstore.interval import Interval, merge_intervals
from fstore.plan.steps import Step
from fstore.registry.database import Database
from fstore.registry.heads import Scope, overlapping, read_heads
from fstore.registry.records import Head
from fstore.registry.staleness import stale_intervals
from fstore.registry.views import live_generations, read_overlay_views


class Lacking(msgspec.Struct, frozen=True, kw_only=True):
    """The intervals that a view's new generation still needs, ascending, of how many that are live."""

    intervals: tuple[Interval, ...]
    required: int


def lacking_intervals(
    database: Database, connection: Connection, overlay: str, views: Collection[str] | None = None
) -> dict[str, Lacking]:
    """Return what every view of an overlay lacks, or those among some views."""
    staged = read_overlay_views(database, connection, overlay, views)
    return {view.name: lacking_of(database, connection, view.step, view.generation, overlay=overlay) for view in staged}


def lacking_of(database: Database, connection: Connection, step: Step, generation: int, *, overlay: str) -> Lacking:
    """Return the live intervals that a generation lacks or holds out of date; its inputs are seen through an overlay."""
    over, live = database.on_overlay(overlay), database.on_overlay("")
    live_one = live_generations(live, connection, [step.view]).get(step.view)
    heads = [] if live_one is None else read_heads(live, connection, Scope(view=step.view, generation=live_one))
    required = required_intervals(step, heads)
    if not required:
        return Lacking(intervals=(), required=0)
    have = read_heads(over, connection, Scope(view=step.view, generation=generation))
    fresh = [head for head in have if head.fingerprint == step.fingerprint]
    stale = set(stale_intervals(over, connection, step.view, generation))
    lacking = [each for each in required if each in stale or not _covered(each, fresh)]
    return Lacking(intervals=tuple(lacking), required=len(required))


def required_intervals(step: Step, live: Sequence[Head]) -> list[Interval]:
    """Return the intervals of a step that it must have before it replaces what is live.

    Those that share an instant with something live and end by the end of it: on another grid the last one may not be over.
    """
    found: dict[Interval, None] = {}
    for span in merge_intervals(Interval(head.start, head.end) for head in live):
        start = max(step.schedule.floor(span.start), step.start)
        end = span.end if step.end is None else min(span.end, step.end)
        if start < end:
            found.update(dict.fromkeys(step.schedule.intervals(start, end)))
    return sorted(found)


def _covered(interval: Interval, heads: Sequence[Head]) -> bool:
    parts = merge_intervals(Interval(head.start, head.end) for head in overlapping(heads, interval.start, interval.end))
    return any(part.contains(interval) for part in parts)
