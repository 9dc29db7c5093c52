"""Publish an attempt: the one transaction that makes rows visible.

Takes a writing transaction and an attempt whose intervals have verdicts; appends one publication per contiguous range of
passed intervals and the work for the online store. The project's row is locked first, so sequences are issued in commit
order and everything checked here still holds when it commits. Repeating it gives the same result, whatever became of the
commit. It writes no lineage and moves no data.
"""

from __future__ import annotations

import bisect
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from fstore.decoding import decode_json
from fstore.errors import AttemptUnknown, DefinitionChanged, InputsChanged
from fstore.failpoints import failpoint
from fstore.interval import Interval, merge_intervals
from fstore.plan.tile_step import is_tiles
from fstore.registry.attempts import AttemptRow, lock_attempt, read_pins, refuse_abandoned
from fstore.registry.batches import refuse_fenced
from fstore.registry.database import Database
from fstore.registry.heads import Scope, overlapping, read_heads, read_publications
from fstore.registry.pins import changed_pins, changed_tiles
from fstore.registry.records import Pin, Published
from fstore.registry.tables import attempt_intervals, attempts, outbox, projects, publications
from fstore.registry.views import live_generations


class _Facts(msgspec.Struct, frozen=True):
    """What publishing needs to know of a step."""

    online: bool
    kind: Literal["snapshot", "event"]


def publish_attempt(
    database: Database, connection: Connection, attempt_id: int, chosen: Collection[Interval] | None = None
) -> Published:
    """Publish the passed intervals of an attempt, or those among ``chosen``.

    Raises AttemptUnknown (no such attempt, or without verdicts), Fenced and InputsChanged; then nothing is written.
    """
    project = lock_project(database, connection)
    failpoint("publish.locked")
    attempt = lock_attempt(database, connection, attempt_id)
    refuse_abandoned(attempt)
    outcomes = _outcomes(connection, attempt, chosen)
    passed = [interval for interval, outcome in outcomes.items() if outcome == "passed"]
    if passed:
        refuse_fenced(database, connection, attempt=attempt_id, batch_id=attempt.batch_id, intervals=passed)
        overtaken = _overtaken(database, connection, attempt, passed)
        fresh = [interval for interval in passed if interval not in overtaken]
        if fresh:
            _refuse_changed_inputs(database, connection, attempt_id)
            failpoint("publish.checked")
            _append(database, connection, project, attempt, merge_intervals(fresh))
        _settle(connection, attempt_id, overtaken, merge_intervals(outcomes))
        _finish(database, connection, attempt_id)
        outcomes = _outcomes(connection, attempt, chosen)
    elif not {"published", "overtaken"} & set(outcomes.values()):
        raise AttemptUnknown(
            f"attempt {attempt_id} of view {attempt.view!r} has nothing to publish: validation blocked all of it"
        )
    return _result(database, connection, attempt_id, outcomes)


def lock_project(database: Database, connection: Connection, version: int | None = None) -> Row[*tuple[Any, ...]]:
    """Lock the project's row until the transaction ends (SQLite's transaction holds the whole database already).

    Raises DefinitionChanged when the project's version is not the one given.
    """
    row = connection.execute(
        sa.select(projects).where(projects.c.project == database.project).with_for_update(key_share=True)
    ).one()
    if version is not None and row.version != version:
        raise DefinitionChanged(f"definitions of project {database.project!r} changed meanwhile: try again")
    return row


def take_sequence(
    database: Database, connection: Connection, project: Row[*tuple[Any, ...]], *, count: int = 1
) -> tuple[int, datetime]:
    """Take the next sequences of the locked project; return the first of them and their instant.

    What is no publication takes one as well, so that it has its place among them: a read as of a sequence or an instant is
    on one side of it or the other.
    """
    now = database.now(connection)
    at: datetime = now if project.published_at is None else max(now, project.published_at)
    connection.execute(
        sa.update(projects)
        .where(projects.c.project == database.project)
        .values(sequence=project.sequence + count, published_at=at)
    )
    return project.sequence + 1, at


def settle_instant(database: Database, connection: Connection, instant: datetime) -> None:
    """Let nothing be published any more at an instant, or before it; one that has not come yet is the present one.

    Waits for what is being published, which has read the clock already.
    """
    project = lock_project(database, connection)
    settled = min(instant, database.now(connection))
    if project.published_at is None or project.published_at <= settled:
        connection.execute(
            sa.update(projects)
            .where(projects.c.project == database.project)
            .values(published_at=settled + timedelta(microseconds=1))
        )


def _outcomes(connection: Connection, attempt: AttemptRow, chosen: Collection[Interval] | None) -> dict[Interval, str]:
    """Return the outcome of every interval asked for, ascending. Raises AttemptUnknown where a verdict is missing."""
    c = attempt_intervals.c
    rows = connection.execute(
        sa.select(c.start_at, c.end_at, c.outcome).where(c.attempt_id == attempt.id).order_by(c.start_at)
    )
    every: dict[Interval, str] = {Interval(row.start_at, row.end_at): row.outcome for row in rows}
    foreign = [] if chosen is None else [interval for interval in chosen if interval not in every]
    if foreign:
        raise AttemptUnknown(f"attempt {attempt.id} of view {attempt.view!r} does not cover {foreign[0]}")
    wanted = every if chosen is None else {interval: every[interval] for interval in sorted(chosen)}
    pending = [interval for interval, outcome in wanted.items() if outcome == "pending"]
    if pending:
        raise AttemptUnknown(
            f"attempt {attempt.id} of view {attempt.view!r} has {len(pending)} interval(s) without a verdict, the first "
            f"{pending[0]}: validate it first"
        )
    return wanted


