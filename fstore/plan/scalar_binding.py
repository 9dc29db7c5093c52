"""Whether an engine takes the scalars of a view: arguments of its aggregates, and its expressions.

Takes rendered SQL with the place where it was written, and the types of the columns that it may read; reports what the
engine refuses. All scalars are asked about at once, and one by one only if something is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from fstore.definitions.feature_view import View, feature_names
from fstore.definitions.problems import Reporter
from fstore.definitions.source import Source
from fstore.errors import ComputeError
from fstore.plan.binding import Bind, bound_columns
from fstore.plan.conversions import is_type
from fstore.plan.window_features import WindowExpression, WindowFeature


class Scalar(msgspec.Struct, frozen=True):
    """A rendered scalar and the feature that it belongs to."""

    feature: str
    sql: str


def aggregate_scalars(features: Sequence[WindowFeature]) -> list[Scalar]:
    """Return the scalars that aggregates compute of events, each once."""
    found: dict[str, Scalar] = {}
    for feature in features:
        for sql in (feature.argument, feature.where, feature.by, feature.order_by):
            if sql is not None:
                found.setdefault(sql, Scalar(feature.name, sql))
    return list(found.values())


def source_scalar_types(source: Source, columns: Mapping[str, str], features: Sequence[WindowFeature]) -> dict[str, str]:
    """Return the types of the columns that aggregates read of a source; its time is an instant, whatever it is stored as."""
    read = {name for feature in features for name in feature.columns}
    times = (source.event_time,)
    return {name: "timestamp" if name in times else text for name, text in columns.items() if name in read}


def expression_scalars(expressions: Sequence[WindowExpression]) -> list[Scalar]:
    """Return the scalars of expressions."""
    return [Scalar(expression.name, expression.sql) for expression in expressions]


def refuse_scalars(
    bind: Bind | None, view: View, scalars: Sequence[Scalar], columns: Mapping[str, str | None], report: Reporter
) -> None:
    """Report the scalars that the engine refuses over rows with the given columns; those of unknown type are not there."""
    known = {name: text for name, text in columns.items() if text is not None and is_type(text)}
    if bind is None or not scalars or len(known) < len(columns):
        return
    relations = {"rows": known}
    try:
        bind(f"SELECT {', '.join(f'({scalar.sql})' for scalar in scalars)} FROM rows", relations, ())
    except ComputeError:
        for scalar in scalars:
            place = _reporter(view, scalar.feature, report)
            bound_columns(bind, f"SELECT ({scalar.sql}) AS scalar FROM rows", relations, (), place)


def _reporter(view: View, feature: str, report: Reporter) -> Reporter:
    for attribute, member in view.members.items():
        if feature in feature_names(attribute, member).values():
            return report.about(f"feature '{view.name}:{attribute}'", member.location)
    return report
