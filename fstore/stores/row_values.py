"""Read chosen features out of packed rows as numpy arrays, Arrow arrays or Python values.

Takes rows that are all there and all have one schema; decodes nothing before it is asked for, and then only the features
wanted. Neighbours of one type are read at once, so that a row of fifty numbers costs little more than one of five. Says of
every value whether it is null; which rows count, and what stands for those that are not there, is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fstore.errors import StoreCorrupt
from fstore.stores.cells import Mask, data_of, offsets_of
from fstore.stores.row_layout import HEADER_BYTES, RowLayout
from fstore.types import Column, parse_type

Array: TypeAlias = npt.NDArray[np.generic]

_NUMPY = {"float64": "<f8", "float32": "<f4", "int8": "i1", "uint8": "u1", "int16": "<i2", "uint16": "<u2", "int32": "<i4",
          "uint32": "<u4", "int64": "<i8", "uint64": "<u8", "bool": "u1", "timestamp": "<M8[us]", "date": "<i4"}  # fmt: skip
"""What the raw bits of a type are read as; of a bool and a date more is made afterwards."""

_NO_VALUE = {"float64": np.nan, "float32": np.nan, "timestamp": np.datetime64("NaT")}
_HEADER_FIELDS = (("top", "u1", 0), ("kind", "u1", 7), ("event_timestamp", ">i8", 8), ("schema", "<u8", 16))


class _Run(NamedTuple):
    """Wanted features of one type that lie side by side in a row: their places among the wanted, in the row's order."""

    field: str
    type: str
    places: tuple[int, ...]


