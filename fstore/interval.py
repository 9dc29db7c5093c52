"""Durations, half-open intervals and the grid of intervals that a schedule lays over time.

Every instant is an aware ``datetime`` in UTC with microseconds. A schedule is a cron expression and a time zone; its
boundaries cut time into intervals ``[start, end)`` that follow the zone's days (23 to 25 hours where clocks change).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import msgspec
from croniter import CroniterBadDateError, croniter

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

_UNITS = {"s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1),
          "w": timedelta(weeks=1), "y": timedelta(days=365)}  # fmt: skip
_PART = re.compile(r"([0-9]+)([smhdwy])")
_CRON_WORDS = {"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
               "SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT", "L"}  # fmt: skip
_LABEL_WORDS = {"*": "x", "/": "every", "-": "to", ",": "and", "#": "nth", "?": "any"}
_PRESETS = {"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
            "@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *"}  # fmt: skip


def parse_duration(text: str) -> timedelta:
    """Parse an exact duration such as ``"90m"``, ``"7d"`` or ``"1d12h"``.

    Units are s, m (minutes), h, d (24 hours), w and y (365 days); ``"0s"`` is a valid duration of nothing. Raises ValueError
    on anything else, and on what is longer than time can be counted.
    """
    parts = _PART.findall(text.strip())
    if not parts or "".join(count + unit for count, unit in parts) != text.strip():
        raise ValueError(
            f'{text!r} is not a duration; write a number and a unit of s, m, h, d, w or y, such as "7d" or "1d12h"'
        )
    try:
        return sum((int(count) * _UNITS[unit] for count, unit in parts), timedelta())
    except (OverflowError, ValueError):  # the latter for thousands of digits
        raise ValueError(f"{text[:40]!r} is longer than time can be counted") from None


def format_duration(duration: timedelta) -> str:
    """Write a duration in days, hours, minutes and seconds, so that it parses back to the same one.

    Raises ValueError when it is negative or has a fraction of a second: no definition can say such a duration.
    """
    if duration < timedelta() or duration.microseconds:
        raise ValueError(f"{duration!r} is not a whole number of seconds from zero up")
    left, text = duration, ""
    for unit in ("d", "h", "m", "s"):
        count, left = divmod(left, _UNITS[unit])
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def parse_instant(text: str) -> datetime:
    """Parse an ISO 8601 date or time into UTC; a text without a zone is taken as UTC. Raises ValueError."""
    try:
        value = datetime.fromisoformat(text.strip())
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f'{text!r} is not a date or time; write it as in "2026-01-31" or "2026-01-31T06:30:00+01:00"'
        ) from None


def format_instant(instant: datetime) -> str:
    """Write an instant as ISO 8601 in UTC with a ``Z``, without a zero fraction."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def to_micros(instant: datetime) -> int:
    """Return microseconds since 1970-01-01 UTC, exactly."""
    return (instant - EPOCH) // MICROSECOND


def from_micros(micros: int) -> datetime:
    """Return the instant that many microseconds after 1970-01-01 UTC."""
    return EPOCH + timedelta(microseconds=micros)


class Interval(msgspec.Struct, frozen=True, order=True, gc=False):
    """A half-open range of time ``[start, end)`` in UTC."""

    start: datetime
    end: datetime

    def __str__(self) -> str:
        return f"[{format_instant(self.start)}, {format_instant(self.end)})"

    def contains(self, other: Interval) -> bool:
        """Whether the whole of ``other`` lies in this interval."""
        return self.start <= other.start and other.end <= self.end

    def overlaps(self, other: Interval) -> bool:
        """Whether some instant lies in both."""
        return self.start < other.end and other.start < self.end


