"""Arrow: the logical types of ``fstore.types`` as Arrow types, identities of schemas, and content hashes of rows.

Takes types as text or :class:`DataType` and gives ``pyarrow`` types, and back. A timestamp is always
``timestamp('us', tz='UTC')``, a vector a fixed-size list, a decimal ``decimal128``, a map ``map<string, …>``. Reads and
writes no file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fstore.arrays import raw_values, truths, valid
from fstore.types import Column, DataType, parse_type

TIMESTAMP = pa.timestamp("us", tz="UTC")
"""The Arrow type of every instant."""

_SCALARS: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "uint8": pa.uint8(),
    "uint16": pa.uint16(),
    "uint32": pa.uint32(),
    "uint64": pa.uint64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "string": pa.string(),
    "binary": pa.binary(),
    "date": pa.date32(),
    "timestamp": TIMESTAMP,
}
_NAMES = {arrow: name for name, arrow in _SCALARS.items()} | {
    pa.float16(): "float32",
    pa.large_string(): "string",
    pa.string_view(): "string",
    pa.large_binary(): "binary",
    pa.binary_view(): "binary",
    pa.date64(): "date",
}

_NOT_ITEMS = ("unsupported", "list<", "map<")


# -- types ------------------------------------------------------------------------------------------------------------


def arrow_type(type: DataType | str) -> pa.DataType:
    """Return the Arrow type of a logical type. Raises ValueError when a text names no type."""
    parsed = parse_type(type) if isinstance(type, str) else type
    if parsed.name == "decimal":
        return pa.decimal128(parsed.precision, parsed.scale)
    if parsed.item is not None:
        if parsed.name == "map":
            return pa.map_(pa.string(), arrow_type(parsed.item))
        item = pa.field("element", arrow_type(parsed.item))
        return pa.list_(item, parsed.size) if parsed.name == "vector" else pa.list_(item)
    return _SCALARS[parsed.name]


def arrow_schema(columns: Iterable[Column], *, required: Collection[str] = ()) -> pa.Schema:
    """Return the Arrow schema of columns, in order; those named in ``required`` cannot hold nulls."""
    return pa.schema([pa.field(item.name, arrow_type(item.type), item.name not in required) for item in columns])


def type_text(type: pa.DataType) -> str:
    """Return the logical type of an Arrow type as text.

    Encodings (dictionary, large and view layouts) and units of time disappear. A type without an equivalent gives
    ``"unsupported(<arrow type>)"``, and a timestamp without a zone ``"unsupported(timestamp without zone)"``: who knows the
    zone must say so before asking.
    """
    if pa.types.is_dictionary(type):
        return type_text(type.value_type)
    if pa.types.is_timestamp(type):
        return "timestamp" if type.tz else "unsupported(timestamp without zone)"
    if pa.types.is_decimal(type) and type.precision <= 38 and 0 <= type.scale <= type.precision:
        return f"decimal({type.precision},{type.scale})"
    if pa.types.is_fixed_size_binary(type):
        return "binary"
    if pa.types.is_fixed_size_list(type) and type.value_type in (pa.float32(), pa.float64()) and type.list_size > 0:
        return f"{_NAMES[type.value_type]}[{type.list_size}]"
    if pa.types.is_list(type) or pa.types.is_large_list(type) or pa.types.is_fixed_size_list(type):
        item = type_text(type.value_type)
        if not item.startswith(_NOT_ITEMS) and not item.endswith("]"):
            return f"list<{item}>"
    if pa.types.is_map(type) and type_text(type.key_type) == "string":
        item = type_text(type.item_type)
        if not item.startswith(_NOT_ITEMS) and not item.endswith("]"):
            return f"map<string,{item}>"
    return _NAMES.get(type, f"unsupported({type})")


def arrow_columns(schema: pa.Schema) -> tuple[Column, ...]:
    """Return the columns of an Arrow schema with their logical types."""
    return tuple(Column(name=field.name, type=type_text(field.type)) for field in schema)


def schema_id(schema: pa.Schema | Sequence[Column]) -> str:
    """Return 16 hex digits that identify the names, logical types and order of columns."""
    columns = arrow_columns(schema) if isinstance(schema, pa.Schema) else schema
    text = "\n".join(f"{item.name}\t{item.type}" for item in columns)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# -- content hashes ---------------------------------------------------------------------------------------------------

_Words = npt.NDArray[np.uint64]

_NULL = np.uint64(0x9E6C63D0876A9A47)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def rows_hash(rows: pa.Table | pa.RecordBatchReader, *, columns: Sequence[str] | None = None) -> str:
    """Return 32 hex digits that identify a multiset of rows by its values: names, logical types, values, multiplicity.

    Independent of the order of rows and columns, of chunks, encodings and files. Every row gives a 64-bit hash and the hash
    of the rows is their exact sum modulo 2**128, so hashes of parts add up. Floats are hashed by their bits, except that
    zero has no sign and NaN is one value; leave columns out with ``columns`` where the last bits may differ (a float sum
    depends on the order of addition). Streams a reader; costs about 5 ns a value, a text 15 ns, a decimal much more.
    """
    total = 0
    for batch in rows.to_batches(_HASHED_ROWS) if isinstance(rows, pa.Table) else rows:
        total += hashes_sum(row_hashes(batch.select(columns) if columns is not None else batch))
    return hash_text(total)


def hashes_sum(hashes: npt.NDArray[np.uint64]) -> int:
    """Return the exact sum of hashes of rows."""
    low, high = hashes & np.uint64(0xFFFFFFFF), hashes >> np.uint64(32)
    return int(low.sum(dtype=np.uint64)) + (int(high.sum(dtype=np.uint64)) << 32)


def hash_text(total: int) -> str:
    """Return the hash of rows, as text, from the sum of their hashes."""
    return f"{total % (1 << 128):032x}"


def row_hashes(batch: pa.RecordBatch) -> _Words:
    """Return one 64-bit hash per row, the same on every machine and for every order of the columns."""
    return finished_hashes(column_hashes(batch))


def column_hashes(batch: pa.RecordBatch) -> npt.NDArray[np.uint64]:
    """Return, per row, the sum of one hash per column: sums of some columns and of others add up to that of all.

    A column's hash is its value, folded, times an odd number of the column's own (multilinear hashing, Carter and Wegman
    1979), which costs four passes over memory.
    """
    hashes = np.zeros(batch.num_rows, dtype=np.uint64)
    names = np.uint64(0)
    with np.errstate(over="ignore"):
        for field, array in zip(batch.schema, batch.columns, strict=True):
            seed = _word(f"{field.name}\t{type_text(field.type)}".encode())
            words = _values(array)
            folded = words >> np.uint64(32)
            folded ^= words
            folded *= seed | np.uint64(1)
            hashes += folded
            names += _mix(np.array([seed]))[0]
        hashes += names
    return hashes


def finished_hashes(sums: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return the hashes of rows from the sums over their columns."""
    return _mix(sums)


