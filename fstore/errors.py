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
    │   └── NaiveTimestamp          times without a zone, and none declared
    ├── ComputeError                the engine refused or failed; carries the SQL
    │   ├── DuplicateKeys           a view gave two rows for one key
    │   ├── OutputMismatch          a view's output is not what it declares
    │   ├── ColumnsChanged          an added feature came with other values of published ones
    │   └── OutOfSpace              memory or disk ran out (retryable)
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
    │   ├── StoreMissing            was never created: run ``fstore apply``
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
    └── RetrievalError
        ├── UnknownFeature          no such view, feature or service
        ├── EntityColumnError       a join key or timestamp column missing or of the wrong type
        ├── FeatureNameClash        two features with the same short name
        ├── IncompleteHistory       intervals that were never published
        └── SnapshotExpired         what was published then is deleted by now
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime


class FStoreError(Exception):
    """The root of every error raised by fstore."""

    code = "fstore_error"
    """A stable name of the error for machines (``--json``, logs, alerts)."""

    retryable = False
    """Whether trying the same thing again may succeed."""


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the closest candidate, or an empty string."""
    close = difflib.get_close_matches(name, list(candidates), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""


def listing(names: Iterable[str]) -> str:
    """Return names quoted and joined with commas, in order; ``none`` when there are none."""
    return ", ".join(repr(name) for name in names) or "none"


class InjectedFault(FStoreError):
    """What a failpoint raises that a test armed to fail."""

    code = "injected_fault"
    retryable = True


# -- definitions ------------------------------------------------------------------------------------------------------


class DefinitionError(FStoreError):
    """One mistake in a definition, with the place where it was made."""

    code = "definition_error"

    def __init__(self, problem: str, *, subject: str = "", file: str = "", line: int = 0, fix: str = "") -> None:
        self.problem, self.subject, self.file, self.line, self.fix = problem, subject, file, line, fix
        super().__init__(str(self))

    def __str__(self) -> str:
        where = f" ({self.file}:{self.line})" if self.file else ""
        head = f"{self.subject}{where}" if self.subject else f"{self.file}:{self.line}" if self.file else ""
        text = f"{head}{' ' if self.subject else ': '}{self.problem}" if head else self.problem
        return f"{text} {self.fix}" if self.fix else text


class DefinitionErrors(FStoreError):
    """All the mistakes of a project, reported together in order of file and line."""

    code = "definition_errors"

    def __init__(self, problems: Sequence[DefinitionError]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.file, problem.line, str(problem))))
        count = len(self.problems)
        lines = [f"{count} definition {'error' if count == 1 else 'errors'}:", *(f"  {p}" for p in self.problems)]
        super().__init__("\n".join(lines))


class SettingsError(FStoreError):
    """A setting, a URL or an optional dependency that is wrong or missing."""

    code = "settings_error"


# -- sources and computation ------------------------------------------------------------------------------------------


class SourceError(FStoreError):
    """A source that cannot be read as it is declared."""

    code = "source_error"

    def __init__(self, source: str, problem: str, *, file: str = "", line: int = 0) -> None:
        self.source, self.problem, self.file, self.line = source, problem, file, line
        where = f" ({file}:{line})" if file else ""
        super().__init__(f"source {source!r}{where} {problem}")


class SourceMissing(SourceError):
    """No file is at the source's path."""

    code = "source_missing"


class SourceUnreadable(SourceError):
    """The source's files are half-written, corrupt or of another format."""

    code = "source_unreadable"


class SourceSchemaDrift(SourceError):
    """A column of the source vanished or changed its type since the schema was recorded."""

    code = "source_schema_drift"


class NaiveTimestamp(SourceError):
    """The source's times carry no zone and none is declared."""

    code = "naive_timestamp"


class ComputeError(FStoreError):
    """The engine refused or failed to compute a view; ``sql`` is what it was given."""

    code = "compute_error"

    def __init__(self, message: str, *, view: str = "", sql: str = "") -> None:
        self.view, self.sql = view, sql
        super().__init__(message)


