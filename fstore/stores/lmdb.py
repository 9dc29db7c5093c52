"""The embedded online store: one LMDB environment in a directory, shared by the processes of one machine.

Takes and gives encoded rows by key. A write is acknowledged after its commit has been synced to disk; a process killed in
the middle of one leaves the last commit. Writers of all processes take turns, so compare-and-set needs no more than a
transaction; readers never wait. The map grows by itself. Meant for a local disk: LMDB's locks do not work on a network one.
"""

from __future__ import annotations

import errno
import hashlib
import operator
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeAlias, TypeVar

import lmdb

from fstore.errors import (
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreMismatch,
    StoreMissing,
    StoreReadOnly,
    StoreUnavailable,
)
from fstore.stores.lmdb_environment import LOCK, REFUSED, Environment, acquire, identity_of
from fstore.stores.online import Floor, OnlineView, ViewRows, decode_floor, encode_floor

Result = TypeVar("Result")
Work: TypeAlias = "Callable[[lmdb.Transaction[bytes]], Result]"

_COMMIT_ROWS = 100_000
_PREFIX_BYTES = 12
_LONGEST_KEY = 511 - _PREFIX_BYTES
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # LMDB says EIO when a disk takes part of a write


class LmdbStore:
    """An :class:`~fstore.stores.online.OnlineStore` in a directory."""

    def __init__(self, path: str | Path, project: str) -> None:
        self.path, self.project = Path(path), project
        self._held: Environment | None = None

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
            elif found != store_id.encode():
                raise StoreMismatch(
                    f"the online store at {self.path} has id {found.decode()}, not {store_id}: it belongs to another "
                    "registry. Correct FSTORE_ONLINE_URL or FSTORE_REGISTRY_URL."
                )

        self._run(write_id, write=True, create=True)

    def store_id(self) -> str | None:
        """Return the id, or None when there is no environment or the project is not in it."""
        if identity_of(self.path) is None:
            return None
        found = self._run(lambda transaction: transaction.get(self._id_key))
        return None if found is None else found.decode()

    def write_rows(self, view: OnlineView, keys: Sequence[bytes], rows: Sequence[bytes]) -> int:
        """Write in commits of a bounded size, each synced, in the order in which keys lie in the tree."""
        if len(keys) != len(rows):
            raise ValueError(f"{len(keys)} keys were given for {len(rows)} rows")
        keys = _row_keys(view, keys)
        if not all(map(operator.lt, keys, islice(keys, 1, None))):
            pairs = sorted(zip(keys, rows, strict=True))  # of two rows for one key, the newer comes last and stays
            keys, rows = [key for key, _ in pairs], [row for _, row in pairs]
        written = 0
        for start in range(0, len(keys), _COMMIT_ROWS):
            end = start + _COMMIT_ROWS
            written += self._write(_highest_key(view), keys[start:end], rows[start:end])
            self._environment(create=False).unmap_pages()
        return written

    def read_rows(self, view: OnlineView, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the stored row of each key, or None."""
        return self.read_view(view, keys).rows

    def read_view(self, view: OnlineView, keys: Sequence[bytes]) -> ViewRows:
        """Return rows and floor from one read transaction."""
        stored_keys = _row_keys(view, keys)

        def read(transaction: lmdb.Transaction[bytes]) -> ViewRows:
            self._check_created(transaction)
            get = transaction.get
            floor = decode_floor(get(_floor_key(view)))
            return ViewRows(floor=floor, rows=[get(key) for key in stored_keys])

        return self._run(read)

    def floor(self, view: OnlineView) -> Floor | None:
        """Return the view's floor, or None."""
        return self.read_view(view, ()).floor

    def raise_floor(self, view: OnlineView, floor: Floor) -> None:
        """Raise the floor in a transaction of its own."""
        self._write(None, [_floor_key(view)], [encode_floor(floor)])

    def close(self) -> None:
        """Release the environment, which closes with its last user in this process."""
        with LOCK:
            held, self._held = self._held, None
            if held is not None:
                held.release()

    # -- parts --------------------------------------------------------------------------------------------------------

    @property
    def _id_key(self) -> bytes:
        return _prefix("id", self.project)

    def _write(self, highest_key: bytes | None, keys: Sequence[bytes], rows: Sequence[bytes]) -> int:
        """Put the pairs that are newer than what is there, in one synced commit.

        The highest sequence ever written to a view lies under ``highest_key``: rows that are not below it are not below any
        row there, and need no look at what they replace.
        """
        lowest, highest = min(rows)[:8], max(rows)[:8]

        def compare_and_set(transaction: lmdb.Transaction[bytes]) -> int:
            self._check_created(transaction)
            reached = transaction.get(highest_key, b"") if highest_key else highest
            if highest_key and reached < highest:
                transaction.put(highest_key, highest)
            with transaction.cursor() as cursor:
                if lowest >= reached and highest_key:
                    cursor.putmulti(zip(keys, rows, strict=True))
                    return len(keys)
                stored = dict(cursor.getmulti(keys))
                pairs = zip(keys, rows, strict=True)
                winners = [(key, row) for key, row in pairs if key not in stored or row[:8] > stored[key][:8]]
                cursor.putmulti(winners)
                return len(winners)

        return self._run(compare_and_set, write=True)

    def _check_created(self, transaction: lmdb.Transaction[bytes]) -> None:
        if transaction.get(self._id_key) is None:
            raise self._missing()

    def _missing(self) -> StoreMissing:
        return StoreMissing(
            f"there is no online store of project {self.project!r} at {self.path}: run `fstore apply` to create it, or "
            "correct FSTORE_ONLINE_URL"
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
        identity = identity_of(self.path)
        if identity is None and not create:
            raise self._missing()
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
                f"{where} cannot be read: {reason}. Delete the directory, run `fstore apply` and fill it again."
            )
        if number in (errno.ENOTDIR, errno.EEXIST):
            return StoreError(f"{where} cannot be made: {reason}")
        return StoreUnavailable(f"{where} is not available now: {reason}")


# -- keys -------------------------------------------------------------------------------------------------------------


def _prefix(*parts: object) -> bytes:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).digest()[:_PREFIX_BYTES]


def _floor_key(view: OnlineView) -> bytes:
    return _prefix("floor", view.project, view.view, view.generation)


def _highest_key(view: OnlineView) -> bytes:
    return _prefix("highest", view.project, view.view, view.generation)


def _row_keys(view: OnlineView, keys: Sequence[bytes]) -> list[bytes]:
    """Prefix keys with their view; those longer than LMDB allows are hashed, under a prefix of their own."""
    prefix = _prefix("row", view.project, view.view, view.generation)
    if max(map(len, keys), default=0) <= _LONGEST_KEY:
        return [prefix + key for key in keys]
    hashed = _prefix("hashed row", view.project, view.view, view.generation)
    return [prefix + key if len(key) <= _LONGEST_KEY else hashed + hashlib.sha256(key).digest() for key in keys]
