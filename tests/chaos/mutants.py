"""Planted mutants: the product with one rule of the protocol broken, each killed by a check that it passes unbroken.

``python -m tests.chaos --parts mutants``. A mutant patches the real code and nothing else; its check is a way through the
interleavings of two attempts, or a few steps directed at the rule. A mutant that lives is a hole in the tests.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple
from unittest import mock

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fstore.backends import Backends
from fstore.errors import FStoreError
from fstore.interval import Interval
from fstore.registry import attempts, connecting, publishing
from fstore.registry import ledger as ledger_module
from fstore.registry.ledger import Ledger
from fstore.registry.tables import attempt_intervals
from fstore.registry.tables import attempts as attempts_table
from fstore.runtime import compute, delivery, materialize, repair, validate
from fstore.stores import lmdb as lmdb_module
from fstore.stores import offline as offline_module
from fstore.stores.encoding import RowCodec
from fstore.stores.lmdb import LmdbStore
from fstore.stores.offline import LocalOfflineStore
from tests.chaos import directed
from tests.chaos.interleavings import PAIRS, follow, opened_market
from tests.chaos.market import Market
from tests.chaos.options import Options
from tests.chaos.replay import recording

Check = Callable[[Market], list[str]]
Patch = AbstractContextManager[object]


class Mutant(NamedTuple):
    """What is broken, how, and which check finds it."""

    name: str
    broken: Callable[[], Patch]
    check: Check
    killer: str


def on_the_way(pair: str, way: str) -> tuple[Check, str]:
    """Return the check that goes one way through the interleavings of a pair."""

    def check(market: Market) -> list[str]:
        with recording():
            return follow(market, PAIRS[pair], way)

    return check, f"interleavings {pair}#{way}"


def by(check: Check) -> tuple[Check, str]:
    """Return a directed check with its name."""
    return check, f"directed.{check.__name__}"


LATE = "AAAABBBBBBBBAAAA"
"""The second attempt begins when the first is validated, and is through before the first publishes."""

LATE_ONLINE = "AAAAABBBBBBBBAAA"
"""The first is published when the second begins, and brings it online when the second is done."""

# -- the mutants ------------------------------------------------------------------------------------------------------


def no_fence() -> Patch:
    return _all(publishing, "refuse_fenced", lambda *_, **__: None, ledger_module)


def overtaken_is_published() -> Patch:
    return mock.patch.object(publishing, "_overtaken", return_value=set())


def inputs_not_checked() -> Patch:
    return mock.patch.object(publishing, "_refuse_changed_inputs")


def inputs_not_pinned() -> Patch:
    def begin(
        real: Any, self: Ledger, step: Any, intervals: Any, run_id: str, pins: Any = (), *rest: Any, **named: Any
    ) -> Any:
        return real(self, step, intervals, run_id, (), *rest, **named)

    return _around(Ledger, "begin", begin)


def publish_before_audit() -> Patch:
    """Pending intervals count as passed, and compute publishes at once."""

    def recorded(real: Any, self: Ledger, attempt_id: int, *rest: Any, **named: Any) -> None:
        real(self, attempt_id, *rest, **named)
        with self._database.writing() as connection:
            c = attempt_intervals.c
            connection.execute(
                sa.update(attempt_intervals).where(c.attempt_id == attempt_id).values(outcome="passed", rows=0)
            )
        self.publish(attempt_id)

    return _around(Ledger, "record_files", recorded)


def outbox_outside() -> Patch:
    """Online work is written in a transaction of its own, after the one that publishes."""
    kept: list[Any] = []

    def publish(real: Any, self: Ledger, *arguments: Any, **named: Any) -> Any:
        result = real(self, *arguments, **named)
        while kept:
            database, _, *rest = kept.pop()
            with database.writing() as connection:
                enqueue(database, connection, *rest)
        return result

    enqueue = publishing._enqueue
    stack = contextlib.ExitStack()
    stack.enter_context(mock.patch.object(publishing, "_enqueue", lambda *arguments: kept.append(arguments)))
    stack.enter_context(_around(Ledger, "publish", publish))
    return stack


def deferred_transactions() -> Patch:
    """Writers begin as readers do, and ask for the lock when they first write."""
    return mock.patch.object(connecting, "WRITE", "nothing")


def listing_instead_of_ledger() -> Patch:
    """Readers take every file of the view's directory that covers the range, whoever made it."""

    def published(real: Any, self: Backends, step: Any, heads: Any, **named: Any) -> Any:
        relation = real(self, step, heads, **named)
        directory = self.offline.attempt_directory(step.view, 1, 0).rpartition("/")[0]
        spans = tuple(Interval(head.start, head.end) for head in heads)
        found = [file.path for file in self.offline.list_directory(directory) if file.path.endswith(".parquet")]
        return msgspec.structs.replace(relation, files=tuple((self.offline.full_path(path), spans) for path in found))

    return _around(Backends, "published", published)


