"""What errors of the offline store's file system mean: no room, no permission, no such file, or not reachable now."""

from __future__ import annotations

import errno

from fstore.errors import StoreCorrupt, StoreError, StoreFull, StoreMissing, StoreReadOnly, StoreUnavailable

_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
DISK = _FULL | {errno.EIO, errno.ESTALE, errno.EROFS}
"""What a disk says that fails or is full, whoever writes to it."""


def store_error(error: OSError, relative: str, url: str) -> StoreError:
    """Return the error of the store that an error of its file system means."""
    where = f"file {relative!r} of the offline store at {url}" if relative else f"the offline store at {url}"
    text = str(error)
    if error.errno in _READ_ONLY or "ACCESS_DENIED" in text:
        return StoreReadOnly(f"{where} refuses access: {error}. Give this user read and write permission there.")
    if error.errno in _FULL:
        return StoreFull(f"{where} has no room left: {error}. Free disk space or raise the quota, then run again.")
    if "NO_SUCH_BUCKET" in text or (isinstance(error, FileNotFoundError) and text.startswith("Bucket ")):
        return StoreMissing(f"{where} has no bucket: {error}. Create the bucket, or correct FSTORE_OFFLINE_URL.")
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return StoreCorrupt(gone_text(relative, url))
    return StoreUnavailable(f"{where} cannot be reached: {error}")


def gone_text(relative: str, url: str) -> str:
    """Return what is said of a file that is not there."""
    return f"file {relative!r} is not in the offline store at {url}: it was deleted by hand, or this is another store"
