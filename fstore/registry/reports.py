"""Verdicts and their check results, as rows.

One row per interval says whether it passed; a check's result is a row of its own, shared by neighbouring intervals in
which the check found nothing, so that a year of hourly intervals is not ten rows per hour.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fstore.decoding import decode_json
from fstore.interval import Interval, merge_intervals
from fstore.registry.database import Database
from fstore.registry.records import CheckResult, Verdict
from fstore.registry.tables import attempt_intervals, check_results

_Spread = tuple[int, Interval, CheckResult]


def write_results(database: Database, connection: Connection, attempt_id: int, verdicts: Sequence[Verdict]) -> None:
    """Write the check results of verdicts (ascending by interval) in place of those for the same intervals."""
    c = check_results.c
    spans = merge_intervals(verdict.interval for verdict in verdicts)
    if spans:
        connection.execute(
            sa.delete(check_results).where(
                c.attempt_id == attempt_id, c.start_at >= sa.bindparam("low"), c.start_at < sa.bindparam("high")
            ),
            [{"low": span.start, "high": span.end} for span in spans],
        )
    rows: list[dict[str, object]] = [
        {"attempt_id": attempt_id, "start_at": span.start, "end_at": span.end, "position": position,
         "label": result.label, "kind": result.kind, "severity": result.severity, "columns": _json(result.columns),
         "violations": result.violations, "samples": _json(result.samples), "message": result.message,
         "sql": result.sql}
        for position, span, result in _spread(verdicts)
    ]  # fmt: skip
    database.insert(connection, check_results, rows)


def read_verdicts(connection: Connection, attempt_id: int) -> tuple[Verdict, ...]:
    """Return the verdicts of an attempt with their results in order, ascending by interval."""
    c = attempt_intervals.c
    rows = connection.execute(
        sa.select(c.start_at, c.end_at, c.outcome, c.rows, c.quarantined_rows)
        .where(c.attempt_id == attempt_id, c.outcome != "pending")
        .order_by(c.start_at)
    ).all()
    starts = [row.start_at for row in rows]
    results: list[list[CheckResult]] = [[] for _ in rows]
    found = connection.execute(
        sa.select(check_results)
        .where(check_results.c.attempt_id == attempt_id)
        .order_by(check_results.c.position, check_results.c.start_at)
    )
    for row in found:
        result = CheckResult(
            label=row.label,
            kind=row.kind,
            severity=row.severity,
            columns=_names(row.columns),
            violations=row.violations,
            samples=_names(row.samples),
            message=row.message,
            sql=row.sql,
        )
        for at in range(bisect.bisect_left(starts, row.start_at), bisect.bisect_left(starts, row.end_at)):
            results[at].append(result)
    return tuple(
        Verdict(
            interval=Interval(row.start_at, row.end_at),
            passed=row.outcome != "blocked",
            rows=row._mapping["rows"],
            quarantined_rows=row.quarantined_rows,
            results=tuple(results[at]),
        )
        for at, row in enumerate(rows)
    )


def _spread(verdicts: Sequence[Verdict]) -> list[_Spread]:
    """Return (position, range, result), equal results without violations joined over neighbouring intervals."""
    joined: list[_Spread] = []
    last: dict[int, int] = {}
    for verdict in verdicts:
        for position, result in enumerate(verdict.results):
            at = last.get(position)
            if at is not None and not result.violations:
                _, span, before = joined[at]
                if span.end == verdict.interval.start and before == result:
                    joined[at] = (position, Interval(span.start, verdict.interval.end), result)
                    continue
            last[position] = len(joined)
            joined.append((position, verdict.interval, result))
    return joined


def _json(names: tuple[str, ...]) -> str:
    return msgspec.json.encode(names).decode()


def _names(text: str) -> tuple[str, ...]:
    return decode_json(text, tuple[str, ...])
