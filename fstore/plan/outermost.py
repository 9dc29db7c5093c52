"""The oldest and the newest value of a window: ``first`` and ``last``.

Each tile keeps its outermost value. Tiles follow each other in time, so that only making them has to look at times and ties.
"""

from __future__ import annotations

from fstore.plan.inference import sql_type
from fstore.plan.slides import Slide
from fstore.plan.tile_states import TileDraft
from fstore.plan.window_features import WindowFeature
from fstore.types import parse_type


def outermost_slide(draft: TileDraft, feature: WindowFeature, condition: str, known: str) -> Slide:
    """Return the slide of the first or last value.

    ``condition`` is the FILTER of the events that the feature looks at, ``known`` of those that have a value besides.
    """
    farthest = "arg_max" if feature.function == "last" else "arg_min"
    state = draft.state(
        feature.function, feature.argument, feature.where, feature.order_by,
        aggregate=_kept(draft, feature, condition, known), merge=f"{farthest}({{0}}, tile_start)",
        type="" if feature.argument_type is None else sql_type(parse_type(feature.argument_type)), columns=feature.columns,
    )  # fmt: skip
    name = state.name
    over = f"{feature.function}_value({name} IGNORE NULLS) {{over}}"
    joined = f"{farthest}({name}, segment) {{over}}"
    return Slide(name=name, tile=state, merge=f"{farthest}({name}, tile_start){{filter}}", over=over, joined=joined)


def _kept(draft: TileDraft, feature: WindowFeature, condition: str, known: str) -> str:
    """Return the aggregate of the outermost value.

    Ties of time go to ``order_by`` (a null one loses), then to the greatest value. Where a value has a rank among whole
    numbers, time and rank are compared as one 128-bit integer, which takes half the time that structs take. DuckDB's
    ``arg_max`` and ``arg_min`` skip nulls by themselves, which costs less than a FILTER.
    """
    newest, argument, rank = feature.function == "last", f"({feature.argument})", rank_of(feature)
    at = draft.instant if newest else f"-{draft.instant}"
    if feature.order_by is not None:
        order = f"{feature.order_by}, '{'ASC' if newest else 'DESC'} NULLS FIRST'"
        key = f"create_sort_key({at}, 'ASC NULLS FIRST', {order}, {argument}, 'ASC NULLS FIRST')"
        return f"arg_max({argument}, {key}){condition}"
    if rank is None:
        return f"struct_extract(max(struct_pack(\"at\" := {at}, v := {argument})){known}, 'v')"
    # The same time and rank for both, which DuckDB then works out once.
    key = f"CAST({draft.instant} AS HUGEINT) * {2**64}"
    return f"arg_max({argument}, {key} + {rank}){condition}" if newest else f"arg_min({argument}, {key} - {rank}){condition}"


def rank_of(feature: WindowFeature) -> str | None:
    """Return a whole number of 64 bits that orders values as they are ordered; None where there is none.

    There is no CASE in it: DuckDB works a CASE out anew for each aggregate that reads it.
    """
    kind = None if feature.argument_type is None else parse_type(feature.argument_type)
    argument = f"({feature.argument})"
    if kind is not None and kind.is_float:
        # NaN is the greatest whatever its bits: of those that compare as equal, ``least`` gives the first.
        bits = f"CAST(CAST(least(CAST('NaN' AS DOUBLE), CAST({argument} AS DOUBLE)) AS BIT) AS BIGINT)"
        # Of negative numbers the greater has the smaller bits behind the sign.
        return f"xor({bits}, ({bits} >> 63) & {2**63 - 1})"
    if kind is not None and ((kind.is_integer and kind.name != "uint64") or kind.name == "bool"):
        return f"CAST({argument} AS BIGINT)"
    return None
