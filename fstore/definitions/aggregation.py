"""Windowed aggregates of an event source: ``agg.count().over("7d", "30d")``.

``docs/reference/aggregates.md`` has the exact definition of each function.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from fstore.definitions.location import Located
from fstore.errors import did_you_mean, listing

Function = Literal[
    "count", "sum", "avg", "min", "max", "stddev", "variance", "skew", "first", "last", "first_k", "last_k", "top_k",
    "distinct", "count_distinct", "approx_count_distinct", "approx_percentile", "histogram", "decayed_sum",
]  # fmt: skip
FUNCTIONS: tuple[Function, ...] = (
    "count", "sum", "avg", "min", "max", "stddev", "variance", "skew", "first", "last", "first_k", "last_k", "top_k",
    "distinct", "count_distinct", "approx_count_distinct", "approx_percentile", "histogram", "decayed_sum",
)  # fmt: skip

COUNTS: tuple[Function, ...] = ("count", "count_distinct", "approx_count_distinct")
"""The functions that are 0, not null, over nothing."""

MAPPABLE: tuple[Function, ...] = ("count", "sum", "avg", "min", "max", "first", "last")
"""The functions that ``by=`` can split into a map."""

LIFETIME = "lifetime"
"""The window that reaches back to the source's first event."""

Constant = bool | int | float | str
"""A value in a definition, such as a fill value."""

Scalar = Constant | None
"""A constant, or none."""

MAX_CATEGORIES = 100
"""How many categories a map keeps unless the definition says otherwise."""

MAX_VALUES = 100
"""How many values a distinct list keeps unless the definition says otherwise."""


class Aggregation(Located, frozen=True, kw_only=True, tag_field="member", tag="aggregation"):
    """An aggregate over windows of time; each window is a feature whose name ends in the window.

    ``argument``, ``where``, ``by`` and ``order_by`` are SQL scalar expressions over the source's columns. ``limit`` is the k
    of first_k, last_k and top_k, the cap of a distinct list and the number of categories that ``by`` keeps. ``offset`` moves
    every window back. ``edges`` belong to histogram, ``percentile`` (0 to 1) to approx_percentile, ``half_life`` to
    decayed_sum.
    """

    function: Function
    argument: str | None = None
    windows: tuple[str, ...] = ()
    offset: str | None = None
    where: str | None = None
    by: str | None = None
    order_by: str | None = None
    limit: int | None = None
    edges: tuple[float, ...] = ()
    percentile: float | None = None
    half_life: str | None = None
    fill_value: Scalar = None
    name: str | None = None
    description: str = ""
    pii: bool = False

    def over(self, *windows: str, offset: str | None = None) -> Aggregation:
        """Return this aggregate over the given windows, each an exact duration before the interval's end or ``"lifetime"``.

        With ``offset`` a window of length ``w`` at ``t`` covers ``[t - offset - w, t - offset)``, and the feature's name
        ends in ``_<window>_offset_<offset>``.
        """
        return msgspec.structs.replace(self, windows=windows, offset=offset)

    def fill(self, value: Constant) -> Aggregation:
        """Return this aggregate with a value in place of null, seen by ``expr`` features and in empty rows."""
        return msgspec.structs.replace(self, fill_value=value)


def _as_tuple(edges: Sequence[float]) -> tuple[float, ...]:
    """Return edges as a tuple; anything else is kept as it is, to be reported with the other problems."""
    return tuple(edges) if isinstance(edges, list | tuple) else edges  # type: ignore[return-value]