class RowReader:
    """Reads features of rows that have one schema. Made once per list of features."""

    def __init__(self, columns: Sequence[Column], wanted: Sequence[str]) -> None:
        """``columns`` are all of the schema's, ``wanted`` the names of those to read, each one of them."""
        self.layout = RowLayout(columns)
        places = {column.name: index for index, column in enumerate(columns)}
        self.indexes = [places[name] for name in wanted]
        self.types = [parse_type(columns[index].type) for index in self.indexes]
        self.runs, self.others = self._group()
        self.bits = np.array(self.indexes, dtype=np.intp)
        self.all_in_order = self.indexes == list(range(len(columns)))
        self.record = self._record()

    def read(self, rows: list[bytes]) -> RowValues:
        """Return the values of rows, decoded when asked for. Raises StoreCorrupt when one has the wrong size."""
        size = self.layout.record.itemsize
        lengths = set(map(len, rows))
        if not self.layout.variable:
            if lengths - {size}:
                self._refuse(min(lengths - {size}))
            return RowValues(self, rows, np.frombuffer(b"".join(rows), self.record))
        if lengths and min(lengths) < size:
            self._refuse(min(lengths))
        return RowValues(self, rows, np.frombuffer(b"".join([row[:size] for row in rows]), self.record))

    def _refuse(self, length: int) -> None:
        size = self.layout.record.itemsize
        raise StoreCorrupt(f"a stored row has {length} bytes; its schema {self.layout.id:016x} has {size} fixed ones")

    def _group(self) -> tuple[list[_Run], list[int]]:
        """Return the runs of plain numbers, and the places of everything else."""
        runs: list[_Run] = []
        others = []
        previous = None
        for place in sorted(range(len(self.indexes)), key=self.indexes.__getitem__):
            index, kind = self.indexes[place], self.types[place].name
            if kind not in _NUMPY:
                others.append(place)
                continue
            offset = self._offset(index)
            width = np.dtype(_NUMPY[kind]).itemsize
            if previous == (kind, offset - width):
                runs[-1] = runs[-1]._replace(places=(*runs[-1].places, place))
            else:
                runs.append(_Run(f"f{index}", kind, (place,)))
            previous = (kind, offset)
        return runs, sorted(others)

    def _offset(self, index: int) -> int:
        fields = self.layout.record.fields
        assert fields is not None, "a layout's record has fields"
        return int(fields[f"f{index}"][1])

    def _record(self) -> np.dtype[np.void]:
        """Return a row's fixed part as this reader looks at it: a field per run."""
        fields: list[tuple[str, object, int]] = list(_HEADER_FIELDS)
        if self.layout.features:
            fields.append(("valid", np.dtype(("u1", ((len(self.layout.features) + 7) // 8,))), HEADER_BYTES))
        fields += [
            (run.field, np.dtype((_NUMPY[run.type], (len(run.places),))), self._offset(self.indexes[run.places[0]]))
            for run in self.runs
        ]
        names, formats, offsets = zip(*fields, strict=True)
        return np.dtype({"names": names, "formats": formats, "offsets": offsets,
                         "itemsize": self.layout.record.itemsize})  # type: ignore[call-overload,no-any-return] # fmt: skip


class RowValues:
    """The wanted features of some rows, in the order wanted; arrays have an item per row, in the order of the rows."""

    def __init__(self, reader: RowReader, rows: list[bytes], records: npt.NDArray[np.void]) -> None:
        self.reader, self.records, self._rows = reader, records, rows

    @cached_property
    def valid(self) -> Mask:
        """Where there is a value: a row per feature wanted."""
        features = len(self.reader.layout.features)
        bits = np.unpackbits(self.records["valid"], axis=1, count=features, bitorder="little").T
        chosen = bits if self.reader.all_in_order else bits[self.reader.bits]
        return np.ascontiguousarray(chosen).view(np.bool_)

    def arrays(self) -> tuple[list[Array], Mask]:
        """Return an array per feature, and where they are null: a row per feature.

        Numbers have their own dtype, instants ``datetime64[us]`` in UTC, dates ``datetime64[D]``, vectors a column per item;
        the rest are objects. Where null: NaN, NaT or None, and else 0 or False.
        """
        nulls = ~self.valid
        some_null = bool(nulls.any())
        found: list[Array] = [nulls] * len(self.reader.indexes)
        for run in self.reader.runs:
            matrix = np.ascontiguousarray(self.records[run.field].T)
            if run.type == "bool":
                matrix = matrix != 0
            elif run.type == "date":
                matrix = matrix.astype("<M8[D]")
                if some_null:
                    np.copyto(matrix, np.datetime64("NaT"), where=nulls[list(run.places)])
            elif some_null and run.type in _NO_VALUE:
                np.copyto(matrix, _NO_VALUE[run.type], where=nulls[list(run.places)])
            for place, array in zip(run.places, matrix, strict=True):
                found[place] = array
        for place in self.reader.others:
            found[place] = self._other_array(place)
        return found, nulls

    def lists(self) -> list[list[object]]:
        """Return a list of Python values per feature, None where null; maps are dicts in the order of their keys."""
        valid = self.valid
        found: list[list[object]] = [[]] * len(self.reader.indexes)
        for run in self.reader.runs:
            if run.type in ("timestamp", "date"):
                for place in run.places:
                    found[place] = self.arrow(place).to_pylist()
                continue
            matrix = self.records[run.field].T
            for place, values in zip(run.places, (matrix != 0 if run.type == "bool" else matrix).tolist(), strict=True):
                found[place] = _none_where_null(values, valid[place])
        for place in self.reader.others:
            if self.reader.types[place].name == "string":
                found[place] = _none_where_null(self._texts(place), valid[place])
            else:
                found[place] = self.arrow(place).to_pylist(maps_as_pydicts="strict")
        return found

    def arrow(self, place: int) -> pa.Array:
        """Return one feature as an Arrow array of its type."""
        layout, index = self.reader.layout, self.reader.indexes[place]
        cell = layout.fixed.get(index)
        if cell is not None:
            return cell.unpack(self._split[0][f"f{index}"], self.valid[place])
        return layout.variable[index].unpack(self._split[1][index], self.valid[place])

    @cached_property
    def _split(self) -> tuple[npt.NDArray[np.void], dict[int, pa.Array]]:
        return self.reader.layout.split(self._rows)

    def _texts(self, place: int) -> list[str]:
        """Return the strings of a feature; what stands where it is null means nothing."""
        cells = self._split[1][self.reader.indexes[place]]
        offsets = offsets_of(cells)
        data = data_of(cells)[offsets[0] : offsets[-1]].tobytes()
        ends = (offsets - offsets[0]).tolist()
        spans = pairwise(ends)
        try:
            if data.isascii():
                text = data.decode("ascii")
                return [text[start:end] for start, end in spans]
            return [data[start:end].decode() for start, end in spans]
        except UnicodeDecodeError as error:
            raise StoreCorrupt(f"a stored string is not UTF-8: {error}") from None

    def _other_array(self, place: int) -> Array:
        kind = self.reader.types[place]
        if kind.name == "vector":
            return _vectors(self.arrow(place), kind.size)
        if kind.name == "string":
            return objects(_none_where_null(self._texts(place), self.valid[place]))
        return objects(self.arrow(place).to_pylist(maps_as_pydicts="strict"))


def objects(values: Sequence[object]) -> Array:
    """Return an array of Python objects, whatever they are."""
    array = np.empty(len(values), dtype=object)
    for index, value in enumerate(values):
        array[index] = value
    return array


def _vectors(array: pa.Array, size: int) -> Array:
    """Return vectors as a matrix, NaN where an item or all of a vector is null."""
    items = array.values.slice(array.offset * size, len(array) * size)
    matrix = items.to_numpy(zero_copy_only=False).reshape(len(array), size)
    if array.null_count:
        matrix = matrix.copy()
        matrix[array.is_null().to_numpy(zero_copy_only=False)] = np.nan
    return matrix  # type: ignore[no-any-return]


def _none_where_null(values: Sequence[object], valid: Mask) -> list[object]:
    if valid.all():
        return list(values)
    return [value if there else None for value, there in zip(values, valid.tolist(), strict=True)]
