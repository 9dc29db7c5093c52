"""Cutting frames by time, and labels that are not known yet."""

from __future__ import annotations

from datetime import timedelta

import pyarrow as pa
import pytest

from fstore import Client
from fstore.errors import EntityColumnError, ImmatureLabels, RetrievalError
from fstore.retrieval.training import TrainingFrame
from tests.retrieval.publishing import DAY, T0, Publisher, day, features, make_step

MICRO = timedelta(microseconds=1)
INSTANTS = [T0 + 3 * DAY, T0 + DAY, T0 + 2 * DAY - MICRO, T0 + 2 * DAY, T0 + DAY + MICRO, T0 + 4 * DAY]


@pytest.fixture
def client(publisher: Publisher) -> Client:
    step = make_step("split_view", features=features(("n", "int64", 0)))
    publisher.register(step)
    publisher.publish(step, {day(0): [{"user_id": "ann", "n": 5}], day(1): [{"user_id": "ann", "n": 6}]}, [])
    return Client(publisher.backends, clock=lambda: T0 + 5 * DAY)


def frame_of(client: Client, **options: object) -> TrainingFrame:
    rows = pa.table({"user_id": ["ann"] * len(INSTANTS), "event_timestamp": INSTANTS, "row": range(len(INSTANTS))})
    return client.get_historical_features(rows, ["split_view:n"], missing="allow", **options)  # type: ignore[arg-type]


def rows_of(frame: TrainingFrame) -> list[int]:
    return frame.to_arrow()["row"].to_pylist()  # type: ignore[no-any-return]


def test_a_row_at_a_cut_belongs_to_the_later_part_and_order_is_kept(client: Client) -> None:
    parts = frame_of(client).split_by_time(T0 + 2 * DAY, T0 + 4 * DAY)
    assert [rows_of(part) for part in parts] == [[1, 2, 4], [0, 3], [5]]
    assert parts[0].manifest == parts[2].manifest


def test_rows_whose_labels_reach_into_the_next_part_are_in_none(client: Client) -> None:
    train, test = frame_of(client).split_by_time(T0 + 2 * DAY, matures_after="1d")
    assert (rows_of(train), rows_of(test)) == ([1], [0, 3, 5])  # 4 is a microsecond too late


def test_mature_keeps_what_was_known(client: Client) -> None:
    frame = frame_of(client)
    assert rows_of(frame.mature("2d")) == [0, 1, 2, 3, 4]
    assert rows_of(frame.mature(2 * DAY - MICRO, at=T0 + 5 * DAY - 2 * MICRO)) == [1, 2, 3, 4]
    assert rows_of(frame.mature("0s", at=T0)) == []


def test_labels_that_are_not_known_yet_are_refused(client: Client) -> None:
    with pytest.raises(
        ImmatureLabels, match=r"^1 entity row\(s\) have labels that are not known yet: they mature 2d"
    ) as raised:
        frame_of(client, matures_after="2d")
    assert raised.value.rows == 1
    assert len(frame_of(client, matures_after="1d")) == len(INSTANTS)


@pytest.mark.parametrize("cuts", [(), (T0, T0), (T0 + DAY, T0), (T0.replace(tzinfo=None),)])
def test_cuts_are_instants_that_ascend(client: Client, cuts: tuple) -> None:  # type: ignore[type-arg]
    with pytest.raises(RetrievalError, match="cut"):
        frame_of(client).split_by_time(*cuts)


def test_batch_features_are_the_newest_now(client: Client) -> None:
    frame = client.get_batch_features({"user_id": ["ann", "bob", None]}, ["split_view:n"])
    assert frame.to_arrow().to_pydict() == {
        "user_id": ["ann", "bob", None],
        "event_timestamp": [T0 + 5 * DAY] * 3,
        "n": [6, 0, None],
    }
    with pytest.raises(EntityColumnError, match="get_historical_features"):
        client.get_batch_features({"user_id": ["ann"], "event_timestamp": [T0]}, ["split_view:n"])
