"""Which part of what it reads an interval of a step depends on: of upstream views, of tiles and of sources.

Pure: takes steps and intervals and gives ranges of time. What of that has changed is for ``staleness`` to say.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from fstore.interval import Interval, merge_intervals
from fstore.plan.steps import HistoryInput, Step, TileSet, ViewInput, own_aggregates, tile_dataset

_BEGINNING = datetime.min.replace(tzinfo=UTC)
_ZERO = timedelta()


class Reach(NamedTuple):
    """What an interval ending at ``t`` reads: the time from ``t - back`` (None: from the beginning) to ``t - front``."""

    back: timedelta | None
    front: timedelta = _ZERO

    def joined(self, other: Reach) -> Reach:
        """Return the reach that covers both."""
        back = None if self.back is None or other.back is None else max(self.back, other.back)
        return Reach(back, min(self.front, other.front))


def affected_intervals(
    step: Step, intervals: Sequence[Interval], changed: Mapping[str, Sequence[Interval]],
    changed_sources: Mapping[str, Sequence[Interval]] | None = None, reaches: Mapping[str, Reach] | None = None,
) -> list[Interval]:  # fmt: skip
    """Return those of a view's intervals that read a part of the changed ranges of some view, tiles or source, ascending.

    ``reaches`` says how far back the step reads each source of ``changed_sources``.
    """
    affected: set[Interval] = set()
    for item in step.inputs:
        if isinstance(item, ViewInput) and item.view in changed and intervals:
            affected.update(_overlapping(intervals, _upstream_reads(item, intervals), changed[item.view]))
    for tiles in tile_sets(step):
        reach = tile_reach(tiles)
        for dataset in tile_datasets(tiles):
            if dataset in changed:
                affected.update(_overlapping(intervals, _reached(reach, intervals), changed[dataset]))
    for source, ranges in (changed_sources or {}).items():
        reach = (reaches or {}).get(source, Reach(None))
        affected.update(_overlapping(intervals, _reached(reach, intervals), ranges))
    return sorted(affected)


def tile_sets(step: Step) -> tuple[TileSet, ...]:
    """Return the sets of tiles that a step reads."""
    aggregates = own_aggregates(step)
    return () if aggregates is None else aggregates.tiles


def tile_datasets(tiles: TileSet) -> Iterator[str]:
    """Yield the names of the data sets of a set of tiles, of both levels."""
    for state in tiles.states:
        yield state.dataset
        if tiles.coarse is not None:
            yield tile_dataset(state.identity, tiles.coarse)


def tile_reach(tiles: TileSet) -> Reach:
    """Return what an interval reads of a set of tiles."""
    return Reach(tiles.back, min(tiles.edges, default=_ZERO))


def _upstream_reads(item: ViewInput, intervals: Sequence[Interval]) -> list[Interval]:
    """Return, for each interval, the range of the upstream view that it reads."""
    if isinstance(item, HistoryInput):
        return list(intervals)
    untils = [interval.end if item.end is None else min(interval.end, item.end) for interval in intervals]
    first = item.schedule.interval_ending_by(min(untils))
    edges = item.schedule.boundaries(first.start, max(untils))
    ends = [bisect.bisect_right(edges, until) - 1 for until in untils]
    return [Interval(edges[end - 1], edges[end]) for end in ends]


def _reached(reach: Reach, intervals: Sequence[Interval]) -> Iterator[Interval]:
    for interval in intervals:
        start = _BEGINNING if reach.back is None else interval.end - reach.back
        yield Interval(start, interval.end - reach.front)


def _overlapping(
    intervals: Sequence[Interval], reads: Sequence[Interval] | Iterator[Interval], changed: Sequence[Interval]
) -> Iterator[Interval]:
    """Yield the intervals whose read range shares an instant with a changed one."""
    ranges = merge_intervals(changed)
    for interval, read in zip(intervals, reads, strict=True):
        at = bisect.bisect_right(ranges, read.start, key=lambda each: each.end)
        if at < len(ranges) and ranges[at].start < read.end:
            yield interval
