"""Which intervals were computed from inputs that have been republished since, and which were blocked and would be again.

Takes an open connection and gives intervals. The pins of an attempt say what it read; the step that it ran says which of
its intervals read which upstream interval.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterable, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fstore.interval import Interval, merge_intervals
from fstore.plan.steps import HistoryInput, Step, ViewInput, decode_step
from fstore.registry.database import BATCH, Database
from fstore.registry.heads import Scope, overlapping, read_blocked, read_heads
from fstore.registry.pins import changed_pins
from fstore.registry.records import Outcome, Pin
from fstore.registry.tables import attempt_intervals, attempt_pins, attempts, publications
from fstore.registry.views import live_generations

Changed = dict[int, dict[str, list[Interval]]]
"""Per attempt and upstream view, the ranges that it read and that were republished since."""


def stale_intervals(database: Database, connection: Connection, view: str, generation: int) -> list[Interval]:
    """Return the intervals of a view whose head pinned a publication that is not the upstream's head any more."""
    log = publications.c
    published = sa.select(log.attempt_id).where(
        log.project == database.project, log.view == view, log.generation == generation
    )
    changed = _changed_inputs(database, connection, published)
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
        stale.update(affected_intervals(step, held, changed[attempt]))
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
    changed = _changed_inputs(database, connection, blocking)
    again: set[Interval] = set()
    for attempt, then, intervals in _attempts_of(connection, sorted(set(blockers.values())), "blocked"):
        if (then.fingerprint, then.audits) == (step.fingerprint, step.audits):
            held = [interval for interval in intervals if blockers.get(interval) == attempt]
            again.update(set(held).difference(affected_intervals(then, held, changed.get(attempt, {}))))
    return sorted(again)


def affected_intervals(step: Step, intervals: Sequence[Interval], changed: dict[str, list[Interval]]) -> list[Interval]:
    """Return those of a view's intervals that read, of some upstream view, a part of its changed ranges. Pure."""
    affected: set[Interval] = set()
    for item in step.inputs:
        if not isinstance(item, ViewInput) or item.view not in changed or not intervals:
            continue
        ranges = merge_intervals(changed[item.view])
        for interval, read in zip(intervals, _reads(item, intervals), strict=True):
            at = bisect.bisect_right(ranges, read.start, key=lambda each: each.end)
            if at < len(ranges) and ranges[at].start < read.end:
                affected.add(interval)
    return sorted(affected)


def _reads(item: ViewInput, intervals: Sequence[Interval]) -> list[Interval]:
    """Return, for each interval, the range of the upstream view that it reads."""
    if isinstance(item, HistoryInput):
        return list(intervals)
    untils = [interval.end if item.end is None else min(interval.end, item.end) for interval in intervals]
    first = item.schedule.interval_ending_by(min(untils))
    edges = item.schedule.boundaries(first.start, max(untils))
    ends = [bisect.bisect_right(edges, until) - 1 for until in untils]
    return [Interval(edges[end - 1], edges[end]) for end in ends]


def _changed_inputs(database: Database, connection: Connection, among: sa.Select[tuple[int]]) -> Changed:
    rows = connection.execute(sa.select(attempt_pins).where(attempt_pins.c.attempt_id.in_(among)))
    pins: dict[str, list[tuple[int, Pin]]] = defaultdict(list)
    for row in rows:
        pin = Pin(view=row.view, start=row.start_at, end=row.end_at, sequence=row.sequence)
        pins[row.view].append((row.attempt_id, pin))
    generations = live_generations(database, connection, pins)
    changed: Changed = {}
    for upstream, pinned in pins.items():
        now = changed_pins(database, connection, [pin for _, pin in pinned], generations.get(upstream))
        for (attempt, _), parts in zip(pinned, now, strict=True):
            if parts:
                changed.setdefault(attempt, {}).setdefault(upstream, []).extend(parts)
    return changed


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
