"""Values as JSON, and back, without losing any.

A column travels as a list of values beside its logical type (``int64``, ``timestamp``, ``list<string>``, ``null`` where no
value is known). What JSON has is itself; null is null. Beyond that:

* integers outside ±(2**53 - 1) are text, because many readers hold a JSON number as a double; either form is read;
* NaN and infinities are ``"NaN"``, ``"Infinity"``, ``"-Infinity"``; other floats have digits that give them back exactly;
* a decimal is text with all digits of its scale, binary is base64 (RFC 4648, with padding);
* a timestamp is RFC 3339 in UTC with at most microseconds, ``"2026-01-02T03:04:05.000006Z"``; a date is ``"2026-01-02"``;
* lists and vectors are arrays, a map is an object whose keys ascend by their UTF-8 bytes.

Works on lists of Python values, as ``pyarrow`` gives them. NaN is one value here: its payload and sign are not kept.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from math import isfinite
from typing import Any, TypeAlias, TypeVar

import pyarrow as pa

from fstore.arrow import TIMESTAMP, arrow_type, type_text
from fstore.errors import NotAcceptable, RequestInvalid
from fstore.serving.media import ASK_FOR_ARROW
from fstore.types import DataType, parse_type

Encode: TypeAlias = Callable[[list[object]], list[object]]
"""Makes the values of a column what JSON has; the list given may be the list returned."""

Expected = TypeVar("Expected")

SAFE_INTEGER = 2**53 - 1
"""The largest integer that every reader of JSON holds exactly."""
_SHOWN = 40
_FLOAT_TEXTS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_INSTANT = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d)(:\d\d)?(\.\d+)?([Zz]|[+-]\d\d:\d\d)?")


class Unreadable(Exception):
    """A JSON value that is none of its type; the text says why."""


# -- encoding ---------------------------------------------------------------------------------------------------------


def encode_column(column: pa.ChunkedArray, name: str) -> list[object]:
    """Return the values of a column. Raises NotAcceptable for a type, or a time, that JSON has no form for here."""
    encode = encoder(json_type(column.type, name))
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    try:
        if pa.types.is_timestamp(column.type):
            column = column.cast(TIMESTAMP)
        return encode(column.to_pylist(maps_as_pydicts="strict"))
    except (ValueError, OverflowError) as error:  # a time finer than microseconds, or outside years 1 to 9999
        raise NotAcceptable(f"column {name!r} has a value that JSON has no form for: {error}. {ASK_FOR_ARROW}") from None


def json_type(type: pa.DataType, name: str) -> str:
    """Return the logical type that a column has in JSON. Raises NotAcceptable when there is none."""
    if pa.types.is_null(type):
        return "null"
    text = type_text(type)
    if text.startswith("unsupported"):
        raise NotAcceptable(f"column {name!r} is {type}, which JSON has no form for here. {ASK_FOR_ARROW}")
    return text


@lru_cache(maxsize=1024)
def encoder(type: str) -> Encode:
    """Return what makes values of a logical type JSON."""
    return unchanged if type == "null" else _encoder(parse_type(type))


def _encoder(type: DataType) -> Encode:
    match type.name:
        case "int64" | "uint64":
            return _encode_integers
        case "float32" | "float64":
            return _encode_floats
        case "decimal":
            return _each(lambda value: format(value, "f"))
        case "binary":
            return _each(_encode_binary)
        case "timestamp":
            return _each(_encode_instant)
        case "date":
            return _each(str)
        case "list" | "vector":
            return _nested(type, lambda encode: lambda value: encode(list(value)))  # type: ignore[call-overload]
        case "map":
            return _nested(
                type, lambda encode: lambda value: dict(zip(value, encode(list(value.values())), strict=True))  # type: ignore[attr-defined,call-overload]
            )  # fmt: skip
    return unchanged


def unchanged(values: list[object]) -> list[object]:
    """Return values that JSON has as they are."""
    return values


def _each(encode: Callable[[object], object]) -> Encode:
    return lambda values: [None if value is None else encode(value) for value in values]


def _nested(type: DataType, wrap: Callable[[Encode], Callable[[object], object]]) -> Encode:
    assert type.item is not None, "lists, vectors and maps have items"
    encode = _encoder(type.item)
    return unchanged if encode is unchanged else _each(wrap(encode))


def _encode_integers(values: list[object]) -> list[object]:
    present: list[int] = list(filter(None, values))  # type: ignore[arg-type]
    if not present or (max(present) <= SAFE_INTEGER and min(present) >= -SAFE_INTEGER):
        return values
    return [str(value) if isinstance(value, int) and abs(value) > SAFE_INTEGER else value for value in values]


def _encode_floats(values: list[object]) -> list[object]:
    numbers: list[Any] = values
    if isfinite(sum(filter(None, numbers))):  # a sum is finite only if every term is
        return values
    return [_encode_float(value) if isinstance(value, float) else value for value in values]


def _encode_float(value: float) -> float | str:
    if isfinite(value):
        return value
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"  # noqa: PLR0124  (NaN differs from itself)


def _encode_binary(value: object) -> str:
    assert isinstance(value, bytes), "pyarrow gives binary as bytes"
    return base64.b64encode(value).decode()


def _encode_instant(value: object) -> str:
    assert isinstance(value, datetime), "pyarrow gives timestamps as datetime"
    return f"{value.astimezone(UTC).isoformat()[:-6]}Z"


# -- decoding ---------------------------------------------------------------------------------------------------------


def decode_column(values: Sequence[object], type: str, name: str) -> pa.Array:
    """Return a column of a logical type from its JSON values. Raises RequestInvalid, naming the column and the value."""
    if type == "null":
        if any(value is not None for value in values):
            raise RequestInvalid(f"column {name!r} is said to be of type null, and has values")
        return pa.nulls(len(values))
    try:
        parsed = parse_type(type)
    except ValueError as error:
        raise RequestInvalid(f"the type of column {name!r}: {error}") from None
    decode = _decoder(parsed)
    try:
        converted = [None if value is None else decode(value) for value in values]
        return pa.array(converted, arrow_type(parsed))
    except Unreadable as error:
        raise RequestInvalid(f"column {name!r} cannot be read as {parsed}: {error}") from None
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise RequestInvalid(f"column {name!r} cannot be read as {parsed}: {error}") from None


def _decoder(type: DataType) -> Callable[[object], object]:
    if type.is_integer:
        return _decode_integer
    match type.name:
        case "bool":
            return lambda value: _expect(value, bool, "true or false")
        case "float32" | "float64":
            return _decode_float
        case "string":
            return lambda value: _expect(value, str, "text")
        case "decimal":
            return _decode_decimal
        case "binary":
            return _decode_binary
        case "date":
            return _decode_date
        case "timestamp":
            return decode_instant
    assert type.item is not None, "what is left are lists, vectors and maps"
    decode = _decoder(type.item)
    if type.name == "map":
        return lambda value: [
            (key, None if item is None else decode(item))
            for key, item in sorted(_expect(value, dict, "an object").items(), key=lambda entry: entry[0].encode())
        ]
    return lambda value: [None if item is None else decode(item) for item in _expect(value, list, "an array")]


def _expect(value: object, kind: type[Expected], what: str) -> Expected:
    if isinstance(value, kind):
        return value
    raise Unreadable(f"expected {what}, got {_short(value)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _decode_integer(value: object) -> int:
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,20}", value, re.ASCII):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise Unreadable(f"expected a whole number, got {_short(value)}")


def _decode_float(value: object) -> float | int:
    if isinstance(value, str) and value in _FLOAT_TEXTS:
        return _FLOAT_TEXTS[value]
    if isinstance(value, float | int) and not isinstance(value, bool):
        return value
    raise Unreadable(f"expected a number or one of {', '.join(_FLOAT_TEXTS)}, got {_short(value)}")


def _decode_decimal(value: object) -> Decimal:
    if isinstance(value, str | int) and not isinstance(value, bool):
        try:
            decimal = Decimal(value)
        except InvalidOperation:
            decimal = Decimal("NaN")
        if decimal.is_finite():
            return decimal
    raise Unreadable(f'expected a decimal as text, such as "12.30", got {_short(value)}')


def _decode_binary(value: object) -> bytes:
    try:
        return base64.b64decode(value, validate=True)  # type: ignore[arg-type]
    except (binascii.Error, ValueError, TypeError):
        raise Unreadable(f"expected base64, got {_short(value)}") from None


def _decode_date(value: object) -> date:
    if isinstance(value, str) and _DATE.fullmatch(value):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    raise Unreadable(f'expected a date, such as "2026-01-02", got {_short(value)}')


def decode_instant(value: object) -> datetime:
    """Return the instant that an RFC 3339 text names. Raises Unreadable, also where it names no zone."""
    match = _INSTANT.fullmatch(value) if isinstance(value, str) else None
    if match is not None:
        day, minute, second, fraction, zone = match.groups()
        if zone is None:
            raise Unreadable(f"{_short(value)} has no time zone, so it is unknown which instant it means: end it with Z")
        digits = (fraction or "").rstrip("0")
        if len(digits) > len(".000000"):
            raise Unreadable(f"{_short(value)} is finer than microseconds")
        try:
            return datetime.fromisoformat(
                f"{day}T{minute}{second or ':00'}{digits if len(digits) > 1 else ''}{zone}".upper()
            )
        except ValueError:
            pass
    raise Unreadable(f'expected an instant, such as "2026-01-02T03:04:05Z", got {_short(value)}')
