"""Cells: the bytes of one column's values inside packed rows.

Takes an Arrow array of one type and gives numpy values of a fixed width, or one byte string per value for strings, binary,
lists and maps; and back. Bits survive: NaN payloads, -0.0 and null items of lists, maps and vectors come back as they
were, entries of maps in their order. Null values are zeros or empty here; which values are null is the row's bitmap, not
the cell's. No Python loop runs over values, save for reading lists of strings.
"""

from __future__ import annotations

import struct
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fstore.arrow import arrow_type
from fstore.errors import StoreCorrupt
from fstore.types import DataType

Mask: TypeAlias = npt.NDArray[np.bool_]
Offsets: TypeAlias = npt.NDArray[np.int64]
Values: TypeAlias = npt.NDArray[np.generic]

_WIDTHS = {"bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "float32": 4, "date": 4,
           "int64": 8, "uint64": 8, "float64": 8, "timestamp": 8}  # fmt: skip
_ITEM_LENGTH = struct.Struct("<BI")
_COUNT_BYTES = 4


class FixedCell:
    """Values of a fixed width. ``dtype`` is what a value takes up in a row: raw bits, so that no arithmetic touches them."""

    def __init__(self, type: DataType) -> None:
        self.type, self.arrow_type = type, arrow_type(type)
        if type.name == "vector" and type.item is not None:
            self.item_bytes = _WIDTHS[type.item.name]
            self.dtype = np.dtype((np.uint8, (type.size * self.item_bytes + (type.size + 7) // 8,)))
        elif type.name == "decimal":
            self.dtype = np.dtype(("<u8", (2,)))
        else:
            self.dtype = np.dtype(f"<u{_WIDTHS[type.name]}")

    def pack(self, array: pa.Array) -> Values:
        """Return the values as ``dtype``, zero where null."""
        if self.type.name == "vector":
            values = self._pack_vector(array)
        elif self.type.name == "bool":
            values = _raw(array.cast(pa.uint8()), self.dtype)
        else:
            values = _raw(array, self.dtype)
        if array.null_count:
            values = values.copy()
            values[~valid_mask(array)] = 0
        return values

    def unpack(self, values: Values, valid: Mask) -> pa.Array:
        """Return the Arrow array of values as :meth:`pack` gave them."""
        count, validity = len(values), validity_buffer(valid)
        values = np.ascontiguousarray(values)
        if self.type.name == "vector":
            return pa.Array.from_buffers(self.arrow_type, count, [validity], children=[self._unpack_items(values)])
        data = np.packbits(values != 0, bitorder="little") if self.type.name == "bool" else values
        return pa.Array.from_buffers(self.arrow_type, count, [validity, pa.py_buffer(data)])

    def _pack_vector(self, array: pa.Array) -> Values:
        size, count = self.type.size, len(array)
        items = array.values.slice(array.offset * size, count * size)
        values = np.zeros((count, self.dtype.shape[0]), np.uint8)
        kept = valid_mask(items)
        raw = _raw(items, np.dtype(f"<u{self.item_bytes}"))
        if items.null_count:
            raw = np.where(kept, raw, 0).astype(raw.dtype)
        values[:, : size * self.item_bytes] = raw.view(np.uint8).reshape(count, size * self.item_bytes)
        values[:, size * self.item_bytes :] = np.packbits(kept.reshape(count, size), axis=1, bitorder="little")
        return values

    def _unpack_items(self, values: Values) -> pa.Array:
        size = self.type.size
        kept = np.unpackbits(
            values[:, size * self.item_bytes :].view(np.uint8), axis=1, count=size, bitorder="little"
        ).astype(np.bool_)
        data = np.ascontiguousarray(values[:, : size * self.item_bytes])
        buffers = [validity_buffer(kept.reshape(-1)), pa.py_buffer(data)]
        return pa.Array.from_buffers(self.arrow_type.value_type, len(values) * size, buffers)


class BytesCell:
    """Strings and binary: their bytes."""

    def __init__(self, type: DataType) -> None:
        self.type, self.arrow_type = type, arrow_type(type)

    def pack(self, array: pa.Array) -> pa.Array:
        """Return one large_binary per value, empty where null."""
        return array.cast(pa.large_binary()).fill_null(NOTHING)

    def unpack(self, cells: pa.Array, valid: Mask) -> pa.Array:
        """Return the Arrow array of cells as :meth:`pack` gave them. Raises StoreCorrupt on bytes that are not UTF-8."""
        try:
            return pc.if_else(bool_array(valid), cells, None).cast(self.arrow_type)
        except pa.ArrowInvalid as error:
            raise StoreCorrupt(f"a stored string is not UTF-8: {error}") from None


class ListCell:
    """Lists: their items one after the other, each with a byte that says whether it is there."""

    def __init__(self, type: DataType) -> None:
        if type.item is None:
            raise ValueError(f"{type} has no item type")
        self.type, self.arrow_type = type, arrow_type(type)
        self.item = FixedCell(type.item) if type.item.name not in ("string", "binary") else BytesCell(type.item)
        if isinstance(self.item, FixedCell):
            self.item_dtype = np.dtype([("valid", np.uint8), ("value", self.item.dtype)])

    def pack(self, array: pa.Array) -> pa.Array:
        """Return one large_binary per value, empty where null."""
        ends = array.offsets.to_numpy().astype(np.int64)
        items = array.values.slice(ends[0], ends[-1] - ends[0])
        ends = ends - ends[0]
        kept = valid_mask(items)
        if isinstance(self.item, FixedCell):
            records = np.zeros(len(items), self.item_dtype)
            records["valid"], records["value"] = kept, self.item.pack(items)
            cells = _binary(ends * self.item_dtype.itemsize, records.view(np.uint8))
        else:
            texts = self.item.pack(items)
            heads = np.zeros(len(items), np.dtype([("valid", np.uint8), ("length", "<u4")]))
            heads["valid"], heads["length"] = kept, pc.binary_length(texts).to_numpy()
            joined = join(fixed_binary(heads), texts)
            cells = _binary(offsets_of(joined)[ends], data_of(joined))
        if array.null_count:
            cells = pc.if_else(array.is_valid(), cells, NOTHING)
        return cells

    def unpack(self, cells: pa.Array, valid: Mask) -> pa.Array:
        """Return the Arrow array of cells as :meth:`pack` gave them. Raises StoreCorrupt on a cell cut short."""
        offsets, data = offsets_of(cells), data_of(cells)
        if isinstance(self.item, FixedCell):
            ends, remainder = np.divmod(offsets - offsets[0], self.item_dtype.itemsize)
            if remainder.any():
                raise StoreCorrupt(f"a stored {self.type} is cut short")
            records = np.frombuffer(data[offsets[0] : offsets[-1]].tobytes(), self.item_dtype)
            items = self.item.unpack(records["value"], records["valid"] != 0)
        else:
            ends, texts = self._read_texts(cells)
            lengths = np.fromiter((len(text or b"") for text in texts), np.int64, len(texts))
            data = np.frombuffer(b"".join([text or b"" for text in texts]), np.uint8)
            present = np.fromiter((text is not None for text in texts), np.bool_, len(texts))
            items = self.item.unpack(_binary(np.concatenate([[0], np.cumsum(lengths)]), data), present)
        buffers = [validity_buffer(valid), pa.py_buffer(ends.astype(np.int32))]
        return pa.Array.from_buffers(self.arrow_type, len(cells), buffers, children=[items])

    def _read_texts(self, cells: pa.Array) -> tuple[Offsets, list[bytes | None]]:
        texts: list[bytes | None] = []
        ends = [0]
        for cell in cells.to_pylist():
            at = 0
            while at < len(cell):
                if at + _ITEM_LENGTH.size > len(cell):
                    raise StoreCorrupt(f"a stored {self.type} is cut short")
                present, length = _ITEM_LENGTH.unpack_from(cell, at)
                at += _ITEM_LENGTH.size + length
                if at > len(cell):
                    raise StoreCorrupt(f"a stored {self.type} is cut short")
                texts.append(cell[at - length : at] if present else None)
            ends.append(len(texts))
        return np.array(ends, np.int64), texts


class MapCell:
    """Maps: the number of entries, a record per entry, the bytes of the keys, the bytes of values that are strings.

    A record is the end of its key among the keys, a byte that says whether its value is there, and the value or its end.
    """

    def __init__(self, type: DataType) -> None:
        if type.item is None:
            raise ValueError(f"{type} has no item type")
        self.type, self.arrow_type = type, arrow_type(type)
        self.item = FixedCell(type.item) if type.item.name not in ("string", "binary") else BytesCell(type.item)
        value = self.item.dtype if isinstance(self.item, FixedCell) else np.dtype("<u4")
        self.record = np.dtype([("key_end", "<u4"), ("valid", np.uint8), ("value", value)])

    def pack(self, array: pa.Array) -> pa.Array:
        """Return one large_binary per value, empty where null."""
        ends = array.offsets.to_numpy().astype(np.int64)
        first, entries = int(ends[0]), int(ends[-1] - ends[0])
        ends = ends - first
        keys, items = array.keys.slice(first, entries).cast(pa.large_binary()), array.items.slice(first, entries)
        records = np.zeros(entries, self.record)
        records["valid"] = valid_mask(items)
        owner = np.repeat(np.arange(len(array)), np.diff(ends))
        key_ends = offsets_of(keys)
        records["key_end"] = key_ends[1:] - key_ends[ends[:-1]][owner]
        parts = [_binary(key_ends[ends], data_of(keys))]
        if isinstance(self.item, FixedCell):
            records["value"] = self.item.pack(items)
        else:
            texts = self.item.pack(items)
            text_ends = offsets_of(texts)
            records["value"] = text_ends[1:] - text_ends[ends[:-1]][owner]
            parts.append(_binary(text_ends[ends], data_of(texts)))
        counts = fixed_binary(np.diff(ends).astype("<u4"))
        cells = join(counts, _binary(ends * self.record.itemsize, records.view(np.uint8)), *parts)
        return pc.if_else(array.is_valid(), cells, NOTHING) if array.null_count else cells

    def unpack(self, cells: pa.Array, valid: Mask) -> pa.Array:
        """Return the Arrow array of cells as :meth:`pack` gave them. Raises StoreCorrupt on a cell cut short."""
        offsets, data = offsets_of(cells), data_of(cells)
        sizes, starts = np.diff(offsets), offsets[:-1]
        filled = sizes > 0
        counts = np.zeros(len(cells), np.int64)
        if (sizes[filled] < _COUNT_BYTES).any():
            raise self._damage()
        counts[filled] = _gather(data, starts[filled], np.full(filled.sum(), _COUNT_BYTES)).view("<u4")
        heads = counts * self.record.itemsize
        starts = starts + np.where(filled, _COUNT_BYTES, 0)
        if (starts + heads > offsets[1:]).any():
            raise self._damage()
        records = _gather(data, starts, heads).view(self.record)
        ends = np.concatenate([[0], np.cumsum(counts)])
        key_offsets, key_bytes = self._ends(records["key_end"], counts, ends)
        starts = starts + heads
        texts = isinstance(self.item, BytesCell)
        value_offsets, value_bytes = self._ends(records["value"], counts, ends) if texts else (ends, np.zeros_like(counts))
        if (starts + key_bytes + value_bytes != offsets[1:]).any():
            raise self._damage()
        present = records["valid"] != 0
        keys = _binary(key_offsets, _gather(data, starts, key_bytes))
        if isinstance(self.item, FixedCell):
            items = self.item.unpack(records["value"], present)
        else:
            items = self.item.unpack(_binary(value_offsets, _gather(data, starts + key_bytes, value_bytes)), present)
        entries = pa.StructArray.from_arrays(
            [_KEYS.unpack(keys, np.ones(len(keys), np.bool_)), items],
            fields=[self.arrow_type.key_field, self.arrow_type.item_field],
        )
        buffers = [validity_buffer(valid), pa.py_buffer(ends.astype(np.int32))]
        return pa.Array.from_buffers(self.arrow_type, len(cells), buffers, children=[entries])

    def _ends(self, ends: Values, counts: Offsets, firsts: Offsets) -> tuple[Offsets, Offsets]:
        """Return offsets over all cells, and bytes per cell, from the ends that each cell counts from its own beginning."""
        within = ends.astype(np.int64)
        begins = np.concatenate([[0], within[:-1]])[: len(within)]
        begins[firsts[:-1][counts > 0]] = 0
        if (within < begins).any():
            raise self._damage()
        totals = np.zeros(len(counts), np.int64)
        totals[counts > 0] = within[firsts[1:][counts > 0] - 1]
        return np.concatenate([[0], np.cumsum(within - begins)]), totals

    def _damage(self) -> StoreCorrupt:
        return StoreCorrupt(f"a stored {self.type} is cut short")


VariableCell = BytesCell | ListCell | MapCell
Cell = FixedCell | BytesCell | ListCell | MapCell


def cell_of(type: DataType) -> Cell:
    """Return the cell of a type."""
    if type.name in ("string", "binary"):
        return BytesCell(type)
    if type.name == "map":
        return MapCell(type)
    return ListCell(type) if type.name == "list" else FixedCell(type)


_KEYS = BytesCell(DataType(name="string"))


# -- Arrow and numpy --------------------------------------------------------------------------------------------------


def valid_mask(array: pa.Array) -> Mask:
    """Return which values are not null."""
    if not array.null_count:
        return np.ones(len(array), np.bool_)
    return array.is_valid().to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def validity_buffer(valid: Mask) -> pa.Buffer | None:
    """Return Arrow's validity bitmap, or None when every value is there."""
    return None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))


def bool_array(values: Mask) -> pa.Array:
    """Return an Arrow array of booleans; ``pa.array`` would import pandas, which takes a second."""
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, pa.py_buffer(np.packbits(values, bitorder="little"))])


