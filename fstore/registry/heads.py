"""Questions to the publication log: what is seen of a view, what is missing and what was blocked.

Takes an open connection and gives values. The head of an interval is its publication of highest sequence; queries are
bounded by the range asked for, and the overlay itself is a pure function.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from fstore.interval import Interval, merge_intervals
from fstore.registry.database import Database
from fstore.registry.overlay import overlay
from fstore.registry.records import Head, Publication
from fstore.registry.tables import attempt_intervals, attempts, publications


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """Which publications count: those of a generation that overlap ``[start, end)``, as of a sequence or an instant."""

    view: str
    generation: int
    start: datetime | None = None
    end: datetime | None = None
    as_of: int | datetime | None = None


def read_heads(database: Database, connection: Connection, scope: Scope) -> list[Head]:
    """Return the heads within a scope as maximal ranges, ascending, clipped to the scope's range."""
    log = publications.c
    conditions = [log.project == database.project, log.view == scope.view, log.generation == scope.generation]
    if scope.start is not None:
        conditions.append(log.end_at > scope.start)
    if scope.end is not None:
        conditions.append(log.start_at < scope.end)
    if isinstance(scope.as_of, datetime):
        conditions.append(log.published_at <= scope.as_of)
    elif scope.as_of is not None:
        conditions.append(log.sequence <= scope.as_of)
    rows = connection.execute(sa.select(publications).where(*conditions)).all()
    ranges = [
        (
            row.start_at if scope.start is None else max(row.start_at, scope.start),
            row.end_at if scope.end is None else min(row.end_at, scope.end),
        )
        for row in rows
    ]
    return heads_of(rows, ranges)


def heads_of(rows: Sequence[Row[*tuple[Any, ...]]], ranges: Sequence[tuple[datetime, datetime]]) -> list[Head]:
    """Return what is seen of publications, each over its range: maximal ranges of the highest sequence, ascending."""
    return [
        Head(
            start=start,
            end=end,
            sequence=rows[index].sequence,
            attempt=rows[index].attempt_id,
            published_at=rows[index].published_at,
            fingerprint=rows[index].fingerprint,
        )
        for start, end, index in overlay(ranges, [row.sequence for row in rows])
    ]


def read_newest(database: Database, connection: Connection, view: str, generation: int) -> Head | None:
    """Return the head with the greatest end, or None when nothing is published."""
    log = publications.c
    newest = connection.execute(
        sa.select(log.start_at, log.end_at)
        .where(log.project == database.project, log.view == view, log.generation == generation)
        .order_by(log.end_at.desc(), log.sequence.desc())
        .limit(1)
    ).first()
    if newest is None:
        return None
    scope = Scope(view=view, generation=generation, start=newest.start_at, end=newest.end_at)
    return read_heads(database, connection, scope)[-1]


def read_publications(
    database: Database,
    connection: Connection,
    *,
    attempt: int | None = None,
    view: str | None = None,
    limit: int | None = None,
) -> list[Publication]:
    """Return publications, ascending by sequence: all of an attempt, or the latest of a view or of the project."""
    query = sa.select(publications).where(publications.c.project == database.project)
    if attempt is not None:
        query = query.where(publications.c.attempt_id == attempt)
    if view is not None:
        query = query.where(publications.c.view == view)
    rows = connection.execute(query.order_by(publications.c.sequence.desc()).limit(limit)).all()
    return [
        Publication(
            sequence=row.sequence,
            view=row.view,
            generation=row.generation,
            start=row.start_at,
            end=row.end_at,
            attempt=row.attempt_id,
            fingerprint=row.fingerprint,
            published_at=row.published_at,
        )
        for row in reversed(rows)
    ]


def read_blocked(
    database: Database, connection: Connection, view: str, generation: int, as_of: int | None = None
) -> dict[Interval, int]:
    """Return the intervals whose newest verdict blocks them, ascending, with the attempt that it is about.

    As of a sequence attempts count that began before the next publication, and of those that published later ones only
    what they blocked: verdicts have no time of their own.
    """
    c = attempt_intervals.c
    known = [] if as_of is None else _known_as_of(database, connection, view, as_of)
    newest_first = sa.func.row_number().over(partition_by=[c.start_at, c.end_at], order_by=c.attempt_id.desc())
    ranked = (
        sa.select(c.start_at, c.end_at, c.attempt_id, c.outcome, newest_first.label("rank"))
        .where(c.project == database.project, c.view == view, c.generation == generation, c.outcome != "pending", *known)
        .subquery()
    )
    rows = connection.execute(
        sa.select(ranked.c.start_at, ranked.c.end_at, ranked.c.attempt_id)
        .where(ranked.c.rank == 1, ranked.c.outcome == "blocked")
        .order_by(ranked.c.start_at)
    )
    return {Interval(row.start_at, row.end_at): row.attempt_id for row in rows}


def _known_as_of(database: Database, connection: Connection, view: str, sequence: int) -> list[sa.ColumnElement[bool]]:
    """Return the conditions on intervals of attempts of a view that were known before what followed a publication."""
    log = publications.c
    following = [log.project == database.project, log.sequence > sequence]
    ended_at = connection.execute(sa.select(log.published_at).where(*following).order_by(log.sequence).limit(1)).scalar()
    if ended_at is None:
        return []
    c = attempt_intervals.c
    begun = sa.select(attempts.c.id).where(
        attempts.c.project == database.project, attempts.c.view == view, attempts.c.created_at <= ended_at
    )
    later = sa.select(log.attempt_id).where(*following, log.view == view)
    return [c.attempt_id.in_(begun), sa.or_(c.outcome == "blocked", c.attempt_id.not_in(later))]


def uncovered(intervals: Iterable[Interval], heads: Sequence[Head]) -> list[Interval]:
    """Return the intervals that the heads do not cover whole, in the given order."""
    covered = merge_intervals(Interval(head.start, head.end) for head in heads)
    return [interval for interval in intervals if not _within(interval, covered)]


def overlapping(heads: Sequence[Head], start: datetime, end: datetime) -> Sequence[Head]:
    """Return the heads (ascending, disjoint) that share an instant with ``[start, end)``."""
    first = _first_after(heads, start)
    last = first
    while last < len(heads) and heads[last].start < end:
        last += 1
    return heads[first:last]


def _first_after(heads: Sequence[Head] | Sequence[Interval], instant: datetime) -> int:
    """Return the index of the first range that ends after an instant, by bisection."""
    low, high = 0, len(heads)
    while low < high:
        middle = (low + high) // 2
        if heads[middle].end <= instant:
            low = middle + 1
        else:
            high = middle
    return low


def _within(interval: Interval, covered: Sequence[Interval]) -> bool:
    at = _first_after(covered, interval.start)
    return at < len(covered) and covered[at].contains(interval)
