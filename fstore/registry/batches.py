"""Batches: the attempts of one run at a view over disjoint chunks, begun, computed and published one by one.

Takes an open connection and gives values. A later batch of the same run and view fences what earlier ones still do over
intervals that both were asked for; a retry takes over the chunks that were finished.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from fstore.decoding import decode_json
from fstore.errors import AttemptUnknown, Fenced
from fstore.interval import Interval, merge_intervals
from fstore.registry.database import Database
from fstore.registry.records import Batch
from fstore.registry.tables import attempts, batches

_ENCODER = msgspec.json.Encoder(order="sorted")


def insert_batch(
    database: Database, connection: Connection, *, view: str, generation: int, run_id: str, intervals: Sequence[Interval]
) -> int:
    """Write a new batch; the database issues its id, which is returned."""
    row = {
        "project": database.project, "view": view, "generation": generation, "run_id": run_id,
        "ranges": _ENCODER.encode(merge_intervals(intervals)).decode(), "created_at": database.now(connection),
    }  # fmt: skip
    batch_id: int = connection.execute(sa.insert(batches).values(row).returning(batches.c.id)).scalar_one()
    return batch_id


def read_batch(database: Database, connection: Connection, batch_id: int) -> Batch:
    """Return a batch with its attempts in the order of their intervals. Raises AttemptUnknown."""
    b = batches.c
    row = connection.execute(sa.select(batches).where(b.id == batch_id, b.project == database.project)).first()
    if row is None:
        raise AttemptUnknown(
            f"project {database.project!r} has no batch {batch_id} in registry {database.label}: compute it first"
        )
    a = attempts.c
    ids = connection.execute(sa.select(a.id).where(a.batch_id == batch_id).order_by(a.start_at, a.id)).scalars().all()
    return Batch(
        id=row.id,
        view=row.view,
        generation=row.generation,
        run_id=row.run_id,
        ranges=_ranges(row),
        attempts=tuple(ids),
        created_at=row.created_at,
    )


def refuse_fenced(
    database: Database, connection: Connection, *, attempt: int, batch_id: int, intervals: Sequence[Interval]
) -> None:
    """Raise Fenced when a later batch of the same run and view was asked for some of the intervals."""
    b = batches.c
    mine = connection.execute(sa.select(b.view, b.run_id).where(b.id == batch_id)).one()
    later = connection.execute(
        sa.select(batches)
        .where(b.project == database.project, b.view == mine.view, b.run_id == mine.run_id, b.id > batch_id)
        .order_by(b.id.desc())
    )
    for row in later:
        if any(range_.overlaps(interval) for range_ in _ranges(row) for interval in merge_intervals(intervals)):
            newer = connection.execute(sa.select(sa.func.max(attempts.c.id)).where(attempts.c.batch_id == row.id)).scalar()
            raise Fenced(attempt, newer, mine.view)


def take_over(database: Database, connection: Connection, batch_id: int, attempt_ids: Collection[int]) -> None:
    """Make finished attempts of the same run part of a later batch."""
    connection.execute(
        sa.update(attempts)
        .where(attempts.c.project == database.project, attempts.c.id.in_(list(attempt_ids)))
        .values(batch_id=batch_id)
    )


def _ranges(row: Row[*tuple[Any, ...]]) -> tuple[Interval, ...]:
    return decode_json(row.ranges, tuple[Interval, ...])