def _values(array: pa.Array) -> _Words:
    """Return a 64-bit word per value; equal values give equal words whatever their encoding."""
    words = _valid_values(array)
    if array.null_count:
        words = words if words.flags.writeable else words.copy()
        words[~valid(array)] = _NULL
    return words


def _valid_values(array: pa.Array) -> _Words:
    """Return a word per value; the words of nulls mean nothing."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _looked_up(_values(array.dictionary), array.indices)
    if pa.types.is_boolean(kind):
        words: _Words = truths(array).astype(np.uint64)
        return words
    if pa.types.is_integer(kind):
        return raw_values(array).astype(np.int64, casting="unsafe").view(np.uint64)
    if pa.types.is_floating(kind):
        return _float_words(raw_values(array))
    if pa.types.is_timestamp(kind):
        return _valid_values(array.cast(pa.timestamp("us", tz=kind.tz)).view(pa.int64()))
    if pa.types.is_date(kind):
        return _valid_values(array.cast(pa.date32()).view(pa.int32()))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _list_words(array)
    if pa.types.is_map(kind):
        return _map_words(array)
    if _is_text(kind):
        return _text_words(array)
    encoded = array.dictionary_encode()
    return _looked_up(np.array([_word(_bytes(item)) for item in encoded.dictionary], dtype=np.uint64), encoded.indices)


def _looked_up(words: _Words, indices: pa.Array) -> _Words:
    if not len(words):
        return np.zeros(len(indices), dtype=np.uint64)
    found: _Words = words[pc.fill_null(indices, 0).to_numpy(zero_copy_only=False)]
    return found


def _float_words(values: npt.NDArray[np.generic]) -> _Words:
    with np.errstate(invalid="ignore"):  # nulls may be anything
        wide: npt.NDArray[np.float64] = np.add(values, 0.0, dtype=np.float64)  # turns -0.0 into 0.0
    if (lost := np.isnan(wide)).any():
        wide[lost] = np.nan
    return wide.view(np.uint64)


def _is_text(kind: pa.DataType) -> bool:
    return kind in (pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view())


def _text_words(array: pa.Array) -> _Words:
    """Return a word per text or binary value: its length, and its bytes mixed in by eight, little-endian, the last padded.

    Values longer than _LONG bytes are digested one by one.
    """
    if array.type not in (pa.binary(), pa.string(), pa.large_string(), pa.large_binary()):
        array = array.cast(pa.large_binary())
    _, offsets, data = array.buffers()
    width = np.int64 if array.type in (pa.large_string(), pa.large_binary()) else np.int32
    if not len(array) or offsets is None:
        return np.zeros(len(array), dtype=np.uint64)
    bounds = np.frombuffer(offsets, width, count=array.offset + len(array) + 1)[array.offset :].astype(np.int64)
    first, last = int(bounds[0]), int(bounds[-1])
    padded = np.zeros(last - first + 8, dtype=np.uint8)
    if last > first:
        padded[:-8] = np.frombuffer(data, np.uint8)[first:last]
    starts, lengths = bounds[:-1] - first, np.diff(bounds)
    eights = np.ndarray((last - first + 1,), "<u8", padded.data, strides=(1,))
    words = lengths.astype(np.uint64)
    shortest, longest = int(lengths.min()), int(lengths.max())
    for done in range(0, min(longest, _LONG), 8):
        at = slice(None) if shortest > done else np.flatnonzero(lengths > done)
        read = eights[starts[at] + done]
        if shortest < done + 8:
            read &= _MASKS[np.minimum(lengths[at] - done, 8)]
        read ^= words[at]
        read ^= read >> np.uint64(32)
        read *= _GOLDEN
        words[at] = read
    words = _mix(words)
    for index in np.flatnonzero(lengths > _LONG) if longest > _LONG else ():
        words[index] = _word(padded[starts[index] : starts[index] + lengths[index]].tobytes())
    return words


_LONG = 512
_MASKS = np.array([(1 << (8 * kept)) - 1 for kept in range(9)], dtype=np.uint64)
_HASHED_ROWS = 65_536
"""Rows that are hashed at a time."""


def _list_words(array: pa.Array) -> _Words:
    """Return a word per list from the words of its items and their positions."""
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    items = _values(array.flatten())
    ends = np.cumsum(lengths)
    positions = np.arange(len(items), dtype=np.int64) - np.repeat(ends - lengths, lengths)
    mixed = _mix(items + (positions.astype(np.uint64) + np.uint64(1)) * _GOLDEN)
    sums = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(mixed, dtype=np.uint64)])
    return _mix(sums[ends] - sums[ends - lengths] + lengths.astype(np.uint64))


def _map_words(array: pa.Array) -> _Words:
    """Return a word per map from the words of its entries, whatever their order."""
    offsets = array.offsets.to_numpy().astype(np.int64)
    first, last = int(offsets[0]), int(offsets[-1])
    keys, items = (_values(side.slice(first, last - first)) for side in (array.keys, array.items))
    mixed = _mix(_mix(keys + _GOLDEN) + items)
    sums = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(mixed, dtype=np.uint64)])
    starts, ends = offsets[:-1] - first, offsets[1:] - first
    return _mix(sums[ends] - sums[starts] + (ends - starts).astype(np.uint64))


def _bytes(value: pa.Scalar) -> bytes:
    """Return what identifies a text, binary, decimal or nested value."""
    if pa.types.is_decimal(value.type):
        return format(value.as_py().normalize(), "f").encode()
    plain = value.as_py()
    return plain if isinstance(plain, bytes) else str(plain).encode()


def _word(data: bytes) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big"))


def _mix(words: _Words) -> _Words:
    """Spread the bits of every word (the finalizer of SplitMix64, Steele, Lea and Flood 2014)."""
    mixed = words + _GOLDEN
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed
