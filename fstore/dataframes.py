"""Arrow tables and columns as pandas or Polars, and back, without changing a value.

pandas objects are Arrow-backed, so that integers with nulls stay integers and null stays apart from NaN; instants are UTC
with microseconds in all three. pandas and Polars are imported when a function asks for them.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from fstore.errors import SettingsError

if TYPE_CHECKING:
    from fstore.definitions.feature_view import FrameKind

# ruff: noqa: PLC0415, ICN001


def _pandas() -> ModuleType:
    try:
        import pandas
    except ImportError:
        raise SettingsError("pandas is not installed: pip install 'fstore[pandas]'") from None
    return pandas


def _polars() -> ModuleType:
    try:
        import polars
    except ImportError:
        raise SettingsError("polars is not installed: pip install 'fstore[polars]'") from None
    return polars


def as_frame(table: pa.Table, kind: FrameKind) -> object:
    """Return a table as a frame of the given library. Raises SettingsError when that is not installed."""
    if kind == "pandas":
        return table.to_pandas(types_mapper=_pandas().ArrowDtype)
    return _polars().from_arrow(table) if kind == "polars" else table


def as_column(column: pa.ChunkedArray, kind: FrameKind) -> object:
    """Return a column as an array or Series of the given library. Raises SettingsError when that is not installed."""
    if kind == "pandas":
        return column.to_pandas(types_mapper=_pandas().ArrowDtype)
    return _polars().from_arrow(column) if kind == "polars" else column.combine_chunks()


def frame_table(value: object) -> pa.Table | None:
    """Return the Arrow table of a table or frame of any of the libraries; None when it is none.

    A pandas index is left out. NaN in a column of numpy's floats is null, because pandas has no other null there.
    Raises ArrowInvalid and ArrowTypeError for a pandas column of mixed objects.
    """
    if isinstance(value, pa.Table | pa.RecordBatch):
        return value if isinstance(value, pa.Table) else pa.table(value)
    if _library(value, "DataFrame") == "pandas":
        return pa.Table.from_pandas(value, preserve_index=False).replace_schema_metadata(None)
    if _library(value, "DataFrame") == "polars":
        return _to_arrow(value)()
    return None


def column_array(value: object) -> pa.ChunkedArray | None:
    """Return the Arrow column of an array or Series of any of the libraries; None when it is none."""
    if isinstance(value, pa.ChunkedArray):
        return value
    if isinstance(value, pa.Array):
        return pa.chunked_array([value])
    if _library(value, "Series") == "pandas":
        found = pa.Array.from_pandas(value)
        return found if isinstance(found, pa.ChunkedArray) else pa.chunked_array([found])
    if _library(value, "Series") == "polars":
        return pa.chunked_array([_to_arrow(value)()])
    return None


def declared_column(column: pa.ChunkedArray, type_: pa.DataType) -> pa.ChunkedArray:
    """Return a column that a function gave with the type that was declared.

    Every value keeps its meaning: integers may become floats and wider or narrower integers, floats narrower floats (the
    nearest, never infinity) or integers, where they fit; so do the items of lists and the keys and values of maps. Raises
    ArrowInvalid where text would have to be parsed or made, a float rounded to a decimal, an instant cut to its day in UTC,
    or something else than a truth value taken for one, and for a value that does not fit.
    """
    if column.null_count == len(column):
        return pa.chunked_array([pa.nulls(len(column), type_)])
    if problem := _loses_meaning(column.type, type_):
        raise pa.ArrowInvalid(problem)
    result = column.cast(type_)
    for given, made in zip(column.chunks, result.chunks, strict=True):
        if problem := _changed(given, made):
            raise pa.ArrowInvalid(problem)
    return result


def _loses_meaning(given: pa.DataType, wanted: pa.DataType) -> str:
    """Return why values of one type are not simply values of another, empty where they are."""
    if pa.types.is_dictionary(given):
        given = given.value_type
    if pa.types.is_null(given):
        return ""
    if pa.types.is_nested(given) and pa.types.is_nested(wanted):
        parts = zip(_part_types(given), _part_types(wanted), strict=False)  # what has other parts cannot be cast
        return next(filter(None, (_loses_meaning(one, other) for one, other in parts)), "")
    if pa.types.is_nested(given) != pa.types.is_nested(wanted):
        return "a list, map or struct is not a single value; convert it in the function"
    if _is_text(given) != _is_text(wanted):
        return "text is neither parsed nor made; convert it in the function"
    if pa.types.is_boolean(wanted) and not pa.types.is_boolean(given):
        return "only a truth value is one; compare it with something in the function"
    if pa.types.is_floating(given) and pa.types.is_decimal(wanted):
        return "a float is not rounded to a decimal; round it in the function"
    if pa.types.is_temporal(given) != pa.types.is_temporal(wanted):
        return "a time is not a number; convert it in the function"
    return ""


def _changed(given: pa.Array, made: pa.Array) -> str:
    """Return what a cast between types that may be cast did to a value, empty where every value is what it was."""
    if given.type == made.type:
        return ""
    if pa.types.is_dictionary(given.type):
        given = given.dictionary_decode()
    if pa.types.is_nested(given.type) and pa.types.is_nested(made.type):
        parts = zip(_part_arrays(given), _part_arrays(made), strict=True)
        return next(filter(None, (_changed(one, other) for one, other in parts)), "")
    if pa.types.is_date(made.type) and pa.types.is_timestamp(given.type) and not made.cast(given.type).equals(given):
        return "an instant other than midnight in UTC is not a date; cut it in the function to the day that is meant"
    if pa.types.is_floating(made.type):
        lost = pc.is_inf(made)
        if pa.types.is_floating(given.type):
            lost = pc.and_not(lost, pc.is_inf(given))
        if pc.any(lost).as_py():
            return (
                f"{given.filter(lost)[0].as_py()} does not fit into {made.type}; clip it in the function, or declare float64"
            )
    return ""


def _part_types(type_: pa.DataType) -> list[pa.DataType]:
    """Return the types of what nested values are made of."""
    if pa.types.is_map(type_):
        return [_entry(type_)]
    return [type_.field(index).type for index in range(type_.num_fields)]


def _part_arrays(array: pa.Array) -> list[pa.Array]:
    """Return what the values of a nested array are made of, without what is below a null."""
    if pa.types.is_map(array.type):
        array = array.cast(pa.list_(_entry(array.type)))
    parts = array.flatten()
    return parts if pa.types.is_struct(array.type) else [parts]


def _entry(type_: pa.DataType) -> pa.DataType:
    """Return the type of the entries of a map, which is a list of them."""
    return pa.struct([("key", type_.key_type), ("value", type_.item_type)])


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_))


def _to_arrow(value: object) -> Callable[[], pa.Table]:
    convert: Callable[[], pa.Table] = value.to_arrow  # type: ignore[attr-defined]
    return convert


def _library(value: object, kind: str) -> str:
    """Return the library of an object whose class has the given name, or a class that inherits from one."""
    for base in type(value).__mro__:
        library = base.__module__.partition(".")[0]
        if base.__name__ == kind and library in ("pandas", "polars"):
            return library
    return ""
