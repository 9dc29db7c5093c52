"""Read registered definitions within a transaction: live steps, generations and services.

Takes an open connection and gives values; unknown names are errors that suggest the closest known one. Writing them is
the task of ``registration``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fstore.errors import UnknownFeature, did_you_mean
from fstore.plan.steps import PlannedEntity, PlannedService, Step, decode_step
from fstore.registry.database import BATCH, Database
from fstore.registry.records import RegisteredView
from fstore.registry.tables import entities, entity_keys, feature_services, service_features, view_versions, views
from fstore.types import Column


def live_generation(database: Database, connection: Connection, view: str) -> int:
    """Return the generation of a view that readers see. Raises UnknownFeature."""
    found = live_generations(database, connection, [view])
    if view not in found:
        raise unknown_view(database, connection, view)
    return found[view]


def live_generations(database: Database, connection: Connection, names: Iterable[str]) -> dict[str, int]:
    """Return the live generation of every registered view among the names, also of retired ones."""
    found: dict[str, int] = {}
    for batch in batches(sorted(set(names))):
        rows = connection.execute(
            sa.select(views.c.name, views.c.live_generation).where(
                views.c.project == database.project, views.c.name.in_(batch)
            )
        )
        found.update((row.name, row.live_generation) for row in rows)
    return found


def read_views(database: Database, connection: Connection, name: str | None = None) -> list[RegisteredView]:
    """Return the registered views that are not retired, in order of name; one query."""
    query = (
        sa.select(
            views.c.name, views.c.version, views.c.fingerprint, views.c.live_generation, views.c.registered_at,
            view_versions.c.step,
        )
        .join_from(
            views,
            view_versions,
            sa.and_(
                view_versions.c.project == views.c.project,
                view_versions.c.view == views.c.name,
                view_versions.c.version == views.c.version,
            ),
        )
        .where(views.c.project == database.project, views.c.retired_at.is_(None))
        .order_by(views.c.name)
    )  # fmt: skip
    rows = connection.execute(query if name is None else query.where(views.c.name == name))
    return [
        RegisteredView(
            name=row.name,
            step=decode_step(row.step),
            generation=row.live_generation,
            version=row.version,
            fingerprint=row.fingerprint,
            registered_at=row.registered_at,
        )
        for row in rows
    ]


def read_versions(database: Database, connection: Connection, view: str) -> list[Step]:
    """Return every version of a view, newest first; none for a view that never was."""
    w = view_versions.c
    query = sa.select(w.step).where(w.project == database.project, w.view == view).order_by(w.version.desc())
    return [decode_step(text) for text in connection.scalars(query)]


def read_services(database: Database, connection: Connection, name: str | None = None) -> list[PlannedService]:
    """Return the registered services with full feature names, in order of name."""
    chosen = [feature_services.c.project == database.project]
    members = [service_features.c.project == database.project]
    if name is not None:
        chosen.append(feature_services.c.name == name)
        members.append(service_features.c.service == name)
    named: dict[str, list[str]] = {}
    for row in connection.execute(
        sa.select(service_features).where(*members).order_by(service_features.c.service, service_features.c.position)
    ):
        named.setdefault(row.service, []).append(f"{row.view}:{row.feature}")
    return [
        PlannedService(
            name=row.name,
            features=tuple(named.get(row.name, ())),
            owner=row.owner,
            description=row.description,
            tags=msgspec.json.decode(row.tags, type=dict[str, str]),
        )
        for row in connection.execute(sa.select(feature_services).where(*chosen).order_by(feature_services.c.name))
    ]


def read_entities(database: Database, connection: Connection) -> list[PlannedEntity]:
    """Return the registered entities with their composite keys, in order of name."""
    keys: dict[str, list[Column]] = {}
    k = entity_keys.c
    for row in connection.execute(
        sa.select(entity_keys).where(k.project == database.project).order_by(k.entity, k.position)
    ):
        keys.setdefault(row.entity, []).append(Column(name=row.name, type=row.type))
    rows = connection.execute(sa.select(entities).where(entities.c.project == database.project).order_by(entities.c.name))
    return [PlannedEntity(name=row.name, keys=tuple(keys.get(row.name, ())), description=row.description) for row in rows]


def unknown_view(database: Database, connection: Connection, name: str) -> UnknownFeature:
    """Return the error for a view that is not registered, or not any more."""
    rows = connection.execute(
        sa.select(views.c.name, views.c.retired_at).where(views.c.project == database.project).order_by(views.c.name)
    ).all()
    known = [row.name for row in rows if row.retired_at is None]
    if any(row.name == name and row.retired_at is not None for row in rows):
        return UnknownFeature(f"view {name!r} of project {database.project!r} was removed from the definitions")
    return _unknown(database, "view", name, known)


def unknown_service(database: Database, connection: Connection, name: str) -> UnknownFeature:
    """Return the error for a feature service that is not registered."""
    known = connection.scalars(
        sa.select(feature_services.c.name).where(feature_services.c.project == database.project)
    ).all()
    return _unknown(database, "feature service", name, sorted(known))


def batches(values: Sequence[str]) -> list[Sequence[str]]:
    """Cut values into runs that fit into one ``IN (…)``."""
    return [values[at : at + BATCH] for at in range(0, len(values), BATCH)]


def _unknown(database: Database, kind: str, name: str, known: Sequence[str]) -> UnknownFeature:
    hint = did_you_mean(name, known) or ("" if known else " It has none yet: run `fstore apply`.")
    return UnknownFeature(f"project {database.project!r} has no {kind} {name!r} in registry {database.label}.{hint}")
