"""When a view's intervals are, how late they come due and how long their values count.

Takes the schedule, start, end and ttl that a view declares and what its inputs say (lag, start), and gives a
:class:`Timing`. The problems of all of them are reported together. Lists no intervals: that is the schedule's work.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache

import msgspec

from fstore.definitions.feature_view import View
from fstore.interval import Schedule, format_duration, format_instant, parse_duration, parse_instant
from fstore.plan.problems import Reporter


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """The time settings of a view, parsed."""

    schedule: Schedule
    start: datetime
    end: datetime | None
    lag: timedelta
    ttl: timedelta | None


def compile_timing(view: View, lags: Sequence[timedelta], starts: Sequence[datetime], report: Reporter) -> Timing | None:
    """Return a view's timing; ``lags`` and ``starts`` are those of its inputs. None when there is a problem."""
    schedule = _schedule(view, report)
    start = _instant("start", view.start, report) if view.start is not None else max(starts, default=None)
    if view.start is None and not starts:
        report.add("has no start, and no view among its inputs to inherit one from.", 'Add start = "2026-01-01".')
    end = _instant("end", view.end, report) if view.end is not None else None
    ttl = _ttl(view, report)
    if start is not None and end is not None and end <= start:
        report.add(f"ends at {format_instant(end)}, which is not after its start, {format_instant(start)}.",
                   "Move end past start, or remove it.")  # fmt: skip
        return None
    if schedule is None or start is None or (view.end is not None and end is None) or (view.ttl is not None and ttl is None):
        return None
    lag = max(lags, default=timedelta())
    if ttl is not None and ttl < (needed := lag + _longest(schedule, start)):
        report.add(
            f"has ttl {view.ttl!r}, shorter than its lag ({format_duration(lag)}) plus its longest interval "
            f"({format_duration(needed - lag)}): every value would vanish before its successor lands.",
            f'Use ttl = "{format_duration(needed)}" or more.',
        )
        return None
    return Timing(schedule=schedule, start=start, end=end, lag=lag, ttl=ttl)


def _schedule(view: View, report: Reporter) -> Schedule | None:
    if view.schedule is None:
        report.add("has no schedule.", 'Add schedule = "@daily", or another cron expression.')
        return None
    try:
        return Schedule.parse(view.schedule, view.timezone)
    except ValueError as error:
        report.add(f"has a schedule that cannot be used: {error}.")
        return None


def _instant(setting: str, text: str, report: Reporter) -> datetime | None:
    try:
        return parse_instant(text)
    except ValueError:
        report.add(f"has {setting} {text!r}, which is not an ISO 8601 date or time.", f'Write {setting} = "2026-01-01".')
        return None


def _ttl(view: View, report: Reporter) -> timedelta | None:
    if view.ttl is None:
        return None
    try:
        return parse_duration(view.ttl)
    except ValueError as error:
        report.add(f"has a ttl that cannot be used: {error}.")
        return None


@lru_cache(maxsize=1024)
def _longest(schedule: Schedule, around: datetime) -> timedelta:
    return schedule.longest(around)
