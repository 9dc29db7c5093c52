"""Instants at the edges of the calendar, and beyond what a datetime can hold."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from fstore import Client
from fstore.errors import EntityColumnError
from fstore.interval import MICROSECOND, Schedule, to_micros
from fstore.plan.steps import EVENT_TIMESTAMP, Step
from tests.retrieval.publishing import DAY, HOUR, T0, Publisher, day, make_step

YEARLY = Schedule("0 0 1 1 *")
STEPS = {
    "plain": make_step("plain"),
    "late": make_step("late", lag=HOUR),
    "yearly": make_step("yearly", schedule=YEARLY),
    "recent": make_step("recent", kind="event", ttl=2 * DAY),
    "late_recent": make_step("late_recent", kind="event", lag=HOUR, ttl=2 * DAY),
}
FIRST, LAST = to_micros(datetime(1, 1, 1, tzinfo=UTC)), to_micros(datetime.max.replace(tzinfo=UTC))


@pytest.fixture(scope="module")
def client(publisher: Publisher) -> Client:
    publisher.register(*STEPS.values())
    for step in STEPS.values():
        row = {"user_id": "u1", "n": 7, "amount": 0.5}
        if step.kind == "event":
            row[EVENT_TIMESTAMP] = T0
        year = step.schedule.intervals(T0, datetime(2027, 1, 1, tzinfo=UTC))[0]
        publisher.publish(step, {year if step.schedule == YEARLY else day(0): [row]})
    return Client(publisher.backends)


def read(client: Client, step: Step, *micros: int) -> list[object]:
    rows = pa.table({"user_id": ["u1"] * len(micros), "event_timestamp": pa.array(micros, pa.timestamp("us", tz="UTC"))})
    return client.get_historical_features(rows, [f"{step.view}:n"], missing="allow").to_arrow()["n"].to_pylist()


@pytest.mark.parametrize(
    ("view", "micros", "first", "last"),
    [
        ("late", (FIRST,), "0001-01-01T00:00:00.000000", "0001-01-01T00:00:00.000000"),
        ("recent", (FIRST, 0), "0001-01-01T00:00:00.000000", "1970-01-01T00:00:00.000000"),
        ("plain", (0, LAST + 1), "1970-01-01T00:00:00.000000", "10000-01-01T00:00:00.000000"),
        ("plain", (FIRST - 1, 0), "0000-12-31T23:59:59.999999", "1970-01-01T00:00:00.000000"),
    ],
)  # fmt: skip
def test_instants_that_leave_the_calendar_are_refused(client, view, micros, first, last):
    with pytest.raises(EntityColumnError) as refused:
        read(client, STEPS[view], *micros)
    assert str(refused.value) == (
        f"the entity rows hold instants from {first}Z to {last}Z. Some of them, or what view {view!r} reads for them (by its "
        "intervals, lag and ttl), lie outside of the years 1 to 9999. Leave those rows out, or give the instants that are meant"
    )


def test_without_lag_and_ttl_the_edges_themselves_are_read(client: Client) -> None:
    for view in ("plain", "yearly"):
        assert read(client, STEPS[view], FIRST, LAST) == [None, 7]


@pytest.mark.parametrize(("view", "newest"), [("late", 7), ("late_recent", None)])
def test_three_days_from_the_edges_lag_and_ttl_are_inside(client: Client, view: str, newest: int | None) -> None:
    assert read(client, STEPS[view], FIRST + 3 * DAY // MICROSECOND, LAST - 3 * DAY // MICROSECOND) == [None, newest]
