"""The ledger: attempts, their files and verdicts, and the log of publications.

An attempt begins, records its files, gets a verdict per interval and is published or fails; every call is one short
transaction that is safe to repeat. The log answers what is published, missing, blocked and stale. The ledger computes
nothing and reads no data file.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import TypeVar

import msgspec
import sqlalchemy as sa

from fstore.interval import Interval
from fstore.plan.steps import Step
from fstore.registry.attempts import (
    add_pins,
    insert_attempt,
    lock_attempt,
    lock_unpublished,
    read_attempt,
    read_files,
    read_history,
    write_files,
    write_intervals,
)
from fstore.registry.batches import insert_batch, read_batch, refuse_fenced, take_over
from fstore.registry.commits import forget_commits
from fstore.registry.damage import damaged_intervals
from fstore.registry.database import BATCH, Database, repeated
from fstore.registry.heads import Scope, read_blocked, read_heads, read_newest, read_publications, uncovered
from fstore.registry.lineage_log import LineageLog
from fstore.registry.publishing import lock_project, publish_attempt
from fstore.registry.records import (
    Attempt,
    AttemptPlace,
    AttemptSummary,
    Batch,
    CheckResult,
    Head,
    Outcome,
    Pin,
    Publication,
    Published,
    SourceRead,
    State,
    Verdict,
)
from fstore.registry.reports import read_verdicts, write_results
from fstore.registry.staleness import finished_attempts, intervals_blocked_again, stale_intervals
from fstore.registry.tables import attempt_intervals, attempts
from fstore.registry.tile_ledger import TileLedger
from fstore.registry.views import attempt_generation, live_generation
from fstore.types import DataFile

__all__ = [
    "Attempt", "AttemptSummary", "CheckResult", "Head", "Ledger", "Outcome", "Pin", "Publication", "Published", "State",
    "Verdict",
]  # fmt: skip


T = TypeVar("T")


class Ledger:
    """The ledger of one project. Safe to share between threads and over a fork."""

    def __init__(self, database: Database, lineage: LineageLog) -> None:
        self._database, self._lineage = database, lineage
        self.tiles = TileLedger(database)

    # -- a batch ------------------------------------------------------------------------------------------------------

    def begin_batch(self, step: Step, intervals: Sequence[Interval], run_id: str) -> Batch:
        """Begin a batch of a registered view; from now on it fences the run's earlier ones over these intervals.

        Raises UnknownFeature.
        """
        database = self._database
        with database.writing() as connection:
            generation = attempt_generation(database, connection, step)
            batch_id = insert_batch(
                database, connection, view=step.view, generation=generation, run_id=run_id, intervals=intervals
            )
            return read_batch(database, connection, batch_id)

    def batch(self, batch_id: int) -> Batch:
        """Return a batch with the attempts that it has so far. Raises AttemptUnknown."""
        with self._database.reading() as connection:
            return read_batch(self._database, connection, batch_id)

    def finished(self, step: Step, batch: Batch) -> list[Attempt]:
        """Return attempts of the batch's run, from before it, that the batch need not repeat: disjoint, ascending.

        That is: their files are recorded, they lie within the batch, the step asks for the same with the same checks, no
        interval was blocked, and nothing that they read has changed since.
        """
        database = self._database
        with database.reading() as connection:
            ids = finished_attempts(database, connection, step, batch)
            return [read_attempt(database, connection, lock_attempt(database, connection, id_, lock=False)) for id_ in ids]

    @repeated
    def take_over(self, batch: Batch, attempt_ids: Collection[int]) -> None:
        """Make finished attempts of the same run part of a batch. Raises Fenced for a batch that was overtaken itself."""
        database = self._database
        with database.writing() as connection:
            refuse_fenced(
                database, connection, attempt=max(attempt_ids, default=0), batch_id=batch.id, intervals=batch.ranges
            )
            take_over(database, connection, batch.id, attempt_ids)

    # -- an attempt ---------------------------------------------------------------------------------------------------

    def begin(
        self,
        step: Step,
        intervals: Sequence[Interval],
        run_id: str,
        pins: Sequence[Pin] = (),
        lineage_events: Sequence[str] | Callable[[Attempt], Sequence[str]] = (),
        *,
        sources: Sequence[SourceRead] = (),
        batch: int | None = None,
    ) -> Attempt:
        """Begin an attempt of a registered view at disjoint intervals.

        Without a ``batch`` it is one of its own, and fences from now on what the run began earlier over these intervals.
        ``lineage_events`` (or what it returns for the new attempt) are recorded in the same transaction. Raises
        UnknownFeature, DefinitionChanged, Fenced for a batch that was overtaken, and ValueError for no or overlapping
        intervals.
        """
        ordered = sorted(set(intervals))
        if not ordered or any(left.end > right.start for left, right in itertools.pairwise(ordered)):
            raise ValueError("an attempt takes at least one interval, and none that overlap")
        database = self._database
        with database.writing() as connection:
            generation = attempt_generation(database, connection, step)
            if batch is None:
                batch = insert_batch(
                    database, connection, view=step.view, generation=generation, run_id=run_id, intervals=ordered
                )
            else:
                refuse_fenced(database, connection, attempt=0, batch_id=batch, intervals=ordered)
            attempt = Attempt(
                id=0,
                view=step.view,
                generation=generation,
                run_id=run_id,
                step=step,
                intervals=tuple(ordered),
                pins=tuple(pins),
                sources=tuple(sorted(sources, key=lambda read: read.source)),
                created_at=database.now(connection),
                batch=batch,
            )
            attempt = msgspec.structs.replace(attempt, id=insert_attempt(database, connection, attempt))
            self._lineage.record_within(connection, _events(lineage_events, attempt))
        return attempt

    def attempt(self, attempt_id: int) -> Attempt:
        """Return an attempt with everything recorded about it. Raises AttemptUnknown."""
        with self._database.reading() as connection:
            row = lock_attempt(self._database, connection, attempt_id, lock=False)
            return read_attempt(self._database, connection, row)

    @repeated
    def require_unpublished(self, attempt_id: int) -> None:
        """Raise what recording something of an attempt would raise: AttemptUnknown, and PublishError once published."""
        with self._database.writing() as connection:
            lock_unpublished(self._database, connection, attempt_id)

    @repeated
    def record_files(self, attempt_id: int, files: Sequence[DataFile], *, pins: Sequence[Pin] = ()) -> None:
        """Record the files of an attempt in place of earlier ones, and pins of what was found out while computing.

        Raises AttemptUnknown, and PublishError once published.
        """
        with self._database.writing() as connection:
            lock_unpublished(self._database, connection, attempt_id)
            write_files(self._database, connection, attempt_id, files)
            add_pins(self._database, connection, attempt_id, pins)

    @repeated
    def record_verdicts(
        self, attempt_id: int, verdicts: Sequence[Verdict], files: Sequence[DataFile] | None = None,
        lineage_events: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """Record verdicts in place of earlier ones for the same intervals, and the files that quarantine rewrote.

        Raises AttemptUnknown, PublishError once published, and ValueError for an interval that is not the attempt's.
        """
        given = {verdict.interval: verdict for verdict in sorted(verdicts, key=lambda verdict: verdict.interval)}
        database = self._database
        with database.writing() as connection:
            attempt = read_attempt(database, connection, lock_unpublished(database, connection, attempt_id))
            if foreign := sorted(set(given) - set(attempt.intervals)):
                raise ValueError(f"attempt {attempt_id} of view {attempt.view!r} does not cover {foreign[0]}")
            known = {verdict.interval: verdict for verdict in attempt.verdicts} | given
            write_intervals(database, connection, attempt, attempt_id, known)
            write_results(database, connection, attempt_id, list(given.values()))
            if files is not None:
                write_files(database, connection, attempt_id, files)
            if len(known) == len(attempt.intervals):
                connection.execute(sa.update(attempts).where(attempts.c.id == attempt_id).values(state="validated"))
            self._lineage.record_within(connection, lineage_events)

    @repeated
    def publish(
        self,
        attempt_id: int,
        *,
        intervals: Collection[Interval] | None = None,
        lineage_events: Sequence[str] | Callable[[Published], Sequence[str]] = (),
    ) -> Published:
        """Make the passed intervals of an attempt visible, or those among ``intervals``, in one transaction.

        Safe to repeat: an interval that this attempt published stays as it is. ``lineage_events`` (or what it returns for
        the result) are recorded in the same transaction. Raises AttemptUnknown, Fenced and InputsChanged.
        """
        with self._database.writing() as connection:
            published = publish_attempt(self._database, connection, attempt_id, intervals)
            self._lineage.record_within(connection, _events(lineage_events, published))
        return published

    @repeated
    def fail(self, attempt_id: int, message: str, lineage_events: Sequence[str] = ()) -> None:
        """Record that an attempt failed; one that is published or was given up stays that. Raises AttemptUnknown."""
        database = self._database
        with database.writing() as connection:
            if lock_attempt(database, connection, attempt_id).state not in ("published", "abandoned", "swept"):
                connection.execute(
                    sa.update(attempts)
                    .where(attempts.c.id == attempt_id)
                    .values(state="failed", message=message, finished_at=database.now(connection))
                )
            self._lineage.record_within(connection, lineage_events)

    @repeated
    def abandon(self, before: datetime) -> list[AttemptPlace]:
        """Give up the attempts that began before an instant and published nothing, and return them: they never will.

        Those that were given up earlier but not marked as swept are returned again.
        """
        database, a, i = self._database, attempts.c, attempt_intervals.c
        settled = sa.select(i.attempt_id).where(i.outcome.in_(("published", "overtaken")))
        dead = sa.and_(
            a.project == database.project,
            a.created_at < before,
            a.state.not_in(("published", "swept")),
            a.id.not_in(settled),
        )
        with database.writing() as connection:
            lock_project(database, connection)  # so that none of them is being published meanwhile
            forget_commits(database, connection)
            rows = connection.execute(
                sa.select(a.id, a.view, a.generation).where(dead).order_by(a.id).limit(BATCH).with_for_update(key_share=True)
            ).all()
            connection.execute(sa.update(attempts).where(a.id.in_([row.id for row in rows])).values(state="abandoned"))
        return [AttemptPlace(id=row.id, view=row.view, generation=row.generation) for row in rows]

    def swept(self, since: datetime) -> list[AttemptPlace]:
        """Return the attempts that began at or after an instant and whose files were deleted."""
        a = attempts.c
        own = (a.project == self._database.project, a.state == "swept", a.created_at >= since)
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(a.id, a.view, a.generation).where(*own).order_by(a.id)).all()
        return [AttemptPlace(id=row.id, view=row.view, generation=row.generation) for row in rows]

    def rewritten(self, since: datetime, before: datetime) -> list[AttemptPlace]:
        """Return the attempts published within ``[since, before)`` of which validation set rows aside."""
        a, i = attempts.c, attempt_intervals.c
        quarantined = sa.exists().where(i.attempt_id == a.id, i.quarantined_rows > 0)
        published = (a.project == self._database.project, a.state == "published", a.finished_at >= since)
        query = sa.select(a.id, a.view, a.generation).where(*published, a.finished_at < before, quarantined).order_by(a.id)
        with self._database.reading() as connection:
            return [AttemptPlace(id=row.id, view=row.view, generation=row.generation) for row in connection.execute(query)]

    @repeated
    def mark_swept(self, attempt_ids: Collection[int]) -> None:
        """Record that the files of given-up attempts are deleted."""
        a = attempts.c
        with self._database.writing() as connection:
            connection.execute(
                sa.update(attempts).where(a.id.in_(list(attempt_ids)), a.state == "abandoned").values(state="swept")
            )

    # -- the log ------------------------------------------------------------------------------------------------------

    def heads(
        self,
        view: str,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        generation: int | None = None,
        as_of: int | datetime | None = None,
    ) -> list[Head]:
        """Return what is seen of a view within ``[start, end)``: maximal ranges, ascending, clipped to it.

        ``as_of`` is a sequence or an instant (default: now), the generation the live one by default. As of an instant that
        is not settled (``Retention.sequence_at``) later publications may still count. Raises UnknownFeature.
        """
        with self._database.reading() as connection:
            number = live_generation(self._database, connection, view) if generation is None else generation
            scope = Scope(view=view, generation=number, start=start, end=end, as_of=as_of)
            return read_heads(self._database, connection, scope)

    def newest(self, view: str) -> Head | None:
        """Return the head with the greatest end, or None when nothing is published. Raises UnknownFeature."""
        with self._database.reading() as connection:
            generation = live_generation(self._database, connection, view)
            return read_newest(self._database, connection, view, generation)

    def publications(self, view: str | None = None, limit: int = 100) -> list[Publication]:
        """Return the latest entries of the log, ascending by sequence."""
        with self._database.reading() as connection:
            return read_publications(self._database, connection, view=view, limit=limit)

    def unpublished(self, view: str, intervals: Sequence[Interval]) -> list[Interval]:
        """Return those of the intervals that are not published, in the given order. Raises UnknownFeature."""
        if not intervals:
            return []
        start, end = min(i.start for i in intervals), max(i.end for i in intervals)
        return uncovered(intervals, self.heads(view, start=start, end=end))

    def blocked(self, view: str, *, generation: int | None = None, as_of: int | None = None) -> list[Interval]:
        """Return the intervals whose newest verdict blocks them, ascending. Raises UnknownFeature.

        The generation is the live one by default; ``as_of`` is a sequence (default: now).
        """
        with self._database.reading() as connection:
            number = live_generation(self._database, connection, view) if generation is None else generation
            return list(read_blocked(self._database, connection, view, number, as_of))

    def blocked_again(self, step: Step) -> list[Interval]:
        """Return those of the blocked intervals that computing now would block again, ascending. Raises UnknownFeature.

        That is: the step asks for the same with the same checks, and no view that they read was republished since.
        """
        with self._database.reading() as connection:
            generation = live_generation(self._database, connection, step.view)
            return intervals_blocked_again(self._database, connection, step, generation)

    def stale(self, view: str) -> list[Interval]:
        """Return the published intervals whose pinned inputs were republished since, ascending. Raises UnknownFeature."""
        with self._database.reading() as connection:
            generation = live_generation(self._database, connection, view)
            return stale_intervals(self._database, connection, view, generation)

    def damaged(self, view: str) -> list[Interval]:
        """Return the published intervals whose files are damaged or deleted, ascending. Raises UnknownFeature."""
        with self._database.reading() as connection:
            generation = live_generation(self._database, connection, view)
            return damaged_intervals(self._database, connection, view, generation)

    def files(self, attempt_ids: Collection[int]) -> dict[int, tuple[DataFile, ...]]:
        """Return the files of attempts, in the order they were recorded; an attempt without files is left out."""
        with self._database.reading() as connection:
            return read_files(self._database, connection, attempt_ids)

    def verdicts(self, attempt_id: int) -> tuple[Verdict, ...]:
        """Return the verdicts of an attempt with their check results, ascending by interval."""
        with self._database.reading() as connection:
            return read_verdicts(connection, attempt_id)

    def history(self, view: str | None = None, limit: int = 20) -> list[AttemptSummary]:
        """Return the latest attempts, newest first, of a view or of the whole project."""
        with self._database.reading() as connection:
            return read_history(self._database, connection, view, limit)


def _events(given: Sequence[str] | Callable[[T], Sequence[str]], value: T) -> Sequence[str]:
    return given(value) if callable(given) else given
