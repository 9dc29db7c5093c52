"""What a new generation of a view says otherwise than the live one: row by row, and in distribution.

Takes two generations of a view and compares what both have published for the same intervals, in the engine: how many rows
exist on one side only, how many values differ and by how much, and whether the distribution shifted (population stability
index over the deciles of the old values, or over its most frequent values). Reads published rows; changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec

from fstore.backends import Backends
from fstore.engines.engine import Query, Relation
from fstore.interval import Interval, merge_intervals
from fstore.plan.sql import quoted
from fstore.plan.steps import EVENT_TIMESTAMP, Feature, Step
from fstore.registry.records import Head
from fstore.types import parse_type

BUCKETS = 10
"""Parts of equal size into which the old values are cut to compare distributions."""

_LEAST_SHARE = 1e-4
"""Stands for an empty part, which would make the index infinite."""

_NUMBERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64", "decimal")


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One generation of a view: the step that it was published by."""

    step: Step
    generation: int


class FeatureComparison(msgspec.Struct, frozen=True, kw_only=True):
    """How one feature differs.

    ``changed_rows`` of ``rows`` on both sides differ (null beside a value as well), for ``changed_keys`` keys.
    ``largest_change`` is the greatest ``|new - old| / max(|new|, |old|)`` of numbers. ``shift`` is the population stability
    index: below 0.1 is little, above 0.25 is much. ``old_shares`` and ``new_shares`` are the parts that it compares.
    Numbers are None where there are none.
    """

    feature: str
    rows: int
    changed_rows: int
    changed_keys: int
    largest_change: float | None = None
    old_mean: float | None = None
    new_mean: float | None = None
    old_null_share: float | None = None
    new_null_share: float | None = None
    shift: float | None = None
    old_shares: tuple[float, ...] = ()
    new_shares: tuple[float, ...] = ()


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """How two generations of a view differ over the intervals that both have; ``only_old`` and ``only_new`` count rows."""

    view: str
    old_generation: int
    new_generation: int
    intervals: tuple[Interval, ...]
    old_rows: int
    new_rows: int
    only_old: int
    only_new: int
    features: tuple[FeatureComparison, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    note: str = ""


def compare_generations(backends: Backends, old: Side, new: Side) -> Comparison:
    """Compare two generations of a view over the intervals that both have published."""
    heads = [backends.registry.ledger.heads(side.step.view, generation=side.generation) for side in (old, new)]
    common = _intersect(*heads)
    relations: dict[str, Relation] = {
        name: backends.published(side.step, _cut(side_heads, common))
        for name, side, side_heads in zip(("old_rows", "new_rows"), (old, new), heads, strict=True)
    }
    names = {feature.name for feature in new.step.features}
    shared = [feature for feature in old.step.features if feature.name in names]
    comparison = Comparison(
        view=new.step.view, old_generation=old.generation, new_generation=new.generation, intervals=tuple(common),
        old_rows=0, new_rows=0, only_old=0, only_new=0, features=(),
        added=tuple(sorted(names - {feature.name for feature in old.step.features})),
        removed=tuple(feature.name for feature in old.step.features if feature.name not in names),
    )  # fmt: skip
    if not common:
        return msgspec.structs.replace(comparison, note="no interval is published in both yet")
    if old.step.keys != new.step.keys:
        return msgspec.structs.replace(comparison, note="the join keys differ, so no row can be compared with another")
    types = {feature.name: feature.type for feature in new.step.features}
    counts = _row(backends, _counts_sql(old.step), relations)
    values = _row(backends, _values_sql(old.step, shared, types), relations) if shared else {}
    features = tuple(
        _compared(backends, relations, feature, number, values, numeric=_is_number(feature.type, types[feature.name]))
        for number, feature in enumerate(shared)
    )
    return msgspec.structs.replace(
        comparison, features=features, old_rows=_count(counts["old_rows"]), new_rows=_count(counts["new_rows"]),
        only_old=_count(counts["only_old"]), only_new=_count(counts["only_new"]),
    )  # fmt: skip


def _intersect(old: Sequence[Head], new: Sequence[Head]) -> list[Interval]:
    """Return the instants that both have, as merged intervals."""
    left = merge_intervals(Interval(head.start, head.end) for head in old)
    right = merge_intervals(Interval(head.start, head.end) for head in new)
    return [
        Interval(max(a.start, b.start), min(a.end, b.end)) for a in left for b in right if a.overlaps(b)
    ]  # few merged ranges


def _cut(heads: Sequence[Head], spans: Sequence[Interval]) -> list[Head]:
    return [
        msgspec.structs.replace(head, start=max(head.start, span.start), end=min(head.end, span.end))
        for head in heads
        for span in spans
        if head.start < span.end and span.start < head.end
    ]


def _keys(step: Step) -> list[str]:
    return [*(quoted(key.name) for key in step.keys), EVENT_TIMESTAMP]


def _counts_sql(step: Step) -> str:
    using = ", ".join(_keys(step))
    return f"""
        SELECT (SELECT count(*) FROM old_rows) AS old_rows, (SELECT count(*) FROM new_rows) AS new_rows,
            (SELECT count(*) FROM old_rows ANTI JOIN new_rows USING ({using})) AS only_old,
            (SELECT count(*) FROM new_rows ANTI JOIN old_rows USING ({using})) AS only_new
    """


def _values_sql(step: Step, features: Sequence[Feature], types: Mapping[str, str | None]) -> str:
    """Return the query over rows that both have: per feature how many differ, for how many keys, and by how much at most."""
    keys = ", ".join(f"o.{quoted(key.name)}" for key in step.keys)
    parts = ["count(*) AS joined"]
    for number, feature in enumerate(features):
        old, new = f"o.{quoted(feature.name)}", f"n.{quoted(feature.name)}"
        numeric = _is_number(feature.type, types[feature.name])
        left, right = (f"CAST({side} AS DOUBLE)" if numeric else _comparable(side, feature) for side in (old, new))
        differs = f"{left} IS DISTINCT FROM {right}"
        parts.append(f"count(*) FILTER (WHERE {differs}) AS changed_{number}")
        parts.append(f"count(DISTINCT ({keys})) FILTER (WHERE {differs}) AS keys_{number}")
        if numeric:
            parts.append(
                f"max(abs({right} - {left}) / greatest(abs({right}), abs({left}))) "
                f"FILTER (WHERE {differs} AND isfinite({left}) AND isfinite({right})) AS largest_{number}"
            )
    return f"SELECT {', '.join(parts)} FROM old_rows AS o JOIN new_rows AS n USING ({', '.join(_keys(step))})"


def _comparable(column: str, feature: Feature) -> str:
    """Return a column as something that two sides of different types can be compared by."""
    return column if parse_type(feature.type or "string").name in ("vector", "list", "map") else f"CAST({column} AS VARCHAR)"


def _compared(
    backends: Backends, relations: Mapping[str, Relation], feature: Feature, number: int, values: Mapping[str, object],
    *, numeric: bool,
) -> FeatureComparison:  # fmt: skip
    largest = values.get(f"largest_{number}")
    found = FeatureComparison(
        feature=feature.name, rows=_count(values["joined"]), changed_rows=_count(values[f"changed_{number}"]),
        changed_keys=_count(values[f"keys_{number}"]),
        largest_change=float(largest) if isinstance(largest, float | int) else None,
    )  # fmt: skip
    column = quoted(feature.name)
    if numeric:
        sides = [_row(backends, _numbers_sql(column, name), relations) for name in ("old_rows", "new_rows")]
        edges = _deciles(backends, column, relations)
        shares = [_shares(backends, column, name, edges, relations) for name in ("old_rows", "new_rows")]
    else:
        sides = [_row(backends, _nulls_sql(column, name), relations) for name in ("old_rows", "new_rows")]
        shares = _frequent_shares(backends, column, feature, relations)
    return msgspec.structs.replace(
        found, old_mean=_number(sides[0].get("mean")), new_mean=_number(sides[1].get("mean")),
        old_null_share=_number(sides[0]["nulls"]), new_null_share=_number(sides[1]["nulls"]),
        shift=stability_index(*shares), old_shares=tuple(shares[0]), new_shares=tuple(shares[1]),
    )  # fmt: skip


def stability_index(old: Sequence[float], new: Sequence[float]) -> float | None:
    """Return the population stability index of two lists of shares: the sum of ``(n - o) * ln(n / o)``."""
    if not old or not new or not sum(old) or not sum(new):
        return None
    pairs = [(max(o, _LEAST_SHARE), max(n, _LEAST_SHARE)) for o, n in zip(old, new, strict=True)]
    return sum((n - o) * math.log(n / o) for o, n in pairs)


def _numbers_sql(column: str, relation: str) -> str:
    value = f"CAST({column} AS DOUBLE)"
    nulls = f"count(*) FILTER (WHERE {column} IS NULL) / nullif(count(*), 0)"
    return f"SELECT avg({value}) FILTER (WHERE isfinite({value})) AS mean, {nulls} AS nulls FROM {relation}"


def _nulls_sql(column: str, relation: str) -> str:
    return f"SELECT count(*) FILTER (WHERE {column} IS NULL) / nullif(count(*), 0) AS nulls FROM {relation}"


def _deciles(backends: Backends, column: str, relations: Mapping[str, Relation]) -> list[float]:
    """Return the distinct inner edges of the old values' deciles."""
    value = f"CAST({column} AS DOUBLE)"
    parts = ", ".join(f"quantile_disc({value}, {part / BUCKETS}) AS q{part}" for part in range(1, BUCKETS))
    row = _row(backends, f"SELECT {parts} FROM old_rows WHERE isfinite({value})", relations)
    return sorted({float(edge) for edge in row.values() if isinstance(edge, float | int)})


def _shares(
    backends: Backends, column: str, relation: str, edges: Sequence[float], relations: Mapping[str, Relation]
) -> list[float]:
    """Return the share of values in each part between edges, the upper one belonging to it."""
    value = f"CAST({column} AS DOUBLE)"
    below = ", ".join(f"count(*) FILTER (WHERE {value} <= CAST({edge!r} AS DOUBLE)) AS b{n}" for n, edge in enumerate(edges))
    sql = f"SELECT {below + ', ' if below else ''}count(*) AS everything FROM {relation} WHERE isfinite({value})"
    counts = [_count(each) for each in _row(backends, sql, relations).values()]
    total = counts[-1]
    return [(high - low) / total for low, high in zip([0, *counts], counts, strict=False)] if total else []


def _frequent_shares(
    backends: Backends, column: str, feature: Feature, relations: Mapping[str, Relation]
) -> list[list[float]]:
    """Return the shares of the old side's most frequent values on both sides, then that of all others."""
    if parse_type(feature.type or "string").name in ("vector", "list", "map"):
        return [[], []]
    counted = f"SELECT CAST({column} AS VARCHAR) AS value, count(*) AS rows FROM {{}} WHERE {column} IS NOT NULL GROUP BY 1"
    sql = f"""
        WITH o AS ({counted.format("old_rows")}), n AS ({counted.format("new_rows")}),
        frequent AS (SELECT value, rows FROM o ORDER BY rows DESC, value LIMIT {BUCKETS})
        SELECT f.rows / (SELECT sum(rows) FROM o) AS old_share, coalesce(n.rows, 0) / (SELECT sum(rows) FROM n) AS new_share
        FROM frequent AS f LEFT JOIN n USING (value) ORDER BY f.rows DESC, f.value
    """
    with backends.engine.read(Query(sql=sql, relations=relations)) as reader:
        rows = reader.read_all().to_pylist()
    shares = [[float(row[name] or 0.0) for row in rows] for name in ("old_share", "new_share")]
    return [[*side, max(0.0, 1 - sum(side))] if side else [] for side in shares]


def _row(backends: Backends, sql: str, relations: Mapping[str, Relation]) -> dict[str, object]:
    with backends.engine.read(Query(sql=sql, relations=relations)) as reader:
        (row,) = reader.read_all().to_pylist()
    return dict(row)


def _is_number(*types: str | None) -> bool:
    return all(parse_type(text or "string").name in _NUMBERS for text in types)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, float | int) else None


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0