def step_of_the_module() -> Patch:
    """Tasks after compute run the definition that is registered now, not the one that the attempt was begun with."""

    def read(real: Any, database: Any, connection: Connection, row: Any) -> Any:
        attempt = real(database, connection, row)
        return msgspec.structs.replace(attempt, step=directed.registered_step(database, connection, attempt.step))

    return _around(ledger_module, "read_attempt", read)


def last_writer_wins() -> Patch:
    """Rows are put over what is there, whatever its sequence."""

    def put(self: LmdbStore, view: Any, keys: Any, rows: Any, transaction: Any) -> int:
        stored = lmdb_module._row_keys(lmdb_module._view_number(view, transaction), keys)
        with transaction.cursor() as cursor:
            cursor.putmulti(zip(stored, rows, strict=True))
        return len(rows)

    return mock.patch.object(LmdbStore, "_compare_and_set", put)


def floor_goes_down() -> Patch:
    """The floor is set, not raised."""

    def lower(real: Any, self: LmdbStore, view: Any, floor: Any, *rest: Any) -> None:
        key = lmdb_module._meta_key("floor", view)
        self._run(lambda transaction: transaction.delete(key), write=True)
        real(self, view, floor, *rest)

    return _around(LmdbStore, "raise_floor", lower)


def floor_before_rows() -> Patch:
    """The floor rises before any row of the publication is there."""

    def apply(real: Any, store: Any, view: Any, codec: Any, batches: Any, sequence: int, **named: Any) -> Any:
        store.raise_floor(view, delivery.Floor(sequence=sequence, end=directed.DAY.end))
        return real(store, view, codec, batches, sequence, **named)

    return _around(delivery, "apply_rows", apply)


def settled_before_applied() -> Patch:
    """The outbox entry is settled when it is taken up."""

    def apply(real: Any, backends: Backends, work: Any) -> int:
        entries = backends.registry.outbox.pending(kind="online", attempt=work.attempt)
        backends.registry.outbox.done([entry.id for entry in entries])
        rows: int = real(backends, work)
        return rows

    return _all(delivery, "apply_work", functools.partial(apply, delivery.apply_work), materialize, repair)


def outdated_snapshot_applied() -> Patch:
    """Work goes online although another publication has replaced its own."""
    name = "_write_snapshot" if hasattr(delivery, "_write_snapshot") else "_apply_snapshot"
    return _rewritten(delivery, name, "newest.sequence != work.sequence", "False")


def delete_instead_of_tombstone() -> Patch:
    def gone(store: Any, view: Any, codec: RowCodec, keys: Any, sequence: int) -> Any:
        encoded = codec.encode_keys(keys)

        def delete(transaction: Any) -> None:
            for key in lmdb_module._row_keys(lmdb_module._view_number(view, transaction), encoded):
                transaction.delete(key)

        store._run(delete, write=True)
        return delivery.apply_rows(store, view, codec, [], sequence)

    return mock.patch.object(delivery, "apply_tombstones", gone)


def no_tombstones() -> Patch:
    return mock.patch.object(RowCodec, "tombstones", lambda self, count, sequence: [bytes(24)] * count)


