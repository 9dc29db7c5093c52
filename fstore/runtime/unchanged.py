"""Whether an added feature left the others as they were.

Takes a validated attempt at intervals that an earlier definition of the view had published, with the same checks and less
features, and compares the columns that both have: floats to a relative 1e-12, anything else exactly. Intervals whose inputs
have changed since may differ, and are not compared. Raises for the first column that changed; writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from fstore.arrow import arrow_schema
from fstore.backends import Backends
from fstore.engines.engine import FilesRelation, Query
from fstore.errors import ColumnsChanged
from fstore.interval import Interval, merge_intervals
from fstore.plan.diff import compare_steps
from fstore.plan.sql import quoted
from fstore.plan.steps import EVENT_TIMESTAMP, Feature, Step
from fstore.registry.records import Attempt, Head
from fstore.types import DataFile, parse_type

TOLERANCE = 1e-12
"""How far floats may differ, relative to the greater one: the order in which they are added is not fixed."""


def refuse_changed_columns(backends: Backends, attempt: Attempt, files: Sequence[DataFile]) -> None:
    """Raise ColumnsChanged when files that add features also change others that are published."""
    start, end = attempt.intervals[0].start, attempt.intervals[-1].end
    ledger, step = backends.registry.ledger, attempt.step
    heads = ledger.heads(attempt.view, start=start, end=end, generation=attempt.generation)
    older = [head for head in heads if head.fingerprint != step.fingerprint]
    if not older:
        return
    stale = {*ledger.stale(attempt.view), *ledger.damaged(attempt.view)}  # of these nothing has to stay
    compared = [interval for interval in attempt.intervals if interval not in stale]
    for number in dict.fromkeys(head.attempt for head in older):
        before = ledger.attempt(number).step
        change = compare_steps(before, step)
        if change is None or change.renews or before.audits != step.audits:
            continue
        held = _cut([head for head in older if head.attempt == number], merge_intervals(compared))
        known = {feature.name for feature in before.features}
        shared = [feature for feature in step.features if feature.name in known]
        if held and shared:
            _compare(backends, attempt, before, held, shared, files)


def _cut(heads: Sequence[Head], spans: Sequence[Interval]) -> list[Head]:
    return [
        msgspec.structs.replace(head, start=max(head.start, span.start), end=min(head.end, span.end))
        for head in heads
        for span in spans
        if head.start < span.end and span.start < head.end
    ]


def _compare(
    backends: Backends, attempt: Attempt, before: Step, heads: Sequence[Head], shared: Sequence[Feature],
    files: Sequence[DataFile],
) -> None:  # fmt: skip
    step, offline = attempt.step, backends.offline
    computed = FilesRelation(
        files=tuple((offline.full_path(file.path), (Interval(file.start, file.end),)) for file in files),
        filesystem=offline.filesystem,
        schema=arrow_schema(step.columns()),
        ends_inclusive=step.kind == "snapshot",
    )
    relations = {"computed": computed, "published": backends.published(before, heads)}
    with backends.engine.read(Query(sql=_changes_sql(step, shared), relations=relations)) as reader:
        (row,) = reader.read_all().to_pylist()
    if row["gone_at"] is not None:
        raise _changed(attempt, "rows are gone", row["gone_at"])
    for number, feature in enumerate(shared):
        at = row[f"changed_{number}"]
        if at is not None:
            raise _changed(attempt, f"{feature.name!r} differs in {row[f'rows_{number}']:,} row(s)", at)


def _changes_sql(step: Step, shared: Sequence[Feature]) -> str:
    """Return the query for the first time at which each column differs, and at which a row has no counterpart."""
    keys = [quoted(key.name) for key in step.keys]
    using = ", ".join([*keys, EVENT_TIMESTAMP])
    parts = [f"min({EVENT_TIMESTAMP}) FILTER (WHERE c.computed_row IS NULL) AS gone_at"]
    for number, feature in enumerate(shared):
        differs = f"c.computed_row AND {_differs(feature)}"
        parts.append(f"min({EVENT_TIMESTAMP}) FILTER (WHERE {differs}) AS changed_{number}")
        parts.append(f"count(*) FILTER (WHERE {differs}) AS rows_{number}")
    return (
        f"SELECT {', '.join(parts)} FROM published AS p "
        f"LEFT JOIN (SELECT *, true AS computed_row FROM computed) AS c USING ({using})"
    )


def _differs(feature: Feature) -> str:
    old, new = f"p.{quoted(feature.name)}", f"c.{quoted(feature.name)}"
    if parse_type(feature.type or "string").name not in ("float32", "float64"):
        return f"{old} IS DISTINCT FROM {new}"
    far = f"abs({new} - {old}) > {TOLERANCE} * greatest(abs({new}), abs({old}))"
    return f"({old} IS DISTINCT FROM {new} AND coalesce({far} OR NOT isfinite({old}) OR NOT isfinite({new}), true))"


def _changed(attempt: Attempt, what: str, at: datetime) -> ColumnsChanged:
    step = attempt.step
    interval = next(
        each for each in attempt.intervals if (each.end == at if step.kind == "snapshot" else each.start <= at < each.end)
    )
    return ColumnsChanged(
        f"adding features to view {attempt.view!r} ({step.module}:{step.line}) may not change the others, but {what} "
        f"of what is published for {interval} and after, although nothing that it is made from is known to have changed. If "
        f"that is right, fill a new generation instead: `fstore apply --rebuild {attempt.view}`.",
        view=attempt.view,
    )
