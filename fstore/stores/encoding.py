"""Packed rows: everything that the online store keeps about one key of one view, as one byte string.

    offset  bytes  what
    0       8      sequence of the publication, unsigned big-endian: stores compare these bytes and look no further
    8       8      event_timestamp in microseconds since 1970 in UTC, signed big-endian
    16      8      schema id, little-endian; 0 marks a tombstone, which ends here
    24      n      null bitmap, one bit per feature, set where there is a value
    ...            fixed-width slots in the order of the features, little-endian, zero where null
    ...     4*k    end of each string, binary or list in the variable section
    ...            variable section

Takes Arrow batches and gives bytes, and back, bit for bit. Whole columns are packed at once; what remains per row is the
bytes object. A row of all nulls is there (a quarantined key); an absent key, a tombstone and a row below the view's floor
are not. Old schemas read as long as the caller knows their columns. This module decides nothing about which row wins.
"""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fstore.arrow import arrow_type
from fstore.errors import EntityColumnError, StoreCorrupt, StoreError, listing
from fstore.stores.cells import (
    FixedCell,
    VariableCell,
    bool_array,
    cell_of,
    data_of,
    fixed_binary,
    int64_array,
    join,
    offsets_of,
    valid_mask,
)
from fstore.types import Column, DataType, parse_type

PRESENT = "present"
EVENT_TIMESTAMP = "event_timestamp"
HEADER_BYTES = 24
TOMBSTONE_SCHEMA = 0

_VERSION = "fstore row 1"
_HEADER = np.dtype([("sequence", ">u8"), ("event_timestamp", ">i8"), ("schema", "<u8")])
_HEADER_STRUCT = struct.Struct(">Qq8x")
_CHUNK_ROWS = 65_536
_CHUNK_BYTES = 64 * 1024 * 1024
_TIMESTAMP = pa.timestamp("us", tz="UTC")


def schema_id(features: Sequence[Column]) -> int:
    """Return the id that rows with these columns carry; it depends on nothing but names, types and their order."""
    lines = [_VERSION, *(f"{column.name} {parse_type(column.type)}" for column in features)]
    return int.from_bytes(hashlib.sha256("\n".join(lines).encode()).digest()[:8], "little") or 1


def row_sequence(row: bytes) -> int:
    """Return the sequence in a row's header."""
    return int.from_bytes(row[:8], "big")


class RowCodec:
    """Packs and unpacks the rows of one view: keys, features and their types as they are now."""

    def __init__(self, keys: Sequence[Column], features: Sequence[Column]) -> None:
        self.keys, self.features = tuple(keys), tuple(features)
        self.schema_id = schema_id(self.features)
        self._layout = _Layout(self.features)
        self._decoder = RowDecoder(self.features)

    def encode_keys(self, table: pa.Table | pa.RecordBatch) -> list[bytes]:
        """Return one byte string per row, equal if and only if the join keys are.

        Integers of any width, and dictionary-encoded strings, are accepted for a key of that kind. Raises EntityColumnError
        when a key column is missing, holds a null, or has another type: a float is never a key.
        """
        columns = [_key_column(table, column) for column in self.keys]
        return _encode_keys(self.keys, columns, table.num_rows)

    def encode_rows(self, batch: pa.RecordBatch | pa.Table, sequence: int) -> list[bytes]:
        """Pack columns ``event_timestamp`` and the features, found by name, into rows of a publication.

        Raises StoreError when a column is missing or does not fit its type, or an event_timestamp is null.
        """
        columns = [_column(batch, EVENT_TIMESTAMP, _TIMESTAMP)]
        columns += [_column(batch, column.name, arrow_type(parse_type(column.type))) for column in self.features]
        if columns[0].null_count:
            raise StoreError(f"column {EVENT_TIMESTAMP!r} holds {columns[0].null_count} nulls: every row has its instant")
        size = self._layout.chunk_rows
        if batch.num_rows <= size:
            return self._layout.encode(columns, sequence)
        starts = range(0, batch.num_rows, size)
        chunks = (self._layout.encode([column.slice(start, size) for column in columns], sequence) for start in starts)
        return list(chain.from_iterable(chunks))

    def tombstones(self, count: int, sequence: int) -> list[bytes]:
        """Return rows that say "nothing here" for keys whose last row a publication withdrew."""
        return [_HEADER_STRUCT.pack(sequence, 0)] * count

    def decode_rows(self, rows: Sequence[bytes | None], floor_sequence: int = 0) -> pa.Table:
        """Unpack rows of this schema; see :meth:`RowDecoder.decode_rows`."""
        return self._decoder.decode_rows(rows, floor_sequence)


