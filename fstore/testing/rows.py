"""Rows as tests write them, as typed tables.

Takes mappings from columns to plain Python values. A declared type wins; without one the values say it. Times may be texts
in ISO 8601; those without a zone are UTC, except in a source that names the zone of such times. Raises RowError for what
cannot be read, with the number of the row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime

import pyarrow as pa

from fstore.arrow import arrow_type, type_text
from fstore.errors import FStoreError
from fstore.interval import parse_instant

Rows = Sequence[Mapping[str, object]]

TIMESTAMP = pa.timestamp("us", tz="UTC")


class RowError(FStoreError):
    """Rows of a test that cannot be read."""

    code = "test_rows"


def rows_table(rows: Rows, declared: Mapping[str, str], times: Sequence[str] = (), *, naive: bool = False) -> pa.Table:
    """Return rows as a table: the declared columns, then the others in the order of their first appearance.

    ``times`` are columns of instants, whatever the values look like. With ``naive`` times without a zone stay so. Columns
    that nothing says the type of, because all their values are None, have the type null.
    """
    check_rows(rows)
    columns = list(dict.fromkeys([*declared, *(str(name) for row in rows for name in row)]))
    return pa.table({name: _column(name, rows, declared.get(name), naive=naive, time=name in times) for name in columns})


def check_rows(rows: Rows) -> None:
    """Raise RowError for what is no row."""
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise RowError(f"row {number} is {row!r}; expected a mapping from columns to values.")


def column_types(table: pa.Table) -> dict[str, str]:
    """Return the types of a table's columns as text, those of type null left out; times are instants once they are read."""
    return {
        field.name: "timestamp" if pa.types.is_timestamp(field.type) else type_text(field.type)
        for field in table.schema
        if not pa.types.is_null(field.type)
    }


def _column(name: str, rows: Rows, declared: str | None, *, naive: bool, time: bool) -> pa.Array:
    values = [row.get(name) for row in rows]
    if declared == "timestamp" or (declared is None and time):
        instants = [_instant(name, number, value, naive=naive) for number, value in enumerate(values, start=1)]
        return pa.array(instants, pa.timestamp("us") if naive else TIMESTAMP)
    if declared == "date":
        values = [date.fromisoformat(value) if isinstance(value, str) else value for value in values]
    try:
        if declared is not None:
            return pa.array(values, arrow_type(declared))
        found = pa.array(values)
        if pa.types.is_timestamp(found.type):
            return found.cast(TIMESTAMP)
        return (
            found if not _has_floats_and_integers(values) else pa.array([_as_float(value) for value in values], pa.float64())
        )
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, ValueError) as error:
        expected = f"type {declared}" if declared else "values of one type"
        raise RowError(f"column {name!r} cannot be read; expected {expected}, got {values!r}: {error}") from None


def _has_floats_and_integers(values: Sequence[object]) -> bool:
    return {float, int} <= {type(value) for value in values}


def _as_float(value: object) -> object:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _instant(name: str, number: int, value: object, *, naive: bool) -> datetime | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value) if naive else parse_instant(value)
        except ValueError as error:
            raise RowError(f"row {number} has a wrong {name}: {error}.") from None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=None if naive else UTC)
    if value is None or isinstance(value, datetime):
        return value if value is None or naive or value.tzinfo else value.replace(tzinfo=UTC)
    raise RowError(f'row {number} has a wrong {name}: expected a time such as "2026-02-27T10:00", got {value!r}.')
