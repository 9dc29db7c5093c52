"""When a view's intervals are, how late they come due and how long their values count.

Takes the schedule, start, end and ttl that a view declares and what its inputs say (lag, start), and gives a
:class:`Timing`. Lists no intervals: that is the schedule's work.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache

import msgspec

from fstore.definitions.feature_view import View
from fstore.definitions.problems import Reporter
from fstore.interval import Schedule, format_duration, format_instant, parse_duration, parse_instant


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """The time settings of a view, parsed, and what it inherits from its inputs."""

    schedule: Schedule
    start: datetime
    end: datetime | None
    lag: timedelta
    ttl: timedelta | None


def compile_timing(view: View, lags: Sequence[timedelta], starts: Sequence[datetime], report: Reporter) -> Timing | None:
    """Return a view's timing; ``lags`` and ``starts`` are those of its inputs. None when there is a problem."""
    schedule = _schedule(view.schedule or "@daily", view.timezone)
    start = parse_instant(view.start) if view.start is not None else max(starts, default=None)
    end = parse_instant(view.end) if view.end is not None else None
    ttl = parse_duration(view.ttl) if view.ttl is not None else None
    lag = max(lags, default=timedelta())
    before = len(report.problems)
    if start is None:
        report.add("has no start, and no view among its inputs to inherit one from.", 'Add start = "2026-01-01".')
        return None
    if end is not None and end <= start:
        report.add(f"ends at {format_instant(end)}, which is not after {format_instant(start)}, where it starts.",
                   "Move its end, or give it an earlier start.")  # fmt: skip
    if ttl is not None and ttl < lag + (longest := _longest(schedule, start)):
        report.add(
            f"has ttl {view.ttl!r}, shorter than its lag ({format_duration(lag)}) plus its longest interval "
            f"({format_duration(longest)}): every value would vanish before its successor lands.",
            f'Use ttl = "{format_duration(lag + longest)}" or more.',
        )
    if len(report.problems) > before:
        return None
    return Timing(schedule=schedule, start=start, end=end, lag=lag, ttl=ttl)


@lru_cache(maxsize=1024)
def _schedule(text: str, timezone: str) -> Schedule:
    return Schedule.parse(text, timezone)


@lru_cache(maxsize=1024)
def _longest(schedule: Schedule, around: datetime) -> timedelta:
    return schedule.longest(around)
