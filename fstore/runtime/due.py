"""Which intervals of a view should be computed: those that are due and unpublished, stale, or damaged.

A question to the publication log, not to a scheduler: so a pause or an outage leaves no holes, whoever asks next.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

import msgspec

from fstore.errors import UnknownFeature
from fstore.interval import Interval, merge_intervals
from fstore.plan.steps import Step
from fstore.registry.records import Head
from fstore.registry.registry import Registry
from fstore.runtime.inputs import resolve_inputs

_AT_ONCE = 500
"""Intervals whose inputs are looked up together."""


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """The intervals to compute now, oldest first, and how many more are due beyond the limit."""

    intervals: tuple[Interval, ...]
    remaining: int = 0


def due_range(step: Step, now: datetime) -> Interval | None:
    """Return the range of all intervals that are due at an instant (``end + lag <= now``), or None."""
    until = now - step.lag
    if step.end is not None:
        until = min(until, step.end)
    grid = step.schedule
    first, last = grid.ceil(step.start), grid.floor(until)
    return Interval(first, last) if first < last else None


def intervals_within(step: Step, start: datetime, end: datetime) -> list[Interval]:
    """Return the intervals of a view that lie within ``[start, end)`` and within the view's own life."""
    until = end if step.end is None else min(end, step.end)
    return step.schedule.intervals(max(start, step.start), until)


def due_intervals(registry: Registry, step: Step, *, now: datetime, upto: datetime | None = None, limit: int) -> Due:
    """Return what is unpublished, stale or damaged among the due intervals, oldest first, at most ``limit`` of them.

    What another definition of the view has published is stale.

    ``upto`` leaves out intervals that end after it. Intervals whose last audit blocked them are left out, because the same
    inputs would be blocked again; they are due when a view that they read was republished or the definition changed. Of more
    than ``limit`` those come first whose inputs are published, so that what cannot be computed holds up nothing.
    """
    whole = due_range(step, now)
    if whole is None:
        return Due(intervals=())
    whole = whole if upto is None else Interval(whole.start, min(whole.end, upto))
    ledger = registry.ledger
    try:
        heads = ledger.heads(step.view, start=whole.start, end=whole.end)
    except UnknownFeature:  # not registered yet: all of it is due
        every = step.schedule.intervals(whole.start, whole.end)
        return Due(intervals=tuple(every[:limit]), remaining=max(0, len(every) - limit))
    serving = {step.fingerprint}
    if any(head.fingerprint != step.fingerprint for head in heads):
        serving |= registry.serving_fingerprints(step)
    stale = {*ledger.stale(step.view), *ledger.damaged(step.view)}
    again = ledger.blocked_again(step)
    ordered = wanted_intervals(step, whole, heads, stale=stale, blocked_again=again, serving=serving)
    chosen = _first(registry, step, ordered, limit)
    return Due(intervals=tuple(chosen), remaining=len(ordered) - len(chosen))


def wanted_intervals(
    step: Step, whole: Interval, heads: Sequence[Head], *, stale: Collection[Interval],
    blocked_again: Collection[Interval], serving: Collection[str],
) -> list[Interval]:  # fmt: skip
    """Return the intervals within a range that are unpublished, stale, or published by a definition that does not serve.

    Without those that would be blocked again. Pure.
    """
    published = [Interval(head.start, head.end) for head in heads if head.fingerprint in serving]
    wanted = {interval for interval in stale if whole.contains(interval)}
    for gap in subtract(whole, published):
        wanted.update(step.schedule.intervals(gap.start, gap.end))
    return sorted(wanted.difference(blocked_again))


def _first(registry: Registry, step: Step, ordered: Sequence[Interval], limit: int) -> Sequence[Interval]:
    """Return the first intervals whose inputs are published; those that have to wait only if there is no other."""
    if len(ordered) <= limit or not step.upstream:
        return ordered[:limit]
    ready: list[Interval] = []
    for at in range(0, len(ordered), _AT_ONCE):
        ready.extend(resolve_inputs(registry, step, ordered[at : at + _AT_ONCE]).ready)
        if len(ready) >= limit:
            break
    return ready[:limit] or ordered[:limit]


def subtract(whole: Interval, parts: Iterable[Interval]) -> list[Interval]:
    """Return what is left of an interval without the given ones, ascending."""
    left: list[Interval] = []
    cursor = whole.start
    for part in merge_intervals(parts):
        if part.start > cursor:
            left.append(Interval(cursor, min(part.start, whole.end)))
        cursor = max(cursor, part.end)
        if cursor >= whole.end:
            break
    if cursor < whole.end:
        left.append(Interval(cursor, whole.end))
    return [interval for interval in left if interval.start < interval.end]
