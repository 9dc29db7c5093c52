"""The oracle: what a view of aggregates must give, computed by loops over events.

Takes events as dicts of Python values and a view as :class:`tests.oracle.language.ViewCase`, and gives the value of every
feature for every key at every end. It shares no code with the compiler or the runtime, knows no tiles and reads no SQL. Sums
and moments are exact (``fractions``, ``decimal``); estimates come back as the range that they may lie in.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal
from fractions import Fraction

from tests.oracle.language import Aggregate, ViewCase

Row = Mapping[str, object]
Key = tuple[object, ...]

RELATIVE = 1e-12
PRECISE = Context(prec=80)


@dataclass(frozen=True)
class Near:
    """A float that may be off by 1e-12 of ``scale``: the size of the terms whose sum it is, where they cancel."""

    value: float
    scale: float

    def allows(self, found: object) -> bool:
        return isinstance(found, float) and abs(found - self.value) <= RELATIVE * max(self.scale, abs(self.value))


@dataclass(frozen=True)
class Within:
    """An estimate: any number of the same type between two bounds."""

    low: float | int
    high: float | int

    def allows(self, found: object) -> bool:
        return type(found) is type(self.low) and self.low <= found <= self.high


def expected_rows(case: ViewCase, events: Iterable[Row], ends: Sequence[datetime]) -> dict[Key, dict[str, object]]:
    """Return the features of every key of the events at every end: ``{(end, *key): {feature: value}}``."""
    known = [row for row in events if row["at"] is not None and all(row[key] is not None for key in case.keys)]
    by_key: dict[Key, list[Row]] = {}
    for row in known:
        by_key.setdefault(tuple(row[key] for key in case.keys), []).append(row)
    return {(end, *key): features_at(case, rows, end) for key, rows in by_key.items() for end in ends}


def features_at(case: ViewCase, rows: Sequence[Row], end: datetime) -> dict[str, object]:
    """Return the features of one key, given all of its events."""
    values: dict[str, object] = {}
    for item in case.aggregates:
        for window, name in item.features().items():
            last = end - (item.offset or timedelta())
            seen = [row for row in rows if row["at"] < last and (window is None or row["at"] >= last - window)]
            if item.where is not None:
                seen = [row for row in seen if item.where.value(row) is True]
            found = split(item, seen, end) if item.by else aggregate(item, seen, end)
            values[name] = item.fill if found is None and item.fill is not None else found
    for composite in case.composites:
        values[composite.name] = composite.value(values)
    return values


def keys_with_a_row(case: ViewCase, events: Iterable[Row], ends: Sequence[datetime]) -> set[Key]:
    """Return the ends and keys that have a row: those with an event between the oldest and the newest edge of windows."""
    reaches = [item.reach() for item in case.aggregates]
    newest = min(item.offset or timedelta() for item in case.aggregates)
    rows: set[Key] = set()
    for row in events:
        key = tuple(row[name] for name in case.keys)
        if row["at"] is None or None in key:
            continue
        for end in ends:
            oldest = None if None in reaches else end - max(reach for reach in reaches if reach is not None)
            if (oldest is None or row["at"] >= oldest) and row["at"] < end - newest:
                rows.add((end, *key))
    return rows


# -- one aggregate over the events of one window ----------------------------------------------------------------------


def split(item: Aggregate, rows: Sequence[Row], end: datetime) -> list[tuple[str, object]] | None:
    """Return the map of the categories with the most events, ascending by key; None where there is no category."""
    assert item.by is not None
    groups: dict[str, list[Row]] = {}
    for row in rows:
        category = item.by.value(row)
        if category is not None:
            groups.setdefault(text_of(category), []).append(row)
    most = sorted(groups, key=lambda category: (-len(groups[category]), category))[: item.limit or 100]
    return [(category, aggregate(item, groups[category], end)) for category in sorted(most)] or None


def text_of(category: object) -> str:
    return str(category).lower() if isinstance(category, bool) else str(category)


def aggregate(item: Aggregate, rows: Sequence[Row], end: datetime) -> object:
    """Return an aggregate of events; None for nothing."""
    if item.argument is None:
        return len(rows)
    known = [(row, item.argument.value(row)) for row in rows]
    known = [(row, value) for row, value in known if value is not None]
    values = [value for _, value in known]
    match item.function:
        case "count":
            return len(values)
        case "count_distinct":
            return len({identity(value) for value in values})
        case "approx_count_distinct":
            count = len({identity(value) for value in values})
            slack = 0 if count == 0 else max(1, -(-count // 20))
            return Within(count - slack, count + slack)
        case "histogram":
            return histogram(values, item.edges)
    if not values:
        return None
    match item.function:
        case "min":
            return min(values, key=rank)
        case "max":
            return max(values, key=rank)
        case "first" | "first_k" | "last" | "last_k":
            return in_order(item, known)
        case "distinct":
            return sorted(unique(values), key=rank)[: item.limit or 100]
        case "top_k":
            times = Counter(identity(value) for value in values)
            order = sorted(unique(values), key=lambda value: (-times[identity(value)], rank(value)))
            return order[: item.limit]
        case "approx_percentile":
            return percentile(values, Fraction(str(item.percentile)))
        case "decayed_sum":
            return decayed([(end - row["at"], value) for row, value in known], item.half_life)
        case "sum":
            return total(values)
        case "avg":
            return mean(values)
        case "variance" | "stddev" | "skew":
            return moment(item.function, values)
    raise ValueError(item.function)


def rank(value: object) -> tuple[object, ...]:
    """Order values: NaN is the greatest number, text goes by code points."""
    return (value != value, 0.0 if value != value else value)


def identity(value: object) -> object:
    return "NaN" if value != value else value


def unique(values: Iterable[object]) -> list[object]:
    return list({identity(value): value for value in values}.values())


def in_order(item: Aggregate, known: Sequence[tuple[Row, object]]) -> object:
    """Return the oldest or newest value or values; ties of time go by ``order_by`` (null last), then the greatest value."""
    newest = item.function.startswith("last")
    order = list(known)
    order.sort(key=lambda pair: rank(pair[1]), reverse=True)
    if item.order_by is not None:
        given = item.order_by.value
        lacking = [pair for pair in order if given(pair[0]) is None]
        having = [pair for pair in order if given(pair[0]) is not None]
        having.sort(key=lambda pair: rank(given(pair[0])), reverse=newest)
        order = having + lacking
    order.sort(key=lambda pair: pair[0]["at"], reverse=newest)
    values = [value for _, value in order]
    return values[: item.limit] if item.function.endswith("_k") else values[0]


def histogram(values: Sequence[object], edges: Sequence[float]) -> list[int]:
    counts = [0] * (len(edges) + 1)
    for value in values:
        number = float(value)
        counts[len(edges) if number != number else sum(edge <= number for edge in edges)] += 1
    return counts


def percentile(values: Sequence[object], share: Fraction) -> object:
    """Return where the estimate of the smallest value that a share of all values does not exceed may lie: 1 % around it."""
    ordered = sorted((float(value) for value in values), key=rank)
    exact = ordered[max(1, math.ceil(share * len(ordered))) - 1]
    if not math.isfinite(exact):
        return exact
    slack = abs(exact) * 0.01 * (1 + 1e-9)
    return Within(exact - slack, exact + slack)


# -- numbers ----------------------------------------------------------------------------------------------------------


def exactly(values: Sequence[object]) -> list[Fraction] | None:
    """Return numbers as fractions; None when one of them is NaN or infinite."""
    if any(isinstance(value, float) and not math.isfinite(value) for value in values):
        return None
    return [Fraction(value) for value in values]


def total(values: Sequence[object]) -> object:
    if isinstance(values[0], float):
        exact = exactly(values)
        return sum(values) if exact is None else float(sum(exact))
    return sum(values)


def mean(values: Sequence[object]) -> float:
    exact = exactly(values)
    return float(sum(values)) / len(values) if exact is None else float(sum(exact) / len(values))


def moment(function: str, values: Sequence[object]) -> object:
    """Return the sample variance, standard deviation or adjusted skewness."""
    n, exact = len(values), exactly(values)
    if n < (3 if function == "skew" else 2):
        return None
    if exact is None:
        return math.nan
    middle = sum(exact) / n
    second = sum((value - middle) ** 2 for value in exact)
    if function == "variance":
        return float(second / (n - 1))
    if function == "stddev":
        return float(root(second / (n - 1)))
    if second == 0:
        return None
    spread = second / n
    norm = root(Fraction(n * (n - 1))) / (n - 2) / (decimal(spread) * root(spread))
    third = decimal(sum((value - middle) ** 3 for value in exact) / n) * norm
    size = decimal(sum(abs(value - middle) ** 3 for value in exact) / n) * norm
    return Near(float(third), float(size))


def decayed(aged: Sequence[tuple[timedelta, object]], half_life: timedelta) -> object:
    """Sum values that weigh half as much for every half-life of age."""
    halved = [(Fraction(micros(age), micros(half_life)), value) for age, value in aged]
    weighed = [(times, value) for times, value in halved if times <= 500]
    exact = exactly([value for _, value in weighed])
    if exact is None:
        return sum(float(value) for _, value in weighed if not math.isfinite(value))
    terms = [
        PRECISE.multiply(decimal(value), PRECISE.power(Decimal(2), PRECISE.minus(decimal(times))))
        for (times, _), value in zip(weighed, exact, strict=True)
    ]
    return Near(float(sum(terms)), float(sum(abs(term) for term in terms)))


def micros(duration: timedelta) -> int:
    return duration // timedelta(microseconds=1)


def decimal(value: Fraction) -> Decimal:
    return PRECISE.divide(Decimal(value.numerator), Decimal(value.denominator))


def root(value: Fraction) -> Decimal:
    return PRECISE.sqrt(decimal(value))


# -- comparing --------------------------------------------------------------------------------------------------------


def same(found: object, wanted: object) -> bool:
    """Whether a value is what the oracle wants: equal and of the same type; floats to 1e-12, NaN being NaN."""
    match wanted:
        case Near() | Within():
            return wanted.allows(found)
        case float():
            if not isinstance(found, float) or math.isnan(wanted) or math.isnan(found):
                return isinstance(found, float) and math.isnan(wanted) and math.isnan(found)
            return math.isclose(found, wanted, rel_tol=RELATIVE)
        case list() | tuple():
            return (
                type(found) is type(wanted)
                and len(found) == len(wanted)
                and all(same(one, other) for one, other in zip(found, wanted, strict=True))
            )
        case datetime():
            return isinstance(found, datetime) and found.astimezone(UTC) == wanted
        case date():
            return type(found) is date and found == wanted
    return type(found) is type(wanted) and found == wanted
