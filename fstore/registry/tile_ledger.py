"""The part of the ledger about tiles: attempts whose publications go to data sets that are no views.

An attempt makes several states of one group of tiles (source, keys, sub-key, length) over merged ranges of time, and all of
them share its files; publishing appends an entry of the same log per state and range, of generation 1. Nobody needs to
register anything: a data set is named by what it contains. Tiles have no checks, so files are recorded and published in one
transaction.

Two runs may make the same tiles at once: an attempt publishes only what nobody has published from a source that was the same
there: as new as the one that it read, or changed since elsewhere only. So equal tiles are published once, and what depends
on them does not become stale for nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fstore.interval import Interval, aligned_out, merge_intervals
from fstore.plan.tile_step import TILES_GENERATION, TILES_PREFIX, TileStep, decode_tile_step, encode_tile_step
from fstore.registry.attempts import (
    lock_attempt,
    read_files,
    read_sources,
    refuse_abandoned,
    write_files,
    write_sources,
)
from fstore.registry.batches import insert_batch, refuse_fenced
from fstore.registry.damage import damaged_ranges, without_ranges
from fstore.registry.database import BATCH, Database, repeated
from fstore.registry.overlay import overlay
from fstore.registry.publishing import lock_project, next_publications
from fstore.registry.records import SourceRead, TileAttempt, TileHead
from fstore.registry.tables import (
    attempt_intervals,
    attempt_sources,
    attempts,
    projects,
    publications,
    retired_attempts,
    source_changes,
)
from fstore.types import DataFile


class TileLedger:
    """The tiles of one project. Safe to share between threads and over a fork."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(
        self, step: TileStep, group: str, ranges: Sequence[Interval], run_id: str, sources: Sequence[SourceRead]
    ) -> TileAttempt:
        """Begin an attempt at tiles over ranges; from now on it fences the run's earlier ones there. One transaction."""
        merged = tuple(merge_intervals(ranges))
        database = self._database
        with database.writing() as connection:
            batch = insert_batch(
                database, connection, view=group, generation=TILES_GENERATION, run_id=run_id, intervals=merged
            )
            row = {
                "project": database.project, "view": group, "generation": TILES_GENERATION, "run_id": run_id,
                "batch_id": batch, "fingerprint": group, "step": encode_tile_step(step), "state": "begun",
                "start_at": merged[0].start, "end_at": merged[-1].end, "created_at": database.now(connection),
            }  # fmt: skip
            attempt_id: int = connection.execute(sa.insert(attempts).values(row).returning(attempts.c.id)).scalar_one()
            spans: list[dict[str, object]] = [
                {"attempt_id": attempt_id, "view": group, "generation": TILES_GENERATION, "outcome": "pending",
                 "start_at": span.start, "end_at": span.end}
                for span in merged
            ]  # fmt: skip
            database.insert(connection, attempt_intervals, spans)
            write_sources(database, connection, attempt_id, sources)
        return TileAttempt(id=attempt_id, group=group, run_id=run_id, step=step, ranges=merged, sources=tuple(sources))

    @repeated
    def publish(self, attempt_id: int, files: Sequence[DataFile]) -> bool:
        """Record the files of an attempt and publish it, but for what others have published from a source as new.

        Gives whether anything was published: otherwise nobody will read the files. Repeating it changes nothing. Raises
        AttemptUnknown and Fenced.
        """
        database = self._database
        with database.writing() as connection:
            project = lock_project(database, connection)
            row = lock_attempt(database, connection, attempt_id)
            refuse_abandoned(row)
            if row.state == "published":
                return bool(_published(database, connection, attempt_id))
            step = decode_tile_step(row.step)
            ranges = _ranges(connection, attempt_id)
            refuse_fenced(database, connection, attempt=attempt_id, batch_id=row.batch_id, intervals=ranges)
            known = {read.source: read.change for read in read_sources(connection, attempt_id)}
            heads = read_tile_heads(database, connection, dict.fromkeys(step.datasets, ranges))
            changes = _changes_since(database, connection, heads, known)
            fresh = [
                (dataset, span)
                for dataset in step.datasets
                for span in _subtract(ranges, list(_holding(heads[dataset], known, changes, step.tiles.length)))
            ]
            write_files(database, connection, attempt_id, files)
            next_publications(database, connection, project, row, fresh)
            connection.execute(
                sa.update(attempt_intervals)
                .where(attempt_intervals.c.attempt_id == attempt_id)
                .values(outcome="published" if fresh else "overtaken", rows=0, quarantined_rows=0)
            )
            connection.execute(
                sa.update(attempts)
                .where(attempts.c.id == attempt_id)
                .values(state="published", finished_at=database.now(connection))
            )
        return bool(fresh)

    def attempt(self, attempt_id: int) -> TileAttempt:
        """Return an attempt at tiles. Raises AttemptUnknown."""
        with self._database.reading() as connection:
            row = lock_attempt(self._database, connection, attempt_id, lock=False)
            return TileAttempt(
                id=row.id,
                group=row.view,
                run_id=row.run_id,
                step=decode_tile_step(row.step),
                ranges=tuple(_ranges(connection, attempt_id)),
                sources=tuple(read_sources(connection, attempt_id)),
            )

    def heads(self, wanted: Mapping[str, Sequence[Interval]]) -> TileHeads:
        """Return what is seen of data sets within ranges, their files, and the sequence as of which that holds."""
        with self._database.reading() as connection:
            heads = read_tile_heads(self._database, connection, wanted)
            sequence: int = connection.execute(
                sa.select(projects.c.sequence).where(projects.c.project == self._database.project)
            ).scalar_one()
            files = read_files(self._database, connection, {head.attempt for each in heads.values() for head in each})
        return TileHeads(heads=heads, files=files, sequence=sequence)

    def files(self, *, everything: bool = False) -> list[tuple[int, DataFile]]:
        """Return the files of what is seen of all data sets, with their attempts; with ``everything`` of all attempts."""
        log, database = publications.c, self._database
        with database.reading() as connection:
            rows = connection.execute(
                sa.select(log.view, log.start_at, log.end_at, log.sequence, log.attempt_id).where(
                    log.project == database.project, log.view.startswith(TILES_PREFIX)
                )
            ).all()
            datasets: dict[str, list[tuple[tuple[datetime, datetime], int, int]]] = {}
            for row in rows:
                entry = ((row.start_at, row.end_at), row.sequence, row.attempt_id)
                datasets.setdefault(row.view, []).append(entry)
            ids = {
                each[index][2]
                for each in datasets.values()
                for _, _, index in overlay([entry[0] for entry in each], [entry[1] for entry in each])
            }
            found = read_files(database, connection, {row.attempt_id for row in rows} if everything else ids)
        return [(attempt, file) for attempt, files in sorted(found.items()) for file in files]


