"""Features that are not windowed aggregates: expressions, declared output columns and Python functions."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType

from fstore.definitions.location import Located


class Expression(Located, frozen=True, kw_only=True, tag_field="member", tag="expression"):
    """A SQL scalar expression over the other features of its view. Division by zero is null."""

    sql: str
    name: str | None = None
    description: str = ""
    pii: bool = False


class Field(Located, frozen=True, kw_only=True, tag_field="member", tag="field"):
    """An output column that a SQL or Python view declares."""

    type: str
    name: str | None = None
    description: str = ""
    pii: bool = False


class Transform(Located, frozen=True, kw_only=True):
    """A Python function that computes a view: Arrow tables in, named like the view's inputs; an Arrow table out."""

    function: FunctionType


def expr(sql: str, *, name: str | None = None, description: str = "", pii: bool = False) -> Expression:
    """Declare a feature computed from the other features of the same view by a SQL scalar expression."""
    return Expression(sql=sql, name=name, description=description, pii=pii)


def feature(type: str, *, name: str | None = None, description: str = "", pii: bool = False) -> Field:
    """Declare an output column of a SQL or Python view, with its type (see ``fstore.types``)."""
    return Field(type=type, name=name, description=description, pii=pii)


def transform(function: Callable[..., object]) -> Transform:
    """Compute a view by a module-level Python function whose parameters are the view's inputs, by alias.

    A parameter named ``interval`` receives the :class:`fstore.interval.Interval` that is being computed.
    """
    return Transform(function=function)  # type: ignore[arg-type]
