"""Register and read on-demand features within a transaction.

The whole definition is kept, so that a reader without the definition modules can evaluate it. An overlay's definitions come
before the live ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fstore.decoding import decode_json
from fstore.errors import UnknownFeature, did_you_mean
from fstore.plan.steps import PlannedOnDemand
from fstore.registry.database import Database
from fstore.registry.records import Change
from fstore.registry.service_tables import on_demand_features


def register_on_demand(
    database: Database, connection: Connection, planned: Sequence[PlannedOnDemand], *, overlay: str = ""
) -> list[Change]:
    """Write the on-demand features that are new or differ; those whose type is not known yet wait until it is."""
    known = {item.name: item for item in _read(database, connection, overlay)}
    fresh = [item for item in planned if item.type is not None and known.get(item.name) != item]
    c = on_demand_features.c
    for item in fresh:
        connection.execute(
            sa.delete(on_demand_features).where(c.project == database.project, c.overlay == overlay, c.name == item.name)
        )
    now = database.now(connection)
    database.insert(
        connection,
        on_demand_features,
        [
            {"overlay": overlay, "name": item.name, "type": item.type, "language": "python" if item.function else "sql",
             "fingerprint": item.fingerprint, "definition": msgspec.json.encode(item, order="sorted").decode(),
             "description": item.description, "registered_at": now}
            for item in fresh
        ],
    )  # fmt: skip
    return [Change("on_demand", item.name, "changed" if item.name in known else "added") for item in fresh]


def remove_on_demand(database: Database, connection: Connection, name: str) -> bool:
    """Delete an on-demand feature; whether there was one."""
    c = on_demand_features.c
    query = sa.delete(on_demand_features).where(c.project == database.project, c.overlay == "", c.name == name)
    return bool(connection.execute(query).rowcount)


def clear_on_demand(database: Database, connection: Connection, overlay: str) -> None:
    """Delete all on-demand features of an overlay."""
    c = on_demand_features.c
    connection.execute(sa.delete(on_demand_features).where(c.project == database.project, c.overlay == overlay))


def read_on_demand(database: Database, connection: Connection) -> list[PlannedOnDemand]:
    """Return the registered on-demand features, in order of name."""
    found = {item.name: item for item in _read(database, connection, "")}
    if database.overlay:
        found.update((item.name, item) for item in _read(database, connection, database.overlay))
    return [found[name] for name in sorted(found)]


def unknown_on_demand(database: Database, connection: Connection, name: str) -> UnknownFeature:
    """Return the error for an on-demand feature that is not registered."""
    known = [item.name for item in read_on_demand(database, connection)]
    new = " If it is new, `fstore apply` records it."
    hint = f"{did_you_mean(name, known)}{new}" if known else " It has none: declare one with on_demand and `fstore apply`."
    return UnknownFeature(
        f"project {database.project!r} has no on-demand feature {name!r} in registry {database.label}.{hint}"
    )


def _read(database: Database, connection: Connection, overlay: str) -> list[PlannedOnDemand]:
    c = on_demand_features.c
    query = sa.select(c.definition).where(c.project == database.project, c.overlay == overlay)
    return [decode_json(text, PlannedOnDemand) for text in connection.scalars(query)]