def merge_intervals(intervals: Iterable[Interval]) -> list[Interval]:
    """Return the same instants as few, sorted, disjoint intervals: those that touch or overlap become one."""
    merged: list[Interval] = []
    for interval in sorted(intervals):
        if merged and interval.start <= merged[-1].end:
            merged[-1] = Interval(merged[-1].start, max(merged[-1].end, interval.end))
        else:
            merged.append(interval)
    return merged


class Schedule(msgspec.Struct, frozen=True):
    """The grid of boundaries that a cron expression gives in a time zone.

    A wall time that a clock change repeats counts once, at its later instant, and one that it skips counts at the instant
    the clock moves past it; only a cron whose hour field is ``*`` follows every hour that really passes.
    """

    cron: str
    timezone: str = "UTC"

    @classmethod
    def parse(cls, text: str, timezone: str = "UTC") -> Schedule:
        """Check a cron expression or preset and a zone name. Raises ValueError with what is possible."""
        cron = _PRESETS.get(text.strip(), text.strip())
        words = {word.upper() for word in re.findall(r"[A-Za-z]+", cron)}  # not R and H: they mean something random
        if len(cron.split()) != 5 or not words <= _CRON_WORDS or not croniter.is_valid(cron):  # type: ignore[no-untyped-call]
            raise ValueError(f"{text!r} is not a cron expression of five fields or one of {', '.join(_PRESETS)}")
        try:
            next(_wall_times(cron, datetime(2000, 1, 1), datetime.max))  # noqa: DTZ001, DTZ901
        except CroniterBadDateError:
            raise ValueError(f"{text!r} names a day that no month has, so it never comes") from None
        try:
            ZoneInfo(timezone)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"{timezone!r} is not a time zone name; use one such as 'UTC' or 'Europe/Berlin'") from None
        return cls(cron, timezone)

    @property
    def label(self) -> str:
        """A short name for ids: ``hourly``, ``daily``, …, or the cron written with underscores."""
        for preset in ("@hourly", "@daily", "@weekly", "@monthly", "@yearly"):
            if _PRESETS[preset] == self.cron and self.timezone == "UTC":
                return preset[1:]
        cron = "_".join("".join(_LABEL_WORDS.get(letter, letter) for letter in field) for field in self.cron.split())
        if self.timezone == "UTC":
            return cron
        zone = re.sub(r"([+-])(?=[0-9])", lambda sign: "plus" if sign[0] == "+" else "minus", self.timezone)
        return f"{cron}_{re.sub(r'[^0-9A-Za-z]+', '_', zone)}"

    def boundaries(self, start: datetime, end: datetime) -> list[datetime]:
        """Return the boundaries ``b`` with ``start <= b <= end``, ascending."""
        if start > end:
            return []
        if step := _uniform_step(self):
            first = -(-(start - EPOCH) // step)
            last = (end - EPOCH) // step
            return [EPOCH + step * index for index in range(first, last + 1)]
        zone = ZoneInfo(self.timezone)
        margin = timedelta(days=1)
        follows_hours = self.cron.split()[1] == "*"
        instants: set[datetime] = set()
        stop = (end + margin).astimezone(zone).replace(tzinfo=None)
        for wall in _wall_times(self.cron, (start - margin).astimezone(zone).replace(tzinfo=None), stop):
            instants.update(_instants_of(wall, zone, follows_hours=follows_hours))
        return sorted(instant for instant in instants if start <= instant <= end)

    def floor(self, instant: datetime) -> datetime:
        """Return the last boundary at or before an instant."""
        reach = _reach(self)
        while not (found := self.boundaries(instant - reach, instant)):
            reach *= 4
        return found[-1]

    def ceil(self, instant: datetime) -> datetime:
        """Return the first boundary at or after an instant."""
        reach = _reach(self)
        while not (found := self.boundaries(instant, instant + reach)):
            reach *= 4
        return found[0]

    def intervals(self, start: datetime, end: datetime) -> list[Interval]:
        """Return the intervals that lie wholly within ``[start, end)``, ascending."""
        edges = self.boundaries(start, end)
        return [Interval(left, right) for left, right in pairwise(edges)]

    def interval_ending_by(self, instant: datetime) -> Interval:
        """Return the newest interval whose end is at or before an instant."""
        end = self.floor(instant)
        return Interval(self.floor(end - MICROSECOND), end)

    def longest(self, around: datetime) -> timedelta:
        """Return the longest interval of the two years that follow ``around`` (of the next eight for sparse crons)."""
        return _longest(self, around)


@lru_cache(maxsize=512)
def _longest(schedule: Schedule, around: datetime) -> timedelta:
    if step := _uniform_step(schedule):
        return step
    edges = schedule.boundaries(around, around + timedelta(days=730))
    if len(edges) < 3:
        edges = schedule.boundaries(around, around + timedelta(days=8 * 366))
    return max((right - left for left, right in pairwise(edges)), default=timedelta(days=8 * 366))


@lru_cache(maxsize=512)
def _uniform_step(schedule: Schedule) -> timedelta | None:
    """Return the constant distance of a grid that is uniform from the epoch on, else None."""
    if schedule.timezone != "UTC":
        return None
    minute, hour, *rest = schedule.cron.split()
    if rest != ["*", "*", "*"]:
        return None
    if (minute, hour) == ("0", "0"):
        return timedelta(days=1)
    if minute == "0" and hour == "*":
        return timedelta(hours=1)
    if minute == "*" and hour == "*":
        return timedelta(minutes=1)
    every = re.fullmatch(r"\*/(\d+)", minute if hour == "*" else hour if minute == "0" else "")
    if every and int(every[1]) and (60 if hour == "*" else 24) % int(every[1]) == 0:
        return timedelta(minutes=int(every[1])) if hour == "*" else timedelta(hours=int(every[1]))
    return None


@lru_cache(maxsize=512)
def _reach(schedule: Schedule) -> timedelta:
    """Return a span in which the schedule surely has a boundary, or nearly so (callers widen it when empty)."""
    _, hour, day, month, weekday = schedule.cron.split()
    if hour == "*":
        return timedelta(hours=3)
    if (day, month, weekday) == ("*", "*", "*"):
        return timedelta(days=2)
    return timedelta(days=40)


def _wall_times(cron: str, after: datetime, until: datetime) -> Iterator[datetime]:
    """Yield the naive wall times that match a cron after one wall time and up to another."""
    walls = croniter(cron, after)
    while (wall := walls.get_next(datetime)) <= until:  # type: ignore[no-untyped-call]
        yield wall


def _instants_of(wall: datetime, zone: ZoneInfo, *, follows_hours: bool) -> Sequence[datetime]:
    """Return the instants at which a wall time counts as a boundary."""
    earlier = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    later = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    if earlier == later:
        return (earlier,)
    if earlier.astimezone(zone).replace(tzinfo=None) != wall:  # the clock skipped it
        if follows_hours:
            return ()
        return (_transition(later, earlier, zone),)
    return (earlier, later) if follows_hours else (later,)


def _transition(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """Return the first whole second in ``(before, after]`` with the UTC offset that ``after`` has."""
    offset = after.astimezone(zone).utcoffset()
    while after - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=(after - before).total_seconds() // 2)
        if middle.astimezone(zone).utcoffset() == offset:
            after = middle
        else:
            before = middle
    return after


def floor_to(instant: datetime, length: timedelta) -> datetime:
    """Return the start of the tile that holds an instant."""
    return EPOCH + (instant - EPOCH) // length * length


def ceil_to(instant: datetime, length: timedelta) -> datetime:
    """Return the first start of a tile that is not before an instant."""
    return EPOCH - (EPOCH - instant) // length * length


def aligned_out(range_: Interval, length: timedelta) -> Interval:
    """Return the range of the tiles that share an instant with a range."""
    return Interval(floor_to(range_.start, length), ceil_to(range_.end, length))
