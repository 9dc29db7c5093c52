"""The types that a key or a feature can have.

A type is written as text in definitions, plans and the registry (``"int64"``, ``"decimal(18,2)"``, ``"float32[128]"``,
``"list<string>"``, ``"map<string,float64>"``), and parsed into a :class:`DataType` where its parts matter. Knows nothing of
Arrow, DuckDB or any store: ``fstore.arrow`` and the engines map from here.
"""

from __future__ import annotations

import re
from datetime import datetime

import msgspec

SCALARS = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64",
           "string", "binary", "date", "timestamp")  # fmt: skip
"""Scalar type names. A ``timestamp`` is an instant in UTC with microseconds; a ``date`` has no zone."""

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float32", "float64")
KEY_TYPES = (*INTEGERS, "string", "bool", "date")
"""Types that a join key may have: those whose equality is the same in every engine and store."""

_DECIMAL = re.compile(r"decimal\(\s*(\d+)\s*,\s*(\d+)\s*\)")
_VECTOR = re.compile(r"(float32|float64)\[(\d+)\]")
_LIST = re.compile(r"list<(.+)>")
_MAP = re.compile(r"map<\s*string\s*,(.+)>")
_NESTED = ("list", "map", "vector")


class DataType(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed type.

    ``name`` is a scalar name, ``decimal``, ``vector``, ``list`` or ``map``. ``precision`` and ``scale`` belong to decimals,
    ``size`` to vectors, ``item`` (a scalar or decimal) to vectors, lists and maps. A map's keys are strings, each there once
    and none null, and kept in ascending order of their UTF-8 bytes; its values may be null.
    """

    name: str
    precision: int = 0
    scale: int = 0
    size: int = 0
    item: DataType | None = None

    def __str__(self) -> str:
        if self.name == "decimal":
            return f"decimal({self.precision},{self.scale})"
        if self.name == "vector":
            return f"{self.item}[{self.size}]"
        if self.name == "list":
            return f"list<{self.item}>"
        if self.name == "map":
            return f"map<string,{self.item}>"
        return self.name

    @property
    def is_integer(self) -> bool:
        """Whether values are whole numbers of a fixed width."""
        return self.name in INTEGERS

    @property
    def is_float(self) -> bool:
        """Whether values are binary floating point."""
        return self.name in FLOATS

    @property
    def is_numeric(self) -> bool:
        """Whether values can be summed and averaged."""
        return self.is_integer or self.is_float or self.name == "decimal"


def parse_type(text: str) -> DataType:
    """Parse a type's text.

    Raises ValueError when the text names no type; the message lists what is possible.
    """
    text = text.strip().lower()
    if text in SCALARS:
        return DataType(name=text)
    if match := _DECIMAL.fullmatch(text):
        precision, scale = int(match[1]), int(match[2])
        if 1 <= precision <= 38 and scale <= precision:
            return DataType(name="decimal", precision=precision, scale=scale)
        raise ValueError(f"decimal({precision},{scale}) is out of range: precision is 1 to 38 and scale at most precision")
    if (match := _VECTOR.fullmatch(text)) and int(match[2]) > 0:
        return DataType(name="vector", size=int(match[2]), item=DataType(name=match[1]))
    for name, pattern in (("list", _LIST), ("map", _MAP)):
        if match := pattern.fullmatch(text):
            item = parse_type(match[1])
            if item.name not in _NESTED:
                return DataType(name=name, item=item)
    raise ValueError(
        f"{text!r} is not a type; use one of {', '.join(SCALARS)}, decimal(p,s), list<type>, map<string,type>, "
        "float32[n] or float64[n]"
    )


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A named column with its type as text."""

    name: str
    type: str


class DataFile(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An immutable Parquet file of an attempt.

    ``path`` is relative to the offline store's root. Rows are sorted by (event_timestamp, keys). ``start`` and ``end`` are
    the range of intervals that the file may hold. ``schema_id`` identifies its columns and types. ``checksum`` is the
    SHA-256 of its bytes as hex digits, None where nobody took it.
    """

    path: str
    rows: int
    bytes: int
    start: datetime
    end: datetime
    schema_id: str
    checksum: str | None = None
