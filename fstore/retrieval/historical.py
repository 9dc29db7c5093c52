"""Historical reads: the features of entity rows, each as it was known at the row's instant.

Takes the parts of one project; gives training frames with their manifests, whole or as streams, and reproduces them. All are
read by :mod:`fstore.retrieval.frame_reader`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import pyarrow as pa
from msgspec.structs import replace

from fstore.errors import EntityColumnError, RetrievalError
from fstore.retrieval.entity_rows import EntityRows
from fstore.retrieval.features import Wanted
from fstore.retrieval.frame_reader import FrameReader, FrameRequest, log_sequence
from fstore.retrieval.frame_stream import FrameStream
from fstore.retrieval.spines import load_entity_rows, open_spine
from fstore.retrieval.training import Manifest, TrainingFrame

if TYPE_CHECKING:
    from fstore.backends import Backends
    from fstore.registry.retention_records import SnapshotPin

_NOW = "event_timestamp"
"""The column of the instant of a read of rows without times."""


class HistoricalReads:
    """Reads training frames of one project; what :class:`~fstore.Client` says of its methods holds here."""

    def __init__(self, backends: Backends, clock: Callable[[], datetime]) -> None:
        self._backends, self._clock = backends, clock

    def read(self, entity_rows: EntityRows, request: FrameRequest) -> TrainingFrame:
        """Join features to entity rows."""
        _check_request(request)
        return self._read(entity_rows, request)

    def read_newest(
        self, entity_rows: EntityRows, features: Sequence[Wanted] | None = None, *, service: str | None = None,
        full_names: bool = False,
    ) -> TrainingFrame:  # fmt: skip
        """Join features to entity rows without times, as they are now."""
        table = load_entity_rows(entity_rows, self._backends)
        if _NOW in table.column_names:
            raise EntityColumnError(
                f"the entity rows have a column {_NOW!r}, where the instant of the read goes: use get_historical_features "
                "for rows with times of their own, or rename it"
            )
        now = pa.scalar(self._clock(), pa.timestamp("us", tz="UTC"))
        instants = pa.repeat(now, table.num_rows)
        request = FrameRequest(
            features=features, service=service, timestamp_column=_NOW, missing="allow", full_names=full_names
        )
        return self._read(table.append_column(_NOW, instants), request)

    def scan(self, entity_rows: EntityRows, request: FrameRequest, *, part_rows: int | None = None) -> FrameStream:
        """Join features to entity rows part by part, while the result is consumed."""
        _check_request(request)

        def make_reader(sequence: int | None) -> FrameReader:
            pinned = request if sequence is None or request.accuracy == "exact" else replace(request, as_of=sequence)
            return FrameReader(self._backends, self._clock, pinned)

        spine = open_spine(entity_rows, self._backends)
        try:
            return FrameStream(make_reader, spine, part_rows)
        except BaseException:
            spine.close()
            raise

    def _read(self, entity_rows: EntityRows, request: FrameRequest) -> TrainingFrame:
        reader = FrameReader(self._backends, self._clock, request)
        table = load_entity_rows(entity_rows, self._backends)
        reader.refuse_names(table.column_names)
        joined = reader.join(table, strict=request.missing == "error")
        return TrainingFrame(joined, reader.manifest())

    def reproduce(self, manifest: Manifest, entity_rows: EntityRows) -> TrainingFrame:
        """Read a frame again from its manifest and the same entity rows, with equal content."""
        self._refuse_foreign(manifest)
        # the first read passed its own check for missing history: what was blocked then may be published by now
        request = FrameRequest(
            features=manifest.features, timestamp_column=manifest.timestamp_column, as_of=manifest.sequence, missing="allow",
            full_names=manifest.full_names, accuracy=manifest.accuracy,
        )  # fmt: skip
        frame = self._read(entity_rows, request)
        if frame.manifest.spine_checksum != manifest.spine_checksum:
            raise RetrievalError("the entity rows are not those of the manifest: their keys or times differ")
        if frame.manifest.definitions != manifest.definitions:
            changed = [view for view, text in manifest.definitions.items() if frame.manifest.definitions.get(view) != text]
            raise RetrievalError(f"the definitions of {', '.join(changed)} changed since the manifest was written")
        if manifest.content_checksum not in ("", frame.manifest.content_checksum):
            raise RetrievalError(
                "the frame has other values than when the manifest was written, although definitions, rows and sequence are "
                "the same: `fstore verify` finds damaged files; on-demand features may call what is not deterministic"
            )
        return frame

    def pin(
        self, name: str, *, until: datetime, as_of: int | datetime | None = None, manifest: Manifest | None = None
    ) -> SnapshotPin:
        """Keep what is readable as of a moment, or what a frame's manifest needs, until an instant."""
        registry = self._backends.registry
        if not isinstance(until, datetime) or until.tzinfo is None:
            raise RetrievalError(f"until must be an instant with a time zone, got {until!r}: add tzinfo=UTC")
        if manifest is not None:
            self._refuse_foreign(manifest)
            return registry.retention.pin(name, manifest.sequence, until)
        sequence = None if as_of is None else log_sequence(self._backends, as_of)
        return registry.retention.pin(name, sequence, until)

    def _refuse_foreign(self, manifest: Manifest) -> None:
        if not isinstance(manifest, Manifest):
            raise RetrievalError(
                f"manifest must be a Manifest, got {type(manifest).__name__}: Manifest.from_json(text) reads one from JSON"
            )
        state = self._backends.registry.state()
        if (manifest.project, manifest.registry) != (self._backends.settings.project, state.incarnation):
            raise RetrievalError(
                f"the manifest is of project {manifest.project!r} in registry {manifest.registry}; this client reads "
                f"project {self._backends.settings.project!r} in registry {state.incarnation}"
            )


def _check_request(request: FrameRequest) -> None:
    if request.missing not in ("error", "allow"):
        raise RetrievalError(f'missing must be "error" or "allow", got {request.missing!r}')
    if request.accuracy not in ("snapshot", "exact"):
        raise RetrievalError(f'accuracy must be "snapshot" or "exact", got {request.accuracy!r}')
    if request.accuracy == "exact" and request.as_of is not None:
        raise RetrievalError(
            'accuracy="exact" reads the events of sources as they are now, so it has no as_of; leave one of them out'
        )
