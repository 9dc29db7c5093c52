"""Checks of single values in a definition: texts, names, durations, instants, tags.

Each function takes what the user wrote, which can be anything, and gives the value in its type, or reports what is wrong
with it and gives None. They know nothing of views or sources.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TypeVar

from fstore.definitions.aggregation import Constant
from fstore.definitions.location import Location
from fstore.definitions.problems import Reporter
from fstore.errors import did_you_mean, listing
from fstore.interval import format_instant, parse_duration, parse_instant
from fstore.types import DataType, parse_type

Parsed = TypeVar("Parsed")

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_COLUMN = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def kind_of(value: object) -> str:
    """Return what a value is, as an error message says it: its type and, for short ones, itself."""
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    text, name = repr(value), type(value).__name__
    if isinstance(value, Constant) and len(text) <= 60:
        return f"{name} {text}"
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def read_text(report: Reporter, what: str, value: object, *, example: str, at: Location | None = None) -> str | None:
    """Return a text that is not blank; ``example`` is what could have been written."""
    if isinstance(value, str) and value.strip():
        return value
    got = "an empty text" if isinstance(value, str) else kind_of(value)
    report.add(f"has a wrong {what}: expected a text such as {example}, got {got}.", at=at)
    return None


def read_optional_text(report: Reporter, what: str, value: object, *, at: Location | None = None) -> str:
    """Return a text that may be empty."""
    if isinstance(value, str):
        return value
    report.add(f"has a wrong {what}: expected a text, got {kind_of(value)}.", at=at)
    return ""


def read_flag(report: Reporter, what: str, value: object, *, at: Location | None = None) -> bool:
    """Return a boolean."""
    if isinstance(value, bool):
        return value
    report.add(f"has a wrong {what}: expected True or False, got {kind_of(value)}.", at=at)
    return False


def read_name(report: Reporter, what: str, value: object, *, at: Location | None = None) -> str | None:
    """Return the name of a view, entity, source, service or pipeline."""
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    report.add(
        f"has a wrong {what}: {value!r} is not a name.",
        "Use lower-case letters, digits and underscores, starting with a letter.",
        at=at,
    )
    return None


def read_column(report: Reporter, what: str, value: object, *, at: Location | None = None) -> str | None:
    """Return the name of a feature or join key: a plain SQL identifier."""
    if isinstance(value, str) and _COLUMN.fullmatch(value):
        return value
    report.add(
        f"has a wrong {what}: {value!r} is not a column name.",
        "Use ASCII letters, digits and underscores, starting with a letter.",
        at=at,
    )
    return None


def read_tags(report: Reporter, value: object, *, at: Location | None = None) -> dict[str, str]:
    """Return a mapping of texts to texts."""
    if isinstance(value, Mapping) and all(isinstance(item, str) for pair in value.items() for item in pair):
        return dict(value)
    report.add(f"has wrong tags: expected texts to texts such as {{'team': 'growth'}}, got {value!r}.", at=at)
    return {}


def read_parsed(
    report: Reporter,
    what: str,
    value: object,
    parse: Callable[[str], Parsed],
    *,
    example: str,
    at: Location | None = None,
) -> Parsed | None:
    """Return a text parsed by a function that raises ValueError."""
    text = read_text(report, what, value, example=example, at=at)
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError as error:
        report.add(f"has a wrong {what}: {str(error).rstrip('.')}.", at=at)
        return None


def read_duration(
    report: Reporter, what: str, value: object, *, positive: bool = True, at: Location | None = None
) -> timedelta | None:
    """Return a duration, longer than zero unless ``positive`` is False."""
    duration = read_parsed(report, what, value, parse_duration, example='"7d"', at=at)
    if positive and duration == timedelta():
        report.add(f"has a wrong {what}: {value!r} is no time at all.", 'Use a longer duration, such as "7d".', at=at)
        return None
    return duration


def read_window(report: Reporter, value: object, *, at: Location | None = None) -> timedelta | None:
    """Return the duration of a window, whose text is part of a feature's name and therefore has to be plain."""
    if isinstance(value, str) and value != value.strip():
        report.add(f"has a wrong window: {value!r} begins or ends with a space.", at=at)
        return None
    return read_duration(report, "window", value, at=at)


def read_instant(report: Reporter, what: str, value: object, *, at: Location | None = None) -> str | None:
    """Return the text of an instant that can be parsed."""
    instant = read_parsed(report, what, value, parse_instant, example='"2026-01-31"', at=at)
    return None if instant is None else str(value)


def read_type(report: Reporter, what: str, value: object, *, at: Location | None = None) -> DataType | None:
    """Return a parsed type."""
    return read_parsed(report, what, value, parse_type, example='"int64"', at=at)


def read_order(report: Reporter, start: str | None, end: str | None, *, at: Location | None = None) -> None:
    """Report an end that is not after the start."""
    if start is None or end is None:
        return
    first, last = parse_instant(start), parse_instant(end)
    if first >= last:
        report.add(
            f"ends at {format_instant(last)}, which is not after its start, {format_instant(first)}.",
            "The end is exclusive: name the first instant that has no data.",
            at=at,
        )


def is_finite_constant(value: object) -> bool:
    """Whether a value is a constant that JSON and SQL can carry: a boolean, finite number or text."""
    return isinstance(value, Constant) and not (isinstance(value, float) and not math.isfinite(value))


def report_unknown(
    report: Reporter, what: str, name: str, known: Sequence[str], fix: str = "", *, at: Location | None = None
) -> None:
    """Report a name that is none of those known; ``what`` is a verb and a noun, such as ``checks feature``."""
    others = f"which is none of {listing(known)}" if known else "and there are none"
    report.add(f"{what} {name!r}, {others}.", did_you_mean(name, known) or fix, at=at)
