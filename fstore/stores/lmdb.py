"""The embedded online store: one LMDB environment in a directory, shared by the processes of one machine.

Takes and gives encoded rows by key. A write is acknowledged after its commit has been synced to disk; a process killed in
the middle of one leaves the last commit. Writers of all processes take turns, so compare-and-set needs no more than a
transaction; readers never wait. The map grows by itself. Meant for a local disk: LMDB's locks do not work on a network one.
"""

from __future__ import annotations

import errno
import hashlib
import operator
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import TypeAlias, TypeVar

import lmdb

from fstore.errors import (
    StoreChanged,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreMismatch,
    StoreMissing,
    StoreReadOnly,
    StoreUnavailable,
)
from fstore.stores.lmdb_environment import DATA_FILE, LOCK, REFUSED, Environment, acquire, identity_of
from fstore.stores.lmdb_forgetting import delete_rows
from fstore.stores.online import (
    Floor,
    Mark,
    OnlineView,
    StoreMark,
    ViewKeys,
    ViewRows,
    decode_floor,
    encode_floor,
    forgotten_lately,
    is_forgettable,
)

Result = TypeVar("Result")
Work: TypeAlias = "Callable[[lmdb.Transaction[bytes]], Result]"

_COMMIT_ROWS = 100_000
_META = bytes(4)
_HASHED = 1 << 31
_LONGEST_KEY = 511 - len(_META)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # LMDB says EIO when a disk takes part of a write


