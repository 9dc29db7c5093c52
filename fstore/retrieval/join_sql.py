"""Pieces of SQL that all joins with published rows share: their payload, their keys, and the names of their values.

A join sees the published rows as ``p`` and the entity rows as ``s``; feature n is ``_value<n>``, which no key can be called,
and key n of ``s`` is ``key<n>``.
"""

from __future__ import annotations

from collections.abc import Sequence

from fstore.plan.steps import EVENT_TIMESTAMP, Feature, Step
from fstore.types import parse_type


def value_names(features: Sequence[Feature]) -> list[str]:
    """Return what a join calls the features."""
    return [f"_value{index}" for index in range(len(features))]


def payload_sql(step: Step, features: Sequence[Feature]) -> str:
    """Return the SELECT of what a join carries: keys, time, and feature n as ``_value<n>``."""
    keys = [f"p.{quoted(key.name)}" for key in step.keys]
    names = zip(value_names(features), features, strict=True)
    values = [f"{_joinable(f'p.{quoted(feature.name)}', feature)} AS {name}" for name, feature in names]
    return "SELECT " + ", ".join([*keys, f"p.{EVENT_TIMESTAMP}", *values])


def same_key_sql(step: Step) -> str:
    """Return the condition that a published row is of the entity row's key."""
    return " AND ".join(f"p.{quoted(key.name)} = s.key{index}" for index, key in enumerate(step.keys))


def quoted(name: str) -> str:
    """Return an identifier in double quotes."""
    return '"' + name.replace('"', '""') + '"'


def _joinable(value: str, feature: Feature) -> str:
    """Return a value as a join may carry it: vectors as lists.

    A left join of DuckDB 2.0 reads lengths from memory that was never set where an array in its payload is null.
    """
    kind = parse_type(feature.type or "")
    if kind.name != "vector":
        return value
    return f"CAST({value} AS {'FLOAT' if str(kind.item) == 'float32' else 'DOUBLE'}[])"
