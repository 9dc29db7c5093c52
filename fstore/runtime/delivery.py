"""Bring publications to the online store, from the outbox.

Each entry was written in the transaction of its publication, so none is lost; applying one twice, late or out of order
changes nothing, because rows are ordered by sequence in the store itself. *Snapshot views*: the rows of the newest published
interval, then the floor, below which rows read as absent. *Event views*: for every key in the new or the replaced rows its
newest published row, or a tombstone. With the floor goes the view's mark, by which a store is found out that loses rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from fstore.backends import Backends
from fstore.engines.engine import Query
from fstore.errors import FStoreError, StoreChanged, StoreMissing
from fstore.failpoints import failpoint
from fstore.plan.sql import quoted
from fstore.plan.steps import EVENT_TIMESTAMP, Step
from fstore.registry.records import Head, OnlineWork
from fstore.runtime.holding import holding
from fstore.runtime.incarnation import Seen, check_online, write_online
from fstore.stores.encoding import RowCodec
from fstore.stores.online import Floor, Mark, OnlineView, apply_rows, apply_tombstones
from fstore.types import Column, parse_type

_DELETED: Final[Sequence[Literal["deleted"]]] = ("deleted",)

Progress = Callable[[int, int], None]
"""Told how many of how many entries are applied."""


class Delivered(msgspec.Struct, frozen=True, kw_only=True):
    """What was brought online: entries applied or found superseded, rows written, and entries that failed.

    ``code`` and ``message`` are those of the first error.
    """

    entries: int = 0
    rows: int = 0
    failed: int = 0
    code: str = ""
    message: str = ""


@holding
def apply_outbox(backends: Backends, *, limit: int = 1000, progress: Progress | None = None) -> Delivered:
    """Apply pending online work, oldest first; an entry that fails stays pending with its error, and the others go on.

    ``limit`` is how many entries are read together: all that was pending at the beginning is tried once.
    """
    outbox = backends.registry.outbox
    total = outbox.depth().pending
    entries = rows = failed = last = 0
    first: FStoreError | None = None
    while pending := outbox.pending(kind="online", limit=limit, after=last):
        for entry in pending:
            try:
                rows += apply_work(backends, entry.payload)
            except FStoreError as error:
                outbox.failed(entry.id, str(error))
                failed += 1
                first = first or error
            else:
                entries += 1
            if progress:
                progress(entries + failed, max(total, entries + failed))
        last = pending[-1].id
    code, message = (first.code, str(first)) if first else ("", "")
    return Delivered(entries=entries, rows=rows, failed=failed, code=code, message=message)


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that are in the online store, all acknowledged, and the floor that they carry."""

    rows: int
    floor: Floor


def apply_work(backends: Backends, work: OnlineWork) -> int:
    """Apply one publication, settle its work, and return how many rows were written. Superseded snapshots need nothing.

    A store that restarts, fails over or is flushed meanwhile gets all of it again; raises StoreChanged or StoreMissing when
    that does not end. What the store lost of the view before comes first: a floor never vouches for rows that are not there.
    """
    failpoint("online.begun")
    step = backends.registry.ledger.attempt(work.attempt).step
    tries = 3
    while True:
        admit(backends, work.sequence)
        try:
            return _apply(backends, step, work)
        except (StoreChanged, StoreMissing):
            tries -= 1
            if not tries:
                raise


def _apply(backends: Backends, step: Step, work: OnlineWork) -> int:
    target, marks = online_view(backends, work.view, work.generation), backends.registry.online
    restored = 0
    if backends.online.mark(target).ticket < marks.settled(work.view, work.generation):
        restored = restore_lost(backends, work.view, work.generation)
    begun = backends.online.mark(target)
    written = write_rows(backends, step, [work], as_of=work.sequence)
    if written is None:
        marks.settle(work)
        return restored
    failpoint("online.applied")
    issued = marks.issue(work.view, work.generation, life=begun.life, above=begun.ticket)
    failpoint("online.issued")
    mark = Mark(life=begun.life, ticket=issued.ticket, settled=issued.settled)
    backends.online.raise_floor(target, written.floor, mark)
    failpoint("online.floor")
    failpoint("outbox.applied")
    marks.settle(work, ticket=issued.ticket, life=begun.life)
    failpoint("outbox.done")
    return restored + written.rows


def restore_lost(backends: Backends, view: str, generation: int) -> int:
    """Write what the store lost of one published view, and return how many rows that took.

    The store's mark rises to what was settled when its life was entered into the registry: from then on nothing that an
    earlier life began can be settled, so what has a ticket up to there is either in the list or in the store.
    """
    marks, target = backends.registry.online, online_view(backends, view, generation)
    found = backends.online.mark(target)
    settled = marks.enter(view, generation, found.life)
    failpoint("repair.entered")
    works = marks.settled_above(view, generation, found.ticket)
    heads = backends.registry.ledger.heads(view, generation=generation)  # as new as what is settled
    step = _restoring_step(backends, generation, heads)
    if step.kind == "snapshot":
        works = [OnlineWork.of(view, generation, head) for head in heads[-1:]]
    elif not found.ticket:  # all is lost, or was never counted
        works += [OnlineWork.of(view, generation, head) for head in heads]
    newest = max(head.sequence for head in heads)
    admit(backends, newest)
    written = write_rows(backends, step, works, as_of=newest) if works else None
    ticket = settled or marks.issue(view, generation, life=found.life, above=found.ticket).ticket
    mark = Mark(life=found.life, ticket=ticket, settled=found.ticket)
    if floor := backends.online.floor(target) if written is None else written.floor:
        backends.online.raise_floor(target, floor, mark)
    return 0 if written is None else written.rows


