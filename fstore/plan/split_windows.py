"""Windowed aggregates that split the events of a key: maps by category, distinct values, sketches.

Says by what the tiles of a feature are split, and compiles the features that share a split. The SQL is that of the families:
:mod:`fstore.plan.distinct`, :mod:`fstore.plan.categories`, :mod:`fstore.plan.percentiles`.
"""

from __future__ import annotations

from collections.abc import Sequence

from fstore.plan.categories import Gathered
from fstore.plan.distinct import DistinctCounts
from fstore.plan.parts import Part
from fstore.plan.percentiles import Percentiles
from fstore.plan.sketches import bucket_sql, coupon_sql
from fstore.plan.sub_keys import SubQueries, own_names, side_by_side
from fstore.plan.tile_states import TileDraft
from fstore.plan.window_features import WindowFeature
from fstore.types import parse_type


def split_of(feature: WindowFeature) -> str | None:
    """Return the SQL scalar that splits the tiles of a feature; None for one over whole keys."""
    if feature.by is not None:
        return _category(feature.by)
    argument = _one_value(feature)
    match feature.function:
        case "count_distinct" | "top_k" | "distinct":
            return argument
        case "approx_count_distinct":
            return coupon_sql(argument)
        case "approx_percentile":
            return bucket_sql(argument)
        case _:
            return None


def split_is_known(feature: WindowFeature) -> str:
    """Return the condition that the SQL scalar which splits a feature's tiles is not null: what it is made of is not."""
    return f"({feature.argument if feature.by is None else feature.by}) IS NOT NULL"


def compile_split(features: Sequence[WindowFeature], draft: TileDraft, relation: str, whole: str) -> Part:
    """Compile the features that share a split, over their tiles ``relation`` and ``whole``, the tiles of whole keys."""
    distinct = [feature for feature in features if feature.function in ("count_distinct", "approx_count_distinct")]
    percentiles = [feature for feature in features if feature.function == "approx_percentile"]
    gathered = [feature for feature in features if feature not in distinct and feature not in percentiles]
    families: list[SubQueries] = []
    if distinct:
        families.append(DistinctCounts(distinct, draft).compile())
    if gathered:
        families.append(Gathered(gathered, draft).compile())
    if percentiles:
        families.append(Percentiles(percentiles, draft).compile())
    states = [draft.all_events(), *(state for family in families for state in family.states)]
    return Part(
        tiles=draft.tile_set(relation, states, [feature.span for feature in features]),
        range=own_names(draft, relation, whole, states, side_by_side(draft, [family.range for family in families])),
        single=own_names(draft, relation, whole, states, side_by_side(draft, [family.single for family in families])),
    )


def _one_value(feature: WindowFeature) -> str:
    """Return an argument in which equal values are the same: zero has no sign, and NaN no bits of its own."""
    argument = f"({feature.argument})"
    if feature.argument_type is None or not parse_type(feature.argument_type).is_float:
        return argument
    number = "FLOAT" if feature.argument_type == "float32" else "DOUBLE"
    return f"CASE WHEN isnan({argument}) THEN CAST('NaN' AS {number}) ELSE {argument} + CAST(0 AS {number}) END"


def _category(by: str) -> str:
    """Return a category as text; of floats, equal ones are the same."""
    text = f"CAST(({by}) AS VARCHAR)"
    signed = f"typeof({by}) IN ('FLOAT', 'DOUBLE') AND {text} IN ('-0.0', '-nan')"
    return f"CASE WHEN {signed} THEN substr({text}, 2) ELSE {text} END"
