"""What a worker keeps of the requests that it has decoded."""

from __future__ import annotations

import tracemalloc

import msgspec

from fstore.serving.requests import OnlineRequests


def test_lists_that_came_before_are_decoded_once() -> None:
    requests = OnlineRequests()
    body = b'{"features": ["orders:n", "orders:text"], "entities": {"user_id": ["ann"]}}'
    first = requests.read(body)
    again = requests.read(body.replace(b"ann", b"bob"))
    assert again.features is first.features
    assert (first.entities, again.entities) == ({"user_id": ["ann"]}, {"user_id": ["bob"]})


def test_long_lists_are_not_kept() -> None:
    """Who sends another list every time could else have a worker keep a thousand of the longest bodies that it takes."""
    requests = OnlineRequests()
    tracemalloc.start()
    try:
        for number in range(8):
            features = [f"orders:feature_{number}_{index}" for index in range(20_000)]
            assert requests.read(msgspec.json.encode({"features": features, "entities": {}})).features == features
        del features
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1_000_000
