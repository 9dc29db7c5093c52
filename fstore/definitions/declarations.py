"""Checks of entities, sources and services, which are values already when they are declared.

Each function takes a declaration as its author made it, with any values in its fields, and gives the problems with it.
Whether two of them share a name is for the loader to see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fstore.definitions.aggregation import Aggregation
from fstore.definitions.entity import Entity
from fstore.definitions.feature_service import FeatureService
from fstore.definitions.feature_view import FeatureReference, FeatureView, ViewHistory
from fstore.definitions.location import Location
from fstore.definitions.problems import Reporter
from fstore.definitions.project import FeatureName, Problem, Service
from fstore.definitions.source import CsvSource, Source
from fstore.definitions.validation import (
    kind_of,
    read_column,
    read_duration,
    read_flag,
    read_name,
    read_optional_text,
    read_parsed,
    read_tags,
    read_text,
    read_type,
    report_unknown,
)
from fstore.errors import listing
from fstore.interval import Schedule
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


def source_problems(source: Source) -> list[Problem]:
    """Return what is wrong with a source."""
    report = Reporter([], f"source {source.name!r}", source.location)
    read_name(report, "name", source.name)
    read_text(report, "path", source.path, example='"data/orders/"')
    read_optional_text(report, "description", source.description)
    read_duration(report, "lag", source.lag, positive=False)
    if source.timezone is not None:
        read_parsed(report, "time zone", source.timezone, _parse_zone, example='"Europe/Berlin"')
    _check_time(report, source)
    _check_schema(report, source)
    if isinstance(source, CsvSource):
        delimiter: object = source.delimiter
        if not isinstance(delimiter, str) or len(delimiter) != 1:
            report.add(f"has a wrong delimiter: expected one character, got {delimiter!r}.")
        read_optional_text(report, "null text", source.null)
    return report.problems


def _parse_zone(name: str) -> Schedule:
    return Schedule.parse("@daily", name)


def _check_time(report: Reporter, source: Source) -> None:
    """Check that a source is either of events or a dimension, and says what that needs."""
    static = read_flag(report, "static", source.static)
    if source.event_time is None and source.keys is None:
        report.add(
            "has neither event_time nor keys.",
            'Events need event_time="…"; a dimension needs keys=["…"] and updated_at="…" (or static=True).',
        )
        return
    if source.event_time is not None:
        read_text(report, "event_time", source.event_time, example='"created_at"')
        mixed = [name for name in ("keys", "updated_at") if getattr(source, name) is not None] + ["static"] * static
        if mixed:
            report.add(
                f"has event_time and {listing(mixed)}: it cannot be both events and a dimension.",
                "Keep event_time for events, or keys with updated_at (or static=True) for a dimension.",
            )
        return
    keys: object = source.keys
    if not isinstance(keys, list | tuple) or not keys or not all(isinstance(key, str) and key for key in keys):
        report.add(f'has wrong keys: expected a list of column names such as ["user_id"], got {keys!r}.')
    if static == (source.updated_at is not None):
        has = "both updated_at and static=True" if static else "keys but neither updated_at nor static=True"
        report.add(
            f"has {has}.",
            "updated_at names the column that says since when a row holds; static=True is for a table without history.",
        )
    elif source.updated_at is not None:
        read_text(report, "updated_at", source.updated_at, example='"updated_at"')


def _check_schema(report: Reporter, source: Source) -> None:
    """Check a declared schema, and that the columns the source names are in it."""
    schema: object = source.schema
    if schema is None:
        return
    if not isinstance(schema, Mapping) or not schema:
        report.add(f'has a wrong schema: expected a mapping such as {{"amount": "float64"}}, got {kind_of(schema)}.')
        return
    for column, type_text in schema.items():
        read_text(report, "column name in its schema", column, example='"amount"')
        read_type(report, f"type of column {column!r}", type_text)
    named = [*(source.keys or ()), source.event_time, source.updated_at]
    for column in named:
        if isinstance(column, str) and column not in schema:
            report_unknown(report, "names column", column, list(schema), "Add it to the schema.")


def collect_service(service: FeatureService) -> tuple[Service | None, list[Problem]]:
    """Return a service with its references by name, or what is wrong with it."""
    report = Reporter([], f"feature service {service.name!r}", service.location)
    read_name(report, "name", service.name)
    owner = read_optional_text(report, "owner", service.owner)
    description = read_optional_text(report, "description", service.description)
    tags = read_tags(report, service.tags)
    names = _service_features(report, service.features)
    if report.problems:
        return None, report.problems
    location = service.location or Location("", 0)
    return (
        Service(
            name=service.name, features=tuple(names), location=location, owner=owner, description=description, tags=tags
        ),
        [],
    )


def service_views(service: FeatureService) -> list[type[FeatureView]]:
    """Return the classes of the views that a service refers to, in order."""
    items: object = service.features
    views: list[type[FeatureView]] = []
    for item in items if isinstance(items, Sequence) else ():
        if isinstance(item, FeatureReference):
            views.append(item.view)
        elif isinstance(item, type) and issubclass(item, FeatureView):
            views.append(item)
    return views


def _service_features(report: Reporter, features: object) -> list[FeatureName]:
    if not isinstance(features, list | tuple) or not features:
        got = "an empty one" if isinstance(features, list | tuple) else kind_of(features)
        report.add(f'has wrong features: expected a list such as [Orders.amount["7d"]], got {got}.')
        return []
    names: list[FeatureName] = []
    for item in features:
        name = _feature_name(report, item)
        if name is not None and name in names:
            report.add(f"lists {_spelled(item)} twice.", "Remove one.")
        elif name is not None:
            names.append(name)
    return names


def _spelled(item: object) -> str:
    return item.__name__ if isinstance(item, type) else repr(item)


def _feature_name(report: Reporter, item: object) -> FeatureName | None:
    match item:
        case FeatureReference():
            return _reference_name(report, item)
        case ViewHistory():
            report.add(f"lists {item.view.__name__}.history, which is for inputs of views.", "List the view itself.")
        case type() if issubclass(item, FeatureView):
            if not item.__body__.abstract:
                return FeatureName(view=item.__body__.name)
            report.add(
                f"lists {item.__name__}, which is a template (abstract = True).", "List a view that inherits from it."
            )
        case str():
            report.add(
                f"lists the text {item!r}; features are objects, never strings.",
                'Import the view and write, say, Orders.amount["7d"].',
            )
        case _:
            report.add(f"lists {kind_of(item)}, which is neither a view nor a feature of one.")
    return None


def _reference_name(report: Reporter, item: FeatureReference) -> FeatureName | None:
    """Check the window of a reference against those that its feature has."""
    body = item.view.__body__
    if body.abstract:
        report.add(f"lists {item!r}, a feature of a template (abstract = True).", "Name a view that inherits from it.")
        return None
    member = body.attributes[item.attribute]
    windows = member.windows if isinstance(member, Aggregation) else ()
    if item.window is not None and not windows:
        report.add(f"lists {item!r}, but that feature has no windows.", f"Write {item.view.__name__}.{item.attribute}.")
        return None
    if item.window is not None and item.window not in windows:
        report_unknown(report, f"lists {item!r} with window", str(item.window), list(windows))
        return None
    window = item.window if len(windows) != 1 else windows[0]
    return FeatureName(view=body.name, attribute=item.attribute, window=window)
