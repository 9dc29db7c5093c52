"""Run the real code of a task step by step, and let it be taken up again later from what it has done so far.

A :class:`Task` runs a function of the product until just before its next write, and stops. Every call over the boundary
(ledger, outbox, stores, engine) is recorded with its answer; taking the task up again runs the same code from the start and
answers recorded calls from the record, without doing them again. So the state of a task is a value: it can be kept, hashed
and taken up in any number of worlds. Nothing of the product is imitated, and its code must be deterministic between calls.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple
from unittest import mock

import pyarrow as pa

from fstore.backends import Backends
from fstore.engines.duckdb import DuckDBEngine
from fstore.errors import FStoreError
from fstore.registry.database import Database
from fstore.registry.ledger import Ledger
from fstore.registry.online_marks import OnlineMarks
from fstore.registry.outbox import Outbox
from fstore.registry.records import Attempt
from fstore.registry.registry import Registry
from fstore.registry.retention import Retention
from fstore.runtime import batches, compute, incarnation
from fstore.stores.lmdb import LmdbStore
from fstore.stores.offline import LocalOfflineStore

OWNER = "FSTORE_CHAOS_OWNER"
"""The variable by which the views of the world know whose rows they make, so that the rows of two attempts differ."""

SLOTS = ("begin", "write", "record", "validate", "publish", "apply", "floor", "settle")
"""The eight steps of an attempt."""

_METHODS: list[tuple[object, str, str | None]] = [
    (batches, "observe_step", None),
    (batches, "resolve_inputs", None),
    (compute, "resolve_inputs", None),
    (Ledger, "finished", None),
    (Ledger, "attempt", None),
    (Ledger, "heads", None),
    (Ledger, "files", None),
    (Ledger, "verdicts", None),
    (Ledger, "history", None),
    (Ledger, "batch", None),
    (Outbox, "pending", None),
    (LocalOfflineStore, "exists", None),
    (LocalOfflineStore, "prepare_directory", None),
    (LocalOfflineStore, "list_directory", None),
    (LmdbStore, "read_rows", None),
    (Registry, "state", None),
    (Registry, "source_schemas", None),
    (Retention, "lost", None),
    (incarnation, "read_offline", None),
    (Ledger, "begin_batch", "begin"),
    (Ledger, "take_over", "begin"),
    (Ledger, "begin", "begin"),
    (compute, "_write_files", "write"),
    (Ledger, "record_files", "record"),
    (Ledger, "fail", "record"),
    (batches, "validate_attempt", "validate"),
    (Ledger, "publish", "publish"),
    (LmdbStore, "write_rows", "apply"),
    (LmdbStore, "raise_floor", "floor"),
    (Outbox, "done", "settle"),
    (LmdbStore, "mark", None),
    (LmdbStore, "floor", None),
    (OnlineMarks, "settled", None),
    (OnlineMarks, "issue", "floor"),
    (OnlineMarks, "enter", "floor"),
    (OnlineMarks, "settle", "settle"),
]
"""Every call that is recorded, and the step that it belongs to if it writes."""


class Call(NamedTuple):
    """A recorded call: its name, what it gave or raised, and a digest of that and of all calls before it."""

    name: str
    value: Any
    error: Exception | None
    digest: str


class Stop(BaseException):
    """Ends a task for now; nobody handles it."""


class Task(NamedTuple):
    """What a task has done so far. ``slot`` counts its steps, ``outcome`` is how it ended (None: it has not)."""

    number: int
    log: tuple[Call, ...] = ()
    slot: int = 0
    outcome: str | None = None

    @property
    def digest(self) -> tuple[object, ...]:
        """What tells states of a task apart."""
        return (self.slot, self.outcome, self.log[-1].digest if self.log and self.outcome is None else "")


@contextlib.contextmanager
def _as_owner(number: int) -> Iterator[None]:
    """Tell what computes rows within the block whose they are."""
    os.environ[OWNER] = str(number)  # nobody else sets it, and saving all of the environment takes milliseconds
    try:
        yield
    finally:
        del os.environ[OWNER]


class _Running:
    """A task while it runs: up to a slot, or (``fine``) for one call more than is recorded."""

    def __init__(self, task: Task, slot: int, *, fine: bool) -> None:
        self.task, self.slot, self.fine = task, slot, fine
        self.log, self.cursor = list(task.log), 0
        self.executed: str | None = None
        self.inside = False

    def call(self, name: str, step: str | None, do: Callable[[], Any]) -> Any:
        if self.cursor < len(self.log):
            recorded = self.log[self.cursor]
            assert recorded.name == name, f"the code took another way: {name} instead of {recorded.name}"
            self.cursor += 1
            if recorded.error is not None:
                raise recorded.error
            return recorded.value
        if self.fine:
            if self.cursor > len(self.task.log):
                raise Stop
        elif step is not None and (SLOTS.index(step) > self.slot or self.executed not in (None, step)):
            raise Stop
        self.inside, value, error = True, None, None
        try:
            with _as_owner(self.task.number):
                value = do()
        except FStoreError as raised:
            error = raised
        finally:
            self.inside = False
        before = self.log[-1].digest if self.log else ""
        text = f"{before} {name} {_text(value)} {type(error).__name__}"
        self.log.append(Call(name, value, error, hashlib.sha256(text.encode()).hexdigest()[:16]))
        self.cursor += 1
        self.executed = step or self.executed
        if error is not None:
            raise error
        return value


def _text(value: Any) -> str:
    if isinstance(value, Attempt):
        return repr((value.id, value.state, value.batch, value.pins, value.files, value.verdicts))
    if isinstance(value, list) and value and isinstance(value[0], Attempt):
        return repr([_text(each) for each in value])
    return repr(value.to_pylist()) if isinstance(value, pa.Table) else repr(value)


_running: _Running | None = None


def advance(task: Task, work: Callable[[], object], *, fine: bool = False) -> Task:
    """Let a task take its next step: the writes of a slot, or (``fine``) one recorded call."""
    global _running  # noqa: PLW0603 (one task runs at a time)
    if task.outcome is not None:
        return task._replace(slot=task.slot + 1)
    running = _running = _Running(task, task.slot, fine=fine)
    outcome = None
    try:
        work()
        outcome = "succeeded"
    except Stop:
        pass
    except FStoreError as error:
        outcome = type(error).__name__
    finally:
        _running = None
    return task._replace(log=tuple(running.log), slot=task.slot + 1, outcome=outcome)


@contextlib.contextmanager
def recording() -> Iterator[None]:
    """Make the product's calls pass through the running task within the block, and let the database's clock stand still."""
    with contextlib.ExitStack() as patches:
        for place, name, step in _METHODS:
            patches.enter_context(mock.patch.object(place, name, _recorded(getattr(place, name), name, step)))
        patches.enter_context(mock.patch.object(DuckDBEngine, "read", _recorded_read(DuckDBEngine.read)))
        patches.enter_context(mock.patch.object(Database, "now", return_value=NOW))
        yield


NOW = datetime(2026, 2, 1, tzinfo=UTC)


def _recorded(function: Callable[..., Any], name: str, step: str | None) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        if _running is None or _running.inside:
            return function(*arguments, **named)
        # The record of who writes a store is no row of a view: it belongs to whatever step comes upon it.
        writes = None if name == "write_rows" and arguments[1].view == "_registry" else step
        return _running.call(name, writes, lambda: _held(function(*arguments, **named)))

    return call


def _held(value: Any) -> Any:
    return list(value) if isinstance(value, Iterator) else value


def _recorded_read(read: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: DuckDBEngine, query: Any) -> Any:
        if _running is None or _running.inside:
            return read(self, query)

        def whole() -> pa.Table:
            with read(self, query) as reader:
                return reader.read_all()

        return _running.call("read", None, whole).to_reader()

    return call


def attempts_begun(task: Task) -> list[int]:
    """Return the attempts that a task began."""
    return [call.value.id for call in task.log if call.name == "begin" and call.error is None]


def whose(backends: Backends, task: Task) -> dict[int, int]:
    """Return the attempts that a task began, each with the task's number."""
    return dict.fromkeys(attempts_begun(task), task.number)
