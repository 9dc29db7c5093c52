"""What must hold after a scenario, as executable statements over its history, the registry, the files and the online store.

:func:`check` returns one line per broken promise. The content is compared with that of an undisturbed run by values; what
readers saw on the way is compared with what was published; and doing everything once more must change nothing.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import sqlalchemy as sa

from fstore.backends import Backends
from fstore.interval import Interval
from fstore.lineage.run import lineage_run_id
from fstore.plan.steps import EVENT_TIMESTAMP
from fstore.plan.tile_step import is_tiles
from fstore.registry.database import Database
from fstore.registry.records import Head
from fstore.registry.tables import attempts, batches, lineage_events, outbox, publications
from fstore.runtime.materialize import materialize_attempt
from fstore.stores.encoding import row_sequence
from tests.chaos.history import Event, read_history
from tests.chaos.work import maintain
from tests.chaos.world import KEYS, VIEWS, World

ALLOWED = {"Fenced", "AttemptUnknown"}
"""Errors without retry that a task may end with: it was overtaken, or given up and swept while it stood still."""

TOO_LATE = "is published already and cannot be changed"
"""What a zombie is told that would change an attempt that its retry took over and published."""


OVERWRITTEN = re.compile(
    r"published \d+ (over the later|after batch)|went back|has (floor|sequence) .* head| online and .* offline$|^content of"
)
"""Statements that say that something older stands where something newer was."""


class Log:
    """The rows of the registry that the statements are about, read once."""

    def __init__(self, world: World) -> None:
        database = Database(world.settings.registry_url, "chaos")
        with database.reading() as connection:
            self.publications = connection.execute(sa.select(publications).order_by(publications.c.sequence)).all()
            self.attempts = {row.id: row for row in connection.execute(sa.select(attempts))}
            self.batches = connection.execute(sa.select(batches).order_by(batches.c.id)).all()
            self.outbox = connection.execute(sa.select(outbox).order_by(outbox.c.id)).all()
            self.events = connection.execute(sa.select(lineage_events.c.run_id, lineage_events.c.event_type)).all()
        database.close()
        self.of_views = [row for row in self.publications if not is_tiles(row.view)]

    def ranges(self, batch: Any) -> tuple[Interval, ...]:
        return msgspec.json.decode(batch.ranges, type=tuple[Interval, ...])


def check(
    world: World, backends: Backends, history: Path, variants: set[str], views: tuple[str, ...] = VIEWS,
    again: tuple[str, ...] | None = VIEWS, *, restored: bool = False,
) -> list[str]:  # fmt: skip
    """Return what does not hold, after it converged.

    ``variants`` are those of the source that there were, the last one sorted last; ``again`` are views to materialize again
    when everything is done once more (None: it is not).
    A ``restored`` registry has gaps in its sequences, knows nothing of some files, and has a store with floors above them.
    """
    log = Log(world)
    found: list[str] = []
    for statement in (
        content(world, backends, max(variants), views),
        epochs_ascend(log),
        fenced(log, read_history(history, "begun", "locked")),
        nothing_lost(world, log, gaps=restored),
        online_is_offline(world, backends, views, above=restored),
        () if restored else orphans(world, log),
        errors(read_history(history, "failed")),
        readings(world, backends, log, read_history(history, "online", "offline"), variants),
    ):
        found.extend(statement)
    if again is not None:
        found.extend(repeated(world, backends, log, views, again))
    return found


def content(world: World, backends: Backends, variant: str, views: tuple[str, ...]) -> Iterator[str]:
    """Every view has the content of an undisturbed run."""
    seen, wanted = world.content(backends, views), world.expected[variant]
    for view in views:
        for end in sorted(seen[view].keys() | wanted[view].keys()):
            if seen[view].get(end) != wanted[view].get(end):
                yield f"content of {view} at {end} is {seen[view].get(end)}, undisturbed {wanted[view].get(end)}"


def epochs_ascend(log: Log) -> Iterator[str]:
    """No attempt publishes over a later one."""
    for at, newer in enumerate(log.of_views):
        for older in log.of_views[:at]:
            overlap = older.start_at < newer.end_at and newer.start_at < older.end_at
            if older.view == newer.view and overlap and older.attempt_id > newer.attempt_id:
                yield f"attempt {newer.attempt_id} of {newer.view} published {newer.sequence} over the later {older.attempt_id}"


def fenced(log: Log, events: list[Event]) -> Iterator[str]:
    """A zombie publishes nothing once its retry has begun: what locked the project later must not be in the log."""
    began = {event["batch"]: event["at"] for event in events if event["what"] == "begun"}
    locked: dict[int, int] = {}
    for event in events:
        if event["what"] == "locked":
            locked.setdefault(event["attempt"], event["at"])
    for row in log.of_views:
        mine = log.attempts[row.attempt_id]
        for batch in log.batches:
            if (batch.view, batch.run_id) == (mine.view, mine.run_id) and batch.id > mine.batch_id and batch.id in began:
                overlap = any(range_.overlaps(Interval(row.start_at, row.end_at)) for range_ in log.ranges(batch))
                if overlap and locked.get(row.attempt_id, 0) > began[batch.id]:
                    yield f"zombie attempt {row.attempt_id} of {row.view} published {row.sequence} after batch {batch.id} began"


def nothing_lost(world: World, log: Log, *, gaps: bool) -> Iterator[str]:
    """Sequences have no gap; every publication has its COMPLETE event and its online work, and all work is done."""
    sequences = [row.sequence for row in log.publications]
    if not gaps and sequences != list(range(1, len(sequences) + 1)):
        yield f"the log has sequences {sequences}"
    completed = {event.run_id for event in log.events if event.event_type == "COMPLETE"}
    started = {event.run_id for event in log.events if event.event_type == "START"}
    for attempt in sorted({row.attempt_id for row in log.of_views}):
        run = lineage_run_id("chaos", attempt)
        if run not in completed or run not in started:
            yield f"published attempt {attempt} has no {'COMPLETE' if run in started else 'START'} event"
    done = {row.sequence for row in log.outbox if row.done_at is not None}
    if pending := [row.sequence for row in log.outbox if row.done_at is None]:
        yield f"the outbox still has {pending}"
    for row in log.of_views:
        same = [other for other in log.of_views if other.view == row.view]
        newest = max(other.end_at for other in same if other.sequence <= row.sequence or other.attempt_id == row.attempt_id)
        needed = world.steps[row.view].kind == "event" or row.end_at == newest
        if needed and row.sequence not in done:
            yield f"publication {row.sequence} of {row.view} has no online work"


def online_is_offline(world: World, backends: Backends, views: tuple[str, ...], *, above: bool) -> Iterator[str]:
    """What the online store has is what is published, bit for bit."""
    stored = world.online(backends)
    for view in views:
        heads = backends.registry.ledger.heads(view)
        floor, rows = stored[view].floor, dict(zip(KEYS, stored[view].rows, strict=True))
        if not heads:
            continue
        if floor is None:
            yield f"{view} has no floor online"
            continue
        snapshot = world.steps[view].kind == "snapshot"
        if snapshot and not above and (floor.sequence, floor.end) != (heads[-1].sequence, heads[-1].end):
            yield f"{view} has floor {floor} and head {heads[-1]}"
        wanted = _newest_rows(world, backends, view, heads)
        for key, row in rows.items():
            shown = row is not None and (row_sequence(row) >= floor.sequence if snapshot else row[8:] != bytes(len(row) - 8))
            payload = row[8:] if row is not None and shown else None
            if not snapshot and row is not None and row[8:] == world.codec(view).tombstones(1, 0)[0][8:]:
                payload = None
            if payload != wanted.get(key):
                yield f"{view} of {key} is {payload!r} online and {wanted.get(key)!r} offline"
            if (
                snapshot
                and not above
                and payload is not None
                and row is not None
                and row_sequence(row) != heads[-1].sequence
            ):
                yield f"{view} of {key} has sequence {row_sequence(row)} online, its head has {heads[-1].sequence}"


def orphans(world: World, log: Log) -> Iterator[str]:
    """Every file is of an attempt that published or was overtaken, and none is half-written."""
    root = Path(world.settings.offline_url.removeprefix("file:")) / "chaos"
    for path in sorted(root.rglob("*")):
        number = next((part for part in reversed(path.parts) if re.fullmatch(r"a\d+", part)), None)
        if not path.is_file() or number is None:
            continue
        attempt = log.attempts.get(int(number[1:]))
        if ".writing-" in path.name or attempt is None or attempt.state != "published":
            yield f"orphan {path.relative_to(root)} of an attempt that is {attempt.state if attempt else 'unknown'}"


def errors(failures: list[Event]) -> Iterator[str]:
    """Every failure has a code and a known retry class; what cannot be retried is being overtaken or given up."""
    for event in failures:
        if not event["code"] or event["code"] == "fstore_error" or not isinstance(event["retryable"], bool):
            yield f"{event['role']} failed without a code: {event['error']}: {event['text']}"
        elif not event["retryable"] and event["error"] not in ALLOWED and TOO_LATE not in event["text"]:
            yield f"{event['role']} failed for good: {event['error']}: {event['text']}"


def readings(world: World, backends: Backends, log: Log, events: list[Event], variants: set[str]) -> Iterator[str]:
    """Offline, readers saw whole intervals; online, no sequence went back and every row was published."""
    held: dict[tuple[str, str, str], tuple[int, str]] = {}
    tombstones = {view: world.codec(view).tombstones(1, 0)[0][8:].hex() for view in VIEWS}
    floors: dict[tuple[str, str], int] = {}
    intervals: dict[tuple[str, str], set[str]] = defaultdict(set)
    published = {view: _published_rows(world, backends, log, view) for view in VIEWS} if events else {}
    for event in events:
        view, role = event["view"], event["role"]
        if event["what"] == "offline":
            known = [world.expected[variant].get(view, {}) for variant in ("A", "B")]
            for end, seen in event["content"].items():
                if seen not in [each.get(end) for each in known]:
                    yield f"{role} read {view} at {end} as {seen}, which no run gives"
            if gone := intervals[role, view] - event["content"].keys():
                yield f"{role} no longer saw {sorted(gone)} of {view}"
            intervals[role, view] = set(event["content"])
            continue
        if event["floor"] < floors.get((role, view), 0):
            yield f"the floor of {view} went back from {floors[role, view]} to {event['floor']}"
        floors[role, view] = event["floor"]
        for key, text in event["rows"].items():
            last = held.get((role, view, key), (0, ""))
            if text is None:  # what reads as absent may be forgotten, and stays below what comes
                if last[0] >= floors[role, view] and last[1] != tombstones[view]:
                    yield f"{view} of {key} vanished online, it had {last[0]}"
                continue
            sequence = row_sequence(bytes.fromhex(text))
            if sequence < last[0]:
                yield f"{view} of {key} went back online from {last[0]} to {sequence}"
            held[role, view, key] = (sequence, text[16:])
            if (sequence, key, text[16:]) not in published[view]:
                yield f"{role} read {view} of {key} with sequence {sequence}, which was never published"


def repeated(world: World, backends: Backends, log: Log, views: tuple[str, ...], again: tuple[str, ...]) -> Iterator[str]:
    """Doing it again changes nothing: materializing, delivering, repairing and sweeping leave all as it is."""
    before = (world.content(backends, views), world.online(backends))
    for view in again:
        newest = max((row.attempt_id for row in log.of_views if row.view == view), default=None)
        if newest is not None:
            materialize_attempt(backends, newest)
    maintain(backends)
    if (world.content(backends, views), world.online(backends)) != before:
        yield "repeating changed what readers see"
    after = Log(world)
    if [tuple(row) for row in after.publications] != [tuple(row) for row in log.publications]:
        yield "repeating appended to the log"
    if len(after.outbox) != len(log.outbox) or len(after.events) != len(log.events):
        yield "repeating appended to the outbox or the lineage"


def _newest_rows(world: World, backends: Backends, view: str, heads: list[Head]) -> dict[str, bytes]:
    """Return the row without its sequence that each key should have online, from the published files."""
    snapshot = world.steps[view].kind == "snapshot"
    held = heads[-1:] if snapshot else heads
    files = backends.registry.ledger.files([head.attempt for head in held])

    def make() -> dict[str, bytes]:
        rows = world.published_rows(backends, view, held, files)
        if snapshot:
            rows = world.rows_of(view, rows, world.steps[view].schedule.interval_ending_by(held[-1].end))
        else:
            rows = rows.sort_by([(EVENT_TIMESTAMP, "ascending")])
        return dict(zip(rows["user_id"].to_pylist(), _packed(world, view, rows), strict=True))

    return world.once(backends, ("online", view), held, files, make)


def _published_rows(world: World, backends: Backends, log: Log, view: str) -> set[tuple[int, str, str]]:
    """Return every row that may be seen online: sequence, key, and what follows the sequence as hex digits.

    Of an event view a publication brings online the newest rows of the keys that it touches, whoever published them.
    """
    found: set[tuple[int, str, str]] = set()
    every: set[tuple[str, str]] = set()
    snapshot = world.steps[view].kind == "snapshot"
    tombstone = world.codec(view).tombstones(1, 0)[0][8:].hex()
    for row in (row for row in log.of_views if row.view == view):
        head = Head(
            start=row.start_at, end=row.end_at, sequence=row.sequence, attempt=row.attempt_id,
            published_at=row.published_at, fingerprint=row.fingerprint,
        )  # fmt: skip
        rows = world.published_rows(backends, view, [head])
        pairs = list(zip(rows["user_id"].to_pylist(), (p.hex() for p in _packed(world, view, rows)), strict=True))
        every.update(pairs)
        found.update((row.sequence, key, payload) for key, payload in (pairs if snapshot else every))
        if not snapshot:
            found.update((row.sequence, key, tombstone) for key in KEYS)
    return found


def _packed(world: World, view: str, rows: pa.Table) -> list[bytes]:
    return [row[8:] for row in world.codec(view).encode_rows(rows.combine_chunks(), 1)]
