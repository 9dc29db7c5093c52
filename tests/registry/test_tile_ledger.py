"""Tiles in the publication log: data sets without a view, shared files, freshness, and pins that are moments."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta

import msgspec
import pytest

from fstore.definitions.source import ParquetSource
from fstore.errors import AttemptUnknown, Fenced, InputsChanged
from fstore.interval import Interval
from fstore.plan.fingerprint import source_key
from fstore.plan.steps import DimensionInput, EventInput, TileSet, TileState, tile_dataset
from fstore.plan.tile_step import TileStep
from fstore.registry.records import Pin, SourceRead
from fstore.registry.registry import Registry, open_registry
from fstore.registry.source_changes import ObservedFile, TimeSpan
from tests.registry.examples import (
    PROJECT,
    PURCHASES,
    aggregate,
    data_file,
    day,
    days,
    dependent,
    seen,
    validated,
    verdict,
)  # fmt: skip

DAY = timedelta(days=1)
SOURCE = source_key(PURCHASES)


def state(name: str, length: timedelta = DAY) -> TileState:
    return TileState(
        name=name, identity=f"id-{name}", dataset=tile_dataset(f"id-{name}", length), type="BIGINT", aggregate="count(*)",
        merge=f"sum({name})",
    )  # fmt: skip


def tiles(*names: str, coarse: timedelta | None = None) -> TileSet:
    return TileSet(
        relation="tiles0", events=EventInput(alias="events", source=PURCHASES, window=7 * DAY), keys=("user_id",), length=DAY,
        coarse=coarse, back=7 * DAY, edges=(timedelta(), 7 * DAY), states=tuple(state(name) for name in names), identity="set",
    )  # fmt: skip


def made(registry: Registry, names: Sequence[str], *ranges: tuple[int, int], run: str = "run", change: int = 0) -> int:
    """Begin an attempt at tiles over ranges of days and return it."""
    made_of = tiles(*names)
    spans = [Interval(day(first), day(last)) for first, last in ranges]
    read = SourceRead(source=SOURCE, change=change, start=spans[0].start, end=spans[-1].end)
    step = TileStep(project=PROJECT, tiles=made_of, sql="SELECT 1")
    return registry.ledger.tiles.begin(step, made_of.group, spans, run, [read]).id


def publish(registry: Registry, attempt: int, *files: tuple[int, int]) -> bool:
    written = [data_file(f"tiles-{attempt}-{first}.parquet", first, last) for first, last in files]
    return registry.ledger.tiles.publish(attempt, written)


def heads(registry: Registry, name: str, first: int = 0, last: int = 40) -> list[tuple[int, int, int]]:
    dataset = state(name).dataset
    found = registry.ledger.tiles.heads({dataset: [Interval(day(first), day(last))]}).heads[dataset]
    return [((head.start - day(0)).days, (head.end - day(0)).days, head.attempt) for head in found]


def test_states_are_data_sets_that_share_the_files_of_one_attempt(registry: Registry, registry_url: str) -> None:
    attempt = made(registry, ["n", "s"], (0, 3), (5, 6))
    assert heads(registry, "n") == []
    assert publish(registry, attempt, (0, 3), (5, 6))
    assert heads(registry, "n") == heads(registry, "s") == [(0, 3, attempt), (5, 6, attempt)]
    assert heads(registry, "n", 1, 2) == [(1, 2, attempt)]
    with open_registry(registry_url, PROJECT) as elsewhere:
        found = elsewhere.ledger.tiles.heads({state("s").dataset: [Interval(day(0), day(9))]})
        assert [file.path for file in found.files[attempt]] == [f"tiles-{attempt}-0.parquet", f"tiles-{attempt}-5.parquet"]
        assert found.sequence == elsewhere.state().sequence == 4
        again = elsewhere.ledger.tiles.attempt(attempt)
    assert again.step.tiles == tiles("n", "s")
    assert again.ranges == (Interval(day(0), day(3)), Interval(day(5), day(6)))
    assert registry.ledger.history() == [], "tiles are no view's history"


def test_publishing_again_changes_nothing(registry: Registry) -> None:
    attempt = made(registry, ["n"], (0, 3))
    assert publish(registry, attempt, (0, 3))
    assert publish(registry, attempt, (0, 3))
    assert registry.state().sequence == 1


def test_what_somebody_made_from_a_source_as_new_is_not_published_again(registry: Registry) -> None:
    first, second = made(registry, ["n", "s"], (0, 5), run="a", change=3), made(registry, ["n"], (3, 8), run="b", change=3)
    third = made(registry, ["n"], (0, 8), run="c", change=3)
    assert publish(registry, second, (3, 8))
    assert publish(registry, first, (0, 5))
    assert heads(registry, "n") == [(0, 3, first), (3, 8, second)]
    assert heads(registry, "s") == [(0, 5, first)]
    assert not publish(registry, third, (0, 8)), "nobody will read its files"


def test_tiles_of_a_newer_source_take_the_place_of_older_ones_and_never_the_other_way(registry: Registry) -> None:
    before = observe(registry, a=("1", 0, 5))
    after = observe(registry, a=("2", 0, 5))
    old, new = made(registry, ["n"], (0, 5), run="a", change=before), made(registry, ["n"], (1, 2), run="b", change=after)
    late = made(registry, ["n"], (0, 5), run="c", change=before)
    assert publish(registry, old, (0, 5))
    assert publish(registry, new, (1, 2))
    assert not publish(registry, late, (0, 5))
    assert heads(registry, "n") == [(0, 1, old), (1, 2, new), (2, 5, old)]


def test_a_change_elsewhere_makes_nobody_publish_equal_tiles(registry: Registry) -> None:
    """Two runs make the same tiles; between them the source changed, at a time that touches one tile."""
    before = observe(registry, a=("1", 0, 5))
    first = made(registry, ["n"], (0, 5), run="a", change=before)
    after = observe(registry, a=("1", 0, 5), b=("1", 2.25, 2.5), c=("1", 20, 21))
    second = made(registry, ["n"], (0, 5), run="b", change=after)
    assert publish(registry, first, (0, 5))
    assert publish(registry, second, (0, 5))
    assert heads(registry, "n") == [(0, 2, first), (2, 3, second), (3, 5, first)], "whole tiles, and no other"
    third = made(registry, ["n"], (0, 5), run="c", change=after)
    assert not publish(registry, third, (0, 5))
    late = observe(registry, a=("1", 0, 5), b=("1", 2.25, 2.5), c=("2", 20, 21))
    fourth = made(registry, ["n"], (0, 5), run="d", change=late)
    assert not publish(registry, fourth, (0, 5)), "what changed lies after all of them"


def test_only_a_later_try_over_the_same_ranges_fences(registry: Registry) -> None:
    zombie, beside = made(registry, ["n"], (0, 3)), made(registry, ["n"], (3, 5))
    other = made(registry, ["n"], (0, 3), run="another")
    assert publish(registry, beside, (3, 5))
    retry = made(registry, ["n"], (2, 3))
    with pytest.raises(Fenced):
        publish(registry, zombie, (0, 3))
    assert publish(registry, retry, (2, 3))
    assert publish(registry, other, (0, 3)), "of another run"
    assert heads(registry, "n") == [(0, 2, other), (2, 3, retry), (3, 5, beside)]


def test_the_sweeper_takes_what_never_published(registry: Registry) -> None:
    dead, alive = made(registry, ["n"], (0, 3), run="a"), made(registry, ["n"], (3, 5), run="b")
    publish(registry, alive, (3, 5))
    (given_up,) = registry.ledger.abandon(day(40_000))
    assert (given_up.id, given_up.view) == (dead, tiles("n").group)
    registry.ledger.mark_swept([dead])
    with pytest.raises(AttemptUnknown):
        publish(registry, dead, (0, 3))


def test_many_makers_at_once_publish_each_tile_once(registry: Registry, registry_url: str) -> None:
    attempts = [made(registry, ["n", "s"], (n, n + 10), run=f"run {n}") for n in range(6)]
    errors: list[Exception] = []

    def run(attempt: int, first: int) -> None:
        try:
            with open_registry(registry_url, PROJECT) as mine:
                publish(mine, attempt, (first, first + 10))
        except Exception as error:  # noqa: BLE001  (any is shown below)
            errors.append(error)

    threads = [threading.Thread(target=run, args=(attempt, n)) for n, attempt in enumerate(attempts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    log = [p for p in registry.ledger.publications(limit=1000) if p.view == state("n").dataset]
    assert sum((p.end - p.start).days for p in log) == 15, "days 0 to 15, each once"
    assert [p.sequence for p in registry.ledger.publications(limit=1000)] == list(range(1, registry.state().sequence + 1))


def test_a_later_publication_of_tiles_makes_the_intervals_stale_that_read_them(registry: Registry) -> None:
    publish(registry, made(registry, ["n"], (0, 20)), (0, 20))
    step = aggregate(tiles=(tiles("n"),))
    pin = Pin(view=state("n").dataset, start=day(0), end=day(20), sequence=registry.state().sequence)
    attempt = validated(registry, step, days(10, 20), "run", pins=[pin])
    observe(registry, a=("1", 0, 31))
    change = observe(registry, a=("2", 0, 31))
    publish(registry, made(registry, ["n"], (30, 31), run="elsewhere", change=change), (30, 31))
    registry.ledger.publish(attempt)
    assert registry.ledger.stale(step.view) == []
    publish(registry, made(registry, ["n"], (6, 7), run="late", change=change), (6, 7))
    assert registry.ledger.stale(step.view) == days(10, 13), "windows of seven days hold day 6 up to the end of day 12"


def test_tiles_made_again_before_publishing_are_changed_inputs(registry: Registry) -> None:
    publish(registry, made(registry, ["n"], (0, 20)), (0, 20))
    pin = Pin(view=state("n").dataset, start=day(3), end=day(20), sequence=registry.state().sequence)
    attempt = registry.ledger.begin(aggregate(tiles=(tiles("n"),)), days(10, 12), "run")
    registry.ledger.record_files(attempt.id, [data_file("x.parquet")], pins=[pin])
    registry.ledger.record_verdicts(attempt.id, [verdict(interval) for interval in days(10, 12)])
    observe(registry, a=("1", 0, 20))
    change = observe(registry, a=("2", 0, 20))
    publish(registry, made(registry, ["n"], (5, 6), run="late", change=change), (5, 6))
    with pytest.raises(InputsChanged, match="read tiles that were made again meanwhile"):
        registry.ledger.publish(attempt.id)
    assert registry.ledger.attempt(attempt.id).pins == (pin,)


def observe(registry: Registry, **files: tuple[str, float, float]) -> int:
    """Observe files of the source, each with a version and its first and last day; return the newest change."""
    listed = [ObservedFile(name, version, TimeSpan(day(first), day(last))) for name, (version, first, last) in files.items()]
    return registry.sources.observe(SOURCE, "purchases", listed)


def test_a_changed_source_makes_exactly_the_intervals_stale_that_reach_it(registry: Registry) -> None:
    known = observe(registry, a=("1", 0, 10), b=("1", 10, 20))
    step = aggregate(tiles=(tiles("n"),))
    read = SourceRead(source=SOURCE, change=known, start=day(0), end=day(20))
    begun = registry.ledger.begin(step, days(7, 20), "run", sources=[read])
    registry.ledger.record_files(begun.id, [data_file("x.parquet")])
    registry.ledger.record_verdicts(begun.id, [verdict(interval) for interval in days(7, 20)])
    registry.ledger.publish(begun.id)
    observe(registry, a=("1", 0, 10), b=("1", 10, 20), c=("1", 25, 26))
    assert registry.ledger.stale(step.view) == [], "nobody reached that day"
    observe(registry, a=("2", 8, 9), b=("1", 10, 20), c=("1", 25, 26))
    assert registry.ledger.stale(step.view) == days(7, 16), "the old span was days 0 to 9, the new one is within"
    assert seen(registry) == [(7, 20, begun.id)]


def test_a_changed_dimension_reaches_every_later_interval(registry: Registry) -> None:
    users = ParquetSource("users", path="data/users", keys=["user_id"], updated_at="updated_at")
    step = msgspec.structs.replace(dependent(), inputs=(DimensionInput(alias="u", source=users),))
    read = SourceRead(source=source_key(users), change=0, start=None, end=day(10))
    begun = registry.ledger.begin(step, days(0, 10), "run", sources=[read])
    registry.ledger.record_files(begun.id, [data_file("x.parquet")])
    registry.ledger.record_verdicts(begun.id, [verdict(interval) for interval in days(0, 10)])
    registry.ledger.publish(begun.id)
    registry.sources.observe(source_key(users), "users", [ObservedFile("u", "1", TimeSpan(day(0), None))])
    registry.sources.observe(source_key(users), "users", [ObservedFile("u", "1", TimeSpan(day(0), None)),
                                                          ObservedFile("v", "1", TimeSpan(day(6, 12), None))])  # fmt: skip
    assert registry.ledger.stale(step.view) == days(6, 10)
