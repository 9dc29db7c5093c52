"""What changed in the sources: a log of time ranges whose rows may differ from what was read before.

Takes listings of a source's files, each with a version and the span of its times, and compares them with the last one in one
transaction: a file that appeared, changed or vanished appends its old and its new span. A reader remembers the newest change
that was known when it listed, before it read; every later change that overlaps what it read makes it stale. Nothing is ever
missed that way: a file that changes while it is read is found by the next listing. Reads no file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fstore.registry.database import BATCH, Database, repeated
from fstore.registry.publishing import lock_project
from fstore.registry.source_tables import observed_files, observed_sources, source_changes


class TimeSpan(msgspec.Struct, frozen=True):
    """A half-open range of time; None is without bound on that side."""

    start: datetime | None
    end: datetime | None


EVERYTHING = TimeSpan(None, None)
"""The span of rows of which nothing is known."""


class ObservedFile(msgspec.Struct, frozen=True):
    """A file: ``version`` is another whenever its content is; ``span`` is None when no row in it has a time."""

    path: str
    version: str
    span: TimeSpan | None


class SourceChange(msgspec.Struct, frozen=True, kw_only=True):
    """Rows within ``span`` may differ from what was read before this change was observed."""

    id: int
    source: str
    span: TimeSpan
    observed_at: datetime


class SourceChanges:
    """The log of one project. Safe to share between threads and over a fork."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @repeated
    def observe(self, source: str, name: str, files: Sequence[ObservedFile]) -> int:
        """Compare a listing with the last one of a source, log what changed, and return the newest change (0: none yet).

        ``source`` is the identity, ``name`` what messages call it. The first listing of a source changes nothing: nobody
        can have read it before. Of two listings at once the one that is recorded later counts; what the other saw is
        logged as well.
        """
        digest = _digest(files)
        with self._database.reading() as connection:
            if self._recorded_digest(connection, source) == digest:
                return self._newest(connection, source)
        with self._database.writing() as connection:
            lock_project(self._database, connection)
            before = self._recorded_digest(connection, source)
            if before != digest:
                known = self._files(connection, source)
                spans = [] if before is None else _changed_spans(known, files)
                self._record(connection, source, known, files)
                self._log(connection, source, spans)
                self._note(connection, source, name, digest)
            return self._newest(connection, source)

    def files(self, source: str) -> dict[str, ObservedFile]:
        """Return the last listing of a source by path; empty when it was never observed."""
        with self._database.reading() as connection:
            return self._files(connection, source)

    def newest(self, source: str) -> int:
        """Return the newest change of a source, 0 when there is none."""
        with self._database.reading() as connection:
            return self._newest(connection, source)

    def since(self, source: str, change: int = 0) -> list[SourceChange]:
        """Return the changes of a source after one that was known, oldest first."""
        c = source_changes.c
        query = sa.select(source_changes).where(c.project == self._database.project, c.source == source, c.id > change)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(c.id)).all()
        return [
            SourceChange(id=row.id, source=row.source, span=TimeSpan(row.start_at, row.end_at), observed_at=row.observed_at)
            for row in rows
        ]

    # -- within a transaction -----------------------------------------------------------------------------------------

    def _recorded_digest(self, connection: Connection, source: str) -> str | None:
        c = observed_sources.c
        query = sa.select(c.digest).where(c.project == self._database.project, c.source == source)
        digest: str | None = connection.execute(query).scalar()
        return digest

    def _newest(self, connection: Connection, source: str) -> int:
        c = source_changes.c
        query = sa.select(sa.func.max(c.id)).where(c.project == self._database.project, c.source == source)
        return int(connection.execute(query).scalar() or 0)

    def _files(self, connection: Connection, source: str) -> dict[str, ObservedFile]:
        c = observed_files.c
        rows = connection.execute(
            sa.select(observed_files).where(c.project == self._database.project, c.source == source).order_by(c.path)
        )
        return {
            row.path: ObservedFile(row.path, row.version, None if row.is_empty else TimeSpan(row.start_at, row.end_at))
            for row in rows
        }

    def _record(
        self, connection: Connection, source: str, known: Mapping[str, ObservedFile], files: Sequence[ObservedFile]
    ) -> None:
        """Bring the recorded listing up to date, touching only what differs."""
        c = observed_files.c
        found = {file.path: file for file in files}
        gone = [path for path, file in known.items() if found.get(path) != file]
        for first in range(0, len(gone), BATCH):
            connection.execute(
                sa.delete(observed_files).where(
                    c.project == self._database.project, c.source == source, c.path.in_(gone[first : first + BATCH])
                )
            )
        rows = [
            {"source": source, "path": file.path, "version": file.version, "is_empty": file.span is None,
             "start_at": file.span.start if file.span else None, "end_at": file.span.end if file.span else None}
            for file in found.values()
            if known.get(file.path) != file
        ]  # fmt: skip
        self._database.insert(connection, observed_files, rows)

    def _log(self, connection: Connection, source: str, spans: Sequence[TimeSpan]) -> None:
        now = self._database.now(connection)
        rows = [{"source": source, "start_at": span.start, "end_at": span.end, "observed_at": now} for span in spans]
        self._database.insert(connection, source_changes, rows)

    def _note(self, connection: Connection, source: str, name: str, digest: str) -> None:
        row = {"name": name, "digest": digest, "observed_at": self._database.now(connection)}
        insert = self._database.insert_or(observed_sources).values(project=self._database.project, source=source, **row)
        connection.execute(insert.on_conflict_do_update(index_elements=["project", "source"], set_=row))


def merge_spans(spans: Sequence[TimeSpan]) -> list[TimeSpan]:
    """Return the same times as few, disjoint, ascending spans; touching ones become one."""
    ordered = sorted(spans, key=lambda span: (span.start is not None, span.start))
    merged: list[TimeSpan] = []
    for span in ordered:
        last = merged[-1] if merged else None
        if last is None or (last.end is not None and span.start is not None and last.end < span.start):
            merged.append(span)
        elif last.end is not None:
            end = None if span.end is None else max(last.end, span.end)
            merged[-1] = TimeSpan(last.start, end)
    return merged


def _changed_spans(known: Mapping[str, ObservedFile], files: Sequence[ObservedFile]) -> list[TimeSpan]:
    """Return the old and new spans of every file that appeared, changed or vanished."""
    found = {file.path: file for file in files}
    spans: list[TimeSpan] = []
    for path in {**known, **found}:
        old, new = known.get(path), found.get(path)
        if old is not None and new is not None and old.version == new.version:
            continue
        spans.extend(file.span for file in (old, new) if file is not None and file.span is not None)
    return merge_spans(spans)


def _digest(files: Sequence[ObservedFile]) -> str:
    """Return what identifies a listing, whatever its order."""
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.path):
        digest.update(msgspec.json.encode((file.path, file.version)))
    return digest.hexdigest()
