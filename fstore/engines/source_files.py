"""The files of a source: which there are, and what their footers say.

Goes from a source's path (a file, a directory, a glob or an ``s3://`` URL) to its files in order of path, and to the
physical schema of each Parquet file. Files whose name, or one of whose directories below the path, begins with ``_`` or
``.`` are being written or are marks of other programs, and are left out. Reads no rows.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import msgspec
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from fstore.definitions.source import CsvSource, FileSource, PhysicalSource, Source
from fstore.errors import SourceError, SourceMissing, SourceUnreadable, StoreCorrupt, StoreUnavailable
from fstore.filesystem import is_remote, open_filesystem

_WILDCARD = re.compile(r"[*?\[]")
_FOOTER_THREADS = 8
_REMEMBERED = 65_536
_DISK_FAILS = {errno.EIO, errno.ESTALE}


class SourceFile(msgspec.Struct, frozen=True):
    """A file on the source's file system; size and time of change tell whether it is still the same."""

    path: str
    bytes: int
    changed_ns: int


class Span(msgspec.Struct, frozen=True):
    """The least and greatest time in a file, in microseconds as written: UTC, or of the file's own clock."""

    low: int
    high: int


class Footer(msgspec.Struct, frozen=True):
    """What a Parquet file says of itself: its physical schema, the span of its time column where known, no rows at all."""

    schema: pa.Schema
    span: Span | None
    is_empty: bool = False


class SourceFiles(msgspec.Struct, frozen=True, kw_only=True):
    """The files of a source in order of path. ``base`` is the directory (or the file) that they were looked for in."""

    filesystem: pafs.FileSystem
    remote: bool
    base: str
    files: tuple[SourceFile, ...]


def source_error(kind: type[SourceError], source: Source, problem: str) -> SourceError:
    """Return an error about a source, with the place of its definition."""
    location = source.location
    return kind(source.name, problem, file=location.file if location else "", line=location.line if location else 0)


def find_files(source: FileSource, root: str) -> SourceFiles:
    """Return a source's files; relative paths start at ``root``.

    Raises SourceMissing when there is none, SourceUnreadable when one has no bytes, StoreUnavailable when S3 is silent.
    """
    remote = is_remote(source.path)
    url = source.path if remote else os.path.normpath(Path(root) / source.path)
    filesystem, path = open_filesystem(url)
    try:
        found, base = _listed(filesystem, path, _suffixes(source))
    except OSError as error:
        if isinstance(error, PermissionError):
            raise source_error(
                SourceUnreadable, source, f"cannot be listed: {error}. Give this user read permission on {url}."
            ) from error
        raise StoreUnavailable(f"source {source.name!r} at {url} cannot be reached: {error}") from error
    if not found:
        endings = " or ".join(f"*{suffix}" for suffix in _suffixes(source))
        raise source_error(
            SourceMissing,
            source,
            f"has no file: nothing at {url} is a file or a directory with {endings} below it (names beginning with '_' or "
            "'.' do not count). Check the path, or wait until the data has landed.",
        )
    for file in found:
        if not file.bytes:
            raise source_error(
                SourceUnreadable,
                source,
                f"has an empty file, {file.path}: its writer was interrupted. Delete or rewrite it.",
            )
    return SourceFiles(filesystem=filesystem, remote=remote, base=base, files=tuple(found))


def _suffixes(source: FileSource) -> tuple[str, ...]:
    return (".csv", ".csv.gz") if isinstance(source, CsvSource) else (".parquet",)


def _listed(filesystem: pafs.FileSystem, path: str, suffixes: Sequence[str]) -> tuple[list[SourceFile], str]:
    """Return the files at a path, and the path they were looked for below."""
    exact = filesystem.get_file_info(path)
    if exact.type == pafs.FileType.File:
        return [_source_file(exact)], path
    pattern: re.Pattern[str] | None = None
    base = path
    if exact.type == pafs.FileType.NotFound:
        if not _WILDCARD.search(path):
            return [], path
        parts = PurePosixPath(path).parts
        first = next(index for index, part in enumerate(parts) if _WILDCARD.search(part))
        base = str(PurePosixPath(*parts[:first]))
        pattern = _glob_pattern("/".join(parts[first:]))
    selector = pafs.FileSelector(base, recursive=True, allow_not_found=True)
    files = []
    for info in filesystem.get_file_info(selector):
        below = info.path.removeprefix(base).lstrip("/")
        if info.type != pafs.FileType.File or any(part.startswith(("_", ".")) for part in below.split("/")):
            continue
        if pattern.fullmatch(below) if pattern else below.endswith(tuple(suffixes)):
            files.append(_source_file(info))
    return sorted(files, key=lambda file: file.path), base


def _source_file(info: pafs.FileInfo) -> SourceFile:
    return SourceFile(info.path, info.size, info.mtime_ns or 0)


