"""The outbox: what publications left to be done elsewhere, in order, until it is acknowledged.

Entries are appended by the transaction that publishes. Delivery is at least once: several drainers may take the same
entry, which the online store's compare-and-set makes harmless. The outbox delivers nothing itself.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Row

from fstore.registry.database import BATCH, Database, repeated
from fstore.registry.records import OnlineWork, OutboxDepth, OutboxEntry
from fstore.registry.tables import outbox


class Outbox:
    """The outbox of one project. Safe to share between threads and over a fork."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def pending(
        self, kind: str | None = None, limit: int = 100, *, attempt: int | None = None, after: int = 0
    ) -> list[OutboxEntry]:
        """Return the oldest entries that are not done, in order; those of one attempt, or after an entry, if asked."""
        c = outbox.c
        query = sa.select(outbox).where(c.project == self._database.project, c.done_at.is_(None), c.id > after)
        query = query if kind is None else query.where(c.kind == kind)
        query = query if attempt is None else query.where(c.attempt_id == attempt)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(c.id).limit(limit)).all()
        return [
            OutboxEntry(
                id=row.id,
                kind=row.kind,
                payload=work_of(row),
                tries=row.tries,
                last_error=row.last_error,
                created_at=row.created_at,
            )
            for row in rows
        ]

    @repeated
    def done(self, ids: Collection[int]) -> None:
        """Acknowledge entries; repeating it changes nothing."""
        wanted, c = sorted(set(ids)), outbox.c
        with self._database.writing() as connection:
            now = self._database.now(connection)
            for at in range(0, len(wanted), BATCH):
                connection.execute(
                    sa.update(outbox)
                    .where(c.project == self._database.project, c.id.in_(wanted[at : at + BATCH]), c.done_at.is_(None))
                    .values(done_at=now)
                )

    @repeated
    def failed(self, entry_id: int, error: str) -> None:
        """Count a failed delivery of an entry, which stays pending."""
        c = outbox.c
        with self._database.writing() as connection:
            connection.execute(
                sa.update(outbox)
                .where(c.project == self._database.project, c.id == entry_id, c.done_at.is_(None))
                .values(tries=c.tries + 1, last_error=error)
            )

    def depth(self) -> OutboxDepth:
        """Return how much is pending, and since when."""
        c = outbox.c
        with self._database.reading() as connection:
            row = connection.execute(
                sa.select(
                    sa.func.count().label("pending"),
                    sa.func.coalesce(sa.func.sum(sa.case((c.tries > 0, 1), else_=0)), 0).label("failing"),
                    sa.func.min(c.created_at).label("oldest_at"),
                ).where(c.project == self._database.project, c.done_at.is_(None))
            ).one()
        return OutboxDepth(pending=row.pending, failing=int(row.failing), oldest_at=row.oldest_at)


def work_of(row: Row[*tuple[Any, ...]]) -> OnlineWork:
    """Return the work of a row of ``outbox``."""
    return OnlineWork(
        view=row.view, generation=row.generation, sequence=row.sequence, start=row.start_at, end=row.end_at,
        attempt=row.attempt_id,
    )  # fmt: skip
