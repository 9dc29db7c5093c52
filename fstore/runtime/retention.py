"""Delete what nobody can read any more, offline and online; find files that are damaged.

Attempts are retired in the registry first, from which moment reads of them are refused, then their files are deleted, then
that is recorded: killed anywhere, the next sweep goes on. Online, rows are compared before they are deleted, and what is
forgotten is remembered as forgotten, so that no older write can bring it back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from fstore.backends import Backends
from fstore.failpoints import failpoint
from fstore.integrity import HeldFile, describe_damage, find_problem
from fstore.interval import Interval
from fstore.registry.records import RegisteredView
from fstore.registry.retention_records import DamagedFile
from fstore.runtime.incarnation import check_incarnation
from fstore.stores.online import OnlineView

RUNNING = timedelta(days=2)
"""For how long an attempt may be running: younger ones that are not finished keep what they read."""

_ALWAYS = datetime(9999, 1, 1, tzinfo=UTC)

Progress = Callable[[int, int], None]
"""Told how many of how many files are scanned."""


class DamagedPart(msgspec.Struct, frozen=True, kw_only=True):
    """A damaged file, and the published ranges of a view that rest on it."""

    view: str
    path: str
    problem: str
    ranges: tuple[Interval, ...]


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What a scan found: files and bytes read, files without a recorded checksum, and damaged ones."""

    files: int
    bytes: int
    unsummed: int
    damaged: tuple[DamagedPart, ...]


def sweep_superseded(backends: Backends, now: datetime, *, horizon: timedelta | None = None) -> int:
    """Delete the files of attempts that no read within the horizon, no pin and no running attempt needs; return how many.

    ``horizon`` is that of the settings unless given.
    """
    check_incarnation(backends, online=False)
    retention, before = backends.registry.retention, now - (horizon or backends.settings.horizon)
    retention.retire(before, now, running_since=now - RUNNING)
    failpoint("retain.marked")
    count = 0
    while retired := retention.undeleted():
        for item in retired:
            offline = backends.offline
            offline.delete_directory(offline.attempt_directory(item.view, item.generation, item.attempt))
            failpoint("retain.deleted")
        retention.mark_deleted([item.attempt for item in retired])
        failpoint("retain.recorded")
        count += len(retired)
    return count


def sweep_online(backends: Backends, now: datetime, *, horizon: timedelta | None = None) -> int:
    """Delete online rows that nobody can read any more, and return how many.

    That are rows of event views older than ttl, tombstones, rows below the floor of snapshot views, and everything of
    generations that cannot be reached any more.
    """
    check_incarnation(backends)
    before = now - (horizon or backends.settings.horizon)
    count = 0
    for dead in backends.registry.retention.dead_generations(before):
        view = OnlineView(project=backends.settings.project, view=dead.view, generation=dead.generation)
        count += backends.online.drop_view(view)
        failpoint("retain.dropped")
        backends.registry.retention.mark_dead(dead)
    for registered in backends.registry.views():
        if registered.step.online:
            count += _forget(backends, registered, now)
            failpoint("retain.forgotten")
    return count


def _forget(backends: Backends, registered: RegisteredView, now: datetime) -> int:
    """Delete rows of one view that read as absent or as null, up to what is applied of the log."""
    step = registered.step
    view = OnlineView(project=backends.settings.project, view=step.view, generation=registered.generation)
    floor = backends.online.floor(view)
    applied = backends.registry.retention.applied(step.view, registered.generation)
    if floor is None or not applied:
        return 0
    if step.kind == "snapshot":
        return backends.online.forget_rows(view, min(applied, floor.sequence - 1), _ALWAYS)
    measured = now if step.end is None else min(now, step.end)
    return backends.online.forget_rows(view, applied, None if step.ttl is None else measured - step.ttl)


def verify(
    backends: Backends,
    views: Collection[str] | None,
    *,
    everything: bool = False,
    tiles: bool | None = None,
    progress: Progress | None = None,
) -> Verified:
    """Compare published files with their checksums, and record in the registry which are damaged and which are sound.

    Scans what can be read now, tiles included when no views are named or ``tiles`` says so; with ``everything`` also what
    is superseded and not deleted yet.
    """
    ledger, retention = backends.registry.ledger, backends.registry.retention
    held: list[tuple[str, HeldFile]] = []
    for registered in backends.registry.views():
        if views is None or registered.name in views:
            heads = ledger.heads(registered.name)
            files = backends.held_files(heads)
            if everything:
                shown = {item.file.path for item in files}
                attempts = {p.attempt for p in ledger.publications(registered.name, limit=1_000_000)}
                files += [
                    HeldFile(attempt=attempt, file=file, ranges=())
                    for attempt, each in ledger.files(attempts).items()
                    for file in each
                    if file.path not in shown
                ]
            held += [(registered.name, item) for item in files]
    if views is None if tiles is None else tiles:
        held += [("tiles", HeldFile(attempt=attempt, file=file, ranges=(Interval(file.start, file.end),)))
                 for attempt, file in ledger.tiles.files(everything=everything)]  # fmt: skip
    lost = retention.lost({item.attempt for _, item in held})
    held = [(view, item) for view, item in held if item.attempt not in lost.retired]
    damaged: list[DamagedPart] = []
    records: list[DamagedFile] = []
    for number, (view, item) in enumerate(held, start=1):
        problem = find_problem(backends.offline, item.file)
        if problem is not None:
            records.append(describe_damage(item.attempt, item.file, problem))
            damaged.append(DamagedPart(view=view, path=item.file.path, problem=problem, ranges=item.ranges))
        if progress:
            progress(number, len(held))
    found = {record.path for record in records}
    retention.record_damage(records, [path for path in lost.damaged if path not in found])
    return Verified(
        files=len(held),
        bytes=sum(item.file.bytes for _, item in held),
        unsummed=sum(item.file.checksum is None for _, item in held),
        damaged=tuple(_still_there(backends, damaged)),
    )


def _still_there(backends: Backends, damaged: Sequence[DamagedPart]) -> Sequence[DamagedPart]:
    """Return damaged parts but for those of files that were retired while they were scanned."""
    known = {item.path for item in backends.registry.retention.damage()}
    return [part for part in damaged if part.path in known]
