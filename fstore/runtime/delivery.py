"""Bring publications to the online store, from the outbox.

Each entry was written in the transaction of its publication, so none is lost; applying one twice, late or out of order
changes nothing, because rows are ordered by sequence in the store itself. *Snapshot views*: the rows of the newest published
interval, then the floor, below which rows read as absent. *Event views*: for every key in the new or the replaced rows its
newest published row, or a tombstone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from fstore.backends import Backends
from fstore.engines.engine import Query
from fstore.errors import FStoreError
from fstore.failpoints import failpoint
from fstore.plan.sql import quoted
from fstore.plan.steps import EVENT_TIMESTAMP, Step
from fstore.registry.records import Head, OnlineWork
from fstore.runtime.incarnation import Seen, check_online, write_online
from fstore.stores.encoding import RowCodec
from fstore.stores.online import Floor, OnlineView, apply_rows, apply_tombstones
from fstore.types import Column, parse_type

Progress = Callable[[int, int], None]
"""Told how many of how many entries are applied."""


class Delivered(msgspec.Struct, frozen=True, kw_only=True):
    """What was brought online: entries applied or found superseded, rows written, and entries that failed."""

    entries: int = 0
    rows: int = 0
    failed: int = 0


def apply_outbox(backends: Backends, *, limit: int = 1000, progress: Progress | None = None) -> Delivered:
    """Apply pending online work, oldest first; an entry that fails stays pending with its error, and the others go on.

    ``limit`` is how many entries are read together: all that was pending at the beginning is tried once.
    """
    outbox = backends.registry.outbox
    total = outbox.depth().pending
    entries = rows = failed = last = 0
    while pending := outbox.pending(kind="online", limit=limit, after=last):
        for entry in pending:
            try:
                rows += apply_work(backends, entry.payload)
            except FStoreError as error:
                outbox.failed(entry.id, str(error))
                failed += 1
            else:
                failpoint("outbox.applied")
                outbox.done([entry.id])
                failpoint("outbox.done")
                entries += 1
            if progress:
                progress(entries + failed, max(total, entries + failed))
        last = pending[-1].id
    return Delivered(entries=entries, rows=rows, failed=failed)


def apply_work(backends: Backends, work: OnlineWork) -> int:
    """Apply one publication, and return how many rows were written. Superseded snapshots need nothing."""
    failpoint("online.begun")
    state = backends.registry.state()
    check_online(backends, state)
    step = backends.registry.ledger.attempt(work.attempt).step
    # Recorded before the rows, so that the store never holds a sequence that it does not know of.
    write_online(backends.online, backends.settings.project, Seen(incarnation=state.incarnation, sequence=work.sequence))
    return _apply_snapshot(backends, step, work) if step.kind == "snapshot" else _apply_events(backends, step, work)


def _apply_snapshot(backends: Backends, step: Step, work: OnlineWork) -> int:
    newest = backends.registry.ledger.heads(step.view, start=work.start, generation=work.generation)[-1]
    if newest.sequence != work.sequence:
        return 0  # a newer publication holds the newest interval, and has work of its own
    last = step.schedule.interval_ending_by(newest.end)
    head = msgspec.structs.replace(newest, start=last.start, end=last.end)
    relation = backends.published(step, [head])
    target = _target(backends, step, work)
    with backends.engine.read(Query(sql="SELECT * FROM published", relations={"published": relation})) as reader:
        applied = apply_rows(backends.online, target, _codec(step), reader, work.sequence)
    failpoint("online.applied")
    backends.online.raise_floor(target, Floor(sequence=work.sequence, end=last.end))
    failpoint("online.floor")
    return applied.written


def _apply_events(backends: Backends, step: Step, work: OnlineWork) -> int:
    ledger = backends.registry.ledger

    def heads_as_of(sequence: int) -> list[Head]:
        return ledger.heads(step.view, start=work.start, end=work.end, generation=work.generation, as_of=sequence)

    new, old = heads_as_of(work.sequence), heads_as_of(work.sequence - 1)
    # Where nothing was replaced, every key has a row at least as new as the range, so older history stays unread.
    since = work.start if not old else None
    every = ledger.heads(step.view, start=since, as_of=work.sequence, generation=work.generation)
    query = Query(
        sql=_newest_rows_sql(step),
        relations={
            "new_rows": backends.published(step, new, features=()),
            "old_rows": backends.published(step, old, features=()),
            "every_row": backends.published(step, every),
        },
    )
    target, codec = _target(backends, step, work), _codec(step)
    written = 0
    with backends.engine.read(query) as reader:
        for batch in reader:
            gone = batch.filter(pc.is_null(batch[EVENT_TIMESTAMP]))
            kept = batch.filter(pc.is_valid(batch[EVENT_TIMESTAMP]))
            written += apply_rows(backends.online, target, codec, [kept], work.sequence).written
            written += apply_tombstones(backends.online, target, codec, pa.Table.from_batches([gone]), work.sequence).written
    failpoint("online.applied")
    # Rows of event views stand for themselves; their floor only says that the store has not lost them.
    backends.online.raise_floor(target, Floor(sequence=work.sequence, end=work.end))
    failpoint("online.floor")
    return written


def _newest_rows_sql(step: Step) -> str:
    """Return the newest row of every key that the publication touched; its time is null where the key has none left.

    Vectors come as lists: DuckDB 2.0 reads lengths from memory that was never set where it joins arrays that are null.
    """
    keys = ", ".join(quoted(key.name) for key in step.keys)
    columns = ", ".join(f"newest.{quoted(column.name)}" for column in step.columns()[len(step.keys) :])
    touched = ", ".join(f"touched.{quoted(key.name)}" for key in step.keys)
    held = ", ".join(_joinable(column) for column in step.columns())
    return f"""
        WITH held AS (SELECT {held} FROM every_row),
        touched AS (SELECT DISTINCT {keys} FROM (SELECT {keys} FROM new_rows UNION ALL SELECT {keys} FROM old_rows)),
        newest AS (
            SELECT * FROM held SEMI JOIN touched USING ({keys})
            QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {EVENT_TIMESTAMP} DESC) = 1
        )
        SELECT {touched}, {columns} FROM touched LEFT JOIN newest USING ({keys})
    """


def _joinable(column: Column) -> str:
    name, kind = quoted(column.name), parse_type(column.type)
    if kind.name != "vector":
        return name
    return f"CAST({name} AS {'FLOAT' if str(kind.item) == 'float32' else 'DOUBLE'}[]) AS {name}"


def _codec(step: Step) -> RowCodec:
    features: Sequence[Column] = [
        column for column in step.columns() if column.name != EVENT_TIMESTAMP and column not in step.keys
    ]
    return RowCodec(keys=step.keys, features=features)


def _target(backends: Backends, step: Step, work: OnlineWork) -> OnlineView:
    return OnlineView(project=backends.settings.project, view=step.view, generation=work.generation)
