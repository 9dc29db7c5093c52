"""Forward recorded lineage events to an OpenLineage backend, in order, each until it is accepted.

The registry keeps every event; this only repeats it elsewhere, and nothing else waits for it. A backend that is away ends
the call, and the next one begins with the same event, so the order stays. An event that the backend refuses for what is in
it is set aside with the answer, because it would hold up the others for ever. Several may forward at once: the backend gets
some events twice then, and never a later one of a run before an earlier one.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Protocol

import msgspec

from fstore.errors import EventRefused, FStoreError
from fstore.failpoints import failpoint
from fstore.registry.registry import Registry

_AT_ONCE = 200
"""Events that are read together."""

FORWARD_BUDGET = timedelta(minutes=1)
"""After how long a call sends no further event: the next one goes on."""


class Sender(Protocol):
    """What takes events: :class:`fstore.lineage.delivery.LineageDelivery`."""

    def send(self, event: str) -> None:
        """Send one event. Raises StoreUnavailable, or EventRefused for an event that is never taken."""


class Forwarded(msgspec.Struct, frozen=True, kw_only=True):
    """What became of events: accepted, refused, and why the call ended early (empty: it did not)."""

    sent: int = 0
    refused: int = 0
    problem: str = ""


def forward_lineage(registry: Registry, sender: Sender, *, budget: timedelta = FORWARD_BUDGET) -> Forwarded:
    """Send what is pending, oldest first, until all is sent, the budget is used up or the backend does not answer."""
    outbox = registry.lineage_outbox
    until = time.monotonic() + budget.total_seconds()
    sent = refused = 0
    while events := outbox.pending(_AT_ONCE):
        for event in events:
            if time.monotonic() > until:
                return Forwarded(sent=sent, refused=refused)
            try:
                sender.send(event.payload)
            except EventRefused as error:
                outbox.refused(event.id, str(error))
                refused += 1
            except FStoreError as error:
                outbox.failed(event.id, str(error))
                return Forwarded(sent=sent, refused=refused, problem=str(error))
            else:
                failpoint("lineage.sent")
                outbox.accepted(event.id)
                sent += 1
            failpoint("lineage.settled")
    return Forwarded(sent=sent, refused=refused)
