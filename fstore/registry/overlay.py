"""Lay ranges over each other: at every instant the one of highest rank is seen.

Takes ranges with a rank and gives maximal, disjoint, ascending ranges with the index of the one seen. Pure; it knows
nothing of publications. A sweep over the boundaries with a heap of open ranges: O(n log n).
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence
from datetime import datetime

Range = tuple[datetime, datetime]


def overlay(ranges: Sequence[Range], ranks: Sequence[int]) -> list[tuple[datetime, datetime, int]]:
    """Return ``(start, end, index)`` of what is seen; ranks are unique, empty ranges are never seen.

    Neighbouring pieces of the same range are one.
    """
    order = sorted((index for index, (start, end) in enumerate(ranges) if start < end), key=lambda index: ranges[index][0])
    edges = sorted({edge for start, end in ranges if start < end for edge in (start, end)})
    seen: list[tuple[datetime, datetime, int]] = []
    open_ranges: list[tuple[int, int]] = []
    upcoming = 0
    for left, right in itertools.pairwise(edges):
        while upcoming < len(order) and ranges[order[upcoming]][0] <= left:
            heapq.heappush(open_ranges, (-ranks[order[upcoming]], order[upcoming]))
            upcoming += 1
        while open_ranges and ranges[open_ranges[0][1]][1] <= left:
            heapq.heappop(open_ranges)
        if not open_ranges:
            continue
        index = open_ranges[0][1]
        if seen and seen[-1][2] == index and seen[-1][1] == left:
            seen[-1] = (seen[-1][0], right, index)
        else:
            seen.append((left, right, index))
    return seen
