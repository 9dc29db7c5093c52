"""Declarations written as twins: a view as YAML, or a SQL view as a ``.sql`` file with a header.

Takes the values that definitions compile to and gives texts that compile to the same ones, but for the place. A view that
Python computes has no twin.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import MappingProxyType

import msgspec
import yaml

from fstore.definitions.aggregation import Aggregation, agg
from fstore.definitions.checks import Check
from fstore.definitions.entity import Entity
from fstore.definitions.expression import Expression, Field
from fstore.definitions.feature_view import Input, Member, View, feature_names
from fstore.definitions.references import FeatureName
from fstore.definitions.source import Source, SqlSource, UnionSource, WindowedSource

_SETTINGS = ("schedule", "timezone", "start", "end", "ttl", "owner", "tags", "online", "pipeline")


def view_as_yaml(view: View, others: Mapping[str, View] = MappingProxyType({})) -> str:
    """Return a view as a YAML document. Raises ValueError for one that Python computes.

    ``others`` are the views whose features its expressions read, by name.
    """
    return _text({"kind": "FeatureView", **_view(view, others)})


def view_as_sql(view: View) -> str:
    """Return a SQL view as the contents of a ``.sql`` file. Raises ValueError for any other view."""
    if view.sql is None:
        raise ValueError(f"view {view.name!r} is not computed by SQL")
    fields = _view(view, {})
    del fields["sql"]
    header = "".join(f"-- {line}\n" for line in _text(fields).splitlines())
    return f"{header}\n{view.sql}\n"


def entity_as_yaml(entity: Entity) -> str:
    """Return an entity as a YAML document."""
    return _text({"kind": "Entity", **_fields(entity)})


def source_as_yaml(source: Source) -> str:
    """Return a source as a YAML document; what it is made of is named."""
    fields = {"name": source.name, **_fields(source)}
    match source:
        case SqlSource():
            fields["inputs"] = {alias: _member(item) for alias, item in source.inputs.items()}
        case UnionSource():
            fields["sources"] = [item.name for item in source.sources]
        case _:
            pass
    return _text({"kind": type(source).__name__, **fields})


def _member(item: Source | WindowedSource) -> object:
    return {"source": item.source.name, "window": item.window} if isinstance(item, WindowedSource) else item.name


def _text(fields: dict[str, object]) -> str:
    return str(yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=120))  # type: ignore[no-untyped-call]


def _fields(value: msgspec.Struct, *names: str) -> dict[str, object]:
    """Return the fields of a value that are not what they are by default."""
    return {
        field.name: getattr(value, field.name)
        for field in msgspec.structs.fields(value)
        if field.name != "location" and (not names or field.name in names)
        if getattr(value, field.name) != (field.default if field.default is not msgspec.NODEFAULT else _default(field))
    }


def _default(field: msgspec.structs.FieldInfo) -> object:
    return field.default_factory() if field.default_factory is not msgspec.NODEFAULT else msgspec.NODEFAULT


def _view(view: View, others: Mapping[str, View]) -> dict[str, object]:
    if view.function is not None:
        raise ValueError(f"view {view.name!r} is computed in Python, which has no twin")
    fields: dict[str, object] = {"name": view.name, **_fields(view, "description")}
    fields["entity"] = view.entity
    if view.source is not None:
        fields["source"] = view.source
    if view.inputs:
        fields["inputs"] = {item.alias: _input(item) for item in view.inputs}
    fields |= _fields(view, *_SETTINGS)
    if view.sql is not None:
        fields["sql"] = view.sql
    fields["features"] = {attribute: _feature(member, others) for attribute, member in view.members.items()}
    if view.checks:
        fields["checks"] = [_check(item) for item in view.checks]
    return fields


def _input(item: Input) -> object:
    window = {"window": item.window} if item.window is not None else {}
    history = {"history": True} if item.history else {}
    return {item.kind: item.name, **window, **history}


def _feature(member: Member, others: Mapping[str, View]) -> dict[str, object]:
    common = _fields(member, "name", "description", "pii")
    match member:
        case Expression():
            using = {name: _reference(item, others) for name, item in member.features.items()}
            return {"expr": member.sql, **({"using": using} if using else {}), **common}
        case Field():
            return {**({"type": member.type} if member.type is not None else {}), **common}
        case Aggregation():
            return {**_aggregation(member), **common}


def _aggregation(member: Aggregation) -> dict[str, object]:
    parameters = inspect.signature(getattr(agg, member.function)).parameters
    limit = next((name for name in ("k", "max_values", "max_categories") if name in parameters), None)
    renamed = {"argument": "of", "limit": limit or "limit", "edges": "edges", "fill_value": "fill"}
    fields = _fields(member, "argument", "where", "by", "order_by", "limit", "edges", "percentile", "half_life")
    fields = {renamed.get(name, name): list(value) if isinstance(value, tuple) else value for name, value in fields.items()}
    result: dict[str, object] = {"agg": member.function, **fields, "over": list(member.windows)}
    if member.offset is not None:
        result["offset"] = member.offset
    if member.fill_value is not None:
        result["fill"] = member.fill_value
    return result


def _reference(name: FeatureName, others: Mapping[str, View]) -> object:
    """Return a reference to one feature: ``view:feature``, or a mapping where the view has an alias."""
    attribute = name.attribute or ""
    view = others.get(name.view)
    made = feature_names(attribute, view.members[attribute]) if view is not None and attribute in view.members else {}
    text = f"{name.view}:{made.get(name.window, attribute + (f'_{name.window}' if name.window else ''))}"
    return text if name.alias is None else {"feature": text, "as": name.alias, "keys": dict(name.join_keys)}


def _check(item: Check) -> dict[str, object]:
    fields: dict[str, object] = {}
    if item.kind == "unique":
        fields["columns"] = list(item.columns)
    elif item.columns:
        fields["column"] = item.columns[0]
    if item.minimum is not None:
        fields["min"] = item.minimum
    if item.maximum is not None:
        fields["max"] = item.maximum
    if item.kind == "one_of":
        fields["values"] = list(item.values)
    if item.severity != "error":
        fields["severity"] = item.severity
    return {item.kind: fields}