class _Aggregates:
    """The functions of the namespace ``agg``. Each returns an aggregate that still needs ``.over(…)``.

    Everywhere, ``where`` is a SQL condition that an event has to meet to count; ``by`` is a SQL expression whose values
    split the events, so that the feature is a map from category (as text) to value that keeps the ``max_categories``
    categories with the most events.
    """

    def count(
        self, argument: str | None = None, *, where: str | None = None, by: str | None = None,
        max_categories: int | None = None, name: str | None = None, description: str = "", pii: bool = False,
    ) -> Aggregation:  # fmt: skip
        """Count the events, or those where ``argument`` is not null. An empty window counts 0."""
        return Aggregation(function="count", argument=argument, where=where, by=by, limit=max_categories, name=name,
                           description=description, pii=pii)  # fmt: skip

    def sum(
        self, argument: str, *, where: str | None = None, by: str | None = None, max_categories: int | None = None,
        name: str | None = None, description: str = "", pii: bool = False,
    ) -> Aggregation:  # fmt: skip
        """Sum a value: exact for integers and decimals; null over an empty window."""
        return Aggregation(function="sum", argument=argument, where=where, by=by, limit=max_categories, name=name,
                           description=description, pii=pii)  # fmt: skip

    def avg(
        self, argument: str, *, where: str | None = None, by: str | None = None, max_categories: int | None = None,
        name: str | None = None, description: str = "", pii: bool = False,
    ) -> Aggregation:  # fmt: skip
        """Average the values that are not null, as float64; null over an empty window."""
        return Aggregation(function="avg", argument=argument, where=where, by=by, limit=max_categories, name=name,
                           description=description, pii=pii)  # fmt: skip

    def min(
        self, argument: str, *, where: str | None = None, by: str | None = None, max_categories: int | None = None,
        name: str | None = None, description: str = "", pii: bool = False,
    ) -> Aggregation:  # fmt: skip
        """Take the smallest value; null over an empty window."""
        return Aggregation(function="min", argument=argument, where=where, by=by, limit=max_categories, name=name,
                           description=description, pii=pii)  # fmt: skip

    def max(
        self, argument: str, *, where: str | None = None, by: str | None = None, max_categories: int | None = None,
        name: str | None = None, description: str = "", pii: bool = False,
    ) -> Aggregation:  # fmt: skip
        """Take the greatest value; NaN is greater than any number; null over an empty window."""
        return Aggregation(function="max", argument=argument, where=where, by=by, limit=max_categories, name=name,
                           description=description, pii=pii)  # fmt: skip

    def stddev(
        self, argument: str, *, where: str | None = None, name: str | None = None, description: str = "", pii: bool = False
    ) -> Aggregation:
        """Take the sample standard deviation (n - 1) as float64; null over fewer than two values."""
        return Aggregation(function="stddev", argument=argument, where=where, name=name, description=description, pii=pii)

    def variance(
        self, argument: str, *, where: str | None = None, name: str | None = None, description: str = "", pii: bool = False
    ) -> Aggregation:
        """Take the sample variance (n - 1) as float64; null over fewer than two values."""
        return Aggregation(function="variance", argument=argument, where=where, name=name, description=description, pii=pii)

    def skew(
        self, argument: str, *, where: str | None = None, name: str | None = None, description: str = "", pii: bool = False
    ) -> Aggregation:
        """Take the adjusted sample skewness (Fisher-Pearson) as float64; null below three values or without variance."""
        return Aggregation(function="skew", argument=argument, where=where, name=name, description=description, pii=pii)

    def first(
        self, argument: str, *, order_by: str | None = None, where: str | None = None, by: str | None = None,
        max_categories: int | None = None, name: str | None = None, description: str = "", pii: bool = False,
    ) -> Aggregation:  # fmt: skip
        """Take the oldest value that is not null; ties of time go to the smallest ``order_by``, then the greatest value."""
        return Aggregation(function="first", argument=argument, order_by=order_by, where=where, by=by, limit=max_categories,
                           name=name, description=description, pii=pii)  # fmt: skip

    def last(
        self, argument: str, *, order_by: str | None = None, where: str | None = None, by: str | None = None,
        max_categories: int | None = None, name: str | None = None, description: str = "", pii: bool = False,
    ) -> Aggregation:  # fmt: skip
        """Take the newest value that is not null; ties of time go to the greatest ``order_by``, then the greatest value."""
        return Aggregation(function="last", argument=argument, order_by=order_by, where=where, by=by, limit=max_categories,
                           name=name, description=description, pii=pii)  # fmt: skip

    def first_k(
        self, argument: str, k: int, *, order_by: str | None = None, where: str | None = None, name: str | None = None,
        description: str = "", pii: bool = False,
    ) -> Aggregation:  # fmt: skip
        """List the ``k`` oldest values that are not null, oldest first, in the order of ``first``."""
        return Aggregation(function="first_k", argument=argument, limit=k, order_by=order_by, where=where, name=name,
                           description=description, pii=pii)  # fmt: skip

    def last_k(
        self, argument: str, k: int, *, order_by: str | None = None, where: str | None = None, name: str | None = None,
        description: str = "", pii: bool = False,
    ) -> Aggregation:  # fmt: skip
        """List the ``k`` newest values that are not null, newest first, in the order of ``last``."""
        return Aggregation(function="last_k", argument=argument, limit=k, order_by=order_by, where=where, name=name,
                           description=description, pii=pii)  # fmt: skip

    def top_k(
        self, argument: str, k: int, *, where: str | None = None, name: str | None = None, description: str = "",
        pii: bool = False,
    ) -> Aggregation:  # fmt: skip
        """List the ``k`` most frequent values that are not null, most frequent first; ties go to the smallest value."""
        return Aggregation(function="top_k", argument=argument, limit=k, where=where, name=name, description=description,
                           pii=pii)  # fmt: skip

    def distinct(
        self, argument: str, *, max_values: int | None = None, where: str | None = None, name: str | None = None,
        description: str = "", pii: bool = False,
    ) -> Aggregation:  # fmt: skip
        """List the distinct values that are not null, ascending; of more than ``max_values`` (100) the smallest."""
        return Aggregation(function="distinct", argument=argument, limit=max_values, where=where, name=name,
                           description=description, pii=pii)  # fmt: skip

    def count_distinct(
        self, argument: str, *, where: str | None = None, name: str | None = None, description: str = "", pii: bool = False
    ) -> Aggregation:
        """Count the distinct values that are not null, exactly. An empty window counts 0."""
        return Aggregation(function="count_distinct", argument=argument, where=where, name=name, description=description,
                           pii=pii)  # fmt: skip

    def approx_count_distinct(
        self, argument: str, *, where: str | None = None, name: str | None = None, description: str = "", pii: bool = False
    ) -> Aggregation:
        """Estimate the number of distinct values by a mergeable sketch of bounded size. An empty window counts 0."""
        return Aggregation(function="approx_count_distinct", argument=argument, where=where, name=name,
                           description=description, pii=pii)  # fmt: skip

    def approx_percentile(
        self, argument: str, percentile: float, *, where: str | None = None, name: str | None = None, description: str = "",
        pii: bool = False,
    ) -> Aggregation:  # fmt: skip
        """Estimate the smallest value that at least a share ``percentile`` (0 to 1) of the values does not exceed.

        By a mergeable sketch, to 1 % of the value; as float64, null over nothing.
        """
        return Aggregation(function="approx_percentile", argument=argument, percentile=percentile, where=where, name=name,
                           description=description, pii=pii)  # fmt: skip

    def histogram(
        self, argument: str, edges: Sequence[float], *, where: str | None = None, name: str | None = None,
        description: str = "", pii: bool = False,
    ) -> Aggregation:  # fmt: skip
        """Count the values below the first edge, from each edge to the next, and from the last edge on (with NaN).

        A list of ``len(edges) + 1`` counts; an edge belongs to the bucket that it begins. Over nothing all are 0.
        """
        return Aggregation(function="histogram", argument=argument, edges=_as_tuple(edges), where=where, name=name,
                           description=description, pii=pii)  # fmt: skip

    def decayed_sum(
        self, argument: str, half_life: str, *, where: str | None = None, name: str | None = None, description: str = "",
        pii: bool = False,
    ) -> Aggregation:  # fmt: skip
        """Sum a value, each event weighing ``0.5 ** (age / half_life)`` at the interval's end, as float64.

        Null over nothing. Events more than 500 half-lives old weigh nothing (their weight is below 1e-150).
        """
        return Aggregation(function="decayed_sum", argument=argument, half_life=half_life, where=where, name=name,
                           description=description, pii=pii)  # fmt: skip

    def __getattr__(self, name: str) -> Aggregation:
        raise AttributeError(f"agg has no function {name!r}, only {listing(FUNCTIONS)}.{did_you_mean(name, FUNCTIONS)}")


for _name, _function in vars(_Aggregates).items():
    if not _name.startswith("__"):
        _function.__qualname__ = f"agg.{_name}"  # as Python's own errors about arguments call it

agg = _Aggregates()
"""The aggregates: ``agg.count()``, ``agg.sum("amount")``, …"""
