"""Entity rows given as dicts, of which some lack what others have.

A column that is not in every dict is null there, which is what a label that is not known should be. As a join key or a
request value it would be a mistake that nobody hears of, so the column's field says in its metadata which dict lacks it,
also over HTTP, and whoever needs the column refuses it. What a reader gets back has no such note.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from fstore.errors import EntityColumnError

_LACKING = b"fstore.lacking"


def lacking(rows: Sequence[Mapping[str, object]]) -> dict[str, int]:
    """Return the names that some dicts have and others do not, each with the position of the first that does not."""
    names = dict.fromkeys(name for row in rows for name in row)
    if all(len(row) == len(names) for row in rows):
        return {}
    first = {name: next((place for place, row in enumerate(rows) if name not in row), None) for name in names}
    return {name: place for name, place in first.items() if place is not None}


def mark_lacking(table: pa.Table, rows: Sequence[Mapping[str, object]]) -> pa.Table:
    """Return the table of some dicts with a note in the columns that are not in all of them."""
    found = lacking(rows)
    if not found:
        return table
    fields = [
        field.with_metadata({_LACKING: str(found[field.name]).encode()}) if field.name in found else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields, table.schema.metadata))


def without_marks(table: pa.Table) -> pa.Table:
    """Return a table without the notes of :func:`mark_lacking`."""
    if not any(_is_marked(field) for field in table.schema):
        return table
    fields = [field.remove_metadata() if _is_marked(field) else field for field in table.schema]
    return table.cast(pa.schema(fields, table.schema.metadata))


def refuse_lacking(table: pa.Table, name: str, what: str, otherwise: str) -> None:
    """Raise EntityColumnError if a column that is needed was not in every dict.

    ``what`` says what needs it, ``otherwise`` what comes of a null that is meant.
    """
    field = table.schema.field(name)
    if _is_marked(field):
        place = field.metadata[_LACKING].decode(errors="replace")
        raise EntityColumnError(
            f"the entity row at position {place} has no {name!r}, {what}, and others have. Give None where there is none, "
            f"and {otherwise}"
        )


def _is_marked(field: pa.Field) -> bool:
    return field.metadata is not None and _LACKING in field.metadata
