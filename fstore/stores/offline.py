"""The offline store: immutable Parquet files under one root, on local disk or S3.

Every attempt writes into a directory that only it uses, and a file appears whole or not at all. Knows nothing of
publications: which files count is the ledger's to say, so nothing here lists a directory but for the sweeper.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Protocol

import msgspec
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from fstore.decoding import decode_json
from fstore.errors import (
    SettingsError,
    StoreCorrupt,
    StoreError,
    StoreMismatch,
    StoreMissing,
    StoreUnavailable,
)
from fstore.failpoints import failpoint
from fstore.filesystem import open_filesystem
from fstore.stores.offline_errors import DISK, gone_text, store_error

MARKER = "_fstore.json"
"""The file at the root that says which store this is."""

_TEMPORARY = ".writing-"


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file as the sweeper finds it. ``path`` is relative to the store's root."""

    path: str
    bytes: int
    modified_at: datetime


class _Marker(msgspec.Struct, frozen=True, kw_only=True):
    store_id: str
    kind: str = "offline"
    format: int = 1


class OfflineStore(Protocol):
    """Immutable files under a root. Paths are relative to it, with forward slashes."""

    @property
    def url(self) -> str:
        """Where the store is."""
        ...

    @property
    def filesystem(self) -> pafs.FileSystem:
        """The file system that :meth:`full_path` belongs to."""
        ...

    def full_path(self, relative: str) -> str:
        """Return a path on :attr:`filesystem`. Raises StoreError when it would lead out of the store."""
        ...

    def create(self, store_id: str) -> None:
        """Mark the root as the store with this id; repeating it is harmless.

        Raises StoreMismatch when it already is another store.
        """
        ...

    def store_id(self) -> str | None:
        """Return the id that the store was created with, None when it never was."""
        ...

    def attempt_directory(self, view: str, generation: int, attempt: int) -> str:
        """Return the directory that only this attempt writes to; data sets of tiles (``tiles:…``) lie below ``tiles/``."""
        ...

    def prepare_directory(self, relative: str) -> None:
        """Make a directory ready for files; fails early when the store is missing or refuses writes."""
        ...

    def writing(self, relative: str) -> AbstractContextManager[str]:
        """Give a local path to write a file to; it appears in the store, synced, when the block ends without an error."""
        ...

    def read(self, relative: str) -> pa.Table:
        """Return the rows of a file. Raises StoreCorrupt when it is gone or cannot be decoded."""
        ...

    def exists(self, relative: str) -> bool:
        """Whether a file is there."""
        ...

    def size(self, relative: str) -> int:
        """Return a file's size in bytes. Raises StoreCorrupt when it is gone."""
        ...

    def checksum(self, relative: str) -> str:
        """Return the SHA-256 of a file's bytes as hex digits. Raises StoreCorrupt when it is gone."""
        ...

    def list_directory(self, relative: str) -> list[StoredFile]:
        """Return all files below a directory by path, unfinished ones too; for the sweeper, never for readers."""
        ...

    def delete_directory(self, relative: str) -> None:
        """Delete a directory with its files; one that is not there is no error."""
        ...

    def delete_file(self, relative: str) -> None:
        """Delete a file; one that is not there is no error."""
        ...

    def delete_unfinished(self, relative: str) -> None:
        """Delete what killed processes left half-written in a directory; who is still writing there has to try again."""
        ...


def open_offline_store(url: str, *, project: str = "") -> OfflineStore:
    """Return the store at ``file:/absolute/path`` or ``s3://bucket/prefix``, without creating or connecting to anything.

    ``project`` becomes the first part of every attempt's directory, so that projects can share a store. Raises
    SettingsError for another scheme.
    """
    scheme, _, rest = url.partition(":")
    match scheme:
        case "file":
            return LocalOfflineStore(Path(rest.removeprefix("//")), project)
        case "s3":
            return S3OfflineStore(url, project)
        case _:
            raise SettingsError(f"no offline store for URL {url!r}: use file:/absolute/path or s3://bucket/prefix")


