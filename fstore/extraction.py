"""Copy what is new in a PostgreSQL source into the offline store, and say which copies count.

Reads the rows that may be new into a local file, keeps those that differ from the copies, stores them as one immutable file
and records it. Safe to kill and to repeat: a file that was not recorded counts for nothing. Of two at once the second one to
record reads again. What is left of killed ones is swept.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from fstore.connections import LookUp
from fstore.definitions.source import PostgresSource
from fstore.engines.engine import Engine
from fstore.engines.extracts import Delta, Extracts
from fstore.engines.postgres import Extraction, extract_rows
from fstore.engines.source_files import source_error
from fstore.errors import SettingsError, SourceError, SourceMissing, SourceUnreadable, StoreUnavailable
from fstore.plan.fingerprint import source_key
from fstore.registry.source_changes import TimeSpan
from fstore.registry.source_extracts import SourceExtract, counting

if TYPE_CHECKING:
    from fstore.registry.registry import Registry
    from fstore.stores.offline import OfflineStore

DIRECTORY = "_sources"
"""Where copies lie below the project's directory of the offline store; no view can be called so."""

MERGE_FROM = 100
"""How many copies of a source are merged into one: each of them is opened by every reader."""

_TRIES = 8


def find_extracts(source: PostgresSource, registry: Registry, offline: OfflineStore) -> Extracts:
    """Return the copies of a source that count now, oldest first."""
    recorded = counting(registry.extracts.every(source_key(source)))
    return Extracts(
        filesystem=offline.filesystem,
        paths=tuple(offline.full_path(item.path) for item in recorded if item.path is not None),
    )


def extract_source(
    source: PostgresSource, *, engine: Engine, registry: Registry, offline: OfflineStore, connections: LookUp, spill_dir: str
) -> None:
    """Copy what is new in a source. Raises SourceError and StoreError as reading and writing do."""
    try:
        url = connections(source.connection)
    except SettingsError as error:
        raise source_error(SourceUnreadable, source, f"cannot be read: {error}") from error
    key = source_key(source)
    if len(find_extracts(source, registry, offline).paths) >= MERGE_FROM:
        _merge(source, engine, registry, offline, spill_dir)
    for _ in range(_TRIES):
        every = registry.extracts.every(key)
        newest = every[-1] if every else None
        known = find_extracts(source, registry, offline)
        after = newest.cursor if newest is not None and source.cursor is not None else None
        registry.release_server()  # the other server may take long
        with _scratch(spill_dir) as scratch:
            read = extract_rows(source, url, f"{scratch}/rows.parquet", after=after, known=known)
            delta = engine.write_delta(
                source, f"{scratch}/rows.parquet", known, f"{scratch}/delta.parquet",
                number=(newest.id if newest else 0) + 1, whole=read.whole,
            )  # fmt: skip
            if delta is None or _store(source, registry, offline, f"{scratch}/delta.parquet", read, delta, newest):
                return
    raise StoreUnavailable(
        f"source {source.name!r}: others copied it at the same time, {_TRIES} times in a row; run again in a moment"
    )


def _merge(source: PostgresSource, engine: Engine, registry: Registry, offline: OfflineStore, spill_dir: str) -> None:
    """Make one copy of many that say the same; when somebody else recorded one meanwhile, it is for the next time."""
    newest = registry.extracts.every(source_key(source))[-1]
    known = find_extracts(source, registry, offline)
    with _scratch(spill_dir) as scratch:
        merged = f"{scratch}/merged.parquet"
        delta = engine.write_merged(source, known, merged, number=newest.id + 1)
        _store(source, registry, offline, merged, Extraction(rows=0, whole=False, cursor=newest.cursor), delta, newest)


def _store(
    source: PostgresSource, registry: Registry, offline: OfflineStore, local: str, read: Extraction, delta: Delta,
    newest: SourceExtract | None,
) -> bool:  # fmt: skip
    """Store and record a copy; return False, with nothing left, when somebody else recorded one meanwhile."""
    key = source_key(source)
    directory = f"{registry.project}/{DIRECTORY}/{source.name}/{key}/{uuid.uuid4().hex}"
    relative = f"{directory}/rows.parquet"
    offline.prepare_directory(directory)
    with offline.writing(relative) as path:
        shutil.copyfile(local, path)
    extract = SourceExtract(
        path=relative, rows=delta.rows, bytes=delta.bytes, replaces=delta.replaces,
        cursor=read.cursor or (newest.cursor if newest else None),
        span=None if delta.is_empty else TimeSpan(delta.start, delta.end),
    )  # fmt: skip
    if registry.extracts.record(key, extract, after=newest.id if newest else 0) is not None:
        return True
    offline.delete_directory(directory)
    return False


@contextlib.contextmanager
def _scratch(spill_dir: str) -> Iterator[str]:
    """Give a directory for files that are gone afterwards."""
    Path(spill_dir).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="extract-", dir=spill_dir) as scratch:
        yield str(Path(scratch).resolve())


def never_copied(source: PostgresSource) -> SourceError:
    """Return the error for a source that is read where no copy of it can be kept."""
    return source_error(
        SourceMissing,
        source,
        "was never copied, and there is no registry to record a copy in: run `fstore apply`, or declare the types of its "
        'columns, schema={"amount": "float64", …}, to check definitions without it',
    )


def sweep_extracts(registry: Registry, offline: OfflineStore, before: datetime) -> int:
    """Delete copies made before an instant that were never recorded, or that others took the place of; return how many."""
    replaced = registry.extracts.replaced()
    count = 0
    for file in offline.list_directory(f"{registry.project}/{DIRECTORY}"):
        since = replaced.get(file.path, file.modified_at)
        if since is not None and since < before:
            offline.delete_directory(file.path.rpartition("/")[0])
            count += 1
    return count
