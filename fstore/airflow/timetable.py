"""The timetable of a pipeline: the data intervals of its schedule, each run once its data can be complete.

Takes a schedule, the lag of the data and the life of the pipeline's views; gives Airflow one run per interval of
:class:`fstore.interval.Schedule`, due ``lag`` after the interval's end. Waiting for late data inside a run would count as
an active run and make the scheduler drop intervals; a later due time does not. The life is kept here rather than in the
DAG's ``end_date``, because Airflow never starts a task whose logical date lies after that date: a manual run of a closed
pipeline, or a backfill past its end, would hang.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction
from airflow.timetables.interval import CronDataIntervalTimetable
from pendulum import DateTime, instance

from fstore.interval import MICROSECOND, Interval, Schedule, format_duration, format_instant, parse_instant


class FeatureTimetable(CronDataIntervalTimetable):
    """Explicit data intervals, due ``lag`` after their end, within ``[start, end)``.

    ``start`` None means that the DAG's start date alone bounds the intervals; ``end`` is exclusive, None means open.
    Backfills see the same intervals.
    """

    def __init__(
        self, cron: str, timezone: str = "UTC", lag: timedelta = timedelta(0), start: datetime | None = None,
        end: datetime | None = None,
    ) -> None:  # fmt: skip
        super().__init__(cron, timezone)
        self.schedule = Schedule(cron, timezone)
        self.lag, self.start, self.end = lag, start, end
        self.description = f"{self.description}{_clause(self)}".strip(", ")

    @property
    def summary(self) -> str:
        """The cron expression, its zone and the lag."""
        zone = "" if self.schedule.timezone == "UTC" else f" {self.schedule.timezone}"
        return f"{self.schedule.cron}{zone}" + (f" + {format_duration(self.lag)}" if self.lag else "")

    def serialize(self) -> dict[str, str | int | None]:
        """Return the arguments as JSON values; the lag in microseconds."""
        return {
            "cron": self.schedule.cron,
            "timezone": self.schedule.timezone,
            "lag": self.lag // MICROSECOND,
            "start": format_instant(self.start) if self.start else None,
            "end": format_instant(self.end) if self.end else None,
        }

    @classmethod
    def deserialize(cls, data: dict[str, str | int | None]) -> FeatureTimetable:
        """Return the timetable that :meth:`serialize` wrote."""
        start, end = data["start"], data["end"]
        return cls(
            str(data["cron"]),
            str(data["timezone"]),
            timedelta(microseconds=int(data["lag"] or 0)),
            parse_instant(str(start)) if start else None,
            parse_instant(str(end)) if end else None,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FeatureTimetable):
            return NotImplemented
        return self.serialize() == other.serialize()

    def __hash__(self) -> int:
        return hash(tuple(self.serialize().items()))

    def next_dagrun_info(
        self, *, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        """Return the next run; without catch-up, none before the newest interval that is due now.

        A pipeline whose end has passed gets none, whatever it lacks: Airflow does not tell one that ended while nothing
        ran (whose run that was planned before is still made) from a finished data set of which somebody backfilled a part.
        """
        bounds = [bound for bound in (self.start, restriction.earliest) if bound]
        if last_automated_data_interval is not None:
            bounds.append(last_automated_data_interval.end)
        if not bounds:
            return None
        start = self.schedule.ceil(max(plain(bound) for bound in bounds))
        if not restriction.catchup:
            start = max(start, self.schedule.interval_ending_by(_now() - self.lag).start)
        end = self._next(start)
        if (restriction.latest and start > restriction.latest) or (self.end and end > self.end):
            return None
        return DagRunInfo(run_after=instance(end + self.lag), data_interval=_data_interval(Interval(start, end)))

    def infer_manual_data_interval(self, *, run_after: DateTime) -> DataInterval:
        """Return the newest interval that is due at an instant, or the pipeline's last one after its end."""
        return _data_interval(self.newest_due(plain(run_after)))

    def newest_due(self, now: datetime) -> Interval:
        """Return the newest interval of the pipeline that is due at an instant, or its first one before that."""
        upto = now - self.lag if self.end is None else min(now - self.lag, self.end)
        newest = self.schedule.interval_ending_by(upto)
        if self.start is None or newest.start >= self.start:
            return newest
        first = self.schedule.ceil(self.start)
        return Interval(first, self._next(first))

    def _next(self, boundary: datetime) -> datetime:
        return self.schedule.ceil(boundary + MICROSECOND)


def plain(instant: datetime) -> datetime:
    """Return an instant as a ``datetime`` in UTC: arithmetic on Airflow's own dates can lose their zone."""
    at = instant.astimezone(UTC)
    return datetime(at.year, at.month, at.day, at.hour, at.minute, at.second, at.microsecond, tzinfo=UTC)


def _clause(timetable: FeatureTimetable) -> str:
    """Return what the cron's own description does not say."""
    zone = "" if timetable.schedule.timezone == "UTC" else f" in {timetable.schedule.timezone}"
    lag = f", {format_duration(timetable.lag)} after the interval" if timetable.lag else ""
    end = f", closed at {format_instant(timetable.end)}" if timetable.end else ""
    return f"{zone}{lag}{end}"


def _data_interval(interval: Interval) -> DataInterval:
    return DataInterval(instance(interval.start), instance(interval.end))


def _now() -> datetime:
    return datetime.now(UTC)
