"""OpenLineage run events of an attempt, as JSON.

In goes a :class:`LineageRun`, the attempt as the runtime knows it at that moment; out comes one event that conforms to
OpenLineage 2-0-2. A view is a job and a dataset of the same name in the namespace ``fstore.<project>``; an attempt is a run
of that job; sources are datasets named by their physical address, so that they meet what other tools report. Does not
record or deliver anything, and reads no clock.
"""

from __future__ import annotations

from typing import Literal

from fstore.lineage.run import CheckOutcome, LineageRun, ParentRun, Quality, lineage_run_id, view_namespace

__all__ = [
    "CheckOutcome",
    "EventKind",
    "LineageRun",
    "ParentRun",
    "Quality",
    "lineage_run_id",
    "run_event",
    "view_namespace",
]

EventKind = Literal["START", "RUNNING", "COMPLETE", "ABORT", "FAIL"]


def run_event(kind: EventKind, run: LineageRun) -> str:
    """Build one run event.

    Every event is complete in itself: job, inputs and output are the same in all of them, statistics and quality are
    there as soon as the run knows them. Give the schema-conforming JSON on one line, keys sorted.
    """
    from fstore.lineage.openlineage import build_event  # noqa: PLC0415  (importing openlineage takes 0.5 s)

    return build_event(kind, run)
