"""FeatureTimetable against Airflow's own scheduling and serialization."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from airflow.sdk import DAG
from airflow.serialization.decoders import decode_timetable
from airflow.serialization.encoders import encode_timetable
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import TimeRestriction
from pendulum import instance

from fstore.airflow import timetable as timetable_module
from fstore.airflow.timetable import FeatureTimetable
from fstore.interval import Interval, Schedule


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


def intervals_of(timetable, first, last):
    """The intervals that Airflow's Backfill takes for a DAG with this timetable."""
    dag = DAG("test", schedule=timetable, start_date=at(2000, 1, 1))
    infos = DagSerialization.from_dict(DagSerialization.to_dict(dag)).iter_dagrun_infos_between(first, last)
    return [Interval(info.data_interval.start.astimezone(UTC), info.data_interval.end.astimezone(UTC)) for info in infos]


def simulate(monkeypatch, timetable, *, begin, until, step):
    """Create runs as the scheduler does with catch-up off, looking at the clock every ``step``."""
    clock = begin
    monkeypatch.setattr(timetable_module, "_now", lambda: clock)
    restriction = TimeRestriction(earliest=instance(timetable.start), latest=None, catchup=False)
    created, last = [], None
    planned = timetable.next_dagrun_info(last_automated_data_interval=None, restriction=restriction)
    while clock < until:
        while planned and planned.run_after <= clock:
            created.append(planned)
            last = planned.data_interval
            planned = timetable.next_dagrun_info(last_automated_data_interval=last, restriction=restriction)
        clock += step
    return created


@pytest.mark.parametrize(
    ("cron", "timezone", "lag", "step"),
    [
        ("0 * * * *", "UTC", timedelta(hours=24), timedelta(minutes=20)),
        ("0 0 * * *", "UTC", timedelta(days=30), timedelta(hours=5)),
        ("0 0 * * *", "Europe/Berlin", timedelta(hours=2), timedelta(hours=1)),
        ("0 3 * * 1", "America/New_York", timedelta(0), timedelta(hours=7)),
    ],
)
def test_a_year_with_lag_loses_no_interval(monkeypatch, cron, timezone, lag, step):
    start = at(2025, 1, 1)
    timetable = FeatureTimetable(cron, timezone, lag, start)
    begin, until = start + timedelta(days=60), start + timedelta(days=425)
    runs = simulate(monkeypatch, timetable, begin=begin, until=until, step=step)

    schedule = Schedule(cron, timezone)
    first = schedule.interval_ending_by(begin - lag).start
    last = schedule.floor(until - step - lag)
    expected = schedule.intervals(first, last)
    assert [(run.data_interval.start, run.data_interval.end) for run in runs][: len(expected)] == [
        (interval.start, interval.end) for interval in expected
    ]
    assert len(runs) - len(expected) in (0, 1)
    assert all(run.run_after == run.data_interval.end + lag for run in runs)


def test_an_outage_skips_to_the_newest_interval_that_is_due(monkeypatch):
    timetable = FeatureTimetable("0 0 * * *", "UTC", timedelta(hours=6), at(2025, 1, 1))
    restriction = TimeRestriction(earliest=instance(at(2025, 1, 1)), latest=None, catchup=False)
    monkeypatch.setattr(timetable_module, "_now", lambda: at(2025, 3, 11, 5, 59))
    last = timetable.infer_manual_data_interval(run_after=instance(at(2025, 3, 1, 6)))
    assert (last.start, last.end) == (at(2025, 2, 28), at(2025, 3, 1))
    planned = timetable.next_dagrun_info(last_automated_data_interval=last, restriction=restriction)
    assert planned.data_interval.start == at(2025, 3, 9)  # [10th, 11th) is due at six o'clock only
    assert planned.run_after == at(2025, 3, 10, 6)


