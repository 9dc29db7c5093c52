"""Exact windows at instants that no events can be there for. What they give anywhere else is the oracle's to say."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from fstore import Client
from fstore.errors import EntityColumnError, IncompleteHistory, RetrievalError
from fstore.interval import to_micros
from tests.projects import SmallProject, utc

DEFINITIONS = """
    from fstore import Entity, FeatureView, ParquetSource, SqlSource, UnionSource, agg

    user = Entity("user", join_keys={"user_id": "string"})
    events = ParquetSource("events", path="data/events.parquet", event_time="seen_at")

    class Visits(FeatureView):
        entity, source, schedule, start = user, events, "@daily", "2026-01-01"
        n = agg.count().over("7d")

    LAST = "SELECT user_id, seen_at FROM e QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY seen_at DESC) = 1"
    last_of_day = SqlSource("last_of_day", inputs={"e": events}, sql=LAST, event_time="seen_at", lag="1h")
    LATER = "SELECT user_id, seen_at FROM e WHERE hour(seen_at) > 0"
    later = SqlSource("later", inputs={"e": events}, sql=LATER, event_time="seen_at")

    class LastVisits(FeatureView):
        entity, source, schedule, start = user, UnionSource([last_of_day, later], name="both"), "@daily", "2026-01-01"
        n = agg.count().over("7d")

    class LaterVisits(FeatureView):
        entity, source, schedule, start = user, later, "@daily", "2026-01-01"
        n = agg.count().over("7d")
"""
LAST = to_micros(datetime.max.replace(tzinfo=UTC))
TIME = pa.timestamp("us", tz="UTC")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    project = SmallProject(tmp_path_factory.mktemp("exact"))
    project.define("visits", DEFINITIONS)
    rows = [{"user_id": "a", "seen_at": utc(f"2026-01-01T0{hour}:00")} for hour in range(3)]
    project.write("events", rows, {"user_id": pa.string(), "seen_at": TIME})
    for view in ("visits", "last_visits", "later_visits"):
        project.step(view)
    with Client(project.backends, clock=lambda: utc("2026-01-05")) as made:
        yield made


@pytest.mark.parametrize("missing", ["error", "allow"])
@pytest.mark.parametrize("way", ["whole", "streamed"])
def test_instants_beyond_the_calendar_are_refused(client: Client, missing: str, way: str) -> None:
    rows = pa.table({"user_id": ["a", "a"], "event_timestamp": pa.array([0, LAST + 1], TIME)})
    options = {"features": ["visits:n_7d"], "accuracy": "exact", "missing": missing}
    read = {
        "whole": lambda: client.get_historical_features(rows, **options),  # type: ignore[arg-type]
        "streamed": lambda: list(client.scan_historical_features(rows, **options).to_batches()),  # type: ignore[arg-type]
    }
    with pytest.raises(EntityColumnError, match=r"from 1970-01-01T00:00:00\.000000Z to 10000-01-01T00:00:00\.000000Z"):
        read[way]()


def test_instants_that_have_not_come_are_refused_and_counted_over_all_parts(client: Client) -> None:
    rows = {
        "user_id": ["a", None, "a", "a"],
        "event_timestamp": [utc("2026-01-05"), utc("2026-02-01"), utc("2026-01-06"), utc("2026-01-07")],
    }
    ask = {"features": ["visits:n_7d"], "accuracy": "exact"}
    with pytest.raises(IncompleteHistory) as whole:
        client.get_historical_features(rows, **ask)  # type: ignore[arg-type]
    assert str(whole.value) == (
        "2 entity row(s) ask view 'visits' for instants after 2026-01-05T00:00:00Z, which is now: not all events can be there. "
        'Leave these rows out, or read what there is with missing="allow".'
    )
    assert (whole.value.rows, whole.value.ranges) == (2, ((utc("2026-01-05"), utc("2026-01-07")),))
    with pytest.raises(IncompleteHistory) as parts:
        next(client.scan_historical_features(rows, **ask, part_rows=1).to_batches())  # type: ignore[arg-type]
    assert str(parts.value) == str(whole.value)
    frame = client.get_historical_features(rows, **ask, missing="allow")  # type: ignore[arg-type]
    assert frame.to_arrow()["n_7d"].to_pylist() == [3, None, 3, 3]


def test_sources_that_are_made_in_pieces_cannot_end_within_one(client: Client) -> None:
    """The last visit of a day is another one when the day is over: an exact window at noon would see the afternoon."""

    def read(view: str, *times: str) -> list[object]:
        rows = {"user_id": ["a"] * len(times), "event_timestamp": [utc(time) for time in times]}
        frame = client.get_historical_features(rows, [f"{view}:n_7d"], accuracy="exact")
        return frame.to_arrow()["n_7d"].to_pylist()

    assert read("later_visits", "2026-01-01T01:30", "2026-01-01T03:00") == [1, 2]  # row by row: anywhere
    assert read("last_visits", "2025-12-31T13:00", "2026-01-02T01:00", "2026-01-03T01:00") == [None, 3, 3]
    with pytest.raises(RetrievalError) as raised:
        read("last_visits", "2026-01-02T01:00", "2026-01-01T02:30")
    assert str(raised.value) == (
        "view 'last_visits' cannot be read with accuracy=\"exact\" at the instants of 1 row(s): the SQL of its source 'both', or "
        "of one behind it, runs in pieces of 1d in UTC, and windows, which end at an instant less the lag (1h), can only end "
        'where pieces end. Give such instants, or read it with accuracy="snapshot".'
    )
