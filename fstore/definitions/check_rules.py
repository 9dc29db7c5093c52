"""Checks of what a view's ``checks`` say: rules that exist, over features that exist, with bounds that something can meet.

Takes the list as its author wrote it and the view's members, and gives the checks, or reports what is wrong with them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from fstore.definitions.checks import SEVERITIES, Check
from fstore.definitions.feature_view import FeatureReference, Member
from fstore.definitions.location import Location
from fstore.definitions.members import made_names
from fstore.definitions.problems import Reporter
from fstore.definitions.validation import is_finite_constant, kind_of, report_unknown
from fstore.errors import did_you_mean, listing


def read_checks(
    report: Reporter, value: object, members: Mapping[str, Member], *, at: Location | None = None
) -> tuple[Check, ...]:
    """Return the checks of a view, or report what is wrong with them."""
    if not isinstance(value, list | tuple):
        report.add(f'has wrong checks: expected a list such as [check.not_null("amount")], got {kind_of(value)}.', at=at)
        return ()
    known = {name: attribute for attribute, member in members.items() for name in made_names(attribute, member)}
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