class DuplicateKeys(ComputeError):
    """A view gave more than one row for a key at the same time."""

    code = "duplicate_keys"


class OutputMismatch(ComputeError):
    """The columns or types that a view gave are not those it declares."""

    code = "output_mismatch"


class ColumnsChanged(ComputeError):
    """A view to which features were added gave other values for features that are published."""

    code = "columns_changed"


class OutOfSpace(ComputeError):
    """The engine's memory limit or the disk was exhausted."""

    code = "out_of_space"
    retryable = True


class ValidationFailed(FStoreError):
    """No interval passed its checks; ``report`` says which check, how many rows, sample keys and the SQL."""

    code = "validation_failed"

    def __init__(self, message: str, report: object) -> None:
        self.report = report
        super().__init__(message)


# -- publishing -------------------------------------------------------------------------------------------------------


class PublishError(FStoreError):
    """An attempt that cannot be published."""

    code = "publish_error"


class Fenced(PublishError):
    """A newer attempt of the same run and view has begun: this one is a zombie and must stop."""

    code = "fenced"

    def __init__(self, attempt: int, newer: int | None, view: str) -> None:
        self.attempt, self.newer, self.view = attempt, newer, view
        by = "a later try" if newer is None else f"attempt {newer}"
        super().__init__(
            f"attempt {attempt} of view {view!r} was overtaken by {by} of the same run; it publishes nothing "
            "and its files are left for the sweeper. Nothing needs to be done."
        )


class AttemptUnknown(PublishError):
    """The attempt does not exist, or has not reached the state that this step needs."""

    code = "attempt_unknown"


class InputsChanged(PublishError):
    """A publication pinned as an input was replaced while the attempt was computing."""

    code = "inputs_changed"
    retryable = True


class DefinitionChanged(PublishError):
    """Another definition of the view was registered after the run was prepared; running it again takes that one."""

    code = "definition_changed"
    retryable = True


class NotComplete(PublishError):
    """A new generation lacks intervals that are live. ``missing`` maps views to how many."""

    code = "not_complete"

    def __init__(self, message: str, missing: Mapping[str, int] | None = None) -> None:
        self.missing = dict(missing or {})
        super().__init__(message)


class InputsNotReady(FStoreError):
    """An upstream interval that this view reads is not published yet."""

    code = "inputs_not_ready"
    retryable = True


class InputsImpossible(FStoreError):
    """An upstream can never produce the interval that this view reads."""

    code = "inputs_impossible"


# -- stores and registry ----------------------------------------------------------------------------------------------


class StoreError(FStoreError):
    """A store that does not do what was asked."""

    code = "store_error"


class StoreUnavailable(StoreError):
    """The store cannot be reached now."""

    code = "store_unavailable"
    retryable = True


class StoreChanged(StoreUnavailable):
    """The online store restarted, failed over or was flushed while a view was being written, so rows may be lost."""

    code = "store_changed"

    def __init__(self, view: str) -> None:
        self.view = view
        super().__init__(
            f"the online store restarted, failed over or was flushed while view {view!r} was being written, and may have lost "
            "some of it. Nothing is counted as written; the same work again brings all of it online."
        )