class RowDecoder:
    """Unpacks rows into chosen features, from their own schema and from older ones.

    ``schemas`` maps the schema id of rows to their columns; those of ``features`` itself are always known. A feature that an
    older schema does not have is null in its rows.
    """

    def __init__(self, features: Sequence[Column], schemas: Mapping[int, Sequence[Column]] | None = None) -> None:
        self.features = tuple(features)
        known = {schema_id(self.features): self.features, **(schemas or {})}
        self._layouts = {identifier: _Layout(columns) for identifier, columns in known.items()}
        self._types = [arrow_type(parse_type(column.type)) for column in self.features]
        self.schema = pa.schema(
            [(PRESENT, pa.bool_()), (EVENT_TIMESTAMP, _TIMESTAMP)]
            + [(column.name, dtype) for column, dtype in zip(self.features, self._types, strict=True)]
        )

    def decode_rows(self, rows: Sequence[bytes | None], floor_sequence: int = 0) -> pa.Table:
        """Return ``present``, ``event_timestamp`` and the features, one row for each given, in their order.

        Absent (``present`` false, the rest null) are None, tombstones and rows whose sequence is below ``floor_sequence``.
        Raises StoreCorrupt on a row that is cut short or carries an unknown schema id.
        """
        stored = [row for row in rows if row is not None]
        if any(len(row) < HEADER_BYTES for row in stored):
            raise StoreCorrupt(f"a stored row has {min(map(len, stored))} bytes, fewer than its header of {HEADER_BYTES}")
        headers = np.frombuffer(b"".join([row[:HEADER_BYTES] for row in stored]), _HEADER)
        alive = (headers["sequence"] >= floor_sequence) & (headers["schema"] != TOMBSTONE_SCHEMA)
        if alive.all():
            kept, present = stored, np.fromiter((row is not None for row in rows), np.bool_, len(rows))
        else:
            kept = [row for row, lives in zip(stored, alive.tolist(), strict=True) if lives]
            headers = headers[alive]
            present = np.zeros(len(rows), np.bool_)
            present[np.flatnonzero([row is not None for row in rows])[alive]] = True
        columns = self._decode(kept, headers)
        if len(kept) < len(rows):
            places = int64_array(np.cumsum(present) - 1, present)
            columns = [column.take(places) for column in columns]
        return pa.Table.from_arrays([bool_array(present), *columns], schema=self.schema)

    def _decode(self, rows: list[bytes], headers: npt.NDArray[np.void]) -> list[pa.Array]:
        """Decode rows that are all there: by schema, then back into their order."""
        identifiers = np.unique(headers["schema"]).tolist() or [next(iter(self._layouts))]
        if unknown := [identifier for identifier in identifiers if identifier not in self._layouts]:
            raise StoreCorrupt(
                f"a stored row has schema id {unknown[0]:016x}, which is none of those known for this view: "
                f"{listing(f'{identifier:016x}' for identifier in self._layouts)}. It was written by a definition that this "
                "registry does not know, or its bytes are damaged."
            )
        if len(identifiers) == 1:
            return self._layouts[identifiers[0]].decode(rows, self.features, self._types)
        groups = [np.flatnonzero(headers["schema"] == identifier) for identifier in identifiers]
        parts = [
            self._layouts[identifier].decode([rows[index] for index in group.tolist()], self.features, self._types)
            for identifier, group in zip(identifiers, groups, strict=True)
        ]
        order = int64_array(np.argsort(np.concatenate(groups), kind="stable"))
        return [pa.concat_arrays(list(column)).take(order) for column in zip(*parts, strict=True)]


class _Layout:
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
        fields: list[tuple[str, object, tuple[int, ...]]] = [("header", _HEADER, ())]
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
        return _bytes_objects(join(fixed_binary(records), *cells))

    def decode(self, rows: list[bytes], features: Sequence[Column], types: Sequence[pa.DataType]) -> list[pa.Array]:
        """Unpack event_timestamp and the given features from rows of this layout; null where it does not have them."""
        records, cells = self._split(rows)
        valid = np.zeros((len(rows), 0), np.bool_)
        if self.features:
            bits = np.unpackbits(records["valid"], axis=1, count=len(self.features), bitorder="little")
            valid = bits.astype(np.bool_)
        places = {column.name: index for index, column in enumerate(self.features)}
        instants = records["header"]["event_timestamp"].astype(np.int64)
        columns = [pa.Array.from_buffers(_TIMESTAMP, len(rows), [None, pa.py_buffer(instants)])]
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

    def _split(self, rows: list[bytes]) -> tuple[npt.NDArray[np.void], dict[int, pa.Array]]:
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


