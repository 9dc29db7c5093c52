"""Sources: where events and dimensions come from.

An *event* source has an ``event_time``: each row happened at an instant. A *dimension* source has ``keys`` and
``updated_at``: each row is a version of a thing, the newest one before an instant counts (``static=True`` for a table that
keeps no history and is therefore not point-in-time). Files and tables are *physical* sources; a :class:`SqlSource` and a
:class:`UnionSource` are made of other sources, and their rows are events.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import ClassVar, Literal

import msgspec

from fstore.definitions.location import Located, Named
from fstore.interval import parse_duration


class WindowedSource(Located, frozen=True, kw_only=True, tag="windowed"):
    """An event source bounded in time, as an input of a SQL or Python view, or of a SqlSource, reads it."""

    source: Source
    window: str


class _Windowing:
    """What every source offers to the inputs of views."""

    __slots__ = ()

    def window(self, duration: str) -> WindowedSource:
        """Return this source bounded to the events of ``duration`` before ``$end`` (``"all"`` for no bound)."""
        return WindowedSource(source=self, window=duration)  # type: ignore[arg-type]


class _PhysicalSource(Named, _Windowing, frozen=True, kw_only=True):
    """What files and tables share.

    ``keys`` names the columns that identify a thing of a dimension. As a mapping, of join keys to columns, it renames
    columns: ``{"user_id": "customer_id"}`` shows column ``customer_id`` as ``user_id``, in dimensions and events alike.
    ``lag`` says how long after its event time a row may still arrive. ``timezone`` names the zone of times that carry none;
    without it they are an error. ``schema`` declares the types of columns, under the names that the files or the table give
    them; without it they are read by ``check``, ``apply`` and ``run``.
    """

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

    @property
    def renamed(self) -> dict[str, str]:
        """Columns that are shown under another name, to that name."""
        return {column: key for key, column in self.keys.items()} if isinstance(self.keys, dict) else {}

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The columns of ``keys``, as the files or the table name them."""
        return tuple(self.keys.values()) if isinstance(self.keys, dict) else tuple(self.keys or ())


class _FileSource(_PhysicalSource, frozen=True, kw_only=True):
    """Files. ``path`` is a file, a directory or a glob, relative to the project's root, or an ``s3://`` URL."""

    path: str


class ParquetSource(_FileSource, frozen=True, kw_only=True, tag="parquet"):
    """Events or dimension rows in Parquet files."""


class CsvSource(_FileSource, frozen=True, kw_only=True, tag="csv"):
    """Events or dimension rows in CSV files with a header line; types are sniffed unless ``schema`` declares them."""

    delimiter: str = ","
    null: str = ""


class PostgresSource(_PhysicalSource, frozen=True, kw_only=True, tag="postgres"):
    """Events or dimension rows of a PostgreSQL table or query, copied incrementally into the offline store.

    ``connection`` is a name, never an address: ``shop`` is looked up in the environment as ``FSTORE_CONNECTION_SHOP``, and
    ``airflow://shop_db`` names an Airflow connection. Exactly one of ``table`` (``orders`` or ``shop.orders``) and ``query``
    (a SELECT) is read.

    ``cursor`` is a column that grows with every insert and update, such as ``updated_at`` or a sequence: only rows that are
    not below the last one, less ``overlap`` (a duration for times, a number for numbers), are read again. ``overlap`` has to
    cover how long a transaction that writes to the table may last, because its rows appear with cursors that lie behind.
    Without a cursor the whole table is read and compared. ``unique_key`` are the columns that identify a row (default: the
    keys of a dimension): the newest copy of a row counts. ``deleted`` is a boolean column that is true for rows that are
    gone.
    """

    connection: str
    table: str | None = None
    query: str | None = None
    cursor: str | None = None
    overlap: str | int | None = None
    unique_key: list[str] | None = None
    deleted: str | None = None