def int64_array(values: Offsets, valid: Mask | None = None) -> pa.Array:
    """Return an Arrow array of integers, null where not ``valid``."""
    validity = None if valid is None else validity_buffer(valid)
    return pa.Array.from_buffers(pa.int64(), len(values), [validity, pa.py_buffer(np.ascontiguousarray(values, np.int64))])


def fixed_binary(records: Values) -> pa.Array:
    """Return fixed-width records as a large_binary array over the same memory."""
    offsets = np.arange(len(records) + 1, dtype=np.int64) * records.dtype.itemsize
    return _binary(offsets, records)


def join(*parts: pa.Array) -> pa.Array:
    """Concatenate large_binary arrays value by value."""
    return pc.binary_join_element_wise(*parts, NOTHING) if len(parts) > 1 else parts[0]


def offsets_of(array: pa.Array) -> Offsets:
    """Return the offsets of a large_binary array, one more than its values."""
    return np.frombuffer(array.buffers()[1], np.int64, count=array.offset + len(array) + 1)[array.offset :]


def data_of(array: pa.Array) -> npt.NDArray[np.uint8]:
    """Return the bytes that the offsets of a large_binary array point into."""
    buffer = array.buffers()[2]
    return np.frombuffer(buffer, np.uint8) if buffer is not None else np.zeros(0, np.uint8)