class LmdbStore:
    """An :class:`~fstore.stores.online.OnlineStore` in a directory."""

    def __init__(self, path: str | Path, project: str) -> None:
        self.path, self.project = Path(path), project
        self._held: Environment | None = None
        self._id_key, self._file = _meta_key("id", self.project), str(self.path / DATA_FILE)

    def create(self, store_id: str) -> None:
        """Make the directory and the environment, and write the id."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._error(error) from error

        def write_id(transaction: lmdb.Transaction[bytes]) -> None:
            found = transaction.get(self._id_key)
            if found is None:
                transaction.put(self._id_key, store_id.encode())
                transaction.put(_meta_key("life", self.project), uuid.uuid4().hex.encode())
            elif found != store_id.encode():
                raise StoreMismatch(
                    f"the online store at {self.path} has id {found.decode()}, not {store_id}: it belongs to another "
                    "registry. Correct FSTORE_ONLINE_URL or FSTORE_REGISTRY_URL."
                )

        self._run(write_id, write=True, create=True)

    def store_id(self) -> str | None:
        """Return the id, or None when there is no environment or the project is not in it."""
        if identity_of(self._file) is None:
            return None
        found = self._run(lambda transaction: transaction.get(self._id_key))
        return None if found is None else found.decode()

    def write_rows(self, view: OnlineView, keys: Sequence[bytes], rows: Sequence[bytes]) -> int:
        """Write in commits of a bounded size, each synced, in the order in which keys lie in the tree."""
        if len(keys) != len(rows):
            raise ValueError(f"{len(keys)} keys were given for {len(rows)} rows")
        if not all(map(operator.lt, keys, islice(keys, 1, None))):
            pairs = sorted(zip(keys, rows, strict=True))  # of two rows for one key, the newer comes last and stays
            keys, rows = [key for key, _ in pairs], [row for _, row in pairs]
        written = 0
        for start in range(0, len(keys), _COMMIT_ROWS):
            part = slice(start, start + _COMMIT_ROWS)
            written += self._run(partial(self._compare_and_set, view, keys[part], rows[part]), write=True)
            self._environment(create=False).unmap_pages()
        return written

    def read_rows(self, view: OnlineView, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the stored row of each key, or None."""
        return self.read_view(view, keys).rows

    def read_view(self, view: OnlineView, keys: Sequence[bytes]) -> ViewRows:
        """Return rows and floor from one read transaction."""
        return self.read_views([ViewKeys(view, keys)])[0]

    def read_views(self, requests: Sequence[ViewKeys], *, deadline: float | None = None) -> list[ViewRows]:  # noqa: ARG002
        """Return rows and floors of all views from one read transaction, which waits for nobody."""

        def read(get: Callable[[bytes], bytes | None]) -> list[ViewRows]:
            if get(self._id_key) is None:
                raise self._missing()
            return [_view_rows(get, view, keys) for view, keys in requests]

        while True:
            environment = None
            try:
                environment = self._environment(create=False)
                found = environment.read(read)
            except (lmdb.Error, OSError) as error:
                if environment is None or not self._recovered(environment, error):
                    raise self._error(error) from error
            else:
                if found is not None:
                    return found

    def async_reads(self) -> AsyncLmdbReads:
        """Return reads that take a transaction on the event loop's own thread."""
        return AsyncLmdbReads(self)

    def floor(self, view: OnlineView) -> Floor | None:
        """Return the view's floor, or None."""
        return self.read_view(view, ()).floor

    def mark(self, view: OnlineView) -> StoreMark:
        """Return mark and life from one transaction; a life is the file's, and that of the id in it."""

        def read(transaction: lmdb.Transaction[bytes]) -> StoreMark:
            self._check_created(transaction)
            return StoreMark(life=self._life(transaction), ticket=_ticket(transaction, view))

        return self._run(read)

    def raise_floor(self, view: OnlineView, floor: Floor, mark: Mark | None = None) -> None:
        """Raise floor and mark in a transaction of its own."""
        value, key = encode_floor(floor), _meta_key("floor", view)

        def raise_it(transaction: lmdb.Transaction[bytes]) -> None:
            self._check_created(transaction)
            if mark is not None:
                if mark.life != self._life(transaction):
                    raise StoreChanged(view.view)
                if mark.settled <= _ticket(transaction, view) < mark.ticket:
                    transaction.put(_meta_key("mark", view), mark.ticket.to_bytes(8, "big"))
            stored = transaction.get(key)
            if stored is None or value[:8] > stored[:8]:
                transaction.put(key, value)

        self._run(raise_it, write=True)

    def forget_rows(self, view: OnlineView, sequence: int, before: datetime | None) -> int:
        """Look at all rows of a view in transactions of a bounded size; other writers wait for one of these at most."""
        now, key = datetime.now(UTC), _meta_key("forgotten", view)

        def begin(transaction: lmdb.Transaction[bytes]) -> bytes | None:
            self._check_created(transaction)
            if sequence <= 0 or forgotten_lately(decode_floor(transaction.get(key)), sequence, now):
                return None
            transaction.put(key, encode_floor(Floor(sequence=sequence, end=now)))
            return transaction.get(_meta_key("number", view))

        number = self._run(begin, write=True)
        return 0 if number is None else self._delete(number, lambda row: is_forgettable(row, sequence, before))

    def drop_view(self, view: OnlineView) -> int:
        """Delete the floor, then the rows."""

        def begin(transaction: lmdb.Transaction[bytes]) -> bytes | None:
            self._check_created(transaction)
            transaction.delete(_meta_key("floor", view))
            return transaction.get(_meta_key("number", view))

        number = self._run(begin, write=True)
        return 0 if number is None else self._delete(number, lambda _: True)

    def close(self) -> None:
        """Release the environment, which closes with its last user in this process."""
        with LOCK:
            held, self._held = self._held, None
            if held is not None:
                held.release()

    # -- parts --------------------------------------------------------------------------------------------------------

    def _compare_and_set(
        self, view: OnlineView, keys: Sequence[bytes], rows: Sequence[bytes], transaction: lmdb.Transaction[bytes]
    ) -> int:
        """Put the rows that are newer than what is there.

        The highest sequence ever written to the view is kept beside them: rows that are not below it are not below any row
        there, and need no look at what they replace.
        """
        self._check_created(transaction)
        stored_keys = _row_keys(_view_number(view, transaction), keys)
        lowest, highest, highest_key = min(rows)[:8], max(rows)[:8], _meta_key("highest", view)
        reached = transaction.get(highest_key, b"")
        if reached < highest:
            transaction.put(highest_key, highest)
        forgotten = transaction.get(_meta_key("forgotten", view), b"")[:8]
        with transaction.cursor() as cursor:
            if lowest >= reached and lowest > forgotten:
                cursor.putmulti(zip(stored_keys, rows, strict=True))
                return len(rows)
            stored = dict(cursor.getmulti(stored_keys))
            pairs = zip(stored_keys, rows, strict=True)
            winners = [(key, row) for key, row in pairs if row[:8] > (stored[key][:8] if key in stored else forgotten)]
            cursor.putmulti(winners)
            return len(winners)

    def _life(self, transaction: lmdb.Transaction[bytes]) -> str:
        device, number = identity_of(self._file) or (0, 0)
        return f"{device:x}.{number:x}.{transaction.get(_meta_key('life', self.project), b'').decode()}"

    def _delete(self, number: bytes, chosen: Callable[[bytes], bool]) -> int:
        hashed = (int.from_bytes(number, "big") | _HASHED).to_bytes(len(_META), "big")
        return delete_rows(partial(self._run, write=True), (number, hashed), chosen)

    def _check_created(self, transaction: lmdb.Transaction[bytes]) -> None:
        if transaction.get(self._id_key) is None:
            raise self._missing()

    def _missing(self) -> StoreMissing:
        return StoreMissing(
            f"there is no online store of project {self.project!r} at {self.path}: run `fstore repair --online` if "
            "it was lost, `fstore apply` to create it, or correct FSTORE_ONLINE_URL"
        )

    def _run(
        self, work: Callable[[lmdb.Transaction[bytes]], Result], *, write: bool = False, create: bool = False
    ) -> Result:
        """Run ``work`` in a transaction and commit it, again when the map had to grow or another process grew it."""
        while True:
            environment = None
            try:
                environment = self._environment(create=create)
                with environment.transaction(write=write) as transaction:
                    if transaction is not None:
                        return work(transaction)
            except (lmdb.Error, OSError) as error:
                if environment is None or not self._recovered(environment, error):
                    raise self._error(error) from error

    def _recovered(self, environment: Environment, error: Exception) -> bool:
        """Do what makes it sensible to try again, and return whether there was such a thing."""
        try:
            match error:
                case lmdb.MapFullError():
                    environment.grow()
                case lmdb.MapResizedError():
                    environment.adopt_size()
                case lmdb.ReadersFullError():
                    return environment.clear_dead_readers() > 0
                case lmdb.PanicError():
                    with LOCK:
                        environment.close()  # since a sync failed, nothing more can be done with it
                    return False
                case _:
                    return False
        except (lmdb.Error, OSError) as another:
            raise self._error(another) from another
        return True

    def _environment(self, *, create: bool) -> Environment:
        """Return the open environment, or open it: the first time, after a fork and when its file was replaced."""
        identity = identity_of(self._file)
        if identity is None and not create:
            raise self._missing()
        held = self._held
        if held is not None and not held.closed and held.identity == identity:
            return held  # whether it was closed just now, it says itself
        with LOCK:
            held = self._held
            if held is None or held.closed or held.identity != identity:
                self._held = None
                if held is not None:
                    held.release()
                held = self._held = acquire(self.path)
            return held

    def _error(self, error: lmdb.Error | OSError) -> StoreError:
        """Return the store's error for what LMDB or the file system raised."""
        number = error.errno if isinstance(error, OSError) else error.code
        where, reason = f"the online store at {self.path}", str(error)
        if number in REFUSED or isinstance(error, lmdb.ReadonlyError):
            return StoreReadOnly(f"{where} refuses writes: {reason}. Give this user write permission on the directory.")
        if number in _NO_ROOM:
            return StoreFull(f"{where} has no room left on its disk, or it fails ({reason}); what was acknowledged is kept")
        if isinstance(error, lmdb.InvalidError | lmdb.CorruptedError | lmdb.VersionMismatchError | lmdb.PageNotFoundError):
            return StoreCorrupt(
                f"{where} cannot be read: {reason}. Delete the directory: the next run, or `fstore repair --online`, makes "
                "and fills it again."
            )
        if number in (errno.ENOTDIR, errno.EEXIST):
            return StoreError(f"{where} cannot be made: {reason}")
        return StoreUnavailable(f"{where} is not available now: {reason}")


