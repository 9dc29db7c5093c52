"""See what the sources hold now, and tell the registry, before anything of them is read.

Lists the files of sources (and copies the tables of PostgreSQL first), records the listings, and gives the newest change of
each source, which an attempt remembers: whatever changes later makes stale what it read. A source that is made of others
changes where its members do, in its own times.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fstore.backends import Backends
from fstore.definitions.source import (
    CompositeSource,
    PhysicalSource,
    PostgresSource,
    Source,
    SqlSource,
    physical_sources,
)
from fstore.engines.engine import EventRelation, ListedFile, Query
from fstore.filesystem import is_remote
from fstore.interval import EPOCH
from fstore.plan.fingerprint import source_key
from fstore.plan.source_pieces import alignment, piece_length, source_inputs
from fstore.registry.source_changes import ObservedFile, TimeSpan

_LATEST = datetime.max.replace(tzinfo=UTC)


def observe_sources(backends: Backends, sources: Iterable[Source]) -> dict[str, int]:
    """Return the newest change of each source by its key, after recording what changed since the last look.

    Call it before reading: what changes while it is read is then found by the next look. Raises what reading the source
    would raise.
    """
    found: dict[str, int] = {}
    listed: dict[str, list[ObservedFile]] = {}
    for source in sources:
        for physical in physical_sources(source):
            key = source_key(physical)
            if key not in listed:
                listed[key] = _listing(backends, physical)
                found[key] = backends.registry.sources.observe(key, physical.name, listed[key])
        key = source_key(source)
        if key not in found:
            files = [
                ObservedFile(f"{prefix}{file.path}", file.version, file.span) for prefix, file in _derived(source, listed)
            ]
            found[key] = backends.registry.sources.observe(key, source.name, files)
    return found


def first_event(backends: Backends, source: Source) -> datetime | None:
    """Return an instant that no event of an observed source lies before, as late as is known; None when it has no event."""
    files = backends.registry.sources.files(source_key(source)).values()
    spans = [file.span for file in files if file.span is not None]
    starts = [span.start for span in spans if span.start is not None]
    if len(starts) == len(spans):
        return min(starts, default=None)
    first = min((first for leaf in physical_sources(source) if (first := _first_time(backends, leaf))), default=None)
    length = alignment(source)
    return first if first is None or length is None else EPOCH + (first - EPOCH) // length * length


def _first_time(backends: Backends, source: PhysicalSource) -> datetime | None:
    """Read the first instant of the events of files or a table."""
    if source.event_time is None:
        return None
    relation = EventRelation(source=source, start=None, end=_LATEST, columns=(source.event_time,))
    time = '"' + source.event_time.replace('"', '""') + '"'
    with backends.engine.read(Query(sql=f"SELECT min({time}) AS first FROM events", relations={"events": relation})) as rows:
        first: datetime | None = rows.read_all().to_pylist()[0]["first"]
    return first


def _listing(backends: Backends, source: PhysicalSource) -> list[ObservedFile]:
    key = source_key(source)
    if isinstance(source, PostgresSource):
        backends.extract(source)
        return [ObservedFile(f"{item.id}", "1", item.span) for item in backends.registry.extracts.every(key)]
    root = backends.settings.root
    moves = (
        not is_remote(source.path) and not Path(source.path).is_absolute()
    )  # with the project, so are recorded without it
    last = {
        os.path.normpath(Path(root) / path) if moves else path: file
        for path, file in backends.registry.sources.files(key).items()
    }
    return [
        ObservedFile(
            os.path.relpath(file.path, root) if moves else file.path,
            file.version,
            None if file.is_empty else TimeSpan(file.start, file.end),
        )
        for file in backends.engine.list_files(source, {path: _listed(path, file) for path, file in last.items()})
    ]


def _listed(path: str, file: ObservedFile) -> ListedFile:
    start, end = (None, None) if file.span is None else (file.span.start, file.span.end)
    return ListedFile(path=path, version=file.version, start=start, end=end, is_empty=file.span is None)


# -- sources made of others -------------------------------------------------------------------------------------------


def _derived(source: Source, listed: dict[str, list[ObservedFile]]) -> Iterator[tuple[str, ObservedFile]]:
    """Yield the files that a source is made of, by the role that they play, with the times of the source they decide."""
    if isinstance(source, PhysicalSource):
        yield from (("", file) for file in listed[source_key(source)])
    elif isinstance(source, SqlSource):
        length = piece_length(source)
        for item in source_inputs(source):
            for prefix, file in _derived(item.source, listed):
                span = file.span if length is None else _pieces_span(file.span, length, item.back)
                yield f"{item.alias}/{prefix}", ObservedFile(file.path, file.version, span)
    else:
        yield from _union_files(source, listed)


def _union_files(source: CompositeSource, listed: dict[str, list[ObservedFile]]) -> Iterator[tuple[str, ObservedFile]]:
    for member in getattr(source, "sources", ()):
        yield from ((f"{member.name}/{prefix}", file) for prefix, file in _derived(member, listed))


def _pieces_span(span: TimeSpan | None, length: timedelta, back: timedelta | None) -> TimeSpan | None:
    """Return the times of the whole pieces that see some part of a span of an input."""
    if span is None:
        return None
    try:
        start = None if span.start is None else EPOCH + (span.start - EPOCH) // length * length
    except OverflowError:
        start = None
    if span.end is None or back is None:
        return TimeSpan(start, None)
    try:
        end = EPOCH - (EPOCH - (span.end + back)) // length * length
    except OverflowError:
        return TimeSpan(start, None)
    return TimeSpan(start, end)
