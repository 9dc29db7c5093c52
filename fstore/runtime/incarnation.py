"""Which state of a registry the stores belong to, and how a restored registry becomes theirs.

A registry that was restored to an older state does not know what was published since. It would give out sequences, attempts
and generations a second time, and a task from before the restore would publish under the number of another. So the stores
remember the incarnation of the registry that writes them: the offline store in a file, the online store in a row beside the
newest sequence that was brought there. Whoever is about to write compares. :func:`adopt_stores` brings the registry above
all that the stores hold, makes what is online what the registry says, and only then gives the stores the new incarnation.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

import msgspec
import pyarrow.parquet as pq

from fstore.backends import Backends
from fstore.connections import masked_url
from fstore.decoding import decode_json
from fstore.engines.engine import Query
from fstore.errors import RegistryRestored, SettingsError, StoreCorrupt, StoreError, StoreMissing, StoreUnavailable
from fstore.failpoints import failpoint
from fstore.plan.sql import quoted
from fstore.plan.steps import EVENT_TIMESTAMP, Step
from fstore.registry.records import Head, RegisteredView, RegistryState
from fstore.stores.encoding import RowCodec, row_sequence
from fstore.stores.offline_notes import read_note, write_note
from fstore.stores.online import Floor, OnlineStore, OnlineView, apply_rows, apply_tombstones

_NOTE = "_registry.json"
_KEY = b"incarnation"
_HEADER = 16
_ATTEMPT = re.compile(r"/g(\d+)/a(\d+)/[^/]+$")


class Adopted(msgspec.Struct, frozen=True, kw_only=True):
    """What adopting came to: where numbers go on from, and the rows and tombstones written online."""

    incarnation: str
    sequence: int
    attempt: int
    views: tuple[str, ...]
    rows: int


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """Who wrote a store last, and the newest sequence that it was given (0 where that is not kept)."""

    incarnation: str
    sequence: int = 0


def check_incarnation(backends: Backends, *, online: bool = True) -> None:
    """Refuse to write with a registry that is an older state of what the stores know. Raises RegistryRestored.

    A store that knows none yet remembers this one. An online store that cannot be asked now is not asked: it is asked again
    when something is brought there.
    """
    seen = read_offline(backends)
    state = backends.registry.state()
    if seen is None:
        _write_offline(backends, state.incarnation)
    elif seen.incarnation != state.incarnation:
        raise _restored(backends, state, _offline(backends), seen)
    if online:
        try:
            check_online(backends)
        except (StoreUnavailable, StoreMissing):
            return


def check_online(backends: Backends) -> RegistryState:
    """Compare the online store's record with the registry, and return its state. Raises RegistryRestored.

    The registry is read last: it only grows, so it is never behind what others have brought online in between. A store that
    lost everything knows nothing, and gets its id again.
    """
    try:
        seen = read_online(backends.online, backends.settings.project)
    except StoreMissing:
        if not backends.renew_online():
            raise
        seen = None
    state = backends.registry.state()
    if (error := _older(backends, seen, state)) is not None:
        raise error
    return state


def find_restored(backends: Backends) -> RegistryRestored | None:
    """Return the error that whoever is about to write would get; writes nothing.

    A store that is away, missing or not to be used as the settings have it says nothing here: who uses it is told why.
    Raises RegistryError if the registry itself cannot be read.
    """
    state = backends.registry.state()
    try:
        seen = read_offline(backends)
    except (StoreError, SettingsError):
        seen = None
    if seen is not None and seen.incarnation != state.incarnation:
        return _restored(backends, state, _offline(backends), seen)
    try:
        seen = read_online(backends.online, backends.settings.project)
    except (StoreError, SettingsError):
        return None
    return _older(backends, seen, backends.registry.state())


def refuse_used_directory(backends: Backends, directory: str, attempt: int) -> None:
    """Refuse an attempt whose directory has files: another one had its number. Raises RegistryRestored."""
    if backends.offline.list_directory(directory):
        raise RegistryRestored(
            f"attempt {attempt} is new to registry {backends.registry.url}, and its directory {directory!r} in the offline "
            "store has files already: the registry is an older state of itself. Nothing is written until "
            "`fstore registry restore --adopt` has brought it above all that the stores hold."
        )


def adopt_stores(backends: Backends) -> Adopted:
    """Make a restored registry the one of its stores, and what is online what it says. Safe to repeat after a failure.

    Sequences, attempts and all other ids go on above everything that the stores hold; until the end the stores refuse to
    be written by anybody else.
    """
    project = backends.settings.project
    files = [file.path for file in backends.offline.list_directory(project)]
    used = [int(found[2]) for path in files if (found := _ATTEMPT.search(f"/{path}"))]
    seen = read_online(backends.online, project)
    floors = [seen.sequence if seen else 0, *_floor_sequences(backends)]
    state = backends.registry.raise_above(sequence=max(floors) + 1, attempt=max(used, default=0))
    failpoint("adopt.raised")
    views: list[str] = []
    rows = 0
    for registered in backends.registry.views():
        if registered.step.online:
            rows += _repair(backends, registered, state.sequence, files)
            views.append(registered.name)
    failpoint("adopt.repaired")
    _write_offline(backends, state.incarnation)
    failpoint("adopt.offline")
    write_online(backends.online, project, Seen(incarnation=state.incarnation, sequence=state.sequence))
    return Adopted(
        incarnation=state.incarnation, sequence=state.sequence, attempt=state.attempt, views=tuple(views), rows=rows
    )


# -- what the stores remember -----------------------------------------------------------------------------------------


def read_offline(backends: Backends) -> Seen | None:
    """Return who writes the offline store; None where it was never told. Raises StoreCorrupt if what it has is damaged."""
    path = f"{backends.settings.project}/{_NOTE}"
    content = read_note(backends.offline, path)
    try:
        return None if content is None else decode_json(content, Seen)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoreCorrupt(
            f"file {path!r} of the {_offline(backends)}, which tells the registry that writes it, is damaged: {error}. "
            "Nothing is written until `fstore registry restore --adopt` has written it again."
        ) from None


def _write_offline(backends: Backends, incarnation: str) -> None:
    content = msgspec.json.encode(Seen(incarnation=incarnation))
    write_note(backends.offline, f"{backends.settings.project}/{_NOTE}", content)


def read_online(store: OnlineStore, project: str) -> Seen | None:
    """Return who wrote the online store last, and the newest sequence; None where it was never told."""
    (row,) = store.read_rows(_place(project), [_KEY])
    return None if row is None else Seen(incarnation=row[_HEADER:].decode(), sequence=row_sequence(row))


def write_online(store: OnlineStore, project: str, seen: Seen) -> None:
    """Record who writes the online store; the record of the highest sequence stays."""
    row = seen.sequence.to_bytes(8, "big") + bytes(8) + seen.incarnation.encode()
    store.write_rows(_place(project), [_KEY], [row])


def _place(project: str) -> OnlineView:
    return OnlineView(project=project, view="_registry", generation=0)


def _offline(backends: Backends) -> str:
    return f"offline store {masked_url(backends.settings.offline_url)}"


def _older(backends: Backends, seen: Seen | None, state: RegistryState) -> RegistryRestored | None:
    """Return the error of a registry that is older than what the online store has seen."""
    if seen is None or (seen.incarnation == state.incarnation and seen.sequence <= state.sequence):
        return None
    return _restored(backends, state, "online store", seen)


def _restored(backends: Backends, state: RegistryState, where: str, seen: Seen) -> RegistryRestored:
    newest = f" up to sequence {seen.sequence}" if seen.sequence else ""
    return RegistryRestored(
        f"registry {backends.registry.url} (incarnation {state.incarnation[:8]}, sequence {state.sequence}) is not the one "
        f"that the {where} was last written by (incarnation {seen.incarnation[:8]}{newest}): it was restored from a backup. "
        "Nothing is written until `fstore registry restore --adopt` has brought it above all that the stores hold."
    )


# -- adopting ---------------------------------------------------------------------------------------------------------


def _floor_sequences(backends: Backends) -> Iterator[int]:
    for registered in backends.registry.views():
        place = OnlineView(project=backends.settings.project, view=registered.name, generation=registered.generation)
        floor = backends.online.floor(place) if registered.step.online else None
        if floor is not None:
            yield floor.sequence


def _repair(backends: Backends, registered: RegisteredView, sequence: int, files: Sequence[str]) -> int:
    """Bring a view online as the log has it, at a sequence above everything there; what the log does not have goes."""
    step, generation = registered.step, registered.generation
    place = OnlineView(project=backends.settings.project, view=step.view, generation=generation)
    heads = backends.registry.ledger.heads(step.view, generation=generation)
    if step.kind == "event":
        rows = _write(backends, step, place, heads, sequence, _newest_per_key(step)) if heads else 0
        return rows + _bury(backends, step, {head.attempt for head in heads}, sequence - 1, files)
    if not heads:
        if backends.online.floor(place) is not None:  # its rows are below this floor, and so absent
            backends.online.raise_floor(place, Floor(sequence=sequence, end=step.start))
        return 0
    last = step.schedule.interval_ending_by(heads[-1].end)
    newest = msgspec.structs.replace(heads[-1], start=last.start, end=last.end)
    rows = _write(backends, step, place, [newest], sequence, "SELECT * FROM published")
    backends.online.raise_floor(place, Floor(sequence=sequence, end=last.end))
    return rows


def _bury(backends: Backends, step: Step, known: Collection[int], sequence: int, files: Sequence[str]) -> int:
    """Write tombstones for keys of an event view that only publications after the backup had: their files tell.

    The sequence is below that of the rows which have just been written, so that these stay.
    """
    names, codec, written = [key.name for key in step.keys], codec_of(step), 0
    for path in files:
        found = _ATTEMPT.search(f"/{path}")
        if found is None or int(found[2]) in known or not path.endswith(".parquet") or f"/{step.view}/g" not in f"/{path}":
            continue
        with backends.offline.filesystem.open_input_file(backends.offline.full_path(path)) as file:
            parquet = pq.ParquetFile(file)
            if not set(names) <= set(parquet.schema_arrow.names):
                continue
            keys = parquet.read(columns=names).select(names)
        place = OnlineView(project=backends.settings.project, view=step.view, generation=int(found[1]))
        written += apply_tombstones(backends.online, place, codec, keys, sequence).written
    return written


def _write(backends: Backends, step: Step, place: OnlineView, heads: list[Head], sequence: int, sql: str) -> int:
    relation = backends.published(step, heads)
    with backends.engine.read(Query(sql=sql, relations={"published": relation})) as reader:
        return apply_rows(backends.online, place, codec_of(step), reader, sequence).written


def _newest_per_key(step: Step) -> str:
    keys = ", ".join(quoted(key.name) for key in step.keys)
    newest = f"row_number() OVER (PARTITION BY {keys} ORDER BY {EVENT_TIMESTAMP} DESC) = 1"
    return f"SELECT * FROM published QUALIFY {newest}"


def codec_of(step: Step) -> RowCodec:
    """Return the codec of a view's rows."""
    keys = {key.name for key in step.keys}
    features = [column for column in step.columns() if column.name != EVENT_TIMESTAMP and column.name not in keys]
    return RowCodec(keys=step.keys, features=features)