class AsyncLmdbReads:
    """An :class:`~fstore.stores.online.AsyncOnlineReads`: reading takes less time than handing it to another thread."""

    def __init__(self, store: LmdbStore) -> None:
        self._store = store

    async def read_views(self, requests: Sequence[ViewKeys], *, deadline: float | None = None) -> list[ViewRows]:
        """Return rows and floors of all views from one read transaction."""
        return self._store.read_views(requests, deadline=deadline)

    async def close(self) -> None:
        """Leave the environment to the store."""


# -- keys -------------------------------------------------------------------------------------------------------------


# Every key begins with the number of its view, in the order in which views came to be: a new view or generation is filled at
# the end of the tree, where LMDB fills its pages. Number 0 is what is known about the views and the store.


@lru_cache(maxsize=4096)
def _meta_key(what: str, of: OnlineView | str) -> bytes:
    names = (of,) if isinstance(of, str) else (of.project, of.view, str(of.generation))
    return _META + hashlib.sha256("\0".join((what, *names)).encode()).digest()


@lru_cache(maxsize=4096)
def _number_and_floor_keys(view: OnlineView) -> tuple[bytes, bytes]:
    return _meta_key("number", view), _meta_key("floor", view)


def _view_rows(get: Callable[[bytes], bytes | None], view: OnlineView, keys: Sequence[bytes]) -> ViewRows:
    number_key, floor_key = _number_and_floor_keys(view)
    number = get(number_key)
    rows: list[bytes | None] = [None] * len(keys) if number is None else list(map(get, _row_keys(number, keys)))
    return ViewRows(floor=decode_floor(get(floor_key)), rows=rows)


def _ticket(transaction: lmdb.Transaction[bytes], view: OnlineView) -> int:
    return int.from_bytes(transaction.get(_meta_key("mark", view), b""), "big")


def _view_number(view: OnlineView, transaction: lmdb.Transaction[bytes]) -> bytes:
    """Return the number of a view, given at its first write."""
    key, last_key = _meta_key("number", view), _meta_key("last number", "")
    number = transaction.get(key)
    if number is None:
        number = (int.from_bytes(transaction.get(last_key, b""), "big") + 1).to_bytes(len(_META), "big")
        transaction.put(key, number)
        transaction.put(last_key, number)
    return number


def _row_keys(number: bytes, keys: Sequence[bytes]) -> list[bytes]:
    """Prefix keys with the number of their view; those longer than LMDB allows are hashed and lie apart."""
    if max(map(len, keys), default=0) <= _LONGEST_KEY:
        return [number + key for key in keys]
    hashed = (int.from_bytes(number, "big") | _HASHED).to_bytes(len(_META), "big")
    return [number + key if len(key) <= _LONGEST_KEY else hashed + hashlib.sha256(key).digest() for key in keys]
