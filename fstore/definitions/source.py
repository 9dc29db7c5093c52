"""Sources: where events and dimensions come from.

An *event* source has an ``event_time``: each row happened at an instant. A *dimension* source has ``keys`` and
``updated_at``: each row is a version of a thing, the newest one before an instant counts (``static=True`` for a table that
keeps no history and is therefore not point-in-time).
"""

from __future__ import annotations

from typing import Literal

from fstore.definitions.location import Located, Named


class WindowedSource(Located, frozen=True, kw_only=True):
    """An event source bounded in time, as an input of a SQL or Python view reads it."""

    source: Source
    window: str


class _FileSource(Named, frozen=True, kw_only=True):
    """What the file sources share.

    ``path`` is a file, a directory or a glob, relative to the project's root, or an ``s3://`` URL. ``lag`` says how long
    after its event time a row may still arrive. ``timezone`` names the zone of times that carry none; without it they are
    an error. ``schema`` declares column types; without it they are read from the files by ``check``, ``apply`` and ``run``.
    """

    path: str
    event_time: str | None = None
    keys: list[str] | dict[str, str] | None = None
    updated_at: str | None = None
    static: bool = False
    lag: str = "0s"
    timezone: str | None = None
    schema: dict[str, str] | None = None
    description: str = ""

    @property
    def is_dimension(self) -> bool:
        """Whether rows are versions of things rather than events."""
        return self.event_time is None

    def window(self, duration: str) -> WindowedSource:
        """Return this source bounded to the events of ``duration`` before ``$end`` (``"all"`` for no bound)."""
        return WindowedSource(source=self, window=duration)  # type: ignore[arg-type]


class ParquetSource(_FileSource, frozen=True, kw_only=True, tag="parquet"):
    """Events or dimension rows in Parquet files."""


class CsvSource(_FileSource, frozen=True, kw_only=True, tag="csv"):
    """Events or dimension rows in CSV files with a header line; types are sniffed unless ``schema`` declares them."""

    delimiter: str = ","
    null: str = ""


Source = ParquetSource | CsvSource
"""The closed union of sources."""

SourceKind = Literal["parquet", "csv"]


def source_kind(source: Source) -> SourceKind:
    """Return the kind of a source as its serialized tag."""
    return "parquet" if isinstance(source, ParquetSource) else "csv"
