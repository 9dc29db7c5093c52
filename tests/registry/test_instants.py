"""What was published at an instant stays the answer, also where something was being published when it was asked."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from fstore.errors import RegistryReadOnly
from fstore.failpoints import arm, at_hit, disarm
from fstore.registry.registry import Registry, open_registry
from fstore.registry.tables import projects
from tests.registry.examples import PROJECT, aggregate, days, published


@pytest.fixture(autouse=True)
def unarmed() -> Iterator[None]:
    yield
    disarm()


def publish(registry: Registry, number: int) -> int:
    sequence = published(registry, aggregate(), days(number, number + 1), f"run-{number}").sequence
    assert sequence is not None
    return sequence


@pytest.mark.parametrize("place", ["publish.appended", "registry.committing"])
def test_a_read_as_of_an_instant_waits_for_what_is_being_published_then(
    registry: Registry, registry_url: str, place: str
) -> None:
    publish(registry, 0)
    asked: list[tuple[datetime, Future[int]]] = []
    with ThreadPoolExecutor(1) as pool, open_registry(registry_url, PROJECT) as reader:

        def ask(_: str) -> None:
            instant = datetime.now(UTC)  # after the publication's own instant, before its COMMIT
            asked.append((instant, pool.submit(reader.retention.sequence_at, instant)))
            wait([asked[0][1]], timeout=1)

        arm("publish.locked", lambda _: arm(place, at_hit(1, ask)))
        sequence = publish(registry, 1)
        ((instant, answer),) = asked
        assert answer.result(timeout=30) == registry.retention.sequence_at(instant) == sequence


def test_what_is_published_after_the_question_does_not_count(registry: Registry) -> None:
    assert registry.retention.sequence_at(datetime.now(UTC)) == 0
    first, asked = publish(registry, 0), datetime.now(UTC)
    assert registry.retention.sequence_at(asked) == first
    second = publish(registry, 1)
    assert registry.retention.sequence_at(asked) == first
    assert registry.retention.sequence_at(asked - timedelta(days=1)) == 0
    assert registry.retention.sequence_at(datetime.now(UTC)) == second


def test_nothing_is_published_at_or_before_an_instant_that_was_asked_for_even_if_the_clock_is_set_back(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, asked = publish(registry, 0), datetime.now(UTC)
    assert registry.retention.sequence_at(asked) == first
    database = registry.retention._database
    monkeypatch.setattr(type(database), "now", lambda *_: asked - timedelta(minutes=5))
    publish(registry, 1)
    (_, newest) = registry.ledger.publications()
    assert newest.published_at > asked
    assert registry.retention.sequence_at(asked) == first


def test_an_instant_that_has_not_come_is_the_present_one(registry: Registry) -> None:
    first, to_come = publish(registry, 0), datetime.now(UTC) + timedelta(days=1)
    assert registry.retention.sequence_at(to_come) == first
    second = publish(registry, 1)
    assert registry.retention.sequence_at(to_come) == second
    published_at = registry.ledger.publications()[-1].published_at
    assert published_at < datetime.now(UTC) + timedelta(hours=1), "the future is not taken from those who publish"


def test_who_may_only_read_can_ask_for_what_is_settled(registry: Registry, registry_url: str) -> None:
    first, asked = publish(registry, 0), datetime.now(UTC)
    second = publish(registry, 1)
    with _reading_only(registry_url) as reader:
        assert reader.retention.sequence_at(asked) == first
        with pytest.raises(RegistryReadOnly, match="Read as of a sequence, or with a user who may write"):
            reader.retention.sequence_at(datetime.now(UTC))
    with registry.retention._database.reading() as connection:
        assert connection.scalar(sa.select(projects.c.sequence)) == second


def _reading_only(url: str) -> Registry:
    if url.startswith("sqlite"):
        return open_registry(f"{url}?mode=ro", PROJECT)
    joined = "&" if "?" in url else "?"
    return open_registry(f"{url}{joined}options=-c%20default_transaction_read_only%3Don", PROJECT)
