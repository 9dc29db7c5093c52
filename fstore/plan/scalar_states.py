"""The aggregates whose windows are made of a fixed number of mergeable columns: their states, slides and values.

Takes one feature and a draft of tiles, and gives the slides that it needs with the spans to slide over, and the SQL of its
value over them. What splits the events of a key (``by``, distinct values, sketches) is elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import NamedTuple

from fstore.definitions.aggregation import Function
from fstore.plan.decay import decayed_slides
from fstore.plan.inference import sql_type
from fstore.plan.moments import moments_slide, moments_value
from fstore.plan.ordered_lists import list_slides, list_value
from fstore.plan.outermost import outermost_slide
from fstore.plan.slides import Slide
from fstore.plan.steps import TileState
from fstore.plan.tile_states import TileDraft
from fstore.plan.window_features import Span, WindowFeature
from fstore.types import parse_type


class Recipe(NamedTuple):
    """What a feature is made of: slides, and its value given the columns that hold them over its window.

    ``span`` is a shorter one than the feature's, where that gives the same; counters slide over the feature's all the same.
    """

    slides: tuple[Slide, ...]
    value: Callable[..., str]
    span: Span | None = None


def recipe(draft: TileDraft, feature: WindowFeature) -> Recipe:
    """Return what a feature is made of. Its value is null over nothing, but for counts of slides."""
    return _RECIPES[feature.function](draft, feature)


def presence(draft: TileDraft) -> Slide:
    """Return the slide that counts all events."""
    return _counter(draft.all_events())


def condition(feature: WindowFeature, *more: str) -> str:
    """Return the FILTER of the events that a feature counts."""
    counted = _counted(feature, *more)
    return f" FILTER ({counted})" if counted else ""


def _counted(feature: WindowFeature, *more: str) -> str:
    return " AND ".join([*([] if feature.where is None else [f"({feature.where})"]), *more])


def known(feature: WindowFeature) -> str:
    """Return the condition that the argument is not null."""
    return f"({feature.argument}) IS NOT NULL"


def _counter(state: TileState) -> Slide:
    return Slide(
        name=state.name, tile=state, merge=f"sum({state.name}){{filter}}", over=f"sum({state.name}) {{over}}", counter=True
    )


def _count(draft: TileDraft, feature: WindowFeature) -> Recipe:
    return Recipe((_counter(_count_state(draft, feature)),), lambda count: f"CAST({count} AS BIGINT)")


def _count_state(draft: TileDraft, feature: WindowFeature) -> TileState:
    argument = feature.argument
    return draft.state("count", argument, feature.where, aggregate=f"count({argument or '*'}){condition(feature)}",
                       merge="sum({0})", type="BIGINT", columns=feature.columns)  # fmt: skip


def _simple(function: str, type: str) -> Callable[[TileDraft, WindowFeature], Recipe]:
    """Return the recipe of an aggregate that merges by itself."""

    def make(draft: TileDraft, feature: WindowFeature) -> Recipe:
        return Recipe((_plain(draft, feature, function, type),), lambda value: value)

    return make


def _plain(draft: TileDraft, feature: WindowFeature, function: str, type: str) -> Slide:
    state = draft.state(
        function, feature.argument, feature.where, aggregate=f"{function}({feature.argument}){condition(feature)}",
        merge=f"{function}({{0}})", type=type or _argument_type(feature), columns=feature.columns,
    )  # fmt: skip
    return Slide(
        name=state.name, tile=state, merge=f"{function}({state.name}){{filter}}", over=f"{function}({state.name}) {{over}}"
    )


def _argument_type(feature: WindowFeature) -> str:
    """Return the type of an argument in SQL, nothing where it is unknown."""
    return "" if feature.argument_type is None else sql_type(parse_type(feature.argument_type))


def _sum_slide(draft: TileDraft, feature: WindowFeature) -> Slide:
    of = None if feature.argument_type is None else parse_type(feature.argument_type)
    if of is None:
        return _plain(draft, feature, "sum", "")
    if of.is_float:
        return _plain(draft, feature, "sum", "DOUBLE")
    return _plain(draft, feature, "sum", f"DECIMAL(38,{of.scale})")


def _sum(draft: TileDraft, feature: WindowFeature) -> Recipe:
    return Recipe((_sum_slide(draft, feature),), lambda total: total)


def _avg(draft: TileDraft, feature: WindowFeature) -> Recipe:
    slides = (_sum_slide(draft, feature), _counter(_count_state(draft, feature)))
    return Recipe(slides, lambda total, count: f"CAST({total} AS DOUBLE) / nullif({count}, 0)")


def _outermost(draft: TileDraft, feature: WindowFeature) -> Recipe:
    slide = outermost_slide(draft, feature, condition(feature), condition(feature, known(feature)))
    return Recipe((slide,), lambda value: value)


def _list(draft: TileDraft, feature: WindowFeature) -> Recipe:
    return Recipe(list_slides(draft, feature, _counted(feature, known(feature))), list_value(feature))


def _moments(draft: TileDraft, feature: WindowFeature) -> Recipe:
    return Recipe((moments_slide(draft, feature, condition(feature)),), moments_value(feature))


def _histogram(draft: TileDraft, feature: WindowFeature) -> Recipe:
    """Return the recipe of counts per bucket, which a tile holds as a list."""
    number, edges = f"CAST({feature.argument} AS DOUBLE)", [f"CAST({edge!r} AS DOUBLE)" for edge in feature.edges]
    inside = [
        f"{number} < {edges[0]}",
        *(f"{number} >= {low} AND {number} < {high}" for low, high in pairwise(edges)),
        f"{number} >= {edges[-1]}",
    ]
    counts = ", ".join(f"count(*){condition(feature, bucket)}" for bucket in inside)
    merged = ", ".join(f"sum({{0}}[{index}])" for index in range(1, len(inside) + 1))
    state = draft.state(
        "histogram", feature.argument, feature.where, list(feature.edges), aggregate=f"[{counts}]", merge=f"[{merged}]",
        type="BIGINT[]", columns=feature.columns,
    )  # fmt: skip
    slides = tuple(
        Slide(
            name=f"{state.name}_{index}",
            tile=state,
            merge=f"sum({state.name}[{index}]){{filter}}",
            over=f"sum({state.name}_{index}) {{over}}",
            counter=True,
        )
        for index in range(1, len(inside) + 1)
    )
    return Recipe(slides, lambda *counts: f"[{', '.join(f'coalesce({count}, 0)' for count in counts)}]")


def _decayed(draft: TileDraft, feature: WindowFeature) -> Recipe:
    made = decayed_slides(draft, feature, condition(feature))
    if made.span == feature.span:
        return Recipe(made.slides, made.value)
    return Recipe((*made.slides, _counter(_count_state(draft, feature))), made.value, made.span)


_RECIPES: Mapping[Function, Callable[[TileDraft, WindowFeature], Recipe]] = {
    "count": _count,
    "sum": _sum,
    "avg": _avg,
    "min": _simple("min", ""),
    "max": _simple("max", ""),
    "first": _outermost,
    "last": _outermost,
    "first_k": _list,
    "last_k": _list,
    "variance": _moments,
    "stddev": _moments,
    "skew": _moments,
    "histogram": _histogram,
    "decayed_sum": _decayed,
}
