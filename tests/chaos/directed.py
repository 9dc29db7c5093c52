"""Small checks, each directed at one rule of the protocol: a few steps of real work, stopped where the rule matters.

Each begins with the market as it was made, and returns one line per broken promise. They are what kills those mutants that
no interleaving of whole steps can tell from the product.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec

from fstore import failpoints
from fstore.backends import Backends
from fstore.engines.duckdb import DuckDBEngine
from fstore.errors import AttemptUnknown, FStoreError, RegistryRestored, ValidationFailed
from fstore.plan.steps import Step
from fstore.registry.database import Database
from fstore.runtime import delivery, incarnation, materialize, repair, validate
from fstore.stores.lmdb import LmdbStore
from tests.chaos.market import DAY, OWNER, Market
from tests.chaos.statements import Checker
from tests.chaos.world import Stop, stop

BAD = 99
"""Whose rows break a check of prices."""

EDITED: list[Step] = []
"""The definition as the module has it now, where it was edited."""

CLOCK: list[int] = []
"""What the clocks of machines say, one after another."""


def registered_step(_database: object, _connection: object, step: Step) -> Step:
    """Return what the module says now of a view."""
    return EDITED[0] if EDITED else step


def clock() -> int:
    """Return what the next machine's clock says."""
    return CLOCK.pop(0)


# -- the checks -------------------------------------------------------------------------------------------------------


def blocked_rows_stay_hidden(market: Market) -> list[str]:
    """Rows that break a check are never seen, also not after an attempt that passed."""
    market.put(market.base)
    _run(market, 1)
    try:
        _run(market, BAD)
    except ValidationFailed:
        return _made_by(market, 1)
    return ["an interval passed whose rows break a check"]


def killed_after_publishing(market: Market) -> list[str]:
    """A process that is killed as soon as it has committed leaves the log, the outbox and the lineage at one."""
    attempt = _validated(market, 1)
    with _stopped_at("registry.committed"):
        materialize.materialize_attempt(market.backends, attempt)
    return _state(market, {attempt: 1})


def killed_before_rows(market: Market) -> list[str]:
    """A process that is killed before the first row is written leaves work pending and the floor where it was."""
    attempt = _validated(market, 1)
    real = LmdbStore.write_rows

    def write_rows(self: LmdbStore, view: Any, keys: Any, rows: Any) -> int:
        if view.view == "prices":
            raise Stop
        return real(self, view, keys, rows)

    with mock.patch.object(LmdbStore, "write_rows", write_rows), contextlib.suppress(Stop):
        materialize.materialize_attempt(market.backends, attempt)
    found = _state(market, {attempt: 1})
    if not found and not market.backends.registry.outbox.pending():
        found.append("no work is pending")
    return found


def superseded_work_writes_nothing(market: Market) -> list[str]:
    """Work of a publication that another one has replaced writes nothing, however early it is taken up."""
    attempts = []
    for owner in (1, 2):
        attempts.append(_validated(market, owner, fresh=owner == 1))
        with _stopped_at("publish.committed"):
            materialize.materialize_attempt(market.backends, attempts[-1])
    first, *_ = market.backends.registry.outbox.pending(kind="online")
    delivery.apply_work(market.backends, first.payload)
    return _state(market, dict(zip(attempts, (1, 2), strict=True)))


def writers_queue(market: Market) -> list[str]:
    """A writer that comes while another is in the middle waits, and neither fails."""
    market.put(market.base)
    outbox, real = market.backends.registry.outbox, Database._check
    failed: list[str] = []

    def write() -> None:
        try:
            outbox.failed(0, "nothing")
        except FStoreError as error:
            failed.append(f"a writer failed: {error}")

    other = threading.Thread(target=write)

    def check(self: Database, connection: Any) -> None:
        real(self, connection)
        if threading.current_thread() is not other and other.ident is None:
            other.start()
            other.join(0.3)  # it has to wait for this transaction

    with mock.patch.object(Database, "_check", check):
        write()
        other.join()
    return failed


def audited_as_begun(market: Market) -> list[str]:
    """An attempt is audited by the definition that it was begun with, whatever the module says since."""
    attempt = _attempt(market, BAD, "compute.recorded")
    EDITED[:] = [_without_checks(market.steps["prices"])]
    try:
        validate.validate_attempt(market.backends, attempt)
    except ValidationFailed:
        return []
    finally:
        EDITED.clear()
    return ["the attempt was audited by a definition that was edited since"]


def sequences_follow_commits(market: Market) -> list[str]:
    """Whoever publishes just before a transaction begins has the sequence before it."""
    first = _validated(market, 1)
    second = _validated(market, 2, view="visits", fresh=False)
    real, waiting = Database.writing, [second]

    def writing(self: Database) -> Any:
        if waiting:
            materialize.materialize_attempt(market.backends, waiting.pop())
        return real(self)

    try:
        with mock.patch.object(Database, "writing", writing):
            materialize.materialize_attempt(market.backends, first)
    except Exception as error:  # noqa: BLE001 (whatever it was, publishing failed)
        return [f"publishing failed: {error}"]
    return _state(market, {first: 1, second: 2})


