"""What has to happen from time to time, whoever was killed before: the work of the maintenance DAG and ``fstore maintain``.

Drains the outbox, brings online what the online store lost, sweeps what will never be published, and forwards lineage
events. The parts do not need one another, so what stops one of them is reported and the others go on. Everything is safe to
repeat, to be killed anywhere and to run twice at once; nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

import msgspec

from fstore.backends import Backends
from fstore.errors import FStoreError
from fstore.runtime.delivery import Delivered, apply_outbox
from fstore.runtime.forwarding import Forwarded, Sender, forward_lineage
from fstore.runtime.holding import holding
from fstore.runtime.repair import Repaired, repair_online, sweep
from fstore.runtime.retention import sweep_online, sweep_superseded

T = TypeVar("T")


class MaintenanceProblem(msgspec.Struct, frozen=True, kw_only=True):
    """What stopped a part of the work."""

    part: str
    code: str
    message: str
    retryable: bool


class Maintained(msgspec.Struct, frozen=True, kw_only=True):
    """What was done.

    ``swept`` counts attempts whose files are deleted because they published nothing, ``expired`` those that were superseded
    before the horizon, ``forgotten`` online rows that nobody can read. ``forwarded`` is None without a backend.
    """

    delivered: Delivered
    repaired: Repaired
    swept: int
    expired: int
    forgotten: int
    forwarded: Forwarded | None
    problems: tuple[MaintenanceProblem, ...]

    @property
    def retryable(self) -> bool:
        """Whether trying again may mend every problem."""
        return all(problem.retryable for problem in self.problems)


@holding
def maintain(backends: Backends, now: datetime, *, sender: Sender | None = None) -> Maintained:
    """Do all of it, and return what was done and what could not be; ``sender`` takes the lineage events."""
    problems: list[MaintenanceProblem] = []

    def attempt(part: str, work: Callable[[], T], otherwise: T) -> T:
        try:
            return work()
        except FStoreError as error:
            found = MaintenanceProblem(part=part, code=error.code, message=str(error), retryable=error.retryable)
            problems.append(found)
            return otherwise

    def note(part: str, code: str, message: str) -> None:
        problems.append(MaintenanceProblem(part=part, code=code, message=message, retryable=True))

    delivered = attempt("outbox", lambda: apply_outbox(backends), Delivered())
    if delivered.failed:
        note(
            "outbox", delivered.code,
            f"{delivered.failed} publication(s) could not be brought online, and the next run tries again; the first "
            f"because {delivered.message}",
        )  # fmt: skip
    repaired = attempt("online", lambda: repair_online(backends), Repaired(views=(), rows=0))
    swept = attempt("sweep", lambda: sweep(backends, now), 0)
    expired = attempt("retention", lambda: sweep_superseded(backends, now), 0)
    forgotten = attempt("online rows", lambda: sweep_online(backends, now), 0)
    forwarded = (
        None if sender is None else attempt("lineage", lambda: forward_lineage(backends.registry, sender), Forwarded())
    )
    if forwarded is not None and forwarded.problem:
        note("lineage", "store_unavailable", forwarded.problem)
    return Maintained(
        delivered=delivered, repaired=repaired, swept=swept, expired=expired, forgotten=forgotten, forwarded=forwarded,
        problems=tuple(problems),
    )  # fmt: skip


def describe(done: Maintained) -> list[str]:
    """Return a line for each part of what was done."""
    lines = [f"{done.delivered.entries:,} publication(s) brought online, {done.delivered.rows:,} row(s) written"]
    if done.repaired.views:
        lines.append(f"the online store had lost {', '.join(done.repaired.views)}: {done.repaired.rows:,} row(s) written")
    lines.append(f"files of {done.swept:,} attempt(s) that published nothing were deleted")
    lines.append(f"files of {done.expired:,} attempt(s) superseded before the horizon were deleted")
    lines.append(f"{done.forgotten:,} online row(s) that nobody can read were deleted")
    if done.forwarded is None:
        lines.append("lineage events are not forwarded: OPENLINEAGE_URL names no backend")
    else:
        lines.append(f"{done.forwarded.sent:,} lineage event(s) forwarded, {done.forwarded.refused:,} refused")
    return lines
