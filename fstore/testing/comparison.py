"""What a view gave against what a test expects, and how they differ, as a table to read.

Values are equal when they are equal in Python: ``2 == 2.0``, ``Decimal("1.5") == 1.5``. Floats are equal within 1e-9, NaN is
equal to NaN, and texts may stand for times and dates. Whatever compares by itself, such as ``pytest.approx``, does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal

import msgspec

from fstore.errors import FStoreError, did_you_mean, listing
from fstore.interval import format_instant, parse_instant
from fstore.plan.steps import EVENT_TIMESTAMP, Step

Expected = Mapping[object, object] | Sequence[Mapping[str, object]]
"""Keys to features to values, or features to values, or rows."""

_TOLERANCE = 1e-9
_ABSENT = "no row"


class ExpectationError(FStoreError):
    """An expectation that nothing could meet, because it names what does not exist."""

    code = "test_expectation"


class Computed(msgspec.Struct, frozen=True, kw_only=True):
    """What a view gave for an interval; ``name`` is what messages call it."""

    name: str
    step: Step
    at: datetime
    rows: tuple[dict[str, object], ...]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A value that is not what a test expects."""

    key: str
    feature: str
    expected: str
    got: str


def find_differences(computed: Computed, expect: Expected) -> list[Difference]:
    """Return every value that differs, in the order of the expectation. Raises ExpectationError."""
    differences: list[Difference] = []
    for key, wanted in _by_key(computed, expect):
        rows = [row for row in computed.rows if _key_of(computed.step, row) == key]
        shown = ", ".join(map(str, key))
        if computed.step.kind == "event":
            differences += _event_rows(computed.step, shown, wanted, rows)
        elif wanted is None:
            differences += [Difference(key=shown, feature="", expected=_ABSENT, got="a row") for _ in rows[:1]]
        else:
            row = rows[0] if rows else _empty_row(computed.step)
            differences += _values(computed.step, shown, _features(key, wanted), row, absent=not rows)
    return differences


def describe_differences(computed: Computed, differences: Sequence[Difference]) -> str:
    """Return the differences as a table under a sentence."""
    head = f"{computed.name} at {format_instant(computed.at)} gave {len(differences)} value{'s' * (len(differences) > 1)} " \
           "that the test does not expect:"  # fmt: skip
    table = [("key", "feature", "expected", "got"), *((d.key, d.feature, d.expected, d.got) for d in differences)]
    widths = [max(len(row[column]) for row in table) for column in range(4)]
    lines = ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join([head, *lines])


def _by_key(computed: Computed, expect: Expected) -> list[tuple[tuple[object, ...], object]]:
    """Return what is expected of each key."""
    step = computed.step
    names = [key.name for key in step.keys]
    if isinstance(expect, Mapping):
        if expect and all(isinstance(name, str) and name in _known(step) for name in expect):
            found = list(dict.fromkeys(_key_of(step, row) for row in computed.rows))
            if len(found) == 1:
                return [(found[0], expect)]
            raise ExpectationError(
                f"expect maps features to values, which needs rows of one key; {computed.name} gave {len(found)}: "
                f"{listing(', '.join(map(str, key)) for key in found)}. Write {{key: {{feature: value}}}}."
            )
        return [(_as_key(names, key), wanted) for key, wanted in expect.items()]
    rows: list[tuple[tuple[object, ...], object]] = []
    for row in expect:
        if missing := [name for name in names if name not in row]:
            raise ExpectationError(f"an expected row has no key {missing[0]!r}: {dict(row)!r}.")
        key = tuple(row[name] for name in names)
        rows.append((key, {name: value for name, value in row.items() if name not in names}))
    if step.kind == "event":
        grouped: dict[tuple[object, ...], list[object]] = {}
        for key, wanted in rows:
            grouped.setdefault(key, []).append(wanted)
        return list(grouped.items())
    return rows


def _as_key(names: Sequence[str], key: object) -> tuple[object, ...]:
    found = key if isinstance(key, tuple) else (key,)
    if len(found) != len(names):
        raise ExpectationError(f"expected key {key!r} has {len(found)} part(s); the view's key is ({', '.join(names)}).")
    return found


def _key_of(step: Step, row: Mapping[str, object]) -> tuple[object, ...]:
    return tuple(row[key.name] for key in step.keys)


def _known(step: Step) -> list[str]:
    return [*(feature.name for feature in step.features), EVENT_TIMESTAMP]


def _empty_row(step: Step) -> dict[str, object]:
    return {
        feature.name: list(feature.empty) if isinstance(feature.empty, tuple) else feature.empty for feature in step.features
    }


def _features(key: tuple[object, ...], wanted: object) -> Mapping[str, object]:
    if isinstance(wanted, Mapping):
        return wanted
    raise ExpectationError(f"expected of key {key!r}: a mapping from features to values, got {wanted!r}.")


def _event_rows(step: Step, key: str, wanted: object, rows: Sequence[Mapping[str, object]]) -> list[Difference]:
    expected = [] if wanted is None else wanted
    if not isinstance(expected, list | tuple):
        raise ExpectationError(f"expected of key {key!r}: a list of rows, because {step.view!r} is an event view.")
    differences: list[Difference] = []
    if len(expected) != len(rows):
        differences.append(Difference(key=key, feature="", expected=f"{len(expected)} row(s)", got=f"{len(rows)}"))
    for number, (one, row) in enumerate(zip(expected, rows, strict=False), start=1):
        differences += _values(step, f"{key} [{number}]", _features((key,), one), row, absent=False)
    return differences


def _values(
    step: Step, key: str, wanted: Mapping[str, object], row: Mapping[str, object], *, absent: bool
) -> list[Difference]:
    differences: list[Difference] = []
    for name, value in wanted.items():
        if name not in _known(step):
            raise ExpectationError(
                f"view {step.view!r} has no feature {name!r}, only {listing(_known(step)[:-1])}."
                f"{did_you_mean(str(name), _known(step))}"
            )
        got = row.get(name)
        if not _same(value, got):
            note = f" ({_ABSENT})" if absent else ""
            differences.append(Difference(key=key, feature=name, expected=repr(value), got=f"{got!r}{note}"))
    return differences


def _same(expected: object, got: object) -> bool:
    match expected, got:
        case None, _:
            return got is None
        case (str(), datetime()):
            return _instant(expected) == got
        case (str(), date()):
            return expected == got.isoformat()
        case (bool(), _) | (_, bool()):
            return type(expected) is not type(got) and expected == got if not isinstance(got, bool) else expected == got
        case (float() | int() | Decimal(), float() | int() | Decimal()):
            return _same_number(expected, got)
        case (list() | tuple(), list() | tuple()):
            return len(expected) == len(got) and all(_same(a, b) for a, b in zip(expected, got, strict=True))
        case Mapping(), Mapping():
            return expected.keys() == got.keys() and all(_same(value, got[name]) for name, value in expected.items())
        case _:
            return bool(expected == got)


def _same_number(expected: float | Decimal, got: float | Decimal) -> bool:
    if isinstance(expected, float) or isinstance(got, float):
        first, second = float(expected), float(got)
        return (math.isnan(first) and math.isnan(second)) or math.isclose(first, second, rel_tol=_TOLERANCE, abs_tol=1e-300)
    return expected == got


def _instant(text: str) -> datetime | None:
    try:
        return parse_instant(text)
    except ValueError:
        return None
