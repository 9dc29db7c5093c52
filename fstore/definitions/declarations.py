"""Checks of entities, which are values already when they are declared.

Takes a declaration as its author made it, with any values in its fields, and gives the problems with it. Whether two of
them share a name is for the loader to see.
"""

from __future__ import annotations

from collections.abc import Mapping

from fstore.definitions.entity import Entity
from fstore.definitions.problems import Reporter
from fstore.definitions.project import Problem
from fstore.definitions.validation import kind_of, read_column, read_name, read_optional_text, read_type
from fstore.types import KEY_TYPES

EVENT_TIMESTAMP = "event_timestamp"
"""The time column that every published row has, which no key or feature may be called."""


def entity_problems(entity: Entity) -> list[Problem]:
    """Return what is wrong with an entity."""
    report = Reporter([], f"entity {entity.name!r}", entity.location)
    read_name(report, "name", entity.name)
    read_optional_text(report, "description", entity.description)
    keys: object = entity.join_keys
    if not isinstance(keys, Mapping) or not keys:
        got = "an empty one" if isinstance(keys, Mapping) else kind_of(keys)
        report.add(f'has wrong join keys: expected a mapping such as {{"user_id": "string"}}, got {got}.')
        return report.problems
    seen: set[str] = set()
    for key, type_text in keys.items():
        if read_column(report, "join key", key) is None:
            continue
        if key.lower() in seen:
            report.add(f"has two join keys called {key!r} (case does not count).")
        if key.lower() == EVENT_TIMESTAMP:
            report.add(f"has a join key called {key!r}, which is the name of the time column of every view.", "Rename it.")
        seen.add(key.lower())
        data_type = read_type(report, f"type of join key {key!r}", type_text)
        if data_type is not None and str(data_type) not in KEY_TYPES:
            report.add(f"has join key {key!r} of type {str(data_type)!r}; a key can be one of {', '.join(KEY_TYPES)}.")
    return report.problems
