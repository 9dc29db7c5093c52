"""A part of a view's windows: what one set of tiles gives, computed by itself and joined to the rest.

Also says what a feature is where its part has nothing.
"""

from __future__ import annotations

import msgspec

from fstore.definitions.aggregation import COUNTS
from fstore.plan.audits import sql_literal
from fstore.plan.inference import typed
from fstore.plan.steps import TileSet
from fstore.plan.window_features import WindowFeature


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """The features that read one set of tiles.

    ``range`` and ``single`` are queries over the relation of ``tiles`` and ``intervals``. They give the keys as ``k0``,
    ``k1``, …, ``interval_end`` and :func:`raw_column` of each feature, at most one row per key and interval. A feature
    without a row, and one that is null, is over nothing.
    """

    tiles: TileSet
    range: str
    single: str


def raw_column(feature: WindowFeature) -> str:
    """Return the name, quoted, of the column that holds a feature's value before what nothing becomes is decided."""
    return '"raw ' + feature.name.replace('"', '""') + '"'


def value_over_nothing(feature: WindowFeature) -> str:
    """Return the SQL of what a feature is over nothing, without its type."""
    if feature.function in COUNTS and feature.by is None:
        return "0"
    if feature.function == "histogram":
        return f"[{', '.join('0' for _ in range(len(feature.edges) + 1))}]"
    return sql_literal(feature.fill)


def final_value(feature: WindowFeature) -> str:
    """Return the SQL of a feature's value, from its raw column."""
    nothing = value_over_nothing(feature)
    value = typed(raw_column(feature), feature.type)
    return value if nothing == "NULL" else f"coalesce({value}, {typed(nothing, feature.type)})"
