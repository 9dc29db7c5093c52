"""Audit an attempt's files before anything of them is published.

Runs the step's compiled audits over exactly the files that were computed, in one pass, and records a verdict per interval:
an ``error`` blocks the interval, ``quarantine`` sets rows aside, ``warn`` is recorded. Rows set aside are kept in a file of
their own; the audited copy holds them as rows of nulls (snapshot views) or not at all (event views). Publishes nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

import msgspec

from fstore.arrow import arrow_schema
from fstore.backends import Backends
from fstore.engines.engine import FilesRelation, IntervalsRelation, Query, Relation
from fstore.errors import AttemptUnknown, ColumnsChanged, StoreCorrupt, ValidationFailed
from fstore.failpoints import failpoint
from fstore.interval import Interval, format_instant
from fstore.lineage.run import CheckOutcome, ParentRun, Quality
from fstore.plan.audits import INTERVAL_COLUMN, AuditQueries, compile_audit_queries
from fstore.plan.sql import quoted
from fstore.plan.steps import EVENT_TIMESTAMP, Audit, Step
from fstore.registry.records import Attempt, CheckResult, Verdict
from fstore.runtime.audited_files import new_writing, quarantine_file
from fstore.runtime.compute import FileWriter
from fstore.runtime.events import EventBuilder
from fstore.runtime.unchanged import refuse_changed_columns
from fstore.types import DataFile

QUARANTINED = "__quarantined"
SHOWN_VERDICTS = 5


class ValidationReport(msgspec.Struct, frozen=True, kw_only=True):
    """The verdicts of an attempt, ascending by interval.

    ``quarantine_file`` is the path, in the offline store, of the rows that were set aside; None if there are none.
    """

    attempt: int
    view: str
    verdicts: tuple[Verdict, ...]
    quarantine_file: str | None = None

    @property
    def blocked(self) -> tuple[Verdict, ...]:
        """The verdicts of the intervals that may not be published."""
        return tuple(verdict for verdict in self.verdicts if not verdict.passed)

    @property
    def rows(self) -> int:
        """Rows that would be published."""
        return sum(verdict.rows for verdict in self.verdicts if verdict.passed)

    @property
    def quarantined_rows(self) -> int:
        """Rows set aside."""
        return sum(verdict.quarantined_rows for verdict in self.verdicts)

    @property
    def warnings(self) -> int:
        """Violations of checks that only warn."""
        return sum(result.violations for _, result in self._results() if result.severity == "warn")

    def describe(self) -> list[str]:
        """Return one line per check that found something: which, how many rows, of which intervals, sample keys."""
        lines: list[str] = []
        for label in dict.fromkeys(result.label for _, result in self._results() if result.violations):
            found = [(verdict, result) for verdict, result in self._results() if result.label == label and result.violations]
            total = sum(result.violations for _, result in found)
            samples = list(dict.fromkeys(sample for _, result in found for sample in result.samples))[:SHOWN_VERDICTS]
            intervals = ", ".join(str(verdict.interval) for verdict, _ in found[:SHOWN_VERDICTS])
            more = f" and {len(found) - SHOWN_VERDICTS} more" if len(found) > SHOWN_VERDICTS else ""
            first = found[0][1]
            keys = f"; keys {', '.join(samples)}" if samples else ""
            said = f" ({first.message})" if first.message else ""
            lines.append(f"{first.severity} {label}: {total} violation(s){said} in {intervals}{more}{keys}")
        return lines

    def _results(self) -> Iterator[tuple[Verdict, CheckResult]]:
        for verdict in self.verdicts:
            for result in verdict.results:
                yield verdict, result


def validate_attempt(backends: Backends, attempt_id: int, *, parent: ParentRun | None = None) -> ValidationReport:
    """Audit an attempt and record the verdicts; repeating it returns what was recorded.

    Raises ValidationFailed, with the report, when no interval may be published, and AttemptUnknown when it was not computed.
    """
    ledger = backends.registry.ledger
    attempt = ledger.attempt(attempt_id)
    build = EventBuilder(backends)
    judged = len(attempt.verdicts) == len(attempt.intervals)  # one that failed, too: all of it was blocked
    if attempt.state in ("validated", "published") or (attempt.state == "failed" and judged):
        report = ValidationReport(
            attempt=attempt_id, view=attempt.view, verdicts=attempt.verdicts, quarantine_file=quarantine_file(attempt.files)
        )
        _fail_if_all_blocked(backends, build, attempt, report, parent=parent)  # the first try may have been killed before it
        return report
    if attempt.state != "begun" or not attempt.files:
        raise AttemptUnknown(
            f"attempt {attempt_id} of view {attempt.view!r} has no files to validate (it is {attempt.state}): run or clear "
            "its compute step first"
        )
    with _files_of(backends, attempt_id):
        audited = _Audit(backends, attempt)
        verdicts = audited.verdicts()
        failpoint("validate.audited")
        files, aside = audited.set_aside(verdicts)
        failpoint("validate.set_aside")
        _refuse_changed_columns(backends, build, attempt, files or attempt.files, parent=parent)
        null_counts = audited.null_counts()
    report = ValidationReport(attempt=attempt_id, view=attempt.view, verdicts=tuple(verdicts), quarantine_file=aside)
    quality = msgspec.structs.replace(_quality(verdicts), null_counts=null_counts)
    passed = len(report.blocked) < len(report.verdicts)
    running = [build("RUNNING", attempt, parent=parent, quality=quality)] if passed else []
    ledger.record_verdicts(attempt_id, verdicts, files, lineage_events=running)
    failpoint("validate.recorded")
    if files is not None:  # an earlier try may have been killed while it wrote there, and nobody sweeps what is published
        directory = backends.offline.attempt_directory(attempt.view, attempt.generation, attempt.id)
        backends.offline.delete_unfinished(directory)
    _fail_if_all_blocked(backends, build, attempt, report, parent=parent, quality=quality)
    return report


@contextlib.contextmanager
def _files_of(backends: Backends, attempt_id: int) -> Iterator[None]:
    """Within the block, let files of an attempt that is settled be gone because of that, and not be called damaged."""
    try:
        yield
    except StoreCorrupt:
        backends.registry.ledger.require_unpublished(attempt_id)
        raise


def _refuse_changed_columns(
    backends: Backends, build: EventBuilder, attempt: Attempt, files: Sequence[DataFile], *, parent: ParentRun | None
) -> None:
    """Record the attempt as failed and raise ColumnsChanged, when an added feature came with other values of the others."""
    try:
        refuse_changed_columns(backends, attempt, files)
    except ColumnsChanged as error:
        event = build("FAIL", attempt, parent=parent, error=str(error))
        backends.registry.ledger.fail(attempt.id, str(error), [event])
        raise


def _fail_if_all_blocked(
    backends: Backends, build: EventBuilder, attempt: Attempt, report: ValidationReport, *,
    parent: ParentRun | None, quality: Quality | None = None,
) -> None:  # fmt: skip
    """Record the attempt as failed and raise ValidationFailed, when none of its intervals passed."""
    if len(report.blocked) < len(report.verdicts):
        return
    message = all_blocked(report)
    event = build("FAIL", attempt, parent=parent, error=message, quality=quality or _quality(report.verdicts))
    backends.registry.ledger.fail(attempt.id, message, [event])
    raise ValidationFailed(message, report)


def all_blocked(report: ValidationReport) -> str:
    """Return the message of a report in which nothing passed."""
    return "\n  ".join([f"no interval of view {report.view!r} passed its checks:", *report.describe()])


def quality_of(attempt: Attempt) -> Quality | None:
    """Return what validation recorded about an attempt, for its lineage; None when it was not validated."""
    return _quality(attempt.verdicts) if attempt.verdicts else None


class _Audit:
    """The audit of one attempt: its queries over relation ``rows``, and what they found."""

    def __init__(self, backends: Backends, attempt: Attempt) -> None:
        self._backends, self._attempt, self._step = backends, attempt, attempt.step
        self._files = attempt.files
        self._queries: AuditQueries = compile_audit_queries(attempt.step)

    def verdicts(self) -> list[Verdict]:
        """Return a verdict per interval, ascending."""
        counts = {row["interval_end"]: row for row in self._rows(self._queries.counts)}
        aside = self._quarantined_rows()
        samples = self._samples()
        duplicates = self._duplicates()
        return [
            self._verdict(
                interval, counts.get(interval.end, {}), samples, duplicates.get(interval.end), aside.get(interval.end, 0)
            )
            for interval in self._attempt.intervals
        ]

    def null_counts(self) -> dict[str, int]:
        """Return the nulls of every feature over all rows."""
        names = [feature.name for feature in self._step.features]
        counts = ", ".join(f"count(*) - count({quoted(name)}) AS {quoted(name)}" for name in names)
        (row,) = self._rows(f"SELECT {counts} FROM rows")
        return {name: _count(row[name]) for name in names}

    def set_aside(self, verdicts: Sequence[Verdict]) -> tuple[list[DataFile] | None, str | None]:
        """Write the audited copy and the rows set aside, if any; return files of the former, path of the latter."""
        if self._queries.quarantine is None or not any(verdict.quarantined_rows for verdict in verdicts):
            return None, None
        step, attempt = self._step, self._attempt
        directory = self._backends.offline.attempt_directory(attempt.view, attempt.generation, attempt.id)
        held = Interval(attempt.intervals[0].start, attempt.intervals[-1].end)
        kept = ", ".join(quoted(column.name) for column in step.columns())
        audited_prefix, quarantine_prefix = new_writing()
        aside = FileWriter(self._backends, step, directory, prefix=quarantine_prefix).write_query(
            self._query(f"SELECT {kept} FROM ({self._queries.quarantine}) WHERE {QUARANTINED}"), held
        )
        audited = FileWriter(self._backends, step, directory, prefix=audited_prefix).write_query(
            self._query(_audited_sql(step, self._queries.quarantine)), held
        )
        return [audited], aside.path

    def _verdict(
        self, interval: Interval, counted: Mapping[str, object], samples: Mapping[tuple[int, datetime], list[str]],
        duplicates: CheckResult | None, quarantined: int,
    ) -> Verdict:  # fmt: skip
        rows = _count(counted.get("rows", 0))
        results: list[CheckResult] = [] if duplicates is None else [duplicates]
        for place, audit in enumerate(self._step.audits):
            violations = _count(counted.get(f"violations_{place}", 0))
            message = ""
            if audit.kind == "row_count":
                violations, message = _row_count_violation(audit, rows)
            results.append(
                CheckResult(
                    label=audit.label, kind=audit.kind, severity=audit.severity, columns=audit.columns, message=message,
                    violations=violations, samples=tuple(samples.get((place, interval.end), ())),
                    sql=f"SELECT * FROM rows WHERE {audit.violates}" if audit.violates and violations else "",
                )
            )  # fmt: skip
        cap = self._backends.settings.quarantine_cap
        if quarantined > cap:
            results.append(
                CheckResult(
                    label="quarantine", kind="row_count", severity="error", violations=1,
                    message=f"{quarantined:,} rows would be set aside, more than the cap of {cap:,}",
                )
            )  # fmt: skip
        passed = not any(result.violations and result.severity == "error" for result in results)
        kept = rows - quarantined if self._step.kind == "event" else rows
        return Verdict(
            interval=interval,
            passed=passed,
            rows=kept,
            quarantined_rows=quarantined if passed else 0,
            results=tuple(results),
        )

    def _quarantined_rows(self) -> dict[object, int]:
        """Return, per interval, how many rows break a check that quarantines."""
        if self._queries.quarantine is None:
            return {}
        sql = f"SELECT {INTERVAL_COLUMN} AS interval_end, count(*) AS aside FROM ({self._queries.quarantine})"
        return {row["interval_end"]: _count(row["aside"]) for row in self._rows(f"{sql} WHERE {QUARANTINED} GROUP BY 1")}

    def _samples(self) -> dict[tuple[int, datetime], list[str]]:
        found: dict[tuple[int, datetime], list[str]] = {}
        for row in self._rows(self._queries.samples) if self._queries.samples else ():
            end = row["interval_end"]
            if isinstance(end, datetime):
                found.setdefault((_count(row["audit"]), end), []).append(_key_text(self._step, row))
        return found

    def _duplicates(self) -> dict[datetime, CheckResult]:
        """Return, per interval that has any, the keys that occur more than once at the same time."""
        keys = ", ".join(quoted(name) for name in [INTERVAL_COLUMN, *(key.name for key in self._step.keys), EVENT_TIMESTAMP])
        sql = f"SELECT {keys}, count(*) AS times FROM rows GROUP BY {keys} HAVING count(*) > 1"
        some = (
            f"SELECT *, count(*) OVER (PARTITION BY {INTERVAL_COLUMN}) AS duplicated FROM ({sql}) "
            f"QUALIFY row_number() OVER (PARTITION BY {INTERVAL_COLUMN} ORDER BY {keys}) <= {SHOWN_VERDICTS} ORDER BY {keys}"
        )
        found: dict[datetime, list[str]] = {}
        duplicated: dict[datetime, int] = {}
        for row in self._rows(some):
            end = row[INTERVAL_COLUMN]
            if isinstance(end, datetime):
                found.setdefault(end, []).append(_key_text(self._step, row))
                duplicated[end] = _count(row["duplicated"])
        names = tuple(key.name for key in self._step.keys)
        return {
            end: CheckResult(
                label=f"one row per key ({', '.join(names)})", kind="unique", severity="error", columns=names,
                violations=duplicated[end], samples=tuple(samples), sql=sql,
                message="a view gives at most one row per key and time",
            )
            for end, samples in found.items()
        }  # fmt: skip

    def _rows(self, sql: str) -> list[dict[str, object]]:
        with self._backends.engine.read(self._query(sql)) as reader:
            rows: list[dict[str, object]] = reader.read_all().to_pylist()
        return rows

    def _query(self, sql: str) -> Query:
        """Return a query whose relation ``rows`` holds all computed rows and the end of the interval each belongs to."""
        interval = (
            f"SELECT *, {EVENT_TIMESTAMP} AS {INTERVAL_COLUMN} FROM computed"
            if self._step.kind == "snapshot"
            else f"SELECT computed.*, interval_end AS {INTERVAL_COLUMN} FROM computed "
            f"ASOF JOIN intervals ON {EVENT_TIMESTAMP} >= interval_start"
        )
        offline = self._backends.offline
        computed = FilesRelation(
            files=tuple((offline.full_path(file.path), (Interval(file.start, file.end),)) for file in self._files),
            filesystem=offline.filesystem,
            schema=arrow_schema(self._step.columns()),
            ends_inclusive=self._step.kind == "snapshot",
        )
        relations: dict[str, Relation] = {
            "computed": computed,
            "intervals": IntervalsRelation(intervals=self._attempt.intervals),
        }
        return Query(sql=f"WITH rows AS ({interval})\nSELECT * FROM (\n{sql}\n)", relations=relations)


def _audited_sql(step: Step, quarantine: str) -> str:
    """Return the rows as they are published: those set aside without their features, or left out of an event view."""
    if step.kind == "event":
        kept = ", ".join(quoted(column.name) for column in step.columns())
        return f"SELECT {kept} FROM ({quarantine}) WHERE NOT {QUARANTINED}"
    keys = [quoted(name) for name in [*(key.name for key in step.keys), EVENT_TIMESTAMP]]
    features = [
        f"CASE WHEN {QUARANTINED} THEN NULL ELSE {quoted(feature.name)} END AS {quoted(feature.name)}"
        for feature in step.features
    ]
    return f"SELECT {', '.join([*keys, *features])} FROM ({quarantine})"


def _row_count_violation(audit: Audit, rows: int) -> tuple[int, str]:
    low, high = audit.minimum, audit.maximum
    if (low is not None and rows < low) or (high is not None and rows > high):
        wanted = f"at least {low}" if high is None else f"at most {high}" if low is None else f"{low} to {high}"
        return 1, f"{rows} rows, expected {wanted}"
    return 0, ""


def _quality(verdicts: Sequence[Verdict]) -> Quality:
    outcomes: dict[str, CheckOutcome] = {}
    for verdict in verdicts:
        for result in verdict.results:
            before = outcomes[result.label].violations if result.label in outcomes else 0
            outcomes[result.label] = CheckOutcome(
                label=result.label, kind=result.kind, severity=result.severity, columns=result.columns,
                violations=before + result.violations,
            )  # fmt: skip
    return Quality(rows=sum(verdict.rows for verdict in verdicts), checks=tuple(outcomes.values()))


def _key_text(step: Step, row: Mapping[str, object]) -> str:
    parts = [str(row[key.name]) for key in step.keys]
    stamp = row.get(EVENT_TIMESTAMP)
    if step.kind == "event" and isinstance(stamp, datetime):
        parts.append(format_instant(stamp))
    return "/".join(parts)


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0
