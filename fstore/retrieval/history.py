"""Which published interval answers for which instant: the ASOF of entity times against the publication log.

Takes a step, the heads of its publications, the intervals that validation blocked, and instants as microseconds; gives per
instant the snapshot to read, if any. Pure and vectorised over the instants; the log is a few hundred or thousand ranges.
Reads no rows of any view.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
import numpy as np
import numpy.typing as npt

from fstore.errors import IncompleteHistory
from fstore.interval import MICROSECOND, Interval, from_micros, merge_intervals, to_micros
from fstore.plan.steps import Step
from fstore.registry.records import Head

Micros = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

BEFORE_ALL = np.iinfo(np.int64).min
"""Stands for no bound, or no snapshot, in an array of instants."""


class Grid(msgspec.Struct, frozen=True):
    """A view's intervals, ascending, as arrays of the same length.

    ``head`` is the index of the head that holds an interval (-1: unpublished); ``due`` marks intervals of the view's life;
    ``blocked`` those whose newest verdict failed.
    """

    starts: Micros
    ends: Micros
    head: npt.NDArray[np.intp]
    due: Mask
    blocked: Mask


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What each instant reads.

    ``visible`` is the instant less the lag: what ends, or happened, by then counts. ``oldest`` is the oldest time within
    ttl. ``interval`` indexes the grid (-1: nothing published so early). ``expired`` marks instants whose interval lies
    beyond ttl, ``fallback`` those whose own interval is blocked or missing. ``used`` are the intervals read,
    ascending.
    """

    grid: Grid
    visible: Micros
    oldest: Micros
    interval: npt.NDArray[np.intp]
    expired: Mask
    fallback: Mask
    used: npt.NDArray[np.intp]

    @property
    def snapshot(self) -> Micros:
        """The end of the snapshot to read per instant, BEFORE_ALL where there is none."""
        ends: Micros = np.append(self.grid.ends, BEFORE_ALL)[self.interval]  # -1 is the last
        if self.expired.any():
            ends[self.expired] = BEFORE_ALL
        return ends

    @property
    def reads(self) -> Mask:
        """Where there is a snapshot to read."""
        return (self.interval >= 0) & ~self.expired


def lay_grid(step: Step, heads: Sequence[Head], blocked: Sequence[Interval], until: datetime) -> Grid:
    """Return the intervals of a view up to ``until``, and any published or blocked later.

    Of those after all that, which nothing is known of, one or two stand for any number: instants may lie in the year 9999.
    """
    published = [head.end for head in heads]
    known = max([step.start, *published, *(interval.end for interval in blocked)])
    last = max(until, known)
    if step.end is not None:
        last = min(last, max([step.end, *published]))
    if last > known:
        after = step.schedule.ceil(known + MICROSECOND)
        last = min(last, step.schedule.ceil(after + MICROSECOND))
    first = min([step.start, *(head.start for head in heads)])
    edges = np.array([to_micros(edge) for edge in step.schedule.boundaries(first, last)], dtype=np.int64)
    starts, ends = edges[:-1], edges[1:]
    due = starts >= to_micros(step.start)
    if step.end is not None:
        due &= ends <= to_micros(step.end)
    head = np.full(len(ends), -1, dtype=np.intp)
    if heads:
        head_starts = np.array([to_micros(item.start) for item in heads], dtype=np.int64)
        head_ends = np.array([to_micros(item.end) for item in heads], dtype=np.int64)
        holder = np.searchsorted(head_starts, starts, side="right") - 1
        held = (holder >= 0) & (ends <= head_ends[holder])
        head[held] = holder[held]
    blocked_ends = np.array([to_micros(interval.end) for interval in blocked], dtype=np.int64)
    return Grid(starts, ends, head, due, np.isin(ends, blocked_ends))


