"""What commands print: tables and progress for people, JSON for machines, errors on standard error.

Colours and moving progress only on a terminal; with ``--json`` standard output holds one JSON document and nothing else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from fstore.errors import DefinitionErrors, FStoreError
from fstore.interval import Interval, format_duration

_WIDE = 200
"""Columns where nobody says how wide the output is: a file, a pipe, a log."""

console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else _WIDE)
"""Standard output. Plain text unless it is a terminal."""

errors = Console(stderr=True, highlight=False, soft_wrap=True)
"""Standard error."""


def print_json(value: object) -> None:
    """Write one value as a JSON document to standard output."""
    document = msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2)
    sys.stdout.write(document.decode() + "\n")


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, numbers: Sequence[str] = ()
) -> None:
    """Print rows as a table; columns named in ``numbers`` are aligned to the right."""
    table = Table(title=title or None, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(
            column, justify="right" if column in numbers else "left", no_wrap=column in numbers, overflow="fold"
        )
    for row in rows:
        table.add_row(*(escape(text_of(value)) for value in row))
    console.print(table)


def print_error(error: FStoreError, *, as_json: bool) -> None:
    """Print an error to standard error, or as JSON to standard output."""
    if as_json:
        problems = [msgspec.structs.asdict(problem) if isinstance(problem, msgspec.Struct) else str(problem)
                    for problem in getattr(error, "problems", ())]  # fmt: skip
        print_json(
            {"error": {"code": error.code, "message": str(error), "retryable": error.retryable, "problems": problems}}
        )
        return
    errors.print(f"[bold red]error[/] [dim]{error.code}[/]", end=" " if not isinstance(error, DefinitionErrors) else "\n")
    errors.print(str(error), markup=False)


def text_of(value: object) -> str:
    """Return a cell's text: instants to the minute in UTC, durations short, counts with separators, nothing for None."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.6g}"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M}"
        case timedelta():
            return format_duration(timedelta(seconds=round(value.total_seconds())))
        case Interval():
            return f"{text_of(value.start)} to {text_of(value.end)}"
        case _:
            return str(value)


@contextmanager
def progress_display(*, quiet: bool) -> Iterator[Progress]:
    """Show progress bars on standard error; on something that is no terminal, or when quiet, nothing moves."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, disable=quiet or not errors.is_terminal) as display:
        yield display