class _Files:
    """What both stores share: reading through a ``pyarrow`` file system."""

    filesystem: pafs.FileSystem

    def __init__(self, url: str, root: str, project: str) -> None:
        self.url, self._root, self._project = url, root, project

    def full_path(self, relative: str) -> str:
        path = PurePosixPath(relative)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise StoreError(f"{relative!r} is not a path within the offline store at {self.url}")
        return f"{self._root}/{path}"

    def attempt_directory(self, view: str, generation: int, attempt: int) -> str:
        parts = (self._project, view.replace(":", "/"), f"g{generation}", f"a{attempt}")
        return "/".join(filter(None, parts))

    def store_id(self) -> str | None:
        try:
            with self._errors(), self.filesystem.open_input_stream(self.full_path(MARKER)) as stream:
                content = stream.read()
        except StoreCorrupt:
            return None
        try:
            return decode_json(content, _Marker).store_id
        except msgspec.DecodeError as error:
            raise StoreCorrupt(f"{self.url}/{MARKER} is not the marker of a store: {error}") from None

    def read(self, relative: str) -> pa.Table:
        try:
            with self._errors(relative), self.filesystem.open_input_file(self.full_path(relative)) as file:
                return pq.ParquetFile(file).read()
        except pa.ArrowInvalid as error:
            raise StoreCorrupt(f"file {relative!r} of the offline store at {self.url} cannot be decoded: {error}") from None

    def exists(self, relative: str) -> bool:
        return bool(self._info(relative).type == pafs.FileType.File)

    def size(self, relative: str) -> int:
        info = self._info(relative)
        if info.type != pafs.FileType.File:
            raise StoreCorrupt(gone_text(relative, self.url))
        return int(info.size)

    def checksum(self, relative: str) -> str:
        digest = hashlib.sha256()
        with self._errors(relative), self.filesystem.open_input_stream(self.full_path(relative)) as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
        return digest.hexdigest()

    def list_directory(self, relative: str) -> list[StoredFile]:
        selector = pafs.FileSelector(self.full_path(relative), recursive=True, allow_not_found=True)
        with self._errors(relative):
            found = self.filesystem.get_file_info(selector)
        return sorted(
            (
                StoredFile(
                    path=info.path.removeprefix(self._root + "/"),
                    bytes=info.size,
                    modified_at=info.mtime.astimezone(UTC),
                )
                for info in found
                if info.type == pafs.FileType.File
            ),
            key=lambda file: file.path,
        )

    def delete_directory(self, relative: str) -> None:
        try:
            with self._errors(relative):
                self.filesystem.delete_dir(self.full_path(relative))
        except StoreCorrupt:
            return

    def delete_file(self, relative: str) -> None:
        try:
            with self._errors(relative):
                self.filesystem.delete_file(self.full_path(relative))
        except StoreCorrupt:
            return

    def _info(self, relative: str) -> pafs.FileInfo:
        with self._errors(relative):
            return self.filesystem.get_file_info(self.full_path(relative))

    def _check_created(self) -> None:
        if self.store_id() is None:
            raise StoreMissing(f"no offline store at {self.url}: run `fstore apply` to create it")

    def _check_same(self, store_id: str) -> bool:
        """Whether the store exists with this id. Raises StoreMismatch when it exists with another."""
        found = self.store_id()
        if found not in (None, store_id):
            raise StoreMismatch(f"the offline store at {self.url} already has id {found}; it cannot become {store_id}")
        return found is not None

    @contextmanager
    def _errors(self, relative: str = "") -> Iterator[None]:
        """Turn errors of the file system into errors of the store."""
        try:
            yield
        except OSError as error:
            raise store_error(error, relative, self.url) from error

    @contextmanager
    def _disk_errors(self, relative: str) -> Iterator[None]:
        """Turn what a disk says while its user writes a file into an error of the store; others are the user's own."""
        try:
            yield
        except OSError as error:
            if error.errno not in DISK:
                raise
            raise store_error(error, relative, self.url) from error


