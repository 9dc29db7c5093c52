"""Training frames larger than memory: a stream of Arrow batches, or one Parquet file, read in parts of the entity rows.

Every rule of a frame holds: missing history and immature labels are refused before the first batch, rows come back in their
order, and the manifest with its checksums is that of the frame read at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pyarrow as pa
import pyarrow.parquet as pq

from fstore.errors import RetrievalError
from fstore.interval import format_instant
from fstore.retrieval.training import MANIFEST_KEY, appearing_whole, explain_manifest

if TYPE_CHECKING:
    from fstore.retrieval.frame_reader import FrameReader
    from fstore.retrieval.spines import Spine
    from fstore.retrieval.training import Manifest

BATCH_ROWS = 65_536

_PART_BYTES = 64 * 1024 * 1024
"""What a part of the result takes in memory, about; joining and writing it take some times that."""

_LEAST_ROWS, _MOST_ROWS = 20_000, 1_000_000


class BatchStream(ABC):
    """A training frame that comes in batches, whoever reads it. Use as a context manager, or close it."""

    def __init__(self) -> None:
        self._manifest: Manifest | None = None

    @property
    def manifest(self) -> Manifest:
        """The manifest, once all batches were read. Raises RetrievalError before."""
        if self._manifest is None:
            raise RetrievalError("a stream has its manifest when all of its batches were read, or its file is written")
        return self._manifest

    @abstractmethod
    def to_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows in the order given, as record batches of equal schema; at least one."""

    def to_parquet(self, path: str | Path) -> None:
        """Write the rows and the manifest as one Parquet file, which appears whole or not at all."""
        batches = self.to_batches()
        with appearing_whole(path) as partial:
            first = next(batches)
            with pq.ParquetWriter(partial, first.schema) as writer:
                writer.write_batch(first)
                for batch in batches:
                    writer.write_batch(batch)
                writer.add_key_value_metadata({MANIFEST_KEY: self.manifest.to_json().encode()})

    def explain(self) -> str:
        """Describe in text where the values came from, view by view, once all were read."""
        return explain_manifest(self.manifest)

    def close(self) -> None:  # noqa: B027  (not every stream holds something)
        """Let go of what the stream holds."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class FrameStream(BatchStream):
    """A training frame that is read while it is consumed, as often as wanted. Use as a context manager, or close it.

    Every reading reads the same moment of the log.
    """

    def __init__(self, make_reader: Callable[[int | None], FrameReader], spine: Spine, part_rows: int | None = None) -> None:
        """Read a spine with readers of one request, each made for a sequence (None: the newest). Raises RetrievalError."""
        if part_rows is not None and (type(part_rows) is not int or part_rows < 1):
            raise RetrievalError(
                f"part_rows must be a whole number from 1 up, got {part_rows!r}: leave it out for a good one"
            )
        super().__init__()
        self._make_reader, self._spine = make_reader, spine
        self._reader = make_reader(None)
        self._reader.refuse_names(spine.schema.names)
        width = sum(_width(kind) for kind in [*spine.schema.types, *self._feature_types()])
        self._part_rows = part_rows or max(_LEAST_ROWS, min(_MOST_ROWS, _PART_BYTES // max(1, width)))
        self._used = False

    def to_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows in the order given, as record batches of equal schema; at least one.

        Raises what get_historical_features raises: IncompleteHistory, EntityColumnError and ImmatureLabels before the first
        batch, SnapshotExpired and FileDamaged while reading.
        """
        reader = self._reader if not self._used else self._make_reader(self._reader.sequence)
        self._used, self._manifest = True, None
        missing = not set(reader.spine_columns).issubset(self._spine.schema.names)  # the error lists what there is instead
        reader.check(self._spine.parts(_MOST_ROWS, None if missing else reader.spine_columns))
        schema: pa.Schema | None = None
        for part in self._spine.parts(self._part_rows):
            table = reader.join(part, strict=False)
            schema = table.schema.remove_metadata() if schema is None else schema
            for batch in table.to_batches(BATCH_ROWS) or [None]:
                yield pa.RecordBatch.from_pylist([], schema) if batch is None else batch.replace_schema_metadata(None)
        self._manifest = reader.manifest()

    def explain(self) -> str:
        """Describe in text what is going to be read and, once it was, where the values came from, view by view."""
        if self._manifest is not None:
            return explain_manifest(self._manifest)
        selection = self._reader.selection
        lines = [f"{len(selection.references)} features at sequence {self._reader.sequence}, in parts of {self._part_rows} "
                 "entity rows"]  # fmt: skip
        for view in selection.views:
            names = ", ".join(feature.name for feature in view.features)
            start = format_instant(view.step.start)
            lines.append(f"  {view.label} ({view.step.kind}, {view.fingerprint}, from {start} on): {names}")
        return "\n".join(lines)

    def close(self) -> None:
        """Delete what was written to read the entity rows in parts."""
        self._spine.close()

    def _feature_types(self) -> list[pa.DataType]:
        return [kind for view in self._reader.selection.views for kind in view.schema.types]


def _width(kind: pa.DataType) -> int:
    """Return how many bytes a value of a type takes, about."""
    try:
        return max(1, int(kind.bit_width) // 8)
    except ValueError:
        return 32
