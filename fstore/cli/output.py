"""What commands print: tables and progress for people, JSON for machines, errors on standard error.

Colours and moving progress only on a terminal; with ``--json`` standard output holds one JSON document and nothing else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import islice

import msgspec
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segments
from rich.table import Table

from fstore.errors import DefinitionErrors, FStoreError
from fstore.interval import Interval, format_duration

_WIDE = 200
"""Columns where nobody says how wide the output is: a file, a pipe, a log."""

_NESTED = 24
"""Columns that a list or a map may take in a table."""

_GAP, _NARROWEST = 2, 16
"""Columns between two cells, and the fewest that a cell is cut to."""

console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else _WIDE)
"""Standard output. Plain text unless it is a terminal."""

errors = Console(stderr=True, highlight=False, soft_wrap=True)
"""Standard error."""


def print_json(value: object) -> None:
    """Write one value as a JSON document to standard output."""
    document = msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2)
    sys.stdout.write(document.decode() + "\n")


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, numbers: Sequence[str] = (),
    optional: Sequence[str] = (),
) -> None:  # fmt: skip
    """Print rows as a table; columns named in ``numbers`` are aligned to the right.

    Where the width does not do, those named in ``optional`` are left out, one after another, until it does. Text is folded
    then, to no less than a few columns; a table that needs more is wider than the terminal.
    """
    widths = {
        column: max(map(cell_len, [column, *(text_of(row[place]) for row in rows)])) + _GAP
        for place, column in enumerate(columns)
    }
    dropped: set[str] = set()
    for column in optional:
        if sum(width for name, width in widths.items() if name not in dropped) - _GAP > console.width:
            dropped.add(column)
    kept = [place for place, column in enumerate(columns) if column not in dropped]
    columns, rows = [columns[place] for place in kept], [[row[place] for place in kept] for row in rows]
    least = {name: width - _GAP if name in numbers else min(width - _GAP, _NARROWEST) for name, width in widths.items()}
    table = Table(title=title or None, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(
            column, justify="right" if column in numbers else "left", no_wrap=column in numbers, overflow="fold",
            min_width=least[column],
        )  # fmt: skip
    for row in rows:
        table.add_row(*(escape(text_of(value)) for value in row))
    _print_whole(table, sum(least[column] + _GAP for column in columns) - _GAP)


def print_rows(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows of data: as a table if it fits the width, else a column a line and a row a column, in blocks that fit.

    Lists and maps show how they begin.
    """
    cells = [[short_text(value) for value in row] for row in rows]
    widths = [max(map(cell_len, texts)) for texts in zip(columns, *cells, strict=True)]
    if sum(widths) + _GAP * len(widths) <= console.width:
        print_table(title, columns, cells)
        return
    left = max(map(cell_len, columns))
    limit = max(_NARROWEST, console.width - left - 2 * _GAP)
    cells = [[_cut(text, limit) for text in row] for row in cells]
    for block in _blocks([max(map(cell_len, row)) + _GAP for row in cells], console.width - left - _GAP):
        table = Table(title=title or None, title_justify="left", show_header=False, box=None, pad_edge=False)
        for number in range(len(block) + 1):
            table.add_column(style="bold" if number == 0 else None, no_wrap=True)
        for place, column in enumerate(columns):
            table.add_row(*(escape(text) for text in (column, *(cells[row][place] for row in block))))
        _print_whole(table, left + sum(_GAP + max(map(cell_len, cells[row])) for row in block))
        title = " "


def _print_whole(table: Table, needed: int) -> None:
    """Print a table as wide as the console, or as it needs: lines that the terminal wraps lose nothing."""
    console.print(Segments(console.render(table, console.options.update(width=max(console.width, needed)))), end="")


def _blocks(widths: Sequence[int], available: int) -> list[list[int]]:
    """Return the numbers of neighbouring columns that fit beside each other; one that fits nowhere stands alone."""
    blocks: list[list[int]] = []
    room = 0
    for number, width in enumerate(widths):
        if not blocks or width > room:
            blocks.append([])
            room = available
        blocks[-1].append(number)
        room -= width
    return blocks


def _cut(text: str, length: int) -> str:
    return text if cell_len(text) <= length else f"{text[: length - 1]}…"


def print_error(error: FStoreError, *, as_json: bool) -> None:
    """Print an error to standard error, or as JSON to standard output."""
    if as_json:
        problems = [msgspec.structs.asdict(problem) if isinstance(problem, msgspec.Struct) else str(problem)
                    for problem in getattr(error, "problems", ())]  # fmt: skip
        print_json(
            {"error": {"code": error.code, "message": str(error), "retryable": error.retryable, "problems": problems}}
        )
        return
    print_failure(error.code, str(error), apart=isinstance(error, DefinitionErrors))


def print_failure(code: str, message: str, *, apart: bool = False) -> None:
    """Print what failed to standard error: the code, then the message, on a line of its own if ``apart``."""
    if code:
        errors.print(f"[bold red]error[/] [dim]{code}[/]", end="\n" if apart else " ")
    errors.print(message, markup=False)


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
        case list() | tuple():
            return f"[{', '.join(_item_text(item) for item in value)}]"
        case dict():
            return f"{{{', '.join(f'{key}: {_item_text(item)}' for key, item in value.items())}}}"
        case Interval():
            return f"{text_of(value.start)} to {text_of(value.end)}"
        case _:
            return str(value)


def short_text(value: object) -> str:
    """Return a cell's text as :func:`text_of` does, with only the beginning of a long list or map."""
    if not isinstance(value, list | tuple | dict):
        return text_of(value)
    text = text_of(dict(islice(value.items(), _NESTED)) if isinstance(value, dict) else list(value[:_NESTED]))
    return text if cell_len(text) <= _NESTED else f"{text[: _NESTED - 2]}…{text[-1]}"


def _item_text(value: object) -> str:
    return "null" if value is None else text_of(value)


@contextmanager
def progress_display(*, quiet: bool) -> Iterator[Progress]:
    """Show progress bars on standard error; on something that is no terminal, or when quiet, nothing moves."""
    columns = (
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("[dim]left[/]"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=errors, disable=quiet or not errors.is_terminal) as display:
        yield display
