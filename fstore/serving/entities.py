"""Entities that came as JSON, with the types that JSON has no form of its own for.

Takes columns of JSON values, the types that the request names, and those that the registry declares for join keys and
request values; gives an Arrow table as a Python caller would have brought it. A column without either is what its values
are, by the same rules as for lists in Python.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import pyarrow as pa

from fstore.errors import EntityColumnError, RequestInvalid, did_you_mean, listing
from fstore.retrieval.entity_rows import read_entity_rows
from fstore.retrieval.uneven_rows import mark_lacking
from fstore.serving.json_values import decode_column, json_type
from fstore.serving.requests import Entities
from fstore.types import parse_type

_AS_TEXT = ("date", "timestamp", "decimal", "binary", "int64", "uint64", "float32", "float64")
"""Types whose values JSON may hold as text."""
_NESTED = ("list", "vector", "map")


def typed_table(
    entities: Entities,
    types: Mapping[str, str],
    declared: Mapping[str, str],
    request: Mapping[str, Sequence[object]] | None = None,
) -> pa.Table:
    """Return entities and request values as one table.

    Raises RequestInvalid for a value that is none of its type in ``types``, EntityColumnError for one that is none of its
    declared type, and for columns that differ in length.
    """
    columns: dict[str, Sequence[object]] = dict(by_column(entities))
    if taken := [name for name in request or () if name in columns]:
        raise EntityColumnError(f"the request has {listing(taken)}, and so have the entities: give a value once")
    columns |= request or {}
    if unknown := [name for name in types if name not in columns]:
        raise RequestInvalid(
            f"types names {listing(unknown)}, and there is no such column; there are {listing(columns)}."
            f"{did_you_mean(unknown[0], columns)}"
        )
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise EntityColumnError(f"the entity columns differ in length: {lengths}")
    table = pa.table({name: _column(name, values, types, declared) for name, values in columns.items()})
    return table if isinstance(entities, dict) else mark_lacking(table, entities)


def needs_types(columns: Mapping[str, Sequence[object]], declared: Mapping[str, str]) -> bool:
    """Whether a column has values in another form than Python would have them in for the declared type."""
    return any(name in columns and _as_declared(columns[name], kind) for name, kind in declared.items())


def json_types(columns: Mapping[str, Sequence[object]] | pa.Table) -> dict[str, str]:
    """Return the logical types of entity columns, for the answer in JSON. Raises NotAcceptable."""
    if isinstance(columns, pa.Table):
        return {field.name: json_type(field.type, field.name) for field in columns.schema}
    return {name: _list_type(values, name) for name, values in columns.items()}


def _list_type(values: Sequence[object], name: str) -> str:
    """Return the type that a list from JSON has as a column."""
    kinds = set(map(type, values))
    if kinds == {str}:
        return "string"
    return json_type(read_entity_rows({name: values})[name].type, name)


def _as_declared(values: Sequence[object], declared: str) -> bool:
    """Whether values that came as JSON stand for those of a declared type in another form."""
    always, as_text = _other_forms(declared)
    return always or (as_text and any(isinstance(value, str) for value in values))


@lru_cache(maxsize=1024)
def _other_forms(declared: str) -> tuple[bool, bool]:
    """Return whether JSON always has another form for values of a type, and whether it may have text."""
    name = parse_type(declared).name
    return name in _NESTED, name in _AS_TEXT


def by_column(entities: Entities) -> dict[str, list[Any]]:
    """Return entities as lists by column; what an entity does not have is null, which :func:`typed_table` tells apart."""
    if isinstance(entities, dict):
        return entities
    names = dict.fromkeys(name for row in entities for name in row)
    return {name: [row.get(name) for row in entities] for name in names}


def _column(
    name: str, values: Sequence[object], types: Mapping[str, str], declared: Mapping[str, str]
) -> pa.Array | pa.ChunkedArray:
    if name in types:
        return decode_column(values, types[name], name)
    if name in declared and _as_declared(values, declared[name]):
        try:
            return decode_column(values, declared[name], name)
        except RequestInvalid as error:
            raise EntityColumnError(f"{error}. It is declared as {declared[name]}.") from None
    return read_entity_rows({name: values})[name]
