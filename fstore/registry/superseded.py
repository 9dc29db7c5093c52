"""Which attempts no read from some sequence on can see any more.

Takes publications and gives, per attempt, when the last of it was superseded. An attempt that is superseded once is so for
ever: later publications only cover more. Pure but for :func:`read_superseded`, which reads the log data set by data set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fstore.registry.database import Database
from fstore.registry.overlay import overlay
from fstore.registry.retention_records import Retired
from fstore.registry.tables import attempts, publications, retired_attempts


class Entry(NamedTuple):
    """A publication of one data set and generation."""

    sequence: int
    start: datetime
    end: datetime
    attempt: int
    published_at: datetime
    retired: bool


class Span(NamedTuple):
    """The sequences as of which something of an attempt was seen, and the instant of the last."""

    first: int
    gone: int
    superseded_at: datetime


def find_superseded(entries: Sequence[Entry], until: int) -> tuple[dict[int, Span], set[int]]:
    """Return, of one data set, the attempts of which nothing is seen as of ``until`` or later, and those that are seen."""
    early = [entry for entry in entries if entry.sequence <= until]
    seen = {early[i].attempt for _, _, i in overlay([(e.start, e.end) for e in early], [e.sequence for e in early])}
    seen |= {entry.attempt for entry in entries if entry.sequence > until}
    gone: dict[int, Span] = {}
    for attempt in sorted({entry.attempt for entry in early if not entry.retired} - seen):
        own = [entry for entry in early if entry.attempt == attempt]
        last = max((_covered_by(entry, early) for entry in own), key=lambda entry: entry.sequence)
        gone[attempt] = Span(min(entry.sequence for entry in own), last.sequence, last.published_at)
    return gone, seen


def read_superseded(
    database: Database, connection: Connection, until: int, dead_tiles: Mapping[str, tuple[int, datetime]]
) -> list[Retired]:
    """Return the attempts, not retired yet, of which nothing is seen as of ``until`` or later, in any data set.

    Nobody sees anything of ``dead_tiles``, as of the sequence and since the instant given with each.
    """
    log, r = publications.c, retired_attempts.c
    names = connection.execute(sa.select(log.view, log.generation).where(log.project == database.project).distinct()).all()
    gone: dict[int, Span] = {}
    seen: set[int] = set()
    for name in names:
        rows = connection.execute(
            sa.select(log.sequence, log.start_at, log.end_at, log.attempt_id, log.published_at, r.attempt_id.is_not(None))
            .select_from(publications.outerjoin(retired_attempts, r.attempt_id == log.attempt_id))
            .where(log.project == database.project, log.view == name.view, log.generation == name.generation)
            .order_by(log.sequence)
        )
        entries = [Entry(*row) for row in rows]
        if name.view in dead_tiles:
            found, visible = _unused(entries, *dead_tiles[name.view]), set[int]()
        else:
            found, visible = find_superseded(entries, until)
        seen |= visible
        for attempt, span in found.items():
            before = gone.get(attempt, span)
            gone[attempt] = Span(
                min(before.first, span.first), max(before.gone, span.gone), max(before.superseded_at, span.superseded_at)
            )
    return _retired(connection, {attempt: span for attempt, span in gone.items() if attempt not in seen})


def _unused(entries: Sequence[Entry], sequence: int, since: datetime) -> dict[int, Span]:
    """Return the attempts of a data set that nobody uses, with when that was found."""
    gone: dict[int, Span] = {}
    for entry in entries:  # ascending
        if not entry.retired:
            first = gone[entry.attempt].first if entry.attempt in gone else entry.sequence
            gone[entry.attempt] = Span(first, max(sequence, entry.sequence) + 1, since)
    return gone


def _retired(connection: Connection, spans: dict[int, Span]) -> list[Retired]:
    a, ids, found = attempts.c, sorted(spans), list[Retired]()
    for at in range(0, len(ids), 500):
        rows = connection.execute(sa.select(a.id, a.view, a.generation).where(a.id.in_(ids[at : at + 500])).order_by(a.id))
        found += [
            Retired(
                attempt=row.id, view=row.view, generation=row.generation, reason="superseded",
                first_sequence=spans[row.id].first, gone_sequence=spans[row.id].gone,
                superseded_at=spans[row.id].superseded_at,
            )
            for row in rows
        ]  # fmt: skip
    return found


def _covered_by(entry: Entry, entries: Sequence[Entry]) -> Entry:
    """Return the publication with which the last of an entry's range was covered; some have covered all of it."""
    left = [(entry.start, entry.end)]
    for later in entries:
        if later.sequence <= entry.sequence or later.end <= entry.start or later.start >= entry.end:
            continue
        left = [
            (start, end)
            for low, high in left
            for start, end in ((low, min(high, later.start)), (max(low, later.end), high))
            if start < end
        ]
        if not left:
            return later
    raise AssertionError(f"publication {entry.sequence} is still seen")


class Kept(msgspec.Struct, frozen=True):
    """What keeps attempts: the sequences of pins."""

    pins: tuple[int, ...]

    def keeps(self, item: Retired) -> bool:
        """Whether a read as of some pin sees the attempt."""
        return any(item.first_sequence <= pin < item.gone_sequence for pin in self.pins)