class SqlSource(Named, _Windowing, frozen=True, kw_only=True, tag="sql"):
    """Events that a SELECT over other sources gives: a transform before aggregation.

    ``inputs`` maps the names that the SQL uses to sources. Its rows are events at ``event_time``, one of the columns of the
    SELECT. Inputs are cut before the SQL runs. SQL that works row by row sees, for events in ``[start, end)``, the input
    events in ``[start, end)``. All other SQL runs in pieces of time aligned to 1970 in UTC (see ``plan/source_pieces.py``):
    for the events of a piece it sees the input events of the piece and of ``.window("7d")`` before it (nothing before it
    without a window), and dimensions as they were at the piece's end. So an event never depends on when it is computed.
    There are no ``$start`` and ``$end``. ``lag`` is the largest of the inputs' unless it is given.
    """

    inputs: dict[str, Source | WindowedSource]
    sql: str
    event_time: str
    lag: str | None = None
    description: str = ""

    is_dimension: ClassVar[bool] = False
    keys: ClassVar[None] = None
    updated_at: ClassVar[None] = None


class _Members(Located, _Windowing, frozen=True):
    """What is given by position."""

    sources: list[Source]


class UnionSource(_Members, frozen=True, kw_only=True, tag="union"):
    """The events of several sources, one after the other, as one source.

    ``columns`` are the columns that all of them have (default: every one that they share), or a mapping of the resulting
    column to a SQL expression per source name; where a source is not mentioned, its column of that name is taken. The event
    times of the members become the column ``event_time``, by default their name where all have the same, else
    ``event_time``. The default name joins those of the members.
    """

    columns: list[str] | dict[str, dict[str, str]] | None = None
    name: str = ""
    event_time: str = ""
    lag: str | None = None
    description: str = ""

    is_dimension: ClassVar[bool] = False
    keys: ClassVar[None] = None
    updated_at: ClassVar[None] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        members: object = self.sources
        known = [item for item in members if isinstance(item, Source)] if isinstance(members, list | tuple) else []
        if not self.name:
            msgspec.structs.force_setattr(self, "name", "_".join(str(item.name) for item in known) or "union")
        if not self.event_time:
            times = [item.event_time for item in known]
            same = times[0] if times and all(time == times[0] for time in times) else None
            msgspec.structs.force_setattr(self, "event_time", same or "event_time")


FileSource = ParquetSource | CsvSource
"""The sources whose rows lie in files that others write."""

PhysicalSource = ParquetSource | CsvSource | PostgresSource
"""The sources that are not made of others."""

CompositeSource = SqlSource | UnionSource
"""The sources that are made of others."""

Source = ParquetSource | CsvSource | PostgresSource | SqlSource | UnionSource
"""The closed union of sources."""

SourceKind = Literal["parquet", "csv", "postgres", "sql", "union"]

_KINDS: dict[type, SourceKind] = {ParquetSource: "parquet", CsvSource: "csv", PostgresSource: "postgres",
                                  SqlSource: "sql", UnionSource: "union"}  # fmt: skip


def source_kind(source: Source) -> SourceKind:
    """Return the kind of a source as its serialized tag."""
    return _KINDS[type(source)]


def source_address(source: Source) -> str | None:
    """Return where a physical source is: its path, or connection and table, without credentials; None of a composite."""
    match source:
        case ParquetSource() | CsvSource():
            return source.path
        case PostgresSource():
            return f"{source.connection}/{source.table}" if source.table else source.connection
        case _:
            return None


def member_sources(source: Source) -> list[Source]:
    """Return the sources that a source is directly made of, in order; none of a physical one.

    What is no source there, because the definition is wrong, is left out.
    """
    items: object = source.inputs if isinstance(source, SqlSource) else getattr(source, "sources", ())
    found = items.values() if isinstance(items, Mapping) else items if isinstance(items, list | tuple) else ()
    sources = [item.source if isinstance(item, WindowedSource) else item for item in found]
    return [item for item in sources if isinstance(item, Source)]


def with_members(source: Source) -> Iterator[Source]:
    """Yield a source and everything that it is made of, members first."""
    for member in member_sources(source):
        yield from with_members(member)
    yield source


def physical_sources(source: Source) -> list[PhysicalSource]:
    """Return the files and tables that a source is made of, each once, by name in order of appearance."""
    found = {item.name: item for item in with_members(source) if isinstance(item, PhysicalSource)}
    return list(found.values())


def source_lag(source: Source) -> timedelta:
    """Return how late rows may arrive: as declared, else the largest lag of the members."""
    if source.lag is not None:
        return parse_duration(source.lag)
    return max((source_lag(member) for member in member_sources(source)), default=timedelta())
