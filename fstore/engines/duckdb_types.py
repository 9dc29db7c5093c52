"""DuckDB's spelling of names, values and types.

Every identifier and literal in the SQL that the engine composes goes through here. Runs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime

from fstore.interval import format_instant
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
_ARRAY = re.compile(r"(.+)\[(\d*)\]")
_RANGES: dict[str, tuple[int, int]] = {
    f"int{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)
} | {f"uint{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)}


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
    return "[" + ", ".join(text_literal(re.sub(r"[*?\[]", r"[\g<0>]", path)) for path in paths) + "]"


def sql_type(type: DataType | str) -> str:
    """Return the SQL name of a logical type. Raises ValueError when a text names no type."""
    parsed = parse_type(type) if isinstance(type, str) else type
    if parsed.name == "decimal":
        return f"DECIMAL({parsed.precision},{parsed.scale})"
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
        return text if _is_type(text) else f"unsupported({name})"
    return f"unsupported({name})"


def converts_exactly(found: str, wanted: str) -> bool:
    """Whether values of one logical type may become another without a decision that only the author can take.

    True where every value either keeps its meaning or is caught as not fitting (an integer out of range, a list of the wrong
    length). Floats may become narrower and integers floats. False where rounding, cutting off or parsing would be needed.
    """
    if found == wanted or "NULL" in found:
        return True
    if not _is_type(found):
        return False
    source, target = parse_type(found), parse_type(wanted)
    if target.is_float:
        return bool(source.is_numeric or source.name == "bool")
    if target.is_integer:
        return source.is_integer or source.name == "bool" or (source.name == "decimal" and source.scale == 0)
    if target.name == "decimal":
        return source.is_integer or (source.name == "decimal" and source.scale <= target.scale)
    if target.name == "timestamp":
        return source.name in ("date", "timestamp")
    if target.item is not None and source.item is not None:
        return converts_exactly(str(source.item), str(target.item))
    return False


def widens(found: str, wanted: str) -> bool:
    """Whether every value of one logical type is a value of another, so that no conversion can fail or round."""
    if found == wanted:
        return True
    if not _is_type(found):
        return False
    source, target = parse_type(found), parse_type(wanted)
    if source.is_integer and target.is_integer:
        (low, high), (least, most) = _RANGES[source.name], _RANGES[target.name]
        return bool(least <= low and high <= most)
    if source.is_integer and target.name == "float64":
        return source.name not in ("int64", "uint64")
    if source.is_integer and target.name == "decimal":
        return bool(10 ** (target.precision - target.scale) > max(-_RANGES[source.name][0], _RANGES[source.name][1]))
    if source.name == "decimal" and target.name == "decimal":
        return source.scale <= target.scale and source.precision - source.scale <= target.precision - target.scale
    return (found, wanted) == ("float32", "float64")


def _is_type(text: str) -> bool:
    try:
        parse_type(text)
    except ValueError:
        return False
    return True
