"""Every error that fstore raises.

One tree, so that callers can catch as much or as little as they want. The wording of a message lives in the class that
raises it; the facts behind the message are attributes. ``retryable`` tells a scheduler whether trying again can help:
never for a wrong definition or wrong data, always for an unreachable store.

    FStoreError
    ├── DefinitionError             one mistake in feature_defs/, with file and line
    ├── DefinitionErrors            all of them, reported together
    ├── SettingsError               a setting, URL or extra that is wrong or missing
    ├── SourceError                 a source that cannot be read as declared
    │   ├── SourceMissing           no file at the path
    │   ├── SourceUnreadable        half-written, corrupt or of another format
    │   ├── SourceSchemaDrift       a column vanished or changed its type
    │   ├── NaiveTimestamp          times without a zone, and none declared
    │   └── SourceSqlError          SQL of a source that the engine refuses
    ├── ComputeError                the engine refused or failed; carries the SQL
    │   ├── DuplicateKeys           a view gave two rows for one key
    │   ├── OutputMismatch          a view's output is not what it declares
    │   ├── ColumnsChanged          an added feature came with other values of published ones
    │   ├── OutOfSpace              memory or disk ran out (retryable)
    │   └── Interrupted             the engine was closed while the query ran (retryable)
    ├── ValidationFailed            no interval passed its checks; carries the report
    ├── PublishError
    │   ├── Fenced                  a newer attempt of the same run took over
    │   ├── AttemptUnknown          no such attempt, or it never got that far
    │   ├── InputsChanged           an input was republished meanwhile (retryable)
    │   ├── DefinitionChanged       another definition was registered meanwhile (retryable)
    │   └── NotComplete             a new generation lacks intervals that are live, so it cannot take their place
    ├── InjectedFault               a failpoint that a test armed (retryable)
    ├── InputsNotReady              an upstream interval is not published yet (retryable)
    ├── InputsImpossible            an upstream can never produce the interval
    ├── StoreError
    │   ├── StoreUnavailable        cannot be reached now (retryable)
    │   │   └── StoreChanged        restarted, failed over or was flushed while it was being written (retryable)
    │   ├── StoreReadOnly           reached, but refuses writes
    │   ├── StoreFull               reached, but has no room left (retryable)
    │   ├── StoreMissing            was never created (run ``fstore apply``), or has lost everything
    │   ├── StoreMismatch           another store than the one the registry knows
    │   ├── StoreCorrupt            a row or file that cannot be decoded
    │   │   └── FileDamaged         a published file is missing or not as it was written
    │   ├── EventRefused            the OpenLineage backend refuses this event, whenever it is sent
    │   └── FloorMissing            the online store lost this view, or never had it
    ├── RegistryError
    │   ├── RegistryUnavailable     cannot be reached now (retryable)
    │   ├── RegistryReadOnly        reached, but refuses writes
    │   ├── RegistryOutdated        its schema is older or newer than this code
    │   └── RegistryRestored        an older state of itself: its stores know more than it does
    ├── RetrievalError
    │   ├── UnknownFeature          no such view, feature or service
    │   ├── EntityColumnError       a join key or timestamp column missing or of the wrong type
    │   ├── FeatureNameClash        two features with the same short name
    │   ├── ImmatureLabels          labels that are not known yet
    │   ├── IncompleteHistory       intervals that were never published
    │   └── SnapshotExpired         what was published then is deleted by now
    └── ServingError                reading over HTTP
        ├── RequestInvalid          a body, header or query that the route does not take
        ├── RouteUnknown            no such path, or not with this method
        ├── MediaTypeUnsupported    a body that is neither JSON nor Arrow
        ├── NotAcceptable           an answer that has no form the request accepts
        ├── RequestTooLarge         more bytes or entity rows than the server takes
        ├── ServerBusy              too many reads at once (retryable)
        ├── DeadlineExceeded        no answer in time (retryable)
        ├── ServerUnavailable       the server cannot be reached (retryable)
        └── ServerFailed            the server met an error that it does not know
"""

from __future__ import annotations

from fstore.errors.computation import (
    ColumnsChanged,
    ComputeError,
    DuplicateKeys,
    Interrupted,
    NaiveTimestamp,
    OutOfSpace,
    OutputMismatch,
    SourceError,
    SourceMissing,
    SourceSchemaDrift,
    SourceSqlError,
    SourceUnreadable,
    ValidationFailed,
)
from fstore.errors.definition import (
    DefinitionError,
    DefinitionErrors,
    SettingsError,
)
from fstore.errors.publication import (
    AttemptUnknown,
    DefinitionChanged,
    Fenced,
    InputsChanged,
    InputsImpossible,
    InputsNotReady,
    NotComplete,
    PublishError,
)
from fstore.errors.retrieval import (
    EntityColumnError,
    FeatureNameClash,
    ImmatureLabels,
    IncompleteHistory,
    RetrievalError,
    SnapshotExpired,
    UnknownFeature,
)
from fstore.errors.root import (
    FStoreError,
    InjectedFault,
    did_you_mean,
    listing,
)
from fstore.errors.serving import (
    DeadlineExceeded,
    MediaTypeUnsupported,
    NotAcceptable,
    RequestInvalid,
    RequestTooLarge,
    RouteUnknown,
    ServerBusy,
    ServerFailed,
    ServerUnavailable,
    ServingError,
)
from fstore.errors.storage import (
    EventRefused,
    FileDamaged,
    FloorMissing,
    RegistryError,
    RegistryOutdated,
    RegistryReadOnly,
    RegistryRestored,
    RegistryUnavailable,
    StoreChanged,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreMismatch,
    StoreMissing,
    StoreReadOnly,
    StoreUnavailable,
)

__all__ = [
    "AttemptUnknown",
    "ColumnsChanged",
    "ComputeError",
    "DeadlineExceeded",
    "DefinitionChanged",
    "DefinitionError",
    "DefinitionErrors",
    "DuplicateKeys",
    "EntityColumnError",
    "EventRefused",
    "FStoreError",
    "FeatureNameClash",
    "Fenced",
    "FileDamaged",
    "FloorMissing",
    "ImmatureLabels",
    "IncompleteHistory",
    "InjectedFault",
    "InputsChanged",
    "InputsImpossible",
    "InputsNotReady",
    "Interrupted",
    "MediaTypeUnsupported",
    "NaiveTimestamp",
    "NotAcceptable",
    "NotComplete",
    "OutOfSpace",
    "OutputMismatch",
    "PublishError",
    "RegistryError",
    "RegistryOutdated",
    "RegistryReadOnly",
    "RegistryRestored",
    "RegistryUnavailable",
    "RequestInvalid",
    "RequestTooLarge",
    "RetrievalError",
    "RouteUnknown",
    "ServerBusy",
    "ServerFailed",
    "ServerUnavailable",
    "ServingError",
    "SettingsError",
    "SnapshotExpired",
    "SourceError",
    "SourceMissing",
    "SourceSchemaDrift",
    "SourceSqlError",
    "SourceUnreadable",
    "StoreChanged",
    "StoreCorrupt",
    "StoreError",
    "StoreFull",
    "StoreMismatch",
    "StoreMissing",
    "StoreReadOnly",
    "StoreUnavailable",
    "UnknownFeature",
    "ValidationFailed",
    "did_you_mean",
    "listing",
]
