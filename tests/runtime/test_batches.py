"""Batches: a range in chunks that are published one by one, resumed, and fenced."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from fstore.errors import AttemptUnknown, Fenced, ValidationFailed
from fstore.interval import Interval
from fstore.runtime import chunks
from fstore.runtime.batches import (
    BatchProgress,
    BatchRun,
    compute_batch,
    materialize_batch,
    validate_batch,
)
from fstore.runtime.chunks import ChunkSizes
from fstore.runtime.runner import run_step
from tests.projects import SmallProject, utc
from tests.runtime.daily_orders import HEAD, all_events, check, events_of, fail_at, view, write_day, write_days

WEEK = {"7d": timedelta(days=7)}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallProject]:
    """A project whose chunks have about fifty rows: ten intervals."""
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 50)
    small = SmallProject(tmp_path / "small")
    small.define("shop", HEAD + view("Orders", "7d"))
    write_days(small, "2025-12-20", "2026-02-10")
    yield small
    small.close()


def attempts_of(project: SmallProject, view: str = "orders") -> list[int]:
    """The attempts of a view that are seen, by interval."""
    return list(dict.fromkeys(head.attempt for head in project.backends.registry.ledger.heads(view)))


def test_a_range_is_published_in_chunks_that_grow_to_size(project: SmallProject) -> None:
    told: list[BatchProgress] = []
    step, intervals = project.step("orders"), project.intervals("orders", "2026-01-01", "2026-02-10")
    result = run_step(project.backends, step, intervals, "run", progress=told.append)
    heads = project.backends.registry.ledger.heads("orders")
    sizes = [(head.end - head.start).days for head in heads]
    assert sizes[0] == 1
    assert sizes[1:] == [10, 10, 10, 9]
    assert result.computed.intervals == tuple(intervals) == result.materialized.intervals
    assert told[-1] == BatchProgress(done=40, total=40, chunk=5, chunks=5, rows=result.computed.rows)
    assert [each.done for each in told] == sorted(each.done for each in told)
    check(project, "orders", all_events(), **WEEK)
    assert project.backends.registry.ledger.history("orders", limit=1)[0].rows == result.computed.rows - sum(
        verdict.rows for head in heads[:-1] for verdict in project.backends.registry.ledger.verdicts(head.attempt)
    )


def test_a_run_that_is_killed_keeps_its_chunks_and_its_retry_takes_them_over(
    project: SmallProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, intervals = project.step("orders"), project.intervals("orders", "2026-01-01", "2026-02-10")
    with monkeypatch.context() as patched:
        fail_at(patched, 4)  # tiles and rows of two chunks are written, then the tiles of the third
        with pytest.raises(RuntimeError, match="killed"):
            run_step(project.backends, step, intervals, "run")
    kept = attempts_of(project)
    assert len(kept) == 2
    result = run_step(project.backends, step, intervals, "run")
    assert list(result.computed.reused) == kept
    assert attempts_of(project)[:2] == kept
    assert result.materialized.intervals == tuple(intervals)
    check(project, "orders", all_events(), **WEEK)


def test_another_run_takes_nothing_over(project: SmallProject) -> None:
    project.run("orders", "2026-01-01", "2026-01-03", "one")
    before = attempts_of(project)
    assert project.run("orders", "2026-01-01", "2026-01-03", "two").computed.reused == ()
    assert attempts_of(project) != before


def test_a_retry_computes_again_what_reads_a_source_that_changed(project: SmallProject) -> None:
    step, intervals = project.step("orders"), project.intervals("orders", "2026-01-01", "2026-02-10")
    run_step(project.backends, step, intervals, "run")
    before = project.backends.registry.ledger.heads("orders")
    late = {"user_id": "u9", "ordered_at": utc("2026-02-09T12:00"), "amount": 1, "item": "late"}
    write_day(project, utc("2026-02-09"), [*events_of(utc("2026-02-09")), late])
    result = run_step(project.backends, step, intervals, "run")
    assert list(result.computed.reused) == [head.attempt for head in before[:-1]]
    check(project, "orders", [*all_events(), late], **WEEK)


def test_a_retry_computes_again_what_had_other_checks(project: SmallProject) -> None:
    project.run("orders", "2026-01-01", "2026-01-03", "run")
    project.define("shop", HEAD.replace("agg", "agg, check") + view("Orders", "7d") + CHECKED)
    again = project.run("orders", "2026-01-01", "2026-01-03", "run")
    assert again.computed.reused == ()


CHECKED = "        checks = [check.in_range('orders_7d', 0, 1000)]\n"


def test_a_zombie_between_chunks_is_fenced_and_leaves_the_retry_alone(project: SmallProject) -> None:
    step, intervals = project.step("orders"), project.intervals("orders", "2026-01-01", "2026-02-10")
    zombie = BatchRun(project.backends, step, intervals, "run")
    remaining = zombie.chunks()
    first = next(remaining)
    retry = compute_batch(project.backends, step, intervals, "run")
    assert retry.reused == (first,), "what the first try finished is the retry's now"
    with pytest.raises(Fenced):
        next(remaining)
    validate_batch(project.backends, retry.batch)
    with pytest.raises(AttemptUnknown, match="a later try of the run took them over"):
        materialize_batch(project.backends, zombie.batch.id)
    materialize_batch(project.backends, retry.batch)
    check(project, "orders", all_events(), **WEEK)


def test_a_later_batch_of_the_run_fences_only_what_both_were_asked_for(project: SmallProject) -> None:
    step = project.step("orders")
    early, late = (
        project.intervals("orders", *span) for span in (("2026-01-01", "2026-01-03"), ("2026-01-03", "2026-01-05"))
    )
    first = compute_batch(project.backends, step, early, "run")
    second = compute_batch(project.backends, step, late, "run")
    for batch in (first, second):
        validate_batch(project.backends, batch.batch)
        (done,) = materialize_batch(project.backends, batch.batch)
        assert len(done.intervals) == 2


def test_materializing_again_changes_nothing(project: SmallProject) -> None:
    step, intervals = project.step("orders"), project.intervals("orders", "2026-01-01", "2026-02-10")
    batch = compute_batch(project.backends, step, intervals, "run").batch
    validate_batch(project.backends, batch)
    first = materialize_batch(project.backends, batch)
    assert len(first) == 5
    assert [part.sequence for part in materialize_batch(project.backends, batch)] == [part.sequence for part in first]


BLOCKING = """

    class Checked(FeatureView):
        entity, source, schedule, start = user, orders, "@daily", "2026-01-01"
        timezone = "UTC"
        orders = agg.count().over("1d")
        checks = [check.row_count(2)]
