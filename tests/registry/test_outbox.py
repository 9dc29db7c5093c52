from __future__ import annotations

from fstore.registry.records import OutboxDepth
from fstore.registry.registry import Registry
from tests.registry.examples import aggregate, days, published


def filled(registry: Registry, count: int) -> list[int]:
    for number in range(count):
        published(registry, aggregate(), days(number, number + 1), f"run-{number}")
    return [entry.id for entry in registry.outbox.pending()]


def test_entries_come_in_order_until_they_are_done(registry: Registry) -> None:
    ids = filled(registry, 4)
    assert ids == sorted(ids)
    registry.outbox.done([ids[0], ids[2]])
    registry.outbox.done([ids[0]])
    assert [entry.id for entry in registry.outbox.pending()] == [ids[1], ids[3]]
    assert [entry.id for entry in registry.outbox.pending(limit=1)] == [ids[1]]
    assert [entry.payload.attempt for entry in registry.outbox.pending(attempt=4)] == [4]
    assert registry.outbox.pending(kind="online") == registry.outbox.pending()
    assert registry.outbox.pending(kind="another") == []
    registry.outbox.done([])


def test_a_failed_delivery_is_counted_and_stays(registry: Registry) -> None:
    first, second = filled(registry, 2)
    registry.outbox.failed(first, "connection refused")
    registry.outbox.failed(first, "timed out")
    assert [(e.id, e.tries, e.last_error) for e in registry.outbox.pending()] == [(first, 2, "timed out"), (second, 0, None)]
    depth = registry.outbox.depth()
    assert (depth.pending, depth.failing) == (2, 1)
    assert depth.oldest_at == registry.outbox.pending()[0].created_at
    registry.outbox.done([first])
    registry.outbox.failed(first, "a second drainer, too late")
    registry.outbox.done([second])
    assert registry.outbox.depth() == OutboxDepth(pending=0, failing=0, oldest_at=None)
