"""Read chosen features out of one packed row as numpy arrays of one item.

What :meth:`~fstore.stores.row_values.RowValues.arrays` does for many rows with numpy, whose calls cost more than all else of
a read of one key. Moves bytes, so that every bit survives; knows numbers, bools, instants and strings, of which rows mostly
are.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fstore.errors import StoreCorrupt
from fstore.stores.cells import Mask
from fstore.stores.row_layout import HEADER_BYTES, RowLayout
from fstore.types import parse_type

Array = npt.NDArray[np.generic]

_DTYPES = {"float64": "<f8", "float32": "<f4", "int8": "i1", "uint8": "u1", "int16": "<i2", "uint16": "<u2", "int32": "<i4",
           "uint32": "<u4", "int64": "<i8", "uint64": "<u8", "bool": "?", "timestamp": "<M8[us]"}  # fmt: skip
_NO_VALUE = {"float64": struct.pack("<d", np.nan), "float32": struct.pack("<f", np.nan),
             "timestamp": struct.pack("<q", -(1 << 63))}  # fmt: skip
"""The bits of NaN and NaT; other slots are zero where null."""

_ABSENT = [bytes(not byte >> bit & 1 for bit in range(8)) for byte in range(256)]
"""What the bits of a byte of the bitmap say of eight features: 1 where there is no value."""
_TRUTH = bytes([0, *[1] * 255])


class _Group(NamedTuple):
    """The wanted features of one type: their places among the wanted, and how to get their bytes out of a row."""

    dtype: np.dtype[np.generic]
    places: list[int]
    pick: Callable[[bytes], bytes]
    no_value: bytes | None
    is_bool: bool


class SingleRow:
    """Reads some features of single rows of one schema."""

    def __init__(self, layout: RowLayout, indexes: Sequence[int]) -> None:
        """Prepare to read the features at some indexes of the schema, each of a type that this knows."""
        kinds = [parse_type(layout.features[index].type).name for index in indexes]
        self._id, self._size, self._count = layout.id, layout.record.itemsize, len(indexes)
        self._bitmap = slice(HEADER_BYTES, HEADER_BYTES + (len(layout.features) + 7) // 8)
        self._order = None if list(indexes) == list(range(len(layout.features))) else list(indexes)
        fields = layout.record.fields
        assert fields is not None, "a layout's record has fields"
        self._groups = []
        for kind in dict.fromkeys(kinds):
            if kind != "string":
                dtype = np.dtype(_DTYPES[kind])
                places = [place for place, own in enumerate(kinds) if own == kind]
                starts = [fields[f"f{indexes[place]}"][1] for place in places]
                pick = _picker(starts, dtype.itemsize)
                self._groups.append(_Group(dtype, places, pick, _NO_VALUE.get(kind), kind == "bool"))
        nth = {index: number for number, index in enumerate(layout.variable)}
        self._texts = [(place, nth[index]) for place, index in enumerate(indexes) if kinds[place] == "string"]
        self._ends = struct.Struct(f"<{len(layout.variable)}I")

    @staticmethod
    def reads(layout: RowLayout, indexes: Sequence[int]) -> bool:
        """Whether the features are all of types that this knows."""
        return {parse_type(layout.features[index].type).name for index in indexes} <= {*_DTYPES, "string"}

    def arrays(self, row: bytes) -> tuple[list[Array], Mask]:
        """Return an array per feature, and where they are null: a row per feature. Raises StoreCorrupt."""
        flags = b"".join([_ABSENT[byte] for byte in row[self._bitmap]])
        flags = flags[: self._count] if self._order is None else bytes([flags[index] for index in self._order])
        nulls: Mask = np.ndarray((self._count, 1), np.bool_, bytearray(flags))
        some_null = 1 in flags
        found: list[Array] = [nulls] * self._count
        for dtype, places, pick, no_value, is_bool in self._groups:
            data = bytearray(pick(row))
            if is_bool:
                data = data.translate(_TRUTH)
            elif some_null and no_value is not None:
                width = dtype.itemsize
                for nth, place in enumerate(places):
                    if flags[place]:
                        data[nth * width : (nth + 1) * width] = no_value
            items: Array = np.ndarray((len(places), 1), dtype, data)
            for place, item in zip(places, items, strict=True):
                found[place] = item
        if self._texts:
            self._read_texts(row, flags, found)
        return found, nulls

    def _read_texts(self, row: bytes, flags: bytes, found: list[Array]) -> None:
        size = self._size
        ends = self._ends.unpack_from(row, size - self._ends.size)
        if ends[-1] != len(row) - size or (len(ends) > 1 and list(ends) != sorted(ends)):
            raise StoreCorrupt(f"a stored row of schema {self._id:016x} is damaged: its strings do not end where it does")
        try:
            for place, nth in self._texts:
                text = row[size + ends[nth - 1] if nth else size : size + ends[nth]].decode()
                found[place] = array = np.empty(1, dtype=object)
                array[0] = None if flags[place] else text
        except UnicodeDecodeError as error:
            raise StoreCorrupt(f"a stored string is not UTF-8: {error}") from None


def _picker(starts: Sequence[int], width: int) -> Callable[[bytes], bytes]:
    """Return what gives the bytes of slots of one width, one after the other; neighbours are taken together."""
    parts: list[slice] = []
    for start in starts:
        if parts and parts[-1].stop == start:
            parts[-1] = slice(parts[-1].start, start + width)
        else:
            parts.append(slice(start, start + width))
    take = itemgetter(*parts)
    return take if len(parts) == 1 else lambda row: b"".join(take(row))
