"""Dicts of which some lack what others have: never a silent null among keys, nulls among labels, no trace in frames."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fstore import Client
from fstore.errors import EntityColumnError
from fstore.retrieval.entity_rows import read_entity_rows
from fstore.retrieval.uneven_rows import lacking
from tests.retrieval.publishing import DAY, T0, Publisher, day, features, make_step

FEATURES = ["uneven:n"]
AT = T0 + DAY


@pytest.fixture(scope="module")
def client(publisher: Publisher) -> Iterator[Client]:
    step = make_step("uneven", features=features(("n", "int64", 0)))
    publisher.register(step)
    publisher.publish(step, {day(0): [{"user_id": "a", "n": 1}]})
    with Client(publisher.backends, clock=lambda: AT) as made:
        yield made


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(0, 3)), max_size=6))
def test_the_first_row_without_a_field_is_named(rows: list[dict[str, int]]) -> None:
    expected: dict[str, int] = {}
    for place, row in enumerate(rows):
        for other in rows:
            for name in other:
                if name not in row and name not in expected:
                    expected[name] = place
    assert lacking(rows) == expected


def test_a_key_that_a_row_lacks_is_an_error(client: Client) -> None:
    rows = [{"user_id": "a", "event_timestamp": AT}, {"event_timestamp": AT}]
    text = "the entity row at position 1 has no 'user_id', a join key of view 'uneven', and others have"
    with pytest.raises(EntityColumnError, match=text):
        client.get_historical_features(rows, FEATURES)
    with pytest.raises(EntityColumnError, match=text):
        next(client.scan_historical_features(rows, FEATURES).to_batches())
    with pytest.raises(EntityColumnError, match=text):
        client.get_batch_features([{"user_id": "a"}, {}], FEATURES)
    with pytest.raises(EntityColumnError, match="column 'event_timestamp' is null in 1 row"):
        client.get_historical_features([rows[0], {"user_id": "a"}], FEATURES)


def test_a_label_may_be_missing_and_the_frame_is_as_if_it_was_null(client: Client) -> None:
    rows: list[dict[str, object]] = [
        {"user_id": "a", "event_timestamp": AT},
        {"user_id": None, "event_timestamp": AT, "label": 1},
    ]
    frame = client.get_historical_features(rows, FEATURES)
    assert frame.to_arrow().to_pylist() == [
        {"user_id": "a", "event_timestamp": AT, "label": None, "n": 1},
        {"user_id": None, "event_timestamp": AT, "label": 1, "n": None},
    ]
    assert all(field.metadata is None for field in frame.to_arrow().schema)
    assert client.reproduce(frame.manifest, frame.to_arrow().select(["user_id", "event_timestamp"])).manifest.rows == 2


def test_rows_that_are_even_have_no_note() -> None:
    table = read_entity_rows([{"a": 1, "b": 2}, {"b": 3, "a": None}])
    assert table.schema.equals(pa.schema({"a": pa.int64(), "b": pa.int64()}), check_metadata=True)
