"""One row alone is the same arrays, bit for bit, as the same row among others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fstore.errors import StoreCorrupt
from fstore.stores.row_layout import RowLayout
from fstore.stores.row_values import RowReader
from fstore.stores.single_row import SingleRow
from fstore.types import Column
from tests.stores.test_row_unpacking import AT, VALUES, packed

KNOWN: dict[str, st.SearchStrategy[object]] = {**VALUES, "timestamp": st.just(AT)}
OTHERS = ("date", "float64[2]", "list<int64>", "decimal(10,2)", "binary")


@given(data=st.data())
def test_a_row_alone_is_what_it_is_among_others(data: st.DataObject) -> None:
    kinds = data.draw(st.lists(st.sampled_from([*KNOWN, *OTHERS]), min_size=1, max_size=12))
    columns = [Column(name=f"f{n}", type=kind) for n, kind in enumerate(kinds)]
    known = [n for n, kind in enumerate(kinds) if kind in KNOWN]
    wanted = data.draw(st.permutations(known))[: data.draw(st.integers(0, len(known)))]
    row = data.draw(st.tuples(*(st.none() | KNOWN.get(kind, st.none()) for kind in kinds)))
    (one,) = packed(columns, [row])
    reader = RowReader(columns, [f"f{n}" for n in wanted])
    assert reader.single is not None
    alone, among = reader.read([one]), reader.read([one, one])
    assert alone is not None
    assert among is not None
    arrays, nulls = alone.arrays()
    others, other_nulls = among.arrays()
    assert nulls.tolist() == other_nulls[:, :1].tolist()
    for array, other in zip(arrays, others, strict=True):
        assert (array.dtype, array.shape, array.flags.writeable) == (other.dtype, (1,), True)
        if array.dtype == object:
            assert array.tolist() == other[:1].tolist()
        else:
            assert array.tobytes() == other[:1].tobytes()


@pytest.mark.parametrize("kind", ["float64", "float32"])
def test_the_bits_of_a_nan_survive(kind: str) -> None:
    columns = [Column(name="x", type=kind), Column(name="y", type="string")]
    (row,) = packed(columns, [(1.0, "text")])
    layout = RowLayout(columns)
    width, at = layout.fixed[0].dtype.itemsize, layout.record.fields["f0"][1]  # type: ignore[index]
    bits = b"\x01\x00\xa0\x7f" if width == 4 else b"\x01\x00\x00\x00\x00\x00\xf4\x7f"  # a signalling one
    values = RowReader(columns, ["x"]).read([row[:at] + bits + row[at + width :]])
    assert values is not None
    (array,), nulls = values.arrays()
    assert (array.tobytes(), nulls.tolist()) == (bits, [[False]])


@pytest.mark.parametrize("kind", OTHERS)
def test_other_types_are_left_to_numpy(kind: str) -> None:
    columns = [Column(name="a", type="int64"), Column(name="b", type=kind)]
    assert not SingleRow.reads(RowLayout(columns), [0, 1])
    assert SingleRow.reads(RowLayout(columns), [0])


def test_a_damaged_row_is_refused() -> None:
    columns = [Column(name="a", type="string"), Column(name="b", type="string")]
    single = SingleRow(RowLayout(columns), [0, 1])
    (row,) = packed(columns, [("one", "two")])
    for damaged in (row[:-1], row + b"x"):
        with pytest.raises(StoreCorrupt, match="its strings do not end where it does"):
            single.arrays(damaged)
    with pytest.raises(StoreCorrupt, match="is not UTF-8"):
        single.arrays(row[:-3] + b"\xff\xff\xff")


def test_a_bool_is_true_whatever_bit_says_so() -> None:
    columns = [Column(name="x", type="bool")]
    (row,) = packed(columns, [(True,)])
    values = RowReader(columns, ["x"]).read([row[:-1] + b"\x80"])
    assert values is not None
    (array,), _ = values.arrays()
    assert array.view(np.uint8).tolist() == [1]
