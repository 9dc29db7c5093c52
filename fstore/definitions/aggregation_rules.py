"""Checks of windowed aggregates: the function, what it takes, its windows and its fill.

Takes an aggregate with any values in its fields, from Python or from a twin. SQL texts are not parsed here: the compiler
does that, because it knows the columns.
"""

from __future__ import annotations

import math
from datetime import timedelta
from itertools import pairwise

from fstore.definitions.aggregation import COUNTS, FUNCTIONS, LIFETIME, MAPPABLE, Aggregation, Function
from fstore.definitions.problems import Reporter
from fstore.definitions.validation import is_finite_constant, kind_of, read_duration, read_text, read_window, report_unknown
from fstore.errors import listing

ORDERED: tuple[Function, ...] = ("first", "last", "first_k", "last_k")
"""The functions that ``order_by`` has a meaning for."""

LISTS: tuple[Function, ...] = ("first_k", "last_k", "top_k", "distinct", "histogram")
"""The functions that give a list."""

NUMBERS: tuple[Function, ...] = ("sum", "avg", "stddev", "variance", "skew", "approx_percentile", "decayed_sum")
"""The functions that give a number, whatever they take; counts are numbers too, but never null."""

MOST_VALUES = 1_000
"""The largest k of a list, and the most categories of a map."""

MOST_DISTINCT = 10_000
"""The largest cap of a list of distinct values."""

MOST_EDGES = 1_000

_LIMITS: dict[Function, tuple[str, int]] = {
    "first_k": ("k", MOST_VALUES),
    "last_k": ("k", MOST_VALUES),
    "top_k": ("k", MOST_VALUES),
    "distinct": ("max_values", MOST_DISTINCT),
}
"""What ``limit`` is called by a function, and how large it may be."""


def check_aggregation(report: Reporter, member: Aggregation, *, aggregates: bool | None) -> None:
    """Check an aggregate; ``aggregates`` says whether its view has an event source (None: it does not say)."""
    if aggregates is False:
        report.add(
            f"is an agg.{member.function}(…) in a view without a source.",
            "Give the view a source instead of inputs, or compute the feature in its SQL or Python.",
        )
    if member.function not in FUNCTIONS:
        report_unknown(report, "uses function", str(member.function), FUNCTIONS)
    if member.argument is not None or member.function != "count":
        read_text(report, f"argument of agg.{member.function}", member.argument, example='"amount"')
    if member.where is not None:
        read_text(report, "where", member.where, example='"amount > 0"')
    _check_windows(report, member)
    _check_order(report, member)
    _check_categories(report, member)
    _check_limit(report, member)
    _check_parameters(report, member)
    if member.fill_value is not None:
        _check_fill(report, member)


def _check_windows(report: Reporter, member: Aggregation) -> None:
    if not member.windows:
        report.add("has no windows.", 'Add .over("7d"), with one or more durations.')
    seen: dict[timedelta | str, str] = {}
    for text in member.windows:
        window = LIFETIME if text == LIFETIME else _read_window(report, text)
        if window is None:
            continue
        if window in seen:
            same = f"{text!r} twice" if seen[window] == text else f"{seen[window]!r} and {text!r}, which are the same"
            report.add(f"has windows {same}.", "Remove one.")
        seen[window] = text
    if member.offset is not None:
        _check_offset(report, member.offset)


def _read_window(report: Reporter, value: object) -> timedelta | None:
    if isinstance(value, list | tuple):
        report.add(f'has a wrong window: expected a text such as "7d", got {kind_of(value)}.', 'Write .over("7d", "30d").')
        return None
    if isinstance(value, str) and value.strip().lower() == LIFETIME:
        report.add(f"has a wrong window: {value!r} is not a duration.", f"Did you mean {LIFETIME!r}?")
        return None
    return read_window(report, value)


def _check_offset(report: Reporter, offset: object) -> None:
    """Check how far the windows are moved back, whose text is part of the features' names."""
    if offset == LIFETIME:
        report.add(f"has a wrong offset: {LIFETIME!r} is a window.", 'Move windows back by a duration, such as "7d".')
    elif isinstance(offset, str) and offset != offset.strip():
        report.add(f"has a wrong offset: {offset!r} begins or ends with a space.")
    elif read_duration(report, "offset", offset, positive=False) == timedelta():
        report.add(f"has a wrong offset: {offset!r} moves nothing.", "Leave it out.")


def _check_order(report: Reporter, member: Aggregation) -> None:
    if member.order_by is None:
        return
    if member.function not in ORDERED:
        report.add(
            f"has an order_by, which means nothing to agg.{member.function}(…), only to {listing(ORDERED)}.", "Remove it."
        )
    else:
        read_text(report, "order_by", member.order_by, example='"sequence_number"')


