"""Describing what a SELECT gives, over relations that are empty.

Takes SQL and the types of its relations; gives the statement that describes it, and the types of its columns. Reads no
source: the relations are made of nothing but their types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fstore.engines.duckdb_types import logical_type, quoted, sql_type


def describe_sql(sql: str, relations: Mapping[str, Mapping[str, str]]) -> str:
    """Return a DESCRIBE of a SELECT over relations without rows that have the given columns and types (as text)."""
    empty = ", ".join(f"{quoted(alias)} AS ({_empty(columns)})" for alias, columns in relations.items())
    return f"DESCRIBE (WITH {empty}\nSELECT * FROM (\n{sql}\n))" if empty else f"DESCRIBE (\n{sql}\n)"


def described_types(rows: Sequence[Sequence[object]]) -> dict[str, str]:
    """Return the logical types of the columns that DESCRIBE gives."""
    return {str(row[0]): logical_type(str(row[1])) for row in rows}


def _empty(columns: Mapping[str, str]) -> str:
    listed = ", ".join(f"CAST(NULL AS {sql_type(text)}) AS {quoted(name)}" for name, text in columns.items())
    return f"SELECT {listed} WHERE false"