class TileHeads(msgspec.Struct, frozen=True, kw_only=True):
    """What is seen of data sets of tiles at one moment: heads per data set, ascending, and the files of their attempts."""

    heads: dict[str, list[TileHead]]
    files: dict[int, tuple[DataFile, ...]]
    sequence: int


def read_tile_heads(
    database: Database, connection: Connection, wanted: Mapping[str, Sequence[Interval]]
) -> dict[str, list[TileHead]]:
    """Return the heads of data sets clipped to ranges, ascending, in few queries."""
    found: dict[str, list[TileHead]] = {dataset: [] for dataset in wanted}
    asked = {dataset: merge_intervals(ranges) for dataset, ranges in wanted.items() if ranges}
    if not asked:
        return found
    low, high = min(r[0].start for r in asked.values()), max(r[-1].end for r in asked.values())
    names, log = sorted(asked), publications.c
    gone = sa.exists().where(retired_attempts.c.attempt_id == log.attempt_id)  # swept while no view used the data set
    rows: dict[str, list[tuple[datetime, datetime, int, int]]] = {}
    for at in range(0, len(names), BATCH):
        for row in connection.execute(
            sa.select(log.view, log.start_at, log.end_at, log.sequence, log.attempt_id).where(
                log.project == database.project, log.view.in_(names[at : at + BATCH]), log.generation == TILES_GENERATION,
                log.end_at > low, log.start_at < high, ~gone,
            )
        ):  # fmt: skip
            rows.setdefault(row.view, []).append((row.start_at, row.end_at, row.sequence, row.attempt_id))
    known = _known_changes(connection, {row[3] for each in rows.values() for row in each})
    damaged = damaged_ranges(database, connection, None, None)  # which are made again, as if they had never been
    for dataset, entries in rows.items():
        seen = overlay([(start, end) for start, end, _, _ in entries], [sequence for _, _, sequence, _ in entries])
        for start, end, index in seen:
            _, _, sequence, attempt = entries[index]
            spans = _clip(Interval(start, end), asked[dataset])
            for span in without_ranges(spans, damaged[attempt]) if attempt in damaged else spans:
                found[dataset].append(
                    TileHead(
                        start=span.start, end=span.end, sequence=sequence, attempt=attempt, known=known.get(attempt, {})
                    )
                )
    return found


