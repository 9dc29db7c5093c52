"""Files of a source as DuckDB reads them: expressions for its logical columns, and bounds in time.

A :class:`Scan` is what a source is for the engine at one moment. Made by ``duckdb_sources``, used by the relations. Reads
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

import msgspec
import pyarrow.dataset as pads

from fstore.definitions.source import PhysicalSource
from fstore.engines.duckdb_types import instant_literal, quoted, text_literal
from fstore.engines.source_files import Span, source_error
from fstore.errors import SourceSchemaDrift
from fstore.interval import MICROSECOND, format_instant, to_micros

Layout = Literal["instant", "zoned_ns", "naive", "naive_ns", "date", "other"]
"""How a file keeps a column: what has to happen to it to become an instant, and which bounds prune row groups."""

Origin: TypeAlias = str | pads.Dataset
"""Where rows come from: a FROM clause, or a dataset to be registered."""

_LITERALS = {"naive": "TIMESTAMP", "naive_ns": "TIMESTAMP_NS", "zoned_ns": "TIMESTAMPTZ_NS", "date": "DATE"}
_SLACK = timedelta(days=2)
"""More than any zone differs from UTC, and a day for dates."""


class Field(msgspec.Struct, frozen=True):
    """A column as a group of files keeps it: its expression over the file's columns, and for bounds its name and layout."""

    sql: str
    raw: str = ""
    layout: Layout = "other"


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Files with one physical schema. ``spans`` are the times that each may hold; ``open`` reads some of the files."""

    fields: dict[str, Field]
    files: tuple[str, ...]
    open: Callable[[Sequence[str]], Origin]
    spans: tuple[Span | None, ...] = ()

    def origin(self, start: datetime | None, end: datetime) -> Origin:
        """Return where to read the rows with ``start <= time < end`` from: the files that may hold some, or any one."""
        slack = _SLACK // MICROSECOND
        low = to_micros(start) - slack if start is not None else None
        high = to_micros(end) + slack
        held = [
            path
            for path, span in zip(self.files, self.spans or [None] * len(self.files), strict=True)
            if span is None or ((low is None or span.high >= low) and span.low <= high)
        ]
        return self.open(held or self.files[:1])

    def bounds(self, column: str, start: datetime | None, end: datetime) -> Iterator[str]:
        """Yield predicates for ``start <= column < end``: exact ones, and coarse ones that prune row groups."""
        field = self.fields[column]
        if start is not None:
            yield f"{field.sql} >= {instant_literal(start)}"
        yield f"{field.sql} < {instant_literal(end)}"
        kind = _LITERALS.get(field.layout)
        if kind is None or not 1700 < end.year < 2200:
            return
        if start is not None and start.year > 1700:
            yield f"{quoted(field.raw)} >= {_raw_literal(kind, start - _SLACK)}"
        yield f"{quoted(field.raw)} <= {_raw_literal(kind, end + _SLACK)}"


class Scan(msgspec.Struct, frozen=True, kw_only=True):
    """A source, ready to be read: columns with logical types, parts, and the directories that reading them touches."""

    source: PhysicalSource
    columns: dict[str, str]
    parts: tuple[Part, ...]
    directories: tuple[str, ...]
    files: tuple[str, ...]

    def shown(self, name: str) -> str:
        """Return the name under which a column of the files or the table is shown."""
        return self.source.renamed.get(name, name)

    def column(self, name: str) -> str:
        """Return the column of a name, whatever its letter case. Raises SourceSchemaDrift when there is none."""
        if name in self.columns:
            return name
        for column in self.columns:
            if column.lower() == name.lower():
                return column
        raise source_error(
            SourceSchemaDrift, self.source, f"has no column {name!r}; its columns are {', '.join(self.columns)}"
        )


def _raw_literal(kind: str, instant: datetime) -> str:
    text = format_instant(instant).removesuffix("Z")
    return f"{kind} {text_literal(text[:10])}" if kind == "DATE" else f"CAST({text_literal(text)} AS {kind})"