def sequence_before_lock() -> Patch:
    """The next sequence is looked up before the project is locked."""

    def publish(real: Any, self: Ledger, *arguments: Any, **named: Any) -> Any:
        with self._database.reading() as connection:
            row = connection.execute(
                sa.select(publishing.projects).where(publishing.projects.c.project == self._database.project)
            ).one()
        with mock.patch.object(publishing, "lock_project", return_value=row):
            return real(self, *arguments, **named)

    return _around(Ledger, "publish", publish)


def epoch_from_clock() -> Patch:
    """An attempt's id is the clock of the machine that begins it."""

    def insert(real: Any, database: Any, connection: Connection, attempt: Any) -> int:
        made = real(database, connection, attempt)
        epoch = directed.clock()
        for table, column in ((attempts_table, "id"), (attempt_intervals, "attempt_id"), (attempts.attempt_pins, "attempt_id"),
                              (attempts.attempt_sources, "attempt_id")):  # fmt: skip
            connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
            connection.execute(sa.update(table).where(table.c[column] == made).values({column: epoch}))
        return epoch

    return _around(ledger_module, "insert_attempt", insert)


def shared_directory() -> Patch:
    """All attempts of a view write into one directory."""
    stack = contextlib.ExitStack()
    where = lambda self, view, generation, attempt: f"market/{view.replace(':', '/')}/g{generation}/a0"  # noqa: E731
    stack.enter_context(mock.patch.object(LocalOfflineStore, "attempt_directory", where))
    if hasattr(compute, "refuse_used_directory"):
        stack.enter_context(mock.patch.object(compute, "refuse_used_directory"))
    return stack


def written_in_place() -> Patch:
    """A file is written under its own name."""

    @contextlib.contextmanager
    def writing(self: LocalOfflineStore, relative: str) -> Iterator[str]:
        self.prepare_directory(relative.rpartition("/")[0])
        yield self.full_path(relative)
        offline_module.failpoint("offline.written")

    return mock.patch.object(LocalOfflineStore, "writing", writing)


def sweep_deletes_first() -> Patch:
    """The sweep deletes files of attempts that it has not given up yet."""
    return mock.patch.object(repair, "sweep", directed.careless_sweep)


def verdicts_of_earlier() -> Patch:
    """An attempt takes the verdicts of the attempt before it, instead of being audited."""

    def verdicts(real: Any, self: Any) -> Any:
        earlier = self._backends.registry.ledger.verdicts(self._attempt.id - 1)
        return [verdict for verdict in earlier if verdict.interval in self._attempt.intervals] or real(self)

    return _around(validate._Audit, "verdicts", verdicts)


def lineage_outside() -> Patch:
    """COMPLETE is recorded after the transaction that publishes."""

    def publish(real: Any, self: Ledger, attempt_id: int, **named: Any) -> Any:
        events = named.pop("lineage_events", ())
        result = real(self, attempt_id, **named)
        for event in events(result) if callable(events) else events:
            self._lineage.record(event)
        return result

    return _around(Ledger, "publish", publish)