# -- keys and columns -------------------------------------------------------------------------------------------------


def _encode_keys(keys: Sequence[Column], columns: Sequence[pa.Array], rows: int) -> list[bytes]:
    """Join the key's columns: numbers big-endian, strings with their length before them unless they come last."""
    if not rows:
        return []
    parts: list[pa.Array] = []
    for position, (column, array) in enumerate(zip(keys, columns, strict=True)):
        if column.type != "string":
            parts.append(fixed_binary(_ordered(array, parse_type(column.type))))
            continue
        cell = array.cast(pa.large_binary())
        if position < len(keys) - 1:
            parts.append(fixed_binary(pc.binary_length(cell).to_numpy().astype(">u4")))
        parts.append(cell)
    return _bytes_objects(join(*parts))


def _ordered(array: pa.Array, type: DataType) -> npt.NDArray[np.generic]:
    """Return numbers big-endian with the sign bit flipped, so that bytes sort as the numbers do."""
    values = FixedCell(type).pack(array)
    if type.name in ("date", "int8", "int16", "int32", "int64"):
        values = np.bitwise_xor(values, values.dtype.type(1 << (values.dtype.itemsize * 8 - 1)))
    return values.astype(values.dtype.newbyteorder(">"))


def _key_column(table: pa.Table | pa.RecordBatch, column: Column) -> pa.Array:
    if column.name not in table.schema.names:
        raise EntityColumnError(f"join key {column.name!r} is missing; the columns are {listing(table.schema.names)}")
    array = _combined(table.column(column.name))
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    target = arrow_type(parse_type(column.type))
    fits = array.type == target or any(
        matches(array.type) and matches(target) for matches in (pa.types.is_integer, _is_text, pa.types.is_date)
    )
    if not fits:
        raise EntityColumnError(f"join key {column.name!r} is {column.type}, but the given column is {array.type}")
    if array.null_count:
        raise EntityColumnError(f"join key {column.name!r} holds {array.null_count} nulls: a null identifies no entity")
    try:
        return array.cast(target)
    except pa.ArrowInvalid as error:
        raise EntityColumnError(f"join key {column.name!r} does not fit {column.type}: {error}") from None


def _column(batch: pa.RecordBatch | pa.Table, name: str, type: pa.DataType) -> pa.Array:
    if name not in batch.schema.names:
        raise StoreError(f"column {name!r} is missing from the rows to encode: {listing(batch.schema.names)}")
    array = _combined(batch.column(name))
    if array.type == type:
        return array
    try:
        return array.cast(type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise StoreError(f"column {name!r} is {array.type}, which does not fit {type}: {error}") from None


def _combined(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    if not isinstance(column, pa.ChunkedArray):
        return column
    combined = column.combine_chunks()
    return pa.concat_arrays(combined.chunks) if isinstance(combined, pa.ChunkedArray) else combined


def _bitmaps(features: Sequence[pa.Array], count: int) -> npt.NDArray[np.uint8]:
    """Return one bitmap per row: a bit per feature, set where there is a value."""
    places = np.arange(len(features))
    full = np.packbits(places >= 0, bitorder="little")
    bitmaps = np.repeat(full[None, :], count, axis=0)
    for index, array in enumerate(features):
        if array.null_count:
            bitmaps[:, index // 8] &= ~((~valid_mask(array)).view(np.uint8) << (index % 8))
    return bitmaps


def _is_text(type: pa.DataType) -> bool:
    return bool(pa.types.is_string(type) or pa.types.is_large_string(type) or pa.types.is_string_view(type))


def _bytes_objects(array: pa.Array) -> list[bytes]:
    """Slice one big buffer into a bytes object per value; Arrow's own conversions would import pandas."""
    offsets = offsets_of(array)
    lengths = np.diff(offsets)
    if len(lengths) and lengths[0] and (lengths == lengths[0]).all():
        values = data_of(array)[offsets[0] : offsets[-1]].view(np.dtype((np.void, int(lengths[0]))))
        return cast("list[bytes]", values.tolist())
    data = data_of(array)[offsets[0] : offsets[-1]].tobytes()
    return list(map(io.BytesIO(data).read, lengths.tolist()))
