"""Windowed aggregates of an event source: ``agg.count().over("7d", "30d")``."""

from __future__ import annotations

from typing import Literal

import msgspec

from fstore.definitions.location import Located
from fstore.errors import did_you_mean, listing

Function = Literal["count", "sum", "avg", "min", "max", "last"]
FUNCTIONS: tuple[Function, ...] = ("count", "sum", "avg", "min", "max", "last")

Constant = bool | int | float | str
"""A value in a definition, such as a fill value."""

Scalar = Constant | None
"""A constant, or none."""


class Aggregation(Located, frozen=True, kw_only=True, tag_field="member", tag="aggregation"):
    """An aggregate over windows of time; each window is a feature whose name ends in the window."""

    function: Function
    argument: str | None = None
    windows: tuple[str, ...] = ()
    fill_value: Scalar = None
    name: str | None = None
    description: str = ""
    pii: bool = False

    def over(self, *windows: str) -> Aggregation:
        """Return this aggregate over the given windows, each an exact duration before the interval's end."""
        return msgspec.structs.replace(self, windows=windows)

    def fill(self, value: Constant) -> Aggregation:
        """Return this aggregate with a value in place of null, seen by ``expr`` features and in empty rows."""
        return msgspec.structs.replace(self, fill_value=value)


class _Aggregates:
    """The functions of the namespace ``agg``. Each returns an aggregate that still needs ``.over(…)``."""

    def count(self, argument: str | None = None, *, name: str | None = None, description: str = "") -> Aggregation:
        """Count the events, or those where ``argument`` is not null. An empty window counts 0."""
        return Aggregation(function="count", argument=argument, name=name, description=description)

    def sum(self, argument: str, *, name: str | None = None, description: str = "", pii: bool = False) -> Aggregation:
        """Sum a column: exact for integers and decimals; null over an empty window."""
        return Aggregation(function="sum", argument=argument, name=name, description=description, pii=pii)

    def avg(self, argument: str, *, name: str | None = None, description: str = "", pii: bool = False) -> Aggregation:
        """Average the values that are not null, as float64; null over an empty window."""
        return Aggregation(function="avg", argument=argument, name=name, description=description, pii=pii)

    def min(self, argument: str, *, name: str | None = None, description: str = "", pii: bool = False) -> Aggregation:
        """Take the smallest value; null over an empty window."""
        return Aggregation(function="min", argument=argument, name=name, description=description, pii=pii)

    def max(self, argument: str, *, name: str | None = None, description: str = "", pii: bool = False) -> Aggregation:
        """Take the greatest value; NaN is greater than any number; null over an empty window."""
        return Aggregation(function="max", argument=argument, name=name, description=description, pii=pii)

    def last(self, argument: str, *, name: str | None = None, description: str = "", pii: bool = False) -> Aggregation:
        """Take the newest value that is not null; ties of time go to the greatest value."""
        return Aggregation(function="last", argument=argument, name=name, description=description, pii=pii)

    def __getattr__(self, name: str) -> Aggregation:
        raise AttributeError(f"agg has no function {name!r}, only {listing(FUNCTIONS)}.{did_you_mean(name, FUNCTIONS)}")


agg = _Aggregates()
"""The aggregates: ``agg.count()``, ``agg.sum("amount")``, …"""
