"""Entity rows: what a reader brings, brought into the types that views are keyed by.

Takes pandas, Arrow or polars frames, Parquet files, lists of dicts or a dict of lists; gives an Arrow table with the
columns as given, and key and time columns converted without loss. A value that cannot be converted exactly is an error.
Imports pandas and polars only when the reader has done so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fstore.arrays import joined, raw_values
from fstore.arrow import arrow_type
from fstore.dataframes import frame_table
from fstore.errors import EntityColumnError, did_you_mean, listing
from fstore.retrieval.uneven_rows import mark_lacking, refuse_lacking
from fstore.types import Column, parse_type

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

_EXACT = {pa.float16(): 2.0**11, pa.float32(): 2.0**24, pa.float64(): 2.0**53}
"""From here on not every whole number is one of the type, so that a key read as float may be another one's."""


class ArrowStream(Protocol):
    """Whatever gives its rows as a stream of Arrow, such as a relation of DuckDB."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return the stream as a capsule."""
        ...


EntityRows: TypeAlias = (
    "pd.DataFrame | pl.DataFrame | pl.LazyFrame | pa.Table | pa.RecordBatchReader | ArrowStream | str | Path | "
    "Sequence[Mapping[str, object]] | Mapping[str, object]"
)
"""What entity rows may be given as; a text is the path of a Parquet file or a directory of them, or a SELECT."""


def read_entity_rows(rows: EntityRows) -> pa.Table:
    """Return entity rows as an Arrow table, in the order given and with all columns.

    A pandas index is left out. Raises EntityColumnError for anything that is not a table, or has a column name twice.
    """
    table = _as_table(rows)
    refuse_twice(table.column_names)
    return table


def with_request(entities: pa.Table, request: Mapping[str, Sequence[object]] | None) -> pa.Table:
    """Return entity rows with the request's values as further columns. Raises EntityColumnError when the two do not fit."""
    if not request:
        return entities
    try:
        values = read_entity_rows(request)
    except EntityColumnError as error:
        raise EntityColumnError(f"in the request: {error}") from None
    if taken := [name for name in values.column_names if name in entities.column_names]:
        raise EntityColumnError(f"the request has {listing(taken)}, and so have the entities: give a value once")
    if values.num_rows != entities.num_rows:
        raise EntityColumnError(
            f"the request has lists of {values.num_rows} value(s) for {entities.num_rows} entities; give one per entity"
        )
    for name in values.column_names:
        entities = entities.append_column(name, values[name])
    return entities


def key_columns(table: pa.Table, keys: Sequence[Column], view: str) -> list[pa.ChunkedArray]:
    """Return the join keys of a view, converted exactly to their types.

    Raises EntityColumnError when one is missing or cannot be converted.
    """
    converted = []
    for key in keys:
        if key.name not in table.column_names:
            raise EntityColumnError(
                f"the entity rows have no column {key.name!r}, a join key of view {view!r}; they have "
                f"{listing(table.column_names)}.{did_you_mean(key.name, table.column_names)}"
            )
        refuse_lacking(table, key.name, f"a join key of view {view!r}", "the features of that row are null")
        converted.append(_converted(table[key.name], key, view))
    return converted


def request_values(table: pa.Table, column: Column, feature: str) -> pa.ChunkedArray:
    """Return a request value of an on-demand feature, converted to its type.

    Raises EntityColumnError when it is missing, of another kind, or does not fit. Floats become narrower where the type is.
    """
    if column.name not in table.column_names:
        raise EntityColumnError(
            f"the request has no {column.name!r}, which on-demand feature {feature!r} needs as {column.type}; there are "
            f"{listing(table.column_names)}.{did_you_mean(column.name, table.column_names)} Give it as a column "
            f'of the entity rows, or online as request={{"{column.name}": […]}}'
        )
    needs = f"which on-demand feature {feature!r} needs as {column.type}"
    refuse_lacking(table, column.name, needs, "the feature is computed from a null")
    given, wanted = _plain(table[column.name]), arrow_type(parse_type(column.type))
    if pa.types.is_null(given.type):
        return given.cast(wanted)
    problem = (
        f"request value {column.name!r} of on-demand feature {feature!r} is {given.type}, but declared as {column.type}"
    )
    if _kind(given.type) not in _REQUEST_KINDS.get(_kind(wanted), (_kind(wanted),)):
        raise EntityColumnError(f"{problem}. Convert it.")
    try:
        if pa.types.is_decimal(wanted) and pa.types.is_integer(given.type):
            given = given.cast(
                pa.decimal256(76, wanted.scale)
            )  # straight, Arrow asks for room for every integer of the type
        return given.cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise EntityColumnError(f"{problem}: {error}") from None


