"""Checks of what a class body makes features from, and of the checks over them.

Takes the members of one class body, with any values in their fields. SQL texts are not parsed here: the compiler does that,
because it knows the columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import timedelta

from fstore.definitions.aggregation import FUNCTIONS, Aggregation
from fstore.definitions.checks import SEVERITIES, Check
from fstore.definitions.declarations import EVENT_TIMESTAMP
from fstore.definitions.expression import Expression, Field
from fstore.definitions.feature_view import FeatureReference, Member, feature_names
from fstore.definitions.location import Location
from fstore.definitions.problems import Reporter
from fstore.definitions.validation import (
    is_finite_constant,
    kind_of,
    read_column,
    read_flag,
    read_optional_text,
    read_text,
    read_type,
    read_window,
    report_unknown,
)
from fstore.errors import did_you_mean, listing

RESERVED = ("history", "mro")
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
                _check_aggregation(feature, member, aggregates=aggregates)
            case Expression():
                read_text(feature, "expression", member.sql, example='"a / nullif(b, 0)"')
                if aggregates is False:
                    feature.add(
                        "is an expr(…) in a view without a source; it can only use windowed aggregates of the same view.",
                        "Compute it in the view's SQL or Python, and declare it with feature(…).",
                    )
            case Field():
                _check_field(feature, member, aggregates=aggregates)
        read_optional_text(feature, "description", member.description)
        read_flag(feature, "pii", member.pii)
        for name in _names(attribute, member):
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


def _names(attribute: str, member: Member) -> list[str]:
    """Return the names of the features that a member makes, as far as it is sound enough to say."""
    given: list[object] = [member.name or attribute, *(member.windows if isinstance(member, Aggregation) else ())]
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
    elif member.type != "timestamp":
        report.add(f"is declared as {member.type!r}; the rows' own time is a timestamp.", 'Write feature("timestamp").')


def _check_aggregation(report: Reporter, member: Aggregation, *, aggregates: bool | None) -> None:
    if aggregates is False:
        report.add(
            f"is an agg.{member.function}(…) in a view without a source.",
            "Give the view a source instead of inputs, or compute the feature in its SQL or Python.",
        )
    if member.function not in FUNCTIONS:
        report_unknown(report, "uses function", str(member.function), FUNCTIONS)
    if member.argument is not None or member.function != "count":
        read_text(report, f"argument of agg.{member.function}", member.argument, example='"amount"')
    _check_windows(report, member)
    fill = member.fill_value
    if fill is None:
        return
    if not is_finite_constant(fill):
        report.add(f"has a wrong fill: expected a finite number, a text or a boolean, got {fill!r}.")
    elif member.function in ("sum", "avg") and (isinstance(fill, bool) or not isinstance(fill, int | float)):
        report.add(f"fills agg.{member.function}(…), which is a number, with {kind_of(fill)}.", "Fill with a number.")
    elif member.function == "count" and (isinstance(fill, bool) or fill != 0):
        report.add(f"fills a count with {fill!r}, but a count is never null: an empty window counts 0.", "Remove .fill(…).")


def _check_windows(report: Reporter, member: Aggregation) -> None:
    if not member.windows:
        report.add("has no windows.", 'Add .over("7d"), with one or more durations.')
    seen: dict[timedelta, str] = {}
    for text in member.windows:
        window = read_window(report, text)
        if window is None:
            continue
        if window in seen:
            same = f"{text!r} twice" if seen[window] == text else f"{seen[window]!r} and {text!r}, which are the same"
            report.add(f"has windows {same}.", "Remove one.")
        seen[window] = text


def _check_field(report: Reporter, member: Field, *, aggregates: bool | None) -> None:
    if aggregates:
        report.add(
            "is a feature(…) in a view with a source; it declares an output column of SQL or Python.",
            "Write agg.…(…).over(…) or expr(…).",
        )
    read_type(report, "type", member.type)


def read_checks(
    report: Reporter, value: object, members: Mapping[str, Member], *, at: Location | None = None
) -> tuple[Check, ...]:
    """Return the checks of a view, or report what is wrong with them."""
    if not isinstance(value, list | tuple):
        report.add(f'has wrong checks: expected a list such as [check.not_null("amount")], got {kind_of(value)}.', at=at)
        return ()
    known = {name: attribute for attribute, member in members.items() for name in _names(attribute, member)}
    checks: list[Check] = []
    for item in value:
        if isinstance(item, Check):
            _check_check(report, item, known, members)
            checks.append(item)
        else:
            report.add(f'has a wrong check: expected one such as check.not_null("amount"), got {kind_of(item)}.', at=at)
    return tuple(checks)


def _check_check(report: Reporter, item: Check, known: Mapping[str, str], members: Mapping[str, Member]) -> None:
    here = report.about(report.subject, item.location)
    for column in item.columns:
        _check_column(here, item, column, known, members)
    if item.severity not in SEVERITIES:
        here.add(
            f"checks {item.kind} with severity {item.severity!r}, which is none of {listing(SEVERITIES)}.",
            did_you_mean(str(item.severity), SEVERITIES),
        )
    if item.kind == "unique" and not item.columns:
        here.add("checks unique without a column.", 'Name one or more features: check.unique("rank").')
    if item.kind == "one_of":
        if not item.values:
            here.add("checks one_of without values.", 'List them: check.one_of("size", ["S", "M", "L"]).')
        for constant in item.values:
            if not is_finite_constant(constant):
                here.add(f"checks one_of with value {constant!r}; expected texts, finite numbers or booleans.")
    if item.kind in ("in_range", "row_count"):
        _check_bounds(here, item)
    if item.kind == "row_count" and item.severity == "quarantine":
        here.add("quarantines on row_count, but a number of rows says nothing about which.", 'Use "error" or "warn".')


def _check_column(
    report: Reporter, item: Check, column: object, known: Mapping[str, str], members: Mapping[str, Member]
) -> None:
    if isinstance(column, str) and column in known:
        return
    if isinstance(column, FeatureReference) or not isinstance(column, str):
        report.add(f"checks {item.kind} of {kind_of(column)}; expected the name of a feature as a text.")
        return
    expansions = [name for name, attribute in known.items() if attribute == column]
    if column in members and expansions:
        report.add(f"checks {item.kind} of {column!r}, which makes {listing(expansions)}.", "Name one of these.")
    else:
        report_unknown(report, f"checks {item.kind} of feature", column, list(known))


def _check_bounds(report: Reporter, item: Check) -> None:
    bounds: list[object] = [bound for bound in (item.minimum, item.maximum) if bound is not None]
    number = int if item.kind == "row_count" else (int | float)
    wrong = [
        bound
        for bound in bounds
        if isinstance(bound, bool)
        or not isinstance(bound, number)
        or (isinstance(bound, float) and not math.isfinite(bound))
    ]
    if wrong:
        kind = "a whole number" if item.kind == "row_count" else "a finite number (None leaves a side open)"
        report.add(f"checks {item.kind} with bound {wrong[0]!r}; expected {kind}.")
    elif not bounds:
        report.add(f"checks {item.kind} without a minimum or maximum.", "Give at least one of them.")
    elif item.minimum is not None and item.maximum is not None and item.minimum > item.maximum:
        report.add(
            f"checks {item.kind} with minimum {item.minimum!r} above maximum {item.maximum!r}: nothing can pass.",
            "Swap them.",
        )
