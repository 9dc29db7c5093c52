"""How long the tiles of a view are.

Takes a schedule and the distances at which windows begin and end, and gives the largest usual length of which every edge of
every window is a whole multiple since 1970 in UTC. A zone counts by all offsets that it has from the view's start on. Knows
no events.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from croniter import croniter

from fstore.interval import MICROSECOND, Schedule, from_micros, to_micros

DAY, HOUR, MINUTE, SECOND = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)
MILLISECOND = timedelta(milliseconds=1)

COARSE = {
    DAY: 30 * DAY, HOUR: DAY, 15 * MINUTE: HOUR, 5 * MINUTE: HOUR, MINUTE: HOUR, SECOND: MINUTE, MILLISECOND: SECOND,
    MICROSECOND: MILLISECOND,
}  # fmt: skip
"""The lengths that tiles have, longest first, each with that of its second level."""

COARSE_FROM = 60
"""How many tiles the longest window has where a second level is worth it."""

_SAMPLE = timedelta(days=5)
_LAST_YEAR = 2100


def tile_length(schedule: Schedule, start: datetime, distances: Iterable[timedelta]) -> timedelta:
    """Return the length of tiles for intervals from ``start`` on, with edges of windows at distances before their end."""
    return even_length(math.gcd(_grid(schedule, start.year), *(distance // MICROSECOND for distance in distances)))


def even_length(step: int) -> timedelta:
    """Return the longest usual length of which a number of microseconds is a whole multiple."""
    return next(length for length in COARSE if step % (length // MICROSECOND) == 0)


def coarse_length(length: timedelta, reach: timedelta | None) -> timedelta | None:
    """Return the length of the second level for windows that reach back so far (None: for ever); None for none."""
    return COARSE[length] if reach is None or reach >= COARSE_FROM * length else None


@lru_cache(maxsize=512)
def _grid(schedule: Schedule, year: int) -> int:
    """Return the microseconds of which every boundary of a schedule from a year on is a multiple."""
    minutes, hours, *_ = croniter.expand(schedule.cron)[0]
    every_hour = hours == ["*"]
    walls = [
        (0 if every_hour else int(hour)) * HOUR + (0 if minutes == ["*"] else int(minute)) * MINUTE
        for hour in hours for minute in minutes
    ]  # fmt: skip
    steps = [DAY, *walls, *([HOUR] if every_hour else []), *([MINUTE] if minutes == ["*"] else [])]
    step = math.gcd(*(item // MICROSECOND for item in steps))
    if schedule.timezone == "UTC":
        return step
    offsets, transitions = _offsets(schedule.timezone, year)
    return math.gcd(step, *offsets, *(() if every_hour else transitions))


@lru_cache(maxsize=128)
def _offsets(zone: str, year: int) -> tuple[frozenset[int], frozenset[int]]:
    """Return the offsets that a zone has from a year on, and when they change, in microseconds.

    A change counts because a boundary whose wall time it skips lies there.
    """
    found: set[int] = set()
    changes: set[int] = set()
    info = ZoneInfo(zone)
    instant, until = (
        datetime(max(year - 1, 1), 1, 1, tzinfo=UTC) + DAY,
        datetime(max(_LAST_YEAR, year + 10), 1, 1, tzinfo=UTC),
    )
    offset = _offset(info, instant)
    while instant < until:
        found.add(offset)
        later = instant + _SAMPLE
        if (new := _offset(info, later)) != offset:
            changes.add(_change(info, to_micros(instant), to_micros(later), offset))
        instant, offset = later, new
    return frozenset(found), frozenset(changes)


def _offset(zone: ZoneInfo, instant: datetime) -> int:
    return (instant.astimezone(zone).utcoffset() or timedelta()) // MICROSECOND


def _change(zone: ZoneInfo, before: int, after: int, offset: int) -> int:
    """Return the first second after ``before`` at which a zone has another offset; all in microseconds."""
    second = SECOND // MICROSECOND
    while after - before > second:
        middle = before + (after - before) // (2 * second) * second
        if _offset(zone, from_micros(middle)) == offset:
            before = middle
        else:
            after = middle
    return after