def _glob_pattern(glob: str) -> re.Pattern[str]:
    """Return a regular expression for a glob: ``**`` spans directories, ``*``, ``?`` and ``[…]`` stay within a name."""
    text = ""
    for token in re.findall(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\]|.", glob):
        match token:
            case "**/":
                text += "(?:.*/)?"
            case "**":
                text += ".*"
            case "*":
                text += "[^/]*"
            case "?":
                text += "[^/]"
            case _ if len(token) > 1:
                text += (
                    "["
                    + ("^" if token[1] == "!" else "")
                    + re.escape(token[1:-1].removeprefix("!")).replace(r"\-", "-")
                    + "]"
                )
            case _:
                text += re.escape(token)
    return re.compile(text)


# -- footers ----------------------------------------------------------------------------------------------------------


def read_footers(source: PhysicalSource, found: SourceFiles) -> list[Footer]:
    """Return what the footer of every file says, in order; footers of files that have not changed come from memory.

    Raises SourceUnreadable with the first file that is half-written, corrupt or no Parquet, and StoreUnavailable when the
    disk fails.
    """
    time = source.event_time or source.updated_at
    try:
        if len(found.files) < 2:
            return [_footer(found.filesystem, file, time) for file in found.files]
        with ThreadPoolExecutor(_FOOTER_THREADS) as threads:
            return list(threads.map(lambda file: _footer(found.filesystem, file, time), found.files))
    except _Unreadable as error:
        raise source_error(
            SourceUnreadable,
            source,
            f"has a file that is not whole Parquet, {error.path}: {error}. Its writer was interrupted or it is of another "
            "format: delete or rewrite it, and let writers rename files into place when they are complete.",
        ) from error


def published_schemas(filesystem: pafs.FileSystem, paths: Sequence[str]) -> list[pa.Schema]:
    """Return the physical schema of published, immutable files. Raises StoreCorrupt when one is gone or damaged."""
    local = isinstance(filesystem, pafs.LocalFileSystem)
    try:
        files = [_local_file(path) if local else SourceFile(path, 0, 0) for path in paths]
        if len(files) < 2:
            return [_footer(filesystem, file, None).schema for file in files]
        with ThreadPoolExecutor(_FOOTER_THREADS) as threads:
            return list(threads.map(lambda file: _footer(filesystem, file, None).schema, files))
    except _Unreadable as error:
        raise StoreCorrupt(f"published file {error.path} is gone or damaged: {error}") from error


def _local_file(path: str) -> SourceFile:
    try:
        status = Path(path).stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    return SourceFile(path, status.st_size, status.st_mtime_ns)


class _Unreadable(Exception):
    def __init__(self, path: str, message: str) -> None:
        self.path = path
        super().__init__(message)


def _unreadable(path: str, error: Exception) -> Exception:
    """Return what an error says of a file: that it is broken, or that the disk is, which says nothing of the file."""
    if isinstance(error, OSError) and error.errno in _DISK_FAILS:
        return StoreUnavailable(f"{path} cannot be read now, the disk or its network fails: {error}")
    return _Unreadable(path, str(error).rstrip("."))


_FOOTERS: dict[tuple[str, SourceFile, str | None], Footer] = {}


def _footer(filesystem: pafs.FileSystem, file: SourceFile, time: str | None) -> Footer:
    key = (filesystem.type_name, file, time)
    if (known := _FOOTERS.get(key)) is not None:
        return known
    try:
        with filesystem.open_input_file(file.path) as stream, pq.ParquetFile(stream) as parquet:
            schema = parquet.schema_arrow.remove_metadata()
            span = None if time is None else _span(parquet.metadata, schema, time)
            is_empty = parquet.metadata.num_rows == 0
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(file.path, error) from error
    if len(_FOOTERS) >= _REMEMBERED:
        _FOOTERS.clear()
    return _FOOTERS.setdefault(key, Footer(schema, span, is_empty))


def _span(metadata: pq.FileMetaData, schema: pa.Schema, time: str) -> Span | None:
    """Return the span of a time column from the statistics of its row groups, or None when they do not tell."""
    micros = _MICROS.get(str(schema.field(time).type).partition(",")[0].rstrip("]")) if time in schema.names else None
    paths = [metadata.schema.column(index).path for index in range(metadata.num_columns)]
    if micros is None or time not in paths:
        return None
    low: list[int] = []
    high: list[int] = []
    for index in range(metadata.num_row_groups):
        statistics = metadata.row_group(index).column(paths.index(time)).statistics
        if statistics is None or not statistics.has_min_max or not isinstance(statistics.min_raw, int):
            return None
        low.append(statistics.min_raw)
        high.append(statistics.max_raw)
    numerator, denominator = micros
    return Span(min(low) * numerator // denominator, max(high) * numerator // denominator) if low else None


_MICROS = {"timestamp[s": (1_000_000, 1), "timestamp[ms": (1_000, 1), "timestamp[us": (1, 1), "timestamp[ns": (1, 1_000),
           "date32[day": (86_400_000_000, 1)}  # fmt: skip
