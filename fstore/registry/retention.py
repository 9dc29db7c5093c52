"""How long published files stay: pins, attempts that nobody can read any more, and files that are damaged.

Says which attempts' files may go and records that they are gone, in that order: once an attempt is retired, reads of it are
refused, and only then are its files deleted. Never retires what a head, a pin, pending online work, a running attempt or a
read within the horizon needs. Deletes no file and reads none.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fstore.errors import RegistryReadOnly, RetrievalError, UnknownFeature, did_you_mean
from fstore.interval import format_instant
from fstore.plan.steps import Step
from fstore.plan.tile_step import TILES_GENERATION, TILES_PREFIX, is_tiles
from fstore.registry.damage import read_damaged, write_damage
from fstore.registry.database import BATCH, Database, repeated
from fstore.registry.publishing import lock_project, settle_instant
from fstore.registry.reachable import (
    Reachable,
    note_unreachable,
    read_dead_tiles,
    read_reachable,
    read_used_tiles,
    versions_as_of,
)
from fstore.registry.retention_records import DamagedFile, DeadGeneration, Lost, Reason, Retired, SnapshotPin
from fstore.registry.superseded import Kept, read_superseded
from fstore.registry.tables import (
    attempts,
    flips,
    outbox,
    projects,
    publications,
    retired_attempts,
    snapshot_pins,
    unreachable_generations,
)
from fstore.registry.views import read_step


class Retention:
    """What is kept of one project. Safe to share between threads and over a fork."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- pins ---------------------------------------------------------------------------------------------------------

    @repeated
    def pin(self, name: str, sequence: int | None, until: datetime) -> SnapshotPin:
        """Keep everything readable as of a sequence (None: the newest) until an instant.

        A pin of that name takes the new values. Raises RetrievalError when the sequence is not published yet, when ``until``
        is past, and when something that was seen as of it is deleted already.
        """
        database, c = self._database, snapshot_pins.c
        with database.writing() as connection:
            newest: int = lock_project(database, connection).sequence
            now = database.now(connection)
            chosen = newest if sequence is None else sequence
            if not 0 <= chosen <= newest:
                raise RetrievalError(f"there is no sequence {chosen} to pin: the newest of the log is {newest}")
            if until <= now:
                raise RetrievalError(f"a pin until {format_instant(until)} would keep nothing: that is past")
            if lost := _lost_as_of(database, connection, chosen):
                raise RetrievalError(
                    f"sequence {chosen} cannot be pinned: files of view {lost.view!r} that were read as of it are deleted"
                )
            connection.execute(sa.delete(snapshot_pins).where(c.project == database.project, c.name == name))
            row = {"name": name, "sequence": chosen, "until_at": until, "created_at": now}
            database.insert(connection, snapshot_pins, [row])
        return SnapshotPin(name=name, sequence=chosen, until=until, created_at=now)

    def pins(self) -> list[SnapshotPin]:
        """Return all pins by name, also those that keep nothing any more because nothing was swept since."""
        with self._database.reading() as connection:
            return _pins(self._database, connection)

    @repeated
    def unpin(self, name: str) -> None:
        """Drop a pin. Raises UnknownFeature when there is none of that name."""
        database, c = self._database, snapshot_pins.c
        with database.writing() as connection:
            lock_project(database, connection)
            known = [pin.name for pin in _pins(database, connection)]
            if name not in known:
                raise UnknownFeature(f"project {database.project!r} has no pin {name!r}.{did_you_mean(name, known)}")
            connection.execute(sa.delete(snapshot_pins).where(c.project == database.project, c.name == name))

    # -- retiring -----------------------------------------------------------------------------------------------------

    def retire(self, before: datetime, now: datetime, *, running_since: datetime) -> int:
        """Retire the attempts that no read from ``before`` on can need, and return how many.

        ``now`` says which pins hold; attempts that began at ``running_since`` or later may still be running.
        """
        while True:
            with self._database.reading() as connection:
                keeping = self._keeping(connection, before, now, running_since)
                tiles = read_used_tiles(self._database, connection, keeping)
                dead = read_dead_tiles(self._database, connection, tiles, min(before, running_since))
                found = read_superseded(self._database, connection, keeping.until, dead)
            count = self._retire(found, keeping, tiles, before, now, running_since)
            if count is not None:
                return count

    @repeated
    def _retire(
        self, found: Sequence[Retired], keeping: Reachable, tiles: Collection[str], before: datetime, now: datetime,
        running_since: datetime,
    ) -> int | None:  # fmt: skip
        """Write what was found, and what is unreachable; None when a pin, generations or definitions changed meanwhile."""
        database = self._database
        with database.writing() as connection:
            newest: int = lock_project(database, connection).sequence
            current = self._keeping(connection, before, now, running_since)
            if msgspec.structs.replace(current, until=keeping.until) != keeping:
                return None
            kept = Kept(tuple(pin.sequence for pin in current.pins))
            items = [item for item in found if not kept.keeps(item)]
            used = {(dataset, TILES_GENERATION) for dataset in tiles}
            for dead in note_unreachable(database, connection, current.generations | used, now, newest):
                if dead.since <= before and not is_tiles(dead.view):
                    items += [i for i in _of_generation(database, connection, dead, running_since) if not kept.keeps(i)]
            items += _overtaken(database, connection, min(before, running_since))
            rows = [
                {"project": database.project, "attempt_id": item.attempt, "view": item.view, "generation": item.generation,
                 "reason": item.reason, "first_sequence": item.first_sequence, "gone_sequence": item.gone_sequence,
                 "superseded_at": item.superseded_at, "retired_at": now}
                for item in {item.attempt: item for item in items}.values()
            ]  # fmt: skip
            for at in range(0, len(rows), BATCH):
                part = rows[at : at + BATCH]
                insert = database.insert_or(retired_attempts).values(part)
                connection.execute(insert.on_conflict_do_nothing())
                ids = [row["attempt_id"] for row in part]
                unfinished = (attempts.c.id.in_(ids), attempts.c.state != "published")
                connection.execute(sa.update(attempts).where(*unfinished).values(state="swept"))  # it may not publish more
            expired = (snapshot_pins.c.project == database.project, snapshot_pins.c.until_at <= now)
            connection.execute(sa.delete(snapshot_pins).where(*expired))
        return len(rows)

    def undeleted(self, limit: int = 1000) -> list[Retired]:
        """Return retired attempts whose files are not known to be gone, oldest first."""
        r = retired_attempts.c
        query = sa.select(retired_attempts).where(r.project == self._database.project, r.deleted_at.is_(None))
        with self._database.reading() as connection:
            return [_retired(row) for row in connection.execute(query.order_by(r.attempt_id).limit(limit))]

    @repeated
    def mark_deleted(self, attempt_ids: Collection[int]) -> None:
        """Record that the files of retired attempts are gone."""
        r = retired_attempts.c
        with self._database.writing() as connection:
            deleted_at = self._database.now(connection)
            connection.execute(
                sa.update(retired_attempts).where(r.attempt_id.in_(list(attempt_ids))).values(deleted_at=deleted_at)
            )

    # -- generations that nobody reaches ------------------------------------------------------------------------------

    def dead_generations(self, before: datetime) -> list[DeadGeneration]:
        """Return the generations of views that nobody could reach since before an instant, and that were not swept yet."""
        u = unreachable_generations.c
        own = (u.project == self._database.project, ~u.view.startswith(TILES_PREFIX))
        dead = (*own, u.since <= before, u.swept_at.is_(None))
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(u.view, u.generation, u.since).where(*dead).order_by(u.view, u.generation))
            return [DeadGeneration(view=row.view, generation=row.generation, since=row.since) for row in rows]

    @repeated
    def mark_dead(self, dead: DeadGeneration) -> None:
        """Record that nothing is left of a generation online."""
        u = unreachable_generations.c
        with self._database.writing() as connection:
            connection.execute(
                sa.update(unreachable_generations)
                .where(u.project == self._database.project, u.view == dead.view, u.generation == dead.generation)
                .values(swept_at=self._database.now(connection))
            )

    def applied(self, view: str, generation: int) -> int:
        """Return the newest sequence up to which all publications of a view's generation are online: none is pending."""
        o, log, database = outbox.c, publications.c, self._database
        with database.reading() as connection:
            # first the log: what is published between the two queries is then pending, or not counted
            newest = connection.scalar(
                sa.select(sa.func.max(log.sequence)).where(
                    log.project == database.project, log.view == view, log.generation == generation
                )
            )
            pending = connection.scalar(
                sa.select(sa.func.min(o.sequence)).where(
                    o.project == database.project, o.view == view, o.generation == generation, o.done_at.is_(None)
                )
            )
        return (newest or 0) if pending is None else min(newest or 0, pending - 1)

    # -- what is lost -------------------------------------------------------------------------------------------------

    def lost(self, attempt_ids: Collection[int]) -> Lost:
        """Return what is known to be lost of attempts."""
        r, ids, retired = retired_attempts.c, sorted(set(attempt_ids)), dict[int, Retired]()
        with self._database.reading() as connection:
            for at in range(0, len(ids), BATCH):
                part = ids[at : at + BATCH]
                rows = connection.execute(sa.select(retired_attempts).where(r.attempt_id.in_(part)))
                retired.update((row.attempt_id, _retired(row)) for row in rows)
            damaged = read_damaged(self._database, connection, ids)
        return Lost(retired=retired, damaged={item.path: item for item in damaged})

    @repeated
    def record_damage(self, found: Sequence[DamagedFile], sound: Collection[str] = ()) -> None:
        """Record damaged files, and that others, by path, are as they were written."""
        with self._database.writing() as connection:
            write_damage(self._database, connection, found, sound)

    def damage(self) -> list[DamagedFile]:
        """Return all damaged files of attempts that are not retired, by path."""
        with self._database.reading() as connection:
            return read_damaged(self._database, connection, None)

    def sequence_at(self, instant: datetime) -> int:
        """Return the newest sequence of the project at an instant: of a publication, a flip or a rollback; 0 before all.

        What comes later does not change the answer. Where nothing was published after the instant yet, that has to be
        settled first, which waits for what is being published, and raises RegistryReadOnly where nothing may be written.
        An instant that has not come yet is the present one.
        """
        database = self._database
        with database.reading() as connection:
            last = connection.scalar(sa.select(projects.c.published_at).where(projects.c.project == database.project))
        if last is None or last <= instant:
            try:
                self._settle(instant)
            except RegistryReadOnly as error:
                raise RegistryReadOnly(
                    f"nothing was published after {format_instant(instant)} yet, so what is read as of it has to be settled "
                    f"in the registry, which refuses writes. Read as of a sequence, or with a user who may write. ({error})"
                ) from error
        with database.reading() as connection:
            return _sequence_at(database, connection, instant)

    @repeated
    def _settle(self, instant: datetime) -> None:
        with self._database.writing() as connection:
            settle_instant(self._database, connection, instant)

    def steps_as_of(self, names: Collection[str], sequence: int) -> dict[str, tuple[Step | None, int]]:
        """Return step (None: not live then) and generation of the views of which others were live as of a sequence."""
        database = self._database
        with database.reading() as connection:
            return {
                view: (read_step(database, connection, view, version) if version else None, generation)
                for view, (version, generation) in versions_as_of(database, connection, names, sequence).items()
            }

    # -- parts --------------------------------------------------------------------------------------------------------

    def _keeping(self, connection: Connection, before: datetime, now: datetime, running_since: datetime) -> Reachable:
        """Return what has to stay: reads as of ``until`` or later, of these generations, and as of the pins."""
        database, a, o = self._database, attempts.c, outbox.c
        running = connection.scalar(
            sa.select(sa.func.min(a.created_at)).where(
                a.project == database.project, a.created_at >= running_since, a.state.in_(("begun", "validated"))
            )
        )
        limit = before if running is None else min(before, running)
        until = _sequence_at(database, connection, limit)
        pending = connection.scalar(
            sa.select(sa.func.min(o.sequence)).where(o.project == database.project, o.done_at.is_(None))
        )
        if pending is not None:
            until = min(until, pending - 1)
        pins = [pin for pin in _pins(database, connection) if pin.until > now]
        return read_reachable(database, connection, until, pins)


