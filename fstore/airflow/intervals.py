"""Which intervals a run of a DAG computes for a view: the one place that answers it.

Takes the facts of the run (its params, data interval, partition key and due time, in that order of precedence) and a step;
gives intervals of the step's own grid within the view's life. A run has no data interval when it was triggered without a
logical date or by an asset, so nothing else may look at one. Reads no database and no clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import msgspec

from fstore.errors import FStoreError
from fstore.interval import MICROSECOND, Interval, Schedule, format_instant, merge_intervals, parse_instant
from fstore.plan.steps import Step

RANGE_PARAMS = ("start", "end")
"""The params that make a manual run cover a range of intervals."""

_A_DAY = timedelta(hours=22)


class RunRefused(FStoreError):
    """A run that asks for something that a run of its kind cannot do."""

    code = "run_refused"


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a run says about itself; ``start`` and ``end`` are its params as written, None when empty."""

    dag_id: str
    run_id: str
    run_type: str
    run_after: datetime
    interval: Interval | None = None
    partition_key: str | None = None
    start: str | None = None
    end: str | None = None

    @property
    def is_scheduled(self) -> bool:
        """Whether the schedule made the run, so that it also catches up; a backfill computes its own interval only."""
        return self.run_type == "scheduled"

    @property
    def is_range(self) -> bool:
        """Whether the run carries a range."""
        return self.start is not None or self.end is not None


def check_run(run: RunFacts) -> None:
    """Raise RunRefused when a run carries a range although it has an interval of its own."""
    if run.is_range and run.run_type != "manual":
        raise RunRefused(
            f"run {run.run_id!r} is a {run.run_type} run and has its own interval, so it cannot carry the params `start` "
            "and `end`: every run of a backfill would compute the whole range again. Leave them empty in a backfill; to "
            f"compute many intervals at once, trigger {run.dag_id!r} by hand with `start` and `end`."
        )


def own_intervals(step: Step, run: RunFacts) -> list[Interval]:
    """Return the intervals of a view that a run asks for, ascending; empty when the view has none there.

    With `start` or `end`: all intervals that start between them, both inclusive, and are due (``end + lag``) when the run
    is; a missing `start` means the view's first interval, a missing `end` its newest one. Raises RunRefused for a range that
    is no range, or a partition key that is no instant.
    """
    check_run(run)
    if run.is_range:
        return _range(step, run)
    if run.interval is not None:
        return _within_life(step, step.schedule.intervals(run.interval.start, run.interval.end))
    if run.partition_key is not None:
        return _within_life(step, [_interval_of_key(step.schedule, run.partition_key)])
    until = _due_until(step, run.run_after)
    return _within_life(step, [step.schedule.interval_ending_by(until)])


def on_grid_of(step: Step, planned: Step, intervals: Sequence[Interval]) -> list[Interval]:
    """Return the intervals of a registered step that lie in those of the planned one, which may have another schedule.

    While a changed schedule waits for `fstore apply`, its DAG runs on the new grid and the view is computed on the old one.
    """
    if step.schedule == planned.schedule:
        return list(intervals)
    found = [each for span in merge_intervals(intervals) for each in step.schedule.intervals(span.start, span.end)]
    return _within_life(step, found)


def partition_key(schedule: Schedule, interval: Interval) -> str:
    """Return the key under which an interval is announced to other DAGs.

    Where intervals last a day or longer it is the first day in the schedule's zone (``2013-01-01``), else the start as an
    instant (``2013-01-01T05:00:00Z``).
    """
    if interval.end - interval.start >= _A_DAY:
        return interval.start.astimezone(ZoneInfo(schedule.timezone)).date().isoformat()
    return format_instant(interval.start)


def has_short_intervals(schedule: Schedule, around: datetime) -> bool:
    """Whether some interval of the schedule is shorter than a day, so that a date does not name it."""
    edges = schedule.boundaries(around, around + timedelta(days=40))
    return any(right - left < _A_DAY for left, right in pairwise(edges))


def range_of(values: Mapping[str, object]) -> tuple[str | None, str | None]:
    """Return the `start` and `end` that a run's params carry; empty texts count as absent."""
    start, end = (str(values[name]) if values.get(name) else None for name in RANGE_PARAMS)
    return start, end


def _range(step: Step, run: RunFacts) -> list[Interval]:
    lower = step.start if run.start is None else _bound(step, run.start, "start", last=False)
    upper = run.run_after if run.end is None else _bound(step, run.end, "end", last=True)
    if lower > upper:
        raise RunRefused(f"the range of run {run.run_id!r} is empty: `start` {run.start} lies after `end` {run.end}")
    starts = step.schedule.boundaries(lower, upper)
    if not starts:
        return []
    last = step.schedule.ceil(starts[-1] + MICROSECOND)
    until = _due_until(step, run.run_after)
    return [interval for interval in _within_life(step, step.schedule.intervals(starts[0], last)) if interval.end <= until]


def _bound(step: Step, text: str, name: str, *, last: bool) -> datetime:
    """Return a bound as an instant; a date means the whole day in the schedule's zone."""
    try:
        if "T" in text or " " in text.strip():
            return parse_instant(text)
        day = datetime.fromisoformat(text.strip()).date()
    except ValueError:
        raise RunRefused(f"`{name}` is {text!r}, which is no date such as 2013-01-31 and no time") from None
    zone = ZoneInfo(step.schedule.timezone)
    if last:
        return datetime.combine(day + timedelta(days=1), time(), zone).astimezone(UTC) - MICROSECOND
    return datetime.combine(day, time(), zone).astimezone(UTC)


def _interval_of_key(schedule: Schedule, key: str) -> Interval:
    """Return the interval that :func:`partition_key` named."""
    try:
        if "T" in key:
            start = parse_instant(key)
        else:
            day = datetime.fromisoformat(key).date()
            start = schedule.ceil(datetime.combine(day, time(), ZoneInfo(schedule.timezone)).astimezone(UTC))
    except ValueError:
        raise RunRefused(
            f"partition key {key!r} names no interval: it is no day such as 2013-01-31 and no instant such as "
            "2013-01-31T05:00:00Z"
        ) from None
    return Interval(start, schedule.ceil(start + MICROSECOND))


def _due_until(step: Step, now: datetime) -> datetime:
    until = now - step.lag
    return until if step.end is None else min(until, step.end)


def _within_life(step: Step, intervals: Sequence[Interval]) -> list[Interval]:
    return [i for i in intervals if step.start <= i.start and (step.end is None or i.end <= step.end)]