def time_column(table: pa.Table, name: str) -> npt.NDArray[np.int64]:
    """Return the entity rows' instants as microseconds since 1970 UTC.

    Raises EntityColumnError when the column is missing, null somewhere, no time, without zone, or finer than microseconds.
    """
    if not isinstance(name, str):
        raise EntityColumnError(f"timestamp_column must be the name of a column, got {name!r}")
    if name not in table.column_names:
        raise EntityColumnError(
            f"the entity rows have no column {name!r} with the time of each row; they have {listing(table.column_names)}."
            f"{did_you_mean(name, table.column_names)} Name another one with timestamp_column=…"
        )
    column = table[name]
    if not pa.types.is_timestamp(column.type):
        raise EntityColumnError(
            f"column {name!r} must hold instants (timestamps with a time zone), got {column.type}. In pandas: "
            f'pd.to_datetime(frame["{name}"], utc=True)'
        )
    if column.type.tz is None:
        raise EntityColumnError(
            f"column {name!r} holds times without a zone, so it is unknown which instants they mean. In pandas: "
            f'frame["{name}"].dt.tz_localize("UTC"), or the zone they were recorded in'
        )
    if column.null_count:
        raise EntityColumnError(f"column {name!r} is null in {column.null_count} row(s): each entity row needs its instant")
    try:
        micros = column.cast(pa.timestamp("us", tz="UTC"))
    except pa.ArrowInvalid as error:
        if column.type.unit != "ns":
            raise EntityColumnError(f"column {name!r} holds an instant that is no instant here: {error}") from None
        raise EntityColumnError(
            f"column {name!r} is finer than microseconds, which instants have here. In pandas: "
            f'frame["{name}"].dt.floor("us")'
        ) from None
    return cast("npt.NDArray[np.int64]", raw_values(joined(micros.cast(pa.int64()))))


def refuse_twice(names: Sequence[str]) -> None:
    """Raise EntityColumnError when a name is there more than once."""
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise EntityColumnError(f"the entity rows have column(s) {listing(twice)} more than once; rename or drop one")


def _as_table(rows: object) -> pa.Table:
    if isinstance(rows, pa.Table):
        return rows
    if isinstance(rows, str | Path):
        try:
            return pq.read_table(rows)
        except (OSError, pa.ArrowInvalid) as error:
            raise EntityColumnError(f"entity rows cannot be read from {str(rows)!r} as Parquet: {error}") from None
    try:
        if hasattr(rows, "iloc"):  # pandas allows names twice
            refuse_twice([str(name) for name in getattr(rows, "columns", ())])
        if (table := frame_table(rows)) is not None:
            if hasattr(rows, "iloc"):
                for index in np.flatnonzero([_has_zone(kind) for kind in table.schema.types]):
                    _refuse_naive(table.schema.names[index], rows.iloc[:, index])
            return table
        if isinstance(rows, Mapping):
            return _from_lists(rows)
        if isinstance(rows, Sequence) and all(isinstance(row, Mapping) for row in rows):
            names = list(dict.fromkeys(name for row in rows for name in row))
            return mark_lacking(_from_lists({name: [row.get(name) for row in rows] for name in names}), rows)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise EntityColumnError(f"the entity rows have a column of mixed types: {error}") from None
    except (OverflowError, ValueError, pa.ArrowException) as error:
        raise EntityColumnError(f"the entity rows have a value that no column can hold: {error}") from None
    raise EntityColumnError(
        f"entity rows must be a pandas or polars DataFrame, an Arrow table, a Parquet path or a list of dicts, got "
        f"{type(rows).__name__}"
    )


