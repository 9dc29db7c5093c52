"""How long tiles are, by schedule, zone and windows; checked against every boundary of two years."""

from datetime import UTC, datetime, timedelta

import pytest

from fstore.interval import MICROSECOND, Schedule, to_micros
from fstore.plan.tile_grid import coarse_length, tile_length

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)


@pytest.mark.parametrize(
    ("cron", "zone", "year", "distances", "expected"),
    [
        ("0 0 * * *", "UTC", 2026, [7 * DAY], DAY),
        ("0 0 * * 1", "UTC", 2026, [7 * DAY, 36 * HOUR], HOUR),
        ("0 0 * * *", "UTC", 2026, [7 * DAY, timedelta(seconds=45)], timedelta(seconds=1)),
        ("0 0 * * *", "Europe/Berlin", 2026, [7 * DAY], HOUR),
        ("30 6 * * *", "UTC", 2026, [7 * DAY], 15 * MINUTE),
        ("0 * * * *", "Asia/Kolkata", 2026, [DAY], 15 * MINUTE),
        ("*/5 * * * *", "UTC", 2026, [DAY], 5 * MINUTE),
        ("0 0 * * *", "Australia/Lord_Howe", 2026, [DAY], 15 * MINUTE),
        ("0 0 * * *", "Africa/Monrovia", 1970, [DAY], timedelta(seconds=1)),
        ("0 0 * * *", "Africa/Monrovia", 1990, [DAY], DAY),
    ],
)
def test_every_boundary_is_an_edge_of_tiles(cron, zone, year, distances, expected):
    schedule, start = Schedule(cron, zone), datetime(year, 1, 1, tzinfo=UTC)
    length = tile_length(schedule, start, distances)
    assert length == expected
    assert all(to_micros(edge) % (length // MICROSECOND) == 0 for edge in schedule.boundaries(start, start + 730 * DAY))


def test_long_windows_have_a_second_level():
    assert [coarse_length(DAY, 59 * DAY), coarse_length(DAY, 60 * DAY), coarse_length(DAY, None)] == [
        None,
        30 * DAY,
        30 * DAY,
    ]
    assert [coarse_length(HOUR, 60 * HOUR), coarse_length(5 * MINUTE, 7 * DAY)] == [DAY, HOUR]
