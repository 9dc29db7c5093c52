"""Materialize an attempt: publish what passed, and bring it online.

Publishing is one transaction of the registry, which also writes the outbox entry and the lineage event; the online store is
filled from the outbox afterwards. Repeating it publishes nothing twice and re-applies what is not online yet.
"""

from __future__ import annotations

import msgspec

from fstore.backends import Backends
from fstore.failpoints import failpoint
from fstore.interval import Interval
from fstore.lineage.run import ParentRun
from fstore.registry.records import OnlineWork, Published
from fstore.runtime.delivery import apply_work
from fstore.runtime.events import EventBuilder
from fstore.runtime.holding import holding
from fstore.runtime.incarnation import check_incarnation
from fstore.runtime.validate import quality_of


class Materialized(msgspec.Struct, frozen=True, kw_only=True):
    """What was published and brought online. ``overtaken`` intervals were published by a newer attempt of another run."""

    attempt: int
    view: str
    intervals: tuple[Interval, ...]
    overtaken: tuple[Interval, ...]
    sequence: int | None
    rows: int
    online_rows: int


@holding
def materialize_attempt(backends: Backends, attempt_id: int, *, parent: ParentRun | None = None) -> Materialized:
    """Publish a validated attempt and apply its online work.

    Raises Fenced when a newer attempt of the same run has begun, InputsChanged (retryable) when an input was republished
    meanwhile, AttemptUnknown when it was not validated, RegistryRestored when the stores know more than the registry, and
    StoreError when the online store does not take the rows: the publication stands then, and the next call or the
    maintenance DAG brings it online.
    """
    attempt = backends.registry.ledger.attempt(attempt_id)
    check_incarnation(backends, online=attempt.step.online)
    build = EventBuilder(backends)
    quality = quality_of(attempt)

    def complete(published: Published) -> list[str]:
        return [build("COMPLETE", attempt, parent=parent, quality=quality, sequence=published.sequence)]

    published = backends.registry.ledger.publish(attempt_id, lineage_events=complete)
    failpoint("publish.committed")
    online_rows = _bring_online(backends, published) if attempt.step.online else 0
    ranges = [Interval(publication.start, publication.end) for publication in published.publications]
    intervals = tuple(interval for interval in attempt.intervals if any(range_.contains(interval) for range_ in ranges))
    shown = set(intervals)
    return Materialized(
        attempt=attempt_id,
        view=attempt.view,
        intervals=intervals,
        overtaken=published.overtaken,
        sequence=published.sequence,
        rows=sum(verdict.rows for verdict in attempt.verdicts if verdict.interval in shown),
        online_rows=online_rows,
    )


def _bring_online(backends: Backends, published: Published) -> int:
    """Apply the publications of an attempt, also those that were applied before, and settle its outbox entries."""
    rows = 0
    for publication in published.publications:
        work = OnlineWork.of(publication.view, publication.generation, publication)
        rows += apply_work(backends, work)
    return rows
