"""How the files of a source become rows with logical types in DuckDB.

Takes a source and gives a :class:`Scan`: its columns with their logical types, and expressions and a FROM clause per group
of files with the same physical schema. Cuts no rows: relations do.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.fs as pafs

from fstore.definitions.source import CsvSource, ParquetSource, PhysicalSource, PostgresSource
from fstore.engines.duckdb_csv import csv_part, read_header
from fstore.engines.duckdb_parquet import parquet_part
from fstore.engines.duckdb_scan import Part, Scan
from fstore.engines.duckdb_types import brief, file_list, logical_type, text_literal
from fstore.engines.extracts import EXTRACT, Extracts, FindExtracts, no_extracts
from fstore.engines.partitions import partition_columns
from fstore.engines.source_columns import NAIVE, logical_columns, physical_types
from fstore.engines.source_files import SourceFile, SourceFiles, Span, find_files, read_footers, source_error
from fstore.errors import SourceMissing, SourceSchemaDrift, SourceUnreadable, StoreUnavailable

RunSql = Callable[[str, Sequence[str]], list[tuple[object, ...]]]
"""Runs trusted SQL with access to the given directories."""


class SourceReader:
    """Finds out how to read sources. Remembers it for as long as their files do not change."""

    def __init__(self, root: str, spill_dir: str, run: RunSql, extracts: FindExtracts = no_extracts) -> None:
        self._root, self._spill_dir, self._run, self._extracts = root, spill_dir, run, extracts
        self._scans: dict[bytes, tuple[tuple[SourceFile, ...], Scan]] = {}

    def listing(self, source: PhysicalSource) -> tuple[SourceFile, ...]:
        """Return the files of a source as they are now."""
        return self.files(source).files

    def files(self, source: PhysicalSource) -> SourceFiles:
        """Return the files of a source as they are now, with where they are."""
        if isinstance(source, PostgresSource):
            return extracted_files(source, self._extracts(source))
        return find_files(source, self._root)

    def scan(self, source: PhysicalSource) -> Scan:
        """Return how to read a source now. Raises the errors of :meth:`fstore.engines.engine.Engine.source_schema`."""
        found = self.files(source)
        key = msgspec.json.encode(source, order="sorted")
        known = self._scans.get(key)
        if known is not None and known[0] == found.files:
            return known[1]
        scan = self._csv(source, found) if isinstance(source, CsvSource) else self._parquet(source, found)
        self._scans[key] = (found.files, scan)
        return scan

    # -- Parquet ------------------------------------------------------------------------------------------------------

    def _parquet(self, source: ParquetSource | PostgresSource, found: SourceFiles) -> Scan:
        partitions = partition_columns(found)
        groups: dict[pa.Schema, list[tuple[str, Span | None]]] = {}
        for file, footer in zip(found.files, read_footers(source, found), strict=True):
            groups.setdefault(footer.schema, []).append((file.path, footer.span))
        types = {files[0][0]: physical_types(source, schema, partitions) for schema, files in groups.items()}
        columns = {name: type_ for name, type_ in logical_columns(source, types).items() if name != EXTRACT}
        parts = [
            parquet_part(source, found, schema, files, columns, found_types, partitions)
            for (schema, files), found_types in zip(groups.items(), types.values(), strict=True)
        ]
        return _finished(source, columns, parts, found)

    # -- CSV ----------------------------------------------------------------------------------------------------------

    def _csv(self, source: CsvSource, found: SourceFiles) -> Scan:
        local = self._fetched(found) if found.remote else found
        groups: dict[tuple[str, ...], list[str]] = {}
        for file in local.files:
            groups.setdefault(read_header(source, file.path), []).append(file.path)
        sniffed = self._sniffed(source, local, groups)
        types = {paths[0]: {name: sniffed[name] for name in header} for header, paths in groups.items()}
        columns = logical_columns(source, types)
        parts = [csv_part(source, header, paths, columns, sniffed) for header, paths in groups.items()]
        return _finished(source, columns, parts, local)

    def _sniffed(
        self, source: CsvSource, found: SourceFiles, groups: Mapping[tuple[str, ...], Sequence[str]]
    ) -> dict[str, str]:
        """Return a type per column: as declared, else what all values of the column fit.

        A time without a zone gives ``"timestamp"`` where the source has a zone, and is marked naive where it has not.
        """
        declared = source.schema or {}
        names = [name for header in groups for name in header]
        if all(name in declared for name in names):
            return {name: declared[name] for name in names}
        options = f"header=true, delim={text_literal(source.delimiter)}, nullstr={text_literal(source.null)}"
        paths = [path for group in groups.values() for path in group]
        sql = f"DESCRIBE SELECT * FROM read_csv({file_list(paths)}, {options}, sample_size=-1, union_by_name=true)"
        try:
            found_types = {str(row[0]): str(row[1]) for row in self._run(sql, _directories(found))}
        except duckdb.Error as error:
            path = next((path for path in paths if path in str(error)), paths[0])
            problem = f"has a file that cannot be read, {path}: {brief(error)}. Delete or rewrite it."
            raise source_error(SourceUnreadable, source, problem) from error
        naive = "timestamp" if source.timezone else NAIVE
        return {
            name: declared.get(name)
            or (naive if found_types.get(name) == "TIMESTAMP" else logical_type(found_types.get(name, "VARCHAR")))
            for name in names
        }

    def _fetched(self, found: SourceFiles) -> SourceFiles:
        """Copy remote CSV files to the spill directory, where they are read like local ones."""
        directory = Path(self._spill_dir) / "fetched"
        directory.mkdir(parents=True, exist_ok=True)
        files = []
        for file in found.files:
            name = f"{abs(hash(file)):x}-{Path(file.path).name}"
            if not (directory / name).exists():
                _fetch(found.filesystem, file.path, directory / name)
            files.append(SourceFile(str(directory / name), file.bytes, file.changed_ns))
        return SourceFiles(filesystem=pafs.LocalFileSystem(), remote=False, base=str(directory), files=tuple(files))

    def close(self) -> None:
        """Forget everything, and delete what was fetched."""
        self._scans.clear()
        shutil.rmtree(Path(self._spill_dir) / "fetched", ignore_errors=True)


def extracted_files(source: PostgresSource, extracts: Extracts) -> SourceFiles:
    """Return the copies of a table that count, as files. Raises SourceMissing when it was never copied."""
    if not extracts.paths:
        raise source_error(
            SourceMissing, source, "was not copied out of its database yet; `fstore run` and `fstore check` do that first."
        )
    remote = not isinstance(extracts.filesystem, pafs.LocalFileSystem)
    return SourceFiles(
        filesystem=extracts.filesystem,
        remote=remote,
        base=extracts.paths[0].rpartition("/")[0],
        files=tuple(SourceFile(path, 1, 0) for path in extracts.paths),  # immutable: the path says all
    )


def _finished(source: PhysicalSource, columns: dict[str, str], parts: Sequence[Part], found: SourceFiles) -> Scan:
    """Name keys as the definition does, and check the columns that the definition names."""
    renames = source.renamed
    for column in source.key_columns:
        if column not in columns:
            raise source_error(
                SourceSchemaDrift, source, f"has key {column!r}, which is not a column of its files: {', '.join(columns)}"
            )
    shown = [renames.get(name, name).lower() for name in columns]
    if doubled := [key for key in renames.values() if shown.count(key.lower()) > 1]:
        raise source_error(
            SourceSchemaDrift,
            source,
            f"shows a column as key {doubled[0]!r}, and has a column of that name as well: {', '.join(columns)}. Leave one "
            "of them out of a declared schema, or give the key another name.",
        )
    times = (source.event_time, source.updated_at)
    return Scan(
        source=source,
        columns={renames.get(name, name): "timestamp" if name in times else type_ for name, type_ in columns.items()},
        parts=tuple(
            msgspec.structs.replace(part, fields={renames.get(name, name): field for name, field in part.fields.items()})
            for part in parts
        ),
        directories=tuple(() if found.remote else _directories(found)),
        files=tuple(file.path for file in found.files),
    )


def _directories(found: SourceFiles) -> list[str]:
    """Return the real directories of the files, as few as possible."""
    base = str(Path(found.base).resolve())
    real = {str(Path(file.path).resolve()) for file in found.files}
    return sorted({base if path.startswith(base + "/") else str(Path(path).parent) for path in real})


def _fetch(filesystem: pafs.FileSystem, path: str, target: Path) -> None:
    try:
        pafs.copy_files(path, str(target), filesystem, pafs.LocalFileSystem())
    except OSError as error:
        target.unlink(missing_ok=True)
        raise StoreUnavailable(f"{path} cannot be fetched: {error}") from error
