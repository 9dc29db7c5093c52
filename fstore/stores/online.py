"""The online store: one packed row per view, generation and key, for reads by key.

Rows are byte strings from ``fstore.stores.encoding``. Every write is a compare-and-set: a row is kept if and only if its
sequence is above that of the row already there, atomically per key, whoever else writes. That makes writing safe to repeat
and safe to run twice at once. A view's floor says up to which publication the store is complete; readers treat rows of
snapshot views below it as absent. A view's mark is a number that the registry remembers as well: a store that lost its
latest writes (failover to a lagging replica, an old backup, a flush) has a lower one than the registry. The store knows
nothing of features, ttl or which rows ought to be there.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple, Protocol, TypeAlias, TypeVar

import msgspec
import pyarrow as pa

from fstore.errors import StoreCorrupt
from fstore.failpoints import failpoint
from fstore.stores.encoding import RowCodec, row_sequence

Item = TypeVar("Item")
Encoded: TypeAlias = tuple[list[bytes], list[bytes]]
"""Keys and their rows."""

FORGET_EVERY = timedelta(days=1)
"""How long a store waits before it looks for rows to forget again, which costs a look at all rows of a view."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FLOOR_BYTES = 16
_WRITE_ROWS = 50_000


class OnlineView(msgspec.Struct, frozen=True, kw_only=True):
    """Names one copy of one view in the store."""

    project: str
    view: str
    generation: int


class Floor(msgspec.Struct, frozen=True, kw_only=True):
    """The newest publication of a view that is completely in the store, and the end of its interval."""

    sequence: int
    end: datetime


class StoreMark(msgspec.Struct, frozen=True, kw_only=True):
    """What the store remembers of a view, and which life it leads.

    ``ticket`` (0: none) is the newest that was given to rows that are there. ``life`` is another one after everything that
    may lose acknowledged writes: a restart, a failover, a flush, a restored file.
    """

    life: str
    ticket: int


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket for rows that were written in ``life``.

    The store remembers it if it remembers ``settled``, the newest that counted as acknowledged when this one was issued: a
    mark that a store lost stays lost, until what was lost is written again.
    """

    life: str
    ticket: int
    settled: int


class ViewRows(msgspec.Struct, frozen=True, kw_only=True):
    """A view's rows in the order of the keys asked for (None: no row), and its floor at the same moment."""

    floor: Floor | None
    rows: list[bytes | None]


class ViewKeys(NamedTuple):
    """The keys that a read wants of one view. Keys may repeat."""

    view: OnlineView
    keys: Sequence[bytes]