MUTANTS = [
    Mutant("no fence", no_fence, *on_the_way("retry", "AABAAAAAABBBBBBB")),
    Mutant("an overtaken attempt is published", overtaken_is_published, *on_the_way("backfills", LATE)),
    Mutant("inputs are not checked again", inputs_not_checked, *on_the_way("upstream", "BBBBAAAAAAAABBBB")),
    Mutant("inputs are not pinned", inputs_not_pinned, *on_the_way("upstream", "BBBBAAAAAAAABBBB")),
    Mutant("published before it is audited", publish_before_audit, *by(directed.blocked_rows_stay_hidden)),
    Mutant("the outbox outside of the transaction", outbox_outside, *by(directed.killed_after_publishing)),
    Mutant("lineage outside of the transaction", lineage_outside, *by(directed.killed_after_publishing)),
    Mutant("deferred SQLite transactions", deferred_transactions, *by(directed.writers_queue)),
    Mutant("readers list the directory", listing_instead_of_ledger, *on_the_way("backfills", LATE)),
    Mutant("a retry takes the definition of the module", step_of_the_module, *by(directed.audited_as_begun)),
    Mutant("the last writer wins online", last_writer_wins, *on_the_way("backfills", LATE_ONLINE)),
    Mutant("the last writer wins online, of events", last_writer_wins, *on_the_way("events", LATE_ONLINE)),
    Mutant("the floor is set instead of raised", floor_goes_down, *on_the_way("backfills", "AAAAAABBBBBBBBAA")),
    Mutant("the floor rises before the rows", floor_before_rows, *by(directed.killed_before_rows)),
    Mutant("work is settled before it is applied", settled_before_applied, *by(directed.killed_before_rows)),
    Mutant("a superseded snapshot is applied", outdated_snapshot_applied, *by(directed.superseded_work_writes_nothing)),
    Mutant("a key is deleted instead of buried", delete_instead_of_tombstone, *on_the_way("events", LATE_ONLINE)),
    Mutant("tombstones without a sequence", no_tombstones, *on_the_way("events", LATE_ONLINE)),
    Mutant("the sequence is taken before the lock", sequence_before_lock, *by(directed.sequences_follow_commits)),
    Mutant("the epoch is a clock", epoch_from_clock, *by(directed.clocks_do_not_rank)),
    Mutant("retries share a directory", shared_directory, *on_the_way("backfills", "AAAAAAAABBBBBBBB")),
    Mutant("files are written in place", written_in_place, *by(directed.torn_file_is_not_there)),
    Mutant("the sweep deletes before it marks", sweep_deletes_first, *by(directed.swept_attempt_cannot_publish)),
    Mutant("verdicts of an earlier attempt", verdicts_of_earlier, *by(directed.blocked_rows_stay_hidden)),
]
"""Every mutant with its killer."""


def survives(market: Market, mutant: Mutant) -> str | None:
    """Return what is wrong: the check fails without the mutant, or passes with it; None when the mutant is killed.

    What it raises is what the mutant does to the product only where that is an error of the product: anything else says that
    the mutant does not fit the product any more, and kills nothing.
    """
    if broken := mutant.check(market):
        return f"{mutant.killer} fails without any mutant: {broken[0]}"
    try:
        with mutant.broken():
            broken = mutant.check(market)
    except FStoreError:  # where there must be none
        return None
    except Exception as error:  # noqa: BLE001 (whatever it is, the mutant is broken)
        return f"{mutant.name!r} does not fit the product any more: {error!r}"
    finally:
        market.put(market.base)
    return None if broken else f"{mutant.name!r} survives {mutant.killer}"


def run(options: Options) -> tuple[int, int]:
    """Plant every mutant and see that its check finds it."""
    alive = 0
    with opened_market(recorded=False) as market:
        for number, mutant in enumerate(MUTANTS, start=1):
            if options.only and options.only != mutant.name:
                continue
            if text := survives(market, mutant):
                alive += 1
                options.violation("mutants", mutant.name, text)
            options.progress("mutants", number, len(MUTANTS), alive)
    total = 1 if options.only else len(MUTANTS)
    print(f"  {total - alive}/{total} mutants killed")
    return total, alive


# -- patching ---------------------------------------------------------------------------------------------------------


def _around(place: Any, name: str, instead: Callable[..., Any]) -> Patch:
    """Replace a function by one that is given it first."""
    real = getattr(place, name)

    def call(*arguments: Any, **named: Any) -> Any:
        return instead(real, *arguments, **named)

    return mock.patch.object(place, name, call)


def _rewritten(place: Any, name: str, old: str, new: str) -> Patch:
    """Replace a piece of a function's source."""
    source = inspect.getsource(getattr(place, name))
    assert source.count(old) == 1, f"{name} has no {old!r} any more"
    made: dict[str, Any] = {}
    exec(compile("from __future__ import annotations\n" + source.replace(old, new), name, "exec"), vars(place), made)
    return mock.patch.object(place, name, made[name])


def _all(place: Any, name: str, instead: Callable[..., Any], *others: Any) -> Patch:
    """Replace a function in every module that uses it."""
    stack = contextlib.ExitStack()
    for each in (place, *others):
        if hasattr(each, name):
            stack.enter_context(mock.patch.object(each, name, instead))
    return stack


__all__ = ["MUTANTS", "Mutant", "run", "survives"]
