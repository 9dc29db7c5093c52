"""CSV files as DuckDB reads them: every column with a type, times as text that is read here.

Takes files with one header and the logical columns wanted; gives a :class:`Part`.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from fstore.definitions.source import CsvSource
from fstore.engines.duckdb_scan import Field, Origin, Part
from fstore.engines.duckdb_types import date_field_sql, file_list, quoted, sql_type, text_literal
from fstore.engines.source_files import source_error
from fstore.errors import SourceUnreadable

NAIVE_MARK = "fstore: no zone in "
"""Begins the message of the error that DuckDB raises for a text that is a time without a zone."""

_ZONED_TEXT = r"\d{2}:\d{2}.*(Z|[+-]\d{2}(:?\d{2})?)\s*$"


def csv_part(
    source: CsvSource, header: Sequence[str], paths: Sequence[str], columns: Mapping[str, str], types: Mapping[str, str]
) -> Part:
    """Return how to read files with one header, whose columns have ``types``, as the logical ``columns``."""
    fields: dict[str, Field] = {}
    for name, logical in columns.items():
        if name not in header:
            fields[name] = Field(f"CAST(NULL AS {sql_type(logical)})")
        elif logical == "timestamp":
            fields[name] = Field(_text_instant(source, name), name)
        elif logical == "date" and name in (source.event_time, source.updated_at):
            fields[name] = Field(date_field_sql(name, source.timezone), name, "date")
        else:
            fields[name] = Field(quoted(name), name)
    read = ", ".join(
        f"{text_literal(name)}: {text_literal('VARCHAR' if _as_text(types[name]) else sql_type(types[name]))}"
        for name in header
    )
    options = (
        f"auto_detect=false, header=true, delim={text_literal(source.delimiter)}, quote='\"', escape='\"', "
        f"nullstr={text_literal(source.null)}, columns={{{read}}}"
    )

    def open_files(chosen: Sequence[str]) -> Origin:
        return f"read_csv({file_list(str(Path(path).resolve()) for path in chosen)}, {options})"

    return Part(fields=fields, files=tuple(paths), open=open_files)


def _as_text(type_: str) -> bool:
    return type_ == "timestamp" or type_.startswith(("unsupported", "list<")) or type_.endswith("]")


def _text_instant(source: CsvSource, name: str) -> str:
    """Return the instant that a text means; a text without a zone is in the source's, or an error."""
    column = quoted(name)
    if source.timezone is not None:
        local = f"timezone({text_literal(source.timezone)}, CAST({column} AS TIMESTAMP))"
    else:
        local = f"error({text_literal(f'{NAIVE_MARK}{source.name}: {name} = ')} || {column})"
    zoned = f"regexp_matches({column}, {text_literal(_ZONED_TEXT)})"
    return f"CASE WHEN {column} IS NULL THEN NULL WHEN {zoned} THEN CAST({column} AS TIMESTAMPTZ) ELSE {local} END"


def read_header(source: CsvSource, path: str) -> tuple[str, ...]:
    """Return the column names in a file's first line."""
    try:
        with gzip.open(path, "rb") if path.endswith(".gz") else Path(path).open("rb") as raw:
            text = io.TextIOWrapper(raw, encoding="utf-8-sig", errors="replace", newline="")
            names = tuple(next(csv.reader(text, delimiter=source.delimiter), []))
    except (OSError, EOFError, csv.Error) as error:
        raise source_error(
            SourceUnreadable, source, f"has a file that cannot be read, {path}: {error}. Delete or rewrite it."
        ) from error
    if not names or not all(names) or len({name.lower() for name in names}) != len(names):
        raise source_error(
            SourceUnreadable,
            source,
            f"has a header with missing or doubled column names in {path}: {', '.join(names) or 'no line at all'}. Every "
            "CSV file needs a first line with distinct names.",
        )
    return names
