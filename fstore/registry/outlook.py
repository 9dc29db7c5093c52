"""What the log says of many views at once: for planning, where a transaction per view and question would be too slow.

Takes an open connection and steps, and gives, per view, what is published, stale and blocked again, and what computing it
took before. One transaction, so that all of it is of one moment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fstore.interval import Interval
from fstore.plan.steps import Step
from fstore.registry.database import Database
from fstore.registry.heads import heads_of
from fstore.registry.records import Head
from fstore.registry.staleness import intervals_blocked_again, stale_intervals
from fstore.registry.tables import (
    attempt_intervals,
    attempt_pins,
    attempt_sources,
    attempts,
    data_files,
    publications,
    source_changes,
    views,
)
from fstore.registry.views import batches, live_generations

RECENT = 5
"""How many of a view's latest published attempts its rate is taken from."""


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """What an interval of a view came to in its latest attempts, on average."""

    rows: float
    bytes: float
    seconds: float


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """What the log says of a view's generation: its heads, stale intervals, and blocked ones that would be blocked again."""

    heads: tuple[Head, ...] = ()
    stale: frozenset[Interval] = frozenset()
    blocked_again: frozenset[Interval] = frozenset()
    rate: Rate | None = None


def read_outlook(database: Database, connection: Connection, steps: Sequence[Step]) -> dict[str, Outlook]:
    """Return the outlook of every step that is registered, by view."""
    names = [step.view for step in steps]
    generations = live_generations(database, connection, names)
    published = _published(database, connection, generations)
    blocked = _blocked(database, connection)
    rates = read_rates(database, connection)
    changed = None if database.overlay else _possibly_stale(database, connection)
    found: dict[str, Outlook] = {}
    for step in steps:
        if step.view not in generations:
            continue
        generation = generations[step.view]
        heads = published.get(step.view, ())
        found[step.view] = Outlook(
            heads=tuple(heads),
            stale=frozenset(
                stale_intervals(database, connection, step.view, generation)
                if heads and (changed is None or (step.view, generation) in changed)
                else ()
            ),
            blocked_again=frozenset(
                intervals_blocked_again(database, connection, step, generation) if (step.view, generation) in blocked else ()
            ),
            rate=rates.get(step.view),
        )
    return found


def _published(database: Database, connection: Connection, generations: Mapping[str, int]) -> dict[str, list[Head]]:
    """Return the heads of every view in its generation, by one query."""
    log = publications.c
    columns = (log.view, log.generation, log.start_at, log.end_at, log.sequence, log.attempt_id, log.published_at,
               log.fingerprint)  # fmt: skip
    grouped: dict[str, list[sa.Row[*tuple[Any, ...]]]] = defaultdict(list)
    for batch in batches(sorted(generations)):
        rows = connection.execute(sa.select(*columns).where(log.project == database.project, log.view.in_(batch)))
        for row in rows:
            if generations[row.view] == row.generation:
                grouped[row.view].append(row)
    return {view: heads_of(rows, [(row.start_at, row.end_at) for row in rows]) for view, rows in grouped.items()}


def _blocked(database: Database, connection: Connection) -> set[tuple[str, int]]:
    """Return the views, with their generations, that have ever had an interval blocked."""
    c = attempt_intervals.c
    rows = connection.execute(
        sa.select(c.view, c.generation).where(c.project == database.project, c.outcome == "blocked").distinct()
    )
    return {(row.view, row.generation) for row in rows}


def _possibly_stale(database: Database, connection: Connection) -> set[tuple[str, int]]:
    """Return the views, with their generations, of which some attempt read something that has changed since.

    That is: a later publication overlaps a pin, the pinned view has another generation now, or a source changed. What of
    it really makes an interval stale is for ``staleness`` to say, view by view; most views need not be asked.
    """
    a, pin, log, v = attempts.c, attempt_pins.c, publications.c, views.c
    own = sa.select(a.view, a.generation).where(a.project == database.project)
    overlapping = (log.project == pin.project, log.view == pin.view, log.start_at < pin.end_at, log.end_at > pin.start_at)
    pinned = own.join_from(attempts, attempt_pins, pin.attempt_id == a.id)
    republished = pinned.join(publications, sa.and_(*overlapping, log.sequence > pin.sequence))
    same = sa.and_(log.project == pin.project, log.sequence == pin.sequence)
    named = sa.and_(v.project == pin.project, v.name == pin.view)
    elsewhere = pinned.join(publications, same).join(views, named).where(v.live_generation != log.generation)
    read, change = attempt_sources.c, source_changes.c
    later = sa.and_(change.project == read.project, change.source == read.source, change.id > read.change_id)
    sources = own.join_from(attempts, attempt_sources, read.attempt_id == a.id).join(source_changes, later)
    return {
        (row.view, row.generation)
        for query in (republished, elsewhere, sources)
        for row in connection.execute(query.distinct())
    }


def read_rates(database: Database, connection: Connection) -> dict[str, Rate]:
    """Return what an interval came to in the latest published attempts of every view, in three queries."""
    a, i, f = attempts.c, attempt_intervals.c, data_files.c
    newest_first = sa.func.row_number().over(partition_by=a.view, order_by=a.id.desc())
    ranked = (
        sa.select(a.id, a.view, a.created_at, a.finished_at, newest_first.label("rank"))
        .where(a.project == database.project, a.state == "published", a.finished_at.is_not(None))
        .subquery()
    )
    recent = connection.execute(sa.select(ranked).where(ranked.c.rank <= RECENT)).all()
    if not recent:
        return {}
    ids = sa.select(ranked.c.id).where(ranked.c.rank <= RECENT)
    counted = {
        row.attempt_id: row
        for row in connection.execute(
            sa.select(i.attempt_id, sa.func.count().label("intervals"), sa.func.sum(i.rows).label("rows"))
            .where(i.attempt_id.in_(ids))
            .group_by(i.attempt_id)
        )
    }
    sizes = {
        row.attempt_id: row.bytes
        for row in connection.execute(
            sa.select(f.attempt_id, sa.func.sum(f.bytes).label("bytes")).where(f.attempt_id.in_(ids)).group_by(f.attempt_id)
        )
    }
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0, 0.0])
    for row in recent:
        count = counted.get(row.id)
        if count is not None:
            total = sums[row.view]
            total[0] += count.intervals
            total[1] += float(count.rows or 0)
            total[2] += float(sizes.get(row.id, 0))
            total[3] += (row.finished_at - row.created_at).total_seconds()
    return {view: Rate(rows=t[1] / t[0], bytes=t[2] / t[0], seconds=t[3] / t[0]) for view, t in sums.items() if t[0]}