def _known_changes(connection: Connection, attempt_ids: Collection[int]) -> dict[int, dict[str, int]]:
    ids, known = sorted(attempt_ids), dict[int, dict[str, int]]()
    c = attempt_sources.c
    for at in range(0, len(ids), BATCH):
        for row in connection.execute(
            sa.select(c.attempt_id, c.source, c.change_id).where(c.attempt_id.in_(ids[at : at + BATCH]))
        ):
            known.setdefault(row.attempt_id, {})[row.source] = row.change_id
    return known


def _changes_since(
    database: Database, connection: Connection, heads: Mapping[str, Sequence[TileHead]], known: Mapping[str, int]
) -> dict[str, list[tuple[int, datetime | None, datetime | None]]]:
    """Return the changes of sources that some head did not know and that are known now: number and span."""
    found: dict[str, list[tuple[int, datetime | None, datetime | None]]] = {}
    c = source_changes.c
    for source, newest in known.items():
        oldest = min((head.known.get(source, newest) for each in heads.values() for head in each), default=newest)
        query = sa.select(c.id, c.start_at, c.end_at).where(
            c.project == database.project, c.source == source, c.id > oldest, c.id <= newest
        )
        rows = connection.execute(query) if oldest < newest else ()
        found[source] = [(row.id, row.start_at, row.end_at) for row in rows]
    return found


def _holding(
    heads: Iterable[TileHead],
    known: Mapping[str, int],
    changes: Mapping[str, Sequence[tuple[int, datetime | None, datetime | None]]],
    length: timedelta,
) -> Iterable[Interval]:
    """Yield where tiles (ascending) were made from sources that were there as what is known now."""
    for head in heads:
        changed: list[Interval] = []
        for source, newest in known.items():
            if source not in head.known:
                changed.append(Interval(head.start, head.end))
            elif head.known[source] < newest:
                for number, start, end in changes[source]:
                    first, last = max(start or head.start, head.start), min(end or head.end, head.end)
                    if number > head.known[source] and first < last:
                        changed.append(aligned_out(Interval(first, last), length))
        yield from _subtract([Interval(head.start, head.end)], merge_intervals(changed))


def _ranges(connection: Connection, attempt_id: int) -> list[Interval]:
    c = attempt_intervals.c
    rows = connection.execute(sa.select(c.start_at, c.end_at).where(c.attempt_id == attempt_id).order_by(c.start_at))
    return [Interval(row.start_at, row.end_at) for row in rows]


def _published(database: Database, connection: Connection, attempt_id: int) -> bool:
    log = publications.c
    query = sa.select(sa.exists().where(log.project == database.project, log.attempt_id == attempt_id))
    return bool(connection.execute(query).scalar())


def _clip(whole: Interval, ranges: Sequence[Interval]) -> Iterable[Interval]:
    for range_ in ranges:
        if range_.overlaps(whole):
            yield Interval(max(range_.start, whole.start), min(range_.end, whole.end))


def _subtract(ranges: Sequence[Interval], heads: Sequence[Interval]) -> Iterable[Interval]:
    """Yield what is left of ranges (ascending, disjoint) without others (the same)."""
    for range_ in ranges:
        cursor = range_.start
        for head in heads:
            if head.end <= cursor or head.start >= range_.end:
                continue
            if head.start > cursor:
                yield Interval(cursor, head.start)
            cursor = max(cursor, head.end)
        if cursor < range_.end:
            yield Interval(cursor, range_.end)
