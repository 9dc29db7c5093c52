"""Columns put together from rows of many pieces, which come in any order and from several threads.

A column lies as the pieces lie, one row after another, until all are there; then the rows of the addresses are taken from it
in one go, each written once and in order. Numbers of fixed width are kept as they are, every other type as numbers of
entries in a list. Row 0 is null, and so is every row that nothing was put to.
"""

from __future__ import annotations

import contextlib
import mmap
import threading
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fstore.arrays import Mask, joined, number_array, packed_validity, raw_values, truth_array, truths, valid
from fstore.retrieval.row_addresses import Numbers
from fstore.retrieval.row_pieces import is_text

_DECODED_ROWS = 131_072
"""Texts are decoded so many at a time, fewer where they are long."""

_DECODED_BYTES = 2**31 - 1
"""The offsets of an array of texts have 32 bits."""

_ENTRY_BYTES = 8
"""All entries of a dictionary are kept, of so many bytes per row of its piece; of longer ones, those of wanted rows."""

_FEW = 16
"""Of so many rows one or less is wanted: where that is known, only wanted rows are copied."""

_PAGE_BYTES = 2 << 20
"""The size of a large page of memory."""


class GatheredColumn(Protocol):
    """A column that is being put together."""

    @property
    def row_bytes(self) -> int:
        """What a row takes, without entries."""
        ...

    def put(self, column: pa.ChunkedArray, start: int, wanted: Numbers | None) -> bool:
        """Put a piece's column to the rows from ``start`` on; return False if ``wanted`` rows have to be known for that.

        ``wanted`` counts from the piece's first row, and no other rows will be taken.
        """
        ...

    def take(self, rows: Numbers) -> pa.ChunkedArray:
        """Return a row for each number, and forget what was put."""
        ...


def gathered_column(kind: pa.DataType, count: int) -> GatheredColumn:
    """Return a column of a type, for rows with numbers from 1 to ``count``."""
    return _NumberColumn(kind, count) if pa.types.is_primitive(kind) else _EntryColumn(kind, count)


class _NumberColumn:
    """Values as they lie in memory, and a mask of those that are not null."""

    def __init__(self, kind: pa.DataType, count: int) -> None:
        self._kind, self._count = kind, count + 1
        self._raw = pa.uint8() if pa.types.is_boolean(kind) else _UNSIGNED[kind.bit_width]
        self._type = np.dtype(self._raw.to_pandas_dtype())
        self._held: tuple[npt.NDArray[Any], Mask] | None = None
        self._making = threading.Lock()

    @property
    def row_bytes(self) -> int:
        return int(self._type.itemsize) + 1

    def put(self, column: pa.ChunkedArray, start: int, wanted: Numbers | None) -> bool:
        array = _combined(column, self._kind)
        few = wanted is not None and len(wanted) * _FEW <= len(array)
        values, known = self._made(large_pages=not few)
        given = truths(array) if pa.types.is_boolean(self._kind) else raw_values(array.view(self._raw))
        if wanted is not None and few:
            values[start + wanted], known[start + wanted] = given[wanted], valid(array)[wanted]
        else:
            where = slice(start, start + len(array))
            values[where], known[where] = given, valid(array)
        return True

    def take(self, rows: Numbers) -> pa.ChunkedArray:
        (values, known), self._held = self._made(large_pages=False), None
        values = values.take(rows, out=_zeros(len(rows), self._type), mode="clip")  # other modes check, and copy
        known = known.take(rows)
        if pa.types.is_boolean(self._kind):
            return pa.chunked_array([truth_array(values.view(np.bool_), known)])
        return pa.chunked_array([number_array(values, known, type=self._kind)])

    def _made(self, *, large_pages: bool) -> tuple[npt.NDArray[Any], Mask]:
        with self._making:
            if self._held is None:
                values = _zeros(self._count, self._type, large_pages=large_pages)
                self._held = values, _zeros(self._count, _BOOL, large_pages=large_pages)
            return self._held


