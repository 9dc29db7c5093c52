"""Where the columns of one schema lie in its packed rows, and packing and unpacking them, whole columns at once.

The format is that of :mod:`fstore.stores.encoding`. Takes Arrow columns and gives bytes, and back. Knows one schema; which
rows have which, and which of them count, is decided elsewhere.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fstore.arrow import TIMESTAMP
from fstore.errors import StoreCorrupt
from fstore.stores.cells import (
    FixedCell,
    VariableCell,
    cell_of,
    data_of,
    fixed_binary,
    int64_array,
    join,
    offsets_of,
    valid_mask,
)
from fstore.types import Column, parse_type

HEADER = np.dtype([("sequence", ">u8"), ("event_timestamp", ">i8"), ("schema", "<u8")])
HEADER_BYTES = 24

_VERSION = "fstore row 1"
_CHUNK_ROWS = 65_536
_CHUNK_BYTES = 64 * 1024 * 1024


def schema_id(features: Sequence[Column]) -> int:
    """Return the id that rows with these columns carry; it depends on nothing but names, types and their order."""
    lines = [_VERSION, *(f"{column.name} {parse_type(column.type)}" for column in features)]
    return int.from_bytes(hashlib.sha256("\n".join(lines).encode()).digest()[:8], "little") or 1


class RowLayout:
    """Where the columns of one schema lie in its rows."""

    def __init__(self, features: Sequence[Column]) -> None:
        self.id = schema_id(features)
        self.features = tuple(features)
        self.fixed: dict[int, FixedCell] = {}
        self.variable: dict[int, VariableCell] = {}
        for index, column in enumerate(self.features):
            cell = cell_of(parse_type(column.type))
            if isinstance(cell, FixedCell):
                self.fixed[index] = cell
            else:
                self.variable[index] = cell
        fields: list[tuple[str, object, tuple[int, ...]]] = [("header", HEADER, ())]
        fields += [("valid", np.uint8, ((len(self.features) + 7) // 8,))] if self.features else []
        fields += [(f"f{index}", cell.dtype.base, cell.dtype.shape) for index, cell in self.fixed.items()]
        fields += [("ends", "<u4", (len(self.variable),))] if self.variable else []
        self.record = np.dtype(fields)
        self.chunk_rows = max(1, min(_CHUNK_ROWS, _CHUNK_BYTES // self.record.itemsize))

    def encode(self, columns: Sequence[pa.Array], sequence: int) -> list[bytes]:
        """Pack event_timestamp and the features, in order, into rows."""
        instants, features = columns[0], columns[1:]
        count = len(instants)
        records = np.zeros(count, self.record)
        header = records["header"]
        header["sequence"], header["schema"] = sequence, self.id
        header["event_timestamp"] = instants.cast(pa.int64()).to_numpy()
        if features:
            records["valid"] = _bitmaps(features, count)
        for index, cell in self.fixed.items():
            records[f"f{index}"] = cell.pack(features[index])
        cells = [cell.pack(features[index]) for index, cell in self.variable.items()]
        if cells:
            lengths = np.stack([pc.binary_length(cell).to_numpy() for cell in cells], axis=1)
            records["ends"] = np.cumsum(lengths, axis=1)
        return bytes_objects(join(fixed_binary(records), *cells))

    def decode(self, rows: list[bytes], features: Sequence[Column], types: Sequence[pa.DataType]) -> list[pa.Array]:
        """Unpack event_timestamp and the given features from rows of this layout; null where it does not have them."""
        records, cells = self.split(rows)
        valid = np.zeros((len(rows), 0), np.bool_)
        if self.features:
            bits = np.unpackbits(records["valid"], axis=1, count=len(self.features), bitorder="little")
            valid = bits.astype(np.bool_)
        places = {column.name: index for index, column in enumerate(self.features)}
        instants = records["header"]["event_timestamp"].astype(np.int64)
        columns = [pa.Array.from_buffers(TIMESTAMP, len(rows), [None, pa.py_buffer(instants)])]
        for feature, dtype in zip(features, types, strict=True):
            index = places.get(feature.name)
            if index is None:
                columns.append(pa.nulls(len(rows), dtype))
                continue
            self._check_type(self.features[index], feature)
            if index in self.fixed:
                columns.append(self.fixed[index].unpack(records[f"f{index}"], valid[:, index]))
            else:
                columns.append(self.variable[index].unpack(cells[index], valid[:, index]))
        return columns

    def split(self, rows: list[bytes]) -> tuple[npt.NDArray[np.void], dict[int, pa.Array]]:
        """Return the fixed parts of rows and, for each variable column, its cells."""
        size = self.record.itemsize
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        wrong = lengths < size if self.variable else lengths != size
        if wrong.any():
            raise StoreCorrupt(
                f"a stored row has {lengths[wrong][0]} bytes; its schema {self.id:016x} has {size} fixed ones"
            )
        if not self.variable:
            return np.frombuffer(b"".join(rows), self.record), {}
        records = np.frombuffer(b"".join([row[:size] for row in rows]), self.record)
        ends = records["ends"].astype(np.int64)
        if (np.diff(ends, axis=1, prepend=0) < 0).any() or (ends[:, -1] != lengths - size).any():
            raise StoreCorrupt(f"a stored row of schema {self.id:016x} is damaged: its strings do not end where it does")
        data = b"".join([row[size:] for row in rows])
        starts = np.cumsum(lengths - size) - (lengths - size)
        offsets = np.zeros(ends.size + 1, np.int64)
        offsets[1:] = (ends + starts[:, None]).reshape(-1)
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
        everything = pa.Array.from_buffers(pa.large_binary(), ends.size, buffers)
        width = len(self.variable)
        if width == 1:
            return records, dict.fromkeys(self.variable, everything)
        steps = np.arange(len(rows), dtype=np.int64) * width
        return records, {index: everything.take(int64_array(steps + nth)) for nth, index in enumerate(self.variable)}

    def _check_type(self, stored: Column, wanted: Column) -> None:
        if parse_type(stored.type) != parse_type(wanted.type):
            raise StoreCorrupt(
                f"feature {wanted.name!r} is {wanted.type}, but rows of schema {self.id:016x} in the same generation hold "
                f"{stored.type}: a change of type needs a generation of its own"
            )


def bytes_objects(array: pa.Array) -> list[bytes]:
    """Slice one big buffer into a bytes object per value; Arrow's own conversions would import pandas."""
    offsets = offsets_of(array)
    lengths = np.diff(offsets)
    if len(lengths) and lengths[0] and (lengths == lengths[0]).all():
        values = data_of(array)[offsets[0] : offsets[-1]].view(np.dtype((np.void, int(lengths[0]))))
        return cast("list[bytes]", values.tolist())
    data = data_of(array)[offsets[0] : offsets[-1]].tobytes()
    return list(map(io.BytesIO(data).read, lengths.tolist()))


def _bitmaps(features: Sequence[pa.Array], count: int) -> npt.NDArray[np.uint8]:
    """Return one bitmap per row: a bit per feature, set where there is a value."""
    places = np.arange(len(features))
    full = np.packbits(places >= 0, bitorder="little")
    bitmaps = np.repeat(full[None, :], count, axis=0)
    for index, array in enumerate(features):
        if array.null_count:
            bitmaps[:, index // 8] &= ~((~valid_mask(array)).view(np.uint8) << (index % 8))
    return bitmaps