"""


def test_chunks_that_are_blocked_whole_hold_up_no_others(project: SmallProject) -> None:
    project.define("shop", HEAD.replace("agg", "agg, check") + BLOCKING)
    blocked = [n for n in range(40) if len({e["user_id"] for e in events_of(utc("2026-01-01") + timedelta(days=n))}) < 2]
    result = project.run("checked", "2026-01-01", "2026-02-10")
    assert [verdict.interval.start.day for verdict in result.report.blocked][:2] == [n + 1 for n in blocked[:2]]
    assert len(result.materialized.intervals) == 40 - len(blocked)
    write_day(project, utc("2026-02-01"), [])
    with pytest.raises(ValidationFailed, match="no interval of view 'checked' passed its checks"):
        project.run("checked", "2026-02-01", "2026-02-02", "empty")


def test_validating_a_batch_again_says_the_same(project: SmallProject) -> None:
    project.define("shop", HEAD.replace("agg", "agg, check") + BLOCKING)
    write_day(project, utc("2026-01-01"), [])
    step, intervals = project.step("checked"), project.intervals("checked", "2026-01-01", "2026-02-10")
    batch = compute_batch(project.backends, step, intervals, "run").batch
    first = validate_batch(project.backends, batch)
    assert intervals[0] in [verdict.interval for verdict in first.blocked], "a chunk of its own"
    again = validate_batch(project.backends, batch)
    assert again.blocked == first.blocked
    materialize_batch(project.backends, batch)
    assert validate_batch(project.backends, batch).blocked == first.blocked


def test_sizes() -> None:
    def taken(count: int, sizes: ChunkSizes) -> int:
        start = utc("2026-01-01")
        every = [Interval(start + timedelta(days=n), start + timedelta(days=n + 1)) for n in range(count)]
        return len(sizes.take(every))

    assert taken(5, ChunkSizes()) == 5, "a few intervals are one chunk"
    assert taken(365, ChunkSizes()) == 12, "a small one to measure"
    assert taken(353, ChunkSizes(100_000)) == 118, "three equal ones of twelve million rows"
    assert taken(353, ChunkSizes(0)) == 353
    assert taken(7, ChunkSizes(1e9)) == 1
    assert (ChunkSizes(100_000).count([]), ChunkSizes().count([])) == (1, 1)