def _from_lists(columns: Mapping[str, object]) -> pa.Table:
    arrays = {}
    for name, values in columns.items():
        if isinstance(values, Mapping):
            raise EntityColumnError(
                f'column {name!r} must be a list with a value per row, got a dict. In pandas: frame.to_dict("list")'
            )
        if isinstance(values, str | bytes | Set) or not isinstance(values, Iterable):
            raise EntityColumnError(f"column {name!r} must be a list with a value per row, got {values!r}")
        arrays[name] = pa.array(values)
        if _has_zone(arrays[name].type):
            _refuse_naive(name, values)
    lengths = {name: len(values) for name, values in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise EntityColumnError(f"the entity columns differ in length: {lengths}")
    return pa.table(arrays)


def _has_zone(kind: pa.DataType) -> bool:
    return pa.types.is_timestamp(kind) and kind.tz is not None


def _refuse_naive(name: str, values: Iterable[object]) -> None:
    """Raise EntityColumnError for times without a zone beside others with one, which Arrow takes to be in UTC."""
    if not isinstance(values, list | tuple) and getattr(values, "dtype", None) != np.dtype(object):
        return
    found = [value for value in values if isinstance(value, datetime) and value.tzinfo is None]
    if rows := sum(value == value for value in found):  # noqa: PLR0124  (what pandas has for no time is unlike itself)
        raise EntityColumnError(
            f"column {name!r} holds times without a zone in {rows} row(s), beside others that have one: give each the zone "
            "that it was recorded in"
        )


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Undo dictionary encoding, and unify the ways to hold text."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type) or pa.types.is_string_view(column.type):
        column = column.cast(pa.large_string())
    return column


def _converted(column: pa.ChunkedArray, key: Column, view: str) -> pa.ChunkedArray:
    wanted = arrow_type(parse_type(key.type))
    if column.type == wanted:
        return column
    column = _plain(column)
    if pa.types.is_null(column.type):
        return column.cast(wanted)
    if pa.types.is_floating(column.type) and (rows := pc.sum(pc.is_nan(column)).as_py()):
        raise EntityColumnError(
            f"column {key.name!r}, a join key of view {view!r}, holds NaN in {rows} row(s), which names no entity. "
            "Give null where there is no key, and the features of that row are null"
        )
    if not _convertible(column.type, wanted):
        whole = ".astype('Int64')" if pa.types.is_floating(column.type) else ""  # else the text of 7 would be "7.0"
        raise EntityColumnError(
            f"column {key.name!r} holds {column.type}, but the join key of view {view!r} is {key.type}. "
            f"Convert it, for example in pandas: frame[{key.name!r}]{whole}.astype({_pandas_type(key.type)!r})"
        )
    lossy = f"column {key.name!r} cannot become {key.type}, the join key of view {view!r}, without loss"
    if pa.types.is_floating(column.type):
        limit, column = _EXACT[column.type], column.cast(pa.float64())
        largest = pc.max(pc.abs(column)).as_py()
        if largest is not None and largest >= limit:
            raise EntityColumnError(f"{lossy}: {largest:.0f} is beyond the whole numbers that a float holds exactly")
    try:
        return column.cast(wanted)
    except pa.ArrowInvalid as error:
        raise EntityColumnError(f"{lossy}: {error}") from None


def _convertible(given: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether values of a type may stand for a key of another, if each one converts exactly."""
    if pa.types.is_integer(wanted):
        return bool(pa.types.is_integer(given) or pa.types.is_floating(given))
    if pa.types.is_string(wanted) or pa.types.is_large_string(wanted):
        return bool(pa.types.is_large_string(given))
    if pa.types.is_boolean(wanted):
        return bool(pa.types.is_boolean(given))
    return bool(pa.types.is_date(wanted) and pa.types.is_date(given))


_REQUEST_KINDS = {"integer": ("integer", "float"), "float": ("integer", "float"), "decimal": ("integer", "decimal")}
"""Which kinds of values a request may bring for a kind of type: an integer as float (as pandas has it beside nulls), say."""


def _kind(type: pa.DataType) -> str:
    """Return the kind of an Arrow type, where those of one kind differ in size only."""
    if pa.types.is_timestamp(type):
        return "instant" if type.tz is not None else "time without a zone"
    kinds = {"integer": pa.types.is_integer, "float": pa.types.is_floating, "decimal": pa.types.is_decimal,
             "text": lambda of: pa.types.is_string(of) or pa.types.is_large_string(of), "list": pa.types.is_nested,
             "binary": lambda of: pa.types.is_binary(of) or pa.types.is_large_binary(of),
             "date": pa.types.is_date}  # fmt: skip
    return next((kind for kind, holds in kinds.items() if holds(type)), str(type))


def _pandas_type(kind: str) -> str:
    return {"string": "string", "bool": "boolean", "date": "date32[pyarrow]"}.get(
        kind, kind.capitalize().replace("Ui", "UI")
    )
