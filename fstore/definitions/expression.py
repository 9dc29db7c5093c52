"""Features that are not windowed aggregates: expressions, declared output columns and Python functions."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType

from fstore.definitions.location import Located
from fstore.definitions.references import FeatureName


class Expression(Located, frozen=True, kw_only=True, tag_field="member", tag="expression"):
    """A SQL scalar expression over other features of its view, and over ``features`` of other views, which it names.

    Division by zero is null.
    """

    sql: str
    features: dict[str, FeatureName] = {}  # noqa: RUF012  (msgspec copies the default)
    name: str | None = None
    description: str = ""
    pii: bool = False


class Field(Located, frozen=True, kw_only=True, tag_field="member", tag="field"):
    """An output column that a SQL or Python view declares; without a type it has the one that the SQL gives."""

    type: str | None = None
    name: str | None = None
    description: str = ""
    pii: bool = False


class Transform(Located, frozen=True, kw_only=True):
    """A Python function that computes a view: tables in, named like the view's inputs; a table out.

    ``by_key`` says that it computes each key from the rows of that key alone.
    """

    function: FunctionType
    by_key: bool = False


def expr(
    sql: str, /, *, name: str | None = None, description: str = "", pii: bool = False, **features: object
) -> Expression:
    """Declare a feature computed by a SQL scalar expression from other features of the same view, by their names.

    Keywords name features of other views: ``expr("a / b", a=Purchases.n["7d"], b=Visits.n["7d"])``. They are taken from the
    newest snapshot that ends by the interval's end; a key without a row reads as the empty row of that view.
    """
    return Expression(sql=sql, name=name, description=description, pii=pii, features=features)  # type: ignore[arg-type]


def feature(type: str | None = None, *, name: str | None = None, description: str = "", pii: bool = False) -> Field:
    """Declare an output column of a SQL or Python view, with its type (see ``fstore.types``).

    Without a type, a column of a SQL view has the type that its SQL gives; a Python view must say.
    """
    return Field(type=type, name=name, description=description, pii=pii)


def transform(function: Callable[..., object], *, by_key: bool = False) -> Transform:
    """Compute a view by a module-level Python function whose parameters are the view's inputs, by alias.

    The tables are Arrow, pandas or Polars by the annotation of each parameter (``pa.Table``, ``pd.DataFrame``,
    ``pl.DataFrame``), and so may be what it returns. A parameter named ``interval`` receives the
    :class:`fstore.interval.Interval` that is being computed. With ``by_key`` it may be called on some of the keys at a time,
    where the inputs do not fit into memory: inputs that have the entity's keys are split, the others come whole.
    """
    return Transform(function=function, by_key=by_key)  # type: ignore[arg-type]
