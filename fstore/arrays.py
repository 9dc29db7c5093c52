"""Arrow arrays as numpy arrays and back, over the same memory.

``pyarrow`` converts through pandas, which it imports for that wherever it is installed: a third of a second and 40 MB for a
reader who has no use for it. What is done here needs numpy only. Types are fixed-width or boolean; there is no other.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Mask = npt.NDArray[np.bool_]


def raw_values(array: pa.Array) -> npt.NDArray[np.generic]:
    """Return numbers as they lie in memory, whatever is there for nulls; the buffer may end anywhere behind them."""
    buffer, kind = array.buffers()[1], array.type.to_pandas_dtype()
    if buffer is None:
        return np.zeros(len(array), dtype=kind)
    return np.frombuffer(buffer, kind, count=array.offset + len(array))[array.offset :]


def truths(array: pa.BooleanArray) -> Mask:
    """Return where an array is true; for nulls, whatever lies there."""
    return _bits(array.buffers()[1], array.offset, len(array))


def valid(array: pa.Array) -> Mask:
    """Return where an array is not null."""
    if not array.null_count:
        return np.ones(len(array), dtype=np.bool_)
    return _bits(array.buffers()[0], array.offset, len(array))


def number_array(values: npt.NDArray[np.number], valid: Mask | None = None, *, type: pa.DataType | None = None) -> pa.Array:
    """Return numbers as an array of their type, or of another one of the same width, null where they are not valid."""
    contiguous = np.ascontiguousarray(values)
    kind = pa.from_numpy_dtype(contiguous.dtype) if type is None else type
    return pa.Array.from_buffers(kind, len(contiguous), [packed_validity(valid), pa.py_buffer(contiguous)])


def truth_array(values: Mask, valid: Mask | None = None) -> pa.BooleanArray:
    """Return truths as an array, null where they are not valid."""
    return pa.Array.from_buffers(pa.bool_(), len(values), [packed_validity(valid), _packed(values)])


def packed_validity(valid: Mask | None) -> pa.Buffer | None:
    """Return the buffer of an array that is null where it is not valid, which is none where everything is."""
    return None if valid is None or valid.all() else _packed(valid)


def joined(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array; without a copy where it is one already."""
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays([pa.nulls(0, column.type), *column.chunks])


def _bits(buffer: pa.Buffer | None, offset: int, count: int) -> Mask:
    if buffer is None:
        return np.zeros(count, dtype=np.bool_)
    first = offset // 8
    held = np.frombuffer(buffer, np.uint8, count=(offset + count + 7) // 8)[first:]
    bits = np.unpackbits(held, bitorder="little")
    return bits[offset - 8 * first :][:count].view(np.bool_)


def _packed(values: Mask) -> pa.Buffer:
    return pa.py_buffer(np.packbits(values, bitorder="little"))