def find_answers(step: Step, grid: Grid, instants: Micros, *, counts: Mask, strict: bool) -> Answer:
    """Return what each instant reads.

    ``counts`` marks the instants that need a value at all (their key is not null). Raises IncompleteHistory if ``strict``
    and an interval that one of those needs was never published, nor blocked by validation.
    """
    visible: Micros = instants - step.lag // MICROSECOND
    oldest = oldest_within_ttl(step, instants)
    ended = count_until(grid.ends, visible)
    published = grid.head >= 0
    needed, newest = _newest(grid.due), _newest(published)
    astray, lost = np.zeros(len(instants), dtype=np.bool_), np.zeros(len(instants), dtype=np.bool_)
    unpublished = (needed >= 0) & ~np.append(published, False)[needed]
    if unpublished.any():
        astray = counts & unpublished[ended]
        lost = counts & (unpublished & ~np.append(grid.blocked, False)[needed])[ended]
    if strict and lost.any():
        within = lost & (ended < len(grid.ends))
        intervals = [_interval(grid, index) for index in np.unique(needed[ended[within]])]
        raise _incomplete(step, [*intervals, *_intervals_ended(step, visible[lost & ~within])], int(lost.sum()))
    interval = newest[ended]
    expired = np.zeros(len(instants), dtype=np.bool_)
    if step.ttl is not None and len(grid.ends):
        expired = (interval >= 0) & (grid.ends[interval] < oldest)
    read = newest[np.flatnonzero(np.bincount(ended[~expired] if expired.any() else ended))]
    read = read[read >= 0]
    return Answer(
        grid=grid, visible=visible, oldest=oldest, interval=interval, expired=expired, fallback=astray,
        used=read[np.flatnonzero(np.diff(read, prepend=-1))],  # they ascend
    )  # fmt: skip


def count_until(ends: Micros, instants: Micros) -> npt.NDArray[np.intp]:
    """Return how many of the ascending ends are at or before each instant; arithmetic where they are evenly spaced."""
    if len(ends) < 2 or not len(instants):
        return np.searchsorted(ends, instants, side="right")
    step = int(ends[1] - ends[0])
    if (np.diff(ends) != step).any():
        return np.searchsorted(ends, instants, side="right")
    ended: npt.NDArray[np.intp] = instants - (ends[0] - step)
    ended //= step
    return np.clip(ended, 0, len(ends), out=ended)


def oldest_within_ttl(step: Step, instants: Micros) -> Micros:
    """Return the oldest time that still holds at each instant; a closed view's ttl is measured at its end."""
    if step.ttl is None:
        return np.broadcast_to(BEFORE_ALL, instants.shape)
    measured: Micros = instants if step.end is None else np.minimum(instants, to_micros(step.end))
    return measured - step.ttl // MICROSECOND


def used_heads(heads: Sequence[Head], answer: Answer) -> list[Head]:
    """Return the heads that hold an interval in use, each cut to the intervals in use."""
    grid, used = answer.grid, answer.used
    holder = grid.head[used]
    cut: list[Head] = []
    for index in sorted(set(holder.tolist())):  # np.unique would import all of numpy.ma
        inside = used[holder == index]
        start, end = from_micros(int(grid.starts[inside[0]])), from_micros(int(grid.ends[inside[-1]]))
        cut.append(msgspec.structs.replace(heads[index], start=start, end=end))
    return cut


def overlapping_heads(heads: Sequence[Head], start: datetime | None, end: datetime) -> list[Head]:
    """Return the heads cut to ``[start, end)`` (no lower bound when start is None); those outside are left out."""
    return [
        msgspec.structs.replace(head, start=head.start if start is None else max(head.start, start), end=min(head.end, end))
        for head in heads
        if head.start < end and (start is None or head.end > start)
    ]


def _newest(among: Mask) -> npt.NDArray[np.intp]:
    """Return, per number of intervals that have ended, the newest of them among those marked; -1 where there is none."""
    marked = np.where(among, np.arange(len(among)), -1)
    return np.concatenate([[-1], np.maximum.accumulate(marked)]) if len(among) else np.array([-1])


def _interval(grid: Grid, index: int) -> Interval:
    return Interval(from_micros(int(grid.starts[index])), from_micros(int(grid.ends[index])))


def _intervals_ended(step: Step, instants: Micros) -> list[Interval]:
    """Return the newest interval of a view that has ended by each instant, each once, latest first."""
    left = np.unique(instants if step.end is None else np.minimum(instants, to_micros(step.end)))
    found: list[Interval] = []
    while len(left):
        found.append(step.schedule.interval_ending_by(from_micros(int(left[-1]))))
        left = left[left < to_micros(found[-1].end)]
    return found


def _incomplete(step: Step, lost: Sequence[Interval], rows: int) -> IncompleteHistory:
    return IncompleteHistory(step.view, [(merged.start, merged.end) for merged in merge_intervals(lost)], rows)
