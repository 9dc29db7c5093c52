"""Read registered definitions within a transaction: live steps, generations and services.

Takes an open connection and gives values; unknown names are errors that suggest the closest known one. What a database's
overlay holds comes before what is live. Writing them is the task of ``registration`` and ``overlays``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fstore.decoding import decode_json
from fstore.definitions.references import ResolvedFeature
from fstore.errors import DefinitionChanged, UnknownFeature, did_you_mean
from fstore.plan.steps import PlannedEntity, PlannedService, Step, decode_step
from fstore.registry.database import BATCH, Database
from fstore.registry.records import RegisteredView
from fstore.registry.tables import (
    entities,
    entity_keys,
    feature_services,
    overlay_views,
    overlays,
    service_features,
    view_versions,
    views,
)
from fstore.types import Column


def live_generation(database: Database, connection: Connection, view: str) -> int:
    """Return the generation of a view that readers see. Raises UnknownFeature."""
    found = live_generations(database, connection, [view])
    if view not in found:
        raise unknown_view(database, connection, view)
    return found[view]


def live_generations(database: Database, connection: Connection, names: Iterable[str]) -> dict[str, int]:
    """Return the generation that readers see of every registered view among the names, also of retired ones."""
    found: dict[str, int] = {}
    wanted = sorted(set(names))
    for batch in batches(wanted):
        rows = connection.execute(
            sa.select(views.c.name, views.c.live_generation).where(
                views.c.project == database.project, views.c.name.in_(batch)
            )
        )
        found.update((row.name, row.live_generation) for row in rows)
    if database.overlay:
        o = overlay_views.c
        for batch in batches(wanted):
            rows = connection.execute(
                sa.select(o.view, o.generation).where(
                    o.project == database.project, o.overlay == database.overlay, o.view.in_(batch)
                )
            )
            found.update((row.view, row.generation) for row in rows)
    return found


def attempt_generation(database: Database, connection: Connection, step: Step) -> int:
    """Return the generation into which a step publishes. Raises UnknownFeature, and DefinitionChanged (retryable).

    That is: another definition took the place of the one that the step was prepared for.
    """
    found = read_views(database, connection, [step.view])
    if not found:
        raise unknown_view(database, connection, step.view)
    if database.overlay and not read_overlay_views(database, connection, database.overlay, [step.view]):
        raise DefinitionChanged(
            f"view {step.view!r} is not of environment {database.overlay!r}, which reads it from production and publishes "
            "nothing into it"
        )
    if found[0].fingerprint != step.fingerprint:
        raise DefinitionChanged(
            f"view {step.view!r} was registered with another definition (fingerprint {found[0].fingerprint}) after this run "
            f"had been prepared (fingerprint {step.fingerprint}). Running it again takes the new one."
        )
    return found[0].generation


def read_views(database: Database, connection: Connection, names: Collection[str] | None = None) -> list[RegisteredView]:
    """Return the registered views that are not retired, or those among the names, in order of name."""
    found = {view.name: view for view in _live_views(database, connection, names)}
    if database.overlay:
        found.update((view.name, view) for view in read_overlay_views(database, connection, database.overlay, names))
    return [found[name] for name in sorted(found)]


def read_overlay_views(
    database: Database, connection: Connection, overlay: str, names: Collection[str] | None = None
) -> list[RegisteredView]:
    """Return the views of an overlay in order of name, those among the names if some are given."""
    o = overlay_views.c
    query = sa.select(overlay_views).where(o.project == database.project, o.overlay == overlay).order_by(o.view)
    rows = connection.execute(query if names is None else query.where(o.view.in_(list(names))))
    return [
        RegisteredView(
            name=row.view,
            step=decode_step(row.step),
            generation=row.generation,
            version=0,
            fingerprint=row.fingerprint,
            registered_at=row.registered_at,
        )
        for row in rows
    ]


def _live_views(database: Database, connection: Connection, names: Collection[str] | None) -> list[RegisteredView]:
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
    rows = connection.execute(query if names is None else query.where(views.c.name.in_(list(names))))
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
    """Return every version of a view, newest first, that of the overlay before them; none for a view that never was."""
    w = view_versions.c
    query = sa.select(w.step).where(w.project == database.project, w.view == view).order_by(w.version.desc())
    steps = [decode_step(text) for text in connection.scalars(query)]
    if database.overlay:
        steps[:0] = [found.step for found in read_overlay_views(database, connection, database.overlay, [view])]
    return steps


def read_step(database: Database, connection: Connection, view: str, version: int) -> Step:
    """Return the step that a version of a view has."""
    w = view_versions.c
    query = sa.select(w.step).where(w.project == database.project, w.view == view, w.version == version)
    return decode_step(connection.execute(query).scalar_one())


def read_last_step(database: Database, connection: Connection, view: str) -> Step | None:
    """Return the step that is live, or was when the view was taken out of the definitions; None if it never was.

    That need not be the newest version: a newer one may have been rolled back.
    """
    w, v = view_versions.c, views.c
    live = sa.and_(w.project == v.project, w.view == v.name, w.version == v.version)
    query = sa.select(w.step).join_from(views, view_versions, live).where(v.project == database.project, v.name == view)
    text = connection.scalar(query)
    return None if text is None else decode_step(text)


def read_services(database: Database, connection: Connection, name: str | None = None) -> list[PlannedService]:
    """Return the registered services with full feature names, in order of name; an environment's before the live ones."""
    found = {service.name: service for service in _live_services(database, connection, name)}
    if database.overlay:
        own = read_overlay_services(database, connection, database.overlay)
        found.update((service.name, service) for service in own if name is None or service.name == name)
    return [found[key] for key in sorted(found)]


def read_overlay_services(database: Database, connection: Connection, overlay: str) -> list[PlannedService]:
    """Return the services that an overlay holds."""
    o = overlays.c
    text = connection.scalar(sa.select(o.services).where(o.project == database.project, o.name == overlay))
    return [] if text is None else decode_json(text, list[PlannedService])


def _live_services(database: Database, connection: Connection, name: str | None) -> list[PlannedService]:
    chosen = [feature_services.c.project == database.project]
    members = [service_features.c.project == database.project]
    if name is not None:
        chosen.append(feature_services.c.name == name)
        members.append(service_features.c.service == name)
    named: dict[str, list[ResolvedFeature]] = {}
    for row in connection.execute(
        sa.select(service_features).where(*members).order_by(service_features.c.service, service_features.c.position)
    ):
        join_keys = decode_json(row.join_keys, dict[str, str])
        item = ResolvedFeature(view=row.view, feature=row.feature, alias=row.alias, join_keys=join_keys)
        named.setdefault(row.service, []).append(item)
    return [
        PlannedService(
            name=row.name,
            references=tuple(named.get(row.name, ())),
            owner=row.owner,
            description=row.description,
            tags=decode_json(row.tags, dict[str, str]),
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
    if database.overlay:
        known = sorted({*known, *(view.name for view in read_overlay_views(database, connection, database.overlay))})
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


_NONE_YET = " It has none yet: run `fstore apply`."


def _unknown(database: Database, kind: str, name: str, known: Sequence[str]) -> UnknownFeature:
    hint = f"{did_you_mean(name, known)} If it is new, `fstore apply` records it." if known else _NONE_YET
    return UnknownFeature(f"project {database.project!r} has no {kind} {name!r} in registry {database.label}.{hint}")
