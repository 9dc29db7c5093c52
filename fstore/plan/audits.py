"""Checks compiled to SQL over relation ``rows``.

Takes the checks that a view declares and gives :class:`Audit` values, each with a SQL boolean that is true where a row
breaks the check, and the queries that run all audits of a step. ``rows`` holds the computed rows: the view's columns and
``__interval``, the end of the interval that a row belongs to. Null passes every check but ``not_null``; NaN fails a range.
Runs nothing: ``runtime`` decides what a violation leads to.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime

import msgspec

from fstore.definitions.aggregation import Scalar
from fstore.definitions.checks import Check
from fstore.definitions.problems import Reporter
from fstore.plan.sql import quoted
from fstore.plan.steps import EVENT_TIMESTAMP, Audit, Step
from fstore.types import parse_type

INTERVAL_COLUMN = "__interval"
"""The column of ``rows`` that holds the end of a row's interval."""

SAMPLE_KEYS = 5
"""How many violating rows a report shows for each audit and interval."""


class AuditQueries(msgspec.Struct, frozen=True, kw_only=True):
    """The queries that audit a step's rows, each a SELECT over relation ``rows``.

    ``counts`` gives one row per interval that has rows: ``interval_end``, ``rows``, and ``violations_<n>`` for every audit
    that has a row condition, n being its place in ``Step.audits``; ordered by ``interval_end``. ``samples`` (None without
    row conditions) gives ``audit`` (its place), ``interval_end``, the keys and ``event_timestamp`` of the first violating
    rows of each audit and interval. ``quarantine`` (None without audits of that severity) gives the columns of ``rows`` and
    a boolean ``__quarantined``.
    """

    counts: str
    samples: str | None
    quarantine: str | None


def compile_audits(checks: Sequence[Check], columns: Mapping[str, str | None], report: Reporter) -> tuple[Audit, ...]:
    """Compile checks over features (by name, with their types where known), in order."""
    audits: list[Audit] = []
    for check in checks:
        reporter = report.about(f"check {check.label} of {report.subject}", check.location)
        before = len(report.problems)
        _inspect(check, columns, reporter)
        if len(report.problems) == before:
            audits.append(_audit(check, columns))
    return tuple(audits)


def _inspect(check: Check, columns: Mapping[str, str | None], report: Reporter) -> None:
    """Report a column whose type does not fit the check."""
    for column in check.columns:
        text = columns[column]
        if text is None:
            continue
        if check.kind == "in_range" and not parse_type(text).is_numeric:
            report.add(f"wants a number, and {column!r} has type {text}.", "Use check.one_of or check.not_null.")
        wrong = [value for value in check.values if value is not None and not fits_type(value, text)]
        if wrong:
            report.add(f"lists {wrong[0]!r}, and {column!r} has type {text}.", f"List values of type {text}.")


def fits_type(value: Scalar, text: str) -> bool:
    """Whether a constant from a definition can be a value of a type; dates and times are written in ISO 8601."""
    parsed = parse_type(text)
    if parsed.name == "bool" or isinstance(value, bool):
        return parsed.name == "bool" and isinstance(value, bool)
    if parsed.is_integer:
        return isinstance(value, int)
    if parsed.is_numeric:
        return isinstance(value, (int, float)) and math.isfinite(value)
    if not isinstance(value, str) or parsed.name not in ("string", "date", "timestamp"):
        return False
    try:
        if parsed.name == "date":
            date.fromisoformat(value)
        elif parsed.name == "timestamp":
            datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def sql_literal(value: Scalar) -> str:
    """Return a constant as SQL."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(value)


def _audit(check: Check, columns: Mapping[str, str | None]) -> Audit:
    """Compile a check that has no problem."""
    return Audit(
        label=check.label, kind=check.kind, severity=check.severity, columns=check.columns,
        violates=_violation(check, columns), minimum=check.minimum, maximum=check.maximum,
    )  # fmt: skip


def _violation(check: Check, columns: Mapping[str, str | None]) -> str | None:
    """Return the SQL boolean that is true, and never null, exactly where a row breaks the check."""
    names = [quoted(column) for column in check.columns]
    match check.kind:
        case "not_null":
            return f"{names[0]} IS NULL"
        case "in_range":
            return f"coalesce({' OR '.join(_out_of_range(names[0], columns[check.columns[0]], check))}, false)"
        case "one_of":
            values = ", ".join(sql_literal(value) for value in check.values if value is not None)
            return f"coalesce({names[0]} NOT IN ({values}), false)"
        case "unique":
            missing = " AND ".join(f"{name} IS NOT NULL" for name in names)
            return f"({missing} AND count(*) OVER (PARTITION BY {quoted(INTERVAL_COLUMN)}, {', '.join(names)}) > 1)"
        case "row_count":
            return None


def _out_of_range(name: str, text: str | None, check: Check) -> list[str]:
    """Return the conditions, one of which holds for a value out of range. NaN compares as greater than every number."""
    conditions: list[str] = []
    if check.minimum is not None:
        conditions.append(f"{name} < {sql_literal(check.minimum)}")
    if check.maximum is not None:
        conditions.append(f"{name} > {sql_literal(check.maximum)}")
    if check.maximum is None and (text is None or parse_type(text).is_float):
        conditions.append(f"isnan(TRY_CAST({name} AS DOUBLE))")
    return conditions


def compile_audit_queries(step: Step) -> AuditQueries:
    """Return the queries that audit all rows of a step's view in one pass each."""
    flags = {place: f"a{place}" for place, audit in enumerate(step.audits) if audit.violates is not None}
    interval = quoted(INTERVAL_COLUMN)
    keys = [quoted(name) for name in [*(key.name for key in step.keys), EVENT_TIMESTAMP]]
    flagged = "".join(f",\n           {step.audits[place].violates} AS {flag}" for place, flag in flags.items())
    checked = f"    SELECT {interval}, {', '.join(keys)}{flagged}\n    FROM {quoted('rows')}"
    counted = "".join(f",\n       count(*) FILTER (WHERE {flag}) AS violations_{place}" for place, flag in flags.items())
    selected = f"SELECT {interval} AS interval_end, count(*) AS {quoted('rows')}{counted}"
    samples = "\nUNION ALL\n".join(
        f"(SELECT {place} AS audit, {interval} AS interval_end, {', '.join(keys)} FROM checked WHERE {flag}\n"
        f" QUALIFY row_number() OVER (PARTITION BY {interval} ORDER BY {', '.join(keys)}) <= {SAMPLE_KEYS})"
        for place, flag in flags.items()
    )
    aside = [f"({audit.violates})" for audit in step.audits if audit.violates is not None and audit.severity == "quarantine"]
    quarantine = f"SELECT *, {' OR '.join(aside)} AS {quoted('__quarantined')}\nFROM {quoted('rows')}" if aside else None
    return AuditQueries(
        counts=f"{selected}\nFROM (\n{checked}\n)\nGROUP BY 1\nORDER BY 1",
        samples=f"WITH checked AS (\n{checked}\n)\n{samples}" if flags else None,
        quarantine=quarantine,
    )
