"""The log of source changes: what a listing says against the one before, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fstore.registry.registry import Registry, open_registry
from fstore.registry.source_changes import EVERYTHING, ObservedFile, SourceChange, TimeSpan, merge_spans
from tests.registry.examples import PROJECT

ORDERS = "0123456789abcdef"


@pytest.fixture
def registry(registry_url: str) -> Iterator[Registry]:
    """A registry without definitions."""
    with open_registry(registry_url, PROJECT) as opened:
        yield opened


def day(number: int, length: int = 1) -> TimeSpan:
    start = datetime(2026, 1, number, tzinfo=UTC)
    return TimeSpan(start, start + timedelta(days=length))


def file(name: str, version: str = "1", span: TimeSpan | None = EVERYTHING) -> ObservedFile:
    return ObservedFile(name, version, span)


def spans(changes: list[SourceChange]) -> list[TimeSpan]:
    return [change.span for change in changes]


def observe(registry: Registry, *files: ObservedFile, source: str = ORDERS) -> int:
    return registry.sources.observe(source, "orders", files)


def test_the_first_listing_changes_nothing(registry: Registry) -> None:
    assert observe(registry, file("a", span=day(1)), file("b", span=day(2))) == 0
    assert registry.sources.since(ORDERS) == []
    assert registry.sources.files(ORDERS) == {"a": file("a", span=day(1)), "b": file("b", span=day(2))}


def test_the_same_listing_changes_nothing_in_any_order(registry: Registry) -> None:
    observe(registry, file("a", span=day(1)), file("b", span=day(2)))
    assert observe(registry, file("b", span=day(2)), file("a", span=day(1))) == 0


def test_an_appended_file_touches_only_its_own_times(registry: Registry) -> None:
    observe(registry, file("a", span=day(1)))
    newest = observe(registry, file("a", span=day(1)), file("b", span=day(2)))
    assert spans(registry.sources.since(ORDERS)) == [day(2)]
    assert newest == registry.sources.newest(ORDERS) == registry.sources.since(ORDERS)[-1].id
    assert registry.sources.since(ORDERS, newest) == []


def test_a_changed_file_touches_its_old_and_its_new_times_and_none_between(registry: Registry) -> None:
    observe(registry, file("a", "1", day(1)), file("b", "1", day(3)))
    observe(registry, file("a", "2", day(5)), file("b", "1", day(3)))
    assert spans(registry.sources.since(ORDERS)) == [day(1), day(5)]


def test_a_file_that_vanished_touches_its_old_times(registry: Registry) -> None:
    observe(registry, file("a", span=day(1)), file("b", span=day(3)))
    observe(registry, file("b", span=day(3)))
    assert spans(registry.sources.since(ORDERS)) == [day(1)]
    assert list(registry.sources.files(ORDERS)) == ["b"]


def test_a_file_with_unknown_times_touches_everything(registry: Registry) -> None:
    observe(registry, file("a", span=day(1)))
    observe(registry, file("a", span=day(1)), file("b"))
    assert spans(registry.sources.since(ORDERS)) == [EVERYTHING]


def test_a_file_without_a_time_touches_nothing_and_is_known(registry: Registry) -> None:
    observe(registry)
    observe(registry, file("empty", span=None))
    assert registry.sources.since(ORDERS) == []
    observe(registry, file("empty", "2", span=day(4)))
    assert spans(registry.sources.since(ORDERS)) == [day(4)]


def test_sources_do_not_mix(registry: Registry) -> None:
    observe(registry, file("a", span=day(1)))
    observe(registry, file("a", "2", span=day(1)))
    assert observe(registry, file("a", span=day(1)), source="other") == 0
    assert registry.sources.since("other") == []
    assert observe(registry, file("a", "2", span=day(1)), source="other") > registry.sources.newest(ORDERS)


def test_many_files_are_compared(registry: Registry) -> None:
    files = [file(f"part-{number}", span=day(1)) for number in range(1200)]
    observe(registry, *files)
    observe(registry, *files[100:], file("late", span=day(9)))
    assert spans(registry.sources.since(ORDERS)) == [day(1), day(9)]
    assert len(registry.sources.files(ORDERS)) == 1101


def test_observers_at_once_miss_nothing(registry: Registry, registry_url: str) -> None:
    observe(registry, file("a", span=day(1)))

    def look(number: int) -> int:
        with open_registry(registry_url, PROJECT) as own:
            return own.sources.observe(ORDERS, "orders", [file("a", str(number), day(number))])

    with ThreadPoolExecutor(4) as threads:
        newest = list(threads.map(look, range(2, 10)))
    logged = registry.sources.since(ORDERS)
    assert [change.id for change in logged] == sorted({change.id for change in logged})
    assert max(newest) == logged[-1].id
    seen = {instant for span in spans(logged) for instant in (span.start,)}
    assert {day(number).start for number in range(1, 10)} <= seen | {
        datetime(2026, 1, number, tzinfo=UTC)
        for span in spans(logged)
        for number in range(span.start.day if span.start else 1, span.end.day if span.end else 32)
    }


bounds = st.one_of(st.none(), st.integers(1, 12))


@given(st.lists(st.tuples(bounds, bounds), max_size=6))
def test_merged_spans_cover_the_same_times(pairs: list[tuple[int | None, int | None]]) -> None:
    pairs = [(low, high) for low, high in pairs if low is None or high is None or low < high]

    def at(number: int | None) -> datetime | None:
        return None if number is None else datetime(2026, 1, number, tzinfo=UTC)

    def covers(span: TimeSpan, instant: datetime) -> bool:
        return (span.start is None or span.start <= instant) and (span.end is None or instant < span.end)

    given_spans = [TimeSpan(at(low), at(high)) for low, high in pairs]
    merged = merge_spans(given_spans)
    for number in range(28):
        instant = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=12 * number)
        held = [span for span in merged if covers(span, instant)]
        assert bool(held) == any(covers(span, instant) for span in given_spans)
        assert len(held) <= 1
