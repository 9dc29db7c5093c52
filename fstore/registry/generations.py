"""The generations of a view: which number comes next, and which one holds a definition's rows already.

Takes an open transaction, with the project locked where a number is given out, and gives numbers.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fstore.errors import NotComplete
from fstore.plan.diff import type_changes
from fstore.plan.steps import Step, decode_step
from fstore.registry.database import Database
from fstore.registry.tables import (
    attempts,
    flips,
    overlay_views,
    publications,
    retired_attempts,
    view_versions,
    views,
)


def next_generation(database: Database, connection: Connection, view: str) -> int:
    """Return a generation that nothing was ever written into, and that no overlay has."""
    a, v, o = attempts.c, views.c, overlay_views.c
    used = [
        connection.scalar(sa.select(sa.func.max(a.generation)).where(a.project == database.project, a.view == view)),
        connection.scalar(sa.select(v.live_generation).where(v.project == database.project, v.name == view)),
        connection.scalar(sa.select(sa.func.max(o.generation)).where(o.project == database.project, o.view == view)),
    ]
    return max((number for number in used if number is not None), default=0) + 1


def adoptable_generation(database: Database, connection: Connection, step: Step, overlay: str) -> int | None:
    """Return the generation, not the live one, that was published by the same definition with the same checks.

    None when there is none, or it belongs to somebody else by now. Of several the one that was published last.
    """
    p = publications.c
    mine = (p.project == database.project, p.view == step.view)
    taken = foreign_generations(database, connection, step, overlay)
    candidates = connection.execute(
        sa.select(p.generation)
        .where(*mine, p.fingerprint == step.fingerprint)
        .group_by(p.generation)
        .order_by(sa.func.max(p.sequence).desc())
    ).scalars()
    for generation in candidates:
        deleted = is_deleted(database, connection, step.view, generation)
        if generation not in taken and not deleted and _fits(database, connection, step, generation):
            return int(generation)
    return None


def refuse_deleted(database: Database, connection: Connection, view: str, generation: int) -> None:
    """Raise NotComplete for a generation whose files were deleted, because nobody could reach it for so long."""
    if is_deleted(database, connection, view, generation):
        raise NotComplete(
            f"generation {generation} of view {view!r} cannot become live again: it was replaced longer ago than the "
            "horizon (setting `retention`), and its files are deleted. Declare what it was: `fstore apply` computes it anew."
        )


def is_deleted(database: Database, connection: Connection, view: str, generation: int) -> bool:
    """Whether files of a generation were deleted because nobody could reach it."""
    r = retired_attempts.c
    gone = (r.project == database.project, r.view == view, r.generation == generation, r.reason == "unreachable")
    return bool(connection.scalar(sa.select(sa.exists().where(*gone))))


def foreign_generations(database: Database, connection: Connection, step: Step, overlay: str) -> set[int]:
    """Return the generations of a step's view into which an overlay may not publish the step.

    That are the live one, those into which another overlay publishes another definition, and those of another definition
    that a rollback would make live again.
    """
    v, o, f, w = views.c, overlay_views.c, flips.c, view_versions.c
    live = sa.select(v.live_generation).where(v.project == database.project, v.name == step.view, v.retired_at.is_(None))
    others = sa.select(o.generation).where(
        o.project == database.project, o.view == step.view, o.overlay != overlay, o.fingerprint != step.fingerprint
    )
    replaced = sa.and_(w.project == f.project, w.view == f.view, w.version == f.old_version)
    former = (
        sa.select(f.old_generation)
        .join_from(flips, view_versions, replaced)
        .where(
            f.project == database.project, f.view == step.view, f.rolled_back_at.is_(None),
            w.fingerprint != step.fingerprint,
        )
    )  # fmt: skip
    return set(connection.execute(sa.union(live, others, former)).scalars())


def overlay_of(database: Database, connection: Connection, view: str, generation: int) -> str:
    """Return the overlay that has a generation of a view, empty when none does."""
    o = overlay_views.c
    query = sa.select(o.overlay).where(o.project == database.project, o.view == view, o.generation == generation)
    return connection.execute(query.order_by(o.overlay)).scalar() or ""


def _fits(database: Database, connection: Connection, step: Step, generation: int) -> bool:
    """Whether every attempt that published the step's definition there had its checks and gave its types."""
    p, a = publications.c, attempts.c
    ids = sa.select(p.attempt_id).where(
        p.project == database.project,
        p.view == step.view,
        p.generation == generation,
        p.fingerprint == step.fingerprint,
    )
    texts = connection.execute(sa.select(a.step).where(a.id.in_(ids))).scalars()
    steps = [decode_step(text) for text in sorted(set(texts))]
    return all(found.audits == step.audits and not type_changes(found, step) for found in steps)
