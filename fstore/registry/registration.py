"""Register definitions: bring the registry's rows in line with a plan.

Takes a writing transaction with the project locked. Only what differs is written, so registering the same plan again
changes nothing; a definition that merely moved within its file changes no version. What a plan leaves out stays.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fstore.definitions.source import Source, source_address, source_kind
from fstore.plan.steps import (
    PlannedEntity,
    PlannedService,
    Step,
    ViewInput,
    encode_step,
)
from fstore.registry import tables
from fstore.registry.database import Database
from fstore.registry.generations import adoptable_generation, is_deleted, next_generation
from fstore.registry.records import Change
from fstore.registry.views import batches, read_entities, read_services


def register_entities(database: Database, connection: Connection, planned: Sequence[PlannedEntity]) -> list[Change]:
    """Write the entities that are new or differ."""
    known = {entity.name: entity for entity in read_entities(database, connection)}
    fresh = [entity for entity in planned if known.get(entity.name) != entity]
    names = [entity.name for entity in fresh]
    delete_named(database, connection, tables.entity_keys, "entity", names)
    delete_named(database, connection, tables.entities, "name", names)
    database.insert(connection, tables.entities, [{"name": e.name, "description": e.description} for e in fresh])
    database.insert(
        connection,
        tables.entity_keys,
        [
            {"entity": entity.name, "position": position, "name": key.name, "type": key.type}
            for entity in fresh
            for position, key in enumerate(entity.keys)
        ],
    )
    return [Change("entity", name, "changed" if name in known else "added") for name in names]


def register_services(database: Database, connection: Connection, planned: Sequence[PlannedService]) -> list[Change]:
    """Write the feature services that are new or differ."""
    known = {service.name: service for service in read_services(database, connection)}
    fresh = [service for service in planned if known.get(service.name) != service]
    remove_services(database, connection, [service.name for service in fresh])
    database.insert(
        connection,
        tables.feature_services,
        [
            {"name": service.name, "owner": service.owner, "description": service.description, "tags": _json(service.tags)}
            for service in fresh
        ],
    )
    members: list[dict[str, object]] = []
    for service in fresh:
        for position, item in enumerate(service.references):
            members.append({"service": service.name, "position": position, "view": item.view, "feature": item.feature,
                            "alias": item.alias, "join_keys": _json(item.join_keys)})  # fmt: skip
    database.insert(connection, tables.service_features, members)
    return [Change("service", service.name, "changed" if service.name in known else "added") for service in fresh]


def remove_services(database: Database, connection: Connection, names: Sequence[str]) -> None:
    """Delete services and their lists of features."""
    delete_named(database, connection, tables.service_features, "service", names)
    delete_named(database, connection, tables.feature_services, "name", names)


def register_views(
    database: Database, connection: Connection, steps: Sequence[Step], *, version: int, rebuild: Collection[str]
) -> list[Change]:
    """Write the views that are new or differ, as rows of ``version``; those in ``rebuild`` begin a new generation."""
    known = _known_views(database, connection, [step.view for step in steps])
    now = database.now(connection)
    changes: list[Change] = []
    written: list[Step] = []
    versions: list[dict[str, object]] = []
    for step in steps:
        row, text = known.get(step.view), encode_step(step)
        again = row is not None and row.retired_at is None and step.view not in rebuild
        if row is not None and again and row.step == text:
            continue
        if row is not None and again and _essence(row.step) == _essence(text):
            _move(database, connection, row.version, step)
            continue
        generation = _first_generation(database, connection, step) if row is None else row.live_generation
        emptied = row is not None and is_deleted(database, connection, step.view, row.live_generation)
        if row is not None and (step.view in rebuild or emptied):  # it was removed for longer than files are kept
            generation = next_generation(database, connection, step.view)
        _write_view(database, connection, step, {"version": version, "live_generation": generation, "registered_at": now})
        versions.append({"view": step.view, "version": version, "fingerprint": step.fingerprint, "step": text,
                         "registered_at": now})  # fmt: skip
        written.append(step)
        changes.append(Change("view", step.view, "added" if row is None or row.retired_at is not None else "changed"))
    database.insert(connection, tables.view_versions, versions)
    _write_parts(database, connection, written)
    return changes


def make_live(
    database: Database,
    connection: Connection,
    steps: Sequence[tuple[Step, int]],
    *,
    version: int,
    versions: Mapping[str, int] | None = None,
) -> None:
    """Make steps with their generations live: as rows of ``version``, or as those of the older ``versions`` they had."""
    now = database.now(connection)
    rows: list[dict[str, object]] = []
    for step, generation in steps:
        own = version if versions is None else versions[step.view]
        _write_view(database, connection, step, {"version": own, "live_generation": generation, "registered_at": now})
        if versions is None:
            rows.append({"view": step.view, "version": version, "fingerprint": step.fingerprint,
                         "step": encode_step(step), "registered_at": now})  # fmt: skip
    database.insert(connection, tables.view_versions, rows)
    _write_parts(database, connection, [step for step, _ in steps])


def retire_view(database: Database, connection: Connection, view: str) -> bool:
    """Take a view out of the definitions; return whether it was there."""
    v = tables.views.c
    retired = connection.execute(
        sa.update(tables.views)
        .where(v.project == database.project, v.name == view, v.retired_at.is_(None))
        .values(retired_at=database.now(connection))
    )
    return bool(retired.rowcount)


def set_version(database: Database, connection: Connection, version: int) -> None:
    """Record the number that grows with every change of definitions."""
    connection.execute(
        sa.update(tables.projects).where(tables.projects.c.project == database.project).values(version=version)
    )


def write_sources(database: Database, connection: Connection, sources: Iterable[Source]) -> None:
    """Write what the views read from; a recorded schema stays."""
    for source in sources:
        row = {
            "kind": source_kind(source), "path": source_address(source), "event_time": source.event_time,
            "updated_at_column": source.updated_at, "definition": _json(source),
        }  # fmt: skip
        insert = database.insert_or(tables.sources).values({"project": database.project, "name": source.name, **row})
        connection.execute(insert.on_conflict_do_update(index_elements=["project", "name"], set_=row))


def write_source_schemas(
    database: Database, connection: Connection, schemas: Mapping[str, Mapping[str, str]], now: datetime
) -> None:
    """Write the columns and types of sources in place of those recorded before."""
    names = sorted(schemas)
    for name in names:
        row = {"project": database.project, "name": name, "schema_recorded_at": now}
        insert = database.insert_or(tables.sources).values(row)
        connection.execute(
            insert.on_conflict_do_update(index_elements=["project", "name"], set_={"schema_recorded_at": now})
        )
    delete_named(database, connection, tables.source_columns, "source", names)
    database.insert(
        connection,
        tables.source_columns,
        [
            {"source": name, "position": position, "name": column, "type": type_text}
            for name in names
            for position, (column, type_text) in enumerate(schemas[name].items())
        ],
    )


def delete_named(database: Database, connection: Connection, table: sa.Table, column: str, names: Sequence[str]) -> None:
    """Delete the project's rows whose column is one of the names."""
    for batch in batches(names):
        connection.execute(sa.delete(table).where(table.c.project == database.project, table.c[column].in_(batch)))


