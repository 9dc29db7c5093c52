"""Which generations somebody can still read or make live again, and since when nobody can reach the others.

Live ones, those of overlays, and those that were live within the horizon or as of a pin. Takes a transaction and gives
values; the instant from which a generation counts as unreachable is the one at which it was first found to be. The same
holds for data sets of tiles, which are used by the steps of these generations.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fstore.plan.steps import decode_step
from fstore.plan.tile_step import TILES_PREFIX
from fstore.registry.database import Database
from fstore.registry.reads import tile_datasets, tile_sets
from fstore.registry.retention_records import DeadGeneration, SnapshotPin
from fstore.registry.tables import (
    attempts,
    flips,
    overlay_views,
    publications,
    unreachable_generations,
    view_versions,
    views,
)


class Reachable(msgspec.Struct, frozen=True):
    """What has to stay: what is seen as of ``until`` and later or as of a pin, of these generations of views.

    ``steps`` are the definitions that somebody may run: view and version, or overlay, view and fingerprint.
    """

    until: int
    pins: tuple[SnapshotPin, ...]
    generations: frozenset[tuple[str, int]]
    steps: frozenset[tuple[str, ...]]


def read_reachable(database: Database, connection: Connection, until: int, pins: Sequence[SnapshotPin]) -> Reachable:
    """Return what has to stay."""
    v, o, f = views.c, overlay_views.c, flips.c
    low = min([until, *(pin.sequence for pin in pins)])
    lately = sa.and_(f.project == database.project, sa.or_(f.sequence > low, f.rolled_back_sequence > low))
    rows = connection.execute(
        sa.union(
            sa.select(v.name, v.live_generation).where(v.project == database.project, v.retired_at.is_(None)),
            sa.select(o.view, o.generation).where(o.project == database.project),
            sa.select(f.view, f.old_generation).where(lately),
            sa.select(f.view, f.new_generation).where(lately),
        )
    )
    generations = frozenset((view, generation) for view, generation in rows)
    w = view_versions.c
    versions = connection.execute(sa.select(w.view, w.version).where(_runnable(database, lately)))
    staged = connection.execute(sa.select(o.overlay, o.view, o.fingerprint).where(o.project == database.project))
    steps = frozenset({(view, str(version)) for view, version in versions} | {tuple(row) for row in staged})
    return Reachable(until, tuple(pins), generations, steps)


def read_used_tiles(database: Database, connection: Connection, reachable: Reachable) -> frozenset[str]:
    """Return the data sets of tiles that the steps read which somebody may run."""
    o, w = overlay_views.c, view_versions.c
    texts = set(connection.execute(sa.select(o.step).where(o.project == database.project)).scalars())
    for row in connection.execute(sa.select(w.view, w.version, w.step).where(w.project == database.project)):
        if (row.view, str(row.version)) in reachable.steps:
            texts.add(row.step)
    steps = [decode_step(text) for text in texts]
    return frozenset(dataset for step in steps for tiles in tile_sets(step) for dataset in tile_datasets(tiles))


def read_dead_tiles(
    database: Database, connection: Connection, used: Collection[str], before: datetime
) -> dict[str, tuple[int, datetime]]:
    """Return the data sets of tiles that are not used now, and were not when it was looked first, before an instant.

    With each the newest sequence and the instant of then.
    """
    u = unreachable_generations.c
    dead = (u.project == database.project, u.view.startswith(TILES_PREFIX), u.since <= before)
    rows = connection.execute(sa.select(u.view, u.sequence, u.since).where(*dead))
    return {row.view: (row.sequence, row.since) for row in rows if row.view not in used}


def _runnable(database: Database, lately: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """Return the condition for versions that are live, or that a rollback of what was flipped lately makes live again."""
    v, f, w = views.c, flips.c, view_versions.c
    live = sa.exists().where(v.project == w.project, v.name == w.view, v.version == w.version, v.retired_at.is_(None))
    flipped = sa.exists().where(
        f.project == w.project, f.view == w.view, sa.or_(f.old_version == w.version, f.version == w.version), lately
    )
    return sa.and_(w.project == database.project, sa.or_(live, flipped))


def versions_as_of(
    database: Database, connection: Connection, names: Collection[str], sequence: int
) -> dict[str, tuple[int, int]]:
    """Return version and generation of those views of which another generation was live as of a sequence than now.

    Version 0 is for a view that was not live then.
    """
    f, found = flips.c, dict[str, tuple[int, int, int]]()
    rows = connection.execute(
        sa.select(flips).where(
            f.project == database.project, sa.or_(f.sequence > sequence, f.rolled_back_sequence > sequence)
        )
    )
    for row in rows:
        if row.view in names:
            events = [(row.sequence, row.old_version, row.old_generation)]
            if row.rolled_back_sequence is not None:
                events.append((row.rolled_back_sequence, row.version, row.new_generation))
            first = min(event for event in events if event[0] > sequence)
            found[row.view] = min(first, found.get(row.view, first))
    return {view: (version, generation) for view, (_, version, generation) in found.items()}


def note_unreachable(
    database: Database, connection: Connection, reachable: Collection[tuple[str, int]], now: datetime, newest: int
) -> list[DeadGeneration]:
    """Record which generations nobody can reach, and return those that are so, each since the first time it was.

    Data sets of tiles are noted as well, as generations; ``reachable`` has those that are used.
    """
    a, u, log = attempts.c, unreachable_generations.c, publications.c
    written = connection.execute(
        sa.union(
            sa.select(a.view, a.generation).where(a.project == database.project, ~a.view.startswith(TILES_PREFIX)),
            sa.select(log.view, log.generation).where(log.project == database.project, log.view.startswith(TILES_PREFIX)),
        )
    )
    dead = {(row.view, row.generation) for row in written} - set(reachable)
    rows = connection.execute(sa.select(u.view, u.generation, u.since).where(u.project == database.project))
    known = {(row.view, row.generation): row.since for row in rows}
    for view, generation in known.keys() - dead:  # it can be reached again
        connection.execute(
            sa.delete(unreachable_generations).where(
                u.project == database.project, u.view == view, u.generation == generation
            )
        )
    fresh: list[dict[str, object]] = [
        {"view": view, "generation": generation, "since": now, "sequence": newest}
        for view, generation in sorted(dead - known.keys())
    ]
    database.insert(connection, unreachable_generations, fresh)
    return [
        DeadGeneration(view=view, generation=generation, since=known.get((view, generation), now))
        for view, generation in sorted(dead)
    ]
