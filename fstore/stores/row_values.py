"""Read chosen features out of packed rows as numpy arrays, Arrow arrays or Python values.

Takes rows that are all there and all have one schema; decodes nothing before it is asked for, and then only the features
wanted. All features of one type are read at once, wherever they lie in a row, so that a row of fifty numbers costs little
more than one of five. Says of every value whether it is null; which rows count, and what stands for those that are not
there, is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fstore.errors import StoreCorrupt
from fstore.stores.cells import Mask
from fstore.stores.row_layout import HEADER_BYTES, RowLayout
from fstore.stores.row_unpacking import RowUnpacker
from fstore.stores.single_row import SingleRow
from fstore.types import Column, parse_type

Array: TypeAlias = npt.NDArray[np.generic]

_NUMPY = {"float64": "<f8", "float32": "<f4", "int8": "i1", "uint8": "u1", "int16": "<i2", "uint16": "<u2", "int32": "<i4",
          "uint32": "<u4", "int64": "<i8", "uint64": "<u8", "bool": "u1", "timestamp": "<M8[us]", "date": "<i4"}  # fmt: skip
"""What the raw bits of a type are read as; of a bool and a date more is made afterwards."""

_FEW = 16
"""Up to so many rows a loop over them is faster than numpy, of which every call costs a microsecond."""
_FEW_LISTS = 8
"""Up to so many rows are Python values sooner one by one than through numpy."""

_NO_VALUE = {"float64": np.nan, "float32": np.nan, "timestamp": np.datetime64("NaT"), "date": np.datetime64("NaT")}


class _Numbers(NamedTuple):
    """The wanted features of one type: which rows of their width's matrix they are, and their places among the wanted."""

    type: str
    dtype: np.dtype[np.generic]
    rows: slice
    order: list[int]
    places: npt.NDArray[np.intp] | slice


class _Width(NamedTuple):
    """The wanted features that are numbers of one width, type by type, and where they begin in a row."""

    dtype: np.dtype[np.generic]
    offsets: npt.NDArray[np.intp]
    numbers: list[_Numbers]


class RowReader:
    """Reads features of rows that have one schema. Made once per list of features."""

    def __init__(self, columns: Sequence[Column], wanted: Sequence[str]) -> None:
        """``columns`` are all of the schema's, ``wanted`` the names of those to read, each one of them."""
        self.layout = RowLayout(columns)
        self.size = self.layout.record.itemsize
        places = {column.name: index for index, column in enumerate(columns)}
        self.indexes = np.array([places[name] for name in wanted], dtype=np.intp)
        self.types = [parse_type(columns[index].type) for index in self.indexes]
        self.in_order = self.indexes.tolist() == list(range(len(columns)))
        self._schema = {self.layout.id.to_bytes(8, "little")}
        self.widths = self._widths()
        self.texts = [place for place, kind in enumerate(self.types) if kind.name == "string"]
        self.others = [place for place, kind in enumerate(self.types) if kind.name not in _NUMPY and kind.name != "string"]
        nth = {index: number for number, index in enumerate(self.layout.variable)}
        self.nth_text = [nth[int(self.indexes[place])] for place in self.texts]
        own = self.indexes.tolist()
        self.unpacker = RowUnpacker(self.layout, own) if RowUnpacker.reads(self.layout, own) else None
        self.single = SingleRow(self.layout, own) if SingleRow.reads(self.layout, own) else None

    def read(self, rows: list[bytes]) -> RowValues | None:
        """Return the values of rows, decoded when asked for; None unless all of them have this schema."""
        size = self.size
        if len(rows) == 1:
            row = rows[0]
            whole = len(row) >= size if self.layout.variable else len(row) == size
            return RowValues(self, rows, row[:size]) if whole and row[16:24] in self._schema else None
        lengths = set(map(len, rows))
        if self.layout.variable:
            if lengths and min(lengths) < size:
                return None
            fixed = b"".join([row[:size] for row in rows])
        else:
            if lengths and lengths != {size}:
                return None
            fixed = b"".join(rows)
        if {row[16:24] for row in rows} - self._schema if len(rows) <= _FEW else self._differs(rows, fixed):
            return None
        return RowValues(self, rows, fixed)

    def _differs(self, rows: list[bytes], fixed: bytes) -> bool:
        schemas: npt.NDArray[np.uint64] = np.ndarray((len(rows),), "<u8", fixed, 16, (self.size,))
        return bool((schemas != self.layout.id).any())

    def _widths(self) -> list[_Width]:
        fields = self.layout.record.fields
        assert fields is not None, "a layout's record has fields"
        kinds = dict.fromkeys(kind.name for kind in self.types if kind.name in _NUMPY)
        found = []
        for width in (8, 4, 2, 1):
            offsets: list[int] = []
            numbers = []
            for kind in kinds:
                dtype = np.dtype(_NUMPY[kind])
                if dtype.itemsize == width:
                    order = [place for place, own in enumerate(self.types) if own.name == kind]
                    rows = slice(len(offsets), len(offsets) + len(order))
                    offsets += [fields[f"f{self.indexes[place]}"][1] for place in order]
                    numbers.append(_Numbers(kind, dtype, rows, order, _places(order)))
            if numbers:
                found.append(_Width(np.dtype(f"u{width}"), np.array(offsets, dtype=np.intp), numbers))
        return found


