"""Which published files are lost, and the error that says so: deleted after the horizon, missing, or damaged.

Takes files of attempts and asks the registry what it knows of them, or the offline store what is there. A lost file costs
the intervals in it and no others. Records nothing and repairs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from fstore.errors import FileDamaged, FStoreError, SnapshotExpired, StoreCorrupt
from fstore.interval import Interval
from fstore.registry.retention_records import DamagedFile, Lost, Problem
from fstore.types import DataFile

if TYPE_CHECKING:
    from fstore.registry.registry import Registry
    from fstore.stores.offline import OfflineStore


class HeldFile(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A file of an attempt, and the ranges of time that are read of it."""

    attempt: int
    file: DataFile
    ranges: tuple[Interval, ...]


def refuse_lost(view: str, held: Iterable[HeldFile], lost: Lost, as_of: int | None) -> None:
    """Raise SnapshotExpired or FileDamaged for the first file that is known to be lost."""
    for item in held:
        if (retired := lost.retired.get(item.attempt)) is not None:
            raise SnapshotExpired(view, as_of, retired.superseded_at)
        if (damage := lost.damaged.get(item.file.path)) is not None:
            raise _damaged(view, item, damage.problem)


def explain_failure(
    registry: Registry, offline: OfflineStore, view: str, held: Sequence[HeldFile], as_of: int | None
) -> FStoreError | None:
    """Return why a read of these files failed, None when it was not for a lost file. Reads the files."""
    try:
        refuse_lost(view, held, registry.retention.lost({item.attempt for item in held}), as_of)
        for item in held:
            if (problem := find_problem(offline, item.file)) is not None:
                return _damaged(view, item, problem)
    except (SnapshotExpired, FileDamaged) as error:
        return error
    return None


def find_problem(offline: OfflineStore, file: DataFile) -> Problem | None:
    """Compare a file with what was recorded when it was written. Raises StoreError when the store cannot say."""
    if not offline.exists(file.path):
        return "missing"
    try:
        if file.checksum is not None:
            return None if offline.checksum(file.path) == file.checksum else "changed"
        offline.read(file.path)  # written before checksums were taken
    except StoreCorrupt:
        return "changed" if offline.exists(file.path) else "missing"
    return None


def describe_damage(attempt: int, file: DataFile, problem: Problem) -> DamagedFile:
    """Return the record of a damaged file."""
    return DamagedFile(attempt=attempt, path=file.path, problem=problem, found_at=datetime.now(UTC))


def _damaged(view: str, item: HeldFile, problem: Problem) -> FileDamaged:
    file = item.file  # a read may ask for more than a file has
    ranges = [(max(span.start, file.start), min(span.end, file.end)) for span in item.ranges]
    return FileDamaged(file.path, view, ranges, problem)