def _overtaken(database: Database, connection: Connection, attempt: AttemptRow, passed: Sequence[Interval]) -> set[Interval]:
    """Return the intervals whose head belongs to a later attempt (of another run: this one is no zombie)."""
    scope = Scope(view=attempt.view, generation=attempt.generation, start=passed[0].start, end=max(i.end for i in passed))
    heads = read_heads(database, connection, scope)
    return {
        interval
        for interval in passed
        if any(head.attempt > attempt.id for head in overlapping(heads, interval.start, interval.end))
    }


def _refuse_changed_inputs(database: Database, connection: Connection, attempt_id: int) -> None:
    """Compare the pinned publications with the heads of now, one query per upstream view."""
    pins: dict[str, list[Pin]] = {}
    for pin in read_pins(connection, attempt_id):
        if not is_tiles(pin.view):
            pins.setdefault(pin.view, []).append(pin)
    if changed_tiles(database, connection, sa.select(sa.literal(attempt_id))):
        raise InputsChanged(
            f"attempt {attempt_id} read tiles that were made again meanwhile, from a source that had changed. Computing it "
            "again reads the new ones."
        )
    generations = live_generations(database, connection, pins)
    for view, pinned in pins.items():
        parts = changed_pins(database, connection, pinned, generations.get(view))
        for pin, changed in zip(pinned, parts, strict=True):
            if changed:
                raise InputsChanged(
                    f"attempt {attempt_id} read publication {pin.sequence} of view {view!r} for {changed[0]}, which was "
                    "republished meanwhile. Computing it again reads the new one."
                )


def _append(
    database: Database,
    connection: Connection,
    project: Row[*tuple[Any, ...]],
    attempt: AttemptRow,
    ranges: Sequence[Interval],
) -> None:
    """Append a publication per range and its online work."""
    rows = next_publications(database, connection, project, attempt, [(attempt.view, range_) for range_ in ranges])
    failpoint("publish.appended")
    _enqueue(database, connection, attempt, rows)
    failpoint("publish.enqueued")


def next_publications(
    database: Database,
    connection: Connection,
    project: Row[*tuple[Any, ...]],
    attempt: AttemptRow,
    ranges: Sequence[tuple[str, Interval]],
) -> list[dict[str, object]]:
    """Append a publication per data set and range, each with its sequence and its instant, and return them."""
    if not ranges:
        return []
    first, published_at = take_sequence(database, connection, project, count=len(ranges))
    common = {"generation": attempt.generation, "attempt_id": attempt.id, "fingerprint": attempt.fingerprint}
    rows: list[dict[str, object]] = [
        {**common, "view": dataset, "sequence": number, "start_at": interval.start, "end_at": interval.end,
         "published_at": published_at}
        for number, (dataset, interval) in enumerate(ranges, start=first)
    ]  # fmt: skip
    database.insert(connection, publications, rows)
    return rows


def _enqueue(
    database: Database,
    connection: Connection,
    attempt: AttemptRow,
    rows: Sequence[dict[str, object]],
) -> None:
    """Append the online work: of a snapshot view only for the publication of the newest published interval."""
    facts = decode_json(attempt.step, _Facts)
    if not facts.online:
        return
    if facts.kind == "snapshot":
        newest = connection.execute(
            sa.select(sa.func.max(publications.c.end_at)).where(
                publications.c.project == database.project,
                publications.c.view == attempt.view,
                publications.c.generation == attempt.generation,
            )
        ).scalar_one()
        rows = [row for row in rows if row["end_at"] == newest]
    kept = ("view", "generation", "attempt_id", "sequence", "start_at", "end_at")
    database.insert(
        connection,
        outbox,
        [
            {**{name: row[name] for name in kept}, "kind": "online", "created_at": row["published_at"], "tries": 0}
            for row in rows
        ],
    )


def _settle(connection: Connection, attempt_id: int, overtaken: Collection[Interval], ranges: Sequence[Interval]) -> None:
    """Record which intervals were overtaken, and the other passed ones within the ranges as published."""
    c = attempt_intervals.c
    within = (c.attempt_id == attempt_id, c.start_at >= sa.bindparam("low"), c.start_at < sa.bindparam("high"))
    update = sa.update(attempt_intervals).where(*within, c.outcome == "passed")
    for outcome, spans in (("overtaken", merge_intervals(overtaken)), ("published", ranges)):
        if spans:
            bounds = [{"low": span.start, "high": span.end} for span in spans]
            connection.execute(update.values(outcome=outcome), bounds)


def _finish(database: Database, connection: Connection, attempt_id: int) -> None:
    """Record the attempt as published once nothing of it is left to publish."""
    c = attempt_intervals.c
    left = sa.exists().where(c.attempt_id == attempt_id, c.outcome.in_(("pending", "passed")))
    connection.execute(
        sa.update(attempts)
        .where(attempts.c.id == attempt_id, ~left)
        .values(state="published", message="", finished_at=database.now(connection))
    )


def _result(database: Database, connection: Connection, attempt_id: int, outcomes: Mapping[Interval, str]) -> Published:
    """Return what the log says of the intervals, as this call and any repetition of it see it."""
    starts = sorted(interval.start for interval, outcome in outcomes.items() if outcome == "published")
    publications = read_publications(database, connection, attempt=attempt_id)
    return Published(
        publications=tuple(
            p for p in publications if bisect.bisect_left(starts, p.start) < bisect.bisect_left(starts, p.end)
        ),
        overtaken=tuple(interval for interval, outcome in outcomes.items() if outcome == "overtaken"),
        blocked=tuple(interval for interval, outcome in outcomes.items() if outcome == "blocked"),
    )
