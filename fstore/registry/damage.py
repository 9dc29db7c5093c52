"""Damaged files in the registry: which ones, and which published intervals rest on them.

Takes an open transaction and gives values. A file that is recorded here counts as if its intervals had never been computed,
until newer publications hold them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fstore.interval import Interval
from fstore.registry.database import BATCH, Database
from fstore.registry.heads import Scope, overlapping, read_heads
from fstore.registry.retention_records import DamagedFile
from fstore.registry.tables import attempt_intervals, damaged_files, data_files, publications, retired_attempts


def read_damaged(database: Database, connection: Connection, attempt_ids: Collection[int] | None) -> list[DamagedFile]:
    """Return the damaged files of attempts (None: of all), by path, but for those of attempts that are retired."""
    d, r = damaged_files.c, retired_attempts.c
    query = (
        sa.select(damaged_files)
        .where(d.project == database.project, ~sa.exists().where(r.attempt_id == d.attempt_id))
        .order_by(d.path)
    )
    wanted = None if attempt_ids is None else set(attempt_ids)
    return [
        DamagedFile(attempt=row.attempt_id, path=row.path, problem=row.problem, found_at=row.found_at)
        for row in connection.execute(query)  # few, if any
        if wanted is None or row.attempt_id in wanted
    ]


def write_damage(database: Database, connection: Connection, found: Sequence[DamagedFile], sound: Collection[str]) -> None:
    """Record damaged files, and forget what was recorded about others."""
    d = damaged_files.c
    paths = sorted({*sound, *(item.path for item in found)})
    for at in range(0, len(paths), BATCH):
        gone = (d.project == database.project, d.path.in_(paths[at : at + BATCH]))
        connection.execute(sa.delete(damaged_files).where(*gone))
    database.insert(
        connection,
        damaged_files,
        [
            {"attempt_id": item.attempt, "path": item.path, "problem": item.problem, "found_at": item.found_at}
            for item in {item.path: item for item in found}.values()
        ],
    )


def damaged_intervals(database: Database, connection: Connection, view: str, generation: int) -> list[Interval]:
    """Return the published intervals of a view whose head rests on a file that is damaged or deleted, ascending."""
    lost = damaged_ranges(database, connection, view, generation)
    if not lost:
        return []
    heads = read_heads(database, connection, Scope(view=view, generation=generation))
    c, found = attempt_intervals.c, set[Interval]()
    for attempt in sorted(lost.keys() & {head.attempt for head in heads}):
        rows = connection.execute(sa.select(c.start_at, c.end_at).where(c.attempt_id == attempt, c.outcome == "published"))
        for row in rows:
            interval = Interval(row.start_at, row.end_at)
            held = any(head.attempt == attempt for head in overlapping(heads, interval.start, interval.end))
            if held and any(span.overlaps(interval) for span in lost[attempt]):
                found.add(interval)
    return sorted(found)


def without_ranges(spans: Iterable[Interval], ranges: Sequence[Interval]) -> list[Interval]:
    """Return what is left of spans without ranges."""
    left = list(spans)
    for gone in ranges:
        left = [
            Interval(start, end)
            for span in left
            for start, end in ((span.start, min(span.end, gone.start)), (max(span.start, gone.end), span.end))
            if start < end
        ]
    return left


def damaged_ranges(
    database: Database, connection: Connection, view: str | None, generation: int | None
) -> dict[int, list[Interval]]:
    """Return, per attempt, the ranges of its files that are damaged or deleted; None: of any view and generation."""
    d, f, r, log = damaged_files.c, data_files.c, retired_attempts.c, publications.c
    damaged = sa.and_(d.attempt_id == f.attempt_id, d.path == f.path)
    files = sa.select(f.attempt_id, f.start_at, f.end_at).select_from(data_files.join(damaged_files, damaged))
    files = files.where(d.project == database.project)
    if view is not None:
        mine = sa.select(log.attempt_id).where(
            log.project == database.project, log.view == view, log.generation == generation
        )
        files = files.where(f.attempt_id.in_(mine))
    queries = [files]
    if view is not None:
        queries.append(
            sa.select(f.attempt_id, f.start_at, f.end_at)
            .select_from(data_files.join(retired_attempts, r.attempt_id == f.attempt_id))
            .where(r.project == database.project, r.view == view, r.generation == generation)
        )
    ranges: dict[int, list[Interval]] = defaultdict(list)
    for query in queries:
        for row in connection.execute(query):
            ranges[row.attempt_id].append(Interval(row.start_at, row.end_at))
    return dict(ranges)
