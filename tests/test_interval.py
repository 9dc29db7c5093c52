"""Durations, instants, and the grid of a schedule against a naive count of minutes."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fstore.interval import (
    Interval,
    Schedule,
    format_duration,
    format_instant,
    from_micros,
    merge_intervals,
    parse_duration,
    parse_instant,
    to_micros,
)

MINUTE = timedelta(minutes=1)

# -- durations and instants ---


@given(st.integers(0, 10**9))
def test_a_duration_is_read_as_it_was_written(seconds: int) -> None:
    duration = timedelta(seconds=seconds)
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90m", 5400), ("1d12h", 129_600), ("2w", 1_209_600), ("1y", 31_536_000), ("0s", 0), (" 7d ", 604_800), ("1h1h", 7200)],
)
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "7", "d", "7 d", "-7d", "7D", "1.5h", "7d!", "٣d"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration; write a number and a unit of s, m, h, d, w or y"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["9999999999d", "9" * 5000 + "s"])
def test_a_duration_that_cannot_be_counted(text: str) -> None:
    with pytest.raises(ValueError, match="is longer than time can be counted"):
        parse_duration(text)


@pytest.mark.parametrize("duration", [timedelta(seconds=-1), timedelta(microseconds=1)])
def test_a_duration_that_cannot_be_written(duration: timedelta) -> None:
    with pytest.raises(ValueError, match="is not a whole number of seconds from zero up"):
        format_duration(duration)


instants = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(instants)
def test_an_instant_is_read_as_it_was_written(instant: datetime) -> None:
    assert parse_instant(format_instant(instant)) == instant
    assert from_micros(to_micros(instant)) == instant


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31", "2026-01-31T00:00:00Z"),
        ("2026-01-31T06:30+01:00", "2026-01-31T05:30:00Z"),
        ("2026-01-31 06:30:00.000001Z", "2026-01-31T06:30:00.000001Z"),
    ],
)
def test_instants(text: str, expected: str) -> None:
    assert format_instant(parse_instant(text)) == expected


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-13-01", "0001-01-01T00:00+05:00"])
def test_what_is_no_instant(text: str) -> None:
    with pytest.raises(ValueError, match='is not a date or time; write it as in "2026-01-31" or'):
        parse_instant(text)


# -- intervals ---

hours = st.integers(0, 48).map(lambda hour: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hour))
intervals = st.tuples(hours, hours).filter(lambda pair: pair[0] < pair[1]).map(lambda pair: Interval(*pair))


@given(st.lists(intervals, max_size=8))
def test_merging_keeps_the_same_hours_in_few_pieces(given_intervals: list[Interval]) -> None:
    def covered(pieces: list[Interval]) -> set[int]:
        start = datetime(2026, 1, 1, tzinfo=UTC)
        return {h for h in range(48) for i in pieces if i.start <= start + timedelta(hours=h) < i.end}

    merged = merge_intervals(given_intervals)
    assert covered(merged) == covered(given_intervals)
    assert all(left.end < right.start for left, right in pairwise(merged))


@given(intervals, intervals)
def test_containing_and_overlapping(one: Interval, other: Interval) -> None:
    assert one.overlaps(other) == other.overlaps(one)
    assert one.contains(one)
    if one.contains(other):
        assert one.overlaps(other)
        assert merge_intervals([one, other]) == [one]


def test_an_interval_reads_as_half_open() -> None:
    assert str(Interval(parse_instant("2026-01-01"), parse_instant("2026-01-02T06:00"))) == (
        "[2026-01-01T00:00:00Z, 2026-01-02T06:00:00Z)"
    )


# -- schedules ---


def matches(cron: str, wall: datetime) -> bool:
    """Whether a wall time matches a cron of numbers, lists, steps and stars (days and weekdays not both restricted)."""

    def allowed(field: str, value: int, low: int, high: int) -> bool:
        for part in field.split(","):
            span, _, step = part.partition("/")
            first, _, last = span.partition("-")
            start, stop = (low, high) if span == "*" else (int(first), int(last or first))
            if value in range(start, stop + 1, int(step or 1)):
                return True
        return False

    minute, hour, day, month, weekday = cron.split()
    return (
        allowed(minute, wall.minute, 0, 59)
        and allowed(hour, wall.hour, 0, 23)
        and allowed(day, wall.day, 1, 31)
        and allowed(month, wall.month, 1, 12)
        and allowed(weekday, wall.isoweekday() % 7, 0, 6)
    )


def naive_boundaries(cron: str, timezone: str, start: datetime, end: datetime) -> list[datetime]:
    """Count every minute that passes, look at the clock on the wall, and apply the rules of DST as they are written."""
    zone = ZoneInfo(timezone)
    first = (start - timedelta(hours=6)).replace(second=0, microsecond=0)
    passed = [first + MINUTE * index for index in range(int((end - first + timedelta(hours=6)) / MINUTE) + 1)]
    clock = [instant.astimezone(zone).replace(tzinfo=None) for instant in passed]
    shown: dict[datetime, list[datetime]] = defaultdict(list)
    for instant, wall in zip(passed, clock, strict=True):
        shown[wall].append(instant)
    found: set[datetime] = set()
    wall = clock[0]
    while wall <= clock[-1]:
        if matches(cron, wall):
            if cron.split()[1] == "*":
                found.update(shown[wall])
            elif shown[wall]:
                found.add(max(shown[wall]))
            else:
                found.add(next(instant for instant, after in zip(passed, clock, strict=True) if after > wall))
        wall += MINUTE
    return sorted(instant for instant in found if start <= instant <= end)


CRONS = ["0 0 * * *", "0 * * * *", "30 2 * * *", "*/15 * * * *", "0 */6 * * *", "15,45 1-3 * * *", "0 2 * * 0", "5 1 * * 1-5",
         "0 0 1 * *", "*/30 2 * * *", "0 1 31 * *", "0 3 29 2 *"]  # fmt: skip
CHANGES = {
    "Europe/Berlin": ["2026-03-29T01:00", "2026-10-25T01:00"],
    "Australia/Adelaide": ["2026-04-04T16:30", "2026-10-03T16:30"],  # UTC+9:30
    "Australia/Lord_Howe": ["2026-04-04T15:00", "2026-10-03T15:30"],  # the clock moves by 30 minutes
    "America/New_York": ["2026-03-08T07:00", "2026-11-01T06:00"],
    "America/Sao_Paulo": ["2018-11-04T03:00", "2018-02-18T02:00"],  # midnight itself was skipped
    "Asia/Kolkata": ["2026-01-31T18:30", "2026-02-28T18:30"],
    "UTC": ["2026-02-28T00:00", "2028-02-29T00:00"],
}
moments = st.sampled_from([(zone, change) for zone, changes in CHANGES.items() for change in changes])


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(CRONS), moments, st.integers(-1500, 600), st.integers(0, 2000), st.integers(0, 59))
@example("0 0 * * *", ("America/Sao_Paulo", "2018-11-04T03:00"), -60, 120, 0)
@example("30 2 * * *", ("Europe/Berlin", "2026-03-29T01:00"), -30, 60, 0)
@example("30 2 * * *", ("Europe/Berlin", "2026-10-25T01:00"), -90, 180, 0)
@example("0 * * * *", ("Australia/Lord_Howe", "2026-10-03T15:30"), -180, 360, 0)
@example("*/30 2 * * *", ("Australia/Lord_Howe", "2026-04-04T15:00"), -180, 360, 0)
def test_boundaries_are_those_of_a_clock_on_the_wall(
    cron: str, moment: tuple[str, str], before: int, length: int, seconds: int
) -> None:
    zone, change = moment
    start = parse_instant(change) + MINUTE * before + timedelta(seconds=seconds)
    end = start + MINUTE * length
    assert Schedule.parse(cron, zone).boundaries(start, end) == naive_boundaries(cron, zone, start, end)


schedules = st.builds(Schedule.parse, st.sampled_from(CRONS), st.sampled_from(sorted(CHANGES)))
moments_of_years = st.datetimes(datetime(2017, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@settings(max_examples=80, deadline=None)
@given(schedules, moments_of_years)
def test_floor_and_ceil_are_the_boundaries_around_an_instant(schedule: Schedule, instant: datetime) -> None:
    left, right = schedule.floor(instant), schedule.ceil(instant)
    assert left <= instant <= right
    assert schedule.floor(left) == left == schedule.ceil(left)
    assert schedule.boundaries(left, right) == sorted({left, right})
    newest = schedule.interval_ending_by(instant)
    assert newest.end == left
    assert schedule.intervals(newest.start, newest.end) == [newest]


@settings(max_examples=50, deadline=None)
@given(schedules, moments_of_years, st.integers(0, 60 * 24 * 60))
def test_intervals_tile_the_time_between_the_boundaries(schedule: Schedule, start: datetime, minutes: int) -> None:
    end = start + MINUTE * minutes
    found = schedule.intervals(start, end)
    edges = schedule.boundaries(start, end)
    assert len(found) == max(len(edges) - 1, 0)
    assert [interval.start for interval in found] == edges[:-1]
    assert [interval.end for interval in found] == edges[1:]
    assert all(
        interval.end - interval.start <= schedule.longest(datetime(2017, 1, 1, tzinfo=UTC)) for interval in found
    ) or (
        schedule.cron in ("0 3 29 2 *", "0 1 31 * *")  # sparser than the years that are looked at
    )


@settings(max_examples=40, deadline=None)
@given(schedules, moments_of_years, st.integers(0, 3000), st.integers(0, 3000))
def test_a_range_has_the_intervals_of_its_parts(schedule: Schedule, start: datetime, one: int, two: int) -> None:
    start = schedule.floor(start)
    middle = schedule.floor(start + MINUTE * one)
    end = schedule.floor(middle + MINUTE * two)
    assert schedule.intervals(start, end) == schedule.intervals(start, middle) + schedule.intervals(middle, end)


def test_the_days_of_a_zone_have_23_to_25_hours() -> None:
    berlin = Schedule.parse("@daily", "Europe/Berlin")
    year = berlin.intervals(datetime(2025, 12, 31, 23, tzinfo=UTC), datetime(2026, 12, 31, 23, tzinfo=UTC))
    assert len(year) == 365
    lengths = {interval.end - interval.start for interval in year}
    assert lengths == {timedelta(hours=23), timedelta(hours=24), timedelta(hours=25)}
    assert berlin.longest(datetime(2026, 1, 1, tzinfo=UTC)) == timedelta(hours=25)
    assert Schedule.parse("@daily").longest(datetime(2026, 1, 1, tzinfo=UTC)) == timedelta(hours=24)


def test_february_29_comes_every_four_years() -> None:
    leap = Schedule.parse("0 0 29 2 *")
    assert leap.ceil(parse_instant("2025-01-01")) == parse_instant("2028-02-29")
    assert leap.floor(parse_instant("2028-02-28")) == parse_instant("2024-02-29")
    assert leap.longest(parse_instant("2025-01-01")) == timedelta(days=1461)


@pytest.mark.parametrize(
    ("cron", "zone", "label"),
    [
        ("@hourly", "UTC", "hourly"),
        ("0 0 * * *", "UTC", "daily"),
        ("@midnight", "UTC", "daily"),
        ("@weekly", "UTC", "weekly"),
        ("@monthly", "UTC", "monthly"),
        ("@annually", "UTC", "yearly"),
        ("@daily", "Europe/Berlin", "0_0_x_x_x_Europe_Berlin"),
        ("*/15 8-17 * * MON-FRI", "UTC", "xevery15_8to17_x_x_MONtoFRI"),
        ("0 1,5 * * *", "Etc/GMT+5", "0_1and5_x_x_x_Etc_GMTplus5"),
        ("0 1-5 * * *", "Etc/GMT-5", "0_1to5_x_x_x_Etc_GMTminus5"),
        ("0 0 * * *", "America/Port-au-Prince", "0_0_x_x_x_America_Port_au_Prince"),
    ],
)
def test_labels_tell_schedules_apart(cron: str, zone: str, label: str) -> None:
    assert Schedule.parse(cron, zone).label == label


@pytest.mark.parametrize("cron", ["", "daily", "@every", "* * * *", "0 0 0 * * *", "60 * * * *", "R R * * *", "H 1 * * *"])
def test_what_is_no_schedule(cron: str) -> None:
    with pytest.raises(ValueError, match="is not a cron expression of five fields or one of @hourly, @daily, @midnight"):
        Schedule.parse(cron)


def test_a_schedule_that_never_comes() -> None:
    with pytest.raises(ValueError, match=r"^'0 0 30 2 \*' names a day that no month has, so it never comes$"):
        Schedule.parse("0 0 30 2 *")


@pytest.mark.parametrize("zone", ["Mars", "Europe/Berln", "", "../etc/passwd"])
def test_what_is_no_zone(zone: str) -> None:
    with pytest.raises(ValueError, match="is not a time zone name; use one such as 'UTC' or 'Europe/Berlin'"):
        Schedule.parse("@daily", zone)
