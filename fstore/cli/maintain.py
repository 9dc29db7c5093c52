"""The command ``maintain``: what the maintenance DAG does, for who has no Airflow running."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
from rich.markup import escape

from fstore.backends import open_backends
from fstore.cli.output import console, errors, print_json
from fstore.cli.run import print_filled
from fstore.lineage.delivery import open_delivery
from fstore.runtime.flipping import Filled, fill_next
from fstore.runtime.maintenance import Maintained, describe, maintain
from fstore.settings import load_settings

_FILL_BUDGET = timedelta(minutes=5)


class Maintenance(msgspec.Struct, frozen=True, kw_only=True):
    """What was done, and how far new generations are. ``resent`` counts refused events that were to be sent again."""

    done: Maintained
    filled: Filled
    resent: int


def maintain_project(*, resend: bool, as_json: bool) -> int:
    """Do the work once and print what was done; return 1 if a part of it could not be."""
    settings = load_settings()
    sender = open_delivery()
    try:
        with open_backends(settings) as backends:
            resent = backends.registry.lineage_outbox.resend() if resend else 0
            done = maintain(backends, datetime.now(UTC), sender=sender)
            filled = fill_next(backends, limit=settings.max_catch_up, budget=_FILL_BUDGET)
    finally:
        if sender is not None:
            sender.close()
    if as_json:
        print_json(Maintenance(done=done, filled=filled, resent=resent))
    else:
        for line in describe(done):
            console.print(f"[green]✓[/] {escape(line)}")
        print_filled(filled)
        for problem in done.problems:
            errors.print(f"[red]✗[/] {problem.part} [dim]{problem.code}[/] {escape(problem.message)}")
    return 1 if done.problems or filled.failed else 0
