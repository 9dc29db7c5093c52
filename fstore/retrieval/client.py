"""The client: read features for training and for serving.

Reads the registry, the offline store and the online store of one project, each opened when first needed; never imports the
definitions, and writes nothing but pins. Opening one costs neither Airflow nor a SQL parser nor pandas.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from fstore.backends import Backends, open_backends
from fstore.retrieval.client_settings import client_settings
from fstore.retrieval.entity_rows import EntityRows
from fstore.retrieval.features import Wanted
from fstore.retrieval.frame_reader import FrameRequest
from fstore.retrieval.frame_stream import FrameStream
from fstore.retrieval.historical import HistoricalReads
from fstore.retrieval.online_cache import OnlineCache
from fstore.retrieval.online_entities import Entities
from fstore.retrieval.online_response import OnlineResponse
from fstore.retrieval.prepared_reads import Offline, OnlineReads, OnUnavailable, Question, terms_of
from fstore.retrieval.training import Accuracy, Manifest, Missing, TrainingFrame
from fstore.settings import Settings

if TYPE_CHECKING:
    from fstore.registry.retention_records import SnapshotPin


class Client:
    """Reads features of one project. Use as a context manager, or call :meth:`close`."""

    def __init__(
        self, source: Settings | Backends, *, clock: Callable[[], datetime] | None = None, cache: OnlineCache | None = None
    ) -> None:
        """Open a project by its settings, or over parts opened already.

        ``clock`` says what time it is (default: now); ``cache`` remembers rows that were read online (default: none).
        """
        self._backends = source if isinstance(source, Backends) else open_backends(source)
        clock = clock or (lambda: datetime.now(UTC))
        self._historical, self._cache = HistoricalReads(self._backends, clock), cache
        self._online = OnlineReads(self._backends, clock, self._historical, cache)

    @classmethod
    def from_env(cls, directory: str | Path | None = None, *, cache: OnlineCache | None = None) -> Client:
        """Open the project that the environment names, or the one at or above a directory (default: the working one).

        FSTORE_PROJECT together with FSTORE_REGISTRY_URL are enough where there is no project directory, as on a model
        server. Raises SettingsError.
        """
        return cls(client_settings(directory), cache=cache)

    def get_historical_features(
        self,
        entity_rows: EntityRows,
        features: Sequence[Wanted] | None = None,
        *,
        service: str | None = None,
        timestamp_column: str = "event_timestamp",
        missing: Missing = "error",
        as_of: int | datetime | None = None,
        full_names: bool = False,
        accuracy: Accuracy = "snapshot",
        matures_after: str | timedelta | None = None,
    ) -> TrainingFrame:
        """Join features to entity rows, each as it was known at the row's instant.

        ``entity_rows`` hold the join keys, ``timestamp_column`` (instants with a time zone) and anything else, such as
        labels; they come back once each, in their order, followed by the features (``view:feature``, ``view:*``, the objects
        of definition modules, or those of a ``service``). Request values of on-demand features are columns of the entity
        rows. A null key gives nulls. ``as_of`` (a sequence of the log, or an instant) reads the store as it was
        then. With ``accuracy="exact"`` the windows of aggregates end at each row's own instant less the lag, computed from
        the events of sources as they are now. With ``matures_after`` a row whose label is not known yet, because it says
        what happens until that long after its instant, is refused as ImmatureLabels.

        Raises UnknownFeature, EntityColumnError, FeatureNameClash and, unless ``missing="allow"``, IncompleteHistory
        where an interval that a row needs was never published; SnapshotExpired where what was published then is deleted
        by now, and FileDamaged.
        """
        request = FrameRequest(
            features=features, service=service, timestamp_column=timestamp_column, missing=missing, as_of=as_of,
            full_names=full_names, accuracy=accuracy, matures_after=matures_after,
        )  # fmt: skip
        return self._historical.read(entity_rows, request)

    def scan_historical_features(
        self,
        entity_rows: EntityRows,
        features: Sequence[Wanted] | None = None,
        *,
        service: str | None = None,
        timestamp_column: str = "event_timestamp",
        missing: Missing = "error",
        as_of: int | datetime | None = None,
        full_names: bool = False,
        accuracy: Accuracy = "snapshot",
        matures_after: str | timedelta | None = None,
        part_rows: int | None = None,
    ) -> FrameStream:
        """Join features to entity rows of any size, as :meth:`get_historical_features` does, while the result is consumed.

        Entity rows are read in parts of ``part_rows`` (default: by the width of the result), each joined on its own, so that
        memory holds a part and what the engine needs. Files of Parquet are read where they are; SQL, lazy frames and streams
        are written to a temporary file first. Costs a scan of the published files per part: sorted by time, parts read few.
        """
        request = FrameRequest(
            features=features, service=service, timestamp_column=timestamp_column, missing=missing, as_of=as_of,
            full_names=full_names, accuracy=accuracy, matures_after=matures_after,
        )  # fmt: skip
        return self._historical.scan(entity_rows, request, part_rows=part_rows)

    def get_batch_features(
        self,
        entity_rows: EntityRows,
        features: Sequence[Wanted] | None = None,
        *,
        service: str | None = None,
        full_names: bool = False,
    ) -> TrainingFrame:
        """Join features to entity rows as they are now, for scoring many entities at once from the offline store.

        What :meth:`get_historical_features` gives at the moment of the read, which the frame has as column
        ``event_timestamp``, with ``missing="allow"``: the newest that is published counts, if it is within ttl. Raises
        UnknownFeature, EntityColumnError, FeatureNameClash and FileDamaged.
        """
        return self._historical.read_newest(entity_rows, features, service=service, full_names=full_names)

    def reproduce(self, manifest: Manifest, entity_rows: EntityRows) -> TrainingFrame:
        """Read a frame again from its manifest and the same entity rows, with equal content.

        Raises RetrievalError when the rows, the definitions, the registry or the values are not those of the manifest,
        SnapshotExpired when files that it needs are deleted by now, and FileDamaged.
        """
        return self._historical.reproduce(manifest, entity_rows)

    def pin(
        self, name: str, *, until: datetime, as_of: int | datetime | None = None, manifest: Manifest | None = None
    ) -> SnapshotPin:
        """Keep everything readable as of a moment (default: now), or as a frame's manifest needs it, until an instant.

        A pin of that name takes the new values. The one thing that a client writes. Raises RetrievalError when something of
        that moment is deleted already.
        """
        return self._historical.pin(name, until=until, as_of=as_of, manifest=manifest)

    def get_online_features(
        self,
        features: Sequence[Wanted] | None = None,
        entities: Entities | None = None,
        *,
        request: Mapping[str, Sequence[object]] | None = None,
        service: str | None = None,
        full_names: bool = False,
        timeout: float | None = None,
        on_unavailable: OnUnavailable = "error",
        offline: Offline = "error",
    ) -> OnlineResponse:
        """Read the features of entities as they are now: what a point-in-time join at this moment would give.

        ``entities`` are lists by join key, or a dict per entity; ``request`` has the request values of on-demand features as
        lists of the same length (they may be among the entities as well). ``timeout`` is how many seconds the store may
        take. With ``on_unavailable="last_known"`` a store that is away is answered for by what this client's cache has,
        however old; ``response.ages`` says how old. With ``offline="allow"`` views that are not kept online are read from
        the offline store. Costs one read of the online store.

        Raises UnknownFeature, EntityColumnError, FeatureNameClash, FloorMissing when the online store has nothing of a view,
        StoreUnavailable (with ``retry_after``) when it does not answer, and RetrievalError for a view that is not kept
        online and for more than 100,000 entities.
        """
        question = Question(features, service, full_names, offline)
        return self._online.read(question, entities, request, terms_of(timeout, on_unavailable, self._cache))

    def close(self) -> None:
        """Close the registry, the stores and the engine, as far as they were opened."""
        self._backends.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