class _EntryColumn:
    """Numbers of entries: of the dictionaries of all pieces, one behind the other, or of rows as they were taken."""

    def __init__(self, kind: pa.DataType, count: int) -> None:
        self._kind = kind
        self._codes = _zeros(count + 1, _INT32)  # 0 is null
        self._entries: list[pa.Array] = []
        self._entry_count = 1
        self._adding = threading.Lock()

    @property
    def row_bytes(self) -> int:
        return 4

    def put(self, column: pa.ChunkedArray, start: int, wanted: Numbers | None) -> bool:
        array = joined(column)
        where: slice | Numbers
        if pa.types.is_dictionary(array.type):
            codes = cast("Numbers", raw_values(array.indices))
            if wanted is None and array.dictionary.nbytes <= _ENTRY_BYTES * len(array):
                where, known = slice(start, start + len(array)), valid(array)
                codes = codes + np.int32(self._add(array.dictionary))
            elif wanted is None:
                return False
            else:
                where, known = start + wanted, valid(array)[wanted]
                codes = self._add_used(array.dictionary, codes[wanted], known)
        elif wanted is None:
            return False
        else:
            entries = array.take(number_array(wanted)).cast(self._kind)
            where, known = start + wanted, valid(entries)
            codes = np.arange(len(wanted), dtype=np.int32) + np.int32(self._add(entries))
        self._codes[where] = np.where(known, codes, np.int32(0))
        return True

    def take(self, rows: Numbers) -> pa.ChunkedArray:
        codes = self._codes.take(rows)
        del self._codes
        return self._decoded_texts(codes) if is_text(self._kind) else self._decoded(codes)

    def _decoded(self, codes: npt.NDArray[np.int32]) -> pa.ChunkedArray:
        entries = pa.concat_arrays([pa.nulls(1, self._kind), *self._entries])
        return pa.chunked_array([entries.take(number_array(codes))])

    def _decoded_texts(self, codes: npt.NDArray[np.int32]) -> pa.ChunkedArray:
        large = pa.large_binary() if self._kind == pa.binary() else pa.large_string()
        nothing = pa.Array.from_buffers(large, 1, [None, pa.py_buffer(bytes(16)), pa.py_buffer(b"")])
        entries = pa.concat_arrays([nothing, *(one.cast(large) for one in self._entries)])
        longest = pc.max(pc.binary_length(entries)).as_py() or 1
        count = max(1, min(_DECODED_ROWS, _DECODED_BYTES // longest))
        decoded = []
        for first in range(0, len(codes), count):
            some = codes[first : first + count]
            _, offsets, texts = entries.take(number_array(some)).cast(self._kind).buffers()
            # nulls are set here: to take with nulls among the numbers would cost three times as much
            buffers = [packed_validity(some != 0), offsets, texts]
            decoded.append(pa.Array.from_buffers(self._kind, len(some), buffers))
        return pa.chunked_array(decoded, type=self._kind)

    def _add_used(self, dictionary: pa.Array, codes: Numbers, known: Mask) -> Numbers:
        """Keep the entries of a dictionary that known codes have; return the numbers of all codes."""
        used = np.zeros(max(1, len(dictionary)), dtype=np.bool_)
        used[codes[known]] = True
        first = self._add(dictionary.take(number_array(np.flatnonzero(used))))
        number = (np.cumsum(used) + (first - 1)).astype(np.int32)
        return number.take(codes, mode="clip")  # those that are not known may be anything

    def _add(self, entries: pa.Array) -> int:
        """Keep entries; return the number of the first."""
        with self._adding:
            first = self._entry_count
            self._entries.append(entries)
            self._entry_count += len(entries)
            return first


_BOOL, _INT32 = np.dtype(np.bool_), np.dtype(np.int32)
_UNSIGNED = {8: pa.uint8(), 16: pa.uint16(), 32: pa.uint32(), 64: pa.uint64()}


def _zeros(count: int, kind: np.dtype[Any], *, large_pages: bool = True) -> npt.NDArray[Any]:
    """Return zeros: many of them in pages of their own, which the system gets back as soon as they are let go.

    To touch all of them in small pages costs more than to read, copy and take what goes there; a large page is cleared as a
    whole where one value is put to it.
    """
    size = count * kind.itemsize
    if size < _PAGE_BYTES or not hasattr(mmap, "MADV_HUGEPAGE"):
        return np.zeros(count, dtype=kind)
    pages = mmap.mmap(-1, -(-size // _PAGE_BYTES) * _PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if large_pages:
        with contextlib.suppress(OSError):  # kernels without them
            pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, dtype=kind, count=count)


def _combined(column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    """Return a column as one array of a type."""
    return joined(column if column.type == kind else column.cast(kind))
