"""Errors of sources, computation and validation."""

from __future__ import annotations

from fstore.errors.root import FStoreError


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


class SourceSqlError(SourceError):
    """The engine refuses the SQL of a source that is made of others."""

    code = "source_sql_error"


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


class Interrupted(ComputeError):
    """The engine was closed while a query ran."""

    code = "interrupted"
    retryable = True


class ValidationFailed(FStoreError):
    """No interval passed its checks; ``report`` says which check, how many rows, sample keys and the SQL."""

    code = "validation_failed"

    def __init__(self, message: str, report: object) -> None:
        self.report = report
        super().__init__(message)
