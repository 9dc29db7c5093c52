"""DuckDB's spelling of names, values and types.

Every identifier and literal in the SQL that the engine composes goes through here. Runs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime

from fstore.interval import format_instant
from fstore.plan.conversions import is_type
from fstore.types import DataType, parse_type

_NAMES = {
    "bool": "BOOLEAN",
    "int8": "TINYINT",
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "uint8": "UTINYINT",
    "uint16": "USMALLINT",
    "uint32": "UINTEGER",
    "uint64": "UBIGINT",
    "float32": "FLOAT",
    "float64": "DOUBLE",
    "string": "VARCHAR",
    "binary": "BLOB",
    "date": "DATE",
    "timestamp": "TIMESTAMP WITH TIME ZONE",
}
_LOGICAL = {name: logical for logical, name in _NAMES.items()}
_TIMESTAMPS = {"TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "TIMESTAMPTZ_NS"}
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")
_MAP = re.compile(r"MAP\(VARCHAR, (.+)\)")
_ARRAY = re.compile(r"(.+)\[(\d*)\]")


def quoted(name: str) -> str:
    """Return an identifier in double quotes."""
    return '"' + name.replace('"', '""') + '"'


def text_literal(text: str) -> str:
    """Return a string literal."""
    return "'" + text.replace("'", "''") + "'"


def instant_literal(instant: datetime) -> str:
    """Return a ``TIMESTAMPTZ`` literal."""
    return f"TIMESTAMPTZ {text_literal(format_instant(instant))}"


def file_list(paths: Iterable[str]) -> str:
    """Return a list of string literals that name exactly these files, whatever wildcards are in their names."""
    return "[" + ", ".join(text_literal(without_wildcards(path)) for path in paths) + "]"


def without_wildcards(path: str) -> str:
    """Return a glob that matches exactly one path, whatever wildcards are in its name."""
    return re.sub(r"[*?\[]", r"[\g<0>]", path)


def sql_type(type: DataType | str) -> str:
    """Return the SQL name of a logical type. Raises ValueError when a text names no type."""
    parsed = parse_type(type) if isinstance(type, str) else type
    if parsed.name == "decimal":
        return f"DECIMAL({parsed.precision},{parsed.scale})"
    if parsed.name == "map" and parsed.item is not None:
        return f"MAP(VARCHAR, {sql_type(parsed.item)})"
    if parsed.item is not None:
        return f"{sql_type(parsed.item)}[{parsed.size or ''}]"
    return _NAMES[parsed.name]


def logical_type(sql: str) -> str:
    """Return the logical type of a DuckDB type as text: ``"unsupported(<DuckDB type>)"`` when there is none."""
    name = sql.strip()
    if name in _LOGICAL:
        return _LOGICAL[name]
    if name in _TIMESTAMPS:
        return "timestamp"
    if match := _DECIMAL.fullmatch(name):
        return f"decimal({match[1]},{match[2]})"
    if name in ("HUGEINT", "BIGNUM"):
        return "decimal(38,0)"
    if name.startswith("ENUM("):
        return "string"
    if match := _ARRAY.fullmatch(name):
        item = logical_type(match[1])
        text = f"{item}[{match[2]}]" if match[2] and item in ("float32", "float64") else f"list<{item}>"
        return text if is_type(text) else f"unsupported({name})"
    if match := _MAP.fullmatch(name):
        text = f"map<string,{logical_type(match[1])}>"
        return text if is_type(text) else f"unsupported({name})"
    return f"unsupported({name})"


def date_field_sql(column: str, timezone: str | None) -> str:
    """Return the instant at which a date begins in a zone."""
    return f"timezone({text_literal(timezone or 'UTC')}, CAST({quoted(column)} AS TIMESTAMP))"


def brief(error: Exception) -> str:
    """Return DuckDB's message without its hints on DuckDB's own settings."""
    return str(error).split("\n\n", 1)[0].strip().rstrip(".")
