"""Columns put together from rows of many pieces, which come in any order and from several threads.

Numbers of fixed width go into an array, texts become numbers of entries in dictionaries, and every other type is kept piece
by piece until the end. Takes the column of a piece, rows of it, and the places where they go, which no two pieces share;
gives a column of the declared type, null where nothing was put.
"""

from __future__ import annotations

import threading
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fstore.arrays import joined, number_array, raw_values, truth_array, truths, valid
from fstore.retrieval.row_addresses import Numbers
from fstore.retrieval.row_pieces import is_text

_DECODED_ROWS = 131_072
"""Texts are decoded so many at a time, fewer where they are long."""

_DECODED_BYTES = 2**31 - 1
"""The offsets of an array of texts have 32 bits."""

_MOVED_ROWS = 8_192


class GatheredColumn(Protocol):
    """A column that is being put together."""

    def put(self, column: pa.ChunkedArray, rows: Numbers, places: Numbers) -> None:
        """Put rows of a piece's column to their places."""
        ...

    def finish(self) -> pa.ChunkedArray:
        """Return the column."""
        ...


def gathered_column(kind: pa.DataType, count: int) -> GatheredColumn:
    """Return a column of so many nulls of a type."""
    if pa.types.is_primitive(kind):
        return _NumberColumn(kind, count)
    return _TextColumn(kind, count) if is_text(kind) else _OtherColumn(kind, count)


class _NumberColumn:
    """Values as they lie in memory, and a mask of those that are not null."""

    def __init__(self, kind: pa.DataType, count: int) -> None:
        self._kind, self._valid = kind, np.zeros(count, dtype=np.bool_)
        self._raw = pa.uint8() if pa.types.is_boolean(kind) else _UNSIGNED[kind.bit_width]
        self._values = np.zeros(count, dtype=self._raw.to_pandas_dtype())

    def put(self, column: pa.ChunkedArray, rows: Numbers, places: Numbers) -> None:
        array = _combined(column, self._kind)
        values = truths(array) if pa.types.is_boolean(self._kind) else raw_values(array.view(self._raw))
        _move(values, rows, self._values, places)
        if array.null_count:
            _move(valid(array), rows, self._valid, places)
        else:
            self._valid[places] = True

    def finish(self) -> pa.ChunkedArray:
        if pa.types.is_boolean(self._kind):
            return pa.chunked_array([truth_array(self._values.view(np.bool_), self._valid)])
        return pa.chunked_array([number_array(self._values, self._valid, type=self._kind)])


class _TextColumn:
    """Numbers of entries in the dictionaries of all pieces, one behind the other."""

    def __init__(self, kind: pa.DataType, count: int) -> None:
        self._kind, self._valid = kind, np.zeros(count, dtype=np.bool_)
        self._codes = np.zeros(count, dtype=np.int32)
        self._entries: list[pa.Array] = []
        self._entry_count = 0
        self._adding = threading.Lock()

    def put(self, column: pa.ChunkedArray, rows: Numbers, places: Numbers) -> None:
        dictionary = pa.types.is_dictionary(column.type)
        if dictionary and sum(len(chunk.dictionary) for chunk in column.chunks) <= len(rows):
            entries = [chunk.dictionary for chunk in column.chunks]
            starts = np.cumsum([0, *map(len, entries)])
            each = zip(column.chunks, starts[:-1], strict=True)
            codes = np.concatenate([raw_values(chunk.indices) + start for chunk, start in each])[rows]
            known = np.concatenate([valid(chunk) for chunk in column.chunks])[rows]
        else:  # fewer rows than entries: their own values are the entries
            taken = joined(column).take(number_array(rows)).cast(self._kind)
            entries, codes, known = [taken], np.arange(len(rows)), valid(taken)
        self._valid[places] = known
        self._codes[places] = codes + self._add(entries)

    def finish(self) -> pa.ChunkedArray:
        large = pa.large_binary() if self._kind == pa.binary() else pa.large_string()
        entries = pa.concat_arrays([pa.nulls(0, large), *(one.cast(large) for one in self._entries)])
        longest = pc.max(pc.binary_length(entries)).as_py() or 1
        count = max(1, min(_DECODED_ROWS, _DECODED_BYTES // longest))
        decoded = []
        for start in range(0, len(self._codes), count):
            chosen = slice(start, start + count)
            decoded.append(entries.take(number_array(self._codes[chosen], self._valid[chosen])).cast(self._kind))
        return pa.chunked_array(decoded, type=self._kind)

    def _add(self, entries: list[pa.Array]) -> int:
        """Keep entries; return the number of the first."""
        with self._adding:
            first = self._entry_count
            self._entries += entries
            self._entry_count += sum(map(len, entries))
            return first


class _OtherColumn:
    """Rows of each piece as they were taken, and the places of all."""

    def __init__(self, kind: pa.DataType, count: int) -> None:
        self._kind, self._count = kind, count
        self._taken: list[tuple[pa.Array, Numbers]] = []

    def put(self, column: pa.ChunkedArray, rows: Numbers, places: Numbers) -> None:
        self._taken.append((_combined(column.take(number_array(rows)), self._kind), places))

    def finish(self) -> pa.ChunkedArray:
        taken = list(self._taken)
        order = np.full(self._count, -1, dtype=np.int64)
        places = np.concatenate([np.zeros(0, np.int64), *(where for _, where in taken)])
        order[places] = np.arange(len(places))
        values = pa.concat_arrays([pa.nulls(0, self._kind), *(array for array, _ in taken)])
        return pa.chunked_array([values.take(number_array(order, order >= 0))])


_UNSIGNED = {8: pa.uint8(), 16: pa.uint16(), 32: pa.uint32(), 64: pa.uint64()}


def _move(values: npt.NDArray[np.generic], rows: Numbers, target: npt.NDArray[np.generic], places: Numbers) -> None:
    """Copy values to places of another array, a few at a time: what lies in between stays in the processor's cache."""
    for start in range(0, len(rows), _MOVED_ROWS):
        some = slice(start, start + _MOVED_ROWS)
        target[places[some]] = values.take(rows[some], mode="clip")  # clipping nothing: the mode without a check


def _combined(column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    """Return a column as one array of a type."""
    return joined(column if column.type == kind else column.cast(kind))
