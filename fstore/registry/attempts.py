"""Read and write the rows of attempts: intervals, pins, sources, files and their history.

Takes an open connection and gives values; which transitions are allowed is decided by the ledger.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from fstore.errors import AttemptUnknown, PublishError
from fstore.interval import Interval
from fstore.plan.steps import decode_step, encode_step
from fstore.plan.tile_step import TILES_PREFIX
from fstore.registry.database import BATCH, Database
from fstore.registry.records import Attempt, AttemptSummary, Pin, SourceRead, Verdict
from fstore.registry.reports import read_verdicts
from fstore.registry.tables import attempt_intervals, attempt_pins, attempt_sources, attempts, data_files
from fstore.types import DataFile

AttemptRow = Row[*tuple[Any, ...]]
"""A row of ``attempts``."""


def insert_attempt(database: Database, connection: Connection, attempt: Attempt) -> int:
    """Write a new attempt with its intervals and pins; the database issues its id, which is returned."""
    row = {
        "project": database.project, "view": attempt.view, "generation": attempt.generation, "run_id": attempt.run_id,
        "fingerprint": attempt.step.fingerprint, "step": encode_step(attempt.step), "state": attempt.state,
        "start_at": attempt.intervals[0].start, "end_at": attempt.intervals[-1].end, "created_at": attempt.created_at,
        "batch_id": attempt.batch,
    }  # fmt: skip
    attempt_id: int = connection.execute(sa.insert(attempts).values(row).returning(attempts.c.id)).scalar_one()
    write_intervals(database, connection, attempt, attempt_id, {})
    add_pins(database, connection, attempt_id, attempt.pins)
    write_sources(database, connection, attempt_id, attempt.sources)
    return attempt_id


def lock_attempt(database: Database, connection: Connection, attempt_id: int, *, lock: bool = True) -> AttemptRow:
    """Return an attempt's row, locked until the transaction ends unless told otherwise. Raises AttemptUnknown."""
    query = sa.select(attempts).where(attempts.c.id == attempt_id, attempts.c.project == database.project)
    row = connection.execute(query.with_for_update(key_share=True) if lock else query).first()
    if row is None:
        raise AttemptUnknown(
            f"project {database.project!r} has no attempt {attempt_id} in registry {database.label}: compute it first"
        )
    return row


def lock_unpublished(database: Database, connection: Connection, attempt_id: int) -> AttemptRow:
    """Lock an attempt of which nothing is published: what is published never changes. Raises PublishError.

    That is AttemptUnknown for an attempt that was given up, whose files are deleted or about to be.
    """
    row = lock_attempt(database, connection, attempt_id)
    refuse_abandoned(row)
    c = attempt_intervals.c
    settled = sa.select(sa.exists().where(c.attempt_id == attempt_id, c.outcome.in_(("published", "overtaken"))))
    if connection.execute(settled).scalar():
        raise PublishError(
            f"attempt {attempt_id} of view {row.view!r} is published already and cannot be changed: begin a new one "
            "(in Airflow: clear compute)"
        )
    return row


def refuse_abandoned(row: AttemptRow) -> None:
    """Raise AttemptUnknown for an attempt that was given up."""
    if row.state in ("abandoned", "swept"):
        raise AttemptUnknown(
            f"attempt {row.id} of view {row.view!r} published nothing for too long and its files were deleted: "
            "clear its compute step, or run it again"
        )


def read_attempt(database: Database, connection: Connection, row: AttemptRow) -> Attempt:
    """Return an attempt with everything recorded about it."""
    c = attempt_intervals.c
    spans = connection.execute(sa.select(c.start_at, c.end_at).where(c.attempt_id == row.id).order_by(c.start_at))
    return Attempt(
        id=row.id,
        view=row.view,
        generation=row.generation,
        run_id=row.run_id,
        step=decode_step(row.step),
        intervals=tuple(Interval(span.start_at, span.end_at) for span in spans),
        pins=tuple(read_pins(connection, row.id)),
        files=read_files(database, connection, [row.id]).get(row.id, ()),
        verdicts=read_verdicts(connection, row.id),
        sources=tuple(read_sources(connection, row.id)),
        state=row.state,
        created_at=row.created_at,
        batch=row.batch_id,
    )


def write_intervals(
    database: Database, connection: Connection, attempt: Attempt, attempt_id: int, verdicts: dict[Interval, Verdict]
) -> None:
    """Write the intervals of an attempt with their verdicts so far, in place of earlier rows."""
    connection.execute(sa.delete(attempt_intervals).where(attempt_intervals.c.attempt_id == attempt_id))
    rows: list[dict[str, object]] = []
    for interval in attempt.intervals:
        verdict = verdicts.get(interval)
        rows.append({
            "attempt_id": attempt_id, "view": attempt.view, "generation": attempt.generation,
            "start_at": interval.start, "end_at": interval.end,
            "outcome": "pending" if verdict is None else "passed" if verdict.passed else "blocked",
            "rows": None if verdict is None else verdict.rows,
            "quarantined_rows": None if verdict is None else verdict.quarantined_rows,
        })  # fmt: skip
    database.insert(connection, attempt_intervals, rows)


