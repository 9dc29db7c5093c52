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

import struct
from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fstore.arrow import TIMESTAMP, arrow_type
from fstore.errors import EntityColumnError, StoreCorrupt, StoreError, listing
from fstore.stores.cells import (
    FixedCell,
    bool_array,
    fixed_binary,
    int64_array,
    join,
)
from fstore.stores.row_layout import HEADER, HEADER_BYTES, RowLayout, bytes_objects, schema_id
from fstore.types import Column, DataType, parse_type

PRESENT = "present"
EVENT_TIMESTAMP = "event_timestamp"
TOMBSTONE_SCHEMA = 0

_HEADER_STRUCT = struct.Struct(">Qq8x")


def row_sequence(row: bytes) -> int:
    """Return the sequence in a row's header."""
    return int.from_bytes(row[:8], "big")


class RowCodec:
    """Packs and unpacks the rows of one view: keys, features and their types as they are now."""

    def __init__(self, keys: Sequence[Column], features: Sequence[Column]) -> None:
        self.keys, self.features = tuple(keys), tuple(features)
        self.schema_id = schema_id(self.features)
        self._layout = RowLayout(self.features)
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
        columns = [_column(batch, EVENT_TIMESTAMP, TIMESTAMP)]
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
        self._layouts = {identifier: RowLayout(columns) for identifier, columns in known.items()}
        self._types = [arrow_type(parse_type(column.type)) for column in self.features]
        self.schema = pa.schema(
            [(PRESENT, pa.bool_()), (EVENT_TIMESTAMP, TIMESTAMP)]
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
        headers = np.frombuffer(b"".join([row[:HEADER_BYTES] for row in stored]), HEADER)
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
    return bytes_objects(join(*parts))


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


def _is_text(type: pa.DataType) -> bool:
    return bool(pa.types.is_string(type) or pa.types.is_large_string(type) or pa.types.is_string_view(type))
