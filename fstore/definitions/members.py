"""Checks of what a class body makes features from, and of the names that the features get.

Takes the members of one class body, with any values in their fields. SQL texts are not parsed here: the compiler does that,
because it knows the columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fstore.definitions.aggregation import Aggregation
from fstore.definitions.aggregation_rules import check_aggregation
from fstore.definitions.declarations import EVENT_TIMESTAMP
from fstore.definitions.expression import Expression, Field
from fstore.definitions.feature_view import Member, feature_names
from fstore.definitions.location import Location
from fstore.definitions.problems import Reporter
from fstore.definitions.validation import read_column, read_flag, read_optional_text, read_text, read_type

RESERVED = ("as_", "history", "mro", "test")
"""Attributes that a reference to a feature could not be written with, because the class answers to them itself."""


def check_members(
    report: Reporter,
    view: str,
    members: Mapping[str, Member],
    lines: Mapping[str, Location],
    *,
    keys: Sequence[str],
    aggregates: bool | None,
) -> None:
    """Check the members of a view.

    ``aggregates`` says whether they come from an event source; None where the view does not say how it is computed.
    """
    taken: dict[str, str] = {}
    for attribute, member in members.items():
        feature = report.about(f"feature '{view}:{attribute}'", lines.get(attribute))
        _check_name(feature, attribute, member)
        match member:
            case Aggregation():
                check_aggregation(feature, member, aggregates=aggregates)
            case Expression():
                read_text(feature, "expression", member.sql, example='"a / nullif(b, 0)"')
            case Field():
                _check_field(feature, member, aggregates=aggregates)
        read_optional_text(feature, "description", member.description)
        read_flag(feature, "pii", member.pii)
        for name in made_names(attribute, member):
            _check_taken(feature, name, attribute, member, taken, keys, aggregates=aggregates)


def _check_name(report: Reporter, attribute: str, member: Member) -> None:
    if member.name is not None:
        read_column(report, "name", member.name)
    else:
        read_column(report, "attribute", attribute)
    if attribute in RESERVED:
        report.add(
            f"cannot be referred to, because every view has {attribute!r} already.",
            f'Choose another attribute and keep the name: {attribute}_value = …(…, name="{attribute}").',
        )


def made_names(attribute: str, member: Member) -> list[str]:
    """Return the names of the features that a member makes, as far as it is sound enough to say."""
    given: list[object] = [member.name or attribute]
    if isinstance(member, Aggregation):
        given += [*member.windows, member.offset or ""]
    if not all(isinstance(item, str) for item in given):
        return []
    names = dict.fromkeys(feature_names(attribute, member).values())
    return [name for name in names if name.isidentifier()]


def _check_taken(
    report: Reporter,
    name: str,
    attribute: str,
    member: Member,
    taken: dict[str, str],
    keys: Sequence[str],
    *,
    aggregates: bool | None,
) -> None:
    """Report a feature's name that something else has; SQL does not tell names apart by case."""
    folded = name.lower()
    if folded in taken:
        report.add(
            f"makes feature {name!r}, and so does attribute {taken[folded]!r} (case does not count).",
            "Rename one of them with name=….",
        )
    elif folded in {key.lower() for key in keys}:
        report.add(f"makes {name!r}, which is a join key of the view's entity.", "Rename it with name=….")
    elif folded == EVENT_TIMESTAMP:
        _check_event_timestamp(report, name, member, aggregates=aggregates)
    taken.setdefault(folded, attribute)


def _check_event_timestamp(report: Reporter, name: str, member: Member, *, aggregates: bool | None) -> None:
    """Allow the rows' own time to be declared, which makes an event view, and nothing else of that name."""
    if aggregates or not isinstance(member, Field) or name != EVENT_TIMESTAMP:
        report.add(f"makes {name!r}, which is the time column of every view.", "Rename it with name=….")
    elif member.type not in ("timestamp", None):
        report.add(f"is declared as {member.type!r}; the rows' own time is a timestamp.", 'Write feature("timestamp").')


def _check_field(report: Reporter, member: Field, *, aggregates: bool | None) -> None:
    if aggregates:
        report.add(
            "is a feature(…) in a view with a source; it declares an output column of SQL or Python.",
            "Write agg.…(…).over(…) or expr(…).",
        )
    if member.type is not None:
        read_type(report, "type", member.type)