def clocks_do_not_rank(market: Market) -> list[str]:
    """The attempt that began later wins, also where its machine's clock is behind."""
    CLOCK[:] = [1000, 999]
    first = _validated(market, 1)
    second = _validated(market, 2, fresh=False)
    materialize.materialize_attempt(market.backends, second)
    materialize.materialize_attempt(market.backends, first)
    return _made_by(market, 2)


def torn_file_is_not_there(market: Market) -> list[str]:
    """A file whose writer is killed in the middle has not got its name."""
    market.put(market.base)
    real = DuckDBEngine.write

    def write(self: DuckDBEngine, query: Any, path: str, **named: Any) -> Any:
        real(self, query, path, **named)
        os.truncate(path, 20)
        raise Stop

    with mock.patch.object(DuckDBEngine, "write", write), contextlib.suppress(Stop):
        _run(market, 1)
    root = Path(market.settings.offline_url.removeprefix("file:"))
    return [f"{path.name} is torn" for path in root.rglob("*.parquet") if path.stat().st_size <= 20 and path.name[0] != "."]


def swept_attempt_cannot_publish(market: Market) -> list[str]:
    """An attempt whose files a sweep has begun to delete publishes nothing, also when the sweep was killed."""
    attempt = _validated(market, 1)
    with _stopped_at("sweep.deleted"):
        repair.sweep(market.backends, datetime.now(UTC) + timedelta(days=4000), after=timedelta(0))
    try:
        materialize.materialize_attempt(market.backends, attempt)
    except AttemptUnknown:
        pass
    except FStoreError as error:
        return [f"it was published, and then failed: {error}"]
    return _state(market, {attempt: 1})


def others_publish_is_no_restore(market: Market) -> list[str]:
    """A state of the registry that was read before another process published is no reason to refuse the registry."""
    real = incarnation.read_online

    def others_come_first(*arguments: Any) -> incarnation.Seen | None:
        incarnation.read_online = real
        materialize.materialize_attempt(market.backends, _validated(market, 1))
        return real(*arguments)

    incarnation.read_online = others_come_first
    try:
        incarnation.check_incarnation(market.backends)
    except RegistryRestored as error:
        return [f"a healthy registry was refused: {error}"]
    finally:
        incarnation.read_online = real
    return []


def careless_sweep(backends: Backends, *_: object, **__: object) -> int:
    """Delete the files of attempts that published nothing, and give them up afterwards."""
    ledger = backends.registry.ledger
    dead = [each for each in ledger.history() if each.state not in ("published", "swept")]
    for attempt in dead:
        backends.offline.delete_directory(backends.offline.attempt_directory(attempt.view, attempt.generation, attempt.id))
        failpoints.failpoint("sweep.deleted")
    ledger.abandon(datetime.now(UTC) + timedelta(days=4000))
    ledger.mark_swept([attempt.id for attempt in dead])
    return len(dead)


# -- parts ------------------------------------------------------------------------------------------------------------


def _run(market: Market, owner: int, view: str = "prices") -> None:
    with mock.patch.dict(os.environ, {OWNER: str(owner)}):
        market.work(view, f"run-{owner}")()


def _attempt(market: Market, owner: int, until: str, *, view: str = "prices", fresh: bool = True) -> int:
    """Bring an attempt up to a failpoint, and return it; the process is killed there."""
    if fresh:
        market.put(market.base)
    with _stopped_at(until):
        _run(market, owner, view)
    return market.backends.registry.ledger.history(view, limit=1)[0].id


def _validated(market: Market, owner: int, *, view: str = "prices", fresh: bool = True) -> int:
    return _attempt(market, owner, "validate.recorded", view=view, fresh=fresh)


@contextlib.contextmanager
def _stopped_at(name: str) -> Iterator[None]:
    """End what is done in the block where it reaches a failpoint."""
    action: Callable[[str], None] = stop
    failpoints.arm(name, action)
    try:
        with contextlib.suppress(Stop):
            yield
    finally:
        failpoints.disarm()


def _state(market: Market, owners: dict[int, int]) -> list[str]:
    return list(Checker(market).state(market.take(), owners))


def _made_by(market: Market, owner: int) -> list[str]:
    rows = market.read("prices", market.backends.registry.ledger.heads("prices"))
    makers = {row["maker"] for row in rows if row["event_timestamp"] == DAY.end}
    return [] if makers == {owner} else [f"rows made by {sorted(makers)} are seen, and {owner} was to be"]


def _without_checks(step: Step) -> Step:
    return msgspec.structs.replace(step, audits=())
