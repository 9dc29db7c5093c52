"""Spines: entity rows of any size, read in parts as often as needed.

Takes what a reader brings (frames in memory, Parquet files or directories of them, SQL, lazy frames, streams such as DuckDB
relations); gives tables of so many rows at a time, in order. What could only be read once, or would run again, is written to
a temporary Parquet file first. Converts nothing: keys and times are checked where they are used.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from fstore.errors import EntityColumnError, RetrievalError
from fstore.retrieval.entity_rows import EntityRows, read_entity_rows, refuse_twice

if TYPE_CHECKING:
    from fstore.backends import Backends

_SELECT = re.compile(r"(\s|\(|--[^\n]*\n|/\*.*?\*/)*(SELECT|WITH|FROM|VALUES)(?![\w./\\-])", re.IGNORECASE | re.DOTALL)
"""How a query begins, perhaps with comments, and no path such as ``values.parquet``."""

_BATCH_ROWS = 65_536


class Spine:
    """Entity rows. Close it, to delete what was written for it."""

    def __init__(
        self, schema: pa.Schema, read: Callable[[Sequence[str] | None], Iterator[pa.Table]], close: Callable[[], None]
    ) -> None:
        """Make a spine of its ``schema`` and of what reads some of its columns (None: all) as tables of any size."""
        self.schema, self._read, self._close = schema, read, close
        self._closed = False

    def close(self) -> None:
        """Delete what was written for it, after which it cannot be read."""
        self._closed = True
        self._close()

    def parts(self, rows: int, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield tables of ``rows`` rows, the last of fewer; one without rows where there is none at all."""
        if self._closed:
            raise RetrievalError("the stream is closed, and what it read is deleted: consume its batches before that")
        held: list[pa.Table] = []
        count, yielded = 0, False
        for piece in self._read(columns):
            rest = piece
            while count + rest.num_rows >= rows:
                taken = rows - count
                yield pa.concat_tables([*held, rest.slice(0, taken)])
                held, count, yielded, rest = [], 0, True, rest.slice(taken)
            if rest.num_rows:
                held.append(rest)
                count += rest.num_rows
        if held:
            yield pa.concat_tables(held)
        elif not yielded:
            schema = self.schema if columns is None else pa.schema([self.schema.field(name) for name in columns])
            yield schema.empty_table()

    def table(self) -> pa.Table:
        """Return all rows as one table."""
        pieces = list(self._read(None))
        return pa.concat_tables(pieces) if pieces else self.schema.empty_table()


def open_spine(rows: EntityRows, backends: Backends) -> Spine:
    """Return entity rows to be read in parts; files stay where they are. Raises EntityColumnError; ComputeError for SQL."""
    if isinstance(rows, str) and _SELECT.match(rows):
        return _spooled(backends.engine.read_own_sql(rows), backends)
    if isinstance(rows, str | Path):
        return _of_files(Path(rows))
    if _is_lazy(rows):
        return _sunk(rows, backends)
    if isinstance(rows, pa.RecordBatchReader):
        return _spooled(rows, backends)
    if _streams(rows):
        return _spooled(pa.RecordBatchReader.from_stream(rows), backends)
    return _of_table(read_entity_rows(rows))


def load_entity_rows(rows: EntityRows, backends: Backends) -> pa.Table:
    """Return entity rows as one table in memory. Raises EntityColumnError, and ComputeError for SQL."""
    if isinstance(rows, str) and _SELECT.match(rows):
        return read_entity_rows(backends.engine.read_own_sql(rows).read_all())
    if isinstance(rows, str | Path):
        return _of_files(Path(rows)).table()
    if _is_lazy(rows):
        return read_entity_rows(rows.collect())  # type: ignore[union-attr]
    if isinstance(rows, pa.RecordBatchReader):
        return read_entity_rows(rows.read_all())
    if _streams(rows):
        return read_entity_rows(pa.RecordBatchReader.from_stream(rows).read_all())
    return read_entity_rows(rows)


def _is_lazy(rows: object) -> bool:
    return type(rows).__module__.partition(".")[0] == "polars" and hasattr(rows, "sink_parquet")


def _streams(rows: object) -> bool:
    """Whether rows are a stream of Arrow, such as a DuckDB relation, and not a frame in memory."""
    known = isinstance(rows, pa.Table) or type(rows).__module__.partition(".")[0] in ("pandas", "polars")
    return not known and hasattr(rows, "__arrow_c_stream__")


def _of_table(table: pa.Table) -> Spine:
    def read(columns: Sequence[str] | None) -> Iterator[pa.Table]:
        yield table if columns is None else table.select(columns)

    return Spine(table.schema, read, lambda: None)


def _of_files(path: Path, close: Callable[[], None] = lambda: None) -> Spine:
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise EntityColumnError(f"entity rows cannot be read from {str(path)!r}: no *.parquet file is below it")
    try:
        schema = pq.read_schema(files[0]).remove_metadata()
        for file in files[1:]:
            if not pq.read_schema(file).remove_metadata().equals(schema):
                raise EntityColumnError(f"entity rows cannot be read from {str(path)!r}: {file} has other columns or types "
                                        f"than {files[0]}")  # fmt: skip
    except (OSError, pa.ArrowInvalid) as error:
        raise EntityColumnError(f"entity rows cannot be read from {str(path)!r} as Parquet: {error}") from None
    refuse_twice(schema.names)
    above = {part for file in files for part in file.relative_to(path).parts[:-1] if "=" in part}
    if named := [part for part in above if part.partition("=")[0] not in schema.names]:
        raise EntityColumnError(
            f"entity rows cannot be read from {str(path)!r} alone: directories such as {min(named)!r} are named by a column "
            f"that the files do not have. Read them with SQL: \"SELECT * FROM '{path}/**/*.parquet'\""
        )

    def read(columns: Sequence[str] | None) -> Iterator[pa.Table]:
        for file in files:
            with pq.ParquetFile(file) as parquet:
                for batch in parquet.iter_batches(_BATCH_ROWS, columns=columns):
                    table = pa.Table.from_batches([batch]).replace_schema_metadata(None)
                    yield table if columns is None else table.select(columns)

    return Spine(schema, read, close)


def _spooled(reader: pa.RecordBatchReader, backends: Backends) -> Spine:
    refuse_twice(reader.schema.names)

    def write(file: Path) -> None:
        with pq.ParquetWriter(file, reader.schema, compression="lz4") as writer:
            for batch in reader:
                writer.write_batch(batch)

    return _written(write, backends)


def _sunk(rows: object, backends: Backends) -> Spine:
    return _written(lambda file: rows.sink_parquet(file, compression="lz4"), backends)  # type: ignore[attr-defined]


def _written(write: Callable[[Path], None], backends: Backends) -> Spine:
    """Return the spine of a temporary file."""
    parent = Path(backends.settings.spill_dir)
    parent.mkdir(parents=True, exist_ok=True)
    directory = tempfile.TemporaryDirectory(prefix="spine-", dir=parent)
    try:
        file = Path(directory.name) / "rows.parquet"
        write(file)
        return _of_files(file, directory.cleanup)
    except BaseException as error:
        directory.cleanup()
        if isinstance(error, pa.ArrowNotImplementedError):
            raise EntityColumnError(f"a column of the entity rows cannot be kept in a file, leave it out: {error}") from None
        raise