class LocalOfflineStore(_Files):
    """An offline store in a local directory."""

    def __init__(self, root: Path, project: str) -> None:
        if not root.is_absolute():
            raise SettingsError(f"'file:{root}' is not absolute: write file:/path/of/the/store")
        super().__init__(f"file:{root}", root.as_posix(), project)
        self.filesystem = pafs.LocalFileSystem()

    def create(self, store_id: str) -> None:
        """Mark the root as this store."""
        if self._check_same(store_id):
            return
        with self._errors():
            root = Path(self._root)
            root.mkdir(parents=True, exist_ok=True)
            temporary = root / f"{_TEMPORARY}{uuid.uuid4().hex}"
            try:
                temporary.write_bytes(msgspec.json.encode(_Marker(store_id=store_id)))
                _sync(temporary)
                os.link(temporary, root / MARKER)  # never replaces a marker that another process made meanwhile
                _sync(root)
            except FileExistsError:
                self._check_same(store_id)
            finally:
                _remove(temporary)

    def prepare_directory(self, relative: str) -> None:
        """Make a directory ready for files."""
        self._check_created()
        with self._errors(relative):
            directory = Path(self.full_path(relative))
            directory.mkdir(parents=True, exist_ok=True)
            for parent in (directory, *directory.parents):
                _sync(parent)
                if parent == Path(self._root):
                    break

    def delete_unfinished(self, relative: str) -> None:
        """Delete files under their temporary names."""
        with self._errors(relative):
            for path in Path(self.full_path(relative)).glob(f"{_TEMPORARY}*"):
                path.unlink(missing_ok=True)

    @contextmanager
    def writing(self, relative: str) -> Iterator[str]:
        """Give a local path; the file appears in the store when the block ends without an error."""
        target = Path(self.full_path(relative))
        if not target.parent.is_dir():
            self.prepare_directory(PurePosixPath(relative).parent.as_posix())
        temporary = target.with_name(f"{_TEMPORARY}{uuid.uuid4().hex}-{target.name}")
        with self._errors(relative):  # a directory that refuses writes is better found before hours of computing
            temporary.touch()
        try:
            with self._disk_errors(relative):
                yield str(temporary)
            failpoint("offline.written")
            with self._errors(relative):
                try:
                    _sync(temporary)
                    failpoint("offline.synced")
                    temporary.replace(target)
                    failpoint("offline.renamed")
                    _sync(target.parent)
                except FileNotFoundError:
                    text = (
                        f"file {relative!r} was deleted while it was written: its attempt was finished or given up meanwhile"
                    )
                    raise StoreUnavailable(text) from None
            failpoint("offline.visible")
        finally:
            _remove(temporary)


class S3OfflineStore(_Files):
    """An offline store below a prefix of an S3 bucket; the bucket must exist."""

    def __init__(self, url: str, project: str) -> None:
        self.filesystem, root = open_filesystem(url)
        super().__init__(f"s3://{root}", root, project)

    def create(self, store_id: str) -> None:
        """Mark the root as this store."""
        if self._check_same(store_id):
            return
        with self._errors(), self.filesystem.open_output_stream(self.full_path(MARKER)) as stream:
            stream.write(msgspec.json.encode(_Marker(store_id=store_id)))
        self._check_same(store_id)

    def delete_unfinished(self, relative: str) -> None:
        """Do nothing: an object appears whole, and nothing of an upload that was cut off is to be seen."""

    def prepare_directory(self, relative: str) -> None:
        """Make a directory ready for files."""
        self.full_path(relative)
        self._check_created()

    @contextmanager
    def writing(self, relative: str) -> Iterator[str]:
        """Give a local path; the file appears in the store when the block ends without an error."""
        target = self.full_path(relative)
        with self._disk_errors(relative):
            directory = tempfile.mkdtemp(prefix="fstore-upload-")
        try:
            local = f"{directory}/{PurePosixPath(relative).name}"
            with self._disk_errors(relative):
                yield local
            with self._errors(relative):
                pafs.copy_files(local, target, pafs.LocalFileSystem(), self.filesystem)
        finally:
            shutil.rmtree(directory, ignore_errors=True)


def _remove(temporary: Path) -> None:
    """Delete what has a temporary name; where that fails, it is the sweeper's, and what happened before is what counts."""
    with contextlib.suppress(OSError):
        temporary.unlink()


def _sync(path: Path) -> None:
    """Make a file's content, or a directory's entries, survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
