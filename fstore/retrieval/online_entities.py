"""The entities of an online read: from what the reader brings to the bytes that stores know keys by.

Takes lists by join key, or a dict per entity (or any table that training frames take), and gives encoded keys per view with
a mark where a part of the key is null. Lists of strings or integers, the usual keys, are encoded as they are; everything
else goes through Arrow, by the rules and with the errors of training frames. A NaN is no null here but a mistake.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fstore.errors import EntityColumnError, RetrievalError
from fstore.retrieval.entity_rows import EntityRows, key_columns, read_entity_rows, with_request
from fstore.stores.encoding import RowCodec
from fstore.types import Column

Entities: TypeAlias = "Mapping[str, Sequence[object]] | Sequence[Mapping[str, object]]"
Mask: TypeAlias = npt.NDArray[np.bool_]

_SMALLEST = {"int8": -(1 << 7), "int16": -(1 << 15), "int32": -(1 << 31), "int64": -(1 << 63)}
_BYTES = {"int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "int64": 8, "uint64": 8}


class OnlineEntities:
    """The entities of one request, and their request values, as columns of equal length."""

    def __init__(self, entities: Entities | None, request: Mapping[str, Sequence[object]] | None, most: int) -> None:
        """Take what the reader brings. Raises RetrievalError for none, or more than ``most``, else EntityColumnError."""
        if entities is None:
            raise RetrievalError('entities is missing: pass the join keys, such as entities={"user_id": ["u1", "u2"]}')
        self._lists = None if request else _as_lists(entities)
        self._table: pa.Table | None = None
        self.count: int
        if self._lists is None:
            self._table = with_request(read_entity_rows(cast("EntityRows", entities)), request)
            self.names, self.count = self._table.column_names, self._table.num_rows
        else:
            self.names, self.count = list(self._lists), len(next(iter(self._lists.values()), ()))
        if self.count > most:
            raise RetrievalError(
                f"the request has {self.count} entities, more than the {most} of one online read, which would keep the "
                "store from answering others. Split it, or read many with get_historical_features"
            )
        self._encoded: dict[tuple[Column, ...], tuple[list[bytes], Mask | None]] = {}

    @property
    def table(self) -> pa.Table:
        """The columns as an Arrow table. Raises EntityColumnError for one of mixed types."""
        if self._table is None:
            self._table = read_entity_rows(cast("EntityRows", self._lists))
        return self._table

    def lists(self) -> dict[str, list[object]]:
        """Return the columns as lists."""
        if self._lists is not None:
            return {name: list(values) for name, values in self._lists.items()}
        return self.table.to_pydict(maps_as_pydicts="strict")  # type: ignore[no-any-return]

    def keys(self, columns: tuple[Column, ...], codec: RowCodec, view: str) -> tuple[list[bytes], Mask | None]:
        """Return the encoded keys of the entities whose key is whole, and which those are (None: all).

        ``columns`` are the view's keys by the names that the reader has for them, ``codec`` the view's. Raises
        EntityColumnError when one is missing or cannot be converted exactly.
        """
        found = self._encoded.get(columns)
        if found is None:
            found = self._encoded[columns] = self._encode(columns, codec, view)
        return found

    def _encode(self, columns: Sequence[Column], codec: RowCodec, view: str) -> tuple[list[bytes], Mask | None]:
        if self._lists is not None and len(columns) == 1:
            column = columns[0]
            quick = _quick_keys(self._lists.get(column.name), column.type)
            if quick is not None:
                return quick, None
        for column in columns:
            self._refuse_nan(column.name, view)
        keys = pa.table(key_columns(self.table, columns, view), names=[key.name for key in codec.keys])
        complete = np.ones(keys.num_rows, dtype=np.bool_)
        for array in keys.columns:
            complete &= array.is_valid().to_numpy()
        if complete.all():
            return codec.encode_keys(keys), None
        return codec.encode_keys(keys.filter(complete)), complete

    def _refuse_nan(self, name: str, view: str) -> None:
        if self._lists is None or name not in self._lists:
            return
        for place, value in enumerate(self._lists[name]):
            if isinstance(value, float) and math.isnan(value):
                raise EntityColumnError(
                    f"column {name!r}, a join key of view {view!r}, holds NaN at position {place}, which names no entity. "
                    "Give None where there is no key, and the features of that entity are null"
                )


def _as_lists(entities: Entities) -> dict[str, list[object] | tuple[object, ...]] | None:
    """Return columns that were given as plain lists, or as a dict per entity; None where they are anything else."""
    if isinstance(entities, list):
        if not all(type(row) is dict for row in entities):
            return None
        names = dict.fromkeys(name for row in entities for name in row)
        if any(len(row) != len(names) for row in entities):  # a key that a row lacks is no null
            return None
        return {name: [row.get(name) for row in entities] for name in names}
    if type(entities) is not dict and not isinstance(entities, Mapping):
        return None
    lists: dict[str, list[object] | tuple[object, ...]] = {}
    for name, values in entities.items():
        if type(values) is not list and type(values) is not tuple:
            return None
        lists[name] = values
    if len(lists) > 1 and len(set(map(len, lists.values()))) > 1:
        lengths = {name: len(values) for name, values in lists.items()}
        raise EntityColumnError(f"the entity columns differ in length: {lengths}")
    return lists


def _quick_keys(values: Sequence[object] | None, kind: str) -> list[bytes] | None:
    """Return the keys of a view with one join key, of strings or of integers that fit; None for everything else."""
    if values is None:
        return None
    types = set(map(type, values))
    if kind == "string":
        if types != {str}:
            return None
        try:
            return [text.encode() for text in cast("Sequence[str]", values)]
        except UnicodeEncodeError:
            raise EntityColumnError(
                "a join key holds half a surrogate pair, which is no text: decode its bytes as what they are"
            ) from None
    if kind not in _BYTES or types != {int}:
        return None
    whole = cast("Sequence[int]", values)
    size, smallest = _BYTES[kind], _SMALLEST.get(kind, 0)
    if min(whole) < smallest or max(whole) >= smallest + (1 << (8 * size)):
        return None
    return [(value - smallest).to_bytes(size, "big") for value in whole]
