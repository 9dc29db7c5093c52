"""Which intervals a run computes."""

from datetime import timedelta

import pytest

from fstore.airflow.intervals import RunFacts, RunRefused, has_short_intervals, own_intervals, partition_key, range_of
from fstore.interval import Interval, Schedule
from tests.airflow.steps import aggregate, at, day

HOURLY = Schedule("0 * * * *")
BERLIN = Schedule("0 0 * * *", "Europe/Berlin")


def run(**facts):
    return RunFacts(
        **{"dag_id": "flights.carriers.daily", "run_id": "r", "run_type": "manual", "run_after": at(2026, 8, 1), **facts}
    )


def test_params_win_over_the_data_interval_which_wins_over_the_partition_key_and_that_over_the_due_time():
    step = aggregate()
    everything = {"interval": day(2013, 5, 5), "partition_key": "2013-06-06", "start": "2013-03-01", "end": "2013-03-02"}
    assert own_intervals(step, run(**everything)) == [day(2013, 3, 1), day(2013, 3, 2)]
    del everything["start"], everything["end"]
    assert own_intervals(step, run(**everything)) == [day(2013, 5, 5)]
    del everything["interval"]
    assert own_intervals(step, run(**everything)) == [day(2013, 6, 6)]
    del everything["partition_key"]
    assert own_intervals(step, run(**everything)) == [day(2013, 12, 31)]


def test_a_range_is_inclusive_on_both_sides_as_in_the_backfill_form():
    year = own_intervals(aggregate(), run(start="2013-01-01", end="2013-12-31"))
    assert (len(year), year[0], year[-1]) == (365, day(2013, 1, 1), day(2013, 12, 31))
    hourly = aggregate(schedule=HOURLY)
    assert len(own_intervals(hourly, run(start="2013-01-01", end="2013-01-02"))) == 48
    exact = own_intervals(hourly, run(start="2013-01-01T05:00:00Z", end="2013-01-01T07:00:00+00:00"))
    assert [interval.start.hour for interval in exact] == [5, 6, 7]


def test_dates_are_days_of_the_schedules_zone():
    step = aggregate(schedule=BERLIN)
    found = own_intervals(step, run(start="2013-03-31", end="2013-03-31"))
    assert found == [Interval(at(2013, 3, 30, 23), at(2013, 3, 31, 22))]


def test_an_open_side_means_the_first_or_the_newest_interval_of_the_view():
    step = aggregate()
    assert own_intervals(step, run(start="2013-12-30")) == [day(2013, 12, 30), day(2013, 12, 31)]
    assert own_intervals(step, run(end="2013-01-02")) == [day(2013, 1, 1), day(2013, 1, 2)]


def test_a_range_leaves_out_what_is_not_due_and_what_the_view_does_not_have():
    step = aggregate(start=at(2026, 1, 5), end=None, lag=timedelta(hours=6))
    asked = run(start="2026-01-01", end="2026-12-31", run_after=at(2026, 1, 8, 5, 59))
    assert own_intervals(step, asked) == [day(2026, 1, 5), day(2026, 1, 6)]
    asked = run(start="2026-01-01", end="2026-12-31", run_after=at(2026, 1, 8, 6))
    assert own_intervals(step, asked) == [day(2026, 1, 5), day(2026, 1, 6), day(2026, 1, 7)]
    assert own_intervals(step, run(interval=day(2025, 1, 1))) == []


@pytest.mark.parametrize("run_type", ["scheduled", "backfill", "asset_triggered"])
def test_runs_with_an_interval_of_their_own_refuse_a_range(run_type):
    with pytest.raises(RunRefused) as caught:
        own_intervals(aggregate(), run(run_type=run_type, run_id="x", interval=day(2013, 1, 1), start="2013-01-01"))
    assert str(caught.value) == (
        f"run 'x' is a {run_type} run and has its own interval, so it cannot carry the params `start` and `end`: every run "
        "of "
        "a backfill would compute the whole range again. Leave them empty in a backfill; to compute many intervals at once, "
        "trigger 'flights.carriers.daily' by hand with `start` and `end`."
    )
    assert not caught.value.retryable


def test_a_range_that_is_none_is_refused():
    with pytest.raises(RunRefused, match="the range of run 'r' is empty: `start` 2013-02-01 lies after `end` 2013-01-01"):
        own_intervals(aggregate(), run(start="2013-02-01", end="2013-01-01"))
    with pytest.raises(RunRefused, match="`start` is 'soon', which is no date such as 2013-01-31 and no time"):
        own_intervals(aggregate(), run(start="soon"))
    with pytest.raises(RunRefused, match="partition key 'blue' names no interval"):
        own_intervals(aggregate(), run(partition_key="blue"))


@pytest.mark.parametrize(
    "schedule", [Schedule("0 0 * * *"), HOURLY, BERLIN, Schedule("0 6 * * 1"), Schedule("30 */6 * * *")]
)
def test_a_partition_key_names_its_interval(schedule):
    step = aggregate(schedule=schedule)
    keys = {}
    for interval in schedule.intervals(at(2013, 3, 1), at(2013, 11, 1)):
        key = partition_key(schedule, interval)
        assert own_intervals(step, run(partition_key=key)) == [interval]
        keys[key] = interval
    assert len(keys) == len(schedule.intervals(at(2013, 3, 1), at(2013, 11, 1)))


def test_keys_are_days_where_a_day_names_the_interval():
    assert partition_key(Schedule("0 0 * * *"), day(2013, 1, 1)) == "2013-01-01"
    assert partition_key(BERLIN, Interval(at(2013, 3, 30, 23), at(2013, 3, 31, 22))) == "2013-03-31"
    assert partition_key(HOURLY, Interval(at(2013, 1, 1, 5), at(2013, 1, 1, 6))) == "2013-01-01T05:00:00Z"


def test_dates_suffice_unless_intervals_are_short():
    assert [has_short_intervals(s, at(2013, 1, 1)) for s in (HOURLY, BERLIN, Schedule("0 6 * * 1"))] == [True, False, False]


def test_empty_params_carry_no_range():
    assert range_of({"start": None, "end": ""}) == (None, None)
    assert range_of({"start": "2013-01-01", "other": 1}) == ("2013-01-01", None)
