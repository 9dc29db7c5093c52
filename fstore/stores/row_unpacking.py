"""Read chosen features out of a few packed rows as Python values, a row at a time.

What :meth:`~fstore.stores.row_values.RowValues.lists` does for many rows with numpy, whose every call costs as much as a
whole row here. Takes rows that all have one schema; knows numbers, bools and strings, of which rows mostly are.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from fstore.errors import StoreCorrupt
from fstore.stores.row_layout import HEADER_BYTES, RowLayout
from fstore.types import parse_type

_CODES = {"float64": "d", "float32": "f", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i",
          "uint32": "I", "int64": "q", "uint64": "Q", "bool": "?"}  # fmt: skip


class RowUnpacker:
    """Reads some features of rows of one schema, one after the other."""

    def __init__(self, layout: RowLayout, indexes: Sequence[int]) -> None:
        """Prepare to read the features at some indexes of the schema, each a number, a bool or a string."""
        self._id, self._size = layout.id, layout.record.itemsize
        self._valid = slice(HEADER_BYTES, HEADER_BYTES + (len(layout.features) + 7) // 8)
        codes: list[str] = []
        position: dict[int, int] = {}
        for index, cell in layout.fixed.items():
            code = _CODES.get(parse_type(layout.features[index].type).name)
            if code is not None:
                position[index] = len(position)
            codes.append(code or f"{cell.dtype.itemsize}x")
        self._ends = len(position)
        codes += ["I"] * len(layout.variable)
        self._several = len(layout.variable) > 1
        self._fields = struct.Struct("<" + "".join(codes))
        nth = {index: number for number, index in enumerate(layout.variable)}
        self._positions = [position.get(index, 0) for index in indexes]
        self._texts = [(place, nth[index]) for place, index in enumerate(indexes) if index in nth]
        self._bits = [(place, 1 << index) for place, index in enumerate(indexes)]
        self._all = sum(bit for _, bit in self._bits)

    @staticmethod
    def reads(layout: RowLayout, indexes: Sequence[int]) -> bool:
        """Whether the features are all of types that this knows."""
        kinds = {parse_type(layout.features[index].type).name for index in indexes}
        return kinds <= {*_CODES, "string"} and bool(indexes)

    def lists(self, rows: Sequence[bytes]) -> list[list[object]]:
        """Return a list of values per feature, None where null. Raises StoreCorrupt; there has to be a row."""
        try:
            if len(rows) == 1:
                return [[value] for value in self._values(rows[0])]
            return list(map(list, zip(*map(self._values, rows), strict=True)))
        except UnicodeDecodeError as error:
            raise StoreCorrupt(f"a stored string is not UTF-8: {error}") from None

    def _values(self, row: bytes) -> list[object]:
        fields = self._fields.unpack_from(row, self._valid.stop)
        values: list[object] = [fields[position] for position in self._positions]
        size, ends = self._size, fields[self._ends :]
        if ends and (ends[-1] != len(row) - size or (self._several and list(ends) != sorted(ends))):
            raise StoreCorrupt(f"a stored row of schema {self._id:016x} is damaged: its strings do not end where it does")
        for place, nth in self._texts:
            values[place] = row[size + ends[nth - 1] if nth else size : size + ends[nth]].decode()
        valid = int.from_bytes(row[self._valid], "little")
        if valid & self._all != self._all:
            for place, bit in self._bits:
                if not valid & bit:
                    values[place] = None
        return values
