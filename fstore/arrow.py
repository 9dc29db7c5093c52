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
    depends on the order of addition). Streams a reader; costs about 20 ns a value, a string more.
    """
    total = 0
    for batch in rows.to_batches() if isinstance(rows, pa.Table) else rows:
        hashes = row_hashes(batch.select(columns) if columns is not None else batch)
        total += int((hashes & np.uint64(0xFFFFFFFF)).sum(dtype=np.uint64))
        total += int((hashes >> np.uint64(32)).sum(dtype=np.uint64)) << 32
    return f"{total % (1 << 128):032x}"


def row_hashes(batch: pa.RecordBatch) -> _Words:
    """Return one 64-bit hash per row, the same on every machine and for every order of the columns."""
    hashes = np.zeros(batch.num_rows, dtype=np.uint64)
    for field, array in zip(batch.schema, batch.columns, strict=True):
        seed = _word(f"{field.name}\t{type_text(field.type)}".encode())
        hashes += _mix(_values(array) ^ seed)
    return _mix(hashes)


def _values(array: pa.Array) -> _Words:
    """Return a 64-bit word per value; equal values give equal words whatever their encoding."""
    words = _valid_values(array)
    if array.null_count:
        words = np.where(array.is_valid().to_numpy(zero_copy_only=False), words, _NULL)
    return words


def _valid_values(array: pa.Array) -> _Words:
    """Return a word per value; the words of nulls mean nothing."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _looked_up(_values(array.dictionary), array.indices)
    if pa.types.is_boolean(kind):
        words: _Words = pc.fill_null(array, False).to_numpy(zero_copy_only=False).astype(np.uint64)
        return words
    if pa.types.is_integer(kind):
        words = pc.fill_null(array, 0).to_numpy(zero_copy_only=False)
        return words.astype(np.int64, casting="unsafe").view(np.uint64)
    if pa.types.is_floating(kind):
        return _float_words(pc.fill_null(array, 0.0).to_numpy(zero_copy_only=False))
    if pa.types.is_timestamp(kind):
        return _valid_values(array.cast(pa.timestamp("us", tz=kind.tz)).view(pa.int64()))
    if pa.types.is_date(kind):
        return _valid_values(array.cast(pa.date32()).view(pa.int32()))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _list_words(array)
    if pa.types.is_map(kind):
        return _map_words(array)
    encoded = array.dictionary_encode()
    return _looked_up(np.array([_word(_bytes(item)) for item in encoded.dictionary], dtype=np.uint64), encoded.indices)


def _looked_up(words: _Words, indices: pa.Array) -> _Words:
    if not len(words):
        return np.zeros(len(indices), dtype=np.uint64)
    found: _Words = words[pc.fill_null(indices, 0).to_numpy(zero_copy_only=False)]
    return found


def _float_words(values: npt.NDArray[np.floating[npt.NBitBase]]) -> _Words:
    wide = values.astype(np.float64) + 0.0  # adding zero turns -0.0 into 0.0
    wide[np.isnan(wide)] = np.nan
    return wide.view(np.uint64)


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
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
