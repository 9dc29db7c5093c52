"""Which sources a step reads directly, how far back, and which of what attempts read has changed since.

Takes steps, or an open connection and a selection of attempts. Tiles count as reading the source that they are made of: an
interval of aggregates is stale as soon as its source changed, not only when the tiles were made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fstore.interval import Interval
from fstore.plan.fingerprint import source_key
from fstore.plan.steps import DimensionInput, EventInput, Step
from fstore.registry.database import Database
from fstore.registry.reads import Reach, tile_reach, tile_sets
from fstore.registry.records import SourceRead
from fstore.registry.tables import attempt_sources, source_changes

BEGINNING, END = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def source_reaches(step: Step) -> dict[str, Reach]:
    """Return what an interval of a step reads of each source that can change, by the source's identity."""
    reaches: dict[str, Reach] = {}

    def add(source: str, reach: Reach) -> None:
        reaches[source] = reaches[source].joined(reach) if source in reaches else reach

    tiles = tile_sets(step)
    for each in tiles:
        add(source_key(each.events.source), tile_reach(each))
    for item in step.inputs:
        if isinstance(item, EventInput) and not (tiles and source_key(item.source) in reaches):
            add(source_key(item.source), Reach(item.window))
        elif isinstance(item, DimensionInput) and not getattr(item.source, "static", False):
            add(source_key(item.source), Reach(None))
    return reaches


def source_reads(step: Step, intervals: Sequence[Interval], known: dict[str, int]) -> list[SourceRead]:
    """Return what intervals of a step read of its sources, given the newest change that is known of each."""
    first, last = min(i.end for i in intervals), max(i.end for i in intervals)
    return [
        SourceRead(
            source=source, change=known.get(source, 0), end=last - reach.front,
            start=None if reach.back is None else first - reach.back,
        )
        for source, reach in sorted(source_reaches(step).items())
    ]  # fmt: skip


def changed_sources(
    database: Database, connection: Connection, among: sa.Select[tuple[int]]
) -> dict[int, dict[str, list[Interval]]]:
    """Return, per attempt among those selected, the sources that it read and the ranges of them that have changed since."""
    read, change = attempt_sources.c, source_changes.c
    later = sa.and_(
        change.project == read.project,
        change.source == read.source,
        change.id > read.change_id,
        sa.or_(change.start_at.is_(None), change.start_at < read.end_at),
        sa.or_(change.end_at.is_(None), read.start_at.is_(None), change.end_at > read.start_at),
    )
    rows = connection.execute(
        sa.select(read.attempt_id, read.source, change.start_at, change.end_at)
        .select_from(attempt_sources.join(source_changes, later))
        .where(read.project == database.project, read.attempt_id.in_(among))
    )
    changed: dict[int, dict[str, list[Interval]]] = {}
    for row in rows:
        span = Interval(row.start_at or BEGINNING, row.end_at or END)
        changed.setdefault(row.attempt_id, {}).setdefault(row.source, []).append(span)
    return changed
