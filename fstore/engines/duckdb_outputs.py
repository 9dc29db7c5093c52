"""Making a query's columns those of a schema, and saying which value did not fit.

Takes the columns that a query gives and the schema it shall have; gives the SELECT list that casts one to the other. Casts
only what keeps its meaning: rounding, cutting off and parsing are the author's to write. Entries of maps are put in the
order of their keys, which is the one order that a stored map has.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import duckdb
import pyarrow as pa

from fstore.arrow import type_text
from fstore.engines.duckdb_types import brief, logical_type, quoted, sql_type, text_literal
from fstore.errors import OutputMismatch
from fstore.plan.conversions import converts_exactly

_NULL_MARK = "fstore: null in "
_DOUBLE_KEY, _NULL_KEY = "map contains duplicate key", "map contains NULL as map key"


class OutputColumns:
    """The columns of a query, matched by name with those of a schema."""

    def __init__(self, schema: pa.Schema, found: Sequence[tuple[str, str]], *, required: Collection[str], sql: str) -> None:
        self.schema, self.required = schema, required
        self._check_names([name for name, _ in found], sql)
        types = dict(found)
        for field in schema:
            given, wanted = logical_type(types[field.name]), type_text(field.type)
            if not converts_exactly(given, wanted):
                raise OutputMismatch(
                    f"column {field.name!r} is {_plain(given)}, declared as {wanted}, and not every {_plain(given)} is one. "
                    f"Declare it as {_plain(given)}, or convert it in the SQL: CAST({field.name} AS {sql_type(wanted)}).",
                    sql=sql,
                )

    @property
    def select(self) -> str:
        """The SELECT list that gives the schema's columns in its order."""
        return ", ".join(f"{self._cast(field)} AS {quoted(field.name)}" for field in self.schema)

    def _cast(self, field: pa.Field) -> str:
        cast = f"CAST({quoted(field.name)} AS {sql_type(type_text(field.type))})"
        if pa.types.is_fixed_size_list(field.type):  # DuckDB 2.0 writes a broken Parquet file for an array that is null
            cast = f"CAST({cast} AS {sql_type(type_text(field.type.value_type))}[])"
        if pa.types.is_map(field.type):
            cast = _in_order_of_keys(cast)
        if field.name not in self.required:
            return cast
        problem = text_literal(_NULL_MARK + field.name)
        return f"CASE WHEN {quoted(field.name)} IS NULL THEN error({problem}) ELSE {cast} END"

    def _check_names(self, found: Sequence[str], sql: str) -> None:
        wanted = self.schema.names
        missing = [name for name in wanted if name not in found]
        extra = [name for name in found if name not in wanted]
        doubled = sorted({name for name in found if found.count(name) > 1})
        if missing or extra or doubled:
            raise OutputMismatch(
                f"the query gives the columns {', '.join(found)}; declared are {', '.join(wanted)}."
                + (f" Missing: {', '.join(missing)}." if missing else "")
                + (f" Not declared: {', '.join(extra)}." if extra else "")
                + (f" More than once: {', '.join(doubled)}." if doubled else ""),
                sql=sql,
            )


def describe_misfit(
    connection: duckdb.DuckDBPyConnection,
    error: Exception,
    outputs: OutputColumns,
    sql: str,
    parameters: Mapping[str, datetime],
) -> OutputMismatch | None:
    """Return what did not fit the schema, or None when the error is of another kind. Runs the query again to find it."""
    text = brief(error)
    if _NULL_MARK in text and isinstance(error, duckdb.InvalidInputException):
        column = text.split(_NULL_MARK, 1)[1]
        return OutputMismatch(
            f"column {column!r} has a null; it identifies a row and must not. Leave such rows out: WHERE {column} "
            "IS NOT NULL.",
            sql=sql,
        )
    if _DOUBLE_KEY in text or _NULL_KEY in text:
        found = "the same key twice" if _DOUBLE_KEY in text else "a null key"
        return OutputMismatch(f"a map has {found}; every key of a map is there once and is not null.", sql=sql)
    if not isinstance(error, duckdb.ConversionException | duckdb.OutOfRangeException):
        return None
    for field in outputs.schema:
        name, wanted = quoted(field.name), type_text(field.type)
        probe = (
            f"SELECT {name}::VARCHAR FROM (\n{sql}\n) WHERE {name} IS NOT NULL "
            f"AND TRY_CAST({name} AS {sql_type(wanted)}) IS NULL LIMIT 1"
        )
        try:
            rows = connection.execute(probe, dict(parameters)).fetchall()
        except duckdb.Error:
            return None  # the query fails by itself: its own error says more
        if rows:
            return OutputMismatch(
                f"column {field.name!r} has the value {rows[0][0]}, which does not fit its declared type {wanted}. Declare "
                "a wider type, or limit the value in the SQL.",
                sql=sql,
            )
    return None


def _in_order_of_keys(map_: str) -> str:
    """Return a map with its entries in the order of their keys; seeing that they are costs a tenth of sorting them."""
    keys = f"map_keys({map_})"
    ascending = f"list_bool_and(list_transform({keys}, lambda key, place: place = 1 OR {keys}[place - 1] < key))"
    return f"CASE WHEN {ascending} THEN {map_} ELSE map_from_entries(list_sort(map_entries({map_}))) END"


def _plain(type_: str) -> str:
    return type_.removeprefix("unsupported(").removesuffix(")") if type_.startswith("unsupported") else type_
