"""Which copies of a database's tables count: an append-only log per source.

Each entry continues the state that the entries before it give, so two that were made from the same state cannot both be
recorded: the second one is refused, and whoever made it reads again. Reads no file.
"""

from __future__ import annotations

from datetime import datetime

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fstore.registry.database import Database, repeated
from fstore.registry.publishing import lock_project
from fstore.registry.source_changes import TimeSpan
from fstore.registry.source_tables import source_extracts


class SourceExtract(msgspec.Struct, frozen=True, kw_only=True):
    """One copy: ``path`` in the offline store (None: nothing was new), the cursor to go on from, and what differs."""

    id: int = 0
    path: str | None
    rows: int
    bytes: int
    replaces: bool
    cursor: str | None
    span: TimeSpan | None
    extracted_at: datetime | None = None


class SourceExtracts:
    """The copies of one project. Safe to share between threads and over a fork."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def every(self, source: str) -> list[SourceExtract]:
        """Return all copies of a source that were ever recorded, oldest first."""
        c = source_extracts.c
        query = sa.select(source_extracts).where(c.project == self._database.project, c.source == source).order_by(c.id)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return [
            SourceExtract(
                id=row.id, path=row.path, rows=row.rows, bytes=row.bytes, replaces=row.replaces, cursor=row.cursor,
                span=None if row.is_empty else TimeSpan(row.start_at, row.end_at), extracted_at=row.extracted_at,
            )
            for row in rows
        ]  # fmt: skip

    def replaced(self) -> dict[str, datetime | None]:
        """Return the file of every copy of the project, and since when it does not count any more (None: it does)."""
        c = source_extracts.c
        query = sa.select(c.source, c.path, c.replaces, c.extracted_at).where(c.project == self._database.project)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(c.id.desc())).all()
        since: dict[str, datetime] = {}
        found: dict[str, datetime | None] = {}
        for row in rows:
            if row.path is not None:
                found[row.path] = since.get(row.source)
            if row.replaces:
                since[row.source] = row.extracted_at
        return found

    @repeated
    def record(self, source: str, extract: SourceExtract, *, after: int) -> int | None:
        """Record a copy that was made when ``after`` was the newest (0: none); return its id, None when it no longer is."""
        with self._database.writing() as connection:
            lock_project(self._database, connection)
            if self._newest(connection, source) != after:
                return None
            span = extract.span
            row = {
                "project": self._database.project, "source": source, "path": extract.path, "rows": extract.rows,
                "bytes": extract.bytes, "replaces": extract.replaces, "cursor": extract.cursor, "is_empty": span is None,
                "start_at": span.start if span else None, "end_at": span.end if span else None,
                "extracted_at": self._database.now(connection),
            }  # fmt: skip
            inserted = connection.execute(sa.insert(source_extracts).values(row)).inserted_primary_key
            assert inserted is not None, "one row was inserted"
            return int(inserted[0])

    def _newest(self, connection: Connection, source: str) -> int:
        c = source_extracts.c
        query = sa.select(sa.func.max(c.id)).where(c.project == self._database.project, c.source == source)
        return int(connection.execute(query).scalar() or 0)


def counting(extracts: list[SourceExtract]) -> list[SourceExtract]:
    """Return those of all copies that make up the newest state: from the last one that replaces the others on."""
    first = max((index for index, extract in enumerate(extracts) if extract.replaces), default=0)
    return [extract for extract in extracts[first:] if extract.path is not None]