def _sequence_at(database: Database, connection: Connection, instant: datetime) -> int:
    log, f = publications.c, flips.c
    queries = [
        sa.select(sa.func.max(log.sequence)).where(log.project == database.project, log.published_at <= instant),
        sa.select(sa.func.max(f.sequence)).where(f.project == database.project, f.flipped_at <= instant),
        sa.select(sa.func.max(f.rolled_back_sequence)).where(f.project == database.project, f.rolled_back_at <= instant),
    ]
    return max(connection.scalar(query) or 0 for query in queries)


def _pins(database: Database, connection: Connection) -> list[SnapshotPin]:
    c = snapshot_pins.c
    rows = connection.execute(sa.select(snapshot_pins).where(c.project == database.project).order_by(c.name))
    return [SnapshotPin(name=row.name, sequence=row.sequence, until=row.until_at, created_at=row.created_at) for row in rows]


def _lost_as_of(database: Database, connection: Connection, sequence: int) -> Retired | None:
    r = retired_attempts.c
    row = connection.execute(
        sa.select(retired_attempts)
        .where(r.project == database.project, r.first_sequence <= sequence, r.gone_sequence > sequence)
        .limit(1)
    ).first()
    return None if row is None else _retired(row)


def _of_generation(
    database: Database, connection: Connection, dead: DeadGeneration, running_since: datetime
) -> list[Retired]:
    """Return the attempts of a dead generation that are not retired and not running."""
    a, log, r, u = attempts.c, publications.c, retired_attempts.c, unreachable_generations.c
    gone = connection.scalar(
        sa.select(u.sequence).where(u.project == database.project, u.view == dead.view, u.generation == dead.generation)
    )
    rows = connection.execute(
        sa.select(a.id, sa.func.min(log.sequence).label("first"))
        .select_from(attempts.join(publications, log.attempt_id == a.id))
        .where(
            a.project == database.project, a.view == dead.view, a.generation == dead.generation,
            sa.or_(a.created_at < running_since, a.state == "published"),
            ~sa.exists().where(r.attempt_id == a.id),
        )
        .group_by(a.id)
    )  # fmt: skip
    return [
        Retired(attempt=row.id, view=dead.view, generation=dead.generation, reason="unreachable", superseded_at=dead.since,
                first_sequence=row.first, gone_sequence=max(gone or 0, row.first) + 1)
        for row in rows
    ]  # fmt: skip


def _overtaken(database: Database, connection: Connection, before: datetime) -> list[Retired]:
    """Return the attempts that are finished, and of which newer ones had published everything first."""
    a, log, r = attempts.c, publications.c, retired_attempts.c
    reason: Reason = "overtaken"
    rows = connection.execute(
        sa.select(a.id, a.view, a.generation)
        .where(
            a.project == database.project, a.state == "published", a.created_at < before,
            ~sa.exists().where(log.attempt_id == a.id), ~sa.exists().where(r.attempt_id == a.id),
        )
        .limit(BATCH)
    )  # fmt: skip
    return [
        Retired(attempt=row.id, view=row.view, generation=row.generation, reason=reason, first_sequence=0, gone_sequence=0,
                superseded_at=None)
        for row in rows
    ]  # fmt: skip


def _retired(row: sa.Row[tuple[object, ...]]) -> Retired:
    values = row._mapping
    return Retired(
        attempt=values["attempt_id"], view=values["view"], generation=values["generation"], reason=values["reason"],
        first_sequence=values["first_sequence"], gone_sequence=values["gone_sequence"],
        superseded_at=values["superseded_at"], retired_at=values["retired_at"],
    )  # fmt: skip