class StoreReadOnly(StoreError):
    """The store was reached and refuses writes. ``passing``: it may soon not, as a replica that is being promoted."""

    code = "store_read_only"

    def __init__(self, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        if passing:
            self.retryable = True


class StoreFull(StoreError):
    """The store was reached, but its memory or disk is full."""

    code = "store_full"
    retryable = True


class StoreMissing(StoreError):
    """The store was never created."""

    code = "store_missing"


class StoreMismatch(StoreError):
    """The store is not the one whose id the registry has recorded."""

    code = "store_mismatch"


class StoreCorrupt(StoreError):
    """A stored row or file cannot be decoded."""

    code = "store_corrupt"


class FileDamaged(StoreCorrupt):
    """A published file is missing, or its bytes are not those that were written. Intervals in other files stay readable."""

    code = "file_damaged"

    def __init__(self, path: str, view: str, ranges: Sequence[tuple[datetime, datetime]], problem: str) -> None:
        self.path, self.view, self.ranges, self.problem = path, view, tuple(ranges), problem
        spans = ", ".join(f"{start:%Y-%m-%dT%H:%MZ} to {end:%Y-%m-%dT%H:%MZ}" for start, end in self.ranges)
        what = "is missing" if problem == "missing" else "is damaged: its bytes are not those that were written"
        super().__init__(
            f"file {path!r} of the offline store {what}. It holds {spans} of view {view!r}; everything else stays readable. "
            f"`fstore verify {view}` records it, then `fstore repair {view}` computes these intervals again."
        )


class EventRefused(StoreError):
    """The OpenLineage backend refuses an event for what is in it: sending it again changes nothing."""

    code = "event_refused"


class FloorMissing(StoreError):
    """The online store has nothing of the view: it was flushed, is another store, or was never filled."""

    code = "floor_missing"


class RegistryError(FStoreError):
    """A registry that does not do what was asked."""

    code = "registry_error"


class RegistryUnavailable(RegistryError):
    """The registry cannot be reached now. ``lost``: the transaction was lost with its connection; nothing was written."""

    code = "registry_unavailable"
    retryable = True

    def __init__(self, message: str, *, lost: bool = False) -> None:
        self.lost = lost
        super().__init__(message)


class RegistryReadOnly(RegistryError, StoreReadOnly):
    """The registry was reached and refuses writes."""

    code = "registry_read_only"


class RegistryOutdated(RegistryError):
    """The registry's schema is not the one that this version of fstore works with."""

    code = "registry_outdated"


class RegistryRestored(RegistryError):
    """The registry is an older state of the one that the stores, or this process, have worked with."""

    code = "registry_restored"


# -- reading ----------------------------------------------------------------------------------------------------------


class RetrievalError(FStoreError):
    """A read that cannot be answered as asked."""

    code = "retrieval_error"


class UnknownFeature(RetrievalError):
    """No such view, feature or service in the registry."""

    code = "unknown_feature"


class EntityColumnError(RetrievalError):
    """A join key or the timestamp is missing from the entity rows or has the wrong type."""

    code = "entity_column_error"


class FeatureNameClash(RetrievalError):
    """Two of the features asked for share their short name."""

    code = "feature_name_clash"


class IncompleteHistory(RetrievalError):
    """Intervals that the entity rows need lie within the view's life but were never published."""

    code = "incomplete_history"

    def __init__(self, view: str, ranges: Sequence[tuple[datetime, datetime]], rows: int) -> None:
        self.view, self.ranges, self.rows = view, tuple(ranges), rows
        spans = ", ".join(f"{start:%Y-%m-%dT%H:%MZ} to {end:%Y-%m-%dT%H:%MZ}" for start, end in self.ranges[:5])
        more = f" and {len(self.ranges) - 5} more" if len(self.ranges) > 5 else ""
        first, last = self.ranges[0][0], self.ranges[-1][1]
        super().__init__(
            f"view {view!r} was never published for {spans}{more}, which {rows} entity row(s) need. Compute it with "
            f"`fstore run --select {view} --start {first:%Y-%m-%dT%H:%M} --end {last:%Y-%m-%dT%H:%M}`, or read what there "
            'is with missing="allow".'
        )


class SnapshotExpired(RetrievalError):
    """What a read as of an earlier moment needs was superseded longer ago than the horizon, and is deleted.

    ``since`` is when it was superseded, ``as_of`` the sequence of the read.
    """

    code = "snapshot_expired"

    def __init__(self, view: str, as_of: int | None, since: datetime | None) -> None:
        self.view, self.as_of, self.since = view, as_of, since
        then = "" if as_of is None else f" as of sequence {as_of}"
        when = "" if since is None else f": it was superseded at {since:%Y-%m-%dT%H:%MZ}, longer ago than the horizon"
        super().__init__(
            f"view {view!r}{then} cannot be read any more{when}, so its files are deleted. Read a later moment; to keep one "
            "next time, pin it (`fstore pin add NAME --until …`), or raise the horizon (setting `retention`)."
        )
