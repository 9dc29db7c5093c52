"""Sums that forget: ``decayed_sum`` over sliding windows.

Each tile keeps the sum of its values as they weigh at the tile's end. To add tiles up, all have to be weighed at one
instant: the end of the first interval that is asked for. A float64 holds such weights without loss for about 500 half-lives
on either side; what is older weighs nothing. Later tiles are weighed from instants at distances of 500 half-lives, so that a
window reaches over two blocks of time at most: those of even and of odd number are summed apart. There is nothing in an odd
block unless the intervals of a query are farther apart than 500 half-lives.
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
    end, first = "epoch_us(event_timestamp)", "first_end"
    number = _block_of(end, first, block)
    weighed = f"{state.name} * pow(2.0, ({end} - {first} - {number} * {block}) / {half_life}.0)"
    slides = tuple(
        Slide(
            name=f"{state.name}_{name}",
            tile=state,
            merge=f"sum({weighed} * CASE WHEN {number} % 2 = {parity} THEN 1 END){{filter}}",
            over=f"sum({state.name}_{name}) {{over}}",
            where=f"{{until}} > {{first}} + {block}" if parity else "",
            weight=_weight_at_end(offset, half_life, block, parity),
        )
        for parity, name in enumerate(("even", "odd"))
    )
    weighty = block - offset  # ages count from the interval's end
    shorter = feature.window is not None and feature.window // MICROSECOND <= weighty
    span = feature.span if shorter else Span(window=weighty * MICROSECOND, offset=feature.offset)
    return Decayed(slides, _value, span)


def _block_of(instant: str, first: str, block: int) -> str:
    """Return the number of the block in which a tile ends: 0 until a block's length after the first interval's end."""
    return f"greatest(0, ({instant} - {first} - 1) // {block})"


def _weight_at_end(offset: int, half_life: int, block: int, parity: int) -> str:
    """Return how much the sum over blocks of a parity weighs at an interval's end: the newest such block counts."""
    newest = _block_of(f"({{end}} - {offset})" if offset else "{end}", "{first}", block)
    number = f"{newest} // 2 * 2" if parity == 0 else f"(({newest} + 1) // 2 * 2 - 1)"
    return f"pow(2.0, -({{end}} - {{first}} - {number} * {block}) / {half_life}.0)"


def _weight(age: str, half_life: int, longest: int) -> str:
    """Return the weight of a value at its tile's end, at most ``longest`` later."""
    weight = f"pow(2.0, -{age} / {half_life}.0)"
    return (
        weight
        if longest <= HALF_LIVES * half_life
        else f"CASE WHEN {age} > {HALF_LIVES * half_life} THEN 0 ELSE {weight} END"
    )


def _value(even: str, odd: str, count: str | None = None) -> str:
    if count is not None:
        return f"coalesce({even}, 0) + coalesce({odd}, 0) + CASE WHEN {count} > 0 THEN 0 END"
    return f"coalesce({even} + {odd}, {even}, {odd})"
