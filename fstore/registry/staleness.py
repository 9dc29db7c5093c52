"""Which intervals were computed from what has changed since, which were blocked and would be again, and what is done.

Takes an open connection and gives intervals or attempts. The pins and sources of an attempt say what it read; the step that
it ran says which of its intervals read which part.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fstore.interval import Interval
from fstore.plan.steps import Step, decode_step
from fstore.plan.tile_step import TILES_PREFIX
from fstore.registry.database import BATCH, Database
from fstore.registry.heads import Scope, overlapping, read_blocked, read_heads
from fstore.registry.pins import changed_pins, changed_tiles
from fstore.registry.reads import affected_intervals
from fstore.registry.records import Batch, Outcome, Pin
from fstore.registry.source_reads import changed_sources, source_reaches
from fstore.registry.tables import (
    attempt_intervals,
    attempt_pins,
    attempts,
    damaged_files,
    data_files,
    publications,
    retired_attempts,
)
from fstore.registry.views import live_generations


class Changes(msgspec.Struct):
    """What has changed of what an attempt read: ranges of upstream views and tiles by name, and of sources by identity."""

    published: dict[str, list[Interval]] = {}
    sources: dict[str, list[Interval]] = {}

    def affected(self, step: Step, intervals: Sequence[Interval]) -> list[Interval]:
        """Return those of a step's intervals that read some of it, ascending."""
        reaches = source_reaches(step) if self.sources else {}
        return affected_intervals(step, intervals, self.published, self.sources, reaches)


def stale_intervals(database: Database, connection: Connection, view: str, generation: int) -> list[Interval]:
    """Return the intervals of a view whose head read something that has changed since, ascending."""
    log = publications.c
    published = sa.select(log.attempt_id).where(
        log.project == database.project, log.view == view, log.generation == generation
    )
    changed = _changes(database, connection, published)
    if not changed:
        return []
    heads = read_heads(database, connection, Scope(view=view, generation=generation))
    holders = {head.attempt for head in heads} & set(changed)
    stale: set[Interval] = set()
    for attempt, step, intervals in _attempts_of(connection, sorted(holders), "published"):
        held = [
            interval
            for interval in intervals
            if any(head.attempt == attempt for head in overlapping(heads, interval.start, interval.end))
        ]
        stale.update(changed[attempt].affected(step, held))
    return sorted(stale)


def intervals_blocked_again(database: Database, connection: Connection, step: Step, generation: int) -> list[Interval]:
    """Return the blocked intervals of a view that its step of now would find as they were."""
    blockers = read_blocked(database, connection, step.view, generation)
    if not blockers:
        return []
    c = attempt_intervals.c
    blocking = sa.select(c.attempt_id).where(
        c.project == database.project, c.view == step.view, c.generation == generation, c.outcome == "blocked"
    )
    changed = _changes(database, connection, blocking)
    again: set[Interval] = set()
    for attempt, then, intervals in _attempts_of(connection, sorted(set(blockers.values())), "blocked"):
        if (then.fingerprint, then.audits) == (step.fingerprint, step.audits):
            held = [interval for interval in intervals if blockers.get(interval) == attempt]
            again.update(set(held).difference(changed.get(attempt, Changes()).affected(then, held)))
    return sorted(again)


def finished_attempts(database: Database, connection: Connection, step: Step, batch: Batch) -> list[int]:
    """Return the attempts of a batch's run, from before it, that it need not repeat, ascending; see ``Ledger.finished``."""
    a, c = attempts.c, attempt_intervals.c
    blocked = sa.exists().where(c.attempt_id == a.id, c.outcome == "blocked")
    lost = sa.or_(
        sa.exists().where(damaged_files.c.attempt_id == a.id), sa.exists().where(retired_attempts.c.attempt_id == a.id)
    )
    filed = sa.exists().where(data_files.c.attempt_id == a.id)
    candidates = sa.select(a.id).where(
        a.project == database.project, a.view == step.view, a.run_id == batch.run_id, a.batch_id < batch.id,
        a.generation == batch.generation, a.fingerprint == step.fingerprint,
        a.state.in_(("begun", "validated", "published")), filed, ~blocked, ~lost,
    )  # fmt: skip
    changed = _changes(database, connection, candidates)
    rows = connection.execute(
        sa.select(a.id, a.step, a.start_at, a.end_at).where(a.id.in_(candidates)).order_by(a.id.desc())
    ).all()
    chosen: dict[int, Interval] = {}
    for row in rows:
        whole = Interval(row.start_at, row.end_at)
        within = any(range_.contains(whole) for range_ in batch.ranges)
        free = not any(whole.overlaps(other) for other in chosen.values())
        if row.id not in changed and within and free and decode_step(row.step).audits == step.audits:
            chosen[row.id] = whole
    return sorted(chosen, key=lambda id_: chosen[id_])


def _changes(database: Database, connection: Connection, among: sa.Select[tuple[int]]) -> dict[int, Changes]:
    """Return, for the attempts among those selected of which something has changed that they read, what."""
    changes: dict[int, Changes] = defaultdict(Changes)
    for attempt, datasets in changed_tiles(database, connection, among).items():
        changes[attempt].published.update(datasets)
    for attempt, sources in changed_sources(database, connection, among).items():
        changes[attempt].sources.update(sources)
    rows = connection.execute(
        sa.select(attempt_pins).where(attempt_pins.c.attempt_id.in_(among), ~attempt_pins.c.view.startswith(TILES_PREFIX))
    )
    pins: dict[str, list[tuple[int, Pin]]] = defaultdict(list)
    for row in rows:
        pin = Pin(view=row.view, start=row.start_at, end=row.end_at, sequence=row.sequence)
        pins[row.view].append((row.attempt_id, pin))
    generations = live_generations(database, connection, pins)
    for upstream, pinned in pins.items():
        now = changed_pins(database, connection, [pin for _, pin in pinned], generations.get(upstream))
        for (attempt, _), parts in zip(pinned, now, strict=True):
            if parts:
                changes[attempt].published.setdefault(upstream, []).extend(parts)
    return dict(changes)


def _attempts_of(connection: Connection, ids: Sequence[int], outcome: Outcome) -> Iterable[tuple[int, Step, list[Interval]]]:
    """Yield attempts with the step that they ran and their intervals of an outcome."""
    for at in range(0, len(ids), BATCH):
        batch = ids[at : at + BATCH]
        intervals: dict[int, list[Interval]] = defaultdict(list)
        c = attempt_intervals.c
        spans = connection.execute(
            sa.select(c.attempt_id, c.start_at, c.end_at)
            .where(c.attempt_id.in_(batch), c.outcome == outcome)
            .order_by(c.start_at)
        )
        for span in spans:
            intervals[span.attempt_id].append(Interval(span.start_at, span.end_at))
        for row in connection.execute(sa.select(attempts.c.id, attempts.c.step).where(attempts.c.id.in_(batch))):
            yield row.id, decode_step(row.step), intervals[row.id]
