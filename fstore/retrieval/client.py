"""The client: read features for training and for serving.

Reads the registry, the offline store and the online store of one project, each opened when first needed; never imports the
definitions, and writes nothing but pins. Opening one costs neither Airflow nor a SQL parser nor pandas.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from fstore.arrow import rows_hash
from fstore.backends import Backends, open_backends
from fstore.errors import RetrievalError, SettingsError, StoreCorrupt
from fstore.retrieval.entity_rows import key_columns, read_entity_rows, time_column, with_request
from fstore.retrieval.features import Selection, Wanted, as_it_was, as_texts, refuse_taken, select_features
from fstore.retrieval.on_demand import OnDemandProgram
from fstore.retrieval.online import OnlineResponse, PreparedRead
from fstore.retrieval.point_in_time import EntityTimes, join_view
from fstore.retrieval.training import Manifest, Missing, TrainingFrame
from fstore.settings import Settings, load_settings
from fstore.types import Column

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

    from fstore.registry.retention_records import SnapshotPin

_PLAN_SECONDS = 5.0
"""For how long a prepared online read is used before the registry is asked whether definitions changed."""


class Client:
    """Reads features of one project. Use as a context manager, or call :meth:`close`."""

    def __init__(self, source: Settings | Backends, *, clock: Callable[[], datetime] | None = None) -> None:
        """Open a project by its settings, or over parts opened already; ``clock`` says what time it is (default: now)."""
        self._backends = source if isinstance(source, Backends) else open_backends(source)
        self._clock = clock or (lambda: datetime.now(UTC))
        self._prepared: dict[tuple[tuple[str, ...] | str, bool], PreparedRead] = {}
        self._prepared_version, self._checked_at = -1, float("-inf")

    @classmethod
    def from_env(cls, directory: str | Path | None = None) -> Client:
        """Open the project that the environment names, or the one at or above a directory (default: the working one).

        FSTORE_PROJECT together with FSTORE_REGISTRY_URL are enough where there is no project directory, as on a model
        server. Raises SettingsError.
        """
        try:
            return cls(load_settings(None if directory is None else Path(directory)))
        except SettingsError:
            if directory is not None or not (os.environ.get("FSTORE_PROJECT") and os.environ.get("FSTORE_REGISTRY_URL")):
                raise
        return cls(load_settings(environ={**os.environ, "FSTORE_ROOT": str(Path.cwd())}))

    def get_historical_features(
        self,
        entity_rows: pd.DataFrame | pl.DataFrame | pa.Table | str | Path | Sequence[Mapping[str, object]],
        features: Sequence[Wanted] | None = None,
        *,
        service: str | None = None,
        timestamp_column: str = "event_timestamp",
        missing: Missing = "error",
        as_of: int | datetime | None = None,
        full_names: bool = False,
    ) -> TrainingFrame:
        """Join features to entity rows, each as it was known at the row's instant.

        ``entity_rows`` hold the join keys, ``timestamp_column`` (instants with a time zone) and anything else, such as
        labels; they come back once each, in their order, followed by the features (``view:feature``, ``view:*``, the objects
        of definition modules, or those of a ``service``). Request values of on-demand features are columns of the entity
        rows. A null key gives nulls. ``as_of`` (a sequence of the log, or an instant) reads the store as it was
        then. Raises UnknownFeature, EntityColumnError, FeatureNameClash and, unless ``missing="allow"``, IncompleteHistory
        where an interval that a row needs was never published; SnapshotExpired where what was published then is deleted
        by now, and FileDamaged.
        """
        if missing not in ("error", "allow"):
            raise RetrievalError(f'missing must be "error" or "allow", got {missing!r}')
        registry = self._backends.registry
        selection = select_features(registry, features=features, service=service, full_names=full_names)
        table = read_entity_rows(entity_rows)
        refuse_taken(selection, table.column_names)
        instants = time_column(table, timestamp_column)
        state = registry.state()
        sequence = self._sequence(as_of, state.sequence)
        if as_of is not None:
            selection = as_it_was(registry, selection, sequence)
        keys = [key_columns(table, view.keys, view.label) for view in selection.views]
        on_demand = self._on_demand(selection)
        joined = [
            join_view(
                self._backends, view, EntityTimes(keys=own, instants=instants), sequence=sequence, strict=missing == "error"
            )
            for view, own in zip(selection.views, keys, strict=True)
        ]
        values = {name: part.table[name] for part in joined for name in part.table.column_names}
        values |= on_demand.evaluate(table, values)
        spine_columns = [*selection.keys, *dict.fromkeys(column.name for column in on_demand.request), timestamp_column]
        for reference, column in zip(selection.references, selection.columns, strict=True):
            table = table.append_column(column, values[reference])
        manifest = Manifest(
            project=self._backends.settings.project,
            registry=state.incarnation,
            registry_version=state.version,
            sequence=sequence,
            created_at=self._clock(),
            features=selection.references,
            columns=selection.columns,
            timestamp_column=timestamp_column,
            missing=missing,
            full_names=full_names,
            rows=table.num_rows,
            spine_checksum=rows_hash(table, columns=list(dict.fromkeys(spine_columns))),
            views=tuple(part.report for part in joined),
            on_demand={item.definition.name: item.definition.fingerprint for item in selection.on_demand},
            content_checksum=rows_hash(table, columns=list(dict.fromkeys([*spine_columns, *selection.columns]))),
        )
        return TrainingFrame(table, manifest)

    def rebuild(self, manifest: Manifest, entity_rows: pd.DataFrame | pl.DataFrame | pa.Table | str | Path) -> TrainingFrame:
        """Read a frame again from its manifest and the same entity rows, with equal content.

        Raises RetrievalError when the rows, the definitions, the registry or the values are not those of the manifest,
        SnapshotExpired when files that it needs are deleted by now, and FileDamaged.
        """
        table = read_entity_rows(entity_rows)
        self._refuse_foreign(manifest)
        # the first read passed its own check for missing history: what was blocked then may be published by now
        frame = self.get_historical_features(
            table, manifest.features, timestamp_column=manifest.timestamp_column, as_of=manifest.sequence, missing="allow",
            full_names=manifest.full_names,
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
        """Keep everything readable as of a moment (default: now), or as a frame's manifest needs it, until an instant.

        A pin of that name takes the new values. The one thing that a client writes. Raises RetrievalError when something of
        that moment is deleted already.
        """
        registry = self._backends.registry
        if until.tzinfo is None:
            raise RetrievalError(f"until must be an instant with a time zone, got {until!r}: add tzinfo=UTC")
        if manifest is not None:
            self._refuse_foreign(manifest)
            return registry.retention.pin(name, manifest.sequence, until)
        sequence = None if as_of is None else self._sequence(as_of, registry.state().sequence)
        return registry.retention.pin(name, sequence, until)

    def get_online_features(
        self,
        features: Sequence[Wanted] | None = None,
        entities: Mapping[str, Sequence[object]] | Sequence[Mapping[str, object]] | None = None,
        *,
        request: Mapping[str, Sequence[object]] | None = None,
        service: str | None = None,
        full_names: bool = False,
    ) -> OnlineResponse:
        """Read the features of entities as they are now: what a point-in-time join at this moment would give.

        ``entities`` are lists by join key, or a dict per entity; ``request`` has the request values of on-demand features as
        lists of the same length (they may be among the entities as well). Raises UnknownFeature, EntityColumnError,
        FeatureNameClash, FloorMissing when the online store has nothing of a view, and RetrievalError for a
        view that is not kept online. Costs one read of the online store per view.
        """
        if entities is None:
            raise RetrievalError('entities is missing: pass the join keys, such as entities={"user_id": ["u1", "u2"]}')
        rows = with_request(read_entity_rows(entities), request)
        try:
            return self._prepare(features, service, full_names=full_names).read(self._backends.online, rows, self._clock())
        except StoreCorrupt:  # or a row of a definition that is newer than what was prepared
            if self._backends.registry.version() == self._prepared_version:
                raise
        self._checked_at = float("-inf")
        return self._prepare(features, service, full_names=full_names).read(self._backends.online, rows, self._clock())

    def close(self) -> None:
        """Close the registry, the stores and the engine, as far as they were opened."""
        self._backends.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _sequence(self, as_of: int | datetime | None, newest: int) -> int:
        """Return the publication up to which a read sees the log, so that all its views are read at one moment."""
        if not isinstance(as_of, datetime):
            return newest if as_of is None else min(as_of, newest)
        if as_of.tzinfo is None:
            raise RetrievalError(f"as_of must be an instant with a time zone, got {as_of!r}: add tzinfo=UTC")
        return min(self._backends.registry.retention.sequence_at(as_of), newest)

    def _refuse_foreign(self, manifest: Manifest) -> None:
        state = self._backends.registry.state()
        if (manifest.project, manifest.registry) != (self._backends.settings.project, state.incarnation):
            raise RetrievalError(
                f"the manifest is of project {manifest.project!r} in registry {manifest.registry}; this client reads "
                f"project {self._backends.settings.project!r} in registry {state.incarnation}"
            )

    def _on_demand(self, selection: Selection) -> OnDemandProgram:
        """Compile the on-demand features of a selection."""
        directory = Path(self._backends.settings.definitions_dir)
        return OnDemandProgram(selection.on_demand, selection.views, lambda: self._backends.engine, directory)

    def _prepare(self, features: Sequence[Wanted] | None, service: str | None, *, full_names: bool) -> PreparedRead:
        """Return the prepared read of a list of features, made anew when definitions have changed."""
        registry = self._backends.registry
        if time.monotonic() - self._checked_at > _PLAN_SECONDS:
            version = registry.version()
            if version != self._prepared_version:
                self._prepared.clear()
            self._prepared_version, self._checked_at = version, time.monotonic()
        texts = None if features is None else as_texts(features)
        wanted = texts if texts is not None else service or ""
        prepared = self._prepared.get((wanted, full_names)) if (features is None) != (service is None) else None
        if prepared is None:
            selection = select_features(registry, features=texts, service=service, full_names=full_names)
            schemas = {view.step.view: _row_schemas(self._backends, view.step.view) for view in selection.views}
            prepared = PreparedRead(self._backends.settings.project, selection, schemas, self._how_to_refill,
                                    self._on_demand(selection))  # fmt: skip
            self._prepared[wanted, full_names] = prepared
        return prepared

    def _how_to_refill(self, view: str) -> str:
        """Say how a view that the online store lost gets there again."""
        newest = self._backends.registry.ledger.newest(view)
        if newest is None:
            return f"Nothing of it is published yet: `fstore run --select {view}` computes what is due."
        last = self._backends.registry.view(view).step.schedule.interval_ending_by(newest.end)
        return (
            "Publish its newest interval again: "
            f"`fstore run --select {view} --start {last.start:%Y-%m-%dT%H:%M} --end {last.end:%Y-%m-%dT%H:%M}`."
        )


def _row_schemas(backends: Backends, view: str) -> list[list[Column]]:
    """Return the feature columns of every version of a view, which its stored rows may have."""
    return [
        [Column(name=feature.name, type=feature.type) for feature in step.features if feature.type is not None]
        for step in backends.registry.versions(view)
    ]