def _gather(data: npt.NDArray[np.uint8], starts: Offsets, lengths: Offsets) -> npt.NDArray[np.uint8]:
    """Return stretches of bytes one after the other."""
    ends = np.cumsum(lengths)
    places = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths)
    gathered: npt.NDArray[np.uint8] = data[places]
    return gathered


def _binary(offsets: Offsets, data: Values) -> pa.Array:
    buffers = [None, pa.py_buffer(np.ascontiguousarray(offsets)), pa.py_buffer(np.ascontiguousarray(data))]
    return pa.Array.from_buffers(pa.large_binary(), len(offsets) - 1, buffers)


def _raw(array: pa.Array, dtype: np.dtype[np.generic]) -> Values:
    """View a primitive array's values as raw bits, whatever lies where it is null."""
    buffer = array.buffers()[1]
    if buffer is None:
        return np.zeros((len(array), *dtype.shape), dtype.base)
    width = dtype.itemsize
    start = array.offset * width // dtype.base.itemsize
    stop = (array.offset + len(array)) * width // dtype.base.itemsize
    return np.frombuffer(buffer, dtype.base, count=stop)[start:].reshape(len(array), *dtype.shape)


NOTHING = _binary(np.zeros(2, np.int64), np.zeros(0, np.uint8))[0]
"""An empty binary as a scalar. (``pa.scalar`` would import pandas.)"""