def add_pins(database: Database, connection: Connection, attempt_id: int, pins: Sequence[Pin]) -> None:
    """Write pins of an attempt after those that it has."""
    if not pins:
        return
    c = attempt_pins.c
    query = sa.select(sa.func.coalesce(sa.func.max(c.position) + 1, 0)).where(c.attempt_id == attempt_id)
    first: int = connection.execute(query).scalar_one()
    rows: list[dict[str, object]] = [
        {"attempt_id": attempt_id, "position": position, "view": pin.view, "start_at": pin.start, "end_at": pin.end,
         "sequence": pin.sequence}
        for position, pin in enumerate(pins, start=first)
    ]  # fmt: skip
    database.insert(connection, attempt_pins, rows)


def read_pins(connection: Connection, attempt_id: int) -> list[Pin]:
    """Return the pins of an attempt in the order they were given."""
    c = attempt_pins.c
    rows = connection.execute(sa.select(attempt_pins).where(c.attempt_id == attempt_id).order_by(c.position))
    return [Pin(view=row.view, start=row.start_at, end=row.end_at, sequence=row.sequence) for row in rows]


def write_sources(database: Database, connection: Connection, attempt_id: int, reads: Sequence[SourceRead]) -> None:
    """Write what an attempt reads of sources."""
    rows: list[dict[str, object]] = [
        {"attempt_id": attempt_id, "source": read.source, "change_id": read.change, "start_at": read.start,
         "end_at": read.end}
        for read in reads
    ]  # fmt: skip
    database.insert(connection, attempt_sources, rows)


def read_sources(connection: Connection, attempt_id: int) -> list[SourceRead]:
    """Return what an attempt reads of sources, by source."""
    c = attempt_sources.c
    rows = connection.execute(sa.select(attempt_sources).where(c.attempt_id == attempt_id).order_by(c.source))
    return [SourceRead(source=row.source, change=row.change_id, start=row.start_at, end=row.end_at) for row in rows]


def write_files(database: Database, connection: Connection, attempt_id: int, files: Sequence[DataFile]) -> None:
    """Write the files of an attempt in place of earlier ones."""
    connection.execute(sa.delete(data_files).where(data_files.c.attempt_id == attempt_id))
    rows: list[dict[str, object]] = [
        {"attempt_id": attempt_id, "position": position, "path": file.path, "rows": file.rows, "bytes": file.bytes,
         "start_at": file.start, "end_at": file.end, "schema_id": file.schema_id, "checksum": file.checksum}
        for position, file in enumerate(files)
    ]  # fmt: skip
    database.insert(connection, data_files, rows)


def read_files(database: Database, connection: Connection, attempt_ids: Collection[int]) -> dict[int, tuple[DataFile, ...]]:
    """Return the files of attempts, in the order they were recorded; an attempt without files is left out."""
    found: dict[int, list[DataFile]] = {}
    wanted, c = sorted(set(attempt_ids)), data_files.c
    for at in range(0, len(wanted), BATCH):
        rows = connection.execute(
            sa.select(data_files)
            .where(c.attempt_id.in_(wanted[at : at + BATCH]), c.project == database.project)
            .order_by(c.attempt_id, c.position)
        )
        for row in rows:
            file = DataFile(
                path=row.path,
                rows=row.rows,
                bytes=row.bytes,
                start=row.start_at,
                end=row.end_at,
                schema_id=row.schema_id,
                checksum=row.checksum,
            )
            found.setdefault(row.attempt_id, []).append(file)
    return {attempt_id: tuple(files) for attempt_id, files in found.items()}


def read_history(database: Database, connection: Connection, view: str | None, limit: int) -> list[AttemptSummary]:
    """Return the latest attempts, newest first, in two queries."""
    query = sa.select(attempts).where(attempts.c.project == database.project)
    query = query.where(~attempts.c.view.startswith(TILES_PREFIX) if view is None else attempts.c.view == view)
    rows = connection.execute(query.order_by(attempts.c.id.desc()).limit(limit)).all()
    c = attempt_intervals.c
    blocked = c.outcome == "blocked"
    totals = connection.execute(
        sa.select(
            c.attempt_id,
            sa.func.count().label("intervals"),
            sa.func.sum(sa.case((blocked, 1), else_=0)).label("blocked"),
            sa.func.sum(sa.case((blocked, 0), else_=sa.func.coalesce(c.rows, 0))).label("validated"),
        )
        .where(c.attempt_id.in_([row.id for row in rows]))
        .group_by(c.attempt_id)
    )
    counted = {total.attempt_id: total for total in totals}
    return [
        AttemptSummary(
            id=row.id,
            view=row.view,
            generation=row.generation,
            run_id=row.run_id,
            start=row.start_at,
            end=row.end_at,
            state=row.state,
            message=row.message,
            intervals=counted[row.id].intervals,
            blocked=int(counted[row.id].blocked),
            rows=int(counted[row.id].validated),
            created_at=row.created_at,
            finished_at=row.finished_at,
        )
        for row in rows
    ]