class AppliedRows(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows were written, and how many were left out because the store has the same sequence or a newer one."""

    written: int
    skipped: int


class OnlineStore(Protocol):
    """Keeps encoded rows. Safe to use from several threads; after a fork, in parent and child.

    Every method but :meth:`create` and :meth:`store_id` raises StoreMissing when the store was never created or was emptied
    since, and StoreUnavailable, StoreReadOnly or StoreFull as they befall it.
    """

    def create(self, store_id: str) -> None:
        """Create the store under an id; nothing happens if it has it. Raises StoreMismatch if it has another."""
        ...

    def store_id(self) -> str | None:
        """Return the store's id, or None when it was never created."""
        ...

    def write_rows(self, view: OnlineView, keys: Sequence[bytes], rows: Sequence[bytes]) -> int:
        """Write the rows that are newer than what is there, durably as the store can, and return how many those were.

        Of two rows for one key the one of the higher sequence counts. A row with the sequence of the stored one is taken
        for the same row: it may be skipped, or written again and counted. Atomic per key, not as a whole: after an error
        some rows may be there, and repeating the call is safe.
        """
        ...

    def read_rows(self, view: OnlineView, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the stored row of each key, tombstones and rows below the floor included, or None."""
        ...

    def read_view(self, view: OnlineView, keys: Sequence[bytes]) -> ViewRows:
        """Return the rows and the floor as of one moment, so that rows are never judged by a floor raised after them."""
        ...

    def read_views(self, requests: Sequence[ViewKeys], *, deadline: float | None = None) -> list[ViewRows]:
        """Return what :meth:`read_view` would for each request, in order and in one round trip.

        Tries no longer than ``deadline``, an instant of ``time.monotonic()``; then raises StoreUnavailable.
        """
        ...

    def async_reads(self) -> AsyncOnlineReads:
        """Return the same reads for one event loop, which has to close them."""
        ...

    def floor(self, view: OnlineView) -> Floor | None:
        """Return the view's floor, or None when the store was never filled (or was flushed)."""
        ...

    def mark(self, view: OnlineView) -> StoreMark:
        """Return the view's mark and the store's life at the same moment."""
        ...

    def raise_floor(self, view: OnlineView, floor: Floor, mark: Mark | None = None) -> None:
        """Raise the view's floor; one that is already as high stays. Atomic.

        Given a mark, raise the view's mark with it; raises StoreChanged, and neither, when the store leads another life.
        """
        ...

    def forget_rows(self, view: OnlineView, sequence: int, before: datetime | None) -> int:
        """Delete rows up to a sequence that are tombstones or older than an instant (None: tombstones), and return how many.

        From then on a key that has no row takes only rows above that sequence, so no older write brings one back. To be
        called when everything up to the sequence was written. Safe to repeat and beside writers: each row is deleted only as
        it was found. Does nothing, and looks at nothing, when it did the same less than a day ago.
        """
        ...

    def drop_view(self, view: OnlineView) -> int:
        """Delete all rows of a view and its floor, and return how many rows."""
        ...

    def close(self) -> None:
        """Release connections and files; a closed store opens again when it is used."""
        ...


class AsyncOnlineReads(Protocol):
    """What an event loop reads of a store, without blocking the loop for longer than a few microseconds a key."""

    async def read_views(self, requests: Sequence[ViewKeys], *, deadline: float | None = None) -> list[ViewRows]:
        """Return what :meth:`OnlineStore.read_views` would."""
        ...

    async def close(self) -> None:
        """Close its connections; the next use opens new ones."""
        ...


def apply_rows(
    store: OnlineStore,
    view: OnlineView,
    codec: RowCodec,
    batches: Iterable[pa.RecordBatch],
    sequence: int,
    *,
    progress: Callable[[int], None] | None = None,
) -> AppliedRows:
    """Write the rows of a publication: key columns, ``event_timestamp`` and features, in bounded memory.

    ``progress`` is told the number of rows done so far after each chunk. The batches are taken in another thread, one at a
    time. When this returns all rows are acknowledged.
    """
    written = done = 0
    # Three threads: one reads, one encodes, and this one writes. Reading, packing and syncing all let go of the GIL.
    with closing(_ahead(_chunks(batches))) as chunks, closing(_ahead(_encoded(codec, chunks, sequence))) as encoded:
        for keys, rows in encoded:
            written += store.write_rows(view, keys, rows)
            failpoint("online.written")
            done += len(keys)
            if progress is not None:
                progress(done)
    return AppliedRows(written=written, skipped=done - written)


def apply_tombstones(store: OnlineStore, view: OnlineView, codec: RowCodec, keys: pa.Table, sequence: int) -> AppliedRows:
    """Write tombstones for keys whose last row a publication withdrew."""
    encoded = codec.encode_keys(keys)
    written = store.write_rows(view, encoded, codec.tombstones(len(encoded), sequence))
    return AppliedRows(written=written, skipped=len(encoded) - written)


def newest_per_key(keys: Sequence[bytes], rows: Sequence[bytes]) -> tuple[Sequence[bytes], Sequence[bytes]]:
    """Return keys and rows with the row of the highest sequence (the last of several) for each key that occurs twice."""
    if len(keys) != len(rows):
        raise ValueError(f"{len(keys)} keys were given for {len(rows)} rows")
    if len(set(keys)) == len(keys):
        return keys, rows
    newest: dict[bytes, bytes] = {}
    for key, row in zip(keys, rows, strict=True):
        if key not in newest or row[:8] >= newest[key][:8]:
            newest[key] = row
    return list(newest), list(newest.values())


def is_forgettable(row: bytes, sequence: int, before: datetime | None) -> bool:
    """Whether a row is not above a sequence, and is a tombstone or older than an instant."""
    if row_sequence(row) > sequence:
        return False
    if row[16:24] == bytes(8):
        return True
    return before is not None and int.from_bytes(row[8:16], "big", signed=True) < instant_micros(before)


def instant_micros(instant: datetime) -> int:
    """Return an instant as rows have it: microseconds since 1970."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


def forgotten_lately(mark: Floor | None, sequence: int, now: datetime) -> bool:
    """Whether rows up to a sequence were forgotten less than a day ago."""
    return mark is not None and (mark.sequence > sequence or now - mark.end < FORGET_EVERY)


def encode_floor(floor: Floor) -> bytes:
    """Return a floor as a row of nothing but its two numbers, so that it is raised by the same compare-and-set."""
    micros = (floor.end - _EPOCH) // timedelta(microseconds=1)
    return floor.sequence.to_bytes(8, "big") + micros.to_bytes(8, "big", signed=True)


@lru_cache(maxsize=4096)
def decode_floor(value: bytes | None) -> Floor | None:
    """Return the floor that :func:`encode_floor` wrote."""
    if value is None:
        return None
    if len(value) != _FLOOR_BYTES:
        raise StoreCorrupt(f"a stored floor has {len(value)} bytes instead of {_FLOOR_BYTES}")
    micros = int.from_bytes(value[8:], "big", signed=True)
    return Floor(sequence=row_sequence(value), end=_EPOCH + timedelta(microseconds=micros))


def _encoded(codec: RowCodec, chunks: Iterable[pa.Table], sequence: int) -> Iterator[Encoded]:
    for chunk in chunks:
        yield codec.encode_keys(chunk), codec.encode_rows(chunk, sequence)


def _ahead(items: Iterable[Item]) -> Generator[Item, None, None]:
    """Take items in a thread of their own, each while the one before it is being used."""
    iterator = iter(items)
    with ThreadPoolExecutor(1, "fstore-ahead") as thread:
        coming = thread.submit(next, iterator, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, iterator, None)
            yield item


def _chunks(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Cut and gather batches into chunks large enough to be worth a commit and small enough for the memory."""
    gathered: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        for start in range(0, batch.num_rows, _WRITE_ROWS):
            part = batch.slice(start, _WRITE_ROWS)
            if rows + part.num_rows > _WRITE_ROWS and gathered:
                yield pa.Table.from_batches(gathered)
                gathered, rows = [], 0
            gathered.append(part)
            rows += part.num_rows
    if rows:
        yield pa.Table.from_batches(gathered)