def test_backfill_takes_exactly_the_grid_of_the_schedule_over_clock_changes():
    timetable = FeatureTimetable("0 0 * * *", "Europe/Berlin", timedelta(0), at(2025, 1, 1))
    found = intervals_of(timetable, at(2025, 3, 28), at(2025, 4, 2))
    assert found == Schedule("0 0 * * *", "Europe/Berlin").intervals(at(2025, 3, 28), at(2025, 4, 2, 22))
    lengths = [interval.end - interval.start for interval in found]
    assert lengths == [timedelta(hours=24), timedelta(hours=23), *[timedelta(hours=24)] * 3]
    assert all(left.end == right.start for left, right in pairwise(found))


def test_backfill_stays_within_the_life_of_the_views():
    timetable = FeatureTimetable("0 0 * * *", "UTC", timedelta(0), at(2013, 1, 1), at(2014, 1, 1))
    found = intervals_of(timetable, at(2012, 12, 1), at(2014, 12, 1))
    assert (len(found), found[0].start, found[-1].end) == (365, at(2013, 1, 1), at(2014, 1, 1))


def test_no_run_is_due_after_the_end(monkeypatch):
    timetable = FeatureTimetable("0 0 * * *", "UTC", timedelta(hours=1), at(2013, 1, 1), at(2014, 1, 1))
    restriction = TimeRestriction(earliest=instance(at(2013, 1, 1)), latest=None, catchup=False)
    monkeypatch.setattr(timetable_module, "_now", lambda: at(2014, 1, 1, 1))
    planned = timetable.next_dagrun_info(last_automated_data_interval=None, restriction=restriction)
    assert planned.data_interval.start == at(2013, 12, 31)
    monkeypatch.setattr(timetable_module, "_now", lambda: at(2014, 1, 2, 1))
    assert timetable.next_dagrun_info(last_automated_data_interval=None, restriction=restriction) is None


def test_an_end_off_the_grid_leaves_out_the_interval_that_holds_it():
    timetable = FeatureTimetable("0 0 * * *", "UTC", timedelta(0), at(2013, 1, 1, 5), at(2013, 1, 4, 12))
    found = intervals_of(timetable, at(2012, 1, 1), at(2014, 1, 1))
    assert found == [Interval(at(2013, 1, 2), at(2013, 1, 3)), Interval(at(2013, 1, 3), at(2013, 1, 4))]


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (at(2013, 6, 2, 0, 59), at(2013, 5, 31)),
        (at(2013, 6, 2, 1), at(2013, 6, 1)),
        (at(2026, 8, 1), at(2013, 12, 31)),
        (at(2012, 1, 1), at(2013, 1, 1)),
    ],
)
def test_a_manual_run_gets_the_newest_interval_that_is_due(now, expected):
    timetable = FeatureTimetable("0 0 * * *", "UTC", timedelta(hours=1), at(2013, 1, 1), at(2014, 1, 1))
    found = timetable.infer_manual_data_interval(run_after=instance(now))
    assert (found.start, found.end) == (expected, expected + timedelta(days=1))


def test_serialization_keeps_everything():
    timetable = FeatureTimetable("30 6 * * *", "Europe/Berlin", timedelta(hours=2), at(2025, 1, 1), at(2026, 1, 1))
    again = decode_timetable(encode_timetable(timetable))
    assert again == timetable
    assert hash(again) == hash(timetable)
    assert again.serialize() == {
        "cron": "30 6 * * *",
        "timezone": "Europe/Berlin",
        "lag": 7_200_000_000,
        "start": "2025-01-01T00:00:00Z",
        "end": "2026-01-01T00:00:00Z",
    }
    assert again != FeatureTimetable("30 6 * * *", "Europe/Berlin", timedelta(hours=3), at(2025, 1, 1), at(2026, 1, 1))


def test_what_the_ui_shows():
    timetable = FeatureTimetable("30 6 * * *", "Europe/Berlin", timedelta(hours=2), at(2025, 1, 1), at(2026, 1, 1))
    assert timetable.summary == "30 6 * * * Europe/Berlin + 2h"
    assert timetable.description == "At 06:30 in Europe/Berlin, 2h after the interval, closed at 2026-01-01T00:00:00Z"
    assert FeatureTimetable("0 0 * * *").summary == "0 0 * * *"
    assert timetable.periodic
    assert timetable.can_be_scheduled
