"""Which tiles some intervals need: the stretches of time, and of which length.

Pure: takes a set of tiles and intervals and gives disjoint ranges, aligned to the tiles. A window may only be cut at the
edge of a tile, so coarse tiles serve where no window of the intervals begins or ends inside of one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import msgspec

from fstore.interval import EPOCH, Interval, ceil_to, floor_to, merge_intervals
from fstore.plan.steps import TileSet
from fstore.registry.reads import tile_reach

_ZERO = timedelta()


class Needed(msgspec.Struct, frozen=True, kw_only=True):
    """The tiles that intervals need: ranges to be read as coarse and as fine tiles, ascending and disjoint of each other.

    ``far`` is the instant before which only coarse tiles are ever needed by the intervals and those that follow them: there
    windows end, and none begins.
    """

    fine: tuple[Interval, ...]
    coarse: tuple[Interval, ...]
    far: datetime


def needed_tiles(
    tiles: TileSet, intervals: Sequence[Interval], first_event: datetime | None, *, among: Sequence[Interval] = ()
) -> Needed:
    """Return the tiles that intervals need.

    ``first_event`` bounds windows that reach back for ever (None: there is no event yet). ``among`` are all the intervals of
    the run, where the given ones are a chunk: coarse tiles must serve them all.
    """
    reach = tile_reach(tiles)
    ends = [interval.end for interval in intervals]
    if reach.back is None:
        last = max(ends) - reach.front
        first = last - tiles.length if first_event is None else min(first_event, last - tiles.length)
        whole = [Interval(floor_to(first, tiles.coarse or tiles.length), last)]
    else:
        back = reach.back
        whole = merge_intervals(Interval(end - back, end - reach.front) for end in ends)
    far = min(ends) - max(tiles.edges, default=_ZERO)
    if tiles.coarse is None:
        return Needed(fine=tuple(whole), coarse=(), far=far)
    every = {interval.end for interval in (*intervals, *among)}
    edges = {end - distance for end in every for distance in tiles.edges}
    coarse = _uncut(whole, edges, tiles.coarse)
    return Needed(fine=tuple(subtract_ranges(whole, coarse)), coarse=tuple(coarse), far=far)


def blocks_within(ranges: Iterable[Interval], present: Sequence[Interval], length: timedelta) -> list[Interval]:
    """Return the tiles of a length, within ranges of such tiles, that lie wholly within what is present; merged."""
    inner = [
        Interval(ceil_to(part.start, length), floor_to(part.end, length))
        for part in clip_ranges(ranges, merge_intervals(present))
    ]
    return merge_intervals(part for part in inner if part.start < part.end)


def subtract_ranges(ranges: Iterable[Interval], parts: Iterable[Interval]) -> list[Interval]:
    """Return what is left of ranges without others, ascending and merged."""
    left: list[Interval] = []
    removed = merge_intervals(parts)
    for range_ in merge_intervals(ranges):
        cursor = range_.start
        for part in removed:
            if part.end <= cursor or part.start >= range_.end:
                continue
            if part.start > cursor:
                left.append(Interval(cursor, part.start))
            cursor = max(cursor, part.end)
        if cursor < range_.end:
            left.append(Interval(cursor, range_.end))
    return left


def cut_ranges(ranges: Sequence[Interval], most: timedelta) -> tuple[list[Interval], list[Interval]]:
    """Return the first stretch of ranges, of at most some length altogether, and the rest."""
    taken: list[Interval] = []
    for number, range_ in enumerate(ranges):
        if range_.end - range_.start > most:
            edge = range_.start + most
            first = [Interval(range_.start, edge)] if most else []
            return [*taken, *first], [Interval(edge, range_.end), *ranges[number + 1 :]]
        taken.append(range_)
        most -= range_.end - range_.start
    return taken, []


def clip_ranges(ranges: Iterable[Interval], within: Sequence[Interval]) -> list[Interval]:
    """Return the parts of ranges that lie within others."""
    return [
        Interval(max(range_.start, other.start), min(range_.end, other.end))
        for range_ in ranges
        for other in within
        if range_.overlaps(other)
    ]


def _uncut(whole: Sequence[Interval], edges: Iterable[datetime], length: timedelta) -> list[Interval]:
    """Return the coarse tiles within ranges that no edge cuts, merged."""
    aligned = [Interval(ceil_to(range_.start, length), floor_to(range_.end, length)) for range_ in whole]
    aligned = [range_ for range_ in aligned if range_.start < range_.end]
    cut = {floor_to(edge, length) for edge in edges if (edge - EPOCH) % length}
    return subtract_ranges(aligned, [Interval(start, start + length) for start in cut])