class RowValues:
    """The wanted features of some rows, in the order wanted; arrays have an item per row, in the order of the rows."""

    def __init__(self, reader: RowReader, rows: list[bytes], fixed: bytes) -> None:
        """Decode nothing yet; ``fixed`` are the fixed parts of the rows, one after the other."""
        self._reader, self._rows = reader, rows
        self._fixed = fixed or bytes(reader.size)  # numpy looks at a row's fields even where there is no row
        self._nulls: Mask | None = None
        self._parts: tuple[npt.NDArray[np.void], dict[int, pa.Array]] | None = None

    def event_timestamps(self) -> list[int]:
        """Return the instant of every row in microseconds."""
        if len(self._rows) == 1:
            return [int.from_bytes(self._fixed[8:16], "big", signed=True)]
        stored: Array = np.ndarray((len(self._rows),), ">i8", self._fixed, 8, (self._reader.size,))
        return stored.tolist()  # type: ignore[no-any-return]

    def header_bytes(self, place: int) -> bytes:
        """Return the byte at a place of every row's header."""
        return self._fixed[place :: self._reader.size][: len(self._rows)]

    @property
    def nulls(self) -> Mask:
        """Where there is no value: a row per feature wanted."""
        if self._nulls is None:
            reader, features = self._reader, len(self._reader.layout.features)
            bitmaps: npt.NDArray[np.uint8] = np.ndarray(
                ((features + 7) // 8, len(self._rows)), np.uint8, self._fixed, HEADER_BYTES, (1, reader.size)
            )
            bits = np.unpackbits(bitmaps, axis=0, count=features, bitorder="little")
            self._nulls = (bits if reader.in_order else bits[reader.indexes]) == 0
        return self._nulls

    def arrays(self) -> tuple[list[Array], Mask]:
        """Return an array per feature, and where they are null: a row per feature.

        Numbers have their own dtype, instants ``datetime64[us]`` in UTC, dates ``datetime64[D]``, vectors a column per item;
        the rest are objects. Where null: NaN, NaT or None, and else 0 or False.
        """
        reader = self._reader
        if reader.single is not None and len(self._rows) == 1:
            return reader.single.arrays(self._rows[0])
        nulls = self.nulls
        some_null = _any(nulls)
        found: list[Array] = [nulls] * len(reader.types)
        for numbers, matrix in self._matrices():
            if numbers.type == "bool":
                matrix = matrix != 0  # noqa: PLW2901
            elif numbers.type == "date":
                matrix = matrix.astype("<M8[D]")  # noqa: PLW2901
            if some_null and numbers.type in _NO_VALUE:
                np.putmask(matrix, nulls[numbers.places], _NO_VALUE[numbers.type])  # type: ignore[arg-type]
            for place, array in zip(numbers.order, matrix, strict=True):
                found[place] = array
        if reader.texts:
            for place, texts in zip(reader.texts, self._texts(), strict=True):
                found[place] = array = np.empty(len(texts), dtype=object)
                array[:] = texts
        for place in reader.others:
            kind = reader.types[place]
            if kind.name == "vector":
                found[place] = _vectors(self.arrow(place), kind.size)
            else:
                found[place] = objects(self.arrow(place).to_pylist(maps_as_pydicts="strict"))
        return found, nulls

    def lists(self) -> list[list[object]]:
        """Return a list of Python values per feature, None where null; maps are dicts in the order of their keys."""
        if self._reader.unpacker is not None and 0 < len(self._rows) <= _FEW_LISTS:
            return self._reader.unpacker.lists(self._rows)
        reader, nulls = self._reader, self.nulls
        found: list[list[object]] = [[]] * len(reader.types)
        for numbers, matrix in self._matrices():
            places = numbers.order
            if numbers.type in ("timestamp", "date"):
                for place in places:
                    found[place] = self.arrow(place).to_pylist()
                continue
            some_null = [_any(nulls[place]) for place in places]
            lists: list[list[object]] = (matrix != 0 if numbers.type == "bool" else matrix).tolist()
            for place, values, some in zip(places, lists, some_null, strict=True):
                found[place] = _none_where(nulls[place], values) if some else values
        if reader.texts:
            for place, texts in zip(reader.texts, self._texts(), strict=True):
                found[place] = texts
        for place in reader.others:
            found[place] = self.arrow(place).to_pylist(maps_as_pydicts="strict")
        return found

    def arrow(self, place: int) -> pa.Array:
        """Return one feature as an Arrow array of its type."""
        layout, index = self._reader.layout, int(self._reader.indexes[place])
        if self._parts is None:
            self._parts = layout.split(self._rows)
        records, cells = self._parts
        if index in layout.fixed:
            return layout.fixed[index].unpack(records[f"f{index}"], ~self.nulls[place])
        return layout.variable[index].unpack(cells[index], ~self.nulls[place])

    def _matrices(self) -> Iterator[tuple[_Numbers, Array]]:
        """Yield the features of each type that is a number, a row per feature.

        Looks at the rows as if a value began at every byte of them, and takes those where one does.
        """
        size = self._reader.size
        for width in self._reader.widths:
            shape = (size - width.dtype.itemsize + 1, len(self._rows))
            everywhere: Array = np.ndarray(shape, width.dtype, self._fixed, 0, (1, size))
            matrix = everywhere[width.offsets]
            for numbers in width.numbers:
                yield numbers, matrix[numbers.rows].view(numbers.dtype)

    def _texts(self) -> list[list[object]]:
        """Return the features that are strings, None where null."""
        try:
            found = [self._only_texts()] if len(self._reader.layout.variable) == 1 else self._all_texts()
        except UnicodeDecodeError as error:
            raise StoreCorrupt(f"a stored string is not UTF-8: {error}") from None
        nulls = self.nulls
        for place, texts in zip(self._reader.texts, found, strict=True):
            if _any(null := nulls[place]):
                _none_where(null, texts)
        return found

    def _ends_and_tails(self) -> tuple[npt.NDArray[np.int64], list[bytes], list[int]]:
        """Return where each variable feature ends in what follows the fixed part of a row, that, and its lengths."""
        rows, size, width = self._rows, self._reader.size, len(self._reader.layout.variable)
        stored: Array = np.ndarray((width, len(rows)), "<u4", self._fixed, size - 4 * width, (4, size))
        ends = stored.astype(np.int64)
        tails = [row[size:] for row in rows]
        lengths = list(map(len, tails))
        if ends[-1].tolist() != lengths or (width > 1 and (ends[1:] < ends[:-1]).any()):
            raise self._damage()
        return ends, tails, lengths

    def _damage(self) -> StoreCorrupt:
        return StoreCorrupt(
            f"a stored row of schema {self._reader.layout.id:016x} is damaged: its strings do not end where it does"
        )

    def _only_texts(self) -> list[object]:
        """Read the strings of rows that have no other variable feature."""
        if len(self._rows) > _FEW:
            return [tail.decode() for tail in self._ends_and_tails()[1]]
        size = self._reader.size
        tails = [row[size:] for row in self._rows]
        for row, tail in zip(self._rows, tails, strict=True):
            if int.from_bytes(row[size - 4 : size], "little") != len(tail):
                raise self._damage()
        return [tail.decode() for tail in tails]

    def _all_texts(self) -> list[list[object]]:
        """Decode the strings of all rows at once where they are ASCII, and cut the text."""
        ends, tails, lengths = self._ends_and_tails()
        data = b"".join(tails)
        begins = [0, *accumulate(lengths[:-1])]
        ends += np.array(begins)
        text: str | None = data.decode("ascii") if data.isascii() else None
        found: list[list[object]] = []
        for nth in self._reader.nth_text:
            spans = zip(ends[nth - 1].tolist() if nth else begins, ends[nth].tolist(), strict=True)
            if text is not None:
                found.append([text[start:end] for start, end in spans])
            else:
                found.append([data[start:end].decode() for start, end in spans])
        return found


def _places(order: list[int]) -> npt.NDArray[np.intp] | slice:
    """Return what picks these places: a slice where they are neighbours, which numpy takes without copying."""
    if order == list(range(order[0], order[-1] + 1)):
        return slice(order[0], order[-1] + 1)
    return np.array(order, dtype=np.intp)


def objects(values: Sequence[object]) -> Array:
    """Return an array of Python objects, whatever they are."""
    array = np.empty(len(values), dtype=object)
    for index, value in enumerate(values):
        array[index] = value
    return array


def _any(mask: Mask) -> bool:
    """Whether one of them is set; for small masks several times as fast as asking numpy."""
    return b"\1" in mask.tobytes()


def _vectors(array: pa.Array, size: int) -> Array:
    """Return vectors as a matrix, NaN where an item or all of a vector is null."""
    items = array.values.slice(array.offset * size, len(array) * size)
    matrix = items.to_numpy(zero_copy_only=False).reshape(len(array), size).copy()
    if array.null_count:
        matrix[array.is_null().to_numpy(zero_copy_only=False)] = np.nan
    return matrix  # type: ignore[no-any-return]


def _none_where(nulls: Mask, values: list[object]) -> list[object]:
    for place in np.flatnonzero(nulls).tolist():
        values[place] = None
    return values