def _check_categories(report: Reporter, member: Aggregation) -> None:
    """Check ``by``, which makes a map of the feature."""
    if member.by is None:
        if member.limit is not None and member.function in MAPPABLE:
            report.add(
                f"has max_categories {member.limit!r} and no by.", "Say what the events are split by, or leave it out."
            )
        return
    if member.function not in MAPPABLE:
        report.add(f"splits agg.{member.function}(…) with by, which only {listing(MAPPABLE)} can be.", "Remove it.")
        return
    read_text(report, "by", member.by, example='"category"')
    if member.limit is not None:
        _check_whole(report, "max_categories", member.limit, MOST_VALUES)


def _check_limit(report: Reporter, member: Aggregation) -> None:
    """Check how many values a list holds."""
    if member.function not in _LIMITS:
        if member.limit is not None and member.function not in MAPPABLE:
            report.add(f"has a limit, which means nothing to agg.{member.function}(…).", "Remove it.")
        return
    name, most = _LIMITS[member.function]
    if member.limit is not None:
        _check_whole(report, name, member.limit, most)
    elif member.function != "distinct":
        report.add(f"has no {name}.", f"Say how many values it lists: {name}=3, say.")


def _check_whole(report: Reporter, name: str, value: object, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        report.add(f"has a wrong {name}: expected a whole number from 1 to {most:,}, got {kind_of(value)}.")
    elif not 1 <= value <= most:
        report.add(f"has a wrong {name}: expected a whole number from 1 to {most:,}, got {value:,}.")


def _check_parameters(report: Reporter, member: Aggregation) -> None:
    """Check what belongs to one function only: edges, percentile and half-life."""
    edges: object = member.edges
    if member.function == "histogram":
        _check_edges(report, edges)
    elif edges != ():
        report.add(f"has edges, which mean nothing to agg.{member.function}(…), only to histogram.", "Remove them.")
    percentile: object = member.percentile
    if member.function == "approx_percentile":
        _check_percentile(report, percentile)
    elif percentile is not None:
        report.add(f"has a percentile, which means nothing to agg.{member.function}(…).", "Remove it.")
    if member.function == "decayed_sum":
        read_duration(report, "half_life", member.half_life)
    elif member.half_life is not None:
        report.add(f"has a half_life, which means nothing to agg.{member.function}(…), only to decayed_sum.", "Remove it.")


def _check_percentile(report: Reporter, value: object) -> None:
    fix = "The median is 0.5."
    if isinstance(value, int | float) and not isinstance(value, bool):
        if 0 <= value <= 1:
            return
        if 1 < value <= 100:
            fix = f"Percentile {value:g} is {value / 100:g}."
    report.add(f"has a wrong percentile: expected a number from 0 to 1, got {kind_of(value)}.", fix)


def _check_edges(report: Reporter, edges: object) -> None:
    if not isinstance(edges, list | tuple):
        report.add(f"has wrong edges: expected a list of numbers such as [0, 10, 100], got {kind_of(edges)}.")
        return
    wrong = [edge for edge in edges if not _is_finite_number(edge)]
    if not edges:
        report.add("has no edges.", "Give at least one: edges=[0, 10, 100], say.")
    elif wrong:
        report.add(
            f"has wrong edges: expected finite numbers, got {kind_of(wrong[0])}.",
            "What lies beyond the first and the last edge is counted anyway.",
        )
    elif len(edges) > MOST_EDGES:
        report.add(f"has {len(edges):,} edges, more than {MOST_EDGES:,}.", "Use fewer, wider buckets.")
    else:
        for low, high in pairwise(edges):
            if low >= high:
                report.add(f"has wrong edges: {high!r} comes after {low!r}.", "Write them in ascending order, each once.")
                return


def _is_finite_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_fill(report: Reporter, member: Aggregation) -> None:
    """Check the value in place of null: of a kind that the function gives, where it can be null at all."""
    fill = member.fill_value
    if not is_finite_constant(fill):
        report.add(f"has a wrong fill: expected a finite number, a text or a boolean, got {fill!r}.")
    elif member.function in MAPPABLE and member.by is not None:
        report.add(f"fills with {fill!r}, but with by it is a map, and one value is no map.", "Remove the fill.")
    elif member.function == "histogram":
        report.add(
            f"fills a histogram with {fill!r}, but one is never null: an empty window counts 0 in every bucket.",
            "Remove the fill.",
        )
    elif member.function in LISTS:
        report.add(f"fills agg.{member.function}(…), which is a list, with {kind_of(fill)}.", "Remove the fill.")
    elif member.function in COUNTS and (isinstance(fill, bool) or fill != 0):
        report.add(f"fills a count with {fill!r}, but a count is never null: an empty window counts 0.", "Remove the fill.")
    elif member.function in NUMBERS and (isinstance(fill, bool) or not isinstance(fill, int | float)):
        report.add(f"fills agg.{member.function}(…), which is a number, with {kind_of(fill)}.", "Fill with a number.")
