"""The files of a source as an observer sees them: which there are, whether they changed, and the span of their times.

Takes a file source and its last listing, and gives the listing of now. The span of a Parquet file comes from its footer;
CSV files are read for it, but only those that are not known already. Nothing is remembered here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from urllib.parse import unquote
from zoneinfo import ZoneInfo

import msgspec
import pyarrow as pa

from fstore.definitions.source import CsvSource, FileSource
from fstore.engines.duckdb_scan import Scan
from fstore.engines.duckdb_sources import RunSql, SourceReader
from fstore.engines.engine import ListedFile
from fstore.engines.source_files import Footer, SourceFile, SourceFiles, read_footers
from fstore.interval import MICROSECOND, from_micros


class _Times(msgspec.Struct, frozen=True):
    """The least and greatest instant of a file, both included; None for a file without a time."""

    low: datetime | None
    high: datetime | None


_UNKNOWN = _Times(None, None)


def list_files(
    reader: SourceReader, run: RunSql, source: FileSource, known: Mapping[str, ListedFile] | None = None
) -> list[ListedFile]:
    """Return the files of a source in order of path, with the times of those whose version is not ``known``.

    Of events the span holds all event times; of a dimension it begins with the first ``updated_at`` and has no end, because
    a version counts from then on. A static table has no times, so its files have none.
    """
    if source.static:
        return []
    found = reader.files(source)
    known = known or {}
    fresh = [file for file in found.files if _is_new(file, known.get(file.path))]
    times = _csv_times(reader.scan(source), run, found, fresh) if isinstance(source, CsvSource) else _parquet_times(
        source, found, fresh
    )  # fmt: skip
    listed = {file.path: _listed(source, file, times[file.path]) for file in fresh}
    return [listed.get(file.path) or known[file.path] for file in found.files]


def _version(file: SourceFile) -> str:
    return f"{file.bytes}-{file.changed_ns}"


def _is_new(file: SourceFile, last: ListedFile | None) -> bool:
    return last is None or last.version != _version(file)


def _listed(source: FileSource, file: SourceFile, times: _Times | None) -> ListedFile:
    if times is None:
        return ListedFile(path=file.path, version=_version(file), start=None, end=None, is_empty=True)
    end = None if times.high is None or source.is_dimension else _after(times.high)
    return ListedFile(path=file.path, version=_version(file), start=times.low, end=end, is_empty=False)


def _after(instant: datetime) -> datetime | None:
    try:
        return instant + MICROSECOND
    except OverflowError:
        return None


# -- Parquet ----------------------------------------------------------------------------------------------------------


def _parquet_times(source: FileSource, found: SourceFiles, files: Iterable[SourceFile]) -> dict[str, _Times | None]:
    chosen = msgspec.structs.replace(found, files=tuple(files))
    time = source.event_time or source.updated_at or ""
    footers = read_footers(source, chosen)
    return {
        file.path: _footer_times(source, time, footer, file.path.removeprefix(found.base))
        for file, footer in zip(chosen.files, footers, strict=True)
    }


def _footer_times(source: FileSource, time: str, footer: Footer, path: str) -> _Times | None:
    if footer.is_empty:
        return None
    if time not in footer.schema.names:
        return _partition_times(source, time, path)
    if footer.span is None:
        return _UNKNOWN
    kind = footer.schema.field(time).type
    zoned = pa.types.is_timestamp(kind) and kind.tz is not None
    try:
        low, high = from_micros(footer.span.low), from_micros(footer.span.high)
        return _Times(low, high) if zoned else _local_times(source, low, high)
    except (OverflowError, ValueError):  # beyond the years that Python knows
        return _UNKNOWN


def _partition_times(source: FileSource, time: str, path: str) -> _Times:
    """Return the day that a directory says, as in ``day=2026-01-01``."""
    for part in path.split("/"):
        name, separator, value = part.partition("=")
        if name == time and separator:
            try:
                day = datetime.combine(date.fromisoformat(unquote(value)), datetime.min.time(), UTC)
            except ValueError:
                return _UNKNOWN
            return _local_times(source, day, day)
    return _UNKNOWN


def _local_times(source: FileSource, low: datetime, high: datetime) -> _Times:
    """Return the instants that two readings of the source's own clock may mean, the first and the last."""
    zone = ZoneInfo(source.timezone or "UTC")
    lows = [low.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
    highs = [high.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
    return _Times(min(lows), max(highs))


# -- CSV --------------------------------------------------------------------------------------------------------------


def _csv_times(scan: Scan, run: RunSql, found: SourceFiles, files: Iterable[SourceFile]) -> dict[str, _Times | None]:
    local = dict(zip((file.path for file in found.files), scan.files, strict=True))  # remote files were fetched
    time = scan.column(scan.shown(scan.source.event_time or scan.source.updated_at or ""))
    times: dict[str, _Times | None] = {}
    for file in files:
        part = next(part for part in scan.parts if local[file.path] in part.files)
        sql = part.fields[time].sql
        origin = part.open([local[file.path]])
        ((low, high),) = run(f"SELECT epoch_us(min({sql})), epoch_us(max({sql})) FROM {origin}", scan.directories)
        if isinstance(low, int) and isinstance(high, int):
            times[file.path] = _instants(low, high)
        else:
            times[file.path] = None
    return times


def _instants(low: int, high: int) -> _Times:
    try:
        return _Times(from_micros(low), from_micros(high))
    except OverflowError:
        return _UNKNOWN
