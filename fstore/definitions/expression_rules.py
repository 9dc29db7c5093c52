"""Checks of expressions and declared columns that depend on how their view is computed, and the names that they bind.

An expression over features of other views binds them by keyword. Takes the members of a class body, with any values in their
fields, and gives them with these references by name, or reports what is wrong with them.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from fstore.definitions.aggregation import Aggregation
from fstore.definitions.expression import Expression, Field
from fstore.definitions.feature_references import read_reference, referred_view
from fstore.definitions.feature_view import FeatureView, Member
from fstore.definitions.location import Location
from fstore.definitions.problems import Reporter
from fstore.definitions.references import FeatureName
from fstore.definitions.validation import read_column

COMPOSED = "expr"
"""How a view is computed that consists of expressions over features of other views alone."""


def bound_views(members: Mapping[str, object]) -> list[type[FeatureView]]:
    """Return the classes of the views whose features expressions bind, in order."""
    values = [value for member in members.values() if isinstance(member, Expression) for value in _bound(member).values()]
    return [view for value in values if (view := referred_view(value)) is not None]


def bind_expressions(
    report: Reporter, view: str, members: Mapping[str, Member], lines: Mapping[str, Location], how: str | None
) -> dict[str, Member]:
    """Return members with the references of their expressions by name.

    ``how`` is what computes the view: ``source``, ``sql``, ``compute``, :data:`COMPOSED`, or None where it does not say.
    """
    found: dict[str, Member] = {}
    for attribute, member in members.items():
        here = report.about(f"feature '{view}:{attribute}'", lines.get(attribute))
        found[attribute] = member
        match member:
            case Expression():
                found[attribute] = msgspec.structs.replace(member, features=_read_bound(here, member))
                if how in ("sql", "compute"):
                    here.add(
                        "is an expr(…) in a view without a source; it can only use windowed aggregates of the same view "
                        "and features of other views.",
                        "Compute it in the view's SQL or Python, and declare it with feature(…).",
                    )
            case Field():
                _check_field(here, member, how)
            case Aggregation():
                pass  # these have checks of their own
    return found


def _bound(member: Expression) -> Mapping[str, object]:
    features: object = member.features
    return features if isinstance(features, Mapping) else {}


def _read_bound(report: Reporter, member: Expression) -> dict[str, FeatureName]:
    names: dict[str, FeatureName] = {}
    for name, value in _bound(member).items():
        if isinstance(value, FeatureName):  # of a twin
            names[name] = value
            continue
        read_column(report, "name in expr(…)", name)
        reference = read_reference(report, f"binds {name!r} to", value)
        if reference is not None:
            names[name] = reference
    return names


def _check_field(report: Reporter, member: Field, how: str | None) -> None:
    if how == COMPOSED:
        report.add(
            "is a feature(…) in a view without sql or compute, so nothing computes it.",
            "Write expr(…) over features of other views, or give the view sql or compute with inputs.",
        )
    elif how == "compute" and member.type is None:
        report.add("has no type, and nothing but its declaration can tell.", 'Write, say, feature("float64").')