def _restoring_step(backends: Backends, generation: int, heads: Sequence[Head]) -> Step:
    """Return the step by whose columns lost rows are written: at the sequence of the newest head, whose work has it too.

    A store keeps the first row of a key and sequence, so that row has to hold all that is published of the key. Of snapshot
    views that is the row of the newest interval: the step that published it. A key of an event view may have its newest row
    from any head: the step with most columns among those that published them, if it has all that readers ask for now.
    """
    last = backends.registry.ledger.attempt(heads[-1].attempt).step
    if last.kind == "snapshot":
        return last
    holders = {head.fingerprint: head.attempt for head in sorted(heads, key=lambda head: head.sequence, reverse=True)}
    steps = [backends.registry.ledger.attempt(attempt).step for attempt in holders.values()]
    serving = next((r for r in backends.registry.views() if (r.name, r.generation) == (last.view, generation)), None)
    base = steps[0] if serving is None else serving.step
    asked = {(column.name, column.type) for column in base.columns()}
    wider = [step for step in steps if asked <= {(column.name, column.type) for column in step.columns()}]
    return max([base, *wider], key=lambda step: len(step.columns()))


def admit(backends: Backends, sequence: int) -> None:
    """Make sure that this registry may write the online store, and let the store know the sequence before its rows."""
    state = check_online(backends)
    write_online(backends.online, backends.settings.project, Seen(incarnation=state.incarnation, sequence=sequence))


def write_rows(backends: Backends, step: Step, works: Sequence[OnlineWork], *, as_of: int) -> Written | None:
    """Write what publications brought, as of a sequence, and return the floor to be raised; None: superseded by now."""
    if step.kind == "snapshot":
        return _write_snapshot(backends, step, works[-1])
    return _write_events(backends, step, works, as_of)


def _write_snapshot(backends: Backends, step: Step, work: OnlineWork) -> Written | None:
    newest = backends.registry.ledger.heads(step.view, start=work.start, generation=work.generation)[-1]
    if newest.sequence != work.sequence:
        return None  # a newer publication holds the newest interval, and has work of its own
    last = step.schedule.interval_ending_by(newest.end)
    head = msgspec.structs.replace(newest, start=last.start, end=last.end)
    relation = backends.published(step, [head])
    target = online_view(backends, work.view, work.generation)
    with backends.engine.read(Query(sql="SELECT * FROM published", relations={"published": relation})) as reader:
        applied = apply_rows(backends.online, target, _codec(step), reader, work.sequence)
    return Written(rows=applied.written, floor=Floor(sequence=work.sequence, end=last.end))


def _write_events(backends: Backends, step: Step, works: Sequence[OnlineWork], as_of: int) -> Written:
    """Write, for every key that the publications brought or replaced, its newest row as of a sequence, or a tombstone."""
    ledger, generation = backends.registry.ledger, works[0].generation

    def heads_as_of(work: OnlineWork, sequence: int) -> list[Head]:
        return ledger.heads(step.view, start=work.start, end=work.end, generation=generation, as_of=sequence)

    new = [head for work in works for head in heads_as_of(work, work.sequence)]
    old = [head for work in works for head in heads_as_of(work, work.sequence - 1)]
    # Where nothing was replaced, every key has a row at least as new as the range, so older history stays unread.
    since = min(work.start for work in works) if not old else None
    every = ledger.heads(step.view, start=since, as_of=as_of, generation=generation)
    query = Query(
        sql=_newest_rows_sql(step),
        relations={
            # What was deleted after the horizon was superseded; what superseded it is online, or has work of its own. The
            # keys of replaced rows that are damaged cannot be known.
            "new_rows": backends.published(step, _apart(new), features=(), without=_DELETED),
            "old_rows": backends.published(step, _apart(old), features=(), without=("deleted", "damaged")),
            "every_row": backends.published(step, every, without=_DELETED),
        },
    )
    target, codec = online_view(backends, step.view, generation), _codec(step)
    written = 0
    with backends.engine.read(query) as reader:
        for batch in reader:
            gone = batch.filter(pc.is_null(batch[EVENT_TIMESTAMP]))
            kept = batch.filter(pc.is_valid(batch[EVENT_TIMESTAMP]))
            written += apply_rows(backends.online, target, codec, [kept], as_of).written
            written += apply_tombstones(backends.online, target, codec, pa.Table.from_batches([gone]), as_of).written
    # Rows of event views stand for themselves; their floor only says that the store was filled.
    return Written(rows=written, floor=Floor(sequence=as_of, end=max(work.end for work in works)))


def _apart(heads: Iterable[Head]) -> list[Head]:
    """Return heads whose ranges are disjoint within each attempt: rows of a file that several of them hold are read once."""
    ranges: dict[int, list[Head]] = {}
    for head in sorted(heads, key=lambda head: (head.start, head.end)):
        earlier = ranges.setdefault(head.attempt, [])
        if earlier and head.start < earlier[-1].end:
            earlier[-1] = msgspec.structs.replace(earlier[-1], end=max(earlier[-1].end, head.end))
        else:
            earlier.append(head)
    return [head for merged in ranges.values() for head in merged]


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


def online_view(backends: Backends, view: str, generation: int) -> OnlineView:
    """Return how the online store names a copy of a view."""
    return OnlineView(project=backends.settings.project, view=view, generation=generation)