def _known_views(database: Database, connection: Connection, names: Sequence[str]) -> dict[str, sa.Row[*tuple[Any, ...]]]:
    v, w = tables.views.c, tables.view_versions.c
    live = sa.and_(w.project == v.project, w.view == v.name, w.version == v.version)
    found: dict[str, sa.Row[*tuple[Any, ...]]] = {}
    for batch in batches(names):
        rows = connection.execute(
            sa.select(v.name, v.version, v.live_generation, v.retired_at, w.step)
            .join_from(tables.views, tables.view_versions, live)
            .where(v.project == database.project, v.name.in_(batch))
        )
        found.update((row.name, row) for row in rows)
    return found


def _essence(step: str) -> object:
    """Return a step's JSON without the places where things were written: moving code changes nothing."""
    value = msgspec.json.decode(step)
    return _without_locations({**value, "line": 0}) if isinstance(value, dict) else value


def _without_locations(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_locations(item) for key, item in value.items() if key != "location"}
    return [_without_locations(item) for item in value] if isinstance(value, list) else value


def _move(database: Database, connection: Connection, version: int, step: Step) -> None:
    """Note the new line of a definition that is otherwise the same."""
    w, v = tables.view_versions.c, tables.views.c
    connection.execute(
        sa.update(tables.view_versions)
        .where(w.project == database.project, w.view == step.view, w.version == version)
        .values(step=encode_step(step))
    )
    connection.execute(
        sa.update(tables.views).where(v.project == database.project, v.name == step.view).values(line=step.line)
    )


def _first_generation(database: Database, connection: Connection, step: Step) -> int:
    """Return the generation of a new view: one that an environment filled by the same definition, or an empty one."""
    adopted = adoptable_generation(database, connection, step, "")
    return next_generation(database, connection, step.view) if adopted is None else adopted


def _write_view(database: Database, connection: Connection, step: Step, live: Mapping[str, object]) -> None:
    row: dict[str, object] = {
        **live, "fingerprint": step.fingerprint, "entity": step.entity, "kind": step.kind, "step": _step_kind(step),
        "schedule": step.schedule.cron, "timezone": step.schedule.timezone, "start_at": step.start, "end_at": step.end,
        "lag_seconds": step.lag / timedelta(seconds=1),
        "ttl_seconds": None if step.ttl is None else step.ttl / timedelta(seconds=1),
        "online": step.online, "pipeline": step.pipeline, "owner": step.owner, "description": step.description,
        "tags": _json(step.tags), "module": step.module, "line": step.line, "retired_at": None,
    }  # fmt: skip
    insert = database.insert_or(tables.views).values({"project": database.project, "name": step.view, **row})
    connection.execute(insert.on_conflict_do_update(index_elements=["project", "name"], set_=row))
    o = tables.overlay_views.c  # an environment whose generation is live now reads what is live from here on
    same = (o.project == database.project, o.view == step.view, o.generation == live["live_generation"])
    connection.execute(sa.delete(tables.overlay_views).where(*same))


def _write_parts(database: Database, connection: Connection, steps: Sequence[Step]) -> None:
    """Write the features and inputs of views in place of earlier ones."""
    names = [step.view for step in steps]
    for table in (tables.features, tables.view_inputs):
        delete_named(database, connection, table, "view", names)
    database.insert(
        connection,
        tables.features,
        [
            {"view": step.view, "name": feature.name, "position": position, "type": feature.type, "pii": feature.pii,
             "fingerprint": feature.fingerprint, "description": feature.description}
            for step in steps
            for position, feature in enumerate(step.features)
        ],
    )  # fmt: skip
    inputs: list[dict[str, object]] = []
    sources: dict[str, Source] = {}
    for step in steps:
        for item in step.inputs:
            if isinstance(item, ViewInput):
                read = item.view
            else:
                read = item.source.name
                sources[read] = item.source
            kind = type(item).__struct_config__.tag
            inputs.append({"view": step.view, "alias": item.alias, "kind": kind, "input": read})
    database.insert(connection, tables.view_inputs, inputs)
    write_sources(database, connection, sources.values())


def _step_kind(step: Step) -> str:
    return str(type(step).__struct_config__.tag)


def _json(value: object) -> str:
    return msgspec.json.encode(value, order="sorted").decode()
