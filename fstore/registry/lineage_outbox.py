"""Which recorded lineage events an OpenLineage backend does not have yet.

Every event is pending from the transaction that recorded it until the backend has accepted it, or refused it for what is in
it; there is no cursor that could pass an event whose transaction commits late. Events come in the order in which they were
recorded, which for one run is the order of what happened. It sends nothing.
"""

from __future__ import annotations

from datetime import datetime

import msgspec
import sqlalchemy as sa

from fstore.registry.database import Database
from fstore.registry.tables import lineage_events


class PendingEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event that is still to be sent; ``payload`` is its JSON."""

    id: int
    payload: str
    tries: int


class RefusedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event that the backend did not take, and why."""

    id: int
    event_type: str
    job_name: str
    run_id: str
    error: str
    refused_at: datetime


class LineageDepth(msgspec.Struct, frozen=True, kw_only=True):
    """How many events are pending, since when, why the oldest failed last (empty: it did not), and how many were refused."""

    pending: int
    oldest_at: datetime | None
    last_error: str
    refused: int


class LineageOutbox:
    """The events of one project on their way to a backend. Safe to share between threads and over a fork."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def pending(self, limit: int = 100) -> list[PendingEvent]:
        """Return the oldest events that are neither accepted nor refused, in order."""
        c = lineage_events.c
        query = sa.select(c.id, c.payload, c.tries).where(self._is_pending()).order_by(c.id).limit(limit)
        with self._database.reading() as connection:
            return [PendingEvent(id=row.id, payload=row.payload, tries=row.tries) for row in connection.execute(query)]

    def accepted(self, event_id: int) -> None:
        """Settle an event that the backend has; repeating it changes nothing."""
        self._settle(event_id, None)

    def refused(self, event_id: int, error: str) -> None:
        """Set an event aside that the backend does not take, unless it did so meanwhile."""
        self._settle(event_id, error)

    def failed(self, event_id: int, error: str) -> None:
        """Count a try that failed; the event stays pending."""
        c = lineage_events.c
        with self._database.writing() as connection:
            connection.execute(
                sa.update(lineage_events)
                .where(self._is_pending(), c.id == event_id)
                .values(tries=c.tries + 1, last_error=error)
            )

    def refusals(self, limit: int = 20) -> list[RefusedEvent]:
        """Return the events that were refused, newest first."""
        c = lineage_events.c
        query = sa.select(lineage_events).where(self._is_refused()).order_by(c.settled_at.desc(), c.id.desc()).limit(limit)
        with self._database.reading() as connection:
            return [
                RefusedEvent(
                    id=row.id, event_type=row.event_type, job_name=row.job_name, run_id=row.run_id, error=row.last_error,
                    refused_at=row.settled_at,
                )
                for row in connection.execute(query)
            ]  # fmt: skip

    def resend(self) -> int:
        """Make refused events pending again; return how many."""
        with self._database.writing() as connection:
            done = connection.execute(sa.update(lineage_events).where(self._is_refused()).values(settled_at=None))
            return int(done.rowcount)

    def depth(self) -> LineageDepth:
        """Return how much is pending and what was refused."""
        c = lineage_events.c
        first = sa.select(c.last_error).where(self._is_pending()).order_by(c.id).limit(1)
        with self._database.reading() as connection:
            row = connection.execute(
                sa.select(sa.func.count().label("pending"), sa.func.min(c.recorded_at).label("oldest_at")).where(
                    self._is_pending()
                )
            ).one()
            refused = connection.execute(sa.select(sa.func.count()).where(self._is_refused())).scalar_one()
            error = connection.execute(first).scalar() or ""
        return LineageDepth(pending=row.pending, oldest_at=row.oldest_at, last_error=error, refused=refused)

    def _settle(self, event_id: int, error: str | None) -> None:
        c = lineage_events.c
        with self._database.writing() as connection:
            connection.execute(
                sa.update(lineage_events)
                .where(self._is_pending(), c.id == event_id)
                .values(settled_at=self._database.now(connection), last_error=error)
            )

    def _is_pending(self) -> sa.ColumnElement[bool]:
        c = lineage_events.c
        return sa.and_(c.project == self._database.project, c.settled_at.is_(None))

    def _is_refused(self) -> sa.ColumnElement[bool]:
        c = lineage_events.c
        return sa.and_(c.project == self._database.project, c.settled_at.is_not(None), c.last_error.is_not(None))
