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
    offset = feature.offset // MICROSECOND
    if offset >= HALF_LIVES * half_life:
        return Decayed((), lambda count: f"CASE WHEN {count} > 0 THEN CAST(0 AS DOUBLE) END", None)
    block = -(-HALF_LIVES * half_life // length) * length
    age = f"({TILE_TO} - {draft.instant})"
    later = f"({TILE_TO} - epoch_us(event_timestamp))"
    state = draft.state(
        "decayed", feature.argument, feature.where, half_life,
        aggregate=f"sum(CAST({feature.argument} AS DOUBLE) * {_weight(age, half_life)}){condition}",
        merge=f"sum({{0}} * {_weight(later, half_life)})", type="DOUBLE", columns=feature.columns,
    )  # fmt: skip
    into, number = _place(f"(epoch_us(event_timestamp) - {length})", block)
    _, newest = _place(f"({{until}} - {length})", block)
    _, oldest = _place("{since}", block)
    slides = tuple(
        Slide(
            name=f"{state.name}_{parity}",
            tile=state,
            merge=f"sum(CASE WHEN {number} & 1 = {bit} THEN {state.name} * pow(2.0, {into} / {half_life}.0) END){{filter}}",
            over=f"sum({state.name}_{parity}) {{over}}",
            where=f"{newest} & 1 = {bit} OR {oldest} <> {newest}",
        )
        for bit, parity in enumerate(("even", "odd"))
    )
    weighty = block - offset  # ages count from the interval's end
    shorter = feature.window is not None and feature.window // MICROSECOND <= weighty
    span = feature.span if shorter else Span(window=weighty * MICROSECOND, offset=feature.offset)
    return Decayed(slides, _value(feature, half_life, length, block), span)


def _place(instant: str, block: int) -> tuple[str, str]:
    """Return how far an instant lies in its block, and the block's number."""
    into = f"(({instant} % {block} + {block}) % {block})"
    return into, f"(({instant} - {into}) // {block})"


def _weight(age: str, half_life: int) -> str:
    return f"CASE WHEN {age} > {HALF_LIVES * half_life} THEN 0 ELSE pow(2.0, -{age} / {half_life}.0) END"


def _value(feature: WindowFeature, half_life: int, length: int, block: int) -> Callable[..., str]:
    into, number = _place(f"(epoch_us(interval_end) - {feature.offset // MICROSECOND + length})", block)
    # From the end of the first tile of the newest tile's block, and of the one before, to the interval's end.
    here = f"({into} + {feature.offset // MICROSECOND})"

    def value(even: str, odd: str, count: str | None = None) -> str:
        weighed = [
            f"{column} * pow(2.0, -({here} + CASE WHEN {number} & 1 = {bit} THEN 0 ELSE {block} END) / {half_life}.0)"
            for bit, column in enumerate((even, odd))
        ]
        known = f"{even} IS NOT NULL OR {odd} IS NOT NULL" if count is None else f"{count} > 0"
        return f"CASE WHEN {known} THEN coalesce({weighed[0]}, 0) + coalesce({weighed[1]}, 0) END"

    return value
