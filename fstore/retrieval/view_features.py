"""What a join with one view takes and gives: entity keys with instants, feature columns, and the report of how rows fared.

Values only, used by every kind of join. Reads nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pyarrow as pa

from fstore.arrays import joined, number_array, valid
from fstore.arrow import TIMESTAMP
from fstore.retrieval.features import SelectedView
from fstore.retrieval.history import BEFORE_ALL, Answer, Mask, Micros


class JoinPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How a view was joined: ``join`` in words, what was read of its published files, of how many rows and columns.

    ``files`` and ``rows`` count what was opened, ``published_intervals`` all that are published for the view.
    """

    join: str
    files: int
    rows: int
    published_intervals: int
    columns: tuple[str, ...]


class ViewReport(msgspec.Struct, frozen=True, kw_only=True):
    """How a frame's rows fared in one view.

    Every entity row is counted once among ``value_rows`` (a row was found), ``empty_rows`` (the snapshot has none for the
    key), ``expired_rows`` (the newest is older than ttl), ``absent_rows`` (nothing was known yet) and ``null_key_rows``.
    ``fallback_rows`` are those whose own interval is blocked or missing, so that they read the one before. ``intervals``
    counts the snapshots read, ``attempts`` are those that wrote the rows, ``plan`` says how they were joined.
    """

    view: str
    alias: str | None = None
    kind: str
    generation: int
    fingerprint: str
    ttl_seconds: float | None
    lag_seconds: float
    value_rows: int
    empty_rows: int
    expired_rows: int
    absent_rows: int
    null_key_rows: int
    fallback_rows: int
    intervals: int
    attempts: tuple[int, ...]
    plan: JoinPlan | None = None


class ViewFeatures(msgspec.Struct, frozen=True, kw_only=True):
    """The features of one view, a row per entity row in order, the report, and the ends of the snapshots read."""

    table: pa.Table
    report: ViewReport
    snapshots: tuple[int, ...] = ()


class EntityTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Whose features are wanted, and when: a view's join keys as columns, and instants in microseconds."""

    keys: Sequence[pa.ChunkedArray]
    instants: Micros

    @property
    def complete(self) -> Mask:
        """Where no part of the key is null."""
        complete = np.ones(len(self.instants), dtype=np.bool_)
        for key in self.keys:
            if key.null_count:
                complete &= valid(joined(key))
        return complete


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Where a join found a row: ``hit`` per entity row, and for event views the ``times`` of the rows (else BEFORE_ALL)."""

    hit: Mask
    times: Micros | None = None


def report_rows(
    view: SelectedView, complete: Mask, answer: Answer | None = None, found: Found | None = None, *,
    attempts: Sequence[int] = (), plan: JoinPlan | None = None,
) -> ViewReport:  # fmt: skip
    """Count how each entity row fared; without an answer there are no rows."""
    step = view.step
    counts = dict.fromkeys(("value_rows", "empty_rows", "expired_rows", "absent_rows", "fallback_rows", "intervals"), 0)
    if answer is not None and found is not None:
        hit = complete & found.hit
        if found.times is None:
            reads, expired = complete & answer.reads, complete & answer.expired
            counts["intervals"] = len(answer.used)
            counts["empty_rows"] = int(np.count_nonzero(reads & ~hit))
        else:
            expired = hit & (found.times < answer.oldest)
        value = hit & ~expired
        counts["value_rows"], counts["expired_rows"] = int(np.count_nonzero(value)), int(np.count_nonzero(expired))
        counts["fallback_rows"] = int(np.count_nonzero(answer.fallback))
        counts["absent_rows"] = int(np.count_nonzero(complete)) - sum(
            counts[name] for name in ("value_rows", "empty_rows", "expired_rows")
        )
    return ViewReport(
        view=step.view,
        alias=view.alias,
        kind=step.kind,
        generation=view.generation,
        fingerprint=view.fingerprint,
        ttl_seconds=None if step.ttl is None else step.ttl.total_seconds(),
        lag_seconds=step.lag.total_seconds(),
        null_key_rows=int(np.count_nonzero(~complete)),
        attempts=tuple(sorted(set(attempts))),
        plan=plan,
        **counts,
    )


def instants_column(micros: Micros) -> pa.Array:
    """Return instants as Arrow has them, BEFORE_ALL as null."""
    return number_array(micros, micros != BEFORE_ALL, type=TIMESTAMP)


def merged_reports(parts: Sequence[ViewReport], intervals: int) -> ViewReport:
    """Return the report of a view over all parts of a frame, which together read so many different snapshots."""
    if len(parts) == 1:
        return parts[0]
    counted = ("value_rows", "empty_rows", "expired_rows", "absent_rows", "null_key_rows", "fallback_rows")
    plans = [part.plan for part in parts if part.plan is not None]
    plan = None
    if plans:
        plan = msgspec.structs.replace(
            plans[0], join="; or ".join(dict.fromkeys(plan.join for plan in plans)), files=sum(plan.files for plan in plans),
            rows=sum(plan.rows for plan in plans), published_intervals=max(plan.published_intervals for plan in plans),
        )  # fmt: skip
    return msgspec.structs.replace(
        parts[0], **{name: sum(getattr(part, name) for part in parts) for name in counted}, intervals=intervals, plan=plan,
        attempts=tuple(sorted({attempt for part in parts for attempt in part.attempts})),
    )  # fmt: skip
