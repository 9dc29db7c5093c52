"""Historical reads: the features of entity rows, each as it was known at the row's instant.

Takes the parts of one project; gives training frames with their manifests, and reproduces them. Resolves what is wanted and
at which moment of the log, lets :mod:`fstore.retrieval.point_in_time` join each view, and puts the columns together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa

from fstore.errors import EntityColumnError, RetrievalError
from fstore.retrieval.checksums import FrameChecksums
from fstore.retrieval.entity_rows import EntityRows, key_columns, read_entity_rows, time_column
from fstore.retrieval.exact import join_exactly
from fstore.retrieval.features import SelectedView, Wanted, as_it_was, refuse_taken, select_features
from fstore.retrieval.on_demand import on_demand_program
from fstore.retrieval.point_in_time import EntityTimes, join_view
from fstore.retrieval.splits import refuse_immature
from fstore.retrieval.training import Accuracy, Manifest, Missing, TrainingFrame
from fstore.retrieval.view_features import ViewFeatures

if TYPE_CHECKING:
    from fstore.backends import Backends
    from fstore.registry.retention_records import SnapshotPin

_NOW = "event_timestamp"
"""The column of the instant of a read of rows without times."""


class HistoricalReads:
    """Reads training frames of one project; what :class:`~fstore.Client` says of its methods holds here."""

    def __init__(self, backends: Backends, clock: Callable[[], datetime]) -> None:
        self._backends, self._clock = backends, clock

    def read(
        self, entity_rows: EntityRows, features: Sequence[Wanted] | None = None, *, service: str | None = None,
        timestamp_column: str = "event_timestamp", missing: Missing = "error", as_of: int | datetime | None = None,
        full_names: bool = False, accuracy: Accuracy = "snapshot", matures_after: str | timedelta | None = None,
    ) -> TrainingFrame:  # fmt: skip
        """Join features to entity rows."""
        if missing not in ("error", "allow"):
            raise RetrievalError(f'missing must be "error" or "allow", got {missing!r}')
        if accuracy not in ("snapshot", "exact"):
            raise RetrievalError(f'accuracy must be "snapshot" or "exact", got {accuracy!r}')
        if accuracy == "exact" and as_of is not None:
            raise RetrievalError(
                'accuracy="exact" reads the events of sources as they are now, so it has no as_of; leave one of them out'
            )
        return self._read(
            entity_rows, features, service=service, timestamp_column=timestamp_column, missing=missing, as_of=as_of,
            full_names=full_names, accuracy=accuracy, matures_after=matures_after,
        )  # fmt: skip

    def read_newest(
        self, entity_rows: EntityRows, features: Sequence[Wanted] | None = None, *, service: str | None = None,
        full_names: bool = False,
    ) -> TrainingFrame:  # fmt: skip
        """Join features to entity rows without times, as they are now."""
        table = read_entity_rows(entity_rows)
        if _NOW in table.column_names:
            raise EntityColumnError(
                f"the entity rows have a column {_NOW!r}, where the instant of the read goes: use get_historical_features "
                "for rows with times of their own, or rename it"
            )
        now = pa.scalar(self._clock(), pa.timestamp("us", tz="UTC"))
        instants = pa.repeat(now, table.num_rows)
        return self._read(
            table.append_column(_NOW, instants), features, service=service, timestamp_column=_NOW, missing="allow",
            as_of=None, full_names=full_names, accuracy="snapshot",
        )  # fmt: skip

    def _read(
        self, entity_rows: EntityRows, features: Sequence[Wanted] | None = None, *, service: str | None = None,
        timestamp_column: str, missing: Missing, as_of: int | datetime | None, full_names: bool, accuracy: Accuracy,
        matures_after: str | timedelta | None = None,
    ) -> TrainingFrame:  # fmt: skip
        registry = self._backends.registry
        then = None if as_of is None else self._sequence(as_of)  # before the views are looked up: later flips are undone
        selection = select_features(registry, features=features, service=service, full_names=full_names)
        table = read_entity_rows(entity_rows)
        refuse_taken(selection, table.column_names)
        instants = time_column(table, timestamp_column)
        state, now = registry.state(), self._clock()
        if matures_after is not None:
            refuse_immature(instants, matures_after, now)
        sequence = state.sequence if then is None else then
        if then is not None:
            selection = as_it_was(registry, selection, then)
        keys = [key_columns(table, view.keys, view.label) for view in selection.views]
        on_demand = on_demand_program(self._backends, selection)
        strict = missing == "error"

        def join(view: SelectedView, own: Sequence[pa.ChunkedArray]) -> ViewFeatures:
            rows = EntityTimes(keys=own, instants=instants)
            if accuracy == "exact" and view.step.kind == "snapshot":  # the rows of event views have instants of their own
                return join_exactly(self._backends, view, rows, now=now, strict=strict)
            return join_view(self._backends, view, rows, sequence=sequence, strict=strict)

        joined = _side_by_side(join, selection.views, keys)
        values = {name: part.table[name] for part in joined for name in part.table.column_names}
        values |= on_demand.evaluate(table, values)
        spine_columns = [*selection.keys, *dict.fromkeys(column.name for column in on_demand.request), timestamp_column]
        for reference, column in zip(selection.references, selection.columns, strict=True):
            table = table.append_column(column, values[reference])
        checksums = FrameChecksums(spine_columns, selection.columns)
        checksums.add(table)
        manifest = Manifest(
            project=self._backends.settings.project,
            registry=state.incarnation,
            registry_version=state.version,
            sequence=sequence,
            created_at=now,
            features=selection.references,
            columns=selection.columns,
            timestamp_column=timestamp_column,
            missing=missing,
            full_names=full_names,
            accuracy=accuracy,
            service=service,
            rows=table.num_rows,
            spine_checksum=checksums.spine,
            views=tuple(part.report for part in joined),
            on_demand={item.definition.name: item.definition.fingerprint for item in selection.on_demand},
            content_checksum=checksums.content,
        )
        return TrainingFrame(table, manifest)

    def reproduce(self, manifest: Manifest, entity_rows: EntityRows) -> TrainingFrame:
        """Read a frame again from its manifest and the same entity rows, with equal content."""
        table = read_entity_rows(entity_rows)
        self._refuse_foreign(manifest)
        # the first read passed its own check for missing history: what was blocked then may be published by now
        frame = self._read(
            table, manifest.features, timestamp_column=manifest.timestamp_column, as_of=manifest.sequence, missing="allow",
            full_names=manifest.full_names, accuracy=manifest.accuracy,
        )  # fmt: skip
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
        if until.tzinfo is None:
            raise RetrievalError(f"until must be an instant with a time zone, got {until!r}: add tzinfo=UTC")
        if manifest is not None:
            self._refuse_foreign(manifest)
            return registry.retention.pin(name, manifest.sequence, until)
        sequence = None if as_of is None else self._sequence(as_of)
        return registry.retention.pin(name, sequence, until)

    def _sequence(self, as_of: int | datetime) -> int:
        """Return the publication up to which a read as of a moment sees the log, so that all views are read at that one."""
        if not isinstance(as_of, datetime):
            return min(as_of, self._backends.registry.state().sequence)
        if as_of.tzinfo is None:
            raise RetrievalError(f"as_of must be an instant with a time zone, got {as_of!r}: add tzinfo=UTC")
        return self._backends.registry.retention.sequence_at(as_of)

    def _refuse_foreign(self, manifest: Manifest) -> None:
        state = self._backends.registry.state()
        if (manifest.project, manifest.registry) != (self._backends.settings.project, state.incarnation):
            raise RetrievalError(
                f"the manifest is of project {manifest.project!r} in registry {manifest.registry}; this client reads "
                f"project {self._backends.settings.project!r} in registry {state.incarnation}"
            )


def _side_by_side(
    join: Callable[[SelectedView, Sequence[pa.ChunkedArray]], ViewFeatures],
    views: Sequence[SelectedView],
    keys: Sequence[Sequence[pa.ChunkedArray]],
) -> list[ViewFeatures]:
    """Join views two at a time: while the engine gathers the rows of one, it scans for the other."""
    if len(views) < 2:
        return [join(view, own) for view, own in zip(views, keys, strict=True)]
    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(join, views, keys))
