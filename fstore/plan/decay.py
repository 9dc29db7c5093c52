"""Sums that forget: ``decayed_sum`` over sliding windows.

Each tile keeps the sum of its values as they weigh at the tile's end. To add tiles up, all have to be weighed at one
instant: time is cut into blocks of about 500 half-lives, within which weights are powers of two that a float64 holds
without loss, and tiles are weighed at the beginning of their block. What is older weighs nothing, so a window reaches over
two blocks at most: those of even and of odd number are summed apart, and the value at an interval's end is made of both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from fstore.interval import MICROSECOND
from fstore.plan.slides import Slide
from fstore.plan.tile_states import TILE_TO, TileDraft
from fstore.plan.window_features import Span, WindowFeature

HALF_LIVES = 500
"""The age, in half-lives, beyond which a value weighs nothing."""

_LONGEST = 2**60
"""The longest block in microseconds, 36,000 years: four of them fit into 64 bits, and all events into two."""


class Decayed(NamedTuple):
    """The slides of a decayed sum, its value over them, and the span that they slide over.

    Where that is shorter than the window, the value needs the number of values in the window besides. There are no slides
    and no span where the whole window is so long ago that nothing in it weighs anything.
    """

    slides: tuple[Slide, ...]
    value: Callable[..., str]
    span: Span | None


def decayed_slides(draft: TileDraft, feature: WindowFeature, condition: str) -> Decayed:
    """Return what a decayed sum is made of. ``condition`` is the FILTER of the events that count."""
    half_life = (feature.half_life or MICROSECOND) // MICROSECOND
    length = draft.length // MICROSECOND
    longest = max(draft.length, draft.coarse or draft.length) // MICROSECOND
    offset = feature.offset // MICROSECOND
    if offset >= HALF_LIVES * half_life:
        return Decayed((), lambda count: f"CASE WHEN {count} > 0 THEN CAST(0 AS DOUBLE) END", None)
    block = min(-(-HALF_LIVES * half_life // length), _LONGEST // length) * length
    age = f"({TILE_TO} - {draft.instant})"
    later = f"({TILE_TO} - epoch_us(event_timestamp))"
    state = draft.state(
        "decayed", feature.argument, feature.where, half_life,
        aggregate=f"sum(CAST({feature.argument} AS DOUBLE) * {_weight(age, half_life, longest)}){condition}",
        merge=f"sum({{0}} * {_weight(later, half_life, longest)})", type="DOUBLE", columns=feature.columns,
    )  # fmt: skip
    start = f"(epoch_us(event_timestamp) - {length})"
    into, into_two = _into(start, block), _into(start, 2 * block)
    newest, oldest = f"({{until}} - {length})", "{since}"
    weighed = f"{state.name} * pow(2.0, {into} / {half_life}.0)"
    slides = tuple(
        Slide(
            name=f"{state.name}_{parity}",
            tile=state,
            merge=f"sum({weighed} * CASE WHEN {into_two} {side} {block} THEN 1 END){{filter}}",
            over=f"sum({state.name}_{parity}) {{over}}",
            where=f"{_into(newest, 2 * block)} {side} {block} OR {_into(oldest, 2 * block)} {side} {block}",
        )
        for parity, side in (("even", "<"), ("odd", ">="))
    )
    weighty = block - offset  # ages count from the interval's end
    shorter = feature.window is not None and feature.window // MICROSECOND <= weighty
    span = feature.span if shorter else Span(window=weighty * MICROSECOND, offset=feature.offset)
    return Decayed(slides, _value(feature, half_life, length, block), span)


def _into(instant: str, block: int) -> str:
    """Return how far an instant lies in its block."""
    return f"(({instant} % {block} + {block}) % {block})"


def _weight(age: str, half_life: int, longest: int) -> str:
    """Return the weight of a value at its tile's end, at most ``longest`` later."""
    weight = f"pow(2.0, -{age} / {half_life}.0)"
    return (
        weight
        if longest <= HALF_LIVES * half_life
        else f"CASE WHEN {age} > {HALF_LIVES * half_life} THEN 0 ELSE {weight} END"
    )


def _value(feature: WindowFeature, half_life: int, length: int, block: int) -> Callable[..., str]:
    offset = feature.offset // MICROSECOND
    newest = f"(epoch_us(interval_end) - {offset + length})"
    # From the end of the first tile of the newest tile's block to the interval's end; the other block is the one before.
    here = f"({_into(newest, block)} + {offset})"
    odd_is_newest = f"({_into(newest, 2 * block)} // {block})"
    ages = [f"({here} + {block} * {odd_is_newest})", f"({here} + {block} * (1 - {odd_is_newest}))"]
    weights = [f"pow(2.0, -{age} / {half_life}.0)" for age in ages]

    def value(even: str, odd: str, count: str | None = None) -> str:
        # Without a CASE around the weights, so that DuckDB works them out once for all features.
        weighed = [f"({column} * {weight})" for column, weight in zip((even, odd), weights, strict=True)]
        if count is not None:
            return f"coalesce({weighed[0]}, 0) + coalesce({weighed[1]}, 0) + CASE WHEN {count} > 0 THEN 0 END"
        return f"coalesce({' + '.join(weighed)}, {', '.join(weighed)})"

    return value
