"""Which generations somebody can still read or make live again, and since when nobody can reach the others.

Live ones, those of overlays, and those that were live within the horizon or as of a pin. Takes a transaction and gives
values; the instant from which a generation counts as unreachable is the one at which it was first found to be.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fstore.plan.tile_step import TILES_PREFIX
from fstore.registry.database import Database
from fstore.registry.retention_records import DeadGeneration, SnapshotPin
from fstore.registry.tables import attempts, flips, overlay_views, unreachable_generations, views


class Reachable(msgspec.Struct, frozen=True):
    """What has to stay: what is seen as of ``until`` and later or as of a pin, of these generations of views."""

    until: int
    pins: tuple[SnapshotPin, ...]
    generations: frozenset[tuple[str, int]]


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
    return Reachable(until, tuple(pins), frozenset((view, generation) for view, generation in rows))


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
    """Record which generations nobody can reach, and return those that are so, each since the first time it was."""
    a, u = attempts.c, unreachable_generations.c
    written = connection.execute(
        sa.select(a.view, a.generation).where(a.project == database.project, ~a.view.startswith(TILES_PREFIX)).distinct()
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
